//! Descriptors that are kept for the life of the process, so that a signal handler need not open a
//! file when the process has no descriptor left.
//!
//! A script that closes descriptors by number may close one of them, and its number may come back
//! as another file's. So each user can ask whether the descriptor still is what it was. A file that
//! could not be opened is tried again by the next call.
//!
//! Calls: open, fstat, close. Safe in handlers, but for [`KeptFile::prepare`].

// It owns and borrows descriptors by number.
#![allow(unsafe_code)]

use super::file::open_in_handler;
use super::{SysError, SysResult};
use nix::errno::Errno;
use nix::sys::stat::fstat;
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, IntoRawFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

/// What was opened, and which file that is.
#[derive(Debug)]
struct Opened {
    fd: RawFd,
    device: u64,
    inode: u64,
}

#[derive(Debug)]
pub struct KeptFile {
    path: &'static CStr,
    /// Null: it is not open.
    ///
    /// # Safety
    /// Points to a leaked box, which is never freed or changed.
    opened: AtomicPtr<Opened>,
    /// Whether its number was found to be another file's.
    is_lost: AtomicBool,
}

impl KeptFile {
    pub const fn new(path: &'static CStr) -> Self {
        Self { path, opened: AtomicPtr::new(std::ptr::null_mut()), is_lost: AtomicBool::new(false) }
    }

    /// Whether it is open, unless it was lost and no call has noticed. No system call.
    pub fn is_ready(&self) -> bool {
        !self.opened.load(Ordering::Acquire).is_null() && !self.is_lost.load(Ordering::Relaxed)
    }

    fn opened(&self) -> Option<&'static Opened> {
        // SAFETY: by the Safety section of `opened`: null, or a box that is never freed or changed.
        unsafe { self.opened.load(Ordering::Acquire).as_ref() }
    }

    /// Opens it unless it is open and still the same file. Not for handlers.
    pub fn prepare(&self) -> SysResult<()> {
        let before = self.opened.load(Ordering::Acquire);
        if self.is_same() {
            return Ok(());
        }
        // A number that is somebody else's by now is left to them.
        let fd = open_in_handler(self.path)?;
        let (device, inode) = identity(&fd).ok_or(SysError::new("fstat", Errno::EBADF))?;
        let opened = Box::into_raw(Box::new(Opened { fd: fd.into_raw_fd(), device, inode }));
        let swapped =
            self.opened.compare_exchange(before, opened, Ordering::AcqRel, Ordering::Acquire);
        if swapped.is_err() {
            // Another thread was first.
            // SAFETY: the pointer comes from `Box::into_raw` above and was not stored anywhere, so
            // this is its only owner, and of the descriptor too.
            unsafe {
                let opened = Box::from_raw(opened);
                libc::close(opened.fd);
            }
        }
        self.is_lost.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Whether the kept descriptor still is the file that was opened. One system call; safe in a
    /// handler.
    pub fn is_same(&self) -> bool {
        self.checked().is_some()
    }

    fn checked(&self) -> Option<BorrowedFd<'static>> {
        let fd = self.unchecked()?;
        let opened = self.opened()?;
        let is_same = identity(fd) == Some((opened.device, opened.inode));
        if !is_same {
            self.is_lost.store(true, Ordering::Relaxed);
        }
        is_same.then_some(fd)
    }

    /// The descriptor, for calls that fail on any other file.
    pub fn unchecked(&self) -> Option<BorrowedFd<'static>> {
        let opened = self.opened()?;
        // SAFETY: the descriptor is open for the life of the process, unless a script closes it by
        // its number. Then the kernel answers EBADF, or `checked` finds another file: neither is
        // undefined behaviour.
        Some(unsafe { BorrowedFd::borrow_raw(opened.fd) })
    }

    /// Gives the kept descriptor to `look`, or one that is opened for it. Safe in a handler.
    pub fn with<R>(&self, look: impl FnOnce(BorrowedFd<'_>) -> R) -> SysResult<R> {
        if let Some(kept) = self.checked() {
            return Ok(look(kept));
        }
        let opened = open_in_handler(self.path)?;
        Ok(look(opened.as_fd()))
    }
}

fn identity(fd: impl AsFd) -> Option<(u64, u64)> {
    fstat(fd).ok().map(|stat| (stat.st_dev, stat.st_ino))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn a_number_that_is_another_files_by_now_is_not_taken_for_ours() {
        static KEPT: KeptFile = KeptFile::new(c"/dev/zero");
        let rdev = |fd: BorrowedFd<'_>| fstat(fd).unwrap().st_rdev;
        let zero = KEPT.with(rdev).unwrap();
        assert!(!KEPT.is_same(), "nothing is kept yet");
        KEPT.prepare().unwrap();
        let kept = KEPT.unchecked().unwrap().as_raw_fd();
        KEPT.prepare().unwrap();
        assert_eq!(KEPT.unchecked().unwrap().as_raw_fd(), kept);
        let null = std::fs::File::open("/dev/null").unwrap();
        // SAFETY: what a script does that closes the descriptors of others: the number is another
        // file's.
        assert_eq!(unsafe { libc::dup2(null.as_raw_fd(), kept) }, kept);
        assert!(!KEPT.is_same());
        assert_eq!(KEPT.with(rdev).unwrap(), zero);
        KEPT.prepare().unwrap();
        assert_ne!(KEPT.unchecked().unwrap().as_raw_fd(), kept);
        assert!(KEPT.is_same());
    }
}
