//! Giving memory back: madvise(2), MADV_DONTNEED, of what a process will not need again. And sharing it: mmap(2).

use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::AtomicU64;

use super::alloc;

const PAGE: usize = 4096;
const MADV_DONTNEED: i32 = 4;

unsafe extern "C" {
    /// The beginning of the program, as the linker lays it out.
    static __executable_start: u8;
    /// The end of its code.
    static etext: u8;
}

/// From the first to the last page of the program's code and constants.
fn text() -> (usize, usize) {
    // The symbols have addresses and nothing else.
    let (start, end) = (&raw const __executable_start as usize, &raw const etext as usize);
    (start & !(PAGE - 1), end.next_multiple_of(PAGE))
}

/// Lets go of the pages of code that were used so far. Those that are needed again come from the page cache: a phase of a
/// command need not carry the code of the phases before it.
pub fn forget_code() {
    let (start, end) = text();
    // SAFETY: the range is the program's own code and constants, mapped read-only from its file: what is dropped is read
    // from there again.
    unsafe { libc::madvise(start as *mut _, end - start, MADV_DONTNEED) };
}

/// So many zeros that whatever this process clones shares with it. They are never given back.
pub fn shared(cells: usize) -> super::Result<&'static [AtomicU64]> {
    let size = (cells * size_of::<AtomicU64>()).max(1);
    let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
    // SAFETY: a new mapping at an address of the kernel's choice touches nothing that is there.
    let start = unsafe { libc::mmap(std::ptr::null_mut(), size, access, kind, -1, 0) };
    if start == libc::MAP_FAILED {
        return Err(super::Fault::new(super::Call::mmap, super::last_errno()));
    }
    // SAFETY: the mapping is page-aligned, zeroed, as long as the slice and never unmapped; zeros are valid atomics.
    Ok(unsafe { std::slice::from_raw_parts(start.cast(), cells) })
}

/// Where the allocator stands: what is allocated after lies behind it.
pub fn mark() -> usize {
    let (base, used) = alloc::arena();
    base + used
}

/// Drops everything that was allocated before `mark`, and all code but the few bytes that wait; then waits for a byte.
///
/// A container that was created and not started costs its host what its init holds. Afterwards the dropped memory reads as
/// zeros: the caller must never touch it again.
pub fn park(fd: BorrowedFd<'_>, mark: usize) -> super::Result<()> {
    let (base, _) = alloc::arena();
    let heap = (base, (mark & !(PAGE - 1)).saturating_sub(base));
    let (start, end) = text();
    let mut byte = 0u8;
    // What deeper calls left on the stack, below this one.
    const DEPTH: usize = 256 << 10;
    let below = (&raw const byte as usize & !(PAGE - 1)) - PAGE;
    // SAFETY: nothing lives below the frame of this function and the page that its callees use; where the stack never
    // reached, there is nothing mapped, which the call answers with an errno that does not matter.
    unsafe { libc::madvise((below - DEPTH) as *mut _, DEPTH, MADV_DONTNEED) };
    loop {
        let n = wait_small(fd.as_raw_fd(), &raw mut byte, heap, (start, end - start));
        match n {
            1.. => return Ok(()),
            // The end of a pipe that is held open for writing here, too, cannot come; a signal may.
            _ if n == 0 || n == -i64::from(libc::EINTR) => {}
            _ => return Err(super::Fault::new(super::Call::read, i32::try_from(-n).unwrap_or(0))),
        }
    }
}

/// Two madvise(2) calls and a read(2) from one page of code.
///
/// The kernel maps sixteen pages around each one that is touched, within the mapping; MADV_RANDOM on this page alone makes
/// it a mapping of its own, so that it comes back alone.
#[cfg(target_arch = "x86_64")]
#[inline(never)]
fn wait_small(fd: i32, byte: *mut u8, heap: (usize, usize), code: (usize, usize)) -> i64 {
    const MADV_RANDOM: i32 = 1;
    let here = wait_small as *const () as usize & !(PAGE - 1);
    // SAFETY: this only tells the kernel how the two pages that hold this function will be read.
    unsafe { libc::madvise(here as *mut _, 2 * PAGE, MADV_RANDOM) };
    let answer: i64;
    // SAFETY: the first two calls drop pages: those of the heap by the contract of `park`, those of the code come back from
    // the file. The third writes at most one byte to `byte`, which is valid. Only the registers named are changed.
    unsafe {
        core::arch::asm!(
            "mov eax, 28", // madvise
            "mov edx, 4",
            "syscall",
            "mov rdi, r12",
            "mov rsi, r13",
            "mov eax, 28",
            "mov edx, 4",
            "syscall",
            "mov edi, r14d",
            "mov rsi, r15",
            "mov edx, 1",
            "xor eax, eax", // read
            "syscall",
            inout("rdi") heap.0 => _,
            inout("rsi") heap.1 => _,
            in("r12") code.0,
            in("r13") code.1,
            in("r14") fd,
            in("r15") byte,
            out("rdx") _,
            out("rcx") _,
            out("r11") _,
            lateout("rax") answer,
            options(nostack),
        );
    }
    answer
}

/// The same by libc, where this program has no words of its own.
#[cfg(not(target_arch = "x86_64"))]
fn wait_small(fd: i32, byte: *mut u8, heap: (usize, usize), code: (usize, usize)) -> i64 {
    for (start, len) in [heap, code] {
        // SAFETY: the heap is dropped by the contract of `park`; code comes back from the file.
        unsafe { libc::madvise(start as *mut _, len, MADV_DONTNEED) };
    }
    // SAFETY: `byte` is writable.
    let n = unsafe { libc::read(fd, byte.cast(), 1) };
    if n < 0 { -i64::from(super::last_errno()) } else { n as i64 }
}
