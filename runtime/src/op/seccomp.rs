//! What plans hold of seccomp: the program that seccomp(2) takes.

use crate::abi::Insn;

/// An architecture whose system calls a filter can tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Arch {
    /// `SCMP_ARCH_X86_64`
    X86_64,
    /// `SCMP_ARCH_X86`: 32-bit programs on x86_64
    X86,
    /// `SCMP_ARCH_X32`: x86_64 with 32-bit pointers; its numbers carry bit 30
    X32,
    /// `SCMP_ARCH_AARCH64`
    Aarch64,
    /// `SCMP_ARCH_ARM`: 32-bit programs on aarch64, and 32-bit machines
    Arm,
    /// `SCMP_ARCH_RISCV64`
    Riscv64,
}

/// A filter that is to be installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// The program; never empty, never longer than the kernel takes.
    pub program: Vec<Insn>,
    /// `SECCOMP_FILTER_FLAG_…` for seccomp(2), `SECCOMP_FILTER_FLAG_NEW_LISTENER` among them where a rule notifies.
    pub flags: u32,
    /// Whether a rule notifies an agent: seccomp(2) then answers the descriptor that `linux.seccomp.listenerPath` gets.
    pub notify: bool,
    /// The architectures whose calls the program tells apart, the native one first. All others are killed.
    pub architectures: Vec<Arch>,
    /// How many calls of the native architecture are treated otherwise than by the default action.
    pub calls: usize,
}
