//! The seccomp compiler against a model of the profile's meaning, against libseccomp, and against the kernel.

// Helpers of tests may panic as tests do.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod errors;
mod fixtures;
mod generate;
mod load;
mod model;
mod oracle;
mod random;
mod shape;
mod sys;
