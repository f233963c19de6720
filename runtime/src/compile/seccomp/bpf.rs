//! The classic BPF that seccomp(2) takes, assembled from its end to its start.
//!
//! Jumps of classic BPF go forward only. Whoever writes a program backwards therefore knows each jump's distance the
//! moment it is written, and can put a bridge where 8 bits do not reach: no second pass, no patching.

/// One instruction, laid out as the kernel's `struct sock_filter` (linux/filter.h).
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Insn {
    /// Operation.
    pub code: u16,
    /// Instructions to skip if the comparison holds.
    pub jt: u8,
    /// Instructions to skip if it does not.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

/// `BPF_LD | BPF_W | BPF_ABS`: A = the word of `struct seccomp_data` at offset k.
pub(super) const LOAD: u16 = 0x20;
/// `BPF_ALU | BPF_AND | BPF_K`: A &= k.
pub(super) const AND: u16 = 0x54;
/// `BPF_JMP | BPF_JA`: skip k instructions.
pub(super) const SKIP: u16 = 0x05;
/// `BPF_JMP | BPF_JEQ | BPF_K`: A == k?
pub(super) const IF_EQ: u16 = 0x15;
/// `BPF_JMP | BPF_JGT | BPF_K`: A > k?
pub(super) const IF_GT: u16 = 0x25;
/// `BPF_JMP | BPF_JGE | BPF_K`: A >= k?
pub(super) const IF_GE: u16 = 0x35;
/// `BPF_JMP | BPF_JSET | BPF_K`: A & k != 0?
pub(super) const IF_SET: u16 = 0x45;
/// `BPF_RET | BPF_K`: the verdict is k.
pub(super) const RETURN: u16 = 0x06;

/// Most instructions that the kernel takes (`BPF_MAXINSNS`, linux/bpf_common.h).
pub const MAX_INSNS: usize = 4096;

/// Offset of the number in `struct seccomp_data` (linux/seccomp.h).
pub(super) const AT_NUMBER: u32 = 0;
/// Offset of the architecture.
pub(super) const AT_ARCH: u32 = 4;

/// An instruction already written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Label(u32);

/// A program whose last instruction comes first.
#[derive(Default)]
pub(super) struct Backward {
    insns: Vec<Insn>,
    returns: Vec<(u32, Label)>,
}

impl Backward {
    pub(super) fn with_capacity(insns: usize) -> Self {
        Backward { insns: Vec::with_capacity(insns), returns: Vec::with_capacity(8) }
    }

    fn end(&self) -> u32 {
        u32::try_from(self.insns.len()).unwrap_or(u32::MAX)
    }

    fn push(&mut self, code: u16, jt: u8, jf: u8, k: u32) -> Label {
        let label = Label(self.end());
        self.insns.push(Insn { code, jt, jf, k });
        label
    }

    /// How far the next instruction is from `to`.
    fn distance(&self, to: Label) -> u32 {
        self.end() - to.0 - 1
    }

    /// A verdict: the one already written if it is near enough to be jumped at.
    pub(super) fn verdict(&mut self, value: u32) -> Label {
        const NEAR: u32 = 200;
        let known = self.returns.iter().position(|(known, _)| *known == value);
        if let Some(label) = known.and_then(|i| self.returns.get(i)).map(|(_, label)| *label)
            && self.distance(label) < NEAR
        {
            return label;
        }
        let label = self.push(RETURN, 0, 0, value);
        match known.and_then(|i| self.returns.get_mut(i)) {
            Some(entry) => entry.1 = label,
            None => self.returns.push((value, label)),
        }
        label
    }

    /// A comparison of A with `k`, whatever the distance of its targets.
    pub(super) fn branch(&mut self, op: u16, k: u32, mut yes: Label, mut no: Label) -> Label {
        if yes == no {
            return yes;
        }
        loop {
            match (u8::try_from(self.distance(yes)), u8::try_from(self.distance(no))) {
                (Ok(jt), Ok(jf)) => return self.push(op, jt, jf, k),
                (Err(_), _) => yes = self.bridge(yes),
                (_, Err(_)) => no = self.bridge(no),
            }
        }
    }

    /// Brings `to` near. A copy of a verdict is no longer than a jump to it, and one step shorter to run.
    fn bridge(&mut self, to: Label) -> Label {
        match usize::try_from(to.0).ok().and_then(|i| self.insns.get(i)).copied() {
            Some(Insn { code: RETURN, k, .. }) => self.verdict(k),
            _ => self.push(SKIP, 0, 0, self.distance(to)),
        }
    }

    fn before(&mut self, code: u16, k: u32, then: Label) -> Label {
        if self.distance(then) != 0 {
            self.push(SKIP, 0, 0, self.distance(then));
        }
        self.push(code, 0, 0, k)
    }

    /// A = the word at `offset`, and on to `then`.
    pub(super) fn load(&mut self, offset: u32, then: Label) -> Label {
        self.before(LOAD, offset, then)
    }

    /// A &= `mask`, and on to `then`.
    pub(super) fn and(&mut self, mask: u32, then: Label) -> Label {
        self.before(AND, mask, then)
    }

    /// The program, which starts with what was written last.
    pub(super) fn finish(mut self) -> Vec<Insn> {
        self.insns.reverse();
        self.insns
    }
}
