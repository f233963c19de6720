//! A profile made of the bytes: the filter that is compiled of it judges as the model of the tests does, on every
//! architecture, and ends.
#![no_main]
#![allow(dead_code, unused_imports)]

use libfuzzer_sys::fuzz_target;
use tare::compile::seccomp::{Arch, compile};
use tare::error::Problems;
use tare::spec::{Seccomp, SyscallArg, SyscallRule};

#[path = "../../runtime/tests/seccomp/fixtures.rs"]
mod fixtures;
#[path = "../../runtime/tests/seccomp/model.rs"]
mod model;

const CALLS: &[&str] = &[
    "read", "write", "close", "personality", "clone", "socket", "connect", "accept4", "bind", "shmat", "semop", "semctl",
    "msgget", "mmap", "mmap2", "openat", "set_tls", "execve", "ptrace", "statx", "clone3", "futex", "futex_time64",
    "riscv_flush_icache", "nosuchcall",
];
const OPS: &[&str] = &[
    "SCMP_CMP_NE", "SCMP_CMP_LT", "SCMP_CMP_LE", "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_MASKED_EQ",
];
const ACTIONS: &[&str] = &[
    "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_TRAP", "SCMP_ACT_ERRNO", "SCMP_ACT_TRACE", "SCMP_ACT_LOG",
    "SCMP_ACT_ALLOW",
];
const VALUES: &[u64] = &[0, 1, 2, 5, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 1 << 32, 0xffff_ffff_0000_0000, u64::MAX];
const ARCHES: &[&str] = &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"];
const NATIVE: [Arch; 4] = [Arch::X86_64, Arch::X86, Arch::Aarch64, Arch::Riscv64];

struct Bytes<'a>(std::slice::Iter<'a, u8>);

impl Bytes<'_> {
    fn next(&mut self) -> usize {
        self.0.next().copied().unwrap_or(0).into()
    }

    fn one<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.next() % list.len()]
    }

    fn value(&mut self) -> u64 {
        match self.next() {
            at if at < VALUES.len() => VALUES[at],
            bits => (0..8).fold(bits as u64, |value, _| value << 8 | self.next() as u64),
        }
    }

    fn rule(&mut self) -> SyscallRule<'static> {
        let names = (0..=self.next() % 3).map(|_| self.one(CALLS).into()).collect();
        let args = (0..self.next() % 4).map(|_| SyscallArg {
            index: (self.next() % 6) as u32,
            value: self.value(),
            value_two: self.value(),
            op: self.one(OPS).into(),
        });
        let args = args.collect();
        let errno_ret = (self.next() % 2 == 1).then(|| (self.next() * 17 % 4096) as u32);
        SyscallRule { names, args, errno_ret, action: self.one(ACTIONS).into() }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut bytes = Bytes(bytes.iter());
    let native = bytes.one(&NATIVE);
    let profile = Seccomp {
        default_action: bytes.one(ACTIONS).into(),
        architectures: (0..bytes.next() % 4).map(|_| bytes.one(ARCHES).into()).collect(),
        syscalls: (0..bytes.next() % 12).map(|_| bytes.rule()).collect(),
        ..Seccomp::default()
    };
    if compile(&profile, native, fixtures::KERNEL, &mut Problems::default()).is_none() {
        return;
    }
    let mut args = fixtures::arguments(&profile);
    args.truncate(64);
    let named = profile.syscalls.iter().flat_map(|rule| &rule.names);
    let named = named.flat_map(|name| Arch::ALL.map(|arch| tare::compile::seccomp::call_number(name, arch)));
    let mut numbers: Vec<u32> = named.flatten().flat_map(|n| [n.wrapping_sub(1), n, n + 1, n | 0x4000_0000]).collect();
    numbers.extend([0, 1, 600, 0x3fff_ffff, 0x4000_0000, u32::MAX]);
    numbers.sort_unstable();
    numbers.dedup();
    model::compare(&profile, native, &args, &numbers);
});
