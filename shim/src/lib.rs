//! `containerd-shim-tare-v2`: stays with a pod's containers so that containerd can drive an OCI runtime.
//!
//! Read in this order: [`start`] (how a shim comes to be), [`serve`] (its one thread), [`task`] (the calls), [`container`]
//! (their stories), then the helpers that the stories use. `DESIGN.md` answers why.

#![deny(unsafe_code)]

pub mod api;
pub mod bootstrap;
pub mod bundle;
pub mod cgroup;
pub mod cli;
pub mod clock;
pub mod confine;
pub mod container;
pub mod copy;
pub mod delete;
pub mod events;
pub mod executor;
pub mod holder;
pub mod info;
pub mod io;
pub mod log;
pub mod logger;
pub mod mounts;
pub mod oom;
pub mod options;
pub mod policy;
pub mod process;
pub mod reaper;
pub mod runtime;
pub mod sandbox;
pub mod serve;
pub mod sha256;
pub mod socket;
pub mod start;
pub mod stats;
pub mod stray;
pub mod sys;
pub mod task;
pub mod ttrpc;
pub mod wire;
