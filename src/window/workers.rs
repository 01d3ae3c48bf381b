//! The few threads of the process that work for streams, by turns, a step each.

use crate::sys::lock::{self, Guard, Level, Lock};
use crate::sys::thread;
use std::collections::VecDeque;
use std::sync::{Arc, Condvar};

/// Streams of one process rarely need more: a thread brings pages in several times as fast as a
/// module reads them.
const MOST_THREADS: usize = 4;

/// What threads do in steps.
pub(super) trait Work: Send + Sync {
    /// One step; false if there is none.
    fn step(&self) -> bool;
}

/// What has something to do. Threads take one after the other, a step each.
struct Queue {
    state: Lock<QueueState>,
    pushed: Condvar,
}

struct QueueState {
    waiting: VecDeque<Arc<dyn Work>>,
    threads: usize,
    idle: usize,
}

static QUEUE: Queue = Queue {
    state: Lock::new(
        Level::ReadAhead,
        QueueState { waiting: VecDeque::new(), threads: 0, idle: 0 },
    ),
    pushed: Condvar::new(),
};

/// Takes work on until it has no more steps. False: there is no thread, and none to be had.
pub(super) fn push(work: Arc<dyn Work>) -> bool {
    QUEUE.push(work)
}

impl Queue {
    fn state(&self) -> Guard<'_, QueueState> {
        self.state.lock()
    }

    fn push(&'static self, work: Arc<dyn Work>) -> bool {
        let mut state = self.state();
        state.waiting.push_back(work);
        if state.idle < state.waiting.len() && state.threads < MOST_THREADS {
            // Where there is none to be had, nothing is read ahead.
            if thread::spawn("hostmap-ahead", || QUEUE.run()).is_ok() {
                state.threads = state.threads.checked_add(1).expect("there are few threads");
            }
        }
        if state.threads == 0 {
            state.waiting.clear();
            return false;
        }
        drop(state);
        self.pushed.notify_one();
        true
    }

    fn run(&self) {
        thread::give_way();
        loop {
            let work = self.pop();
            if work.step() {
                self.state().waiting.push_back(work);
            }
        }
    }

    fn pop(&self) -> Arc<dyn Work> {
        let mut state = self.state();
        loop {
            if let Some(work) = state.waiting.pop_front() {
                return work;
            }
            state.idle = state.idle.checked_add(1).expect("there are few threads");
            state = lock::wait(&self.pushed, state);
            state.idle = state.idle.checked_sub(1).expect("it was counted");
        }
    }
}
