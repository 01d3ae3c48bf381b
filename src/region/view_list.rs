//! The views of a region that somebody may still hold. The list outlives the region: a view that is
//! kept when the region is closed is still counted here, and can be taken away later.

use super::view::{AtClose, View};
use crate::fault::Counts;
use crate::sys::lock::{Guard, Level, Lock};
use crate::sys::{alloc, sum};
use std::sync::{Arc, Weak};

#[derive(Debug)]
pub struct ViewList {
    views: Lock<Vec<Weak<View>>>,
    /// Faults in views, those that are gone included.
    counts: Arc<Counts>,
}

/// What somebody holds of a region.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Held {
    /// Views that closing the region releases.
    pub released: u64,
    /// Views that it keeps.
    pub kept: u64,
    /// The bytes that all of them show, each counted by itself.
    pub bytes: u64,
}

impl Default for ViewList {
    fn default() -> Self {
        Self { views: Lock::new(Level::Views, Vec::new()), counts: Arc::default() }
    }
}

impl ViewList {
    pub fn counts(&self) -> &Arc<Counts> {
        &self.counts
    }

    pub fn held(&self) -> Held {
        let mut held = Held::default();
        for view in self.lock().iter().filter_map(Weak::upgrade) {
            // One that shows zeros for good holds nothing of the region.
            if !view.shows_region() {
                continue;
            }
            let count = match view.at_close() {
                AtClose::Release => &mut held.released,
                AtClose::Keep => &mut held.kept,
            };
            *count = sum(*count, 1);
            held.bytes = sum(held.bytes, view.byte_length());
        }
        held
    }

    /// Takes the region's pages out of views, of all or of those that closing releases. They show
    /// zeros as long as somebody holds them: an `fs.read` that still runs on another thread must
    /// find memory there, and nobody else's.
    pub fn release(&self, all: bool) {
        self.lock().retain(|view| {
            let Some(view) = view.upgrade() else { return false };
            let is_kept = !all && view.at_close() == AtClose::Keep;
            if !is_kept {
                // If it fails, the pages go when the view goes.
                let _ = view.blank();
            }
            is_kept
        });
    }

    /// For one who adds a view, or changes those that there are.
    pub(super) fn lock(&self) -> Guard<'_, Vec<Weak<View>>> {
        self.views.lock()
    }
}

/// Makes room for one more. Those that are gone are left out before the list takes more memory.
pub(super) fn reserve_one(views: &mut Vec<Weak<View>>) -> Result<(), alloc::Refused> {
    if views.len() == views.capacity() {
        views.retain(|view| view.strong_count() > 0);
    }
    Ok(views.try_reserve(1)?)
}
