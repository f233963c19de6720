//! The seccomp compiler against a model of the profile's meaning, against libseccomp, and against the kernel.

mod errors;
mod fixtures;
mod generate;
mod load;
mod model;
mod oracle;
mod random;
mod shape;
mod sys;
