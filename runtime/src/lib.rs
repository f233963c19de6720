//! tare: a low-level OCI container runtime, as a library.
//!
//! Spec → plan → walk: [`parse`] and [`validate`] read a configuration, [`compile`] turns it into a [`plan::Plan`] without
//! touching the system, [`check`] proves the plan's order, [`explain`] prints it, and [`container`] walks it.
//!
//! The floors, each importing from its own and from those above it in this list only; a test asserts it:
//!
//! | floor | modules |
//! | --- | --- |
//! | F0 | [`sys`], [`abi`] |
//! | F1 | [`spec`], [`parse`], [`validate`], [`facts`], [`field`], [`error`], [`op`], [`plan`], [`check`], [`explain`], [`request`] |
//! | F2 | [`compile`] |
//! | F3 | [`host`], [`run`], [`walk`], [`undo`], [`protect`], [`time`] |
//! | F4 | [`container`], [`state`], [`monitor`], [`notify`] |
//! | F5 | [`cli`], [`commands`], [`log`], [`features`], [`table`], [`default_spec`] |

pub mod abi;
pub mod check;
pub mod cli;
pub mod commands;
pub mod compile;
pub mod container;
pub mod default_spec;
pub mod error;
pub mod explain;
pub mod facts;
pub mod features;
pub mod field;
pub mod host;
pub mod log;
pub mod monitor;
pub mod notify;
pub mod op;
pub mod parse;
pub mod plan;
pub mod protect;
pub mod request;
pub mod run;
pub mod spec;
pub mod state;
pub mod sys;
pub mod table;
pub mod time;
pub mod undo;
pub mod validate;
pub mod walk;
