//! What compiling a seccomp profile costs, and what its filter costs each call.
//!
//! `cargo run --release --example seccomp-bench -- runtime/tests/fixtures/seccomp/docker-default.json`

#![allow(clippy::print_stdout)]

use std::error::Error;
use std::time::{Duration, Instant};

use tare::compile::seccomp::interpret::{Data, run};
use tare::compile::seccomp::{Arch, call_number, compile};
use tare::error::Problems;
use tare::spec::Seccomp;

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("which profile?")?;
    let text = std::fs::read_to_string(path)?;
    let profile: Seccomp<'_> = serde_json::from_str(&text)?;
    let mut times: Vec<Duration> = Vec::new();
    let mut filter = None;
    for _ in 0..200 {
        let start = Instant::now();
        filter = compile(&profile, Arch::X86_64, u32::MAX, &mut Problems::default());
        times.push(start.elapsed());
    }
    let filter = filter.ok_or("the profile has errors, or nothing to install")?;
    let first = times.first().copied().unwrap_or_default();
    times.sort_unstable();
    let median = times.get(times.len() / 2).copied().unwrap_or_default();
    println!("compile: first {first:?}, median {median:?}; {} instructions", filter.program.len());

    let steps = |number| {
        let call = Data { number, arch: Arch::X86_64.audit(), args: [0; 6] };
        run(&filter.program, &call).map_or(0, |outcome| outcome.steps)
    };
    let all: Vec<usize> = (0..450).map(steps).collect();
    let sum: usize = all.iter().sum();
    println!("steps: {} on average, {} at most", sum / all.len(), all.iter().max().copied().unwrap_or_default());
    for name in ["read", "write", "openat", "futex", "epoll_wait", "clone", "socket", "personality"] {
        println!("  {name}: {}", call_number(name, Arch::X86_64).map_or(0, steps));
    }
    Ok(())
}
