//! Unix sockets in the abstract namespace, and descriptors that travel through them. The sockets
//! have no file, so nothing is left of them when a process ends.
//!
//! Calls: socket, bind, listen, connect, accept4, sendmsg, recvmsg, getsockopt, setsockopt. Not for
//! handlers.

// The kernel is given addresses of messages.
#![allow(unsafe_code)]

use super::{SysError, SysResult, inject};
use nix::errno::Errno;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::time::Duration;

/// Nobody who is alive takes longer to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Descriptors that come with one message at most.
const MOST_FDS: usize = 5;

pub fn listen(name: &str) -> SysResult<OwnedFd> {
    inject::trip("bind")?;
    let listener =
        SocketAddr::from_abstract_name(name).and_then(|address| UnixListener::bind_addr(&address));
    listener.map(OwnedFd::from).map_err(|error| SysError::from_io("bind", &error))
}

#[allow(clippy::arithmetic_side_effects)] // It says why.
pub fn connect(name: &str) -> SysResult<UnixStream> {
    inject::trip("connect")?;
    let failed = || SysError::new("connect", Errno::last());
    // SAFETY: it takes no pointers.
    let fd = unsafe { libc::socket(libc::AF_UNIX, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(failed());
    }
    // SAFETY: the kernel has just made this descriptor, so this is its only owner.
    let stream = unsafe { UnixStream::from_raw_fd(fd) };
    // Before it connects: a listener that accepts nobody keeps others waiting once its queue is
    // full.
    let stream = patient(stream)?;
    // SAFETY: a sockaddr_un is plain numbers, for which zero is a value.
    let mut address: libc::sockaddr_un = unsafe { zeroed() };
    address.sun_family = libc::sa_family_t::try_from(libc::AF_UNIX).expect("AF_UNIX is 1");
    // Abstract names begin with a zero, and end where the address does.
    let room = address.sun_path.get_mut(1..).unwrap_or_default();
    if name.is_empty() || name.len() > room.len() {
        return Err(SysError::new("connect", Errno::EINVAL));
    }
    for (slot, byte) in room.iter_mut().zip(name.bytes()) {
        *slot = libc::c_char::from_ne_bytes([byte]);
    }
    let head = std::mem::offset_of!(libc::sockaddr_un, sun_path);
    // At most a sockaddr_un, by the check above.
    let length = head + 1 + name.len();
    let length = libc::socklen_t::try_from(length).expect("a sockaddr_un is small");
    // SAFETY: the address is a local with at least `length` bytes.
    let connected =
        unsafe { libc::connect(stream.as_raw_fd(), (&raw const address).cast(), length) };
    if connected == 0 { Ok(stream) } else { Err(failed()) }
}

/// Waits for somebody to connect.
pub fn accept(listener: BorrowedFd<'_>) -> SysResult<UnixStream> {
    inject::trip("accept4")?;
    let null = std::ptr::null_mut();
    // SAFETY: no address is asked for, so nothing is written.
    let fd = unsafe {
        libc::accept4(listener.as_raw_fd(), null, std::ptr::null_mut(), libc::SOCK_CLOEXEC)
    };
    if fd < 0 {
        return Err(SysError::new("accept4", Errno::last()));
    }
    // SAFETY: the kernel has just made this descriptor, so this is its only owner.
    patient(unsafe { UnixStream::from_raw_fd(fd) })
}

fn patient(stream: UnixStream) -> SysResult<UnixStream> {
    stream
        .set_read_timeout(Some(PATIENCE))
        .and_then(|()| stream.set_write_timeout(Some(PATIENCE)))
        .map_err(|error| SysError::from_io("setsockopt", &error))?;
    Ok(stream)
}

/// The user who is at the other end, by the kernel's account.
pub fn peer_uid(stream: &UnixStream) -> SysResult<u32> {
    inject::trip("getsockopt")?;
    // SAFETY: a ucred is plain numbers, for which zero is a value.
    let mut peer: libc::ucred = unsafe { zeroed() };
    let length = libc::socklen_t::try_from(size_of::<libc::ucred>());
    let mut length = length.expect("a ucred is small");
    // SAFETY: the kernel writes at most `length` bytes to `peer`.
    let got = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut peer).cast(),
            &raw mut length,
        )
    };
    if got == 0 { Ok(peer.uid) } else { Err(SysError::new("getsockopt", Errno::last())) }
}

/// Room for a control message with `MOST_FDS` descriptors, aligned as its header.
#[repr(C, align(8))]
struct Control([u8; 64]);

/// Bytes of so many descriptors.
fn bytes_of(fds: usize) -> u32 {
    let bytes = fds.checked_mul(size_of::<RawFd>()).and_then(|bytes| u32::try_from(bytes).ok());
    bytes.expect("a message has a few descriptors")
}

/// Bytes of a control message with so many descriptors.
fn control_bytes(fds: usize) -> usize {
    // SAFETY: CMSG_SPACE is arithmetic.
    super::to_usize(u64::from(unsafe { libc::CMSG_SPACE(bytes_of(fds)) }))
}

/// Sends bytes, and descriptors with them.
pub fn send(stream: &UnixStream, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> SysResult<()> {
    inject::trip("sendmsg")?;
    debug_assert!(fds.len() <= MOST_FDS && control_bytes(MOST_FDS) <= size_of::<Control>());
    let mut control = Control([0; 64]);
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: a msghdr is numbers and nullable pointers, for which zero is a value. The pointers
    // are to locals, and hold for as long as the call takes; the one control message has room for
    // all descriptors. What follows a header need not be aligned: it is written and read as such.
    #[allow(clippy::cast_ptr_alignment)]
    let sent = unsafe {
        let mut message: libc::msghdr = zeroed();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        if !fds.is_empty() {
            message.msg_control = control.0.as_mut_ptr().cast();
            // A few descriptors' worth of bytes; musl's field has 32 bits.
            #[allow(clippy::cast_possible_truncation)]
            let length = control_bytes(fds.len()) as _;
            message.msg_controllen = length;
            let head = libc::CMSG_FIRSTHDR(&raw const message);
            (*head).cmsg_level = libc::SOL_SOCKET;
            (*head).cmsg_type = libc::SCM_RIGHTS;
            (*head).cmsg_len = libc::CMSG_LEN(bytes_of(fds.len())) as _;
            for (i, fd) in fds.iter().enumerate() {
                libc::CMSG_DATA(head).cast::<RawFd>().add(i).write_unaligned(fd.as_raw_fd());
            }
        }
        libc::sendmsg(stream.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL)
    };
    match usize::try_from(sent) {
        Ok(sent) if sent == bytes.len() => Ok(()),
        Ok(_) => Err(SysError::new("sendmsg", Errno::EMSGSIZE)),
        Err(_) => Err(SysError::new("sendmsg", Errno::last())),
    }
}

/// Receives a message, and the descriptors that came with it, close-on-exec. 0 bytes: the other end
/// is closed.
pub fn receive(stream: &UnixStream, bytes: &mut [u8]) -> SysResult<(usize, Vec<OwnedFd>)> {
    inject::trip("recvmsg")?;
    let mut control = Control([0; 64]);
    let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    let mut fds = Vec::new();
    // SAFETY: a msghdr is numbers and nullable pointers, for which zero is a value. The pointers
    // are to locals that outlive the call, with their lengths, and the kernel writes no more. Each
    // descriptor that it gives is owned once.
    #[allow(clippy::cast_ptr_alignment)]
    let received = unsafe {
        let mut message: libc::msghdr = zeroed();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.0.as_mut_ptr().cast();
        // A few descriptors' worth of bytes; musl's field has 32 bits.
        #[allow(clippy::cast_possible_truncation)]
        let length = control_bytes(MOST_FDS) as _;
        message.msg_controllen = length;
        let received = libc::recvmsg(stream.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC);
        let mut head = if received < 0 {
            std::ptr::null_mut()
        } else {
            libc::CMSG_FIRSTHDR(&raw const message)
        };
        while !head.is_null() {
            if (*head).cmsg_level == libc::SOL_SOCKET && (*head).cmsg_type == libc::SCM_RIGHTS {
                let bytes = ((*head).cmsg_len as usize).checked_sub(libc::CMSG_LEN(0) as usize);
                let bytes = bytes.expect("the kernel counts the head of a control message");
                for i in 0..bytes.div_euclid(size_of::<RawFd>()) {
                    let fd = libc::CMSG_DATA(head).cast::<RawFd>().add(i).read_unaligned();
                    fds.push(OwnedFd::from_raw_fd(fd));
                }
            }
            head = libc::CMSG_NXTHDR(&raw const message, head);
        }
        received
    };
    match usize::try_from(received) {
        Ok(received) => Ok((received, fds)),
        Err(_) => Err(SysError::new("recvmsg", Errno::last())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::{file, memfd};
    use std::os::fd::AsFd;

    #[test]
    fn one_who_accepts_nobody_keeps_nobody_waiting_for_good() {
        let name = format!("wasm-hostmap-full-{}", std::process::id());
        let listener = listen(&name).unwrap();
        // SAFETY: it takes no pointers.
        assert_eq!(unsafe { libc::listen(listener.as_raw_fd(), 0) }, 0);
        let _first = connect(&name).unwrap();
        assert_eq!(connect(&name).unwrap_err().errno, Errno::EAGAIN);
    }

    #[test]
    fn descriptors_travel_with_a_message() {
        let name = format!("wasm-hostmap-test-{}", std::process::id());
        let listener = listen(&name).unwrap();
        let sender = connect(&name).unwrap();
        let receiver = accept(listener.as_fd()).unwrap();
        let sent = [memfd::create("one", 1).unwrap(), memfd::create("two", 2).unwrap()];
        send(&sender, b"two of them", &[sent[0].as_fd(), sent[1].as_fd()]).unwrap();
        let mut bytes = [0; 50];
        let (length, received) = receive(&receiver, &mut bytes).unwrap();
        assert_eq!(&bytes[..length], b"two of them");
        let inode = |fd: &OwnedFd| file::status(fd).unwrap().inode;
        assert_eq!(
            received.iter().map(inode).collect::<Vec<_>>(),
            sent.iter().map(inode).collect::<Vec<_>>()
        );
        assert_eq!(peer_uid(&receiver).unwrap(), nix::unistd::geteuid().as_raw());
        drop(sender);
        let (length, none) = receive(&receiver, &mut bytes).unwrap();
        assert!(length == 0 && none.is_empty());
        assert!(connect("wasm-hostmap-test-nobody").is_err());
    }
}
