//! libseccomp as the oracle: a helper in C makes its BPF, our interpreter runs it.

use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use tare::compile::seccomp::interpret::run;
use tare::compile::seccomp::{Arch, Insn, X32_BIT, call_number};
use tare::spec::Seccomp;

use crate::fixtures::{self, PROFILES, arguments, data, filter, numbers, parse};
use crate::model::{enosys, last, verdict};

const SIGALRM: i32 = 14;
const CONFLICT: i32 = 3;
const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/seccomp/oracle.c");

/// The helper, built on first use; `None` where a compiler or libseccomp is missing, which CI may not do without.
pub(crate) fn helper() -> Option<&'static PathBuf> {
    static HELPER: OnceLock<Option<PathBuf>> = OnceLock::new();
    let build = || {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("seccomp-oracle");
        let cc = Command::new("cc").args(["-O2", "-o"]).arg(&path).args([SOURCE, "-lseccomp"]).output();
        match cc {
            Ok(cc) if cc.status.success() => Some(path),
            other => {
                assert!(std::env::var("CI").as_deref() != Ok("true"), "no libseccomp to compare with: {other:?}");
                println!("skipped: cc or libseccomp-dev is missing");
                None
            }
        }
    };
    HELPER.get_or_init(build).as_ref()
}

/// Runs the helper on a profile; `None` also where libseccomp finds no end, or finds the
/// profile to contradict itself (it does so where calls that x86 multiplexes have several actions).
pub(crate) fn ask(profile: &str, args: &[&str]) -> Option<Vec<u8>> {
    let mut child = Command::new(helper()?).args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(profile.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    if output.status.signal() == Some(SIGALRM) || output.status.code() == Some(CONFLICT) {
        return None;
    }
    assert!(output.status.success(), "libseccomp refuses\n{profile}");
    Some(output.stdout)
}

/// The profile as runc puts it to libseccomp, for the architectures that `native` and the profile name.
pub(crate) fn words(profile: &Seccomp<'_>, native: Arch) -> String {
    let default = verdict(&profile.default_action, profile.default_errno_ret);
    let mut text = format!("default {default}\n");
    let native = [native.name()];
    for name in profile.architectures.iter().map(|name| &**name).chain(native) {
        writeln!(text, "arch {}", name.trim_start_matches("SCMP_ARCH_").to_lowercase()).unwrap();
    }
    for entry in &profile.syscalls {
        let action = verdict(&entry.action, entry.errno_ret);
        if action == default {
            continue;
        }
        let conditions: Vec<String> = entry
            .args
            .iter()
            .map(|arg| {
                let ops = ["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"];
                let op = ops.iter().position(|op| arg.op.trim_start_matches("SCMP_CMP_") == *op).unwrap() + 1;
                format!(" {} {op} {} {}", arg.index, arg.value, arg.value_two)
            })
            .collect();
        let mut indices: Vec<u32> = entry.args.iter().map(|arg| arg.index).collect();
        indices.sort_unstable();
        let twice = indices.windows(2).any(|pair| pair[0] == pair[1]);
        for name in &entry.names {
            if twice {
                for condition in &conditions {
                    writeln!(text, "rule {action} {name}{condition}").unwrap();
                }
            } else {
                writeln!(text, "rule {action} {name}{}", conditions.concat()).unwrap();
            }
        }
    }
    text
}

pub(crate) fn decode(bytes: &[u8]) -> Vec<Insn> {
    let insn = |b: &[u8]| Insn {
        code: u16::from_ne_bytes([b[0], b[1]]),
        jt: b[2],
        jf: b[3],
        k: u32::from_ne_bytes([b[4], b[5], b[6], b[7]]),
    };
    bytes.chunks_exact(8).map(insn).collect()
}

/// Compares our filter and libseccomp's, if it has one (answered), but for what runc puts before the latter: ENOSYS above the last call.
pub(crate) fn compare(profile: &Seccomp<'_>, native: Arch, args: &[[u64; 6]], numbers: &[u32]) -> bool {
    let Some(theirs) = ask(&words(profile, native), &[]).map(|bytes| decode(&bytes)) else { return false };
    let ours = filter(profile, native);
    let x32 = ours.architectures.contains(&Arch::X32);
    for arch in ours.architectures.iter().filter(|arch| **arch != Arch::X32) {
        for number in numbers {
            let lane = if x32 && *arch == Arch::X86_64 && *number >= X32_BIT { Arch::X32 } else { *arch };
            let foreign = *arch == Arch::X86_64 && !x32 && *number >= X32_BIT;
            if enosys(profile) && !foreign && last(profile, lane).is_some_and(|last| *number > last) {
                continue;
            }
            for args in fixtures::choose(profile, *number, args) {
                let call = data(arch.audit(), *number, *args);
                let wanted = run(&theirs, &call).expect("libseccomp's program runs").verdict;
                let have = run(&ours.program, &call).expect("a sound program").verdict;
                assert_eq!(have, wanted, "{have:#x}, libseccomp {wanted:#x}: {call:x?}\n{}", words(profile, native));
            }
        }
    }
    true
}

#[test]
fn engines_profiles_are_judged_as_by_libseccomp() {
    for (name, text) in PROFILES {
        let mut profile = parse(text);
        // Newer than the oracle: it would not know them, and the default action would decide.
        for entry in &mut profile.syscalls {
            let old = |number: u32| number & !X32_BIT <= 450 || number >= 0xf_0000;
            let known = |name: &str| Arch::ALL.into_iter().all(|arch| call_number(name, arch).is_none_or(old));
            entry.names.retain(|name| known(name) && !["uretprobe", "uprobe", "riscv_hwprobe"].contains(&&**name));
        }
        let args = arguments(&profile);
        let numbers: Vec<u32> = numbers().collect();
        for native in [Arch::X86_64, Arch::Aarch64, Arch::Riscv64] {
            println!("{name} on {native:?}");
            if native != Arch::X86_64 {
                profile.architectures = vec!["SCMP_ARCH_AARCH64".into(), "SCMP_ARCH_ARM".into()];
            }
            assert!(compare(&profile, native, &args, &numbers) || helper().is_none());
        }
    }
}

#[test]
#[ignore = "a measurement"]
fn libseccomp_in_figures() {
    let profile = parse(PROFILES[0].1);
    let text = words(&profile, Arch::X86_64);
    for (mode, text) in [("list", text.clone()), ("tree", text.replacen('\n', "\ntree\n", 1))] {
        let program = decode(&ask(&text, &[]).unwrap());
        let micros = String::from_utf8(ask(&text, &["20"]).unwrap()).unwrap();
        let steps = |number| run(&program, &data(Arch::X86_64.audit(), number, [0; 6])).unwrap().steps;
        let (sum, most) = ((0..450).map(steps).sum::<usize>(), (0..450).map(steps).max().unwrap());
        println!("libseccomp, {mode}: {} us, {} instructions", micros.trim(), program.len());
        println!("  steps: {} on average, {most} at most", sum / 450);
    }
}
