//! Mappings at addresses where huge pages can be mapped as such, and mappings that are given up.
//!
//! Calls: munmap.

// It unmaps what it has mapped.
#![allow(unsafe_code)]

use super::mapping::{Mmap, pointer};
use super::pages::Pages;
use super::replace::replace;
use crate::sys::page::{HUGE_PAGE_BYTES, PageAligned, PageSpan};
use crate::sys::{SysError, SysResult, to_usize};
use nix::errno::Errno;
use nix::sys::mman::munmap;
use std::sync::atomic::Ordering;

impl Mmap {
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
        // SAFETY: the rest of the mapping that was made here, of which nobody has the address yet.
        Ok(unsafe { Self::own(pointer(span.start().get())?, length) })
    }

    /// JavaScript that can't be told may go on using the range: it stays mapped for good, with
    /// zeros in it that take no memory until they are written.
    pub fn abandon(&self) {
        self.abandoned.store(true, Ordering::Release);
        // If it fails, what is there stays there.
        let _ = replace(self.owned(), Pages::Zeros);
    }
}
