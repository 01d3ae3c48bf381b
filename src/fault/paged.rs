//! Touches of chunks that are not there (SIGBUS), in ranges whose pages a provider brings in: the
//! thread waits, or the chunk is shown, or the touch fails. The process's map has shown that the
//! page is ours.
//!
//! Handlers run all of it: nothing here may allocate, lock or panic.

use super::counts::Cause;
use super::outcome::{self, Verdict};
use super::range::GuardedRange;
use super::{changes, missing, zeros};
use crate::paging::{Pager, State, Waiting};
use crate::sys::fault_info::Fault;
use crate::sys::page::{PageAligned, PageSpan};
use crate::sys::process_map::{self, Vma};
use crate::sys::{thread, to_u64, to_usize};
use std::sync::atomic::{AtomicU64, Ordering};

/// How many chunks beside the one that was touched are treated alike, on either side, at most.
const MOST_NEIGHBOURS: u64 = 64;

/// `waited`: what this touch has waited for, in vain.
pub(super) fn handle(
    range: &GuardedRange,
    pager: &Pager,
    fault: &Fault,
    vma: &Vma,
    waited: Option<&Waiting>,
) -> Verdict {
    // Another thread was here first.
    if zeros::is_zeros(vma, fault.address) {
        return Verdict::Handled;
    }
    let chunk = range.region_offset_of(fault.address).and_then(|at| pager.chunk_of(at));
    let Some(chunk) = chunk else { return Verdict::NotOurs };
    if pager.state(chunk) == Some(State::Present) {
        let is_shown = match pager.empty_inode() {
            Some(empty) if empty == vma.inode => show(range, pager, chunk, vma) == Some(true),
            // It came between the touch and now.
            _ => may_succeed(range, fault),
        };
        if is_shown {
            return Verdict::Handled;
        }
        // When it has been taken out and comes again, the zeros go.
        pager.begin_failure(chunk);
        return fail(range, pager, fault, vma);
    }
    if !waited.is_some_and(|waited| waited.is_for(pager, chunk)) {
        pager.count_fault();
        forget_tries();
        if let Some(waiting) = pager.begin_wait(chunk) {
            return Verdict::Wait(waiting);
        }
    }
    if pager.begin_failure(chunk) { fail(range, pager, fault, vma) } else { Verdict::Again }
}

/// The chunk can't be had: V8 traps, or zeros take the page's place.
fn fail(range: &GuardedRange, pager: &Pager, fault: &Fault, vma: &Vma) -> Verdict {
    if outcome::trap(range, fault, Cause::Unavailable) {
        pager.count_failed();
        return Verdict::Handled;
    }
    let Some(page) = PageSpan::page_at(fault.address) else { return Verdict::NotOurs };
    // Kernels whose map is text can't find such pages again: there it is the last resort.
    let can_find = !process_map::is_text_in_handler();
    let put = if can_find { changes::put_zero_page(range, pager, page) } else { None };
    if put == Some(false) {
        return Verdict::Handled;
    }
    pager.count_failed();
    let is_done = put == Some(true)
        || missing::put_zeros(range, page, vma)
        || put_zeros_without_room(range, pager, page, vma);
    if !is_done {
        return Verdict::NotOurs;
    }
    outcome::zeros(range, fault, Cause::Unavailable);
    Verdict::Handled
}

/// Where the process has no room for more VMAs.
fn put_zeros_without_room(range: &GuardedRange, pager: &Pager, page: PageSpan, vma: &Vma) -> bool {
    let mut span = page;
    if pager.empty_inode() == Some(vma.inode) {
        // What was shown before, and zeros, make room: they are missing again.
        if changes::hide_all(range, pager) && missing::put_zeros(range, page, vma) {
            return true;
        }
        // Up to chunks that are there. Those that come later take the place of the zeros.
        let chunk = range.region_offset_of(page.start().get()).and_then(|at| pager.chunk_of(at));
        let is_missing = |chunk: u64| pager.begin_failure(chunk);
        let around = chunk.and_then(|chunk| run_around(range, pager, chunk, vma, is_missing));
        span = around.unwrap_or(page);
    }
    if changes::put_zero_page(range, pager, page).is_some() {
        return true;
    }
    // Else one page more, which is not counted.
    changes::put_zeros_in_all(range, span, changes::sharing_of(vma))
}

/// Shows a chunk, and those beside it that are present and were not shown either.
fn show(range: &GuardedRange, pager: &Pager, chunk: u64, vma: &Vma) -> Option<bool> {
    let is_present = |chunk: u64| pager.state(chunk) == Some(State::Present);
    let span = run_around(range, pager, chunk, vma, is_present)?;
    let offset: PageAligned = range.file_offset_of(span.start())?;
    // Protected as the pages were, so that a write is a stray write like any other.
    Some(changes::show(range, pager, span, offset, changes::sharing_of(vma)))
}

/// Where a chunk is in a VMA that raises SIGBUS, with those beside it that are alike.
fn run_around(
    range: &GuardedRange,
    pager: &Pager,
    chunk: u64,
    vma: &Vma,
    is_alike: impl Fn(u64) -> bool,
) -> Option<PageSpan> {
    // All of this VMA raises SIGBUS. What was shown, and may have been written, is in others.
    let missing = range.part_of(vma)?;
    let span_of = |chunk: u64| {
        let (start, length) = pager.bytes_of(chunk)?;
        range.part_with(start, length)?.within(missing)
    };
    let mut span = span_of(chunk)?;
    let mut below = chunk;
    let mut above = chunk;
    for _ in 0..MOST_NEIGHBOURS {
        let next = below.checked_sub(1);
        let part = next.and_then(span_of).filter(|part| part.end() == span.start());
        let Some(part) = part.filter(|_| next.is_some_and(&is_alike)) else { break };
        below = below.wrapping_sub(1);
        span = PageSpan::between(part.start(), span.end())?;
    }
    for _ in 0..MOST_NEIGHBOURS {
        let next = above.checked_add(1);
        let part = next.and_then(span_of).filter(|part| part.start() == span.end());
        let Some(part) = part.filter(|_| next.is_some_and(&is_alike)) else { break };
        above = above.wrapping_add(1);
        span = PageSpan::between(span.start(), part.end())?;
    }
    Some(span)
}

/// For the threads that were here last: which page they touched, and how often in a row it was
/// missing though its chunk was present.
static TRIES: [AtomicU64; SLOTS] = [const { AtomicU64::new(0) }; SLOTS];
const SLOTS: usize = 64;
const COUNT_BITS: u32 = 16;
/// A page that is still missing then was lost: the disk that it was swapped to failed, say.
const MOST_TRIES: u64 = 1000;

fn slot() -> &'static AtomicU64 {
    let hash = to_u64(thread::address()).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 58;
    // Six bits.
    &TRIES[to_usize(hash) & (SLOTS - 1)]
}

/// Whether the touch is to be done again, since its chunk is present.
fn may_succeed(range: &GuardedRange, fault: &Fault) -> bool {
    let page = fault.address >> 12;
    let key = (page ^ range.id.wrapping_mul(0x9e37_79b9_7f4a_7c15)) << COUNT_BITS;
    let slot = slot();
    let before = slot.load(Ordering::Relaxed);
    let is_same = before >> COUNT_BITS == key >> COUNT_BITS;
    let tries = if is_same { before & ((1 << COUNT_BITS) - 1) } else { 0 };
    if tries >= MOST_TRIES {
        slot.store(0, Ordering::Relaxed);
        return false;
    }
    slot.store(key | tries.wrapping_add(1), Ordering::Relaxed);
    thread::yield_now();
    true
}

fn forget_tries() {
    slot().store(0, Ordering::Relaxed);
}
