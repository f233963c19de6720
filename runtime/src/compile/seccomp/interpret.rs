//! Runs a filter without a kernel: for tests, and for asking what a profile does about a call.

use super::bpf::{AND, IF_EQ, IF_GE, IF_GT, IF_SET, Insn, LOAD, RETURN, SKIP};

/// What the kernel shows to a filter (`struct seccomp_data`, linux/seccomp.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Data {
    /// System call number.
    pub number: u32,
    /// `AUDIT_ARCH_…`; see [`super::Arch::audit`].
    pub arch: u32,
    /// Arguments.
    pub args: [u64; 6],
}

impl Data {
    fn word(&self, offset: u32) -> Option<u32> {
        let half = |value: u64, upper: bool| {
            let [a, b, c, d, e, f, g, h] = value.to_le_bytes();
            u32::from_le_bytes(if upper { [e, f, g, h] } else { [a, b, c, d] })
        };
        match offset {
            0 => Some(self.number),
            4 => Some(self.arch),
            8 | 12 => Some(0),
            16..64 if offset.is_multiple_of(4) => {
                let value = self.args.get(usize::try_from((offset - 16) / 8).ok()?)?;
                Some(half(*value, !offset.is_multiple_of(8)))
            }
            _ => None,
        }
    }
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// `SECCOMP_RET_…` and its number.
    pub verdict: u32,
    /// Instructions that ran, the last one included.
    pub steps: usize,
}

/// The verdict of `program` on `data`; `None` if the program leaves itself, reads past `data`, or holds an instruction
/// that no filter of ours has. Jumps go forward, so it ends.
pub fn run(program: &[Insn], data: &Data) -> Option<Outcome> {
    let mut accumulator = 0;
    let mut at = 0;
    let mut steps = 0;
    loop {
        let insn = program.get(at)?;
        at += 1;
        steps += 1;
        let holds = match insn.code {
            LOAD => {
                accumulator = data.word(insn.k)?;
                continue;
            }
            AND => {
                accumulator &= insn.k;
                continue;
            }
            SKIP => {
                at = at.checked_add(usize::try_from(insn.k).ok()?)?;
                continue;
            }
            RETURN => return Some(Outcome { verdict: insn.k, steps }),
            IF_EQ => accumulator == insn.k,
            IF_GT => accumulator > insn.k,
            IF_GE => accumulator >= insn.k,
            IF_SET => accumulator & insn.k != 0,
            _ => return None,
        };
        at += usize::from(if holds { insn.jt } else { insn.jf });
    }
}
