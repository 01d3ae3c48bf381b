//! The owner's side of a guarded range: registering it, and keeping handlers out while its pages
//! change. Not for handlers.

// It declares what the owner of a range promises.
#![allow(unsafe_code)]

use super::counts::Counts;
use super::range::{self, GuardedRange, RangeSpec, Shown};
use super::{install, report, stale};
use crate::paging::Pager;
use crate::sys::page::{PageAligned, PageSpan};
use crate::sys::vma_budget;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A range that is guarded as long as this lives.
#[derive(Debug)]
pub struct Registration {
    range: Arc<GuardedRange>,
}

impl Registration {
    /// Registers a range, paused: before its pages are put there. [`Self::resume`] says that they
    /// are. Where there is no handler, nothing is guarded and all counts stay 0.
    ///
    /// # Safety
    /// Whenever this is resumed, and as long as the proof of the range holds or the process's map
    /// shows there what was told by `shown` and [`Self::set_shown`], a handler may change the pages
    /// of the range: no Rust reference points into them.
    pub unsafe fn new(spec: RangeSpec, shown: Shown<'_>) -> Self {
        let span = spec.span;
        let range = Arc::new(GuardedRange::new(spec, shown));
        if install::ensure().is_ok() {
            range::registry_of(&range.spec).insert(&(span.start().get()..span.end().get()), &range);
        }
        Self { range }
    }

    /// Whether there is a handler that guards it.
    pub fn is_guarded(&self) -> bool {
        install::ensure().is_ok()
    }

    /// What it shows now.
    pub fn shown<'a>(&self, region_name: &'a Arc<str>) -> Shown<'a> {
        self.range.shown.with_name(region_name)
    }

    /// The name of the region that it shows now. Empty: none.
    pub fn region_name(&self) -> Arc<str> {
        self.range.shown.name()
    }

    /// The addresses.
    pub fn span(&self) -> PageSpan {
        self.range.spec.span
    }

    /// Whether a provider brings in what it shows now.
    pub fn is_paged(&self) -> bool {
        self.range.is_paged()
    }

    /// Whether a file of this inode is in the place of pages that are not there. For the owner,
    /// while it changes nothing.
    pub fn is_stand_in(&self, inode: u64) -> bool {
        self.range.pager().and_then(Pager::empty_inode) == Some(inode)
    }

    pub fn counts(&self) -> &Arc<Counts> {
        &self.range.spec.counts
    }

    /// Whether a page lost its protection since this was last asked. Stray writes count from the
    /// start again: the caller protects all pages.
    pub fn take_unprotected(&self) -> bool {
        let unprotected = self.range.unprotected.swap(false, Ordering::AcqRel);
        if unprotected {
            self.range.strays.store(0, Ordering::Relaxed);
            // VMAs that don't merge again, since their copies of pages are kept apart, are found
            // when all are counted.
            vma_budget::give_back(self.range.stray_vmas.swap(0, Ordering::Relaxed));
        }
        unprotected
    }

    /// Whether some of its pages may not show the region since they were last put there.
    pub fn is_changed(&self) -> bool {
        self.range.changed.load(Ordering::Acquire)
    }

    /// The pages became writable in a way that no handler saw.
    pub fn mark_changed(&self) {
        self.range.changed.store(true, Ordering::Release);
    }

    /// Keeps handlers out until [`Self::resume`], or for good when this is dropped. Waits for a
    /// handler that is at work: it makes a few system calls.
    pub fn pause(&self) {
        stale::removal_begins(self.range.spec.span);
        self.range.gate.close();
    }

    /// What the range shows from now on. Call it while paused.
    pub fn set_shown(&self, shown: Shown<'_>) {
        self.range.shown.set(shown, report::has_unreported(&self.range));
        self.range.slides.fetch_add(1, Ordering::AcqRel);
        // All pages show the region again, those that handlers changed too.
        self.range.changed.store(false, Ordering::Release);
        self.range.strays.store(0, Ordering::Relaxed);
        for vmas in [&self.range.stray_vmas, &self.range.zero_vmas] {
            if vmas.load(Ordering::Relaxed) > 0 {
                vma_budget::give_back(vmas.swap(0, Ordering::Relaxed));
            }
        }
    }

    /// Of what the range shows, only so much from its start on is left. Call it while paused.
    pub fn show_less(&self, length: PageAligned) {
        self.range.shown.show_less(length);
    }

    pub fn resume(&self) {
        self.range.gate.open();
        stale::removal_ended();
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        // First, for who waits to come in.
        self.range.is_gone.store(true, Ordering::Release);
        self.pause();
        let span = self.range.spec.span;
        range::registry_of(&self.range.spec)
            .remove(&(span.start().get()..span.end().get()), &self.range);
        stale::removal_ended();
        // A reader may keep the range itself for a while.
        self.range.shown.forget_pager();
        vma_budget::give_back(self.range.stray_vmas.load(Ordering::Relaxed));
        vma_budget::give_back(self.range.zero_vmas.load(Ordering::Relaxed));
        report::keep_last(&self.range);
    }
}
