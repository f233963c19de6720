//! Ops, carried out: each module turns some of them into system calls.

pub mod cgroup;
mod copy_up;
pub mod criu;
pub mod diagnose;
pub mod failure;
mod handle;
pub mod hook;
mod identity;
pub mod init;
pub mod late_mount;
mod mount;
pub mod parent;
pub mod path;
pub mod proc;
mod program;
mod terminal;
pub mod wire;
