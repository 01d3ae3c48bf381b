//! What a region's bytes are kept in: a descriptor of a memfd or a file, and whole pages of it.
//!
//! Data types that the rest of the room is built on. Nothing here maps anything or makes a region.

use crate::sys::checked_fd::CheckedFd;
use crate::sys::memfd::{self, Seals};
use crate::sys::mmap::{self, Hint, Pages, Sharing};
use crate::sys::page::{PageAligned, PageSpan};
use crate::sys::{SysResult, file};
use std::os::fd::BorrowedFd;
use std::sync::Arc;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backing {
    Memfd,
    File,
}

/// A memfd or a file, as long as the region is open.
#[derive(Debug)]
pub(super) struct RegionFile {
    /// Shared with what lets the file's pages go after they were read.
    pub(super) fd: Arc<CheckedFd>,
    pub(super) backing: Backing,
    /// As the process's map shows it.
    pub(super) inode: u64,
    /// Whether it can never get shorter: F_SEAL_SHRINK.
    pub(super) keeps_size: bool,
}

impl RegionFile {
    /// The descriptor; EBADF if its number is another file's by now.
    pub(super) fn get(&self) -> SysResult<BorrowedFd<'_>> {
        self.fd.get()
    }

    pub(super) fn is_memfd(&self) -> bool {
        self.backing == Backing::Memfd
    }

    /// EBADF where the descriptor is no longer what the region was made of.
    pub(super) fn as_pages(&self, offset: PageAligned, sharing: Sharing) -> SysResult<Pages<'_>> {
        Ok(Pages::File { fd: self.get()?, offset, sharing, is_memfd: self.is_memfd() })
    }

    pub(super) fn status(&self) -> Option<file::Status> {
        file::status(self.get().ok()?).ok()
    }

    /// `None` for a file.
    pub(super) fn seals(&self) -> Option<Seals> {
        if !self.is_memfd() {
            return None;
        }
        memfd::seals(self.get().ok()?)
    }
}

/// Whole pages of a region's file, ready to be mapped.
#[derive(Debug, Clone, Copy)]
pub(super) struct FilePages<'region> {
    pub(super) file: &'region RegionFile,
    pub(super) offset: PageAligned,
    pub(super) length: PageAligned,
}

impl<'region> FilePages<'region> {
    /// See [`RegionFile::as_pages`].
    pub(super) fn as_pages(self, sharing: Sharing) -> SysResult<Pages<'region>> {
        self.file.as_pages(self.offset, sharing)
    }
}

/// Leaves a mapping out of core dumps, where it would take much room and tell little. Advice: a
/// refusal changes nothing that matters.
pub fn keep_out_of_dumps(span: PageSpan) {
    let _ = mmap::hint(span, Hint::DontDump);
}
