//! Regions over files and descriptors that exist.
//!
//! Everything that could make a mapping fail later is tried out here, before a memory depends on
//! it.

use super::backing::{Backing, RegionFile};
use super::host_region::Region;
use super::path::{Part, check_regular, file_name, open_regular};
use crate::error::{Attempt, FileError, Result};
use crate::share::{ShareAccess, Terms};
use crate::sys::checked_fd::{CheckedFd, Description};
use crate::sys::memfd;
use crate::sys::mmap::{self, Mmap, Pages, Sharing};
use crate::sys::page::{PageAligned, host_page_bytes};
use crate::sys::{SysError, file, process_map};
use nix::errno::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;
use std::sync::Arc;

impl Region {
    /// The pages of a file.
    pub fn open(path: &Path, part: Part, writable: bool) -> Result<Self> {
        let fd = open_regular(path, writable)?;
        Self::over(fd, Description::Ours, part, &Attempt::open(path), &file_name(path))
    }

    /// The pages of what a descriptor of the caller's refers to. The descriptor is duplicated.
    pub fn from_fd(fd: RawFd, part: Part) -> Result<Self> {
        let attempt = Attempt::UseDescriptor(fd);
        let fd = file::duplicate(fd).map_err(|sys| refused(&attempt, sys))?;
        let path = file::path_of(&fd).unwrap_or_default();
        let name = file_name(&path);
        let name = name.strip_prefix("memfd:").unwrap_or(&name);
        let name = name.strip_suffix(" (deleted)").unwrap_or(name);
        Self::over(fd, Description::Shared, part, &attempt, name)
    }

    /// Over a descriptor that [`crate::share::receive`] got.
    pub fn received(fd: OwnedFd, terms: &Terms) -> Result<Self> {
        let part = Part { byte_offset: terms.byte_offset, byte_length: Some(terms.byte_length) };
        let attempt = Attempt::Receive(terms.name.clone());
        let region = Self::over(fd, Description::Shared, part, &attempt, &terms.name)?;
        if terms.access == ShareAccess::Readonly {
            region.forbid_writing_here();
        }
        Ok(region)
    }

    fn over(
        fd: OwnedFd,
        description: Description,
        part: Part,
        attempt: &Attempt,
        name: &str,
    ) -> Result<Self> {
        let status = file::status(&fd).map_err(|sys| refused(attempt, sys))?;
        check_regular(status.kind, attempt)?;
        let (readable, writable) = file::access(&fd).map_err(|sys| refused(attempt, sys))?;
        if !readable {
            return Err(FileError::NotReadable { attempt: attempt.clone() }.into());
        }
        if file::is_hugetlb(&fd).map_err(|sys| refused(attempt, sys))? {
            return Err(FileError::Hugetlb { attempt: attempt.clone() }.into());
        }
        let is_memfd = memfd::is_memfd(fd.as_fd());
        let seals = memfd::seals(fd.as_fd()).unwrap_or_default();
        let file_offset = at_page(part.byte_offset)?;
        let byte_length = part.length_in(status.byte_length, attempt)?;
        let shown = try_to_map(fd.as_fd(), file_offset, is_memfd, attempt)?;
        let fd = CheckedFd::new(fd, description).map_err(|sys| refused(attempt, sys))?;
        let file = RegionFile {
            fd: Arc::new(fd),
            backing: if is_memfd { Backing::Memfd } else { Backing::File },
            inode: shown.unwrap_or(status.inode),
            keeps_size: seals.forbid_shrinking(),
        };
        let may_write = writable && !seals.forbid_new_writers();
        Ok(Self::new(file, file_offset, byte_length, name, may_write))
    }
}

fn refused(attempt: &Attempt, sys: SysError) -> FileError {
    FileError::NotOpened { attempt: attempt.clone(), refused: sys.into(), hint: None }
}

fn at_page(byte_offset: u64) -> Result<PageAligned, FileError> {
    let below = PageAligned::round_down(byte_offset).get();
    let page_bytes = host_page_bytes();
    PageAligned::new(byte_offset).ok_or(FileError::PartNotAtPage { byte_offset, page_bytes, below })
}

/// Maps a page, and makes it writable. Gives the file's inode as the process's map shows it, by
/// which mappings are known again: on overlayfs before Linux 6.8, fstat says something else.
pub(crate) fn try_to_map(
    fd: BorrowedFd<'_>,
    offset: PageAligned,
    is_memfd: bool,
    attempt: &Attempt,
) -> Result<Option<u64>, FileError> {
    let page = PageAligned::round_up(1).expect("a host page has at least a byte");
    let pages = Pages::File { fd, offset, sharing: Sharing::ReadOnly, is_memfd };
    let trial = Mmap::new(page, pages).map_err(|sys| match sys.errno {
        Errno::ENODEV | Errno::EINVAL | Errno::EIO | Errno::EACCES | Errno::EPERM => {
            FileError::NotMappable { attempt: attempt.clone(), sys }
        }
        _ => refused(attempt, sys),
    })?;
    // V8 makes all of a memory writable when it grows, and ends the process if it can't. Files of
    // the kernel's own may forbid it: /sys/kernel/btf/vmlinux can be mapped since Linux 6.16, and
    // drops VM_MAYWRITE.
    if let Err(sys) = mmap::unprotect_private(trial.owned())
        && matches!(sys.errno, Errno::EACCES | Errno::EPERM)
    {
        return Err(FileError::NeverWritable { attempt: attempt.clone(), sys });
    }
    let shown = process_map::at_or_after(trial.address()).map_err(|sys| refused(attempt, sys))?;
    Ok(shown.filter(|vma| vma.start <= trial.address()).map(|vma| vma.inode))
}
