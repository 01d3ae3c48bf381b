//! Faults that need no look at the process's map: the way on kernels where the map is text, which
//! takes the longer to read the more VMAs the process has.
//!
//! Single system calls tell whether the access would succeed by now and whether the page is a
//! file's; the range's [`Proof`](super::Proof) tells whether it is still ours. V8 may always be
//! asked. What these can't tell, somebody else's page in our range for example, the map decides.
//!
//! Handlers run all of it: nothing here may allocate, lock or panic.

use super::counts::Cause;
use super::range::GuardedRange;
use super::{changes, outcome, stale, stray};
use crate::sys::fault_info::{Fault, FaultKind, Signal};
use crate::sys::mmap::Sharing;
use crate::sys::page::{PageSpan, host_page_bytes};
use crate::sys::page_query;
use std::sync::atomic::Ordering;

/// `None`: the process's map is to be read.
pub(super) fn handle(range: &GuardedRange, fault: &Fault) -> Option<bool> {
    // Broken memory is not to be touched.
    if fault.kind == FaultKind::BrokenMemory {
        return None;
    }
    // Which pages of a paged range are there, and which are shown, the map tells.
    if fault.signal == Signal::Bus && range.pager().is_some() {
        return None;
    }
    if stale::would_succeed(fault) {
        // Another thread was here first, the memory has just grown, or a window has slid.
        return Some(true);
    }
    if !range.spec.proof.holds() {
        return None;
    }
    match (fault.signal, fault.kind, fault.is_write()) {
        (Signal::Segv, FaultKind::Protection, Some(is_write)) => protected(range, fault, is_write),
        (Signal::Bus, FaultKind::Unavailable, Some(is_write)) => missing(range, fault, is_write),
        _ => None,
    }
}

fn protected(range: &GuardedRange, fault: &Fault, is_write: bool) -> Option<bool> {
    // V8 would take it from anybody: what it was makes no difference but to the counts.
    let is_readable = page_query::is_readable(fault.address);
    if !is_readable && range.spec.is_window && page_query::is_there(fault.address) {
        return outcome::trap(range, fault, Cause::PastEnd).then_some(true);
    }
    if !is_write || range.spec.access.writes_through() {
        return None;
    }
    if outcome::trap(range, fault, Cause::Readonly) {
        return Some(true);
    }
    // The map tells of a page that somebody else put into our range, of zeros, and of a page that
    // its file has lost.
    if !is_readable || !page_query::is_file_page(fault.address) {
        return None;
    }
    let strays = range.strays.load(Ordering::Relaxed);
    let block = if strays < stray::SINGLE_PAGES {
        PageSpan::page_at(fault.address)?.within(range.spec.span)?
    } else if range.spec.is_window {
        // Its tail does not show the region, and where that begins the map tells.
        return None;
    } else {
        stray::block_of(range.spec.span, fault.address, strays)?
    };
    // Where the process has no room for more VMAs, the map tells where this one ends.
    if !changes::make_writable(range, block) {
        return None;
    }
    range.strays.fetch_add(1, Ordering::Relaxed);
    outcome::private_page(range, fault);
    Some(true)
}

fn missing(range: &GuardedRange, fault: &Fault, is_write: bool) -> Option<bool> {
    if stale::may_have_slid(range) || outcome::trap(range, fault, Cause::Unavailable) {
        return Some(true);
    }
    // Where a growth has made a read-only mapping writable, that is undone for this page: a write
    // to it is a stray write.
    let is_writable = is_write || range.spec.access.is_writable();
    let sharing = if is_writable { Sharing::CopyOnWrite } else { Sharing::ReadOnly };
    let page = PageSpan::page_at(fault.address)?.within(range.spec.span)?;
    // Where the process has no room for more VMAs, the map tells where this one ends.
    if !changes::put_zeros(range, page, sharing) {
        return None;
    }
    if are_beside(range, page) {
        changes::zeros_merged(range);
    }
    outcome::zeros(range, fault, Cause::Unavailable);
    Some(true)
}

/// Whether the last zeros are beside this page, and so one VMA with it. Those before them are not
/// known any more, and count twice until all VMAs are counted again.
fn are_beside(range: &GuardedRange, page: PageSpan) -> bool {
    let last = range.last_zeros.swap(page.start().get(), Ordering::Relaxed);
    last.abs_diff(page.start().get()) == host_page_bytes()
}
