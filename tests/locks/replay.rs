//! What threads would wait for on a processor each: their traces, gone through at once.
//!
//! Each thread takes a step at a time, an event of its trace, in an order that a seed decides. It
//! stays where it is while the lock that it wants is another's. Steps have no length: in some order
//! of them whatever can meet does.

use super::support::Numbers;
use std::collections::HashMap;
use wasm_hostmap::sys::lock::{Event, Level};

/// How often a thread that had its turn could not go on, by the lock that it waited for.
#[derive(Debug, Default)]
pub struct Replayed {
    pub steps: u64,
    pub waits: HashMap<Level, u64>,
}

impl Replayed {
    pub fn turns(&self) -> u64 {
        self.steps + self.all_waits()
    }

    pub fn all_waits(&self) -> u64 {
        self.waits.values().sum()
    }
}

/// `lock_of` tells which lock an event's is: locks may be taken together, to see what that does.
///
/// # Panics
/// If threads wait for each other.
pub fn replay(
    traces: &[Vec<Event>],
    seed: u64,
    lock_of: impl Fn(Level, u64) -> (Level, u64),
) -> Replayed {
    let mut numbers = Numbers(seed);
    let mut at = vec![0; traces.len()];
    let mut holders = HashMap::new();
    let mut replayed = Replayed::default();
    loop {
        let mut running: Vec<usize> =
            (0..traces.len()).filter(|thread| at[*thread] < traces[*thread].len()).collect();
        if running.is_empty() {
            return replayed;
        }
        // All of them have a turn, one after the other.
        let mut went_on = false;
        while !running.is_empty() {
            let thread = running.swap_remove(numbers.below(running.len() as u64) as usize);
            let goes_on = match traces[thread][at[thread]] {
                Event::Takes { level, lock } => {
                    let holder = holders.entry(lock_of(level, lock)).or_insert(thread);
                    let is_free = *holder == thread;
                    if !is_free {
                        *replayed.waits.entry(level).or_default() += 1;
                    }
                    is_free
                }
                Event::Frees { level, lock } => {
                    assert_eq!(holders.remove(&lock_of(level, lock)), Some(thread));
                    true
                }
                Event::Calls(_) => true,
            };
            if goes_on {
                at[thread] += 1;
                replayed.steps += 1;
                went_on = true;
            }
        }
        assert!(went_on, "each waits for another one's lock");
    }
}

#[test]
fn who_wants_a_lock_that_another_has_waits_and_who_waits_for_ever_is_found() {
    let takes = |level, lock| Event::Takes { level, lock };
    let frees = |level, lock| Event::Frees { level, lock };
    let (memory, registry) = (Level::Memory, Level::FaultRegistry);
    let user = |lock| vec![takes(memory, lock), Event::Calls("mmap"), frees(memory, lock)];
    let same = |level, lock| (level, lock);
    assert_eq!(replay(&[user(1), user(2)], 1, same).all_waits(), 0);
    let shared = replay(&[user(1), user(1)], 1, same);
    assert_eq!((shared.steps, shared.waits[&memory]), (6, 2), "as long as the call takes");
    let both = |first: (Level, u64), second: (Level, u64)| {
        let take = [first, second].map(|(level, lock)| takes(level, lock));
        let free = [second, first].map(|(level, lock)| frees(level, lock));
        [take, free].concat()
    };
    let crossed = [both((memory, 1), (registry, 2)), both((registry, 2), (memory, 1))];
    assert!(std::panic::catch_unwind(|| replay(&crossed, 1, same)).is_err());
}
