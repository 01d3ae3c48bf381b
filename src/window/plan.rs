//! What is to be done next for a stream of slides: which pages are brought in, read from the disk,
//! or let go. Numbers only: `stream.rs` does it.
//!
//! ```text
//!             passed            shown         next
//!  region ...|ppppppppppppppppp|SSSSSSSSSSSSS|aaaaaaaaaaaaaaaaaa|....
//!             let go            the window    read from the disk, and brought in, in the mirror
//! ```

use crate::sys::difference;

/// Brought in by one call. A slide of another thread waits for it: some tens of microseconds.
const STEP_BYTES: u64 = 1 << 20;

/// How far reading from the disk is ahead of bringing in.
const DISK_BYTES: u64 = 8 << 20;

/// Left behind at once, while there is something to bring in.
const LET_GO_BYTES: u64 = 32 << 20;

/// What is to be done, in bytes of the region.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Brought in up to here, and to be brought in up to there.
    pub(super) ahead: u64,
    pub(super) ahead_to: u64,
    /// Read from the disk up to here.
    pub(super) disk: u64,
    /// Let go up to here, and to be let go up to there.
    pub(super) behind: u64,
    pub(super) behind_to: u64,
    /// The most that was ever to be brought in.
    pub(super) highest: u64,
    /// How often it was started anew.
    pub(super) restarts: u64,
    /// Whether a thread has it, or will have.
    pub(super) is_queued: bool,
    pub(super) is_over: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    BringIn { start: u64, end: u64, disk: Option<(u64, u64)> },
    LetGo { start: u64, end: u64 },
}

impl Plan {
    pub(super) fn next(&mut self, is_on_disk: bool) -> Option<Step> {
        if self.is_over {
            // What was brought in for nothing included.
            self.ahead = self.ahead_to;
            self.behind_to = self.highest.max(self.behind_to);
        }
        // A thread that never gets done with what is ahead lets go all the same.
        let is_much = difference(self.behind_to, self.behind) >= LET_GO_BYTES;
        if self.ahead < self.ahead_to && !is_much {
            let start = self.ahead;
            let end = add(start, STEP_BYTES).min(self.ahead_to);
            self.ahead = end;
            let disk_to = add(end, DISK_BYTES).min(self.ahead_to.max(end));
            let disk_from = self.disk.max(start);
            // In larger pieces than steps: the fewer requests, the better for the disk.
            let is_due = is_on_disk && disk_from < disk_to && disk_from < add(end, DISK_BYTES / 2);
            let disk = is_due.then_some((disk_from, disk_to));
            if is_due {
                self.disk = disk_to;
            }
            return Some(Step::BringIn { start, end, disk });
        }
        if self.behind < self.behind_to {
            let start = std::mem::replace(&mut self.behind, self.behind_to);
            return Some(Step::LetGo { start, end: self.behind_to });
        }
        None
    }
}

fn add(at: u64, bytes: u64) -> u64 {
    at.checked_add(bytes).expect("a region ends below 2^63")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_shown_meanwhile_is_left_out() {
        let mut plan = Plan { ahead_to: 3 * STEP_BYTES, ..Plan::default() };
        let first = plan.next(false);
        assert_eq!(first, Some(Step::BringIn { start: 0, end: STEP_BYTES, disk: None }));
        plan.ahead = plan.ahead.max(2 * STEP_BYTES + 5);
        let second = plan.next(false);
        assert_eq!(
            second,
            Some(Step::BringIn { start: 2 * STEP_BYTES + 5, end: 3 * STEP_BYTES, disk: None })
        );
        assert_eq!(plan.next(false), None);
    }

    #[test]
    fn a_thread_that_is_never_done_lets_go_all_the_same_and_in_the_end_of_everything() {
        let mut plan = Plan { ahead_to: 1 << 40, highest: 1 << 40, ..Plan::default() };
        let mut let_go = 0;
        for _ in 0..1000 {
            plan.behind_to = plan.ahead;
            if let Some(Step::LetGo { start, end }) = plan.next(false) {
                assert_eq!(start, let_go);
                let_go = end;
            }
        }
        assert!(plan.ahead - let_go <= LET_GO_BYTES + STEP_BYTES);
        plan.is_over = true;
        assert_eq!(plan.next(false), Some(Step::LetGo { start: let_go, end: 1 << 40 }));
        assert_eq!(plan.next(false), None);
    }

    #[test]
    fn the_disk_is_asked_for_more_at_a_time_and_for_nothing_twice() {
        let total = 64 << 20;
        let mut plan = Plan { ahead_to: total, behind_to: 7, ..Plan::default() };
        let (mut at, mut asked, mut requests) = (0, 0, 0);
        while let Some(step) = plan.next(true) {
            match step {
                Step::BringIn { start, end, disk } => {
                    assert_eq!(start, at);
                    at = end;
                    if let Some((from, to)) = disk {
                        assert_eq!(from, asked);
                        asked = to;
                        requests += 1;
                    }
                    assert!(asked >= end);
                }
                Step::LetGo { start, end } => assert_eq!((start, end, at), (0, 7, total)),
            }
        }
        assert_eq!((at, asked), (total, total));
        assert!(requests <= total / (DISK_BYTES / 2) + 1);
    }
}
