//! Read-only mappings lose their protection, and get it back at the next call.
//!
//! V8 grows a memory by making all of it writable, and a stray write takes the protection of its
//! page. Read-only mappings are copy-on-write underneath, so the region is as it was; from the next
//! call on, stores trap again.
//!
//! Nothing here may be called without the lock of the memory.

use super::state::{Held, Protection, Shared, State};
use super::table::Entry;
use crate::sys::mmap;
use crate::sys::owned_span::OwnedSpan;
use crate::sys::page::{PageAligned, PageSpan, host_page_bytes};
use crate::v8::live_memory::LiveMemory;
use std::sync::atomic::Ordering;

/// Protects read-only mappings again, whatever took their protection. Neither the memory's size nor
/// a handler tells of a growth that failed half-way, and the old buffer of a shared memory tells of
/// none: so the kernel is asked. `slides`: the window that is about to slide.
pub(super) fn protect_all(
    shared: &Shared,
    state: &mut State,
    live: LiveMemory<'_>,
    slides: Option<PageAligned>,
) {
    protect_known(shared, state, live);
    let is_any_unprotected = is_any_unprotected(state, live, slides);
    state.protection.slid = Default::default();
    if is_any_unprotected {
        state.protection.known_length = PageAligned::ZERO;
        protect_known(shared, state, live);
    }
}

/// The same for a slide of the window at `slides`, which is a call that is made often. What it
/// shows gets new pages in any case. Of the others the kernel is asked once in a tick of its clock,
/// since asking costs a tenth of a slide.
pub(super) fn protect_for_slide(
    shared: &Shared,
    state: &mut State,
    live: LiveMemory<'_>,
    slides: PageAligned,
    tick: u64,
) {
    let Protection { slid, slid_in_tick, .. } = &mut state.protection;
    let is_or_may_be = |slid: &Option<PageAligned>| slid.is_none_or(|start| start == slides);
    let has_room = slid.iter().any(is_or_may_be);
    if tick != *slid_in_tick || tick == 0 || !has_room {
        *slid_in_tick = tick;
        protect_all(shared, state, live, Some(slides));
    } else {
        protect_known(shared, state, live);
    }
    if let Some(slid) = state.protection.slid.iter_mut().find(|slid| is_or_may_be(slid)) {
        *slid = Some(slides);
    }
}

/// Asks the kernel about each window that has slid since it was last asked, and of the others about
/// the lowest alone: a growth makes a memory writable from its start upwards.
fn is_any_unprotected(state: &State, live: LiveMemory<'_>, slides: Option<PageAligned>) -> bool {
    let slid = &state.protection.slid;
    let has_slid = |start| Some(start) == slides || slid.contains(&Some(start));
    let protected_pages = |(entry, held): (&Entry, &Held)| {
        let target = live.pages(entry.span).map(OwnedSpan::span);
        // What the window that slides shows is replaced in any case.
        let shows = Some(entry.span.start()) != slides && !entry.access.is_writable();
        let (shown, tail) = match &held.window {
            Some(window) => (
                target.and_then(|target| window.shown_part(target)),
                target
                    .and_then(|target| window.tail_part(target))
                    .filter(|_| !window.tail_is_writable()),
            ),
            None => (target, None),
        };
        let parts: [Option<PageSpan>; 2] = [shown.filter(|_| shows), tail];
        parts.into_iter().flatten().map(|span| span.first(host_page_bytes()))
    };
    let is_unprotected = mmap::is_writable;
    let mut others = state.table.protectable().filter(|(entry, _)| !has_slid(entry.span.start()));
    others.find_map(|it| protected_pages(it).next()).is_some_and(is_unprotected)
        || slides
            .into_iter()
            .chain(slid.iter().copied().flatten())
            .filter_map(|start| state.table.at(start))
            .any(|it| protected_pages(it).any(is_unprotected))
}

/// Protects again what is known to be unprotected: by the memory's growth, or by a handler.
fn protect_known(shared: &Shared, state: &mut State, live: LiveMemory<'_>) {
    let is_any_unprotected = shared.unprotected.load(Ordering::Relaxed)
        && shared.unprotected.swap(false, Ordering::AcqRel);
    let has_grown = live.byte_length() > state.protection.known_length;
    if !has_grown && !is_any_unprotected {
        return;
    }
    let mut all = true;
    for (entry, held) in state.table.held() {
        let Some(target) = live.pages(entry.span) else { continue };
        // Asked in any case: this also forgets it.
        let is_unprotected = held.registration.take_unprotected() || has_grown;
        if !is_unprotected {
            continue;
        }
        held.registration.mark_changed();
        let shown = match &held.window {
            Some(window) => window.shown_part(target.span()).and_then(|shown| target.part(shown)),
            None => Some(target),
        };
        if let Some(shown) = shown.filter(|_| !entry.access.is_writable()) {
            all &= mmap::protect_readonly(shown).is_ok();
        }
        if let Some(window) = held.window.as_ref().filter(|window| !window.tail_is_writable()) {
            held.registration.pause();
            all &= window.fill_tail(target).is_ok();
            held.registration.resume();
        }
    }
    // One that failed is tried again at the next call.
    state.protection.known_length = if all { live.byte_length() } else { PageAligned::ZERO };
}
