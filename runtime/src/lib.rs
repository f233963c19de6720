//! tare: a low-level OCI container runtime.

pub mod compile;
pub mod error;
pub mod field;
pub mod spec;
