//! From configuration to plan, one chapter a module.

pub mod cgroup;
