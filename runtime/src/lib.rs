//! tare: a low-level OCI container runtime.

pub mod compile;
pub mod error;
pub mod facts_cgroup;
pub mod field;
pub mod run;
pub mod spec;
pub mod sys;
