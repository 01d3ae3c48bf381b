//! What one thread at a time may change: which chunks stay, and who else shows the region.

use std::any::Any;
use std::os::fd::OwnedFd;

/// Chunks that stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pinned {
    pub(super) first: u64,
    pub(super) last: u64,
}

/// Somebody elsewhere who has the region, as long as his end of `touches` is open.
#[derive(Debug)]
pub(super) struct Receiver {
    pub(super) id: u64,
    /// Whether he maps chunks that are present, without userfaultfd: those that are taken out would
    /// be zeros there.
    pub(super) pins: bool,
    /// What he writes chunks' numbers to, and what he asks by; until the provider's thread has
    /// them.
    pub(super) ends: Option<(OwnedFd, OwnedFd)>,
    /// The region stays while he has it.
    pub(super) _keeps: Box<dyn Any + Send + Sync>,
}

#[derive(Debug, Default)]
pub(super) struct Works {
    pub(super) pinned: Vec<Pinned>,
    pub(super) receivers: Vec<Receiver>,
}

impl Works {
    /// Whether a chunk may be taken out.
    pub(super) fn lets_go(&self, chunk: u64) -> bool {
        let is_pinned = |it: &Pinned| (it.first..=it.last).contains(&chunk);
        !self.pinned.iter().any(is_pinned) && !self.receivers.iter().any(|it| it.pins)
    }
}
