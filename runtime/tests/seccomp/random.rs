//! Random profiles against the model and against libseccomp.

use proptest::prelude::*;
use tare::compile::seccomp::{Arch, compile};
use tare::error::Problems;
use tare::spec::Seccomp;

use crate::fixtures::KERNEL;
use crate::{fixtures, generate, model, oracle};

/// Whether the profile contradicts itself, as the compiler sees it.
fn refused(profile: &Seccomp<'_>, native: Arch) -> bool {
    compile(profile, native, KERNEL, &mut Problems::default()).is_none()
}

fn args(profile: &Seccomp<'_>, random: Vec<[u64; 6]>) -> Vec<[u64; 6]> {
    let mut args = random;
    args.extend(fixtures::arguments(profile));
    args
}

const NATIVE: [Arch; 4] = [Arch::X86_64, Arch::X86, Arch::Aarch64, Arch::Riscv64];

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, max_shrink_iters: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_profiles_mean_what_the_model_says(
        profile in generate::mixed_profile(),
        native in proptest::sample::select(&NATIVE),
        random in proptest::collection::vec(generate::arguments(), 8),
    ) {
        prop_assume!(!refused(&profile, native));
        model::compare(&profile, native, &args(&profile, random), &generate::numbers());
    }

    #[test]
    fn random_profiles_are_judged_as_by_libseccomp(
        profile in generate::profile(),
        native in proptest::sample::select(&NATIVE),
        random in proptest::collection::vec(generate::arguments(), 8),
    ) {
        // Where there is no answer, another profile is tried: proptest counts those, and gives up where they are many.
        let compared = oracle::compare(&profile, native, &args(&profile, random), &generate::numbers());
        prop_assume!(compared || oracle::helper().is_none());
    }
}
