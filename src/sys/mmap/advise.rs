//! Advice about pages, and dropping them.
//!
//! Calls: madvise; where the kernel populates no pages (before 5.14), what `page_query` asks by.

// It gives the kernel addresses of pages.
#![allow(unsafe_code)]

use super::mapping::pointer;
use crate::sys::optional::{Feature, says_absent};
use crate::sys::owned_span::OwnedSpan;
use crate::sys::page::PageSpan;
use crate::sys::{SysError, SysResult, inject, page_query, to_usize};
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

/// MADV_POPULATE_READ and MADV_POPULATE_WRITE, which came together in 5.14. Elsewhere each page is
/// touched by a system call of its own, some 0.2 us beside the fault.
///
/// Both give EINVAL for a range that allows no such access, too.
static POPULATE: Feature = Feature::new("madvise_populate", || probe(libc::MADV_POPULATE_READ));

/// Advice that changes what becomes of pages: their owner's to give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advice {
    /// Leave the range out of child processes, as V8 does with linear memories: VMAs that differ
    /// in this don't merge.
    DontFork,
    /// The opposite, for pages that go back to where children have them.
    DoFork,
    /// Never gather the pages in huge pages.
    NoHugePage,
    /// Bring the pages in and map them, as if each was written with what it holds. Private pages
    /// become copies.
    PopulateWrite,
    /// Bring the pages in, gather them in huge pages, and map them by entries for 2 MiB (kernel 6.1
    /// and later). EINVAL where that can't be.
    Collapse,
}

/// A hint about a range. It changes neither contents nor access, whatever is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hint {
    /// Leave the range out of core dumps.
    DontDump,
    /// Bring the pages in and map them, as if each was read.
    PopulateRead,
    /// Start to read the pages of a file, and don't wait for it.
    WillNeed,
    /// Use huge pages from now on, where the system allows it by advice.
    HugePage,
    /// Make private pages copies now that would become copies when they are written. For private
    /// mappings.
    PrivateCopies,
}

/// Gives the kernel advice on pages.
pub fn advise(span: OwnedSpan<'_>, advice: Advice) -> SysResult<()> {
    inject::trip(if advice == Advice::Collapse { "madvise_collapse" } else { "madvise" })?;
    let span = span.span();
    let at = pointer(span.start().get())?;
    let length = to_usize(span.length().get());
    match advice {
        // SAFETY: MADV_DONTFORK changes nothing in this process, and a child has no use for pages
        // whose owner gives this advice.
        Advice::DontFork => unsafe { madvise(at, length, MmapAdvise::MADV_DONTFORK) },
        // SAFETY: it changes nothing in this process.
        Advice::DoFork => unsafe { madvise(at, length, MmapAdvise::MADV_DOFORK) },
        // SAFETY: it keeps contents and access.
        Advice::NoHugePage => unsafe { madvise(at, length, MmapAdvise::MADV_NOHUGEPAGE) },
        // That private pages become copies is for their owner to decide.
        Advice::PopulateWrite => return populate(&POPULATE, span, MmapAdvise::MADV_POPULATE_WRITE),
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
        Hint::PopulateRead => return populate(&POPULATE, span, MmapAdvise::MADV_POPULATE_READ),
        Hint::WillNeed => MmapAdvise::MADV_WILLNEED,
        Hint::HugePage => MmapAdvise::MADV_HUGEPAGE,
        Hint::PrivateCopies => return populate(&POPULATE, span, MmapAdvise::MADV_POPULATE_WRITE),
    };
    // SAFETY: none of these changes contents or access.
    unsafe { madvise(at, length, advice) }.map_err(|errno| SysError::new("madvise", errno))
}

/// Brings pages in and maps them, by MADV_POPULATE_READ or MADV_POPULATE_WRITE, or as they do.
/// EFAULT where a page can't be had, or is not mapped (ENOMEM where the kernel looks first).
fn populate(feature: &Feature, span: PageSpan, advice: MmapAdvise) -> SysResult<()> {
    let populated = feature.tried(|| {
        let (at, length) = (pointer(span.start().get())?, to_usize(span.length().get()));
        // SAFETY: both keep contents and access, and a page that can't be had makes them fail with
        // EFAULT, and raises no signal.
        unsafe { madvise(at, length, advice) }.map_err(|errno| SysError::new("madvise", errno))
    });
    populated.unwrap_or_else(|| match advice {
        MmapAdvise::MADV_POPULATE_WRITE => page_query::touch_for_writing(span),
        _ => page_query::touch(span),
    })
}

/// Whether pages are locked: the kernel gives no advice for such that would take them from memory.
pub(super) fn is_locked(page: PageSpan) -> bool {
    let Ok(at) = pointer(page.start().get()) else { return false };
    // SAFETY: MADV_COLD changes neither contents nor access.
    unsafe { libc::madvise(at.as_ptr(), to_usize(page.length().get()), libc::MADV_COLD) != 0 }
}

/// Whether the kernel has MADV_COLLAPSE: it is asked for no pages at all, which changes nothing.
pub fn probe_collapse() -> SysResult<()> {
    inject::trip("madvise")?;
    probe(MADV_COLLAPSE)
}

/// Whether this error of [`Advice::Collapse`] says that the kernel has no such advice, or a filter
/// lets it not through. EINVAL may be about the range, too: what is in it can't be gathered.
pub fn knows_no_collapse(refused: SysError) -> bool {
    says_absent(refused.errno) && probe(MADV_COLLAPSE).is_err_and(|asked| says_absent(asked.errno))
}

/// The same of MADV_POPULATE_READ and MADV_POPULATE_WRITE.
pub fn probe_populate() -> SysResult<()> {
    inject::trip("madvise")?;
    probe(libc::MADV_POPULATE_READ)
}

fn probe(advice: libc::c_int) -> SysResult<()> {
    // SAFETY: a range without bytes has no contents that could change.
    match unsafe { libc::madvise(std::ptr::null_mut(), 0, advice) } {
        0 => Ok(()),
        _ => Err(SysError::new("madvise", Errno::last())),
    }
}

#[cfg(all(test, feature = "inject"))]
mod tests {
    use super::*;
    use crate::sys::memfd;
    use crate::sys::mmap::{Mmap, Pages, Sharing};
    use crate::sys::optional::ABSENT_ERRNOS;
    use crate::sys::page::{PageAligned, host_page_bytes};
    use crate::sys::{file, pagemap};
    use nix::sys::mman::{ProtFlags, mprotect};
    use std::os::fd::AsFd;
    use std::os::unix::fs::FileExt;

    const PAGES: u64 = 40;
    const ALL: usize = 40;

    /// Pages that have an entry in the page table.
    fn mapped_pages(map: &Mmap) -> usize {
        let pagemap = std::fs::File::open("/proc/self/pagemap").unwrap();
        let mut entries = vec![[0; pagemap::ENTRY_BYTES]; to_usize(PAGES)];
        let position = pagemap::position_of(map.address()).unwrap().cast_unsigned();
        pagemap.read_exact_at(entries.as_flattened_mut(), position).unwrap();
        entries.iter().filter(|entry| u64::from_ne_bytes(**entry) >> 63 == 1).count()
    }

    fn own_pages(map: &Mmap) -> u64 {
        let mut own = 0;
        pagemap::read(map.span(), |run| own += run.pages()).unwrap();
        own
    }

    #[test]
    fn pages_are_brought_in_where_the_kernel_populates_none() {
        let this = Some(std::thread::current().id());
        let length = PageAligned::new(PAGES * host_page_bytes()).unwrap();
        let fd = memfd::create("populate", length.get()).unwrap();
        let offset = PageAligned::ZERO;
        for errno in ABSENT_ERRNOS {
            let of_file = |sharing| {
                let file = Pages::File { fd: fd.as_fd(), offset, sharing, is_memfd: true };
                Mmap::new(length, file).unwrap()
            };
            let touched = |map: &Mmap, advice| {
                inject::arm("madvise_populate", 0, errno as i32, this);
                let done = hint(map.span(), advice);
                assert!(!inject::disarm(this), "it went off");
                done
            };
            // Mapped, and the file's still.
            let map = of_file(Sharing::ReadOnly);
            assert_eq!(mapped_pages(&map), 0);
            touched(&map, Hint::PopulateRead).unwrap();
            assert_eq!((mapped_pages(&map), own_pages(&map)), (ALL, 0), "{errno}");
            let map = of_file(Sharing::CopyOnWrite);
            touched(&map, Hint::PrivateCopies).unwrap();
            assert_eq!((mapped_pages(&map), own_pages(&map)), (ALL, PAGES), "{errno}");
        }
    }

    #[test]
    fn a_range_that_allows_no_access_does_not_end_populating_for_good() {
        let length = PageAligned::new(PAGES * host_page_bytes()).unwrap();
        // EINVAL for each, as from a kernel that knows no such advice.
        let cases = [
            (ProtFlags::PROT_NONE, MmapAdvise::MADV_POPULATE_READ),
            (ProtFlags::PROT_NONE, MmapAdvise::MADV_POPULATE_WRITE),
            (ProtFlags::PROT_READ, MmapAdvise::MADV_POPULATE_WRITE),
        ];
        for (access, advice) in cases {
            let feature = Feature::new("first_use", || probe(libc::MADV_POPULATE_READ));
            let bad = Mmap::new(length, Pages::Zeros).unwrap();
            // SAFETY: the test's own pages, which nobody touches.
            unsafe { mprotect(bad.pointer, to_usize(length.get()), access) }.unwrap();
            // What touches pages instead has the last word on them.
            let errno = populate(&feature, bad.span(), advice).unwrap_err().errno;
            assert_eq!(errno, Errno::EFAULT, "{access:?} {advice:?}");
            assert_eq!(mapped_pages(&bad), 0);
            assert_eq!(feature.is_known_absent(), probe_populate().is_err());
            let good = Mmap::new(length, Pages::Zeros).unwrap();
            populate(&feature, good.span(), MmapAdvise::MADV_POPULATE_WRITE).unwrap();
            assert_eq!(mapped_pages(&good), ALL);
        }
    }

    #[test]
    fn a_page_that_can_not_be_had_is_an_error_and_no_signal() {
        let this = Some(std::thread::current().id());
        let length = PageAligned::new(PAGES * host_page_bytes()).unwrap();
        let fd = memfd::create_growing("shrinks").unwrap();
        file::set_length(&fd, length.get()).unwrap();
        let file = Pages::File {
            fd: fd.as_fd(),
            offset: PageAligned::ZERO,
            sharing: Sharing::ReadOnly,
            is_memfd: true,
        };
        let map = Mmap::new(length, file).unwrap();
        file::set_length(&fd, 3 * host_page_bytes()).unwrap();
        for way in [Some(libc::EINVAL), None] {
            if let Some(errno) = way {
                inject::arm("madvise_populate", 0, errno, this);
            }
            let refused = hint(map.span(), Hint::PopulateRead).unwrap_err();
            assert_eq!(refused.errno, Errno::EFAULT, "{way:?}");
        }
        assert!(!inject::disarm(this), "it went off");
    }
}
