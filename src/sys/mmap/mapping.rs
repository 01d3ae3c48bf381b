//! Mappings that we made, where the kernel finds room for them.
//!
//! Calls: mmap, munmap, mincore, madvise.

// It maps and unmaps, and promises that its pages are its own.
#![allow(unsafe_code)]

use super::pages::Pages;
use crate::sys::owned_span::OwnedSpan;
use crate::sys::page::{PageAligned, PageSpan, host_page_bytes};
use crate::sys::{SysError, SysResult, alloc, inject, to_u64, to_usize};
use nix::errno::Errno;
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap, mmap_anonymous, munmap};
use std::ffi::c_void;
use std::num::NonZeroUsize;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};

/// Where pages are mapped.
pub(super) enum At<'a> {
    /// Where the kernel finds so much free address space.
    Anywhere(PageAligned),
    /// In the place of others.
    Over(OwnedSpan<'a>),
}

pub(super) fn raw_mmap(at: At<'_>, pages: Pages<'_>) -> SysResult<NonNull<c_void>> {
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

pub(super) fn pointer(address: u64) -> SysResult<NonNull<c_void>> {
    NonNull::new(to_usize(address) as *mut c_void).ok_or(SysError::new("mmap", Errno::EINVAL))
}

pub(super) fn address_of(pointer: NonNull<c_void>) -> u64 {
    to_u64(pointer.as_ptr() as usize)
}

/// A mapping of our own, at an address that the kernel picked. Unmapped when dropped.
#[derive(Debug)]
pub struct Mmap {
    pub(super) pointer: NonNull<c_void>,
    pub(super) length: PageAligned,
    pub(super) abandoned: AtomicBool,
}

// SAFETY: it is a range of addresses; nothing in it belongs to a thread.
unsafe impl Send for Mmap {}
// SAFETY: shared, it gives out its address and length only.
unsafe impl Sync for Mmap {}

impl Mmap {
    pub fn new(length: PageAligned, pages: Pages<'_>) -> SysResult<Self> {
        let pointer = raw_mmap(At::Anywhere(length), pages)?;
        // SAFETY: the kernel has just mapped it, and nobody else knows where.
        Ok(unsafe { Self::own(pointer, length) })
    }

    /// All of a file, shared and inaccessible: for what the kernel does to the file by addresses.
    pub fn new_for_kernel(length: PageAligned, fd: BorrowedFd<'_>) -> SysResult<Self> {
        inject::trip("mmap")?;
        let size = NonZeroUsize::new(to_usize(length.get()));
        let size = size.ok_or(SysError::new("mmap", Errno::EINVAL))?;
        // SAFETY: the kernel picks addresses that nobody uses.
        let mapped = unsafe { mmap(None, size, ProtFlags::PROT_NONE, MapFlags::MAP_SHARED, fd, 0) };
        let pointer = mapped.map_err(|errno| SysError::new("mmap", errno))?;
        // SAFETY: the kernel has just mapped it, and nobody else knows where.
        Ok(unsafe { Self::own(pointer, length) })
    }

    /// # Safety
    /// So many bytes are mapped there, and nobody else has their address or unmaps them.
    pub(super) unsafe fn own(pointer: NonNull<c_void>, length: PageAligned) -> Self {
        Self { pointer, length, abandoned: AtomicBool::new(false) }
    }

    pub fn address(&self) -> u64 {
        address_of(self.pointer)
    }

    /// Which pages of a range of it are in memory; what is outside of the mapping is in none.
    /// A byte for each page: its lowest bit tells.
    pub fn resident(&self, span: PageSpan) -> Vec<u8> {
        let Some(span) = span.within(self.span()) else { return Vec::new() };
        let pages = span.length().get().checked_div(host_page_bytes());
        let pages = to_usize(pages.expect("a page has bytes"));
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
