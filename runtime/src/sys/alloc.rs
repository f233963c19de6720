//! The allocator of a program that lives for milliseconds: memory is taken in a row and hardly ever given back.
//!
//! One arena in the program's own zeroed memory costs no call to get and no page until it is touched; a container's init can
//! drop all of it with one madvise(2) once it needs nothing of it. What does not fit goes to libc's allocator, which gives
//! back, so that a command that runs for long stays bounded.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicUsize, Ordering};

const SIZE: usize = 2 << 20;

/// The arena. The runtime has one thread; the counter is atomic only because a static must be `Sync`.
#[repr(align(4096))]
struct Arena(UnsafeCell<[u8; SIZE]>);

// SAFETY: every byte is handed out once at a time, by an atomic counter.
unsafe impl Sync for Arena {}

// By its name it is laid behind all other variables (`order.ld`), which then share pages.
#[unsafe(link_section = ".bss.arena")]
static ARENA: Arena = Arena(UnsafeCell::new([0; SIZE]));
static USED: AtomicUsize = AtomicUsize::new(0);

/// Takes from the arena, else from libc.
pub struct Bump;

fn base() -> usize {
    ARENA.0.get() as usize
}

fn is_ours(ptr: *mut u8) -> bool {
    (ptr as usize).wrapping_sub(base()) < SIZE
}

/// Takes `size` bytes at this alignment; `None` when the arena is full.
fn take(size: usize, align: usize) -> Option<usize> {
    let mut used = USED.load(Ordering::Relaxed);
    loop {
        let start = used.checked_add(align - 1)? & !(align - 1);
        let end = start.checked_add(size).filter(|end| *end <= SIZE)?;
        match USED.compare_exchange_weak(used, end, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => return Some(start),
            Err(now) => used = now,
        }
    }
}

// SAFETY: memory from the arena is aligned, disjoint and never moved; everything else is libc's.
unsafe impl GlobalAlloc for Bump {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match take(layout.size(), layout.align()) {
            Some(start) => (base() + start) as *mut u8,
            // SAFETY: the caller's promises are passed on.
            None => unsafe { System.alloc(layout) },
        }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        if !is_ours(ptr) {
            // SAFETY: what is not of the arena came from libc, with this layout.
            return unsafe { System.dealloc(ptr, layout) };
        }
        // The last one taken can be given back; it is the common case of a string that is built and dropped.
        let start = ptr as usize - base();
        let _ = USED.compare_exchange(start + layout.size(), start, Ordering::Relaxed, Ordering::Relaxed);
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if !is_ours(ptr) {
            // SAFETY: what is not of the arena came from libc, with this layout.
            return unsafe { System.realloc(ptr, layout, size) };
        }
        let start = ptr as usize - base();
        let end = start + layout.size();
        // The last one taken grows or shrinks where it is.
        if start + size <= SIZE
            && USED.compare_exchange(end, start + size, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        {
            return ptr;
        }
        if size <= layout.size() {
            return ptr;
        }
        // SAFETY: the caller promises a valid layout of the new size.
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        // SAFETY: the caller promises that the size is not zero.
        let new = unsafe { self.alloc(wanted) };
        if !new.is_null() {
            // SAFETY: the old block has at least that many bytes, and the new one is disjoint from it.
            unsafe { std::ptr::copy_nonoverlapping(ptr, new, layout.size()) };
        }
        new
    }
}

/// The arena's pages as they are in use: address and length.
pub fn arena() -> (usize, usize) {
    (base(), USED.load(Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_aligned_disjoint_and_grow_in_place_when_last() {
        let layout = |size| Layout::from_size_align(size, 64).unwrap();
        // SAFETY: the layout is valid and not empty.
        let a = unsafe { Bump.alloc(layout(10)) };
        // SAFETY: as above.
        let b = unsafe { Bump.alloc(layout(10)) };
        assert!((a as usize).is_multiple_of(64) && b as usize >= a as usize + 10);
        // SAFETY: the block has ten bytes.
        unsafe { a.write_bytes(7, 10) };
        // SAFETY: the block lives and has this layout.
        assert_eq!(unsafe { Bump.realloc(b, layout(10), 100) }, b);
        // SAFETY: as above.
        let moved = unsafe { Bump.realloc(a, layout(10), 100) };
        // SAFETY: the block has a hundred bytes.
        let last = unsafe { moved.add(9) };
        // SAFETY: it was written before the block moved.
        assert!(moved != a && unsafe { *last } == 7);
        // SAFETY: the layout is valid and not empty.
        assert!(!unsafe { Bump.alloc(layout(4 << 20)) }.is_null());
    }
}
