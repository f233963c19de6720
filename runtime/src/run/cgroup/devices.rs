//! The device program of a version 2 cgroup.

use std::os::fd::AsFd;

use nix::errno::Errno;

use super::{Error, Result};
use crate::compile::cgroup::{DeviceProgram, Group, Version};
use crate::sys::bpf;

/// Makes `program` the one that decides about devices in this cgroup.
///
/// Where there is one already, the two change places at one stroke. Of several, and on a kernel that cannot do that, those
/// before it are detached when it is attached: for a moment all must agree, and never is none there.
///
/// # Errors
/// What bpf(2) says; `EPERM` without CAP_SYS_ADMIN (or CAP_BPF and CAP_NET_ADMIN).
pub fn attach(group: &Group, program: &DeviceProgram) -> Result<()> {
    if group.version != Version::V2 {
        return Err(Error::refused(format!("{} is no cgroup v2, which device programs need", group.dir())));
    }
    let failed = |step: &str| {
        let what = format!("{step} of {}", group.dir());
        move |e: std::io::Error| explain(Error::call(what, Errno::from_raw(e.raw_os_error().unwrap_or(0))))
    };
    let dir = std::fs::File::open(group.dir()).map_err(failed("open the directory"))?;
    let insns: Vec<[u8; 8]> = program.insns.iter().map(|i| i.encode()).collect();
    let loaded = bpf::load_device_program(&insns).map_err(failed("load the device program"))?;
    let before = bpf::device_programs(dir.as_fd()).map_err(failed("query the device programs"))?;
    let open = |id: &u32| bpf::program_by_id(*id).map_err(failed("open an older device program"));
    let before = before.iter().map(open).collect::<Result<Vec<_>>>()?;
    if let [old] = before.as_slice()
        && bpf::replace_device_program(dir.as_fd(), old.as_fd(), loaded.as_fd()).is_ok()
    {
        return Ok(());
    }
    bpf::attach_device_program(dir.as_fd(), loaded.as_fd()).map_err(failed("attach the device program"))?;
    for old in before {
        bpf::detach_device_program(dir.as_fd(), old.as_fd()).map_err(failed("detach an older device program"))?;
    }
    Ok(())
}

fn explain(error: Error) -> Error {
    match error.errno {
        Some(Errno::EPERM) => error.hint("device programs need CAP_SYS_ADMIN outside of any user namespace"),
        Some(Errno::ENOSYS | Errno::EINVAL) => error.hint("this kernel needs CONFIG_CGROUP_BPF"),
        _ => error,
    }
}
