//! Ops, carried out: each module turns some of them into system calls.
//!
//! What works on the container's side may use neither paths nor processes of the standard library's (`clippy.toml`): there are
//! handles alone (rule R1).

pub mod cgroup;
#[deny(clippy::disallowed_macros, clippy::disallowed_methods, clippy::disallowed_types)]
mod copy_up;
pub mod criu;
pub mod diagnose;
pub mod failure;
#[deny(clippy::disallowed_macros, clippy::disallowed_methods, clippy::disallowed_types)]
mod handle;
pub mod hook;
#[deny(clippy::disallowed_macros, clippy::disallowed_methods, clippy::disallowed_types)]
mod identity;
#[deny(clippy::disallowed_macros, clippy::disallowed_methods, clippy::disallowed_types)]
pub mod init;
#[deny(clippy::disallowed_macros, clippy::disallowed_methods, clippy::disallowed_types)]
pub mod late_mount;
#[deny(clippy::disallowed_macros, clippy::disallowed_methods, clippy::disallowed_types)]
mod mount;
pub mod net_device;
mod netlink;
pub mod parent;
#[deny(clippy::disallowed_macros, clippy::disallowed_methods, clippy::disallowed_types)]
pub mod path;
pub mod proc;
#[deny(clippy::disallowed_macros, clippy::disallowed_methods, clippy::disallowed_types)]
mod program;
pub mod stopwatch;
pub mod systemd;
#[deny(clippy::disallowed_macros, clippy::disallowed_methods, clippy::disallowed_types)]
mod terminal;
#[deny(clippy::disallowed_macros, clippy::disallowed_methods, clippy::disallowed_types)]
pub mod wire;
