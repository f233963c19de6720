//! The only unsafe code: one file per area of the kernel, without policy.

pub mod bpf;
