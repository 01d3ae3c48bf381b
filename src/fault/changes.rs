//! The changes that a handler makes to pages, and the VMAs that they take.
//!
//! Each page that is changed cuts its VMA in three, so each function claims VMAs first, and changes
//! nothing if the process has no room for them. Handlers run all of it: nothing here may allocate,
//! lock or panic.
//!
//! Every function asks the same of its caller, which is inside the range's gate: the pages are
//! ours, by the process's map ([`GuardedRange::is_ours`]) or by the range's proof.

use super::range::GuardedRange;
use super::zeros;
use crate::sys::mmap::{self, Sharing};
use crate::sys::page::PageSpan;
use crate::sys::vma_budget;
use std::sync::atomic::Ordering;

/// VMAs that one changed page adds.
const VMAS_OF_A_PAGE: u64 = 2;

/// Makes pages writable; what is written goes to copies.
pub(super) fn make_writable(range: &GuardedRange, block: PageSpan) -> bool {
    if !vma_budget::take_in_handler(VMAS_OF_A_PAGE) {
        return false;
    }
    if !make_all_writable(block) {
        vma_budget::give_back(VMAS_OF_A_PAGE);
        return false;
    }
    range.stray_vmas.fetch_add(VMAS_OF_A_PAGE, Ordering::Relaxed);
    true
}

/// The same of all pages of a VMA in a range, which takes no VMAs.
pub(super) fn make_all_writable(part: PageSpan) -> bool {
    // SAFETY: the pages are ours (see the head of this file), and their owner does not change them
    // while a handler is inside the gate. They are private, as all pages that we map read-only, so
    // that no write reaches the file. No Rust reference points into a linear memory or a view.
    unsafe { mmap::unprotect_private(part) }.is_ok()
}

/// Puts zeros in place of a page.
pub(super) fn put_zeros(range: &GuardedRange, page: PageSpan, sharing: Sharing) -> bool {
    if !vma_budget::take_in_handler(VMAS_OF_A_PAGE) {
        return false;
    }
    if !put_zeros_in_all(range, page, sharing) {
        vma_budget::give_back(VMAS_OF_A_PAGE);
        return false;
    }
    range.zero_vmas.fetch_add(VMAS_OF_A_PAGE, Ordering::Relaxed);
    true
}

/// The same of all pages of a VMA from one on, which takes no VMAs.
pub(super) fn put_zeros_in_all(range: &GuardedRange, tail: PageSpan, sharing: Sharing) -> bool {
    range.changed.store(true, Ordering::Release);
    // SAFETY: the pages are ours (see the head of this file), nobody else replaces them while a
    // handler is inside the gate, and their contents can't be had any more.
    unsafe { zeros::replace(tail, sharing) }.is_ok()
}

/// After [`put_zeros`] beside other zeros: they are one VMA, so what was claimed for one is given
/// back.
pub(super) fn zeros_merged(range: &GuardedRange) {
    vma_budget::give_back(VMAS_OF_A_PAGE);
    range.zero_vmas.fetch_sub(VMAS_OF_A_PAGE, Ordering::Relaxed);
}

/// Puts ordinary pages with the same bytes in place of huge pages. Returns how many could not be
/// read and are zeros now. `None`: nothing was replaced.
pub(super) fn put_copy(range: &GuardedRange, block: PageSpan) -> Option<u64> {
    if !vma_budget::take_in_handler(VMAS_OF_A_PAGE) {
        return None;
    }
    let Some(missing) = put_copy_of_all(range, block) else {
        vma_budget::give_back(VMAS_OF_A_PAGE);
        return None;
    };
    range.zero_vmas.fetch_add(VMAS_OF_A_PAGE, Ordering::Relaxed);
    Some(missing)
}

/// The same of all pages of a VMA in a range, which takes no VMAs.
pub(super) fn put_copy_of_all(range: &GuardedRange, part: PageSpan) -> Option<u64> {
    range.changed.store(true, Ordering::Release);
    // SAFETY: the pages are ours (see the head of this file), and nobody else replaces them while a
    // handler is inside the gate. They show the same bytes afterwards, but for those that could not
    // be read.
    unsafe { zeros::replace_by_copy(part, range.spec.page_bytes) }.ok()
}
