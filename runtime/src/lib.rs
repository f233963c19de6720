//! tare: a low-level OCI container runtime.

pub mod default_spec;
pub mod error;
pub mod field;
pub mod parse;
pub mod spec;
pub mod validate;
