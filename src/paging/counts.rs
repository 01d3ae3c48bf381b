//! What happened to a pager's chunks, in numbers. Handlers write them: see [`Pager`](super::Pager).

use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) faults: AtomicU64,
    pub(super) waits: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) timed_out: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) shown: AtomicU64,
    pub(super) provided: AtomicU64,
    pub(super) evicted: AtomicU64,
}

/// Counts at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counted {
    /// Touches of chunks that were not there.
    pub faults: u64,
    /// Threads that have waited for one.
    pub waits: u64,
    /// Touches that ended in a trap or in zeros.
    pub failed: u64,
    /// Of these, those that waited for too long.
    pub timed_out: u64,
    /// Of these, those that did not wait: the pager was closed, or it was the provider's thread.
    pub refused: u64,
    /// How often a handler shown chunks, where there is no userfaultfd.
    pub shown: u64,
    /// Chunks that were provided.
    pub provided: u64,
    /// Chunks that were taken out.
    pub evicted: u64,
    /// Chunks that are there now: [`Counts`] does not know them.
    pub present: u64,
}

/// Safe in handlers.
pub(super) fn add(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}

impl Counts {
    pub(super) fn now(&self) -> Counted {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Counted {
            faults: of(&self.faults),
            waits: of(&self.waits),
            failed: of(&self.failed),
            timed_out: of(&self.timed_out),
            refused: of(&self.refused),
            shown: of(&self.shown),
            provided: of(&self.provided),
            evicted: of(&self.evicted),
            present: 0,
        }
    }
}
