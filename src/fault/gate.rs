//! Who may touch the pages of a guarded range: its owner, or one handler at a time.
//!
//! A handler never waits here. If the gate is closed, or another handler is inside, it returns to
//! the faulting instruction, which faults again until the other one is done. The owner waits for
//! the handler that is inside, which makes a few system calls and leaves.
//!
//! Nothing here may allocate, lock or panic: handlers run it.

use crate::sys::thread;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering, fence};

/// Set in `Gate::pins` while the owner replaces the pages.
const CLOSED: u32 = 1 << 31;

#[derive(Debug)]
pub(super) struct Gate {
    /// Handlers that have come in, and [`CLOSED`].
    pins: AtomicU32,
    /// Whether one of them is changing pages.
    busy: AtomicBool,
}

impl Gate {
    pub(super) fn closed() -> Self {
        Self { pins: AtomicU32::new(CLOSED), busy: AtomicBool::new(false) }
    }

    /// Runs `work` inside, alone. `None`: the owner or another handler is inside now.
    pub(super) fn enter<R>(&self, work: impl FnOnce() -> R) -> Option<R> {
        // Looked at first, so that threads that come again and again don't keep the owner waiting.
        if self.pins.load(Ordering::Relaxed) & CLOSED != 0 {
            return None;
        }
        let is_open = self.pins.fetch_add(1, Ordering::AcqRel) & CLOSED == 0;
        // One handler at a time changes pages. A second one that came for the same page would undo
        // what the first thread has written to it since.
        let done = (is_open && !self.busy.swap(true, Ordering::Acquire)).then(|| {
            let done = work();
            self.busy.store(false, Ordering::Release);
            done
        });
        self.pins.fetch_sub(1, Ordering::Release);
        done
    }

    /// Keeps handlers out until [`Self::open`], and waits for the one that is inside. Not for
    /// handlers.
    pub(super) fn close(&self) {
        self.pins.fetch_or(CLOSED, Ordering::AcqRel);
        while self.pins.load(Ordering::Acquire) & !CLOSED != 0 {
            thread::yield_now();
        }
        // What the owner does to the pages comes after all that handlers did.
        fence(Ordering::SeqCst);
    }

    pub(super) fn open(&self) {
        self.pins.fetch_and(!CLOSED, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_handler_at_a_time_and_none_while_it_is_closed() {
        let gate = Gate::closed();
        assert_eq!(gate.enter(|| ()), None);
        gate.open();
        let inner = gate.enter(|| gate.enter(|| ()));
        assert_eq!(inner, Some(None), "the second one is sent back");
        assert_eq!(gate.enter(|| 7), Some(7), "and left nothing behind");
        gate.close();
        assert_eq!(gate.enter(|| ()), None);
    }

    #[test]
    fn closing_waits_for_the_handler_that_is_inside() {
        let gate = Gate::closed();
        gate.open();
        let done = AtomicBool::new(false);
        let is_inside = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                gate.enter(|| {
                    is_inside.store(true, Ordering::Release);
                    std::thread::yield_now();
                    done.store(true, Ordering::Release);
                })
            });
            while !is_inside.load(Ordering::Acquire) {
                std::thread::yield_now();
            }
            gate.close();
            assert!(done.load(Ordering::Acquire));
        });
    }
}
