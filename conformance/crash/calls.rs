//! Which system calls are points.

use nix::libc;

/// Calls that change something outside of the memory of the process: what can be left behind, and what can be half done.
#[rustfmt::skip]
const CHANGING: &[i64] = &[
    libc::SYS_clone, libc::SYS_clone3, libc::SYS_execve, libc::SYS_execveat, libc::SYS_unshare, libc::SYS_setns,
    libc::SYS_mkdirat, libc::SYS_mknodat, libc::SYS_symlinkat, libc::SYS_linkat, libc::SYS_unlinkat, libc::SYS_renameat2,
    libc::SYS_fchmod, libc::SYS_fchmodat, libc::SYS_fchown, libc::SYS_fchownat, libc::SYS_ftruncate, libc::SYS_fallocate,
    libc::SYS_write, libc::SYS_writev, libc::SYS_pwrite64, libc::SYS_sendfile, libc::SYS_copy_file_range,
    libc::SYS_openat, libc::SYS_openat2, libc::SYS_flock, libc::SYS_memfd_create, libc::SYS_pipe2, libc::SYS_fcntl,
    libc::SYS_dup, libc::SYS_dup3, libc::SYS_close_range, libc::SYS_chdir, libc::SYS_fchdir, libc::SYS_chroot,
    libc::SYS_mount, libc::SYS_umount2, libc::SYS_pivot_root, libc::SYS_fsopen, libc::SYS_fsconfig, libc::SYS_fsmount,
    libc::SYS_move_mount, libc::SYS_open_tree, libc::SYS_mount_setattr,
    libc::SYS_setresuid, libc::SYS_setresgid, libc::SYS_setuid, libc::SYS_setgid, libc::SYS_setgroups, libc::SYS_capset,
    libc::SYS_prctl, libc::SYS_prlimit64, libc::SYS_setsid, libc::SYS_setpgid, libc::SYS_seccomp,
    libc::SYS_personality, libc::SYS_keyctl, libc::SYS_sethostname, libc::SYS_setdomainname, libc::SYS_bpf,
    libc::SYS_sched_setaffinity, libc::SYS_sched_setattr, libc::SYS_ioprio_set,
    libc::SYS_kill, libc::SYS_tgkill, libc::SYS_pidfd_open, libc::SYS_pidfd_send_signal, libc::SYS_pidfd_getfd,
    libc::SYS_socket, libc::SYS_socketpair, libc::SYS_connect, libc::SYS_sendmsg, libc::SYS_sendto, libc::SYS_ioctl,
];

/// The older names of the same, which this architecture has beside them.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const OLDER: &[i64] = &[
    libc::SYS_open, libc::SYS_creat, libc::SYS_mkdir, libc::SYS_mknod, libc::SYS_rmdir, libc::SYS_unlink, libc::SYS_rename,
    libc::SYS_renameat, libc::SYS_link, libc::SYS_symlink, libc::SYS_chmod, libc::SYS_chown, libc::SYS_lchown,
    libc::SYS_fork, libc::SYS_vfork, libc::SYS_dup2, libc::SYS_pipe,
];
#[cfg(not(target_arch = "x86_64"))]
const OLDER: &[i64] = &[libc::SYS_renameat];

/// Calls that wait, which a signal can interrupt.
const WAITING: &[i64] = &[libc::SYS_read, libc::SYS_ppoll, libc::SYS_waitid, libc::SYS_wait4, libc::SYS_recvmsg];

/// Whether a call is a point.
pub(crate) fn is_point(number: i64, interrupted: bool) -> bool {
    CHANGING.contains(&number) || OLDER.contains(&number) || (interrupted && WAITING.contains(&number))
}
