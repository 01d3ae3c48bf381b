//! The faults of the whole process, by cause and outcome, and what is guarded now: for `metrics()`.
//!
//! Handlers call [`add`]. All else here is not for them.

use super::counts::{Cause, Outcome};
use super::range;
use crate::sys::sum;
use std::sync::atomic::{AtomicU64, Ordering};

const OUTCOMES: usize = 3;

/// A row for each cause, by number, with a count for each outcome.
static FAULTS: [[AtomicU64; OUTCOMES]; 4] = [const { [const { AtomicU64::new(0) }; OUTCOMES] }; 4];

/// Counts a fault. Safe in a handler.
pub(super) fn add(cause: Cause, outcome: Outcome) {
    FAULTS[cause as usize][outcome as usize].fetch_add(1, Ordering::Relaxed);
}

/// How many faults had this cause and this outcome.
pub fn faults(cause: Cause, outcome: Outcome) -> u64 {
    FAULTS[cause as usize][outcome as usize].load(Ordering::Relaxed)
}

/// What is mapped into the process's memories now.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Guarded {
    pub mappings: u64,
    pub mapping_bytes: u64,
    pub windows: u64,
    pub window_bytes: u64,
}

/// Cost: a look at each guarded range. Where there is no handler, nothing is guarded.
pub fn guarded() -> Guarded {
    let mut found = Guarded::default();
    range::for_each(|range| {
        let spec = &range.spec;
        if spec.is_image || spec.memory_offset.is_none() {
            return;
        }
        let (count, bytes) = if spec.is_window {
            (&mut found.windows, &mut found.window_bytes)
        } else {
            (&mut found.mappings, &mut found.mapping_bytes)
        };
        *count = sum(*count, 1);
        *bytes = sum(*bytes, spec.span.length().get());
    });
    found
}
