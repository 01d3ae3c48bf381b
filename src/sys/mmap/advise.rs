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

/// Advice that changes what becomes of pages: their owner's to give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advice {
    /// Leave the range out of child processes, as V8 does with linear memories: VMAs that differ
    /// in this don't merge.
    DontFork,
    /// Bring the pages in and map them, as if each was written with what it holds (kernel 5.14 and
    /// later). Private pages become copies.
    PopulateWrite,
    /// Bring the pages in, gather them in huge pages, and map them by entries for 2 MiB (kernel 6.1
    /// and later). EINVAL where that can't be.
    Collapse,
}

/// A hint about a range. It changes neither contents nor access nor copies, whatever is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hint {
    /// Leave the range out of core dumps.
    DontDump,
    /// Bring the pages in and map them, as if each was read (kernel 5.14 and later).
    PopulateRead,
    /// Start to read the pages of a file, and don't wait for it.
    WillNeed,
    /// Use huge pages from now on, where the system allows it by advice.
    HugePage,
}

/// Gives the kernel advice on pages.
pub fn advise(span: OwnedSpan<'_>, advice: Advice) -> SysResult<()> {
    inject::trip("madvise")?;
    let span = span.span();
    let at = pointer(span.start().get())?;
    let length = to_usize(span.length().get());
    match advice {
        // SAFETY: MADV_DONTFORK changes nothing in this process, and a child has no use for pages
        // whose owner gives this advice.
        Advice::DontFork => unsafe { madvise(at, length, MmapAdvise::MADV_DONTFORK) },
        // SAFETY: MADV_POPULATE_WRITE keeps the contents. That private pages become copies is for
        // their owner to decide.
        Advice::PopulateWrite => unsafe { madvise(at, length, MmapAdvise::MADV_POPULATE_WRITE) },
        // SAFETY: MADV_COLLAPSE moves the pages to other memory, and keeps the contents.
        Advice::Collapse => match unsafe { libc::madvise(at.as_ptr(), length, MADV_COLLAPSE) } {
            0 => Ok(()),
            _ => Err(Errno::last()),
        },
    }
    .map_err(|errno| SysError::new("madvise", errno))
}

/// Gives the kernel a hint. It is safe on any range, even one that something else was mapped in
/// meanwhile.
pub fn hint(span: PageSpan, hint: Hint) -> SysResult<()> {
    inject::trip("madvise")?;
    let at = pointer(span.start().get())?;
    let length = to_usize(span.length().get());
    let advice = match hint {
        Hint::DontDump => MmapAdvise::MADV_DONTDUMP,
        Hint::PopulateRead => MmapAdvise::MADV_POPULATE_READ,
        Hint::WillNeed => MmapAdvise::MADV_WILLNEED,
        Hint::HugePage => MmapAdvise::MADV_HUGEPAGE,
    };
    // SAFETY: none of these changes contents, access, or what is copied when. A page that
    // can't be read makes MADV_POPULATE_READ fail with EFAULT, and raises no signal.
    unsafe { madvise(at, length, advice) }.map_err(|errno| SysError::new("madvise", errno))
}
