//! Operations of a plan, carried out.

pub mod cgroup;
