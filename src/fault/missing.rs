//! Accesses to pages whose contents can't be had (SIGBUS): the file was made shorter, the disk
//! failed, or there is no memory. The process's map has shown that the page is ours.
//!
//! Handlers run all of it: nothing here may allocate, lock or panic.

use super::counts::Cause;
use super::range::GuardedRange;
use super::{changes, outcome, stale, zeros};
use crate::sys::fault_info::{Fault, FaultKind};
use crate::sys::page::PageSpan;
use crate::sys::process_map::{self, Vma};

/// True: the access may be done again, or V8 traps.
pub(super) fn handle(range: &GuardedRange, fault: &Fault, vma: &Vma) -> bool {
    let cause = match fault.kind {
        FaultKind::Unavailable => Cause::Unavailable,
        FaultKind::BrokenMemory => Cause::BrokenMemory,
        FaultKind::Protection | FaultKind::Other => return false,
    };
    // Another thread was here first; or perhaps it was, and the page that is missing is no longer
    // there.
    if zeros::is_zeros(vma, fault.address) || stale::may_have_slid(range) {
        return true;
    }
    fail(range, fault, vma, cause)
}

/// V8 traps, or zeros take the page's place.
pub(super) fn fail(range: &GuardedRange, fault: &Fault, vma: &Vma, cause: Cause) -> bool {
    if outcome::trap(range, fault, cause) {
        return true;
    }
    let page = PageSpan::page_at(fault.address);
    let is_done = page.is_some_and(|page| {
        put_zeros(range, page, vma) || put_zeros_without_room(range, page, vma)
    });
    if is_done {
        outcome::zeros(range, fault, cause);
    }
    is_done
}

/// False: the process has no room for more VMAs, or the kernel refuses.
pub(super) fn put_zeros(range: &GuardedRange, page: PageSpan, vma: &Vma) -> bool {
    // Protected as the page was, so that a write to the zeros is a stray write like any other.
    if !changes::put_zeros(range, page, changes::sharing_of(vma)) {
        return false;
    }
    if let Some(zeros) = process_map::holding_in_handler(page.start().get()) {
        let is_below = zeros.start < page.start().get();
        let is_above = zeros.end > page.end().get();
        [is_below, is_above]
            .into_iter()
            .filter(|is_merged| *is_merged)
            .for_each(|_| changes::zeros_merged(range));
    }
    true
}

fn put_zeros_without_room(range: &GuardedRange, page: PageSpan, vma: &Vma) -> bool {
    let sharing = changes::sharing_of(vma);
    if range.pager().is_some() {
        // What follows may be there, or come. One page more is not counted.
        return changes::put_zeros_in_all(range, page, sharing);
    }
    // All of this one, from here on. A file that ends before a page ends before all that follow.
    let tail = range.part_of(vma).and_then(|part| PageSpan::between(page.start(), part.end()));
    tail.is_some_and(|tail| changes::put_zeros_in_all(range, tail, sharing))
}
