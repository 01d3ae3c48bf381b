//! Mappings, and replacing the pages of an address range without ever leaving a hole.
//!
//! # A hole is the one thing that must not happen
//!
//! A linear memory is in a reservation of V8's: 8 to 16 GiB of address space that nothing else
//! may enter, because compiled Wasm code checks no bounds and trusts the inaccessible pages around
//! the memory. Whatever takes the place of some of its pages must do so in one step: a hole is
//! filled by the next mmap of any thread, a stack or a heap or somebody's file, and the module can
//! reach it.
//!
//! `mmap(MAP_FIXED)` is such a step when it succeeds. What a failure leaves depends on where it
//! comes:
//!
//! ```text
//! before the old pages are removed       nothing has changed
//! in the file's own mmap operation       a hole: the old pages are gone by then, on every kernel up to 6.18 at least
//! no memory for the kernel's own tables  a hole, with mremap too: they are allocated last
//! anywhere else, on kernels before 6.12  a hole: there, the old pages are removed first of all
//! ```
//!
//! So `mmap(MAP_FIXED)` is used where no operation of a file can fail: for zeros, and for private
//! mappings of memfds, on kernels from 6.12 on. All else is mapped somewhere else first, where a
//! failure harms nobody, and then moved over the old pages with `mremap(MREMAP_FIXED)`. Moving
//! pages that were never touched allocates next to nothing, and what else can fail (the number of
//! VMAs) is checked before the old pages are removed.
//!
//! What remains is a kernel that has no memory for a VMA of some hundred bytes and can kill
//! nobody to get some. Then the hole is [plugged](plug) at once, with zeros; where that can't be,
//! the process ends, since a sandbox with a hole must not go on.

use super::owned_span::OwnedSpan;
use super::page::{HUGE_PAGE_BYTES, PageAligned, PageSpan, host_page_bytes};
use super::{SysError, SysResult, inject, limits, process_map, to_u64, to_usize};
use crate::sys::alloc;
use nix::errno::Errno;
use nix::sys::mman::{
    MRemapFlags, MapFlags, MmapAdvise, ProtFlags, madvise, mmap, mmap_anonymous, mprotect, mremap,
    munmap,
};
use std::ffi::c_void;
use std::num::NonZeroUsize;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// How the pages of a file are seen through a mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// Reads see the file; a write is refused by the processor. Made copy-on-write, so that a
    /// call that makes the pages writable all the same (V8 does when a memory grows) can't change
    /// the file.
    ReadOnly,
    /// Reads see the file; a write goes to a copy of the page.
    CopyOnWrite,
    /// Reads and writes go to the file.
    Shared,
    /// Neither reads nor writes are allowed.
    Inaccessible,
}

impl Sharing {
    fn protection(self) -> ProtFlags {
        match self {
            Self::Inaccessible => ProtFlags::PROT_NONE,
            Self::ReadOnly => ProtFlags::PROT_READ,
            Self::CopyOnWrite | Self::Shared => ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
        }
    }

    fn flags(self) -> MapFlags {
        match self {
            // NORESERVE: a 300 GB file must not be refused for the copies that will never be made.
            Self::Inaccessible | Self::ReadOnly | Self::CopyOnWrite => {
                MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE
            }
            Self::Shared => MapFlags::MAP_SHARED,
        }
    }
}

/// What is put in the place of pages.
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

/// How pages are replaced. See the head of this file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Strategy {
    InPlace,
    MoveOver,
}

fn strategy(pages: Pages<'_>) -> Strategy {
    match pages {
        Pages::Zeros | Pages::ReadonlyZeros => strategy_of_kernel(),
        Pages::File { is_memfd, sharing, .. } => strategy_of_file(is_memfd, sharing),
    }
}

fn strategy_of_file(is_memfd: bool, sharing: Sharing) -> Strategy {
    if is_memfd && sharing != Sharing::Shared { strategy_of_kernel() } else { Strategy::MoveOver }
}

/// Finds out how pages are replaced, so that a signal handler need not.
pub fn prepare_for_handler() {
    strategy_of_kernel();
}

fn strategy_of_kernel() -> Strategy {
    static STRATEGY: OnceLock<Strategy> = OnceLock::new();
    *STRATEGY.get_or_init(|| {
        match kernel_version() {
            Some(version) if version >= (6, 12) => Strategy::InPlace,
            // An unknown kernel is treated as an old one: slower, never wrong.
            _ => Strategy::MoveOver,
        }
    })
}

fn kernel_version() -> Option<(u32, u32)> {
    let release =
        nix::sys::utsname::uname().map(|name| name.release().to_string_lossy().into_owned());
    release.ok().as_deref().and_then(parse_release)
}

fn parse_release(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Replaces the pages of an address range, in one step or not at all.
///
/// Cost: one `mmap` for zeros and private mappings of memfds; otherwise, and on kernels before
/// 6.12, an `mmap` and an `mremap`.
pub fn replace(span: OwnedSpan<'_>, pages: Pages<'_>) -> SysResult<()> {
    replace_and_plug(strategy(pages), span, pages)
}

fn replace_and_plug(strategy: Strategy, span: OwnedSpan<'_>, pages: Pages<'_>) -> SysResult<()> {
    replace_by(strategy, span, pages).map_err(|sys| SysError { removed: plug(span), ..sys })
}

/// How often the kernel is asked for a VMA before the process is given up.
const PLUG_ATTEMPTS: usize = 10_000;

/// After a failure: zeros in a span of the caller's, if its pages were removed; whether they were.
/// Safe in a signal handler.
///
/// Nobody else can be in the hole but by an `mmap` that came between the two calls, and had the
/// memory that ours had not.
fn plug(span: OwnedSpan<'_>) -> bool {
    let span = span.span();
    let (Ok(start), length) = (pointer(span.start().get()), to_usize(span.length().get())) else {
        return false;
    };
    // SAFETY: MS_ASYNC changes nothing, since Linux 2.6.19 (msync(2)). It fails with ENOMEM where
    // pages are not mapped.
    let is_whole = || unsafe { libc::msync(start.as_ptr(), length, libc::MS_ASYNC) } == 0;
    let flags =
        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED_NOREPLACE;
    for _ in 0..PLUG_ATTEMPTS {
        if is_whole() {
            return false;
        }
        // SAFETY: MAP_FIXED_NOREPLACE maps only where nothing is mapped, so no reference can point
        // there; and what is mapped is where the owner of the span wants pages.
        let at = unsafe {
            libc::mmap(start.as_ptr(), length, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0)
        };
        if at == start.as_ptr() {
            return true;
        }
        if at != libc::MAP_FAILED || Errno::last() == Errno::EEXIST {
            // Somebody is in it. (Or the kernel, from before 4.17, does not know the flag.)
            break;
        }
        // No memory: others may give some back.
        super::thread::yield_now();
    }
    let message = b"wasm-hostmap: a hole in a WebAssembly memory's reservation can't be closed\n";
    // SAFETY: a message of so many bytes. Nothing can be done if it can't be written.
    unsafe { libc::write(libc::STDERR_FILENO, message.as_ptr().cast(), message.len()) };
    std::process::abort();
}

/// As a kernel without memory: the old pages are gone, and nothing is in their place. For tests.
#[cfg_attr(not(feature = "inject"), allow(unused_variables, clippy::unnecessary_wraps))]
fn trip_with_hole(span: OwnedSpan<'_>) -> SysResult<()> {
    #[cfg(feature = "inject")]
    if let Err(failure) = inject::trip("hole") {
        let span = span.span();
        // SAFETY: the owner of the span is about to replace these pages: nobody needs them, and no
        // Rust reference points into them.
        let unmapped =
            unsafe { munmap(pointer(span.start().get())?, to_usize(span.length().get())) };
        return unmapped.and(Err(failure.errno)).map_err(|errno| SysError::new("mremap", errno));
    }
    Ok(())
}

fn replace_by(strategy: Strategy, span: OwnedSpan<'_>, pages: Pages<'_>) -> SysResult<()> {
    match strategy {
        Strategy::InPlace => {
            trip_with_hole(span)?;
            let at = raw_mmap(At::Over(span), pages)?;
            assert_eq!(
                address_of(at),
                span.span().start().get(),
                "MAP_FIXED gives the address that was asked for"
            );
            Ok(())
        }
        Strategy::MoveOver => {
            let scratch = Mmap::new(span.span().length(), pages)?;
            move_over(scratch, span)
        }
    }
}

/// Moves a mapping that we made over a span of its length.
fn move_over(scratch: Mmap, target: OwnedSpan<'_>) -> SysResult<()> {
    inject::trip("mremap")?;
    trip_with_hole(target)?;
    let span = target.span();
    assert_eq!(scratch.length, span.length(), "a mapping is moved over as many pages");
    let length = to_usize(span.length().get());
    let target = pointer(span.start().get())?;
    let flags = MRemapFlags::MREMAP_MAYMOVE | MRemapFlags::MREMAP_FIXED;
    // SAFETY: nobody else has the scratch mapping's address, so no reference dangles when it
    // moves. The pages that it replaces are an owned span of the same length.
    let moved = unsafe { mremap(scratch.pointer, length, length, flags, Some(target)) };
    let moved = moved.map_err(|errno| SysError::new("mremap", errno))?;
    // What was the scratch mapping is at the target now: nothing is left to unmap.
    std::mem::forget(scratch);
    assert_eq!(
        address_of(moved),
        span.start().get(),
        "MREMAP_FIXED gives the address that was asked for"
    );
    Ok(())
}

/// Where pages are mapped.
enum At<'a> {
    /// Where the kernel finds so much free address space.
    Anywhere(PageAligned),
    /// In the place of others.
    Over(OwnedSpan<'a>),
}

fn raw_mmap(at: At<'_>, pages: Pages<'_>) -> SysResult<NonNull<c_void>> {
    inject::trip("mmap")?;
    let (fixed, length) = match at {
        At::Anywhere(length) => (None, length),
        At::Over(span) => (Some(span.span()), span.span().length()),
    };
    let size =
        NonZeroUsize::new(to_usize(length.get())).ok_or(SysError::new("mmap", Errno::EINVAL))?;
    let address = fixed.and_then(|span| NonZeroUsize::new(to_usize(span.start().get())));
    let fixed = if fixed.is_some() { MapFlags::MAP_FIXED } else { MapFlags::empty() };
    let mapped = match pages {
        Pages::File { fd, offset, sharing, .. } => {
            let offset =
                i64::try_from(offset.get()).map_err(|_| SysError::new("mmap", Errno::EOVERFLOW))?;
            // SAFETY: MAP_FIXED is set for an owned span alone, which may be replaced. Without it
            // the kernel picks addresses that nobody uses.
            unsafe {
                mmap(address, size, sharing.protection(), sharing.flags() | fixed, fd, offset)
            }
        }
        Pages::Zeros | Pages::ReadonlyZeros => {
            let writable = matches!(pages, Pages::Zeros);
            let protection = if writable {
                ProtFlags::PROT_READ | ProtFlags::PROT_WRITE
            } else {
                ProtFlags::PROT_READ
            };
            let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE | fixed;
            // SAFETY: MAP_FIXED replaces an owned span or is not set.
            unsafe { mmap_anonymous(address, size, protection, flags) }
        }
    };
    mapped.map_err(|errno| SysError::new("mmap", errno))
}

fn pointer(address: u64) -> SysResult<NonNull<c_void>> {
    NonNull::new(to_usize(address) as *mut c_void).ok_or(SysError::new("mmap", Errno::EINVAL))
}

fn address_of(pointer: NonNull<c_void>) -> u64 {
    to_u64(pointer.as_ptr() as usize)
}

/// Makes pages read-only.
pub fn protect_readonly(span: OwnedSpan<'_>) -> SysResult<()> {
    inject::trip("mprotect")?;
    let span = span.span();
    // SAFETY: of an owned span, no Rust reference expects that it can be written.
    unsafe {
        mprotect(pointer(span.start().get())?, to_usize(span.length().get()), ProtFlags::PROT_READ)
    }
    .map_err(|errno| SysError::new("mprotect", errno))
}

/// Makes private pages writable: what is written goes to copies. Not for shared ones, whose writes
/// would go to the file.
pub fn unprotect_private(span: OwnedSpan<'_>) -> SysResult<()> {
    inject::trip("mprotect")?;
    let span = span.span();
    let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    // SAFETY: no Rust reference points into an owned span, so none to bytes that would have to stay
    // as they are.
    unsafe { mprotect(pointer(span.start().get())?, to_usize(span.length().get()), access) }
        .map_err(|errno| SysError::new("mprotect", errno))
}

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

// Of linux/mman.h. nix knows neither, and libc not on all targets.
const MADV_DONTNEED_LOCKED: libc::c_int = 24;
const MADV_COLLAPSE: libc::c_int = 25;

/// Whether a page can be written, by the process's map. Where that is text it costs more the more
/// VMAs there are, but any call that tries it out makes a copy of the page, which can't be dropped
/// again without losing what another thread writes to it meanwhile.
pub fn is_writable(page: PageSpan) -> bool {
    let vma = process_map::at_or_after(page.start().get());
    !matches!(vma, Ok(Some(vma)) if vma.start <= page.start().get() && !vma.writable)
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
    /// Map no page by an entry for 2 MiB.
    NoHugePage,
    /// Bring the pages in, gather them in huge pages, and map them by entries for 2 MiB (kernel 6.1
    /// and later). EINVAL where that can't be.
    Collapse,
}

/// Gives the kernel advice on a range. It can't change what is there, so it is safe on any
/// range.
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
        // SAFETY: MADV_NOHUGEPAGE changes how pages are mapped from now on, and no contents.
        Advice::NoHugePage => unsafe { madvise(at, length, MmapAdvise::MADV_NOHUGEPAGE) },
        // SAFETY: MADV_WILLNEED only fills the page cache.
        Advice::WillNeed => unsafe { madvise(at, length, MmapAdvise::MADV_WILLNEED) },
    }
    .map_err(|errno| SysError::new("madvise", errno))
}

/// Puts the pages of a range of `mirror` in the place of others, by one system call: what was
/// touched of them is touched already. The mirror keeps its own pages there, untouched ones.
///
/// `mremap` removes the old pages early (`mremap_to` in mm/mremap.c) and may fail after that for
/// reasons that plain moves don't have. Each is kept away from here: that the kernel can't do it at
/// all ([`can_move_from`]), that the range is in two VMAs (nobody ever splits a mirror), that it
/// may not have so much address space or memory ([`can_mirror`]).
pub fn move_from(mirror: &Mmap, from: PageSpan, over: OwnedSpan<'_>) -> SysResult<()> {
    inject::trip("mremap")?;
    let target = over.span();
    if from.within(mirror.span()) != Some(from) || from.length() != target.length() {
        return Err(SysError::new("mremap", Errno::EFAULT));
    }
    let length = to_usize(target.length().get());
    let flags = MRemapFlags::MREMAP_MAYMOVE
        | MRemapFlags::MREMAP_FIXED
        | MRemapFlags::from_bits_retain(libc::MREMAP_DONTUNMAP);
    let (from, to) = (pointer(from.start().get())?, pointer(target.start().get())?);
    let moved = trip_with_hole(over).and_then(|()| {
        // SAFETY: `from` is inside the mirror, of which there are no references and which keeps
        // its addresses (MREMAP_DONTUNMAP). The target is an owned span of the same length.
        unsafe { mremap(from, length, length, flags, Some(to)) }
            .map_err(|errno| SysError::new("mremap", errno))
    });
    let moved = moved.map_err(|sys| SysError { removed: plug(over), ..sys })?;
    assert_eq!(
        address_of(moved),
        target.start().get(),
        "MREMAP_FIXED gives the address that was asked for"
    );
    Ok(())
}

/// Whether the kernel moves such pages and leaves their VMA behind (MREMAP_DONTUNMAP, from 5.13 on
/// for files). Tries it with one page, to where the kernel likes: that removes nothing if it fails,
/// as it does on older ones.
pub fn can_move_from(first_page: Pages<'_>) -> bool {
    let Some(page) = PageAligned::round_up(1) else { return false };
    let Ok(mirror) = Mmap::new(page, first_page) else { return false };
    let length = to_usize(page.get());
    let flags = MRemapFlags::MREMAP_MAYMOVE | MRemapFlags::from_bits_retain(libc::MREMAP_DONTUNMAP);
    if inject::trip("mremap").is_err() {
        return false;
    }
    // SAFETY: the page is ours, and nothing is replaced.
    match unsafe { mremap(mirror.pointer, length, length, flags, None) } {
        Ok(pointer) => {
            drop(Mmap { pointer, length: page, abandoned: AtomicBool::new(false) });
            true
        }
        Err(_) => false,
    }
}

/// Whether pages of this kind may be moved from a mirror: not where the kernel accounts for them,
/// since it does so after it has removed what was there.
pub fn can_mirror(sharing: Sharing) -> bool {
    let is_bounded = |limit: SysResult<Option<u64>>| limit.map_or(true, |limit| limit.is_some());
    let private_data_is_bounded =
        || is_bounded(limits::rlimit_data()) || limits::overcommit() == limits::Overcommit::Never;
    !(is_bounded(limits::rlimit_address_space())
        || sharing == Sharing::CopyOnWrite && private_data_is_bounded())
}

/// Whether pages of this kind may be moved from a mirror now. A limit may have come since the
/// mirror was made (prlimit(1)); the kernel would find it passed when the old pages are gone, and
/// then have no address space for others either.
pub fn can_move_now(sharing: Sharing) -> bool {
    !limits::is_bounded_now(sharing == Sharing::CopyOnWrite)
}

/// Whether [`replace`] puts these pages in place by one system call.
pub fn is_one_step(is_memfd: bool, sharing: Sharing) -> bool {
    strategy_of_file(is_memfd, sharing) == Strategy::InPlace
}

/// A mapping of our own, at an address that the kernel picked. Unmapped when dropped.
#[derive(Debug)]
pub struct Mmap {
    pointer: NonNull<c_void>,
    length: PageAligned,
    abandoned: AtomicBool,
}

// SAFETY: it is a range of addresses; nothing in it belongs to a thread.
unsafe impl Send for Mmap {}
// SAFETY: shared, it gives out its address and length only.
unsafe impl Sync for Mmap {}

impl Mmap {
    pub fn new(length: PageAligned, pages: Pages<'_>) -> SysResult<Self> {
        let pointer = raw_mmap(At::Anywhere(length), pages)?;
        Ok(Self { pointer, length, abandoned: AtomicBool::new(false) })
    }

    /// The same at an address that leaves the same rest modulo 2 MiB as this offset: there, huge
    /// pages can be mapped as such.
    pub fn new_congruent(length: PageAligned, pages: Pages<'_>, offset: u64) -> SysResult<Self> {
        let too_large = SysError::new("mmap", Errno::ENOMEM);
        let slack = PageAligned::new(HUGE_PAGE_BYTES).ok_or(too_large)?;
        let room = Self::new(length.checked_add(slack).ok_or(too_large)?, Pages::ReadonlyZeros)?;
        let skew = offset.wrapping_sub(room.address()) % HUGE_PAGE_BYTES;
        let start = PageAligned::new(skew).and_then(|skew| room.span().start().checked_add(skew));
        let span = start.and_then(|start| PageSpan::new(start, length)).ok_or(too_large)?;
        replace(room.owned().part(span).ok_or(too_large)?, pages)?;
        for rest in [
            PageSpan::between(room.span().start(), span.start()),
            PageSpan::between(span.end(), room.span().end()),
        ] {
            let Some(rest) = rest else { continue };
            // SAFETY: the mapping was made here and nobody has its address yet. Where the process
            // has no VMAs left for the cut, it stays as address space.
            let _ = unsafe { munmap(pointer(rest.start().get())?, to_usize(rest.length().get())) };
        }
        std::mem::forget(room);
        Ok(Self {
            pointer: pointer(span.start().get())?,
            length,
            abandoned: AtomicBool::new(false),
        })
    }

    pub fn address(&self) -> u64 {
        address_of(self.pointer)
    }

    /// Somebody who can't be told may go on using the range: it stays mapped for good, with zeros
    /// in it that take no memory until they are written.
    pub fn abandon(&self) {
        self.abandoned.store(true, Ordering::Release);
        // If it fails, what is there stays there.
        let _ = replace(self.owned(), Pages::Zeros);
    }

    /// Which pages of a range of it are in memory; what is outside of the mapping is in none.
    /// A byte for each page: its lowest bit tells.
    pub fn resident(&self, span: PageSpan) -> Vec<u8> {
        let Some(span) = span.within(self.span()) else { return Vec::new() };
        let pages =
            to_usize(span.length().get()).checked_div(to_usize(host_page_bytes())).unwrap_or(0);
        // None is known to be there where nothing can be kept.
        let Ok(mut resident) = alloc::zeroed(pages) else { return Vec::new() };
        let Ok(start) = pointer(span.start().get()) else { return Vec::new() };
        // SAFETY: mincore writes a byte for each page of the range.
        let asked = unsafe {
            libc::mincore(start.as_ptr(), to_usize(span.length().get()), resident.as_mut_ptr())
        };
        if asked != 0 {
            return Vec::new();
        }
        resident
    }

    /// Unmaps the pages of a range, which are mapped again when they are touched. Of private ones,
    /// what was written is lost.
    pub fn drop_pages(&self, span: PageSpan) -> SysResult<()> {
        inject::trip("madvise")?;
        let Some(span) = span.within(self.span()) else { return Ok(()) };
        // SAFETY: inside this mapping, into which no reference is ever made.
        unsafe {
            madvise(
                pointer(span.start().get())?,
                to_usize(span.length().get()),
                MmapAdvise::MADV_DONTNEED,
            )
        }
        .map_err(|errno| SysError::new("madvise", errno))
    }

    /// Its pages, to replace them. They are this mapping's alone, and no reference into it is ever
    /// made: it gives out its address, and the kernel reads and writes what is there.
    pub fn owned(&self) -> OwnedSpan<'_> {
        // SAFETY: mapped by `new`, and not unmapped while it is borrowed.
        unsafe { OwnedSpan::assume(self.span()) }
    }

    pub fn span(&self) -> PageSpan {
        let start = PageAligned::new(self.address()).expect("mmap gives whole pages");
        PageSpan::new(start, self.length).expect("a mapping is not empty and does not wrap")
    }
}

impl Drop for Mmap {
    fn drop(&mut self) {
        if self.abandoned.load(Ordering::Acquire) {
            return;
        }
        // SAFETY: the range is ours since `new`, and nobody can name it after this. It can fail
        // only for want of VMAs when a neighbour merged with it; then the range stays mapped, which
        // harms nobody.
        let _ = unsafe { munmap(self.pointer, to_usize(self.length.get())) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::memfd;
    use crate::sys::process_map;
    use std::os::fd::AsFd;

    fn pages(count: u64) -> PageAligned {
        PageAligned::new(count * host_page_bytes()).unwrap()
    }

    fn read(address: u64) -> u8 {
        // SAFETY: the tests read what they mapped.
        unsafe { std::ptr::read_volatile(to_usize(address) as *const u8) }
    }

    fn write(address: u64, value: u8) {
        // SAFETY: the tests write what they mapped writable.
        unsafe { std::ptr::write_volatile(to_usize(address) as *mut u8, value) }
    }

    fn inner(whole: &Mmap) -> OwnedSpan<'_> {
        let start = whole.span().start().checked_add(pages(1)).unwrap();
        whole.owned().part(PageSpan::new(start, pages(2)).unwrap()).unwrap()
    }

    #[test]
    fn both_strategies_put_file_pages_and_zeros_in_place() {
        let fd = memfd::create("t", pages(4).get()).unwrap();
        nix::sys::uio::pwrite(&fd, b"A", i64::try_from(pages(1).get()).unwrap()).unwrap();
        for strategy in [Strategy::InPlace, Strategy::MoveOver] {
            for sharing in [Sharing::ReadOnly, Sharing::CopyOnWrite] {
                let whole = Mmap::new(pages(4), Pages::Zeros).unwrap();
                let span = inner(&whole);
                write(span.span().start().get(), b'z');
                let file =
                    Pages::File { fd: fd.as_fd(), offset: pages(1), sharing, is_memfd: true };
                replace_by(strategy, span, file).unwrap();
                assert_eq!(read(span.span().start().get()), b'A');
                if sharing == Sharing::CopyOnWrite {
                    write(span.span().start().get(), b'B');
                }
                replace_by(strategy, span, Pages::Zeros).unwrap();
                assert_eq!(read(span.span().start().get()), 0);
                write(span.span().start().get(), b'c');
            }
        }
        let mut byte = [0_u8];
        nix::sys::uio::pread(&fd, &mut byte, i64::try_from(pages(1).get()).unwrap()).unwrap();
        assert_eq!(&byte, b"A", "no copy-on-write mapping changed the file");
    }

    #[test]
    fn a_refused_mapping_leaves_what_was_there() {
        let fd = memfd::create("t", pages(4).get()).unwrap();
        memfd::seal_write(&fd).unwrap();
        let whole = Mmap::new(pages(4), Pages::Zeros).unwrap();
        let span = inner(&whole);
        write(span.span().start().get(), b'z');
        // A sealed memfd can't be mapped shared and writable: the kernel's own refusal.
        let file = Pages::File {
            fd: fd.as_fd(),
            offset: PageAligned::ZERO,
            sharing: Sharing::Shared,
            is_memfd: true,
        };
        let refused = replace(span, file);
        assert_eq!(refused.unwrap_err().errno, Errno::EPERM);
        assert_eq!(read(span.span().start().get()), b'z');
        let vma = process_map::at_or_after(span.span().start().get()).unwrap().unwrap();
        assert!(
            vma.start <= span.span().start().get()
                && vma.end >= span.span().end().get()
                && vma.writable
        );
    }

    /// The kernel calls a file's own mmap operation when the old pages are gone already. This
    /// file's always fails.
    #[test]
    fn a_file_that_refuses_to_be_mapped_leaves_what_was_there() {
        let Ok(file) = std::fs::File::open("/sys/kernel/notes") else { return };
        let whole = Mmap::new(pages(4), Pages::Zeros).unwrap();
        let span = inner(&whole);
        write(span.span().start().get(), b'z');
        for sharing in [Sharing::ReadOnly, Sharing::CopyOnWrite] {
            let pages = Pages::File {
                fd: file.as_fd(),
                offset: PageAligned::ZERO,
                sharing,
                is_memfd: false,
            };
            replace(span, pages).unwrap_err();
            assert_eq!(read(span.span().start().get()), b'z');
        }
    }

    #[cfg(feature = "inject")]
    #[test]
    fn a_hole_is_plugged_with_zeros() {
        let memfd = memfd::create("test", pages(4).get()).unwrap();
        let file = Pages::File {
            fd: memfd.as_fd(),
            offset: PageAligned::ZERO,
            sharing: Sharing::ReadOnly,
            is_memfd: true,
        };
        let mirror = Mmap::new(pages(4), file).unwrap();
        let this = Some(std::thread::current().id());
        for way in 0..3 {
            let target = Mmap::new(pages(4), Pages::Zeros).unwrap();
            write(target.address(), 7);
            inject::arm("hole", 0, Errno::ENOMEM as i32, this);
            let replaced = match way {
                0 => replace_and_plug(Strategy::InPlace, target.owned(), file),
                1 => replace_and_plug(Strategy::MoveOver, target.owned(), file),
                _ => move_from(&mirror, mirror.span(), target.owned()),
            };
            assert_eq!(replaced.unwrap_err().errno, Errno::ENOMEM);
            assert!(!inject::disarm(this), "it went off");
            for page in 0..4 {
                assert_eq!(read(target.address() + page * host_page_bytes()), 0);
            }
            write(target.address() + 3 * host_page_bytes(), 1);
        }
    }

    #[test]
    fn kernel_releases_are_understood() {
        assert_eq!(parse_release("6.12.0-rc1"), Some((6, 12)));
        assert_eq!(parse_release("5.15.153.1-microsoft-standard-WSL2"), Some((5, 15)));
        assert_eq!(parse_release("strange"), None);
    }

    #[cfg(feature = "inject")]
    #[test]
    fn an_injected_failure_at_each_call_leaves_what_was_there() {
        let here = Some(std::thread::current().id());
        for (strategy, call) in [
            (Strategy::InPlace, "mmap"),
            (Strategy::MoveOver, "mmap"),
            (Strategy::MoveOver, "mremap"),
        ] {
            let whole = Mmap::new(pages(4), Pages::Zeros).unwrap();
            write(inner(&whole).span().start().get(), b'z');
            inject::arm(call, 0, libc::ENOMEM, here);
            let refused = replace_by(strategy, inner(&whole), Pages::Zeros);
            assert_eq!(refused.unwrap_err(), SysError::new(call, Errno::ENOMEM));
            assert_eq!(read(inner(&whole).span().start().get()), b'z');
            assert!(!inject::disarm(here));
        }
    }
}
