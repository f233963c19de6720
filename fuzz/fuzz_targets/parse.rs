//! Any bytes: read, or refused with errors that each have a field. What we read, serde_json must read the same; we may
//! refuse more than it does, but never the other way round.
//!
//! `fuzz/run parse`
#![no_main]

use libfuzzer_sys::fuzz_target;
use tare::spec::Spec;

fuzz_target!(|bytes: &[u8]| {
    match tare::parse::config(bytes) {
        Ok((ours, _)) => {
            let theirs: Spec<'_> = serde_json::from_slice(bytes).expect("serde_json is the more lenient reader");
            assert_eq!(format!("{ours:?}"), format!("{theirs:?}"));
        }
        Err(problems) => {
            assert!(!problems.errors.is_empty());
            assert!(problems.errors.iter().all(|error| !error.field.to_string().is_empty()));
        }
    }
    let _ = tare::parse::process(bytes);
    let _ = tare::parse::resources(bytes);
});
