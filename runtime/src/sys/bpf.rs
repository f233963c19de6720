//! bpf(2), as far as device programs of cgroups need it.

use std::io::{Error, Result};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

const PROG_LOAD: i32 = 5;
const PROG_ATTACH: i32 = 8;
const PROG_DETACH: i32 = 9;
const PROG_GET_FD_BY_ID: i32 = 13;
const PROG_QUERY: i32 = 16;
/// `BPF_PROG_TYPE_CGROUP_DEVICE`
const TYPE_CGROUP_DEVICE: u32 = 15;
/// `BPF_CGROUP_DEVICE`
const CGROUP_DEVICE: u32 = 6;
/// `BPF_F_ALLOW_MULTI`
const ALLOW_MULTI: u32 = 2;
/// `BPF_F_REPLACE` (5.6)
const REPLACE: u32 = 4;

/// The first fields of `union bpf_attr` for PROG_LOAD; the kernel takes what follows as zero.
#[repr(C)]
#[derive(Default)]
struct Load {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
}

/// The same for PROG_ATTACH and PROG_DETACH.
#[repr(C)]
#[derive(Default)]
struct Attach {
    target_fd: i32,
    attach_bpf_fd: i32,
    attach_type: u32,
    attach_flags: u32,
    replace_bpf_fd: u32,
}

/// The same for PROG_QUERY.
#[repr(C)]
#[derive(Default)]
struct Query {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
    pad: u32,
}

/// The same for PROG_GET_FD_BY_ID.
#[repr(C)]
#[derive(Default)]
struct ById {
    id: u32,
    next_id: u32,
    open_flags: u32,
}

/// # Safety
/// Every address in `attr` must be valid for what `command` does with it.
unsafe fn bpf<T>(command: i32, attr: &mut T) -> Result<i32> {
    let address = std::ptr::from_mut(attr);
    // SAFETY: `attr` is a live, exclusively borrowed value of the size that is given; what it points to is the caller's.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, command, address, size_of::<T>()) };
    match i32::try_from(answer) {
        Ok(n) if n >= 0 => Ok(n),
        _ => Err(Error::last_os_error()),
    }
}

fn owned(fd: RawFd) -> OwnedFd {
    // SAFETY: the kernel has just made this descriptor for the caller alone.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

fn address<T>(data: &[T]) -> u64 {
    data.as_ptr() as u64
}

/// Loads a device program: instructions as `struct bpf_insn`, eight bytes each.
///
/// # Errors
/// `EPERM` without privilege, `EINVAL` where the kernel lacks device programs or the verifier refuses this one.
pub fn load_device_program(insns: &[[u8; 8]]) -> Result<OwnedFd> {
    let license = b"Apache-2.0\0";
    let mut attr = Load {
        prog_type: TYPE_CGROUP_DEVICE,
        insn_cnt: u32::try_from(insns.len()).unwrap_or(u32::MAX),
        insns: address(insns),
        license: address(license),
        ..Load::default()
    };
    attr.prog_name[..7].copy_from_slice(b"devices");
    // SAFETY: `insns` holds `insn_cnt` instructions and `license` a terminated string; both outlive the call, which reads
    // them only.
    unsafe { bpf(PROG_LOAD, &mut attr) }.map(owned)
}

fn attachment(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Attach {
    Attach {
        target_fd: cgroup.as_raw_fd(),
        attach_bpf_fd: program.as_raw_fd(),
        attach_type: CGROUP_DEVICE,
        ..Attach::default()
    }
}

/// Attaches a device program to a cgroup, beside those that are attached already: a device is allowed if all allow it.
///
/// # Errors
/// `EPERM` without privilege, or where a cgroup above has a program that must stay alone.
pub fn attach_device_program(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<()> {
    let mut attr = Attach { attach_flags: ALLOW_MULTI, ..attachment(cgroup, program) };
    // SAFETY: the attributes hold no address.
    unsafe { bpf(PROG_ATTACH, &mut attr) }.map(drop)
}

/// Puts a device program in the place of another, at one stroke.
///
/// # Errors
/// `ENOENT` where the other is not attached; `EINVAL` where the kernel cannot do it (before 5.6), or where the other is
/// attached to be alone.
pub fn replace_device_program(cgroup: BorrowedFd<'_>, old: BorrowedFd<'_>, new: BorrowedFd<'_>) -> Result<()> {
    let replace_bpf_fd = u32::try_from(old.as_raw_fd()).unwrap_or(u32::MAX);
    let mut attr = Attach { attach_flags: ALLOW_MULTI | REPLACE, replace_bpf_fd, ..attachment(cgroup, new) };
    // SAFETY: the attributes hold no address.
    unsafe { bpf(PROG_ATTACH, &mut attr) }.map(drop)
}

/// Detaches a device program from a cgroup.
///
/// # Errors
/// `ENOENT` where it is not attached.
pub fn detach_device_program(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<()> {
    let mut attr = attachment(cgroup, program);
    // SAFETY: the attributes hold no address.
    unsafe { bpf(PROG_DETACH, &mut attr) }.map(drop)
}

/// The ids of the device programs that are attached to a cgroup itself, 64 at the most.
///
/// # Errors
/// `EINVAL` where the kernel lacks device programs; `ENOSPC` for more than 64.
pub fn device_programs(cgroup: BorrowedFd<'_>) -> Result<Vec<u32>> {
    let mut ids = vec![0u32; 64];
    let mut attr = Query {
        target_fd: u32::try_from(cgroup.as_raw_fd()).unwrap_or(u32::MAX),
        attach_type: CGROUP_DEVICE,
        prog_ids: ids.as_mut_ptr() as u64,
        prog_cnt: 64,
        ..Query::default()
    };
    // SAFETY: `prog_ids` is room for the `prog_cnt` ids that the kernel may write, and outlives the call.
    unsafe { bpf(PROG_QUERY, &mut attr) }?;
    ids.truncate(usize::try_from(attr.prog_cnt).unwrap_or(0));
    Ok(ids)
}

/// Opens a program by its id.
///
/// # Errors
/// `ENOENT` where it is gone.
pub fn program_by_id(id: u32) -> Result<OwnedFd> {
    let mut attr = ById { id, ..ById::default() };
    // SAFETY: the attributes hold no address.
    unsafe { bpf(PROG_GET_FD_BY_ID, &mut attr) }.map(owned)
}
