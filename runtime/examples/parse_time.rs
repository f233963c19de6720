//! How long reading and checking a config takes: microseconds, the best of many, for each fixture. `first` is the
//! first reading, with nothing in any cache: what a runtime pays that reads one config and ends.
#![allow(clippy::print_stdout)]

use std::time::Instant;

fn main() -> std::io::Result<()> {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/configs");
    let mut files: Vec<_> = match std::env::args_os().nth(1) {
        Some(file) => vec![file.into()],
        None => std::fs::read_dir(dir)?.filter_map(|e| Some(e.ok()?.path())).collect(),
    };
    files.sort();
    println!("{:<30} {:>7} {:>9} {:>9} {:>9}", "config", "bytes", "parse", "validate", "first");
    for file in files {
        let text = std::fs::read(&file)?;
        let first = Instant::now();
        let _ = std::hint::black_box(tare::parse::config(&text));
        let first = first.elapsed();
        let parse = best(|| tare::parse::config(&text).is_ok());
        let validate = tare::parse::config(&text).map_or(0.0, |(spec, _)| {
            best(|| {
                let mut problems = tare::error::Problems::default();
                tare::validate::spec(&spec, &mut problems);
                problems.errors.is_empty()
            })
        });
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let first = first.as_secs_f64() * 1e6;
        println!("{name:<30} {:>7} {parse:>9.1} {validate:>9.1} {first:>9.1}", text.len());
    }
    Ok(())
}

/// Microseconds of the fastest of 2,000 runs.
fn best(mut run: impl FnMut() -> bool) -> f64 {
    let times = (0..2000).map(|_| {
        let start = Instant::now();
        assert!(std::hint::black_box(run()));
        start.elapsed()
    });
    times.min().map_or(0.0, |t| t.as_secs_f64() * 1e6)
}
