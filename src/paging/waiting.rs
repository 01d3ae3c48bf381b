//! A handler that waits for a chunk. Nothing here may allocate, lock or panic.
//!
//! It waits outside of the range's gate and of the registry, holding nothing that another thread
//! could need for the chunk to come.

// A handler uses a pager without a share of it.
#![allow(unsafe_code)]

use super::counts::add;
use super::head;
use super::pager::Pager;
use super::word::{State, Word};
use crate::sys::requests::Sent;
use crate::sys::words::Time;
use crate::v8::current;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How long until a request is sent again for which the socket had no room.
const SEND_AGAIN_MILLISECONDS: u32 = 1;

/// How often a receiver looks whether the owner is still there, which may end without a ring; and
/// how long it takes to be heard: a request that was answered before it was seen is sent again.
const LOOK_AGAIN_MILLISECONDS: u32 = 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The chunk was there.
    Present,
    /// The provider failed, took too long, or is gone.
    Failed,
}

/// A touch that waits for a chunk.
#[derive(Debug)]
pub struct Waiting {
    /// # Safety
    /// `users` counts this, and `list` frees no pager whose users it counts.
    pager: NonNull<Pager>,
    chunk: u64,
    /// How often the chunk had failed.
    failures: u32,
    /// The thread is one that runs no JavaScript: of libuv's pool.
    is_pool: bool,
}

/// How many threads of libuv's pool wait.
static POOL_WAITS: AtomicUsize = AtomicUsize::new(0);

/// How many threads that run no JavaScript wait for chunks, of all pagers.
pub fn pool_waits() -> usize {
    POOL_WAITS.load(Ordering::Acquire)
}

impl Waiting {
    fn pager(&self) -> &Pager {
        // SAFETY: by the Safety section of the field.
        unsafe { self.pager.as_ref() }
    }

    /// Whether it waited for this chunk.
    pub fn is_for(&self, pager: &Pager, chunk: u64) -> bool {
        std::ptr::eq(self.pager.as_ptr(), pager) && self.chunk == chunk
    }

    /// Waits.
    pub fn wait(&self) -> Ended {
        let count = usize::from(self.is_pool);
        POOL_WAITS.fetch_add(count, Ordering::AcqRel);
        let ended = self.wait_counted();
        POOL_WAITS.fetch_sub(count, Ordering::AcqRel);
        ended
    }

    fn wait_counted(&self) -> Ended {
        let pager = self.pager();
        add(&pager.counts.waits);
        let deadline = Time::now().later_by(pager.timeout_milliseconds);
        let mut is_to_send = false;
        let mut sent_at = None;
        let ended = loop {
            // Before anything is looked at, so that no ring is missed.
            let seen = pager.bell().rings();
            let Some(now) = pager.words.load(self.chunk).map(Word::new) else {
                break Ended::Failed;
            };
            if now.state() == State::Present {
                break Ended::Present;
            }
            let is_over = pager.is_closed() || (self.is_pool && pager.refuses_pool());
            if now.failures() != self.failures || is_over {
                break Ended::Failed;
            }
            // Another thread may have asked for it without a touch, and not be in a hurry.
            if now.state() != State::Evicting && !now.is_told() {
                match pager.words.get(self.chunk) {
                    Some(word) if !now.change(word, now.with(State::Requested).told()) => continue,
                    Some(_) => is_to_send = true,
                    // The provider's thread takes note of it, once it has heard of it.
                    None => is_to_send |= is_late(sent_at),
                }
            }
            if is_to_send {
                match pager.requests.send(self.chunk) {
                    Sent::Done => {
                        is_to_send = false;
                        sent_at = Some(Time::now());
                    }
                    Sent::Full => {}
                    Sent::Gone => {
                        pager.close();
                        break Ended::Failed;
                    }
                }
            }
            let at = Time::now();
            if !at.is_before(deadline) {
                add(&pager.counts.timed_out);
                break Ended::Failed;
            }
            let until = match is_to_send {
                true => at.later_by(SEND_AGAIN_MILLISECONDS).sooner(deadline),
                false if pager.is_received() => {
                    if !pager.requests.is_connected() {
                        // What came before the owner ended stays.
                        if pager.state(self.chunk) == Some(State::Present) {
                            break Ended::Present;
                        }
                        pager.close();
                        break Ended::Failed;
                    }
                    at.later_by(LOOK_AGAIN_MILLISECONDS).sooner(deadline)
                }
                false => deadline,
            };
            pager.bell().wait(seen, self.chunk, until);
        };
        if is_to_send {
            self.let_another_send();
        }
        ended
    }

    /// Gives up a request that was never sent: another thread may wait for it.
    fn let_another_send(&self) {
        let pager = self.pager();
        let Some(word) = pager.words.get(self.chunk) else { return };
        let now = Word::of(word);
        if now.state() == State::Requested && now.is_told() {
            // Where it has changed meanwhile, another thread has done it.
            let _ = now.change(word, now.with(State::Requested));
        }
        pager.bell().ring(self.chunk);
    }
}

/// Whether a request that was sent then ought to have been heard.
fn is_late(sent_at: Option<Time>) -> bool {
    sent_at.is_none_or(|at| !Time::now().is_before(at.later_by(LOOK_AGAIN_MILLISECONDS)))
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // The last use of the pager.
        self.pager().users.fetch_sub(1, Ordering::Release);
    }
}

impl Pager {
    /// What is to be waited for, outside of the gate. `None`: nothing comes, or not while this
    /// thread waits.
    ///
    /// The caller is inside the gate of a range that holds this pager.
    pub fn begin_wait(&self, chunk: u64) -> Option<Waiting> {
        let is_pool = current::is_without_script();
        if self.is_closed() || self.is_served_here() || (is_pool && self.refuses_pool()) {
            add(&self.counts.refused);
            return None;
        }
        let failures = Word::new(self.words.load(chunk)?).failures();
        self.users.fetch_add(1, Ordering::AcqRel);
        Some(Waiting { pager: NonNull::from(self), chunk, failures, is_pool })
    }

    /// Touches by threads of libuv's pool fail at once until this is taken back, those that wait
    /// too: all of the pool waits, and the provider needs a thread of it.
    pub fn refuse_pool(&self, is_refused: bool) {
        self.words.set_number(head::REFUSES_POOL, is_refused.into());
        if is_refused {
            self.bell().ring_all();
        }
    }

    fn refuses_pool(&self) -> bool {
        self.words.number(head::REFUSES_POOL) != 0 && head::is_of_this_process(&self.words)
    }
}
