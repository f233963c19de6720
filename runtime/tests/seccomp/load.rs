//! The kernel takes the programs and does what they say. Needs a kernel with seccomp, no privilege.

#![cfg(target_arch = "x86_64")]

use std::process::Command;

use tare::compile::seccomp::{Arch, Filter, call_number};

use crate::fixtures::{PROFILES, filter, parse};
use crate::sys::{call, spawn};

fn number(name: &str) -> libc::c_long {
    libc::c_long::from(call_number(name, Arch::X86_64).unwrap())
}

fn compiled(json: &str) -> Filter {
    filter(&parse(json), Arch::X86_64)
}

#[test]
fn engines_profiles_load_and_programs_run_under_them() {
    for (name, text) in PROFILES {
        let child = spawn(filter(&parse(text), Arch::X86_64), Command::new("/bin/true"));
        assert!(child.unwrap().wait().unwrap().success(), "{name}");
    }
}

#[test]
fn a_denied_call_returns_its_errno() {
    let profile = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[
        {"names":["mkdir"],"action":"SCMP_ACT_ERRNO","errnoRet":93},
        {"names":["rmdir"],"action":"SCMP_ACT_ERRNO"}]}"#;
    assert_eq!(call(compiled(profile), number("mkdir"), [0; 3]), Ok(93));
    assert_eq!(call(compiled(profile), number("rmdir"), [0; 3]), Ok(libc::EPERM));
    assert_eq!(call(compiled(profile), number("unlink"), [0; 3]), Ok(libc::EFAULT));
}

#[test]
fn conditions_see_both_halves_of_an_argument() {
    let profile = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["getpgid"],"action":"SCMP_ACT_ERRNO",
        "errnoRet":7,"args":[{"index":1,"value":4294967297,"op":"SCMP_CMP_EQ"}]}]}"#;
    assert_eq!(call(compiled(profile), number("getpgid"), [0, 1, 0]), Ok(0));
    assert_eq!(call(compiled(profile), number("getpgid"), [0, 1 << 32, 0]), Ok(0));
    assert_eq!(call(compiled(profile), number("getpgid"), [0, (1 << 32) + 1, 0]), Ok(7));
}

#[test]
fn a_call_newer_than_the_profile_does_not_exist() {
    let profile = || filter(&parse(PROFILES[0].1), Arch::X86_64);
    assert_eq!(call(profile(), number("rseq_slice_yield"), [0; 3]), Ok(libc::ENOSYS));
    // mseal of no memory succeeds where the kernel has it and the filter does not stand in between.
    assert_eq!(call(profile(), number("mseal"), [0; 3]), Ok(libc::ENOSYS));
    assert_eq!(call(profile(), number("swapoff"), [0; 3]), Ok(libc::EPERM));
}

#[test]
fn x32_numbers_do_not_slip_through_a_deny_list() {
    let profile = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_ERRNO"}]}"#;
    assert_eq!(call(compiled(profile), number("mkdir") | 0x4000_0000, [0; 3]), Err(libc::SIGSYS));
    let profile = profile.replace("\"syscalls\"", "\"architectures\":[\"SCMP_ARCH_X32\"],\"syscalls\"");
    assert_eq!(call(compiled(&profile), number("mkdir") | 0x4000_0000, [0; 3]), Ok(libc::EPERM));
}

#[test]
fn killing_actions_kill() {
    for action in ["SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_TRAP"] {
        let profile =
            format!(r#"{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{{"names":["mkdir"],"action":"{action}"}}]}}"#);
        assert_eq!(call(compiled(&profile), number("mkdir"), [0; 3]), Err(libc::SIGSYS), "{action}");
    }
}

#[test]
fn flags_are_ones_that_the_kernel_takes() {
    let profile = r#"{"defaultAction":"SCMP_ACT_ALLOW","flags":["SECCOMP_FILTER_FLAG_LOG","SECCOMP_FILTER_FLAG_TSYNC",
        "SECCOMP_FILTER_FLAG_SPEC_ALLOW","SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]}"#;
    assert_eq!(call(compiled(profile), number("getpgid"), [0; 3]), Ok(0));
}
