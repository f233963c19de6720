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
//!
//! The pure floors, F1 and F2, may not even name what touches the system (`clippy.toml`).

pub mod abi;
#[deny(clippy::disallowed_macros, clippy::disallowed_methods, clippy::disallowed_types)]
pub mod check;
pub mod cli;
pub mod commands;
#[deny(clippy::disallowed_macros, clippy::disallowed_methods, clippy::disallowed_types)]
pub mod compile;
pub mod container;
pub mod default_spec;
#[deny(clippy::disallowed_macros, clippy::disallowed_methods, clippy::disallowed_types)]
pub mod error;
#[deny(clippy::disallowed_macros, clippy::disallowed_methods, clippy::disallowed_types)]
pub mod explain;
#[deny(clippy::disallowed_macros, clippy::disallowed_methods, clippy::disallowed_types)]
pub mod facts;
pub mod features;
#[deny(clippy::disallowed_macros, clippy::disallowed_methods, clippy::disallowed_types)]
pub mod field;
pub mod host;
pub mod log;
pub mod monitor;
pub mod notify;
#[deny(clippy::disallowed_macros, clippy::disallowed_methods, clippy::disallowed_types)]
pub mod op;
#[deny(clippy::disallowed_macros, clippy::disallowed_methods, clippy::disallowed_types)]
pub mod parse;
#[deny(clippy::disallowed_macros, clippy::disallowed_methods, clippy::disallowed_types)]
pub mod plan;
pub mod protect;
#[deny(clippy::disallowed_macros, clippy::disallowed_methods, clippy::disallowed_types)]
pub mod request;
pub mod run;
#[deny(clippy::disallowed_macros, clippy::disallowed_methods, clippy::disallowed_types)]
pub mod spec;
pub mod state;
pub mod sys;
pub mod table;
pub mod time;
pub mod undo;
#[deny(clippy::disallowed_macros, clippy::disallowed_methods, clippy::disallowed_types)]
pub mod validate;
pub mod walk;
