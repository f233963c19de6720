//! Any config that can be read can be checked, in time that its length bounds.
//!
//! `fuzz/run validate`
#![no_main]

use libfuzzer_sys::fuzz_target;
use tare::error::Problems;

fuzz_target!(|bytes: &[u8]| {
    if let Ok((spec, _)) = tare::parse::config(bytes) {
        let mut problems = Problems::default();
        tare::validate::spec(&spec, &mut problems);
        for problem in problems.errors.iter().chain(&problems.warnings) {
            assert!(!problem.field.to_string().is_empty() && !problem.text.is_empty());
        }
    }
});
