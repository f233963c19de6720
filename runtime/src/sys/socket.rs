//! UNIX sockets: handing a descriptor over (unix(7), SCM_RIGHTS). Netlink sockets (netlink(7)).

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use super::{Call, Fault, Result, check};

/// A connected stream socket to a path. A path longer than a socket address is an error.
pub fn connect(path: &CStr) -> Result<OwnedFd> {
    connect_within(path, Duration::ZERO)
}

/// The same, where a listener that accepts nobody is waited for no longer than that (EAGAIN); zero is without an end.
pub fn connect_within(path: &CStr, patience: Duration) -> Result<OwnedFd> {
    // SAFETY: socket takes integers.
    let fd = check(Call::socket, unsafe { libc::socket(libc::AF_UNIX, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: the kernel has just given us this descriptor, so nobody else owns it.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    if !patience.is_zero() {
        set_send_timeout(&socket, patience)?;
    }
    // SAFETY: a zeroed sockaddr_un is valid.
    let mut address = unsafe { std::mem::zeroed::<libc::sockaddr_un>() };
    address.sun_family = libc::sa_family_t::try_from(libc::AF_UNIX).unwrap_or(0);
    let bytes = path.to_bytes_with_nul();
    if bytes.len() > address.sun_path.len() {
        return Err(Fault::new(Call::connect, libc::ENAMETOOLONG));
    }
    for (to, from) in address.sun_path.iter_mut().zip(bytes) {
        *to = from.cast_signed();
    }
    let len = libc::socklen_t::try_from(size_of::<libc::sockaddr_un>()).unwrap_or(0);
    // SAFETY: the address is valid for its length.
    check(Call::connect, unsafe { libc::connect(socket.as_raw_fd(), (&raw const address).cast(), len) })?;
    Ok(socket)
}

/// SO_SNDTIMEO, which bounds connect(2), too (unix(7)).
fn set_send_timeout(socket: &OwnedFd, patience: Duration) -> Result<()> {
    let time = libc::timeval {
        tv_sec: i64::try_from(patience.as_secs()).unwrap_or(i64::MAX),
        tv_usec: i64::from(patience.subsec_micros()),
    };
    let len = libc::socklen_t::try_from(size_of::<libc::timeval>()).unwrap_or(0);
    let (level, name) = (libc::SOL_SOCKET, libc::SO_SNDTIMEO);
    // SAFETY: the value is valid for its length, and is only read.
    let set = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const time).cast(), len) };
    check(Call::setsockopt, set).map(drop)
}

/// A socket of rtnetlink(7), in the network namespace of this thread, that gets the kernel's explanations with its errors.
pub fn netlink() -> Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
    // SAFETY: socket takes integers.
    let fd = check(Call::socket, unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_ROUTE) })?;
    // SAFETY: the kernel has just given us this descriptor, so nobody else owns it.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let on: libc::c_int = 1;
    for option in [libc::NETLINK_EXT_ACK, libc::NETLINK_CAP_ACK] {
        // SAFETY: `on` is readable for the length that is given, 4.
        check(Call::setsockopt, unsafe {
            libc::setsockopt(socket.as_raw_fd(), libc::SOL_NETLINK, option, (&raw const on).cast(), 4)
        })?;
    }
    Ok(socket)
}

/// A connected pair of stream sockets.
pub fn pair() -> Result<(OwnedFd, OwnedFd)> {
    pair_of(libc::SOCK_STREAM)
}

/// A connected pair of sockets that keep messages apart, in order.
pub fn packet_pair() -> Result<(OwnedFd, OwnedFd)> {
    pair_of(libc::SOCK_SEQPACKET)
}

fn pair_of(kind: i32) -> Result<(OwnedFd, OwnedFd)> {
    let mut fds = [0; 2];
    let kind = kind | libc::SOCK_CLOEXEC;
    // SAFETY: `fds` has room for the two descriptors.
    check(Call::socketpair, unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, fds.as_mut_ptr()) })?;
    // SAFETY: the kernel has just given us this descriptor, so nobody else owns it.
    let one = unsafe { OwnedFd::from_raw_fd(fds[0]) };
    // SAFETY: as above.
    Ok((one, unsafe { OwnedFd::from_raw_fd(fds[1]) }))
}

/// Room for one descriptor in a control message, aligned as the kernel wants it.
#[repr(C, align(8))]
struct Control([u8; 24]);

/// Sends bytes and, with them, a descriptor. Never raises SIGPIPE.
pub fn send_fd(socket: BorrowedFd<'_>, bytes: &[u8], fd: BorrowedFd<'_>) -> Result<usize> {
    let mut control = Control([0; 24]);
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: a zeroed msghdr is valid.
    let mut message = unsafe { std::mem::zeroed::<libc::msghdr>() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = control.0.len();
    let header = libc::cmsghdr { cmsg_len: 20, cmsg_level: libc::SOL_SOCKET, cmsg_type: libc::SCM_RIGHTS };
    // SAFETY: the control buffer is aligned and has room for a header and one descriptor (CMSG_LEN(4) is 20).
    unsafe { std::ptr::write(control.0.as_mut_ptr().cast(), header) };
    control.0[16..20].copy_from_slice(&fd.as_raw_fd().to_ne_bytes());
    // SAFETY: everything that `message` points to lives until the call returns.
    let n = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) };
    check(Call::sendmsg, i64::try_from(n).unwrap_or(-1)).map(|n| usize::try_from(n).unwrap_or(0))
}

/// Sends bytes. Never raises SIGPIPE.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize> {
    // SAFETY: `bytes` is valid for its length.
    let n = unsafe { libc::send(socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), libc::MSG_NOSIGNAL) };
    check(Call::sendmsg, i64::try_from(n).unwrap_or(-1)).map(|n| usize::try_from(n).unwrap_or(0))
}

/// Receives one descriptor; `None` when none came.
pub fn receive_fd(socket: BorrowedFd<'_>) -> Result<Option<OwnedFd>> {
    receive(socket, &mut [0; 64]).map(|(_, fd)| fd)
}

/// Receives bytes and, where one comes along, a descriptor. No bytes are the end.
pub fn receive(socket: BorrowedFd<'_>, bytes: &mut [u8]) -> Result<(usize, Option<OwnedFd>)> {
    let mut control = Control([0; 24]);
    let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // SAFETY: a zeroed msghdr is valid.
    let mut message = unsafe { std::mem::zeroed::<libc::msghdr>() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = control.0.len();
    // SAFETY: everything that `message` points to is writable and lives until the call returns.
    let n = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC) };
    let n = check(Call::recvmsg, i64::try_from(n).unwrap_or(-1)).map(|n| usize::try_from(n).unwrap_or(0))?;
    if message.msg_controllen < 20 {
        return Ok((n, None));
    }
    // SAFETY: the kernel wrote a header at the beginning of the aligned buffer.
    let header = unsafe { std::ptr::read(control.0.as_ptr().cast::<libc::cmsghdr>()) };
    if header.cmsg_level != libc::SOL_SOCKET || header.cmsg_type != libc::SCM_RIGHTS {
        return Ok((n, None));
    }
    let fd = i32::from_ne_bytes([control.0[16], control.0[17], control.0[18], control.0[19]]);
    // SAFETY: the kernel has just given us this descriptor, so nobody else owns it.
    Ok((n, Some(unsafe { OwnedFd::from_raw_fd(fd) })))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_descriptor_passes() {
        let (a, b) = pair().unwrap();
        let (rx, tx) = crate::sys::fs::pipe().unwrap();
        send_fd(a.as_fd(), b"x", tx.as_fd()).unwrap();
        let got = receive_fd(b.as_fd()).unwrap().unwrap();
        crate::sys::fs::write(got.as_fd(), b"hello").unwrap();
        let mut buf = [0; 8];
        assert_eq!(crate::sys::fs::read(rx.as_fd(), &mut buf).unwrap(), 5);
    }
}
