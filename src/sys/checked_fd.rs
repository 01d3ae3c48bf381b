//! Descriptors that are kept for long, and their numbers.
//!
//! Any code of a process can close any number. A double close elsewhere takes one of our
//! descriptors away, and the next file that is opened gets its number: a mapping would show that
//! file, and if it has huge pages, the kernel would round the mapping up, over a memory's guard
//! region. So a descriptor that is kept
//!
//! - is told to nobody: a caller that wants one gets a [duplicate](CheckedFd::duplicate) to own;
//! - has a high number, which neither the process's other files nor loops over small numbers reach;
//! - is checked at each use, and before it is closed.
//!
//! The check is one `lseek` (0.17 us where `fstat` takes 0.4). An open file description has a
//! position, which nothing here needs, since all reads and writes give an offset. So the position
//! holds a random number: a descriptor of another description, even one of the same file, has
//! another position. A description that others have too can't be marked that way, and is told by
//! device and inode.
//!
//! Calls: lseek, fstat, fcntl(F_DUPFD_CLOEXEC), open on /proc/self/fd, close. Not for handlers.

// It owns descriptors by number.
#![allow(unsafe_code)]

use super::{SysError, SysResult, file, inject};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::{Whence, lseek};
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering};

/// Numbers from here on are for kept descriptors. The kernel's table of descriptors takes 10 bytes
/// for each number, so it is not higher.
const HIGH_NUMBERS: u64 = 8192;

/// Bits of a random position. Not every file system lets a position be past 2^31.
const POSITION_BITS: [i64; 2] = [(1 << 40) - 1, (1 << 31) - 1];

/// The call that a failed check is reported for: see `diagnose.rs`.
pub const LOST_AT: &str = "lseek";

/// Not a position: the description may be others' too.
const UNMARKED: i64 = -1;

/// Who else may have the open file description of a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Description {
    /// It was opened here.
    Ours,
    /// It came from a caller, who may use its position.
    Shared,
}

/// A descriptor that is not used once its number is another file's.
#[derive(Debug)]
pub struct CheckedFd {
    fd: ManuallyDrop<OwnedFd>,
    /// What the description was marked with, or [`UNMARKED`].
    position: AtomicI64,
    device: u64,
    inode: u64,
}

impl CheckedFd {
    pub fn new(fd: OwnedFd, description: Description) -> SysResult<Self> {
        let status = file::status(&fd)?;
        let (fd, description) = match description {
            Description::Ours => (fd, description),
            Description::Shared => match reopen(fd.as_fd(), status) {
                Ok(fd) => (fd, Description::Ours),
                Err(_) => (fd, description),
            },
        };
        let fd = move_high(fd);
        let position = match description {
            Description::Ours => mark(fd.as_fd()).unwrap_or(UNMARKED),
            Description::Shared => UNMARKED,
        };
        Ok(Self {
            fd: ManuallyDrop::new(fd),
            position: AtomicI64::new(position),
            device: status.device,
            inode: status.inode,
        })
    }

    /// The descriptor, if it still is what was kept; else EBADF.
    pub fn get(&self) -> SysResult<BorrowedFd<'_>> {
        inject::trip("lseek_checked")?;
        if self.is_there() {
            Ok(self.fd.as_fd())
        } else {
            Err(SysError::new(LOST_AT, Errno::EBADF))
        }
    }

    pub fn device(&self) -> u64 {
        self.device
    }

    pub fn inode(&self) -> u64 {
        self.inode
    }

    fn is_there(&self) -> bool {
        let position = self.position.load(Ordering::Acquire);
        if position != UNMARKED {
            return lseek(&*self.fd, 0, Whence::SeekCur) == Ok(position);
        }
        nix::sys::stat::fstat(&*self.fd).is_ok_and(|stat| {
            stat.st_ino == self.inode && file::to_device(stat.st_dev) == self.device
        })
    }

    /// Another descriptor of the same file, which allows as much, with a position of its own where
    /// that can be had. It is the caller's: what he does to it does nothing to this one.
    pub fn duplicate(&self) -> SysResult<OwnedFd> {
        let fd = self.get()?;
        reopen(fd, file::status(fd)?).or_else(|_| {
            // The file was opened with rights that the process has not any more, or there is no
            // /proc. A plain duplicate has the same position, which tells nothing from then on.
            self.position.store(UNMARKED, Ordering::Release);
            fd.try_clone_to_owned().map_err(|error| SysError::from_io("fcntl", &error))
        })
    }

    /// Another descriptor of the same file that allows reading alone. The kernel refuses writes
    /// through it, and writable shared mappings of it.
    pub fn reopen_readonly(&self) -> SysResult<OwnedFd> {
        let fd = self.get()?;
        let (_, writable) = file::access(fd)?;
        if !writable {
            return self.duplicate();
        }
        reopen_as(fd, file::status(fd)?, OFlag::O_RDONLY)
    }
}

impl Drop for CheckedFd {
    fn drop(&mut self) {
        if self.is_there() {
            // SAFETY: only `drop` drops the field, which nobody uses afterwards. A number that is
            // another file's by now is not closed.
            unsafe { ManuallyDrop::drop(&mut self.fd) };
        }
    }
}

/// Opens the file of a descriptor again, with the same access.
fn reopen(fd: BorrowedFd<'_>, status: file::Status) -> SysResult<OwnedFd> {
    let (_, writable) = file::access(fd)?;
    reopen_as(fd, status, if writable { OFlag::O_RDWR } else { OFlag::O_RDONLY })
}

fn reopen_as(fd: BorrowedFd<'_>, status: file::Status, access: OFlag) -> SysResult<OwnedFd> {
    inject::trip("open")?;
    // Another kind may do something when it is opened, or wait.
    if status.kind != file::FileKind::Regular {
        return Err(SysError::new("open", Errno::EINVAL));
    }
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let flags = access | OFlag::O_CLOEXEC | OFlag::O_NOCTTY | OFlag::O_NONBLOCK;
    let opened = nix::fcntl::open(path.as_str(), flags, nix::sys::stat::Mode::empty())
        .map_err(|errno| SysError::new("open", errno))?;
    let now = file::status(&opened)?;
    if (now.device, now.inode) != (status.device, status.inode) {
        return Err(SysError::new(LOST_AT, Errno::EBADF));
    }
    Ok(opened)
}

/// Gives a descriptor a high number. Where there is none left it keeps its own.
fn move_high(fd: OwnedFd) -> OwnedFd {
    static FIRST: OnceLock<i32> = OnceLock::new();
    let first = *FIRST.get_or_init(|| {
        // Where nothing is known, the kernel gives the lowest free number.
        let (most, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((0, 0));
        i32::try_from((most / 2).min(HIGH_NUMBERS)).unwrap_or(0)
    });
    match fcntl(&fd, FcntlArg::F_DUPFD_CLOEXEC(first)) {
        // SAFETY: the kernel has just made this descriptor, so this is its only owner.
        Ok(high) => unsafe { OwnedFd::from_raw_fd(high) },
        Err(_) => fd,
    }
}

/// Marks an open file description, and says with what.
fn mark(fd: BorrowedFd<'_>) -> Option<i64> {
    let random = i64::from_le_bytes(super::random::bytes().ok()?);
    POSITION_BITS.into_iter().find_map(|bits| {
        let position = random & bits;
        (lseek(fd, position, Whence::SeekSet) == Ok(position)).then_some(position)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::memfd;
    use std::fs::File;
    use std::io::{Read, Seek, SeekFrom, Write};

    fn checked() -> CheckedFd {
        CheckedFd::new(memfd::create("kept", 10_000).unwrap(), Description::Ours).unwrap()
    }

    /// Puts another file in the place of a descriptor, as a double close and an open do.
    fn replace(checked: &CheckedFd, by: &impl AsRawFd) {
        let (by, place) = (by.as_raw_fd(), checked.fd.as_raw_fd());
        // SAFETY: both are open. The place is closed as its owner would, and what takes it lives on
        // as the owner's.
        let replaced = unsafe { libc::dup3(by, place, libc::O_CLOEXEC) };
        assert!(replaced >= 0);
    }

    #[test]
    fn a_kept_descriptor_has_a_high_number_and_is_closed_on_exec() {
        let checked = checked();
        let (most, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        assert!(
            u64::try_from(checked.get().unwrap().as_raw_fd()).unwrap()
                >= (most / 2).min(HIGH_NUMBERS)
        );
        assert_eq!(fcntl(checked.get().unwrap(), FcntlArg::F_GETFD), Ok(libc::FD_CLOEXEC));
    }

    #[test]
    fn another_file_of_its_number_is_neither_used_nor_closed() {
        for other in [memfd::create("other", 10_000).unwrap(), checked().duplicate().unwrap()] {
            let checked = checked();
            replace(&checked, &other);
            assert_eq!(checked.get().unwrap_err(), SysError::new(LOST_AT, Errno::EBADF));
            let number = checked.fd.as_raw_fd();
            drop(checked);
            // SAFETY: the number is this test's by `replace`, and nobody else closes it.
            let left = unsafe { OwnedFd::from_raw_fd(number) };
            assert_eq!(file::status(&left).unwrap().inode, file::status(&other).unwrap().inode);
        }
    }

    #[test]
    fn a_number_that_was_closed_is_lost() {
        let checked = checked();
        // SAFETY: what is being tested; `checked` does not close it again.
        unsafe { libc::close(checked.fd.as_raw_fd()) };
        assert_eq!(checked.get().unwrap_err().errno, Errno::EBADF);
    }

    #[test]
    fn what_a_caller_does_to_his_descriptor_does_nothing_to_ours() {
        let mut given = File::from(memfd::create("given", 10_000).unwrap());
        let checked =
            CheckedFd::new(given.try_clone().unwrap().into(), Description::Shared).unwrap();
        given.seek(SeekFrom::Start(77)).unwrap();
        assert_eq!(file::status(checked.get().unwrap()).unwrap().inode, checked.inode());
        assert_eq!(given.stream_position().unwrap(), 77, "his position is his");
        let mut duplicate = File::from(checked.duplicate().unwrap());
        duplicate.write_all(b"there").unwrap();
        checked.get().unwrap();
        let mut bytes = [0; 5];
        given.rewind().unwrap();
        given.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"there");
    }

    #[test]
    fn what_is_reopened_for_reading_can_not_write() {
        let checked = checked();
        let mut readonly = File::from(checked.reopen_readonly().unwrap());
        assert!(readonly.write_all(b"x").is_err());
        assert!(readonly.read_exact(&mut [0; 4]).is_ok());
        checked.get().unwrap();
    }
}
