//! Address space that is taken so that the kernel gives the next mapping another place.
//!
//! Nothing can be read or written there, and nobody but its owner knows the address.
//!
//! Calls: mmap, munmap.

// It maps and unmaps.
#![allow(unsafe_code)]

use super::page::PageAligned;
use super::{SysError, SysResult, inject, to_u64, to_usize};
use nix::errno::Errno;
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use std::ffi::c_void;
use std::num::NonZeroUsize;
use std::ptr::NonNull;

/// Given back when dropped.
#[derive(Debug)]
pub struct Placeholder {
    pointer: NonNull<c_void>,
    length: PageAligned,
}

impl Placeholder {
    /// Address space of this length, where the kernel likes.
    pub fn new(length: PageAligned) -> SysResult<Self> {
        inject::trip("mmap_filler")?;
        let size = NonZeroUsize::new(to_usize(length.get()))
            .ok_or(SysError::new("mmap", Errno::EINVAL))?;
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE;
        // SAFETY: without MAP_FIXED the kernel picks free addresses, so no mapping is replaced.
        let pointer = unsafe { mmap_anonymous(None, size, ProtFlags::PROT_NONE, flags) }
            .map_err(|errno| SysError::new("mmap", errno))?;
        Ok(Self { pointer, length })
    }

    pub fn address(&self) -> u64 {
        to_u64(self.pointer.as_ptr().addr())
    }

    /// Gives back all but the last `kept` bytes. `None`: everything was given back, because `kept`
    /// is zero or more than there is, or because the kernel can't cut the mapping.
    pub fn keep_last(self, kept: PageAligned) -> Option<Self> {
        let given_back = self.length.checked_sub(kept)?;
        if kept == PageAligned::ZERO {
            return None;
        }
        let length = to_usize(given_back.get());
        let pointer = NonNull::new(self.pointer.as_ptr().wrapping_byte_add(length))?;
        // SAFETY: the range is part of a mapping that this value owns, and nothing refers to it.
        unsafe { munmap(self.pointer, length) }.ok()?;
        // What is left has an owner of its own.
        std::mem::forget(self);
        Some(Self { pointer, length: kept })
    }
}

impl Drop for Placeholder {
    fn drop(&mut self) {
        // SAFETY: this value owns the mapping, and nothing refers to it. If the call fails, it
        // stays address space that nobody uses.
        let _ = unsafe { munmap(self.pointer, to_usize(self.length.get())) };
    }
}
