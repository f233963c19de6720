//! What happens before libc starts: the program executes itself anew from a protected clone (see [`crate::protect`]).
//!
//! A program that is about to replace itself needs no libc, no thread-local storage and no heap: setting those up is a dozen
//! system calls and forty touched pages. So the program's entry is here, and libc's own comes after. Nothing is decided
//! here for good: whatever this does not see through, [`crate::protect::executable`] looks at again.
//!
//! Nothing may be called here: libc's functions for strings and memory are chosen for the processor by libc's start. Which
//! is our own where it can be (`libc_start.rs`).

use std::sync::atomic::{AtomicBool, Ordering};

#[cfg(all(own_libc_start, not(test)))]
pub(super) use entry::Stack;

static PROTECTED: AtomicBool = AtomicBool::new(false);

/// Whether the program was found to run from a read-only mount that is attached nowhere.
pub fn is_protected() -> bool {
    PROTECTED.load(Ordering::Relaxed)
}

#[cfg(target_arch = "x86_64")]
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "what the kernel takes and answers are registers of 64 bits, as are all of these types on this architecture"
)]
mod entry {
    use std::arch::{asm, naked_asm};
    use std::ffi::{c_char, c_int};
    use std::mem::MaybeUninit;
    use std::sync::atomic::Ordering;

    const AT_FDCWD: usize = libc::AT_FDCWD as usize;
    const AT_EMPTY_PATH: usize = libc::AT_EMPTY_PATH as usize;
    const CLONE_CLOEXEC: usize = 1 | libc::O_CLOEXEC as usize;
    const SELF: *const u8 = c"/proc/self/exe".as_ptr().cast();

    /// The entry of the program, which `build.rs` names to the linker: like libc's, which it goes on to, it begins with
    /// argc, argv and the environment on the stack and a function for libc in `rdx`.
    ///
    /// # Safety
    /// For the kernel alone.
    #[unsafe(naked)]
    #[unsafe(no_mangle)]
    pub(super) unsafe extern "C" fn tare_start() -> ! {
        naked_asm!(
            "xor ebp, ebp",
            "mov rbx, rdx",
            "mov r12, rsp",
            "mov rdi, rsp",
            "call {before}",
            "mov rdx, rbx",
            "mov rsp, r12",
            "jmp _start",
            before = sym begin,
        )
    }

    /// What the kernel has laid on the stack: argc, argv and a null, the environment and a null, the auxiliary vector.
    #[derive(Clone, Copy)]
    #[repr(transparent)]
    pub(in crate::sys) struct Stack(pub(in crate::sys) *const usize);

    impl Stack {
        /// argc, argv and the environment.
        pub(in crate::sys) fn words(self) -> (c_int, *const *const c_char, *const *const c_char) {
            // SAFETY: a stack is made by the program's entry alone, from what the kernel gives it.
            let argc = unsafe { *self.0 };
            let argv = self.0.wrapping_add(1);
            (argc as c_int, argv.cast(), argv.wrapping_add(argc + 1).cast())
        }
    }

    /// What comes before `main`. Returns where libc's own start is to go on.
    unsafe extern "C" fn begin(stack: Stack) {
        protect(stack);
        #[cfg(all(own_libc_start, not(test)))]
        // SAFETY: this is the program's entry, and nothing has run but what needs no libc.
        unsafe {
            crate::sys::libc_start::start(stack);
        }
    }

    /// A system call of up to five arguments, each a register: an array of them would be copied, by a call.
    #[inline(always)]
    fn call(number: i64, a: usize, b: usize, c: usize, d: usize, e: usize) -> isize {
        let answer;
        // SAFETY: the callers pass the kernel what the call's manual page says, and memory that lives.
        unsafe {
            asm!(
                "syscall",
                inlateout("rax") number as isize => answer,
                in("rdi") a,
                in("rsi") b,
                in("rdx") c,
                in("r10") d,
                in("r8") e,
                out("rcx") _,
                out("r11") _,
                options(nostack),
            );
        }
        answer
    }

    /// Executes the program anew where a command of the command line may need it. Returns where it need not, or cannot.
    fn protect(stack: Stack) {
        let (argc, argv, environment) = stack.words();
        if !names_a_command(argc, argv) {
            return;
        }
        let mut place = MaybeUninit::<libc::statfs64>::uninit();
        if call(libc::SYS_statfs, SELF as usize, place.as_mut_ptr() as usize, 0, 0, 0) != 0 {
            return;
        }
        // SAFETY: the call succeeded and filled it.
        let flags = unsafe { (*place.as_ptr()).f_flags };
        if flags & libc::ST_RDONLY as i64 != 0 {
            // The root of a mount that is nowhere is called `/`, which no other file can be.
            let mut name = 0u16;
            if call(libc::SYS_readlink, SELF as usize, &raw mut name as usize, size_of::<u16>(), 0, 0) == 1 {
                super::PROTECTED.store(true, Ordering::Relaxed);
                return;
            }
        }
        let tree = call(libc::SYS_open_tree, AT_FDCWD, SELF as usize, CLONE_CLOEXEC, 0, 0);
        if tree < 0 {
            return;
        }
        let readonly: [u64; 4] = [crate::abi::attr::RDONLY, 0, 0, 0];
        let (fd, empty, attr) = (tree as usize, c"".as_ptr() as usize, &raw const readonly as usize);
        if call(libc::SYS_mount_setattr, fd, empty, AT_EMPTY_PATH, attr, size_of::<[u64; 4]>()) == 0 {
            call(libc::SYS_execveat, fd, empty, argv as usize, environment as usize, AT_EMPTY_PATH);
        }
        call(libc::SYS_close, fd, 0, 0, 0, 0);
    }

    /// Whether any word but the first is the name of a command that enters a container.
    fn names_a_command(argc: c_int, argv: *const *const c_char) -> bool {
        let mut i = 1;
        while i < argc {
            // SAFETY: below argc there are strings.
            let word = unsafe { *argv.wrapping_add(i as usize) }.cast();
            if is(word, b"create\0") || is(word, b"run\0") || is(word, b"exec\0") {
                return true;
            }
            i += 1;
        }
        false
    }

    /// Compares a string with one that ends in NUL. Read so that the compiler makes no call of it.
    fn is(string: *const u8, wanted: &[u8]) -> bool {
        let mut i = 0;
        while i < wanted.len() {
            // SAFETY: all before was equal and no NUL, so the string goes on.
            if unsafe { string.wrapping_add(i).read_volatile() } != wanted[i] {
                return false;
            }
            i += 1;
        }
        true
    }
}
