//! The `tare` binary: see [`tare::commands::main`].
//!
//! There is no Rust runtime before `main`: what it does for threads and stack overflows costs a short-lived program a
//! dozen system calls and as many page faults.
#![no_main]

use std::ffi::{c_char, c_int};

use tare::sys::alloc::Bump;

#[global_allocator]
static ALLOCATOR: Bump = Bump;

/// The entry that libc calls. Exporting the name is what makes it the entry; nothing else here is unsafe.
#[unsafe(no_mangle)]
pub extern "C" fn main(_argc: c_int, _argv: *const *const c_char) -> c_int {
    tare::sys::process::ignore_broken_pipes();
    tare::sys::fs::fill_standard_streams();
    let argv: Vec<_> = std::env::args_os().collect();
    let status = tare::commands::main(&argv);
    // Nothing is buffered by then; what libc does at an end would only touch pages.
    tare::sys::process::exit(i32::from(status))
}
