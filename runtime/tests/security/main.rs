//! Classes of attacks that are known of runtimes, one test each, with a canary on the host beside it that must stay as it is.
//!
//! `runtime/SECURITY.md` has the table of classes, tests, and the weakened builds that turn each test red.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that fails is to panic; an attacker tells what it did"
)]

#[path = "../support/mod.rs"]
mod support;

mod attacker;
mod canary;
mod executable;
mod paths;
mod process;
mod procfs;
mod races;
mod resources;
