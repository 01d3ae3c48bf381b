//! Instructions that V8 has declined to trap, so that it is not asked about them again.
//!
//! Before it declines, V8 looks at all functions that it ever compiled: 20 to 60 us where there are
//! 10,000. A store that it can't trap, an atomic of Liftoff's say, runs again and again. So
//! handlers remember the addresses of such instructions.
//!
//! # Why an answer that is remembered is right
//!
//! V8 decides by the address of the instruction, and by the thread's flag. What it knows of an
//! address is stored before the code there can run, and does not change as long as the code is
//! there. So an answer is wrong only after that code was freed and other code was put in its place:
//! a store that V8 would take would then go to a private page, and its trap would be lost. (The
//! other way round nothing is remembered: a fault that V8 took is offered to it anew each time, so
//! no thread is ever sent to where a trap no longer is.)
//!
//! 1. A thread remembers only what V8 has declined on this thread, in code that the thread was
//!    running. Then its isolate held that code: compiled JavaScript is in its heap, and an instance
//!    in its heap shares the ownership of all code of its module, whatever other threads do.
//! 2. Where a function of a module is compiled anew, the code gets another address: an allocator of
//!    Wasm code puts what was freed apart and never gives it out again (`freed_code_space_` in V8's
//!    src/wasm/wasm-code-manager.cc). It goes back to the system with the whole module.
//! 3. So the code is there at least until this isolate collects garbage. V8 says before each
//!    collection that it begins, and after it that it has ended ([`super::collections`]), on the
//!    thread itself. With the first, the thread forgets all ([`Known::begin`]); until the last,
//!    nothing is remembered ([`Known::end`]), since V8 does not tell of a collection inside of
//!    another.
//! 4. Before the isolate ends, its thread leaves ([`leave`]), and no thread is known that did not
//!    join. The faults of all others go to V8, as if nothing was here.
//!
//! What is not code of V8's is not remembered: outside of Wasm the thread's flag is down, and where
//! V8 has no flag, code of libraries is left out, since those are unloaded at any time. All that
//! remains is a program that runs Wasm code in a callback of its own for V8's collections, or, with
//! V8 14, has a compiler of its own whose code writes to mappings.
//!
//! A thread forgets by taking another stamp. Stamps are 64 bits and given once, so that what other
//! threads have left in the table, or this one earlier, is never taken for the thread's own.
//!
//! # In a handler
//!
//! [`is_known`] and [`learn`] run in signal handlers: they allocate nothing, take no lock and do
//! not panic. A place of the table is claimed by one swap. Who finds it claimed, by another thread
//! or by what it has interrupted, waits for nobody: V8 is asked, or nothing is remembered.

use crate::sys::{thread, to_u64, to_usize};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// How many instructions are remembered: 128 KiB, of which the kernel gives what is touched.
const PLACES: usize = 8192;
/// How many threads can join, and among how many places for them each looks.
const THREADS: usize = 4096;
const LOOKS: usize = 16;

/// An odd number whose product with others has well spread upper bits.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// An instruction that was declined, under a stamp. Both words are read and written by who has
/// claimed the place.
#[derive(Debug)]
struct Place {
    /// Its address, or [`EMPTY`] or [`CLAIMED`].
    code: AtomicU64,
    stamp: AtomicU64,
}

/// No code is there.
const EMPTY: u64 = 0;
const CLAIMED: u64 = u64::MAX;

static TABLE: [Place; PLACES] =
    [const { Place { code: AtomicU64::new(EMPTY), stamp: AtomicU64::new(0) } }; PLACES];

/// What is known of a thread that has joined.
#[derive(Debug)]
pub struct Known {
    /// Its address, or 0: the place is free.
    thread: AtomicUsize,
    /// Under which stamp it remembers, or [`FRESH`] or [`COLLECTING`]. Only the thread itself, and
    /// what V8 calls on it, write it.
    stamp: AtomicU64,
}

/// Nothing was remembered since the last collection.
const FRESH: u64 = 0;
/// The isolate collects, or is not there yet: nothing is remembered.
const COLLECTING: u64 = u64::MAX;

static KNOWN: [Known; THREADS] =
    [const { Known { thread: AtomicUsize::new(0), stamp: AtomicU64::new(COLLECTING) } }; THREADS];

impl Known {
    /// V8 begins to collect, on this thread.
    pub fn begin(&self) {
        self.stamp.store(COLLECTING, Ordering::Release);
    }

    /// V8 has collected.
    pub fn end(&self) {
        self.stamp.store(FRESH, Ordering::Release);
    }
}

fn hash(number: u64) -> usize {
    to_usize(number.wrapping_mul(SPREAD) >> 40)
}

/// The places where a thread may be.
fn places_of(thread: usize) -> impl Iterator<Item = &'static Known> {
    // Descriptors of threads are pages apart.
    let first = hash(to_u64(thread) >> 12);
    (0..LOOKS).filter_map(move |look| KNOWN.get(first.wrapping_add(look) % THREADS))
}

fn known(thread: usize) -> Option<&'static Known> {
    places_of(thread).find(|known| known.thread.load(Ordering::Acquire) == thread)
}

/// Makes the calling thread a known one, which remembers nothing before the first [`Known::end`].
/// `None`: it is known already, or there is no place. Not for handlers.
///
/// Who calls it sees to it that [`Known::begin`] and [`Known::end`] are called with each collection
/// from then on.
pub fn join() -> Option<&'static Known> {
    let this = thread::address();
    if known(this).is_some() {
        return None;
    }
    let place = places_of(this).find(|known| {
        known.thread.compare_exchange(0, this, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    })?;
    place.begin();
    Some(place)
}

/// The calling thread remembers nothing more, and is not known. Not for handlers.
pub fn leave() {
    if let Some(known) = known(thread::address()) {
        known.begin();
        known.thread.store(0, Ordering::Release);
    }
}

/// Under which stamp the calling thread remembers; 0: nothing yet. `None`: it has not joined. For
/// tests of what V8 tells.
pub fn stamp() -> Option<u64> {
    known(thread::address()).map(|known| known.stamp.load(Ordering::Acquire))
}

fn place(code: u64, thread: usize) -> Option<&'static Place> {
    // Threads that run the same code don't drive each other out.
    TABLE.get(hash(code ^ to_u64(thread).rotate_left(20)) % PLACES)
}

/// Whether V8 has declined this instruction, and would again.
pub fn is_known(code: u64) -> bool {
    let this = thread::address();
    let Some(stamp) = known(this).map(|known| known.stamp.load(Ordering::Acquire)) else {
        return false;
    };
    if stamp == FRESH || stamp == COLLECTING {
        return false;
    }
    let Some(place) = place(code, this) else { return false };
    let found = place.code.swap(CLAIMED, Ordering::AcqRel);
    if found == CLAIMED {
        return false;
    }
    let is_same = found == code && place.stamp.load(Ordering::Relaxed) == stamp;
    place.code.store(found, Ordering::Release);
    is_same
}

/// V8 has just declined this instruction, which this thread runs.
pub fn learn(code: u64) {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let this = thread::address();
    let Some(known) = known(this) else { return };
    let mut stamp = known.stamp.load(Ordering::Acquire);
    if stamp == COLLECTING || code == EMPTY || code == CLAIMED {
        return;
    }
    if stamp == FRESH {
        // 2^64 are never used up.
        stamp = NEXT.fetch_add(1, Ordering::Relaxed);
        known.stamp.store(stamp, Ordering::Release);
    }
    let Some(place) = place(code, this) else { return };
    if place.code.swap(CLAIMED, Ordering::AcqRel) != CLAIMED {
        place.stamp.store(stamp, Ordering::Relaxed);
        place.code.store(code, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On a thread of its own, which has joined.
    fn joined(run: impl FnOnce(&'static Known) + Send) {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                run(join().expect("there is a place"));
                leave();
            });
        });
    }

    #[test]
    fn a_thread_remembers_until_it_collects() {
        joined(|known| {
            learn(0x1000);
            assert!(!is_known(0x1000), "nothing before V8 was heard of");
            known.end();
            assert!(!is_known(0x1000));
            learn(0x1000);
            learn(0x2000);
            assert!(is_known(0x1000) && is_known(0x2000) && !is_known(0x3000));
            let before = stamp();
            known.begin();
            assert!(!is_known(0x1000));
            learn(0x1000);
            assert!(!is_known(0x1000), "nothing while V8 collects");
            known.end();
            assert_eq!(stamp(), Some(FRESH));
            assert!(!is_known(0x1000) && !is_known(0x2000));
            learn(0x2000);
            assert!(!is_known(0x1000) && is_known(0x2000));
            assert!(stamp() > before);
        });
    }

    #[test]
    fn a_thread_that_has_not_joined_remembers_nothing() {
        learn(0x1000);
        assert!(!is_known(0x1000));
        assert_eq!(stamp(), None);
        leave();
    }

    #[test]
    fn a_thread_knows_nothing_of_others_nor_of_one_that_was_at_its_address() {
        joined(|known| {
            known.end();
            learn(0x5000);
            joined(|other| {
                other.end();
                assert!(!is_known(0x5000));
                learn(0x5000);
            });
            assert!(is_known(0x5000));
            assert!(join().is_none(), "it has joined");
            // As a thread that ends, and another that begins at its address.
            leave();
            assert!(!is_known(0x5000));
            join().unwrap().end();
            assert!(!is_known(0x5000));
        });
    }

    #[test]
    fn a_claimed_place_makes_nobody_wait() {
        joined(|known| {
            known.end();
            learn(0x7000);
            let place = place(0x7000, thread::address()).unwrap();
            let found = place.code.swap(CLAIMED, Ordering::AcqRel);
            assert!(!is_known(0x7000));
            learn(0x7000);
            place.code.store(found, Ordering::Release);
            assert!(is_known(0x7000));
        });
    }

    #[test]
    fn the_special_values_are_no_code() {
        joined(|known| {
            known.end();
            learn(1);
            for code in [EMPTY, CLAIMED] {
                learn(code);
                assert!(!is_known(code));
            }
        });
    }

    /// All threads write the same few places, and collect at other times. What one of them knows,
    /// it has learned since it last collected.
    #[test]
    fn what_is_known_was_learned_by_this_thread_since_it_collected() {
        let rounds = if cfg!(miri) { 300 } else { 100_000 };
        std::thread::scope(|scope| {
            for seed in 1..=4_u64 {
                scope.spawn(move || {
                    joined_here(seed, rounds);
                });
            }
        });
    }

    fn joined_here(seed: u64, rounds: u64) {
        let known = join().expect("there is a place");
        known.end();
        let mut learned = std::collections::HashSet::new();
        let mut random = seed;
        for _ in 0..rounds {
            random = random.wrapping_mul(SPREAD).wrapping_add(seed);
            // More codes than places in this stretch, so that they drive each other out.
            let code = 1 + (random >> 50) % 16_384;
            match random >> 20 & 31 {
                0 => {
                    known.begin();
                    learned.clear();
                    learn(code);
                    known.end();
                }
                1..=15 => {
                    learn(code);
                    learned.insert(code);
                }
                _ => assert!(!is_known(code) || learned.contains(&code)),
            }
        }
        leave();
    }
}
