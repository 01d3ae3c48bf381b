//! What holds the bytes of a snapshot: a sealed memfd, or a file whose lease we have and which a
//! sealed copy replaces when somebody wants to write it (`watch.rs`).

use crate::memory::leased::{FileCopy, LeasedFile, Now, Reading};
use crate::sys::checked_fd::{CheckedFd, Description};
use crate::sys::file::CopyWay;
use crate::sys::{SysError, SysResult, difference, file, memfd, sum};
use nix::errno::Errno;
use std::os::fd::AsFd;
use std::sync::Arc;

#[derive(Debug)]
pub(super) enum Backing {
    Memfd(CheckedFd),
    File(Arc<LeasedFile>),
}

impl Backing {
    /// The descriptor, and whether it is a memfd.
    pub(super) fn now(&self) -> SysResult<(&CheckedFd, bool)> {
        match self {
            Self::Memfd(fd) => Ok((fd, true)),
            Self::File(file) => match file.now() {
                Now::File(fd) => Ok((fd, false)),
                Now::Copy(copy) => Ok((&copy.fd, true)),
                Now::Gone => Err(SysError::new("fcntl", Errno::ESTALE)),
            },
        }
    }

    pub(super) fn fd(&self) -> SysResult<&CheckedFd> {
        self.now().map(|(fd, _)| fd)
    }

    pub(super) fn file(&self) -> Option<&Arc<LeasedFile>> {
        match self {
            Self::Memfd(_) => None,
            Self::File(file) => Some(file),
        }
    }

    /// The descriptor, to read from it: a file is kept from being written meanwhile.
    pub(super) fn read(&self) -> SysResult<(&CheckedFd, Option<Reading<'_>>)> {
        let reading = self.file().map(|file| file.read());
        let (fd, is_memfd) = self.now()?;
        Ok((fd, reading.filter(|_| !is_memfd)))
    }

    /// Whether all of its bytes are there.
    pub(super) fn is_whole(&self) -> bool {
        match self.file() {
            None => true,
            Some(file) => !is_lost(file),
        }
    }
}

/// Whether a file was changed before there was a copy of it.
pub(super) fn is_lost(file: &LeasedFile) -> bool {
    match file.now() {
        Now::File(fd) => is_shorter(file, fd),
        Now::Copy(copy) => !copy.is_whole,
        Now::Gone => true,
    }
}

/// Whether a file has lost bytes in spite of its lease.
fn is_shorter(file: &LeasedFile, fd: &CheckedFd) -> bool {
    // Where it can't be asked, the descriptor is not what it was, and its use says so.
    let status = fd.get().and_then(file::status);
    status.is_ok_and(|status| status.byte_length < file.byte_length)
}

/// A sealed copy of a file's bytes, holes included; without any where the file has lost some.
pub(super) fn copy_of(file: &LeasedFile) -> SysResult<FileCopy> {
    let from = file.fd.get()?;
    let to = memfd::create_growing("snapshot")?;
    file::set_length(&to, file.byte_length)?;
    let mut way = CopyWay::default();
    let mut is_whole = true;
    for (start, end) in &file.data {
        let mut at = *start;
        while at < *end {
            match file::copy(from, at, to.as_fd(), at, difference(*end, at), &mut way) {
                // It was cut off, or its medium has lost it.
                Ok(0) | Err(SysError { errno: Errno::EIO, .. }) => {
                    is_whole = false;
                    break;
                }
                Ok(copied) => at = sum(at, copied),
                Err(sys) => return Err(sys),
            }
        }
    }
    if !is_whole {
        file::set_length(&to, 0)?;
    }
    memfd::seal_size(&to)?;
    memfd::seal_write(&to)?;
    let inode = file::status(&to)?.inode;
    Ok(FileCopy { fd: CheckedFd::new(to, Description::Ours)?, inode, is_whole })
}
