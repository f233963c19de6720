//! The words of a profile: actions, comparisons and flags, and what the kernel calls them.

use crate::error::Problems;
use crate::field::Field;

/// The specification's actions, as `features` tells them.
pub const ACTIONS: &[&str] = &[
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_LOG",
    "SCMP_ACT_NOTIFY",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_TRAP",
];

/// The specification's operators, as `features` tells them.
pub const OPERATORS: &[&str] =
    &["SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE", "SCMP_CMP_LT", "SCMP_CMP_MASKED_EQ", "SCMP_CMP_NE"];

/// Flags of a profile with their bit for seccomp(2), for `features` and for probing the kernel.
pub const FLAGS: &[(&str, u32)] = &[
    ("SECCOMP_FILTER_FLAG_TSYNC", FLAG_TSYNC),
    ("SECCOMP_FILTER_FLAG_LOG", FLAG_LOG),
    ("SECCOMP_FILTER_FLAG_SPEC_ALLOW", FLAG_SPEC_ALLOW),
    ("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", FLAG_WAIT_KILLABLE_RECV),
];

/// All threads of the process get the filter (linux/seccomp.h, as the other flags).
pub const FLAG_TSYNC: u32 = 1 << 0;
/// Every verdict but "allow" is logged.
pub const FLAG_LOG: u32 = 1 << 1;
/// The filter does not switch speculative store bypass off.
pub const FLAG_SPEC_ALLOW: u32 = 1 << 2;
/// seccomp(2) answers a file descriptor on which notifications arrive.
pub const FLAG_NEW_LISTENER: u32 = 1 << 3;
/// Who waits for an agent's answer can be killed, and by nothing less woken.
pub const FLAG_WAIT_KILLABLE_RECV: u32 = 1 << 5;

/// The verdicts of linux/seccomp.h.
pub(super) const KILL_PROCESS: u32 = 0x8000_0000;
pub(super) const KILL_THREAD: u32 = 0;
pub(super) const TRAP: u32 = 0x0003_0000;
pub(super) const ERRNO: u32 = 0x0005_0000;
pub(super) const NOTIFY: u32 = 0x7fc0_0000;
pub(super) const TRACE: u32 = 0x7ff0_0000;
pub(super) const LOG: u32 = 0x7ffc_0000;
pub(super) const ALLOW: u32 = 0x7fff_0000;
/// The part of a verdict that names the action; the rest is the action's number.
pub(super) const ACTION: u32 = 0xffff_0000;

pub(super) const EPERM: u32 = 1;
pub(super) const ENOSYS: u32 = 38;

/// How an argument is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    Ne,
    Lt,
    Le,
    Eq,
    Ge,
    Gt,
    MaskedEq,
}

pub(super) fn op(name: &str) -> Option<Op> {
    Some(match name {
        "SCMP_CMP_NE" => Op::Ne,
        "SCMP_CMP_LT" => Op::Lt,
        "SCMP_CMP_LE" => Op::Le,
        "SCMP_CMP_EQ" => Op::Eq,
        "SCMP_CMP_GE" => Op::Ge,
        "SCMP_CMP_GT" => Op::Gt,
        "SCMP_CMP_MASKED_EQ" => Op::MaskedEq,
        _ => return None,
    })
}

/// The verdict of an action, with its errno (or, for a tracer, its number).
pub(super) fn verdict(
    name: &str,
    errno: Option<u32>,
    action_field: impl Fn() -> Field,
    errno_field: impl Fn() -> Field,
    problems: &mut Problems,
) -> Option<u32> {
    /// The kernel cuts larger numbers down to this one in silence (`MAX_ERRNO`).
    const MAX_ERRNO: u32 = 4095;
    let (action, max) = match name {
        "SCMP_ACT_ERRNO" => (ERRNO, MAX_ERRNO),
        "SCMP_ACT_TRACE" => (TRACE, 0xffff),
        "SCMP_ACT_ALLOW" => (ALLOW, 0),
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => (KILL_THREAD, 0),
        "SCMP_ACT_KILL_PROCESS" => (KILL_PROCESS, 0),
        "SCMP_ACT_TRAP" => (TRAP, 0),
        "SCMP_ACT_LOG" => (LOG, 0),
        "SCMP_ACT_NOTIFY" => (NOTIFY, 0),
        _ => {
            problems.error_hint(action_field(), format!("no seccomp action {name:?}"), ACTIONS.join(", "));
            return None;
        }
    };
    match (errno, max) {
        (None, 0) => Some(action),
        (None, _) => Some(action | EPERM),
        (Some(_), 0) => {
            problems.error(errno_field(), format!("{name} takes no errno"));
            None
        }
        (Some(errno), max) if errno > max => {
            problems.error(errno_field(), format!("{errno} is more than {max}, the most that {name} can carry"));
            None
        }
        (Some(errno), _) => Some(action | errno),
    }
}
