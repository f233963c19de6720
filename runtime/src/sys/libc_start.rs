//! libc's start, as far as this program has a use for it.
//!
//! What glibc's own start does in a static program is a third of a short command's time: it asks an Intel processor 68 times
//! (cpuid) for features and caches, each time by way of the hypervisor where there is one, it reads tunables, its own path
//! and a search path for libraries. All of that is for the fastest copies of large memory and for loading code. This start
//! makes what the rest of glibc needs: the auxiliary vector, the functions that are chosen for the processor (the choice is
//! that for a processor without extensions), thread-local storage, the secrets of its frames and pointers, and the C locale.
//!
//! It calls by name what glibc keeps to itself. So it is built in only with releases of glibc whose start was read
//! (`build.rs`, `STARTS`), and only where the program is not relocated; otherwise `_start` is libc's. A program with more
//! privilege than its caller gets libc's, too: that one takes precautions.

use std::ffi::{c_char, c_int, c_long};

use super::start::Stack;

/// What is copied beside the cache from this many bytes on: three quarters of a cache of 1 MiB, as glibc takes it where it
/// does not know the processor.
const LARGE: c_long = 0xc_0000;

/// Elf64_Rela of elf(5).
#[repr(C)]
struct Rela {
    place: usize,
    info: u64,
    resolver: unsafe extern "C" fn() -> usize,
}

/// Elf64_Phdr of elf(5).
#[repr(C)]
struct Header {
    kind: u32,
    flags: u32,
    offset: usize,
    address: usize,
    physical: usize,
    in_file: usize,
    in_memory: usize,
    align: usize,
}

type Function = unsafe extern "C" fn(c_int, *const *const c_char, *const *const c_char);

unsafe extern "C" {
    static mut environ: *const *const c_char;
    static mut __libc_stack_end: *const usize;
    static mut __x86_shared_non_temporal_threshold: c_long;
    static mut __x86_rep_movsb_stop_threshold: c_long;
    static mut __x86_rep_movsb_threshold: c_long;
    static mut __x86_rep_stosb_threshold: c_long;
    #[cfg(libc_has = "memset-threshold")]
    static mut __x86_memset_non_temporal_threshold: c_long;
    // Set by the linker.
    static __rela_iplt_start: [Rela; 0];
    static __rela_iplt_end: [Rela; 0];
    static __preinit_array_start: [Function; 0];
    static __preinit_array_end: [Function; 0];
    static __init_array_start: [Function; 0];
    static __init_array_end: [Function; 0];
    fn _dl_aux_init(vector: *const [usize; 2]);
    fn __libc_setup_tls();
    fn __libc_early_init(initial: bool);
    fn main(argc: c_int, argv: *const *const c_char, environment: *const *const c_char) -> c_int;
}

/// Starts libc and goes on to `main`. Returns, and has done nothing, where that is better left to libc's own start.
///
/// # Safety
/// For the program's entry alone: nothing of libc may have run, and `stack` is where the kernel has laid the arguments.
pub(super) unsafe fn start(stack: Stack) {
    let (argc, argv, environment) = stack.words();
    // SAFETY: the environment is the kernel's.
    let vector = unsafe { vector_behind(environment) };
    // SAFETY: it is the kernel's, too.
    if unsafe { auxiliary(vector, libc::AT_SECURE) } != Some(0) {
        return;
    }
    // SAFETY: nothing else runs, and libc has not read it yet.
    unsafe { environ = environment };
    // SAFETY: likewise.
    unsafe { __libc_stack_end = stack.0 };
    // SAFETY: what the function wants is the vector, before anything else.
    unsafe { _dl_aux_init(vector) };
    // SAFETY: this is the program's start, and the vector has been read.
    unsafe { choose_functions() };
    // SAFETY: as glibc's start does, after the choice and before the first access to what is a thread's.
    unsafe { __libc_setup_tls() };
    // SAFETY: there is thread-local storage now, and nothing has a frame that would be checked.
    unsafe { set_guards(vector) };
    // SAFETY: the vector is the kernel's, and the choice above was the last write to what is protected.
    unsafe { protect_relocations(vector) };
    // SAFETY: the one call of it, for the first and only namespace of the linker.
    unsafe { __libc_early_init(true) };
    // SAFETY: libc has started; the arguments are the kernel's.
    unsafe { run_constructors(argc, argv, environment) };
    // SAFETY: as above.
    let status = unsafe { main(argc, argv, environment) };
    super::process::exit(status)
}

/// The auxiliary vector (getauxval(3)): what lies behind the environment.
///
/// # Safety
/// The environment ends with a null.
unsafe fn vector_behind(mut environment: *const *const c_char) -> *const [usize; 2] {
    // SAFETY: the end was not reached yet.
    while !unsafe { *environment }.is_null() {
        environment = environment.wrapping_add(1);
    }
    environment.wrapping_add(1).cast()
}

/// A value of the auxiliary vector (getauxval(3)).
///
/// # Safety
/// The vector ends with `AT_NULL`.
unsafe fn auxiliary(mut vector: *const [usize; 2], wanted: libc::c_ulong) -> Option<usize> {
    loop {
        // SAFETY: the end was not reached yet.
        let [kind, value] = unsafe { *vector };
        match kind as libc::c_ulong {
            libc::AT_NULL => return None,
            kind if kind == wanted => return Some(value),
            _ => vector = vector.wrapping_add(1),
        }
    }
}

/// Lets each function of which there are several say which one it is to be. They ask what libc has found out about the
/// processor, which is nothing.
///
/// # Safety
/// Once, and before any of these functions is called.
unsafe fn choose_functions() {
    let (mut entry, end) = (&raw const __rela_iplt_start as *const Rela, &raw const __rela_iplt_end as *const Rela);
    while entry != end {
        // SAFETY: the linker has laid entries of this kind between the two.
        let Rela { place, resolver, .. } = unsafe { entry.read() };
        // SAFETY: resolvers call nothing and need nothing that is not there yet.
        let chosen = unsafe { resolver() };
        // SAFETY: the place is a variable of the program's, which the linker has made for this.
        unsafe { (place as *mut usize).write(chosen) };
        entry = entry.wrapping_add(1);
    }
    // One of the resolvers has copied here what was found out. Not zero: all large copies would take the way past the cache,
    // which is made for whole pages.
    // SAFETY: nothing else runs.
    unsafe { __x86_shared_non_temporal_threshold = LARGE };
    // SAFETY: likewise.
    unsafe { __x86_rep_movsb_stop_threshold = LARGE };
    // SAFETY: likewise; glibc's own default.
    unsafe { __x86_rep_movsb_threshold = 2048 };
    // SAFETY: likewise.
    unsafe { __x86_rep_stosb_threshold = 2048 };
    #[cfg(libc_has = "memset-threshold")]
    // SAFETY: likewise.
    unsafe {
        __x86_memset_non_temporal_threshold = LARGE;
    }
}

/// The secrets by which libc finds out that a frame or a stored pointer was written over: sixteen random bytes of the
/// kernel's, laid into the thread's control block where the architecture's ABI has them.
///
/// # Safety
/// The thread's control block is there, and no function that checks its frame is being executed.
unsafe fn set_guards(vector: *const [usize; 2]) {
    // SAFETY: the caller's promise.
    let Some(random) = (unsafe { auxiliary(vector, libc::AT_RANDOM) }) else { return };
    // SAFETY: the kernel gives the address of sixteen bytes.
    let [frames, pointers] = unsafe { (random as *const [u64; 2]).read_unaligned() };
    // The lowest byte is zero: what copies a string over the secret ends there.
    // SAFETY: these words of the control block are for this, and nothing else runs.
    unsafe {
        std::arch::asm!(
            "mov fs:[0x28], {frames}",
            "mov fs:[0x30], {pointers}",
            frames = in(reg) frames & !0xff,
            pointers = in(reg) pointers,
            options(nostack, preserves_flags),
        );
    }
}

/// What was written by the choice of functions is not to be written again: PT_GNU_RELRO of elf(5).
///
/// # Safety
/// The vector is the kernel's.
unsafe fn protect_relocations(vector: *const [usize; 2]) {
    const PT_GNU_RELRO: u32 = 0x6474_e552;
    const PAGE: usize = 4096;
    // SAFETY: the caller's promise.
    let Some(headers) = (unsafe { auxiliary(vector, libc::AT_PHDR) }) else { return };
    // SAFETY: likewise.
    let count = unsafe { auxiliary(vector, libc::AT_PHNUM) }.unwrap_or(0);
    for i in 0..count {
        // SAFETY: there are so many headers at this address.
        let header = unsafe { (headers as *const Header).wrapping_add(i).read() };
        if header.kind == PT_GNU_RELRO {
            let (start, end) = (header.address & !(PAGE - 1), (header.address + header.in_memory) & !(PAGE - 1));
            // Refused, it is as if the program had no such part.
            // SAFETY: the linker has laid nothing there that is written after the start.
            unsafe { libc::mprotect(start as *mut _, end - start, libc::PROT_READ) };
        }
    }
}

/// Calls what the linker has gathered to be called before `main`: so the standard library learns of the arguments.
///
/// # Safety
/// Once, after libc's start.
unsafe fn run_constructors(argc: c_int, argv: *const *const c_char, environment: *const *const c_char) {
    let both = [
        (&raw const __preinit_array_start as *const Function, &raw const __preinit_array_end as *const Function),
        (&raw const __init_array_start as *const Function, &raw const __init_array_end as *const Function),
    ];
    for (mut function, end) in both {
        while function != end {
            // SAFETY: the linker has laid functions of this kind between the two.
            let constructor = unsafe { function.read() };
            // SAFETY: this is what they are to be called with.
            unsafe { constructor(argc, argv, environment) };
            function = function.wrapping_add(1);
        }
    }
}
