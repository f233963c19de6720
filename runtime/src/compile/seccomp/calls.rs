//! System calls by name: their number on each architecture, and how x86 multiplexes some of them.

use super::arch::{Arch, X32_BIT};
use super::table::CALLS;

/// In the table: this architecture has no such call.
pub(super) const NONE: u16 = u16::MAX;

/// In the table: the private calls of arm, whose numbers start at `__ARM_NR_BASE`.
const ARM_PRIVATE: u16 = 0xf000;
const ARM_NR_BASE: u32 = 0xf_0000;

/// One system call. Small on purpose: the table is read by every `create`, and each of its pages costs a fault.
pub(super) struct Call {
    name: &'static str,
    numbers: [u16; 6],
    multiplexed: u8,
}

impl Call {
    pub(super) const fn new(name: &'static str, numbers: [u16; 6], multiplexed: u8) -> Self {
        Call { name, numbers, multiplexed }
    }

    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    /// The number on `arch`.
    pub(super) fn number(&self, arch: Arch) -> Option<u32> {
        match self.numbers.get(arch.column()).copied()? {
            NONE => None,
            private if private >= ARM_PRIVATE => Some(ARM_NR_BASE + u32::from(private - ARM_PRIVATE)),
            number if arch == Arch::X32 => Some(u32::from(number) | X32_BIT),
            number => Some(u32::from(number)),
        }
    }

    /// On x86, the call that this one may also be made through, and the value of its first argument then
    /// (socketcall(2), ipc(2); the numbers are those of linux/net.h and linux/ipc.h).
    pub(super) fn multiplexed(&self) -> Option<(u32, u64)> {
        const SOCKETCALL: u32 = 102;
        const IPC: u32 = 117;
        match self.multiplexed {
            0 => None,
            call @ 100..=199 => Some((SOCKETCALL, u64::from(call - 100))),
            call => Some((IPC, u64::from(call.saturating_sub(200)))),
        }
    }
}

/// The call of that name.
pub(super) fn find(name: &str) -> Option<&'static Call> {
    CALLS.get(CALLS.binary_search_by(|call| call.name.cmp(name)).ok()?)
}

/// The number of the call `name` on `arch`; of x32 with bit 30. `None` if there is no such call.
pub fn call_number(name: &str, arch: Arch) -> Option<u32> {
    find(name)?.number(arch)
}

/// The call of x86 through which `name` may also be made, and the first argument that then selects it.
pub fn call_multiplexed(name: &str) -> Option<(u32, u64)> {
    find(name)?.multiplexed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_by_name_and_a_number_has_one_name() {
        assert!(CALLS.is_sorted_by(|a, b| a.name < b.name));
        for arch in Arch::ALL {
            let mut numbers: Vec<u32> = CALLS.iter().filter_map(|call| call.number(arch)).collect();
            numbers.sort_unstable();
            assert!(numbers.len() > 300, "{arch:?} has {} calls", numbers.len());
            assert!(numbers.is_sorted_by(|a, b| a < b), "{arch:?} has a number twice");
        }
    }

    #[test]
    fn numbers_are_those_of_the_kernel() {
        let number = |name, arch| find(name).and_then(|call| call.number(arch));
        assert_eq!(number("read", Arch::X86_64), Some(0));
        assert_eq!(number("execve", Arch::X32), Some(520 | X32_BIT));
        assert_eq!(number("socketcall", Arch::X86_64), None);
        assert_eq!(number("openat", Arch::Aarch64), Some(56));
        assert_eq!(number("set_tls", Arch::Arm), Some(0xf_0005));
        assert_eq!(number("mseal", Arch::Riscv64), Some(462));
        assert_eq!(find("shmat").and_then(Call::multiplexed), Some((117, 21)));
        assert_eq!(find("socket").and_then(Call::multiplexed), Some((102, 1)));
        assert!(find("nosuchcall").is_none());
    }
}
