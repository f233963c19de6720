//! What is refused, and with which words; what is accepted, with which flags.

use tare::compile::seccomp::interpret::run;
use tare::compile::seccomp::{
    Arch, FLAG_LOG, FLAG_NEW_LISTENER, FLAG_SPEC_ALLOW, FLAG_WAIT_KILLABLE_RECV, Filter, compile,
};
use tare::error::Problems;

use crate::fixtures::{KERNEL, data, parse};

fn try_with(kernel: u32, json: &str) -> (Option<Filter>, Problems) {
    let mut problems = Problems::default();
    let filter = compile(&parse(json), Arch::X86_64, kernel, &mut problems);
    (filter, problems)
}

#[track_caller]
fn refuses(json: &str, wanted: &str) {
    let (filter, problems) = try_with(KERNEL, json);
    assert_eq!((filter, problems.to_string()), (None, wanted.to_owned()));
}

#[track_caller]
fn takes(json: &str) -> Filter {
    let (filter, problems) = try_with(KERNEL, json);
    assert_eq!(problems, Problems::default());
    filter.unwrap()
}

#[test]
fn nothing_to_install_is_no_error() {
    let (filter, problems) = try_with(KERNEL, r#"{"defaultAction":""}"#);
    assert_eq!((filter, problems), (None, Problems::default()));
}

#[test]
fn every_mistake_is_told_with_its_field() {
    refuses(
        r#"{"defaultAction":"SCMP_ACT_KILL","defaultErrnoRet":1,"architectures":["SCMP_ARCH_X86","SCMP_ARCH_S390X"],
            "flags":["SECCOMP_FILTER_FLAG_NEW_LISTENER"],"syscalls":[
            {"names":["read"],"action":"SCMP_ACT_ALLOW","errnoRet":5},
            {"names":["read","write"],"action":"SCMP_ACT_NOTIFY"},
            {"names":["read",""],"action":"SCMP_ACT_ERRNO","errnoRet":4096,"args":[
              {"index":5,"value":1,"op":"SCMP_CMP_EQ"},{"index":6,"value":1,"op":"SCMP_CMP_EQUAL"}]}]}"#,
        "linux.seccomp.defaultErrnoRet: SCMP_ACT_KILL takes no errno; \
         linux.seccomp.architectures[1]: SCMP_ARCH_S390X has another byte order than SCMP_ARCH_X86_64; \
         linux.seccomp.syscalls[0].errnoRet: SCMP_ACT_ALLOW takes no errno; \
         linux.seccomp.syscalls[1].names[1]: SCMP_ACT_NOTIFY cannot be used for the write syscall; \
         linux.seccomp.syscalls[2].errnoRet: 4096 is more than 4095, the most that SCMP_ACT_ERRNO can carry; \
         linux.seccomp.syscalls[2].args[1].index: 6 is no argument: a system call has 0 to 5; \
         linux.seccomp.syscalls[2].args[1].op: no comparison \"SCMP_CMP_EQUAL\" \
         (hint: SCMP_CMP_EQ, SCMP_CMP_GE, SCMP_CMP_GT, SCMP_CMP_LE, SCMP_CMP_LT, SCMP_CMP_MASKED_EQ, SCMP_CMP_NE); \
         linux.seccomp.flags[0]: no seccomp flag \"SECCOMP_FILTER_FLAG_NEW_LISTENER\" \
         (hint: SECCOMP_FILTER_FLAG_TSYNC, SECCOMP_FILTER_FLAG_LOG, SECCOMP_FILTER_FLAG_SPEC_ALLOW, \
         SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV); \
         linux.seccomp.listenerPath: SCMP_ACT_NOTIFY needs the socket of an agent",
    );
}

#[test]
fn actions_and_architectures_must_exist() {
    let (_, problems) = try_with(
        KERNEL,
        r#"{"defaultAction":"ALLOW","architectures":["x86_64"],"syscalls":[{"names":["read"],"action":""}]}"#,
    );
    let told: Vec<String> = problems.errors.iter().map(|e| format!("{}: {}", e.field, e.text)).collect();
    assert_eq!(
        told,
        [
            "linux.seccomp.defaultAction: no seccomp action \"ALLOW\"",
            "linux.seccomp.architectures[0]: no architecture \"x86_64\"",
            "linux.seccomp.syscalls[0].action: no seccomp action \"\"",
        ]
    );
}

#[test]
fn an_empty_name_is_refused_and_an_unknown_one_ignored() {
    refuses(
        r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read",""],"action":"SCMP_ACT_TRAP"}]}"#,
        "linux.seccomp.syscalls[0].names[1]: an empty string is no system call",
    );
    refuses(
        r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":[],"action":"SCMP_ACT_TRAP"}]}"#,
        "linux.seccomp.syscalls[0].names: is empty: it must name a system call",
    );
    let filter =
        takes(r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["raed"],"action":"SCMP_ACT_TRAP"}]}"#);
    assert_eq!(filter.calls, 0);
}

#[test]
fn notify_needs_a_listener_and_is_no_default() {
    refuses(
        r#"{"defaultAction":"SCMP_ACT_NOTIFY","listenerPath":"/run/agent"}"#,
        "linux.seccomp.defaultAction: SCMP_ACT_NOTIFY cannot be used as default action",
    );
    refuses(
        r#"{"defaultAction":"SCMP_ACT_ALLOW","listenerMetadata":"m"}"#,
        "linux.seccomp.listenerMetadata: must not be set without linux.seccomp.listenerPath",
    );
    let json = r#"{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/run/agent","listenerMetadata":"m",
        "flags":["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],
        "syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_NOTIFY"}]}"#;
    let filter = takes(json);
    assert!(filter.notify);
    assert_eq!(filter.flags, FLAG_NEW_LISTENER | FLAG_WAIT_KILLABLE_RECV);
    assert_eq!(run(&filter.program, &data(Arch::X86_64.audit(), 83, [0; 6])).unwrap().verdict, 0x7fc0_0000);
    let (filter, problems) = try_with(FLAG_WAIT_KILLABLE_RECV, json);
    assert_eq!(filter, None);
    assert_eq!(problems.to_string(), "linux.seccomp.syscalls: this kernel has no SCMP_ACT_NOTIFY");
}

#[test]
fn flags_are_passed_on_unless_the_kernel_lacks_them() {
    let json = r#"{"defaultAction":"SCMP_ACT_ALLOW","flags":["SECCOMP_FILTER_FLAG_TSYNC","SECCOMP_FILTER_FLAG_LOG",
        "SECCOMP_FILTER_FLAG_SPEC_ALLOW","SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]}"#;
    let filter = takes(json);
    assert_eq!((filter.flags, filter.notify), (FLAG_LOG | FLAG_SPEC_ALLOW, false));
    let (filter, problems) = try_with(FLAG_LOG, json);
    assert_eq!(filter, None);
    assert_eq!(
        problems.to_string(),
        "linux.seccomp.flags[2]: this kernel has no SECCOMP_FILTER_FLAG_SPEC_ALLOW; \
         linux.seccomp.flags[3]: this kernel has no SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"
    );
}

#[test]
fn one_condition_with_two_actions_is_refused_once() {
    refuses(
        r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86","SCMP_ARCH_X32"],"syscalls":[
            {"names":["clone"],"action":"SCMP_ACT_ERRNO","args":[{"index":0,"value":5,"op":"SCMP_CMP_EQ"}]},
            {"names":["clone"],"action":"SCMP_ACT_TRAP","args":[{"index":0,"value":5,"op":"SCMP_CMP_EQ"}]}]}"#,
        "linux.seccomp.syscalls[1]: \"clone\" has the same conditions in linux.seccomp.syscalls[0], with another action",
    );
}

#[test]
fn a_rule_made_void_is_told_of() {
    let (filter, problems) = try_with(
        KERNEL,
        r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86"],"syscalls":[
            {"names":["clone"],"action":"SCMP_ACT_ERRNO","args":[{"index":0,"value":5,"op":"SCMP_CMP_EQ"}]},
            {"names":["clone"],"action":"SCMP_ACT_TRAP"},
            {"names":["clone"],"action":"SCMP_ACT_LOG","args":[{"index":0,"value":6,"op":"SCMP_CMP_EQ"}]}]}"#,
    );
    let told: Vec<String> = problems.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "linux.seccomp.syscalls[1]: \"clone\" has no conditions here: linux.seccomp.syscalls[0] is void",
            "linux.seccomp.syscalls[2]: \"clone\" stays as linux.seccomp.syscalls[1] has it, without conditions",
        ]
    );
    let verdict = run(&filter.unwrap().program, &data(Arch::X86_64.audit(), 56, [5; 6])).unwrap().verdict;
    assert_eq!(verdict, 0x0003_0000);
}

#[test]
fn engines_profiles_raise_no_problem() {
    for (name, text) in crate::fixtures::PROFILES {
        let (_, problems) = try_with(KERNEL, text);
        assert_eq!(problems, Problems::default(), "{name}");
    }
}

#[test]
fn the_native_architecture_is_always_there_and_foreign_ones_never() {
    let filter = takes(
        r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86","SCMP_ARCH_AARCH64","SCMP_ARCH_PPC64LE"]}"#,
    );
    assert_eq!(filter.architectures, [Arch::X86_64, Arch::X86]);
    let verdict = |arch: Arch, number| run(&filter.program, &data(arch.audit(), number, [0; 6])).unwrap().verdict;
    assert_eq!(verdict(Arch::X86_64, 39), 0x7fff_0000);
    assert_eq!(verdict(Arch::Aarch64, 39), 0);
    // x32 is not listed: none of its numbers passes, though everything is allowed.
    assert_eq!(verdict(Arch::X86_64, 0x4000_0027), 0);
}
