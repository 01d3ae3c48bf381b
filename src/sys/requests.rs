//! A pair of sockets: signal handlers write numbers into one end, a thread of Node's reads the
//! other.
//!
//! Calls: socketpair, fcntl(F_DUPFD_CLOEXEC), fstat, sendto, recvfrom, shutdown, close. What a
//! [`Sender`] does is safe in handlers.

// It owns descriptors by number, and gives the kernel the address of a number.
#![allow(unsafe_code)]

use super::checked_fd::{CheckedFd, Description};
use super::{SysError, SysResult, file, inject};
use nix::errno::Errno;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

/// With a chunk's number: it has pages that nobody provided, and only its owner can take them out.
/// No region has so many chunks.
pub const SWEEP: u64 = 1 << 63;

/// In place of a number: somebody has received the region.
pub const RECEIVED: u64 = u64::MAX;

/// The end that is written to.
#[derive(Debug)]
pub struct Sender {
    fd: CheckedFd,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    Done,
    /// The reader is behind.
    Full,
    /// Nobody reads any more, or the descriptor was closed by other code.
    Gone,
}

/// Both ends; the second one is to be read.
pub fn pair() -> SysResult<(Sender, OwnedFd)> {
    let (ours, theirs) = ends()?;
    Ok((Sender::new(ours)?, theirs))
}

/// Both ends of a connection, for others.
pub fn ends() -> SysResult<(OwnedFd, OwnedFd)> {
    inject::trip("socketpair")?;
    let (ours, theirs) =
        UnixStream::pair().map_err(|error| SysError::from_io("socketpair", &error))?;
    Ok((ours.into(), theirs.into()))
}

impl Sender {
    /// Of an end that came from elsewhere.
    pub fn new(fd: OwnedFd) -> SysResult<Self> {
        if file::status(&fd)?.kind != file::FileKind::Socket {
            return Err(SysError::new("sendto", Errno::ENOTSOCK));
        }
        Ok(Self { fd: CheckedFd::new(fd, Description::Ours)? })
    }

    /// Whether somebody may still read what is sent.
    pub fn is_connected(&self) -> bool {
        let Ok(fd) = self.fd.get() else { return false };
        let mut byte = 0_u8;
        let flags = libc::MSG_DONTWAIT | libc::MSG_PEEK;
        // SAFETY: the kernel writes at most one byte, to a local.
        let seen = unsafe { libc::recv(fd.as_raw_fd(), (&raw mut byte).cast(), 1, flags) };
        match seen {
            0 => false,
            1 => true,
            _ => matches!(Errno::last(), Errno::EAGAIN | Errno::EINTR | Errno::ENOMEM),
        }
    }

    /// Sends a number of 8 bytes, the lowest first; all of it or nothing. Waits for nobody.
    pub fn send(&self, number: u64) -> Sent {
        let Ok(fd) = self.fd.get() else { return Sent::Gone };
        let bytes = number.to_le_bytes();
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        // SAFETY: the kernel reads 8 bytes of a local.
        let sent = unsafe { libc::send(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), flags) };
        match sent {
            8 => Sent::Done,
            _ => match Errno::last() {
                Errno::EAGAIN | Errno::ENOBUFS | Errno::ENOMEM | Errno::EINTR => Sent::Full,
                _ => Sent::Gone,
            },
        }
    }

    /// The reader finds the end of what was sent. Nothing can be sent after it.
    pub fn close(&self) {
        if let Ok(fd) = self.fd.get() {
            // SAFETY: it takes no pointers.
            unsafe { libc::shutdown(fd.as_raw_fd(), libc::SHUT_RDWR) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn numbers_arrive_whole_and_a_full_socket_says_so() {
        let (sender, receiver) = pair().unwrap();
        let mut sent = 0_u64;
        while sender.send(sent) == Sent::Done {
            sent += 1;
        }
        assert_eq!(sender.send(sent), Sent::Full);
        sender.close();
        assert_eq!(sender.send(sent), Sent::Gone);
        let mut bytes = Vec::new();
        UnixStream::from(receiver).read_to_end(&mut bytes).unwrap();
        let numbers = bytes.chunks_exact(8).map(|it| u64::from_le_bytes(it.try_into().unwrap()));
        assert!(numbers.eq(0..sent) && sent > 100);
    }

    #[test]
    fn who_writes_to_nobody_is_told() {
        let (sender, receiver) = pair().unwrap();
        assert!(sender.is_connected());
        drop(receiver);
        assert!(!sender.is_connected());
        assert_eq!(sender.send(1), Sent::Gone);
        let no_socket = crate::sys::memfd::create_growing("t").unwrap();
        assert!(Sender::new(no_socket).is_err());
    }
}
