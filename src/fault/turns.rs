//! Threads whose event loop looks, before it waits, whether something was to be reported.
//!
//! A program is told of its mappings on the thread that made them. If that thread itself has the
//! fault, it comes to its loop again before it could be told anyhow: so its handler leaves a mark
//! ([`leave_mark`]) and wakes nobody, which would be half of what the fault takes.

use crate::sys::thread;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// How many threads can have such a loop. The faults of others wake the thread that reports.
const LOOPS: usize = 32;

/// One loop. Only its own thread takes and leaves it.
#[derive(Debug)]
pub struct Loop {
    /// Its address, or 0: the place is free.
    thread: AtomicUsize,
    is_marked: AtomicBool,
}

static ALL: [Loop; LOOPS] =
    [const { Loop { thread: AtomicUsize::new(0), is_marked: AtomicBool::new(false) } }; LOOPS];

impl Loop {
    /// Whether a handler of the thread has left a mark since the last call.
    pub fn take_mark(&self) -> bool {
        self.is_marked.load(Ordering::Relaxed) && self.is_marked.swap(false, Ordering::AcqRel)
    }

    /// The loop looks no more.
    pub fn end(&self) {
        self.thread.store(0, Ordering::Release);
    }
}

/// The calling thread's loop looks from now on, until [`Loop::end`]. `None`: there is no place.
pub fn begin() -> Option<&'static Loop> {
    let this = thread::address();
    ALL.iter()
        .find(|it| it.thread.compare_exchange(0, this, Ordering::AcqRel, Ordering::Relaxed).is_ok())
}

/// Whether the calling thread's loop will look. Safe in handlers.
pub(super) fn leave_mark() -> bool {
    let this = thread::address();
    let found = ALL.iter().find(|it| it.thread.load(Ordering::Acquire) == this);
    found.inspect(|it| it.is_marked.store(true, Ordering::Release)).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_marks_its_own_loop_alone() {
        let here = begin().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                assert!(!leave_mark(), "this thread has no loop");
                let there = begin().unwrap();
                assert!(leave_mark());
                assert!(there.take_mark());
                there.end();
                assert!(!leave_mark());
            });
        });
        assert!(!here.take_mark());
        assert!(leave_mark());
        assert!(here.take_mark());
        assert!(!here.take_mark(), "one mark, taken once");
        here.end();
    }
}
