//! Locks, each with its place in the order in which a thread may take them.
//!
//! A thread that holds a lock takes none of the same level, and none above it in [`Level`]: so no
//! two threads can wait for each other. Published builds have plain mutexes. With the feature
//! `locks`, which `inject` brings along, each lock checks its place when it is taken, and a thread
//! can write down which ones it takes and which system calls it makes meanwhile (`traced.rs`).
//!
//! A lock stays usable where a thread panicked that held it: what it protects is changed as a whole
//! or not at all. Not for handlers.

#[cfg(feature = "locks")]
mod traced;

#[cfg(not(feature = "locks"))]
pub use plain::{Guard, Lock, wait};
#[cfg(feature = "locks")]
pub use traced::{Event, Guard, Lock, note_call, start, take, wait};

/// All locks of the crate, the outermost first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// The process's: whether a thread passes faults on, and to whom.
    FaultWatcher,
    FaultThreads,
    /// The process's: snapshot files that are watched.
    SnapshotFiles,
    /// The process's: when the lock of a folder of names was last waited for in vain.
    Names,
    /// The process's: which memory is at which base.
    Memories,
    /// A memory's: its table of mappings.
    Memory,
    /// The process's: mappings that a thread is to go ahead of.
    MappedAhead,
    /// A region's: its views, and each of them.
    Views,
    View,
    /// The process's: what is offered to others.
    Offers,
    /// A pass's, and the process's: what is to be read ahead.
    Plan,
    ReadAhead,
    /// A region's: a mirror.
    Mirror,
    /// The process's: paged regions. One's: its provider's work, and its descriptor.
    Pagers,
    PagerWork,
    PagerCalls,
    /// The process's: once each.
    Installing,
    Marking,
    Userfault,
    /// The process's: who is told of faults.
    FaultListeners,
    /// A part of the address space's: which ranges are guarded. There are 64, twice.
    FaultRegistry,
    /// A range's: what it shows.
    RangePager,
    RangeName,
    RangeNameBefore,
    /// The process's: faults of mappings that are gone.
    FaultsLeft,
    /// The process's: what V8 reserves for a memory.
    Reservations,
    /// The process's: each thread's counts.
    Totals,
}

#[cfg(not(feature = "locks"))]
#[allow(clippy::disallowed_types)] // What they are made of.
mod plain {
    use super::Level;
    use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

    #[derive(Debug)]
    pub struct Lock<T>(Mutex<T>);

    pub type Guard<'a, T> = MutexGuard<'a, T>;

    impl<T> Lock<T> {
        pub const fn new(_: Level, value: T) -> Self {
            Self(Mutex::new(value))
        }

        pub fn lock(&self) -> Guard<'_, T> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }

    /// Lets go of the lock until it is woken.
    pub fn wait<'a, T>(woken: &Condvar, held: Guard<'a, T>) -> Guard<'a, T> {
        woken.wait(held).unwrap_or_else(PoisonError::into_inner)
    }
}
