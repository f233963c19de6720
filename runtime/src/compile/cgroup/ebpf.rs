//! Device rules as a program of type `BPF_PROG_TYPE_CGROUP_DEVICE`, which is how cgroup version 2 restricts devices.
//!
//! The program goes through the rules from the last to the first. Each rule settles the access that it names and that
//! no later rule has settled yet; a request is allowed when all of its access is.
//! Sources: linux/bpf.h (`struct bpf_cgroup_dev_ctx`), Documentation/bpf/standardization/instruction-set.rst.

use super::devices::{Access, Policy, Rule};
pub use crate::op::cgroup::{DeviceInsn as Insn, DeviceProgram};

/// `r = *(u32 *)(src + off)`
pub const LOAD: u8 = 0x61;
/// `r = imm`
pub const MOVE: u8 = 0xb7;
/// `r = src`
pub const MOVE_REG: u8 = 0xbf;
/// `r &= imm` (32 bit)
pub const AND: u8 = 0x54;
/// `r >>= imm` (32 bit)
pub const SHIFT: u8 = 0x74;
/// Jump if `r != imm` (32 bit)
pub const JUMP_NE: u8 = 0x56;
/// Jump if `r == imm` (32 bit)
pub const JUMP_EQ: u8 = 0x16;
/// Return `r0`.
pub const EXIT: u8 = 0x95;

/// Register: the result.
const RESULT: u8 = 0;
/// Register: the context.
const CONTEXT: u8 = 1;
/// Register: block or character.
const KIND: u8 = 2;
/// Register: access that is not settled yet.
const OPEN: u8 = 3;
/// Register: major number.
const MAJOR: u8 = 4;
/// Register: minor number.
const MINOR: u8 = 5;
/// Register: scratch.
const SCRATCH: u8 = 6;

fn op(code: u8, dst: u8, imm: i32) -> Insn {
    Insn { code, dst, src: 0, off: 0, imm }
}

fn load(dst: u8, off: i16) -> Insn {
    Insn { code: LOAD, dst, src: CONTEXT, off, imm: 0 }
}

/// The program of a policy; none where everything is allowed.
pub fn program(policy: &Policy) -> Option<DeviceProgram> {
    if policy.allows_everything() {
        return None;
    }
    let mut insns = vec![
        load(KIND, 0),
        Insn { code: MOVE_REG, dst: OPEN, src: KIND, off: 0, imm: 0 },
        op(AND, KIND, 0xffff),
        op(SHIFT, OPEN, 16),
        load(MAJOR, 4),
        load(MINOR, 8),
    ];
    for rule in policy.rules.iter().rev() {
        insns.extend(block(rule));
    }
    answer(&mut insns, policy.allow);
    Some(DeviceProgram { insns })
}

fn answer(insns: &mut Vec<Insn>, allow: bool) {
    insns.push(op(MOVE, RESULT, i32::from(allow)));
    insns.push(op(EXIT, 0, 0));
}

/// One rule; whatever it does not settle falls out at its end.
fn block(rule: &Rule) -> Vec<Insn> {
    let mut insns = Vec::with_capacity(8);
    let mut leave = Vec::with_capacity(4);
    let mut unless = |insns: &mut Vec<Insn>, code, register, imm| {
        leave.push(insns.len());
        insns.push(op(code, register, imm));
    };
    if let Some(kind) = rule.key.kind {
        unless(&mut insns, JUMP_NE, KIND, kind as i32);
    }
    for (register, number) in [(MAJOR, rule.key.major), (MINOR, rule.key.minor)] {
        if let Some(number) = number {
            unless(&mut insns, JUMP_NE, register, i32::from_ne_bytes(number.to_ne_bytes()));
        }
    }
    let access = i32::from(rule.access.0);
    match (rule.allow, rule.access == Access::ALL) {
        (_, true) => {}
        (true, false) => {
            insns.push(op(AND, OPEN, !access));
            unless(&mut insns, JUMP_NE, OPEN, 0);
        }
        (false, false) => {
            insns.push(Insn { code: MOVE_REG, dst: SCRATCH, src: OPEN, off: 0, imm: 0 });
            insns.push(op(AND, SCRATCH, access));
            unless(&mut insns, JUMP_EQ, SCRATCH, 0);
        }
    }
    answer(&mut insns, rule.allow);
    let end = insns.len();
    for at in leave {
        insns[at].off = i16::try_from(end - at - 1).unwrap_or(i16::MAX);
    }
    insns
}
