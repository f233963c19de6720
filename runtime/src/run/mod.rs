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
pub mod net_device;
mod netlink;
pub mod parent;
pub mod path;
pub mod proc;
mod program;
pub mod stopwatch;
pub mod systemd;
mod terminal;
pub mod wire;
