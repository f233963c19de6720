//! How large filters are, and how long a call stays in them.

use tare::compile::seccomp::interpret::run;
use tare::compile::seccomp::{Arch, MAX_INSNS, compile};
use tare::error::Problems;
use tare::spec::{Seccomp, SyscallArg, SyscallRule};

use crate::fixtures::{KERNEL, PROFILES, data, filter, parse};

#[test]
fn engines_profiles_are_small_and_fast() {
    for (name, text) in PROFILES {
        let filter = filter(&parse(text), Arch::X86_64);
        let steps = |number| run(&filter.program, &data(Arch::X86_64.audit(), number, [0; 6])).unwrap().steps;
        let most = (0..500).map(steps).max().unwrap();
        println!("{name}: {} instructions, {most} steps at most, {} calls", filter.program.len(), filter.calls);
        assert!(filter.program.len() < 700, "{name}: {}", filter.program.len());
        assert!(most <= 20, "{name}: {most}");
    }
}

fn conditions(names: &[&'static str], values: u64) -> Seccomp<'static> {
    let rule = |nth: usize, name: &&'static str, value: u64| SyscallRule {
        names: vec![(*name).into()],
        action: "SCMP_ACT_ALLOW".into(),
        errno_ret: None,
        args: vec![
            SyscallArg { index: 0, op: "SCMP_CMP_GT".into(), value: value << 30, value_two: 0 },
            SyscallArg { index: 2, op: "SCMP_CMP_NE".into(), value: nth as u64, value_two: 0 },
            SyscallArg { index: 1, op: "SCMP_CMP_MASKED_EQ".into(), value: u64::MAX - value, value_two: value },
        ],
    };
    Seccomp {
        default_action: "SCMP_ACT_ERRNO".into(),
        syscalls: names
            .iter()
            .enumerate()
            .flat_map(|(nth, name)| (0..values).map(move |value| rule(nth, name, value)))
            .collect(),
        ..Seccomp::default()
    }
}

#[test]
fn jumps_longer_than_8_bits_arrive() {
    let profile = conditions(&["read", "open", "mmap", "ioctl", "statx"], 60);
    let filter = filter(&profile, Arch::X86_64);
    assert!(filter.program.len() > 1000, "the test needs a long program");
    let numbers: Vec<u32> = (0..400).collect();
    let args: Vec<[u64; 6]> = (0..64).map(|i| [i << 29, i, 0, 0, 0, 0]).collect();
    crate::model::compare(&profile, Arch::X86_64, &args, &numbers);
}

#[test]
fn a_program_that_the_kernel_would_refuse_is_an_error() {
    let mut problems = Problems::default();
    let profile = conditions(&["read", "open"], 400);
    assert!(compile(&profile, Arch::X86_64, KERNEL, &mut problems).is_none());
    let text = problems.to_string();
    assert!(text.starts_with("linux.seccomp.syscalls: the rules need"), "{text}");
    assert!(text.ends_with(&format!("the kernel takes {MAX_INSNS}")), "{text}");
}
