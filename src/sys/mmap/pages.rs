//! What is mapped: data types, and their flags.

use crate::sys::page::PageAligned;
use nix::sys::mman::{MapFlags, ProtFlags};
use std::os::fd::BorrowedFd;

/// How the pages of a file are seen through a mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// Reads see the file; a write is refused by the processor. Copy-on-write underneath, so that
    /// the file can't be changed even when V8 makes the pages writable to grow a memory.
    ReadOnly,
    /// Reads see the file; a write goes to a copy of the page.
    CopyOnWrite,
    /// Reads and writes go to the file.
    Shared,
    /// Neither reads nor writes are allowed.
    Inaccessible,
}

impl Sharing {
    pub(super) fn protection(self) -> ProtFlags {
        match self {
            Self::Inaccessible => ProtFlags::PROT_NONE,
            Self::ReadOnly => ProtFlags::PROT_READ,
            Self::CopyOnWrite | Self::Shared => ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
        }
    }

    pub(super) fn flags(self) -> MapFlags {
        match self {
            // NORESERVE: a 300 GB file must not be refused for the copies that will never be made.
            Self::Inaccessible | Self::ReadOnly | Self::CopyOnWrite => {
                MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE
            }
            Self::Shared => MapFlags::MAP_SHARED,
        }
    }
}

/// What is put in place of pages.
#[derive(Debug, Clone, Copy)]
pub enum Pages<'fd> {
    /// Pages of a file, from this offset on. `is_memfd`: of a memfd, whose mmap
    /// operation does nothing that can fail when the mapping is private. `/dev/zero` counts as one.
    File { fd: BorrowedFd<'fd>, offset: PageAligned, sharing: Sharing, is_memfd: bool },
    /// Zeroed, writable, private pages, as V8 makes those of a linear memory.
    Zeros,
    /// Zeros that take no memory, since they can only be read.
    ReadonlyZeros,
}
