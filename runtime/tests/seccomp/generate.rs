//! Random profiles.

use proptest::prelude::*;
use tare::spec::{Seccomp, Str, SyscallArg, SyscallRule};

/// None has number 0 on x86_64: conditional rules for it, with x32 listed, make libseccomp 2.5.4 compare the architecture
/// where it means the number.
const CALLS: &[&str] = &[
    "lseek",
    "write",
    "open",
    "close",
    "personality",
    "clone",
    "socket",
    "connect",
    "accept4",
    "bind",
    "shmat",
    "semop",
    "semctl",
    "msgget",
    "mmap",
    "mmap2",
    "openat",
    "set_tls",
    "execve",
    "ptrace",
    "statx",
    "clone3",
    "futex",
    "futex_time64",
    "set_mempolicy_home_node",
    "riscv_flush_icache",
    "nosuchcall",
];
const OPS: &[&str] = &[
    "SCMP_CMP_NE",
    "SCMP_CMP_LT",
    "SCMP_CMP_LE",
    "SCMP_CMP_EQ",
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_MASKED_EQ",
];
const VALUES: &[u64] = &[
    0,
    1,
    2,
    5,
    40,
    0x7e02_0000,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    1 << 32,
    0x1_0000_0005,
    0xffff_ffff_0000_0000,
    u64::MAX,
    u64::MAX - 1,
];
const ACTIONS: &[(&str, Option<u32>)] = &[
    ("SCMP_ACT_ALLOW", None),
    ("SCMP_ACT_ERRNO", Some(5)),
    ("SCMP_ACT_ERRNO", None),
    ("SCMP_ACT_KILL", None),
    ("SCMP_ACT_KILL_PROCESS", None),
    ("SCMP_ACT_KILL_THREAD", None),
    ("SCMP_ACT_TRAP", None),
    ("SCMP_ACT_LOG", None),
    ("SCMP_ACT_TRACE", Some(7)),
    ("SCMP_ACT_TRACE", None),
];
pub(crate) const ARCHES: &[&str] =
    &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM", "SCMP_ARCH_RISCV64"];

pub(crate) fn value() -> impl Strategy<Value = u64> {
    prop_oneof![4 => proptest::sample::select(VALUES), 1 => any::<u64>()]
}

/// Arguments for a call.
pub(crate) fn arguments() -> impl Strategy<Value = [u64; 6]> {
    proptest::array::uniform6(value())
}

fn arg() -> impl Strategy<Value = SyscallArg<'static>> {
    (0..6_u32, proptest::sample::select(OPS), value(), value()).prop_map(|(index, op, value, value_two)| SyscallArg {
        index,
        op: op.into(),
        value,
        value_two,
    })
}

fn rule(conditional: (&'static str, Option<u32>)) -> impl Strategy<Value = SyscallRule<'static>> {
    let names = proptest::collection::vec(proptest::sample::select(CALLS), 1..6);
    let args = proptest::collection::vec(arg(), 0..4);
    (names, args, proptest::sample::select(ACTIONS)).prop_map(move |(names, args, action)| {
        let (action, errno_ret) = if args.is_empty() { action } else { conditional };
        let names = names.into_iter().map(Str::from).collect();
        SyscallRule { names, action: action.into(), errno_ret, args }
    })
}

/// A profile whose conditional rules all have one action: where they overlap with others, libseccomp promises nothing.
pub(crate) fn profile() -> impl Strategy<Value = Seccomp<'static>> {
    let action = || proptest::sample::select(ACTIONS);
    let rules = action().prop_flat_map(|conditional| proptest::collection::vec(rule(conditional), 0..12));
    (action(), proptest::sample::subsequence(ARCHES, 0..=ARCHES.len()), rules).prop_map(
        |(default, arches, syscalls)| {
            let architectures = arches.into_iter().map(Str::from).collect();
            let (default_action, default_errno_ret) = (default.0.into(), default.1);
            Seccomp { default_action, default_errno_ret, architectures, syscalls, ..Seccomp::default() }
        },
    )
}

/// A profile whose conditional rules differ in their actions.
pub(crate) fn mixed_profile() -> impl Strategy<Value = Seccomp<'static>> {
    let action = || proptest::sample::select(ACTIONS);
    let rules = proptest::collection::vec(action().prop_flat_map(rule), 0..12);
    (profile(), rules).prop_map(|(profile, syscalls)| Seccomp { syscalls, ..profile })
}

/// Numbers of the calls above, and those beside them.
pub(crate) fn numbers() -> Vec<u32> {
    let mut numbers: Vec<u32> = vec![u32::MAX, 0x3fff_ffff, 0x4000_0000, 0x8000_0000, 1000];
    for arch in tare::compile::seccomp::Arch::ALL {
        for number in CALLS.iter().filter_map(|name| tare::compile::seccomp::call_number(name, arch)) {
            numbers.extend([number.saturating_sub(1), number, number + 1]);
        }
    }
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}
