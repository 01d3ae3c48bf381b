//! Advice about pages, and dropping them.
//!
//! Calls: madvise.

// It gives the kernel addresses of pages.
#![allow(unsafe_code)]

use super::mapping::pointer;
use crate::sys::owned_span::OwnedSpan;
use crate::sys::page::PageSpan;
use crate::sys::{SysError, SysResult, inject, to_usize};
use nix::errno::Errno;
use nix::sys::mman::{MmapAdvise, madvise};

// Of linux/mman.h. nix knows neither, and libc not on all targets.
const MADV_DONTNEED_LOCKED: libc::c_int = 24;
const MADV_COLLAPSE: libc::c_int = 25;

/// Drops what was written to private pages: a file's pages are the file's again, others zeros.
/// Cheap for what was never touched.
///
/// EINVAL where pages are locked (`mlockall`) and the kernel is older than 5.18.
pub fn discard(span: OwnedSpan<'_>) -> SysResult<()> {
    inject::trip("madvise_discard")?;
    let span = span.span();
    let (start, length) = (pointer(span.start().get())?, to_usize(span.length().get()));
    // SAFETY: the bytes of an owned span may change: no Rust reference points to them.
    let discarded = unsafe { madvise(start, length, MmapAdvise::MADV_DONTNEED) };
    let discarded = discarded.or_else(|errno| {
        if errno != Errno::EINVAL {
            return Err(errno);
        }
        // SAFETY: it drops the pages of the same owned span, locked or not.
        let locked = unsafe { libc::madvise(start.as_ptr(), length, MADV_DONTNEED_LOCKED) };
        if locked == 0 { Ok(()) } else { Err(errno) }
    });
    discarded.map_err(|errno| SysError::new("madvise", errno))
}

/// Advice on a range that changes no contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advice {
    /// Leave the range out of core dumps.
    DontDump,
    /// Leave the range out of child processes, as V8 does with linear memories: VMAs that differ
    /// in this don't merge.
    DontFork,
    /// Bring the pages in and map them, as if each was read (kernel 5.14 and later).
    PopulateRead,
    /// Start to read the pages of a file, and don't wait for it.
    WillNeed,
    /// Bring the pages in and map them, as if each was written with what it holds (kernel 5.14 and
    /// later).
    PopulateWrite,
    /// Use huge pages from now on, where the system allows it by advice.
    HugePage,
    /// Bring the pages in, gather them in huge pages, and map them by entries for 2 MiB (kernel 6.1
    /// and later). EINVAL where that can't be.
    Collapse,
}

/// Gives the kernel advice on a range. It can't change what is there, so it is safe on any range.
pub fn advise(span: PageSpan, advice: Advice) -> SysResult<()> {
    inject::trip("madvise")?;
    let at = pointer(span.start().get())?;
    let length = to_usize(span.length().get());
    match advice {
        // SAFETY: MADV_DONTDUMP changes neither contents nor access.
        Advice::DontDump => unsafe { madvise(at, length, MmapAdvise::MADV_DONTDUMP) },
        // SAFETY: MADV_DONTFORK changes neither contents nor access in this process.
        Advice::DontFork => unsafe { madvise(at, length, MmapAdvise::MADV_DONTFORK) },
        // SAFETY: MADV_POPULATE_READ only reads; where a page can't be read it gives EFAULT instead
        // of a signal.
        Advice::PopulateRead => unsafe { madvise(at, length, MmapAdvise::MADV_POPULATE_READ) },
        // SAFETY: MADV_POPULATE_WRITE changes no contents, though private pages become the
        // process's own.
        Advice::PopulateWrite => unsafe { madvise(at, length, MmapAdvise::MADV_POPULATE_WRITE) },
        // SAFETY: MADV_HUGEPAGE changes how memory is taken from now on, and no contents.
        Advice::HugePage => unsafe { madvise(at, length, MmapAdvise::MADV_HUGEPAGE) },
        // SAFETY: MADV_COLLAPSE moves the pages and changes no contents.
        Advice::Collapse => match unsafe { libc::madvise(at.as_ptr(), length, MADV_COLLAPSE) } {
            0 => Ok(()),
            _ => Err(Errno::last()),
        },
        // SAFETY: MADV_WILLNEED only fills the page cache.
        Advice::WillNeed => unsafe { madvise(at, length, MmapAdvise::MADV_WILLNEED) },
    }
    .map_err(|errno| SysError::new("madvise", errno))
}
