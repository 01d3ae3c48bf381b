//! What is known of a chunk, in a word that threads and handlers change by compare-and-swap.
//!
//! ```text
//!  31                        4   3      2     1 0
//!  | how often it failed      | zeros | told | state |
//! ```
//!
//! A thread that waits remembers the failures: a chunk that failed and was asked for again since
//! has failed for it. Nobody waits through 2^28 failures. Safe in handlers.

use std::sync::atomic::{AtomicU32, Ordering};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nobody has asked for it.
    Missing,
    /// It is wanted. The provider's thread may not know it yet.
    Requested,
    Present,
    /// It is being taken out: for the time of a few system calls.
    Evicting,
}

impl State {
    pub const ALL: [Self; 4] = [Self::Missing, Self::Requested, Self::Present, Self::Evicting];
}

const STATE_BITS: u32 = 0b11;
/// Somebody who waits for it has told the provider's thread, or is about to.
const TOLD: u32 = 0b100;
/// A touch of it has failed, so there may be zeros in its place. It stays: some of them may, too.
const ZEROS: u32 = 0b1000;
const ONE_FAILURE: u32 = 0b10000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Word(u32);

impl Word {
    pub(super) fn new(word: u32) -> Self {
        Self(word)
    }

    pub(super) fn of(word: &AtomicU32) -> Self {
        Self(word.load(Ordering::SeqCst))
    }

    pub(super) fn state(self) -> State {
        match self.0 & STATE_BITS {
            0 => State::Missing,
            1 => State::Requested,
            2 => State::Present,
            _ => State::Evicting,
        }
    }

    pub(super) fn is_told(self) -> bool {
        self.0 & TOLD != 0
    }

    /// Takes note that a touch of it fails, and gives what the word was.
    pub(super) fn mark_zeros(word: &AtomicU32) -> Self {
        Self(word.fetch_or(ZEROS, Ordering::SeqCst))
    }

    pub(super) fn has_zeros(self) -> bool {
        self.0 & ZEROS != 0
    }

    pub(super) fn failures(self) -> u32 {
        self.0 / ONE_FAILURE
    }

    /// In another state, of which nobody was told.
    pub(super) fn with(self, state: State) -> Self {
        Self(self.0 & !(STATE_BITS | TOLD) | state as u32)
    }

    pub(super) fn told(self) -> Self {
        Self(self.0 | TOLD)
    }

    pub(super) fn failed_once_more(self) -> Self {
        Self(self.0.wrapping_add(ONE_FAILURE))
    }

    /// False: it is another one by now.
    pub(super) fn change(self, word: &AtomicU32, to: Self) -> bool {
        word.compare_exchange(self.0, to.0, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_holds_all_of_it() {
        let word = AtomicU32::new(0);
        assert_eq!(Word::of(&word).state(), State::Missing);
        for (number, state) in (0_u32..).zip(State::ALL) {
            assert_eq!(state as u32, number);
            let now = Word::of(&word);
            assert!(now.change(&word, now.with(state).told().failed_once_more()));
            let then = Word::of(&word);
            assert_eq!((then.state(), then.is_told()), (state, true));
            assert_eq!(then.failures(), number + 1);
            assert!(!then.with(state).is_told());
            assert_eq!(then.has_zeros(), number > 0);
            assert_eq!(Word::mark_zeros(&word), then);
            assert!(Word::of(&word).with(State::Present).failed_once_more().has_zeros());
            assert!(!now.change(&word, now), "it is another one");
        }
        let last = Word(u32::MAX).failed_once_more();
        assert_eq!((last.failures(), last.state()), (0, State::Evicting));
    }
}
