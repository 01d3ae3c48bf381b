//! Stale faults: faults on pages that another thread has replaced since.
//!
//! Between an access and its handler, another thread may unmap, map or slide. What the handler
//! finds then is not what the access met, so the access is done again. It must not be done again
//! for ever, and V8's own traps, which arrive here too, must not become slower. So the process
//! remembers who ever removed pages, when, and roughly where.
//!
//! Handlers run all of it: nothing here may allocate, lock or panic.

use super::range::{self, GuardedRange};
use super::zeros;
use crate::sys::fault_info::{Fault, FaultKind};
use crate::sys::page::PageSpan;
use crate::sys::{page_query, process_map, thread, to_u64, to_usize};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Who ever removed guarded pages: 0 for nobody, a thread, or [`SEVERAL`].
static REMOVER: AtomicUsize = AtomicUsize::new(0);
const SEVERAL: usize = usize::MAX;

/// Counts the starts and the ends of removals.
static REMOVALS: AtomicU64 = AtomicU64::new(1);

/// Where they were: a bit for each gibibyte of addresses, several of which share one. Bits are
/// never cleared.
static REMOVED_FROM: [AtomicU64; SLOTS] = [const { AtomicU64::new(0) }; SLOTS];

/// For the threads that were here last, half a word each: which thread, and `REMOVALS` when it last
/// did an access again.
static RETRIED_AT: [AtomicU64; SLOTS] = [const { AtomicU64::new(0) }; SLOTS];

/// For the threads that were here last, what they did an access again for: see [`may_have_slid`].
static LOOKED_AT: [AtomicU64; SLOTS] = [const { AtomicU64::new(0) }; SLOTS];

const SLOTS: usize = 64;
const GIBIBYTE_SHIFT: u32 = 30;
const LOW_HALF: u64 = u32::MAX as u64;

/// An odd number whose product with others has well spread upper bits (Knuth's multiplicative
/// hashing).
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// A slot of a table, and a bit of its word, for a number.
fn slot_of(number: u64) -> (usize, u64) {
    let hash = number.wrapping_mul(SPREAD) >> 52;
    // Six bits each, so that the slot is less than SLOTS.
    (to_usize(hash >> 6) & (SLOTS - 1), 1 << (hash & 63))
}

/// The owner of these pages begins to replace or unmap them. [`removal_ended`] follows.
pub(super) fn removal_begins(span: PageSpan) {
    let this = thread::address();
    let remover = REMOVER.load(Ordering::Acquire);
    if remover != this && remover != SEVERAL {
        let first = REMOVER.compare_exchange(0, this, Ordering::AcqRel, Ordering::Acquire);
        if first.is_err() {
            REMOVER.store(SEVERAL, Ordering::Release);
        }
    }
    // A span is not empty, so its end is not 0.
    let last = span.end().get().wrapping_sub(1);
    for gibibyte in span.start().get() >> GIBIBYTE_SHIFT..=last >> GIBIBYTE_SHIFT {
        let (slot, bit) = slot_of(gibibyte);
        if REMOVED_FROM[slot].load(Ordering::Relaxed) & bit == 0 {
            REMOVED_FROM[slot].fetch_or(bit, Ordering::AcqRel);
        }
    }
    REMOVALS.fetch_add(1, Ordering::AcqRel);
}

pub(super) fn removal_ended() {
    REMOVALS.fetch_add(1, Ordering::AcqRel);
}

/// Whether a thread other than this one ever removed pages.
fn another_thread_removes(this: usize) -> bool {
    let remover = REMOVER.load(Ordering::Acquire);
    remover != 0 && remover != this
}

/// How often a fault is looked at while other threads map and unmap. Each look takes about as long
/// as one of their calls.
const LOOKS: usize = 64;

/// Whether a fault that is not ours to handle is stale. `found` is the id that the registry gave
/// for its address.
pub(super) fn is_stale(fault: &Fault, found: u64) -> bool {
    if !another_thread_removes(thread::address()) {
        return false;
    }
    let registered = || range::find(fault.address, |_| ()).0;
    for _ in 0..LOOKS {
        let removals = REMOVALS.load(Ordering::Acquire);
        if registered() != found || is_over(fault) || registered() != found {
            return true;
        }
        // Else a mapping may have come and gone between these looks, so that they saw two moments.
        if REMOVALS.load(Ordering::Acquire) == removals {
            return false;
        }
    }
    false
}

/// Whether the access would succeed by now.
///
/// Asked only where another thread ever removed pages near this address, and about no reads, which
/// only a missing page can stop: so V8's own traps stay as fast.
fn is_over(fault: &Fault) -> bool {
    let this = thread::address();
    let (slot, bit) = slot_of(fault.address >> GIBIBYTE_SHIFT);
    if !another_thread_removes(this) || REMOVED_FROM[slot].load(Ordering::Acquire) & bit == 0 {
        return false;
    }
    // A fault that comes again though nothing was removed meanwhile is not over, whatever it looks
    // like.
    let removals = REMOVALS.load(Ordering::Acquire);
    let this = to_u64(this);
    let (slot, _) = slot_of(this);
    // Descriptors of threads are pages apart.
    let retry = (this >> 12 << 32) | (removals & LOW_HALF);
    if RETRIED_AT[slot].load(Ordering::Relaxed) == retry {
        return false;
    }
    let vma = || process_map::holding_in_handler(fault.address);
    let over = match (fault.kind, fault.is_write()) {
        // Only what a window does not show is inaccessible.
        (FaultKind::Protection, Some(false)) if !zeros::may_be_inaccessible() => false,
        _ if process_map::is_text_in_handler() => would_succeed(fault),
        (FaultKind::Protection, Some(true)) => vma().is_some_and(|vma| vma.writable),
        (FaultKind::Protection, Some(false)) => vma().is_some_and(|vma| vma.readable),
        (FaultKind::Unavailable, Some(_)) => vma().is_some_and(|vma| {
            vma.readable && (vma.inode == 0 || zeros::is_zeros(&vma, fault.address))
        }),
        _ => false,
    };
    if over {
        RETRIED_AT[slot].store(retry, Ordering::Relaxed);
    }
    over
}

/// Whether the access would succeed now, by what single system calls tell. Safe for any address.
pub(super) fn would_succeed(fault: &Fault) -> bool {
    match (fault.kind, fault.is_write()) {
        (FaultKind::Protection | FaultKind::Unavailable, Some(true)) => {
            page_query::is_writable(fault.address)
        }
        (FaultKind::Protection | FaultKind::Unavailable, Some(false)) => {
            page_query::is_readable(fault.address)
        }
        _ => false,
    }
}

/// Whether another thread may have slid a window between a missing page's fault and now, so that
/// the page that is there now is not the one that was missing. True once for each slide: the map
/// tells a page's rights, and not whether it is there.
pub(super) fn may_have_slid(range: &GuardedRange) -> bool {
    let this = thread::address();
    if !another_thread_removes(this) {
        return false;
    }
    let slides = range.slides.load(Ordering::Acquire);
    let this = to_u64(this);
    let (slot, _) = slot_of(this);
    // This thread, this range, since this slide: equal by chance once in 2^32.
    let looked = (this >> 12 << 32) ^ range.id.wrapping_mul(SPREAD).wrapping_add(slides) & LOW_HALF;
    slides > 0 && LOOKED_AT[slot].swap(looked, Ordering::AcqRel) != looked
}
