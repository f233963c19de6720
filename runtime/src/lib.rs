//! tare: a low-level OCI container runtime.

pub mod default_spec;
pub mod cli;
pub mod error;
pub mod features;
pub mod field;
pub mod parse;
pub mod spec;
pub mod validate;
pub mod log;
pub mod spec;
pub mod table;
pub mod time;
pub mod compile;
pub mod error;
pub mod facts_cgroup;
pub mod field;
pub mod run;
pub mod spec;
pub mod sys;
