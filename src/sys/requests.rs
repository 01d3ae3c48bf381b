//! A pair of sockets: signal handlers write numbers into one end, a thread of Node's reads the
//! other.
//!
//! Calls: socketpair, fcntl(F_DUPFD_CLOEXEC), fstat, sendto, shutdown, close. [`Sender::send`] and
//! [`Sender::close`] are safe in handlers.

// It owns descriptors by number, and gives the kernel the address of a number.
#![allow(unsafe_code)]

use super::checked_fd::{CheckedFd, Description};
use super::{SysError, SysResult, inject};
use nix::errno::Errno;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

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
    inject::trip("socketpair")?;
    let (ours, theirs) =
        UnixStream::pair().map_err(|error| SysError::from_io("socketpair", &error))?;
    Ok((Sender { fd: CheckedFd::new(ours.into(), Description::Ours)? }, theirs.into()))
}

impl Sender {
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
        drop(receiver);
        assert_eq!(sender.send(1), Sent::Gone);
    }
}
