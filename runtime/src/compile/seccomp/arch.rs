//! Architectures: what the profile calls them, what the kernel calls them, and which of them a kernel can run.

pub use crate::op::seccomp::Arch;

/// Bit 30 of a system call's number says "x32" (`__X32_SYSCALL_BIT` of the kernel's asm/unistd.h).
pub const X32_BIT: u32 = 0x4000_0000;

/// What an architecture's name in a profile means on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Named {
    /// A table exists.
    Known(Arch),
    /// A real architecture that this kernel never runs: it can have no calls to judge.
    Foreign,
    /// As `Foreign`, and of the other byte order: libseccomp (`seccomp_arch_add`: EDOM) and so every runtime refuses it.
    OtherEndian,
}

/// The specification's architectures, as `features` tells them.
pub const ARCHITECTURES: &[&str] = &[
    "SCMP_ARCH_AARCH64",
    "SCMP_ARCH_ARM",
    "SCMP_ARCH_LOONGARCH64",
    "SCMP_ARCH_M68K",
    "SCMP_ARCH_MIPS",
    "SCMP_ARCH_MIPS64",
    "SCMP_ARCH_MIPS64N32",
    "SCMP_ARCH_MIPSEL",
    "SCMP_ARCH_MIPSEL64",
    "SCMP_ARCH_MIPSEL64N32",
    "SCMP_ARCH_PARISC",
    "SCMP_ARCH_PARISC64",
    "SCMP_ARCH_PPC",
    "SCMP_ARCH_PPC64",
    "SCMP_ARCH_PPC64LE",
    "SCMP_ARCH_RISCV64",
    "SCMP_ARCH_S390",
    "SCMP_ARCH_S390X",
    "SCMP_ARCH_SH",
    "SCMP_ARCH_SHEB",
    "SCMP_ARCH_X32",
    "SCMP_ARCH_X86",
    "SCMP_ARCH_X86_64",
];

impl Arch {
    /// Every architecture with a table, in the order of the table's columns.
    pub const ALL: [Arch; 6] = [Arch::X86_64, Arch::X86, Arch::X32, Arch::Aarch64, Arch::Arm, Arch::Riscv64];

    /// The architecture that this program was built for; `None` where no table of its calls exists.
    pub const fn native() -> Option<Arch> {
        if cfg!(target_arch = "x86_64") {
            Some(Arch::X86_64)
        } else if cfg!(target_arch = "x86") {
            Some(Arch::X86)
        } else if cfg!(target_arch = "aarch64") {
            Some(Arch::Aarch64)
        } else if cfg!(all(target_arch = "arm", target_endian = "little")) {
            Some(Arch::Arm)
        } else if cfg!(target_arch = "riscv64") {
            Some(Arch::Riscv64)
        } else {
            None
        }
    }

    /// The name in a profile.
    pub const fn name(self) -> &'static str {
        match self {
            Arch::X86_64 => "SCMP_ARCH_X86_64",
            Arch::X86 => "SCMP_ARCH_X86",
            Arch::X32 => "SCMP_ARCH_X32",
            Arch::Aarch64 => "SCMP_ARCH_AARCH64",
            Arch::Arm => "SCMP_ARCH_ARM",
            Arch::Riscv64 => "SCMP_ARCH_RISCV64",
        }
    }

    /// `AUDIT_ARCH_…` (linux/audit.h), which the kernel passes to the filter. x32 shares that of x86_64.
    pub const fn audit(self) -> u32 {
        match self {
            Arch::X86_64 | Arch::X32 => 0xc000_003e,
            Arch::X86 => 0x4000_0003,
            Arch::Aarch64 => 0xc000_00b7,
            Arch::Arm => 0x4000_0028,
            Arch::Riscv64 => 0xc000_00f3,
        }
    }

    /// Whether conditions look at all 64 bits of an argument. On 32-bit architectures, and on x32 as libseccomp has it,
    /// the upper halves of argument and value do not count.
    pub(super) const fn wide(self) -> bool {
        matches!(self, Arch::X86_64 | Arch::Aarch64 | Arch::Riscv64)
    }

    /// Column of the call table.
    pub(super) const fn column(self) -> usize {
        match self {
            Arch::X86_64 => 0,
            Arch::X86 => 1,
            Arch::X32 => 2,
            Arch::Aarch64 => 3,
            Arch::Arm => 4,
            Arch::Riscv64 => 5,
        }
    }

    /// Whether a kernel of `native` may run programs of `self`.
    const fn runs_on(self, native: Arch) -> bool {
        match native {
            Arch::X86_64 | Arch::X32 => matches!(self, Arch::X86_64 | Arch::X86 | Arch::X32),
            Arch::Aarch64 => matches!(self, Arch::Aarch64 | Arch::Arm),
            Arch::X86 => matches!(self, Arch::X86),
            Arch::Arm => matches!(self, Arch::Arm),
            Arch::Riscv64 => matches!(self, Arch::Riscv64),
        }
    }
}

/// What `name` means to a kernel of `native`; `None` if it is no architecture's name.
pub(super) fn named(name: &str, native: Arch) -> Option<Named> {
    if let Some(arch) = Arch::ALL.into_iter().find(|arch| arch.name() == name) {
        return Some(if arch.runs_on(native) { Named::Known(arch) } else { Named::Foreign });
    }
    match name.strip_prefix("SCMP_ARCH_")? {
        "LOONGARCH64" | "MIPSEL" | "MIPSEL64" | "MIPSEL64N32" | "PPC64LE" | "SH" => Some(Named::Foreign),
        "M68K" | "MIPS" | "MIPS64" | "MIPS64N32" | "PARISC" | "PARISC64" | "PPC" | "PPC64" | "S390" | "S390X"
        | "SHEB" => Some(Named::OtherEndian),
        _ => None,
    }
}
