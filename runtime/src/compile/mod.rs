//! The configuration's chapters, each compiled into what the plan needs.

pub mod seccomp;
