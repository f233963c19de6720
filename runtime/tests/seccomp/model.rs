//! What a profile means, written down as directly as can be, with no regard to speed.

use tare::compile::seccomp::interpret::{Data, run};
use tare::compile::seccomp::{Arch, X32_BIT, call_multiplexed, call_number};
use tare::spec::{Seccomp, SyscallArg, SyscallRule};

use crate::fixtures::{self, PROFILES, arguments, data, filter, numbers, parse};

const KILL: u32 = 0;
const ENOSYS: u32 = 0x0005_0026;

pub(crate) fn verdict(action: &str, errno: Option<u32>) -> u32 {
    match action {
        "SCMP_ACT_KILL_PROCESS" => 0x8000_0000,
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => 0,
        "SCMP_ACT_TRAP" => 0x0003_0000,
        "SCMP_ACT_ERRNO" => 0x0005_0000 | errno.unwrap_or(1),
        "SCMP_ACT_NOTIFY" => 0x7fc0_0000,
        "SCMP_ACT_TRACE" => 0x7ff0_0000 | errno.unwrap_or(1),
        "SCMP_ACT_LOG" => 0x7ffc_0000,
        "SCMP_ACT_ALLOW" => 0x7fff_0000,
        other => panic!("{other}"),
    }
}

fn holds(arg: &SyscallArg<'_>, args: &[u64; 6], wide: bool) -> bool {
    let cut = |value: u64| if wide { value } else { value & 0xffff_ffff };
    let (have, value, two) = (cut(args[arg.index as usize]), cut(arg.value), cut(arg.value_two));
    match &*arg.op {
        "SCMP_CMP_NE" => have != value,
        "SCMP_CMP_LT" => have < value,
        "SCMP_CMP_LE" => have <= value,
        "SCMP_CMP_EQ" => have == value,
        "SCMP_CMP_GE" => have >= value,
        "SCMP_CMP_GT" => have > value,
        "SCMP_CMP_MASKED_EQ" => have & value == two & value,
        other => panic!("{other}"),
    }
}

/// Whether the entry's conditions hold; `selector`: the call is made through another, which takes the first argument.
fn entry_holds(entry: &SyscallRule<'_>, args: &[u64; 6], wide: bool, selector: Option<u64>) -> bool {
    if selector.is_some_and(|selector| args[0] & 0xffff_ffff != selector) {
        return false;
    }
    let one = |arg: &SyscallArg<'_>| (selector.is_some() && arg.index == 0) || holds(arg, args, wide);
    let mut indices: Vec<u32> = entry.args.iter().map(|arg| arg.index).collect();
    indices.sort_unstable();
    let twice = indices.windows(2).any(|pair| pair[0] == pair[1]);
    if twice { entry.args.iter().any(one) } else { entry.args.iter().all(one) }
}

/// The largest number of the profile's calls on `arch`, above which calls are answered with ENOSYS. A call that is made through
/// another there counts as that one: else the profile could not be obeyed.
pub(crate) fn last(profile: &Seccomp<'_>, arch: Arch) -> Option<u32> {
    let names = profile.syscalls.iter().flat_map(|entry| &entry.names);
    let through = |name| call_multiplexed(name).filter(|_| arch == Arch::X86).map(|(number, _)| number);
    names.filter_map(|name| call_number(name, arch).max(through(name))).max().filter(|number| *number != 0)
}

/// Whether calls above the last one get ENOSYS at all.
pub(crate) fn enosys(profile: &Seccomp<'_>) -> bool {
    !matches!(&*profile.default_action, "SCMP_ACT_ALLOW" | "SCMP_ACT_LOG" | "SCMP_ACT_TRACE")
}

/// What the profile does about a call on a kernel of architecture `native`.
pub(crate) fn judge(profile: &Seccomp<'_>, native: Arch, call: &Data) -> u32 {
    let listed = |arch: Arch| arch == native || profile.architectures.iter().any(|name| **name == *arch.name());
    let default = verdict(&profile.default_action, profile.default_errno_ret);
    let number = call.number;
    let family: &[Arch] = match native {
        Arch::X86_64 => &[Arch::X86_64, Arch::X86, Arch::X32],
        Arch::Aarch64 => &[Arch::Aarch64, Arch::Arm],
        _ => &[native],
    };
    let mut known = family.iter().copied().filter(|arch| listed(*arch));
    let Some(mut arch) = known.find(|arch| call.arch == arch.audit()) else { return KILL };
    if arch == Arch::X86_64 && number >= X32_BIT {
        if !listed(Arch::X32) {
            return if number == u32::MAX { default } else { KILL };
        }
        arch = Arch::X32;
    }
    if enosys(profile) && last(profile, arch).is_some_and(|last| number > last) {
        return ENOSYS;
    }
    let wide = matches!(arch, Arch::X86_64 | Arch::Aarch64 | Arch::Riscv64);
    let mut found = None;
    for entry in &profile.syscalls {
        let action = verdict(&entry.action, entry.errno_ret);
        if action == default {
            continue;
        }
        for name in &entry.names {
            if call_number(name, arch) == Some(number) {
                if entry.args.is_empty() {
                    return action;
                }
                if found.is_none() && entry_holds(entry, &call.args, wide, None) {
                    found = Some(action);
                }
            }
            let through = call_multiplexed(name).filter(|(through, _)| arch == Arch::X86 && *through == number);
            if let Some((_, selector)) = through
                && found.is_none()
                && entry_holds(entry, &call.args, wide, Some(selector))
            {
                found = Some(action);
            }
        }
    }
    found.unwrap_or(default)
}

/// Compares filter and model on every number with every one of `args`.
pub(crate) fn compare(profile: &Seccomp<'_>, native: Arch, args: &[[u64; 6]], numbers: &[u32]) {
    let filter = filter(profile, native);
    for audit in Arch::ALL.map(Arch::audit).into_iter().chain([0xc000_0015]) {
        for number in numbers {
            for args in fixtures::choose(profile, *number, args) {
                let call = data(audit, *number, *args);
                let outcome = run(&filter.program, &call).expect("a sound program");
                let wanted = judge(profile, native, &call);
                assert_eq!(outcome.verdict, wanted, "{:#x} is not {wanted:#x}: {call:x?}", outcome.verdict);
            }
        }
    }
}

#[test]
fn a_call_that_is_made_through_another_counts_as_that_one() {
    for calls in [r#"["read", "semop"]"#, r#"["semop"]"#, r#"["accept4", "bind", "read"]"#] {
        for default in ["SCMP_ACT_ERRNO", "SCMP_ACT_KILL_THREAD"] {
            let text = format!(
                r#"{{"defaultAction": "{default}", "syscalls": [{{"names": {calls}, "action": "SCMP_ACT_ALLOW"}}]}}"#
            );
            let profile = parse(&text);
            let selectors: Vec<[u64; 6]> = (0..25).map(|selector| [selector, 0, 0, 0, 0, 0]).collect();
            compare(&profile, Arch::X86, &selectors, &(0..500).collect::<Vec<_>>());
        }
    }
}

#[test]
fn engines_profiles_mean_what_the_model_says() {
    for (name, text) in PROFILES {
        let profile = parse(text);
        let args: Vec<[u64; 6]> = arguments(&profile);
        let numbers: Vec<u32> = numbers().collect();
        let natives: &[Arch] =
            if name == "docker-default" { &[Arch::X86_64, Arch::Aarch64, Arch::Riscv64] } else { &[Arch::X86_64] };
        for native in natives.iter().copied() {
            println!("{name} on {native:?}");
            compare(&profile, native, &args, &numbers);
        }
    }
}
