//! A handle on a memory, and its lock: what all operations on mappings, windows and snapshots begin
//! with.

// It registers ranges with the fault guard, and marks a page of the memory's guard.
#![allow(unsafe_code)]

use super::protect::{protect_all, protect_for_slide};
use super::state::{HandleId, Mapped, Shared, State};
use super::table::Entry;
use super::window_state::Window;
use crate::access::Access;
use crate::error::{MemoryError, Result};
use crate::fault::{Counts, Proof, RangeSpec, Registration, Shown};
use crate::sys::lock::Guard;
use crate::sys::mark::Mark;
use crate::sys::owned_span::OwnedSpan;
use crate::sys::page::{PageAligned, PageSpan};
use crate::sys::{alloc, clock, process_map};
use crate::v8::live_memory::LiveMemory;
use crate::v8::reservation::ProvenGuard;
use std::sync::Arc;

/// A handle on a linear memory. It keeps nothing alive but what is known of it.
///
/// What changes pages takes the [`LiveMemory`] of the same call; no address that was right earlier
/// is used.
#[derive(Debug)]
pub struct Memory {
    pub(super) shared: Arc<Shared>,
    /// How many faults were gone when this was attached. They may be of a memory that had this base
    /// earlier.
    pub(super) gone_before: u64,
    pub(super) id: HandleId,
}

impl Memory {
    pub fn base(&self) -> PageAligned {
        self.shared.base
    }

    /// Refuses a memory that is not where the table's mappings are.
    pub fn check_base(&self, base: u64) -> Result<()> {
        if self.shared.base.get() == base { Ok(()) } else { Err(MemoryError::Moved.into()) }
    }

    /// Locks what is known of the memory. Read-only mappings are protected again.
    pub(crate) fn lock_at(&self, live: LiveMemory<'_>) -> Result<Guard<'_, State>> {
        let mut state = self.lock_unprotected(live)?;
        protect_all(&self.shared, &mut state, live, None);
        Ok(state)
    }

    /// The same for a slide of the window at `slides`.
    pub(crate) fn lock_to_slide(
        &self,
        live: LiveMemory<'_>,
        slides: PageAligned,
    ) -> Result<Guard<'_, State>> {
        let mut state = self.lock_unprotected(live)?;
        protect_for_slide(&self.shared, &mut state, live, slides, clock::tick());
        Ok(state)
    }

    /// The same where mappings may be left unprotected.
    pub(super) fn lock_unprotected(&self, live: LiveMemory<'_>) -> Result<Guard<'_, State>> {
        self.check_base(live.base().get())?;
        Ok(self.shared.lock())
    }

    /// To look at what is known of the memory, which may be dead or moved.
    pub(super) fn lock(&self) -> Guard<'_, State> {
        self.shared.lock()
    }

    /// Protects read-only mappings again, after a growth or one that failed.
    pub fn sync(&self, live: LiveMemory<'_>) -> Result<()> {
        self.lock_at(live).map(drop)
    }

    /// Takes note of the guard of a memory that was found to have one. No memory of its kind is
    /// larger than `largest_bytes`. Without it, faults cost as much as the process has VMAs, where
    /// its map is text.
    ///
    /// # Safety
    /// The guard was proved for this memory, in its life, and V8 makes nothing accessible past
    /// `largest_bytes` while the memory lives. A number is written there, and code that got the
    /// page as memory would find it.
    pub unsafe fn set_guard(
        &self,
        live: LiveMemory<'_>,
        guard: ProvenGuard,
        largest_bytes: u64,
    ) -> Result<()> {
        self.check_base(guard.base().get())?;
        if process_map::is_text() {
            let mut state = self.lock_unprotected(live)?;
            state.guard_page = guard.page_past(largest_bytes);
        }
        Ok(())
    }

    /// Registers pages of a living memory with the fault guard, paused. `shown`: what they show
    /// when it is resumed.
    pub(crate) fn register(
        &self,
        state: &mut State,
        pages: OwnedSpan<'_>,
        access: Access,
        is_window: bool,
        shown: Shown<'_>,
    ) -> Registration {
        let spec = RangeSpec {
            span: pages.span(),
            memory_offset: pages.span().start().checked_sub(self.shared.base),
            is_window,
            is_image: false,
            access,
            counts: Arc::default(),
            unprotected: Arc::clone(&self.shared.unprotected),
            proof: Self::proof(state),
        };
        // SAFETY: these are pages of a linear memory, into which no Rust reference ever points. The
        // memory may die while they are registered, and something else be mapped at its address:
        // the proof and the process's map tell that from what was registered.
        unsafe { Registration::new(spec, shown) }
    }

    /// Registers all of a living memory's pages with the fault guard: of those that show a
    /// snapshot's file, and are no mapping's, pages may be missing.
    pub(crate) fn guard_image(pages: OwnedSpan<'_>, shown: Shown<'_>) -> Registration {
        let spec = RangeSpec {
            span: pages.span(),
            memory_offset: Some(PageAligned::ZERO),
            is_window: false,
            is_image: true,
            access: Access::Private,
            counts: Arc::default(),
            unprotected: Arc::default(),
            proof: Proof::Absent,
        };
        // SAFETY: as above; the process's map alone tells what is there.
        let registration = unsafe { Registration::new(spec, shown) };
        registration.resume();
        registration
    }

    /// What proves to handlers that what is mapped now is mapped still. For a living memory.
    fn proof(state: &mut State) -> Proof {
        if let (None, Some(page)) = (state.mark, state.guard_page) {
            // SAFETY: the process's map proved the page to be in this memory's guard, and by the
            // contract of `set_guard` it is past the largest memory of its kind: no growth makes it
            // accessible while this memory lives. It is still this memory's: attaching another one
            // to the table forgets the page.
            state.mark = unsafe { Mark::put(page) };
        }
        state.mark.map_or(Proof::Absent, Proof::Marked)
    }

    /// The addresses of a span of the memory.
    pub(crate) fn addresses(&self, span: PageSpan) -> PageSpan {
        span.at_base(self.shared.base).expect("a memory ends below 2^47")
    }

    /// The mappings, in order; of windows, how much they show.
    pub fn entries(&self) -> Result<Vec<(Entry, Option<PageAligned>)>> {
        let state = self.lock();
        let entries = state
            .table
            .held()
            .map(|(entry, held)| (*entry, held.window.as_ref().map(Window::shown)));
        Ok(alloc::collected(entries)?)
    }

    /// The faults that a mapping or window had so far, and in which file it shows pages now.
    /// `None`: it is not there any more.
    pub fn counts(&self, mapped: Mapped) -> Option<(Arc<Counts>, u64)> {
        let state = self.lock();
        let (entry, held) = state.table.get(mapped.start, mapped.id)?;
        Some((Arc::clone(held.registration.counts()), entry.inode))
    }

    /// Where mappings and windows start that have unacknowledged faults, and how many; in whichever
    /// thread they were made.
    pub fn faulted(&self) -> Result<Vec<(PageAligned, u64)>> {
        let state = self.lock();
        let counted = state
            .table
            .held()
            .map(|(entry, held)| (entry.span.start(), held.registration.counts().unacknowledged()));
        Ok(alloc::collected(counted.filter(|(_, count)| *count > 0))?)
    }

    /// How many faults of mappings that are gone nobody has acknowledged, in whichever thread.
    pub fn gone_faults(&self) -> u64 {
        self.gone_in(&self.lock())
    }

    fn gone_in(&self, state: &State) -> u64 {
        let known = state.gone.acknowledged.max(self.gone_before);
        state.gone.count.checked_sub(known).expect("no more are acknowledged than there were")
    }

    /// Takes note of the faults of all mappings, and of those that are gone. Returns how many there
    /// were.
    pub fn acknowledge_faults(&self) -> u64 {
        let mut state = self.lock();
        let gone = self.gone_in(&state);
        state.gone.acknowledged = state.gone.count;
        let held = state.table.held().map(|(_, held)| held.registration.counts().acknowledge());
        held.chain([gone]).sum()
    }
}
