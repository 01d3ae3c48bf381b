//! Locks that check their order and can be counted. For tests: see `tests/locks.rs`.

#![allow(clippy::disallowed_types)] // What they are made of.

use super::Level;
use crate::sys::alloc;
use std::cell::{Cell, RefCell};
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

#[derive(Debug)]
pub struct Lock<T> {
    level: Level,
    /// Given when it is first taken; 0 before.
    id: AtomicU64,
    mutex: Mutex<T>,
}

/// What a thread did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    Takes {
        level: Level,
        lock: u64,
    },
    Frees {
        level: Level,
        lock: u64,
    },
    /// A system call, by the name that failures are injected by.
    Calls(&'static str),
}

const MOST_HELD: usize = 16;
const MOST_EVENTS: usize = 1 << 16;

thread_local! {
    // Without destructors, since handlers look at the second one.
    static HELD: Cell<[Option<Level>; MOST_HELD]> = const { Cell::new([None; MOST_HELD]) };
    static IS_TRACED: Cell<bool> = const { Cell::new(false) };
    static TRACE: RefCell<Vec<Event>> = const { RefCell::new(Vec::new()) };
}

/// From now on this thread's events are written down.
pub fn start() {
    let room = alloc::with_room(MOST_EVENTS).expect("tests have memory");
    TRACE.with(|trace| *trace.borrow_mut() = room);
    IS_TRACED.set(true);
}

/// What this thread did since then.
///
/// # Panics
/// If that was more than there is room for.
pub fn take() -> Vec<Event> {
    IS_TRACED.set(false);
    let trace = TRACE.with(|trace| std::mem::take(&mut *trace.borrow_mut()));
    assert!(trace.len() < MOST_EVENTS, "some of it may be missing");
    trace
}

/// Allocates nothing: handlers call the kernel, too.
fn note(event: Event) {
    if IS_TRACED.get() {
        TRACE.with(|trace| {
            let mut trace = trace.borrow_mut();
            if trace.len() < MOST_EVENTS {
                trace.push(event);
            }
        });
    }
}

/// This thread makes a system call.
pub fn note_call(name: &'static str) {
    note(Event::Calls(name));
}

/// Before the thread waits for the lock: what is wrong does not depend on whether it had to.
fn check_order(level: Level) {
    let mut held = HELD.get();
    let highest = held.iter().flatten().max();
    assert!(
        highest.is_none_or(|highest| *highest < level),
        "{level:?} is taken by a thread that holds {:?}",
        held.iter().flatten().collect::<Vec<_>>()
    );
    let free = held.iter_mut().find(|held| held.is_none()).expect("a thread holds few locks");
    *free = Some(level);
    HELD.set(held);
}

impl<T> Lock<T> {
    pub const fn new(level: Level, value: T) -> Self {
        Self { level, id: AtomicU64::new(0), mutex: Mutex::new(value) }
    }

    pub fn lock(&self) -> Guard<'_, T> {
        check_order(self.level);
        let inner = Some(self.mutex.lock().unwrap_or_else(PoisonError::into_inner));
        note(Event::Takes { level: self.level, lock: self.id() });
        Guard { lock: self, inner }
    }

    /// The same for ever, and no other lock's.
    fn id(&self) -> u64 {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        // Who asks holds the lock.
        if self.id.load(Ordering::Relaxed) == 0 {
            self.id.store(NEXT.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        }
        self.id.load(Ordering::Relaxed)
    }
}

#[derive(Debug)]
pub struct Guard<'a, T> {
    lock: &'a Lock<T>,
    /// Not while it waits.
    inner: Option<MutexGuard<'a, T>>,
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.inner.as_ref().expect("it is held")
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.inner.as_mut().expect("it is held")
    }
}

impl<T> Drop for Guard<'_, T> {
    fn drop(&mut self) {
        // A handler that comes between the two finds the lock held, as it is.
        note(Event::Frees { level: self.lock.level, lock: self.lock.id() });
        self.inner = None;
        let mut held = HELD.get();
        if let Some(held) = held.iter_mut().find(|held| **held == Some(self.lock.level)) {
            *held = None;
        }
        HELD.set(held);
    }
}

/// Lets go of the lock until it is woken.
pub fn wait<'a, T>(woken: &Condvar, mut held: Guard<'a, T>) -> Guard<'a, T> {
    held.inner =
        held.inner.take().map(|inner| woken.wait(inner).unwrap_or_else(PoisonError::into_inner));
    held
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_thread_does_is_written_down_in_order() {
        let (outer, inner) = (Lock::new(Level::Memory, 1), Lock::new(Level::FaultRegistry, 2));
        drop(outer.lock());
        start();
        let held = outer.lock();
        drop(inner.lock());
        note_call("mmap");
        drop(held);
        let (table, registry) = (outer.id(), inner.id());
        assert_eq!(
            take(),
            [
                Event::Takes { level: Level::Memory, lock: table },
                Event::Takes { level: Level::FaultRegistry, lock: registry },
                Event::Frees { level: Level::FaultRegistry, lock: registry },
                Event::Calls("mmap"),
                Event::Frees { level: Level::Memory, lock: table },
            ]
        );
        drop(outer.lock());
        assert_eq!(take(), [], "nothing is written down that nobody asked for");
    }

    #[test]
    #[should_panic(expected = "Memory is taken by a thread that holds [FaultRegistry]")]
    fn a_lock_is_not_taken_by_who_holds_one_below_it() {
        let (outer, inner) = (Lock::new(Level::Memory, ()), Lock::new(Level::FaultRegistry, ()));
        let _held = inner.lock();
        drop(outer.lock());
    }

    #[test]
    #[should_panic(expected = "Memory is taken by a thread that holds [Memory]")]
    fn nor_by_who_holds_another_of_its_level() {
        let (one, other) = (Lock::new(Level::Memory, ()), Lock::new(Level::Memory, ()));
        let _held = one.lock();
        drop(other.lock());
    }

    #[test]
    fn locks_are_freed_in_any_order_and_panics_leave_nothing_held() {
        let (outer, inner) = (Lock::new(Level::Memory, ()), Lock::new(Level::FaultRegistry, ()));
        let (first, second) = (outer.lock(), inner.lock());
        drop(first);
        drop(second);
        let panicked = std::panic::catch_unwind(|| {
            let _held = inner.lock();
            drop(outer.lock());
        });
        assert!(panicked.is_err());
        drop(outer.lock());
    }
}
