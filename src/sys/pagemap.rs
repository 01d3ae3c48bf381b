//! Which pages of a range are this process's own: in anonymous memory those that were ever written,
//! in a private mapping of a file those that were written since it was mapped.
//!
//! Everything about the kernel's page map is here, its flags and its two forms. PAGEMAP_SCAN
//! (kernel 6.7) walks the page tables. It costs some 1.5 us for each 2 MiB in which any page is
//! mapped, and about 11 ns for each file page that is (measured on 6.18); nothing for what was
//! never touched, and next to nothing for what is mapped by entries for 2 MiB.
//!
//! To use more of the call:
//! - To look for pages by another category (`PAGE_IS_*`), add a variant to [`Which`].
//! - To be told a category of the pages that are found, add it to `return_mask` in [`scan`], and a
//!   field to [`Run`]. Pages that differ in it come as separate runs.
//! - A flag of the scan (`PM_SCAN_*`) goes into `flags` of the [`ScanArgument`] in [`scan`].
//!   `PM_SCAN_WP_MATCHING` protects pages from writes: then the argument of [`scan_kept`] that no
//!   page changes no longer holds, and `scan` must take a span that the caller owns
//!   (`owned_span.rs`).
//!
//! A page that was swapped out is as much the process's own as one in memory, but not "present", so
//! both are asked for. (wasmtime left the first kind out for a year; its pull request 14357.)
//!
//! Calls: open, ioctl(PAGEMAP_SCAN) and pread on /proc/self/pagemap. Not for handlers.

// The kernel writes to arrays by address.
#![allow(unsafe_code)]

use super::optional::Feature;
use super::page::{PageAligned, PageSpan, host_page_bytes};
use super::{SysError, SysResult, inject, to_u64, to_usize};
use nix::errno::Errno;
use std::ffi::c_int;
use std::fs::File;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, IntoRawFd, RawFd};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicI32, Ordering};

/// `struct pm_scan_arg` of linux/fs.h.
#[repr(C)]
#[derive(Debug, Default)]
pub struct ScanArgument {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

/// `struct page_region` of linux/fs.h.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct PageRegion {
    start: u64,
    end: u64,
    categories: u64,
}

const SCAN_ARGUMENT_BYTES: u64 = 96;
const _: () = assert!(size_of::<ScanArgument>() == 96 && size_of::<PageRegion>() == 24);

const PAGE_IS_FILE: u64 = 1 << 2;
const PAGE_IS_PRESENT: u64 = 1 << 3;
const PAGE_IS_SWAPPED: u64 = 1 << 4;
const PAGE_IS_PFNZERO: u64 = 1 << 5;
const PAGE_IS_HUGE: u64 = 1 << 6;

nix::ioctl_readwrite!(pagemap_scan, b'f', 16, ScanArgument);

/// What one call gives at most: 6 KiB of stack.
const REGIONS: usize = 256;

/// Which pages are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// The process's own in anonymous memory: not the kernel's page of zeros, and there, in memory
    /// or swapped out.
    Own,
    /// The process's own in a private mapping of a file: not the file's. Here the page of zeros is
    /// one that was written (samepage merging puts it there).
    OwnOfFile,
    /// What was only read, mapped one by one: a file's, or the page of zeros.
    SmallClean,
    /// The kernel's page of zeros.
    Zeros,
    /// Mapped by entries for 2 MiB.
    Huge,
    /// A file's, and mapped.
    OfFile,
    /// Mapped one by one, or swapped out; of each run, whether the pages are a file's.
    Small,
}

impl Which {
    /// `category_inverted`, `category_mask` and `category_anyof_mask`.
    fn categories(self) -> [u64; 3] {
        match self {
            Self::Own => [
                PAGE_IS_FILE | PAGE_IS_PFNZERO,
                PAGE_IS_FILE | PAGE_IS_PFNZERO,
                PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
            ],
            Self::OwnOfFile => [PAGE_IS_FILE, PAGE_IS_FILE, PAGE_IS_PRESENT | PAGE_IS_SWAPPED],
            Self::Zeros => [0, PAGE_IS_PRESENT | PAGE_IS_PFNZERO, 0],
            Self::Huge => [0, PAGE_IS_PRESENT | PAGE_IS_HUGE, 0],
            Self::OfFile => [0, PAGE_IS_PRESENT | PAGE_IS_FILE, 0],
            Self::Small => [PAGE_IS_HUGE, PAGE_IS_HUGE, PAGE_IS_PRESENT | PAGE_IS_SWAPPED],
            Self::SmallClean => {
                [PAGE_IS_HUGE, PAGE_IS_PRESENT | PAGE_IS_HUGE, PAGE_IS_FILE | PAGE_IS_PFNZERO]
            }
        }
    }
}

/// Pages that were found, side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    pub span: PageSpan,
    /// Not in memory: touching them would read them in.
    pub is_swapped: bool,
    /// A file's. False where that was not asked for.
    pub is_file: bool,
}

fn open_pagemap() -> SysResult<File> {
    File::open("/proc/self/pagemap").map_err(|error| SysError::from_io("open", &error))
}

/// Kept open: it is about this process's memory as long as the process lives. -1: not open yet.
static PAGEMAP: AtomicI32 = AtomicI32::new(-1);

impl Run {
    pub fn pages(&self) -> u64 {
        pages_of(self.span)
    }
}

/// Scans by the kept descriptor. A script that closes descriptors by number may have closed it, and
/// another file may have its number now. That file knows no such call: then the page map is opened
/// again, and the number is left alone.
fn scan_kept(argument: &mut ScanArgument) -> SysResult<c_int> {
    // SAFETY: the kernel writes to `argument`, which says its own size, and at most `vec_len`
    // regions at `vec`: `scan` makes both of one array that outlives the call. No flag is set, so
    // no page changes.
    let mut scan = |fd: RawFd| unsafe { pagemap_scan(fd, argument) };
    let kept = PAGEMAP.load(Ordering::Acquire);
    if kept >= 0 {
        match scan(kept) {
            Err(Errno::ENOTTY | Errno::EBADF | Errno::EINVAL) => {}
            done => return done.map_err(|errno| SysError::new("ioctl", errno)),
        }
    }
    let fresh = open_pagemap()?;
    let found = scan(fresh.as_raw_fd()).map_err(|errno| SysError::new("ioctl", errno))?;
    if PAGEMAP
        .compare_exchange(kept, fresh.as_raw_fd(), Ordering::AcqRel, Ordering::Relaxed)
        .is_ok()
    {
        let _ = fresh.into_raw_fd();
    }
    Ok(found)
}

static SCAN: Feature = Feature::new("ioctl_pagemap", scan_nothing);

/// Whether the kernel has the call, whatever is mapped where.
fn scan_nothing() -> SysResult<()> {
    // Without the file nothing is known of the call: no error of its opening says so.
    let pagemap = open_pagemap().map_err(|sys| SysError { errno: Errno::EBADF, ..sys })?;
    let mut argument = ScanArgument { size: SCAN_ARGUMENT_BYTES, ..ScanArgument::default() };
    // SAFETY: the kernel writes to `argument`, which says its own size, and to no list of regions:
    // none is given, and the range has no pages.
    let scanned = unsafe { pagemap_scan(pagemap.as_raw_fd(), &raw mut argument) };
    scanned.map(drop).map_err(|errno| SysError::new("ioctl", errno))
}

/// Shows all runs of a range in order, until `most_pages` pages were shown. Gives up to where it
/// has looked: the end, unless there may be more. An error: the kernel can't tell, and of the rest
/// of the range nothing is known.
pub fn scan(
    span: PageSpan,
    which: Which,
    most_pages: u64,
    mut show: impl FnMut(Run),
) -> SysResult<PageAligned> {
    let [category_inverted, category_mask, category_anyof_mask] = which.categories();
    let of_file = if which == Which::Small { PAGE_IS_FILE } else { 0 };
    let return_mask = PAGE_IS_SWAPPED | of_file;
    let (mut at, mut left) = (span.start(), most_pages);
    // Clearing it would be a good part of a scan that finds nothing.
    let mut regions = [const { MaybeUninit::<PageRegion>::uninit() }; REGIONS];
    while at < span.end() && left > 0 {
        let mut argument = ScanArgument {
            size: SCAN_ARGUMENT_BYTES,
            start: at.get(),
            end: span.end().get(),
            vec: to_u64(regions.as_mut_ptr() as usize),
            vec_len: to_u64(REGIONS),
            max_pages: left,
            category_inverted,
            category_mask,
            category_anyof_mask,
            return_mask,
            ..ScanArgument::default()
        };
        let found = match SCAN.tried(|| scan_kept(&mut argument)) {
            Some(Ok(found)) => found,
            Some(Err(SysError { errno: Errno::EINTR, .. })) => continue,
            Some(Err(sys)) => return Err(sys),
            None => return Err(SysError::new("ioctl", Errno::ENOTTY)),
        };
        let found = usize::try_from(found).expect("the kernel counts regions from 0");
        for region in regions.iter().take(found) {
            // SAFETY: the kernel has written as many regions as it says, from the first one on, and
            // a region is three numbers.
            let region = unsafe { region.assume_init() };
            let span = PageAligned::new(region.start).zip(PageAligned::new(region.end));
            let Some(run) = span.and_then(|(start, end)| PageSpan::between(start, end)) else {
                return Err(SysError::new("ioctl", Errno::EIO));
            };
            left = left.checked_sub(pages_of(run)).expect("the kernel was told the most pages");
            show(Run {
                span: run,
                is_swapped: region.categories & PAGE_IS_SWAPPED != 0,
                is_file: region.categories & PAGE_IS_FILE != 0,
            });
        }
        let walked = PageAligned::new(argument.walk_end).filter(|walked| *walked > at);
        at = walked.ok_or(SysError::new("ioctl", Errno::EIO))?.min(span.end());
    }
    Ok(at)
}

/// The process's own by reading the pagemap (any kernel), a page after the other: for calls that
/// may take long. The kernel's page of zeros counts as the process's own here.
pub fn read(span: PageSpan, mut show: impl FnMut(Run)) -> SysResult<()> {
    const ENTRIES: usize = 512;
    inject::trip("pread_pagemap")?;
    let pagemap = open_pagemap()?;
    let mut buffer = [[0_u8; ENTRY_BYTES]; ENTRIES];
    let most_bytes = to_u64(ENTRIES).checked_mul(host_page_bytes()).expect("some megabytes");
    let mut next = Some(span);
    while let Some(rest) = next {
        let step = rest.first(most_bytes);
        let (entries, _) = buffer.split_at_mut(to_usize(pages_of(step)));
        let position = position_of(step.start().get());
        let position = position.ok_or(SysError::new("pread", Errno::EOVERFLOW))?;
        pagemap
            .read_exact_at(entries.as_flattened_mut(), position.cast_unsigned())
            .map_err(|error| SysError::from_io("pread", &error))?;
        let pages = (step.start().get()..).step_by(to_usize(host_page_bytes()));
        for (entry, address) in entries.iter().zip(pages) {
            let entry = u64::from_ne_bytes(*entry);
            if entry & FILE_OR_SHARED == 0 && entry & (PRESENT | SWAPPED) != 0 {
                let span = PageSpan::page_at(address).expect("a page of the span");
                show(Run { span, is_swapped: entry & SWAPPED != 0, is_file: false });
            }
        }
        next = PageSpan::between(step.end(), span.end());
    }
    Ok(())
}

fn pages_of(span: PageSpan) -> u64 {
    span.length().get().checked_div(host_page_bytes()).expect("a page is not empty")
}

/// Bytes of an entry of /proc/self/pagemap, and its bits (proc_pid_pagemap(5)).
pub(super) const ENTRY_BYTES: usize = 8;
const FILE_OR_SHARED: u64 = 1 << 61;
const SWAPPED: u64 = 1 << 62;
const PRESENT: u64 = 1 << 63;

/// Where in /proc/self/pagemap the entry of an address is. `None` on overflow. Safe in a handler.
pub(super) fn position_of(address: u64) -> Option<i64> {
    let index = address.checked_div(host_page_bytes())?;
    index.checked_mul(to_u64(ENTRY_BYTES)).and_then(|at| i64::try_from(at).ok())
}

/// Whether an entry is that of a page in memory that is a file's. Safe in a handler.
pub(super) fn is_present_file_page(entry: u64) -> bool {
    entry & (FILE_OR_SHARED | PRESENT) == FILE_OR_SHARED | PRESENT
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::contents;
    use crate::sys::mmap::{Mmap, Pages, Sharing};
    use std::os::fd::AsFd;

    fn page(map: &Mmap, index: u64) -> PageSpan {
        PageSpan::page_at(map.address() + index * host_page_bytes()).unwrap()
    }

    fn found(map: &Mmap, most_pages: u64) -> Option<(Vec<u64>, u64)> {
        let mut pages = Vec::new();
        let end = scan(map.span(), Which::Own, most_pages, |run| {
            let (start, end) = (run.span.start().get(), run.span.end().get());
            pages.extend(
                (start..end)
                    .step_by(host_page_bytes() as usize)
                    .map(|at| (at - map.address()) / host_page_bytes()),
            );
        });
        // Kernels before 6.7 can't tell.
        Some((pages, (end.ok()?.get() - map.address()) / host_page_bytes()))
    }

    fn write(map: &Mmap, index: u64) {
        // SAFETY: a page of the test's own mapping.
        unsafe { contents::clear(page(map, index)) };
    }

    fn read_one(map: &Mmap, index: u64) {
        // SAFETY: a page of the test's own mapping.
        let _ = unsafe { contents::is_zero(page(map, index)) };
    }

    #[test]
    fn a_scan_of_nothing_tells_whether_there_are_scans() {
        let map = Mmap::new(PageAligned::round_up(1).unwrap(), Pages::Zeros).unwrap();
        assert_eq!(scan_nothing().is_ok(), found(&map, 1).is_some());
    }

    #[test]
    fn written_pages_are_found_and_read_ones_are_not() {
        let length = PageAligned::new(64 * host_page_bytes()).unwrap();
        let fd = crate::sys::memfd::create("scan", length.get()).unwrap();
        let file = Pages::File {
            fd: fd.as_fd(),
            offset: PageAligned::ZERO,
            sharing: Sharing::CopyOnWrite,
            is_memfd: true,
        };
        for pages in [Pages::Zeros, file] {
            let map = Mmap::new(length, pages).unwrap();
            for index in [0, 7, 63] {
                read_one(&map, index);
            }
            let Some(before) = found(&map, 1000) else { return };
            assert_eq!(before, (vec![], 64));
            for index in [3, 4, 40] {
                write(&map, index);
            }
            assert_eq!(found(&map, 1000), Some((vec![3, 4, 40], 64)));
            let (some, walked) = found(&map, 2).unwrap();
            assert_eq!(some, [3, 4]);
            assert!((5..=40).contains(&walked), "{walked}");
            let mut by_reading = Vec::new();
            read(map.span(), |run| by_reading.push(run.span)).unwrap();
            let own: Vec<PageSpan> =
                [3, 4, 40].into_iter().map(|index| page(&map, index)).collect();
            assert!(own.iter().all(|page| by_reading.contains(page)));
        }
    }

    #[test]
    fn small_pages_are_a_files_until_they_are_written() {
        let length = PageAligned::new(16 * host_page_bytes()).unwrap();
        let fd = crate::sys::memfd::create("scan", length.get()).unwrap();
        let sharing = Sharing::CopyOnWrite;
        let pages =
            Pages::File { fd: fd.as_fd(), offset: PageAligned::ZERO, sharing, is_memfd: true };
        let map = Mmap::new(length, pages).unwrap();
        // Allocated by a read, and with what is around it mapped by the last one.
        (0..16).for_each(|index| read_one(&map, index));
        for index in [4, 5] {
            write(&map, index);
        }
        let found = |most_pages| {
            let mut runs = Vec::new();
            let end = scan(map.span(), Which::Small, most_pages, |run| {
                runs.push((run.pages(), run.is_file && !run.is_swapped));
            });
            Some((runs, end.ok()?))
        };
        let Some(all) = found(1000) else { return };
        assert_eq!(all, (vec![(4, true), (2, false), (10, true)], map.span().end()));
        let is_files = |index| {
            let mut is_files = false;
            scan(page(&map, index), Which::OfFile, 1, |_| is_files = true).unwrap();
            is_files
        };
        assert_eq!([3, 4, 5, 6].map(is_files), [true, false, false, true]);
        // Those that are not a file's count, too.
        assert_eq!(found(6).unwrap().0, [(4, true), (2, false)]);
    }

    #[test]
    fn more_runs_than_one_call_gives_are_all_found() {
        let pages = 4 * REGIONS as u64;
        let map =
            Mmap::new(PageAligned::new(pages * host_page_bytes()).unwrap(), Pages::Zeros).unwrap();
        let own: Vec<u64> = (0..pages).step_by(2).collect();
        for index in &own {
            write(&map, *index);
        }
        let Some(all) = found(&map, u64::MAX) else { return };
        assert_eq!(all, (own, pages));
    }
}
