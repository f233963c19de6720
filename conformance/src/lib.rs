//! Holds any OCI runtime against every MUST, SHOULD and MAY of the runtime specification.
//!
//! Cases and clauses are data (`cases/`, `clauses/`); the probe reports from inside; this library runs and judges.

pub mod case;
pub mod check;
pub mod clause;
pub mod cli;
pub mod kernel;
pub mod outcome;
pub mod report;
pub mod schedule;
pub mod selftest;
pub mod sys;
pub mod tapdir;
pub mod worker;

mod bundle;
mod data;
mod listen;
mod needs;
pub mod patch;
mod preflight;
mod runtime;
mod steps;
mod world;
