//! Ops, carried out: each module turns some of them into system calls.

pub mod cgroup;
mod copy_up;
pub mod failure;
pub mod hook;
mod identity;
pub mod init;
pub mod late_mount;
mod mount;
pub mod parent;
pub mod path;
mod program;
mod terminal;
pub mod wire;
