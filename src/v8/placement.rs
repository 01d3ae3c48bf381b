//! Where V8's next reservation will be.
//!
//! A file's huge pages can be mapped as such only where host address and offset in the file leave
//! the same rest modulo 2 MiB. V8 takes what the kernel gives it and keeps 64 KiB of alignment, so
//! a memory may begin at any Wasm page. But the kernel gives the top of the highest gap that is
//! large enough, so whoever fills a little of that gap's top moves what comes next:
//!
//! ```text
//!      gap |                                              | in use      the top of the gap is at any page
//!    trial |              [ reservation                  ]|             asked for as V8 will: tells where it would be
//!   filler |                                         [fff]|             what is kept of the trial, less than 2 MiB
//!       V8 |         [ reservation                  ]     |             begins at a multiple of 2 MiB
//! ```
//!
//! It is a favour and no promise: another thread may come between.

// It maps and unmaps address space that is given to nobody.
#![allow(unsafe_code)]

use crate::sys::SysError;
use crate::sys::page::{HUGE_PAGE_BYTES, PageAligned, WASM_PAGE_BYTES, host_page_bytes};
use crate::sys::{SysResult, inject, to_usize};
use nix::errno::Errno;
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use std::ffi::c_void;
use std::num::NonZeroUsize;
use std::ptr::NonNull;

/// How many gaps are tried: one that is just large enough for a reservation is not for the filler
/// too.
const ATTEMPTS: usize = 4;

/// Makes the kernel give a reservation to come, `below_bytes` and `above_bytes` around its base,
/// such a place that the base is at a multiple of 2 MiB, for as long as what is returned lives.
/// `None`: there is no room for it, and fillers would be in its way.
pub fn prepare(below_bytes: u64, above_bytes: u64) -> Option<Vec<Filler>> {
    // V8 asks for as much more as aligning it to a Wasm page may take, and gives the rest back.
    let asked = [above_bytes, WASM_PAGE_BYTES.saturating_sub(host_page_bytes())];
    let asked =
        asked.into_iter().try_fold(below_bytes, u64::checked_add).and_then(PageAligned::new);
    let mut fillers = Vec::new();
    for _ in 0..=ATTEMPTS {
        let trial = Filler::new(asked?).ok()?;
        let base = trial.base(below_bytes)?;
        match trial.keep_top(base) {
            Some(top) => fillers.push(top),
            None => return Some(fillers),
        }
    }
    None
}

/// Inaccessible address space that is in the way of others. Given back when dropped.
#[derive(Debug)]
pub struct Filler {
    pointer: NonNull<c_void>,
    length: PageAligned,
}

impl Filler {
    /// Address space of so many bytes, where the kernel gives it.
    fn new(length: PageAligned) -> SysResult<Self> {
        inject::trip("mmap_filler")?;
        let size = NonZeroUsize::new(to_usize(length.get()))
            .ok_or(SysError::new("mmap", Errno::EINVAL))?;
        // As V8 asks for its own.
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE;
        // SAFETY: without a fixed address nothing is replaced.
        let pointer = unsafe { mmap_anonymous(None, size, ProtFlags::PROT_NONE, flags) }
            .map_err(|errno| SysError::new("mmap", errno))?;
        Ok(Self { pointer, length })
    }

    /// Where the memory would begin if this was its reservation.
    fn base(&self, below_bytes: u64) -> Option<u64> {
        let start = crate::sys::to_u64(self.pointer.as_ptr() as usize);
        start.checked_next_multiple_of(WASM_PAGE_BYTES)?.checked_add(below_bytes)
    }

    /// Gives back all but what such a base is too high by, at its end. `None`: nothing is left.
    fn keep_top(self, base: u64) -> Option<Self> {
        let kept = PageAligned::new(base % HUGE_PAGE_BYTES)?;
        if kept == PageAligned::ZERO {
            return None;
        }
        let rest = self.length.checked_sub(kept)?;
        let pointer = NonNull::new(self.pointer.as_ptr().wrapping_byte_add(to_usize(rest.get())))?;
        // SAFETY: the range is ours, and nobody knows it.
        unsafe { munmap(self.pointer, to_usize(rest.get())) }.ok()?;
        std::mem::forget(self);
        Some(Self { pointer, length: kept })
    }
}

impl Drop for Filler {
    fn drop(&mut self) {
        // SAFETY: the range is ours since `new`, and nobody knows it. If it fails, it stays address
        // space that nobody uses.
        let _ = unsafe { munmap(self.pointer, to_usize(self.length.get())) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As V8 makes one.
    fn reserve(below: u64, above: u64) -> Filler {
        let slack = WASM_PAGE_BYTES - host_page_bytes();
        Filler::new(PageAligned::new(below + above + slack).unwrap()).unwrap()
    }

    #[test]
    fn the_next_reservation_begins_at_a_huge_page_wherever_the_gap_ends() {
        let (below, above) = (2 << 30, 8 << 30);
        let mut held = Vec::new();
        let mut filled = 0;
        for wasm_pages in 1..40 {
            // The tests of other threads map and unmap meanwhile: it is the way that is tested, not
            // the luck.
            let placed = (0..100).any(|_| {
                held.push(
                    Filler::new(PageAligned::new(wasm_pages * WASM_PAGE_BYTES).unwrap()).unwrap(),
                );
                let fillers = prepare(below, above);
                filled += fillers.as_ref().map_or(0, Vec::len);
                let reservation = reserve(below, above);
                let base = reservation.base(below).unwrap();
                held.push(reservation);
                base.is_multiple_of(HUGE_PAGE_BYTES)
            });
            assert!(placed);
            held.truncate(8);
        }
        assert!(filled > 0, "some would have begun elsewhere");
    }

    #[test]
    fn a_gap_that_is_just_large_enough_does_not_spoil_it() {
        let (below, above) = (2 << 30, 8 << 30);
        let in_one_of_many = (0..100).any(|_| {
            // Of three side by side, at no multiple, the first and last stay.
            let _skew = Filler::new(PageAligned::new(3 * WASM_PAGE_BYTES).unwrap()).unwrap();
            let reservations =
                [reserve(below, above), reserve(below, above), reserve(below, above)];
            let [_first, gap, _last] = reservations;
            let is_skewed = !gap.base(below).unwrap().is_multiple_of(HUGE_PAGE_BYTES);
            drop(gap);
            let fillers = prepare(below, above);
            let base = reserve(below, above).base(below).unwrap();
            is_skewed
                && fillers.is_some_and(|fillers| fillers.len() > 1)
                && base.is_multiple_of(HUGE_PAGE_BYTES)
        });
        assert!(in_one_of_many);
    }
}
