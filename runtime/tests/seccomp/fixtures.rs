//! Profiles that real engines wrote, and the calls with which filters are tried.

use tare::compile::seccomp::interpret::Data;
use tare::compile::seccomp::{
    Arch, FLAG_LOG, FLAG_NEW_LISTENER, FLAG_SPEC_ALLOW, FLAG_TSYNC, FLAG_WAIT_KILLABLE_RECV, Filter, X32_BIT,
    call_multiplexed, call_number, compile,
};
use tare::error::Problems;
use tare::spec::Seccomp;

/// Every flag that a current kernel has.
pub(crate) const KERNEL: u32 = FLAG_TSYNC | FLAG_LOG | FLAG_SPEC_ALLOW | FLAG_NEW_LISTENER | FLAG_WAIT_KILLABLE_RECV;

pub(crate) const PROFILES: [(&str, &str); 4] = [
    ("docker-default", include_str!("../fixtures/seccomp/docker-default.json")),
    ("podman-default", include_str!("../fixtures/seccomp/podman-default.json")),
    ("podman-userns", include_str!("../fixtures/seccomp/podman-userns.json")),
    ("containerd-seccomp", include_str!("../fixtures/seccomp/containerd-seccomp.json")),
];

pub(crate) fn parse(text: &str) -> Seccomp<'_> {
    serde_json::from_str(text).unwrap()
}

/// Compiles what must compile, for a kernel that has every flag.
pub(crate) fn filter(profile: &Seccomp<'_>, native: Arch) -> Filter {
    let mut problems = Problems::default();
    let filter = compile(profile, native, KERNEL, &mut problems);
    filter.unwrap_or_else(|| panic!("{problems}"))
}

/// Numbers at which a filter can go wrong: all that kernels have, their surroundings, x32's, arm's private ones, -1.
pub(crate) fn numbers() -> impl Iterator<Item = u32> {
    let private = 0xf_0000..0xf_0008;
    let edges = [0x3fff_ffff, 0x7fff_ffff, 0x8000_0000, 0x8000_0027, 0xbfff_ffff, u32::MAX - 1, u32::MAX];
    (0..=600).chain(X32_BIT..=X32_BIT + 600).chain(private).chain(edges)
}

/// Arguments that lie on, beside and far from every value that the profile's conditions name.
pub(crate) fn arguments(profile: &Seccomp<'_>) -> Vec<[u64; 6]> {
    let mut all = vec![[0; 6], [u64::MAX; 6], [5; 6]];
    for entry in &profile.syscalls {
        let mut held = [0; 6];
        for arg in &entry.args {
            let at = arg.index as usize;
            let wanted = if &*arg.op == "SCMP_CMP_MASKED_EQ" { arg.value_two & arg.value } else { arg.value };
            held[at] = wanted;
            let near = [arg.value, arg.value_two, arg.value.wrapping_add(1), arg.value.wrapping_sub(1)];
            let far = [wanted ^ (1 << 32), wanted ^ (1 << 63), wanted ^ (1 << 31), wanted | !arg.value, !wanted];
            for value in near.into_iter().chain(far) {
                let mut args = held;
                args[at] = value;
                all.push(args);
            }
        }
        all.push(held);
    }
    all.sort_unstable();
    all.dedup();
    all
}

pub(crate) fn data(arch: u32, number: u32, args: [u64; 6]) -> Data {
    Data { number, arch, args }
}

/// Of `args`, all where a condition may look at them, else a few: it saves most of the time.
pub(crate) fn choose<'a>(profile: &Seccomp<'_>, number: u32, args: &'a [[u64; 6]]) -> &'a [[u64; 6]] {
    let mut names = profile.syscalls.iter().filter(|entry| !entry.args.is_empty()).flat_map(|entry| &entry.names);
    let looks = names.any(|name| {
        let through = call_multiplexed(name).is_some_and(|(through, _)| through == number);
        through || Arch::ALL.into_iter().any(|arch| call_number(name, arch) == Some(number))
    });
    if looks { args } else { &args[..args.len().min(3)] }
}
