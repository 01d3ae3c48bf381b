//! The faults of a mapping, as JavaScript gets them. Data only: `fault.rs` has the functions.

use super::from_count;
use crate::fault::{Cause, Counts, LastFault, Outcome};
use napi_derive::napi;

/// The faults of a mapping, a window, or the views of a region.
#[napi(object, object_from_js = false)]
pub struct NativeFaults {
    pub stray_writes: f64,
    pub faults: f64,
    pub unacknowledged: f64,
    /// Absent where there was no fault.
    pub last: Option<NativeLastFault>,
}

#[napi(object, object_from_js = false)]
pub struct NativeLastFault {
    /// Which byte of the region it was at.
    pub region_offset: f64,
    /// Which byte of the mapping it was at.
    pub mapping_offset: f64,
    pub operation: &'static str,
    pub cause: &'static str,
    pub outcome: &'static str,
    /// Whether it was in the file that is mapped there now.
    pub is_shown: bool,
}

impl NativeFaults {
    /// `shown_inode`: the file that is mapped there now, if it may be another one than before.
    pub(super) fn new(counts: &Counts, shown_inode: Option<u64>) -> Self {
        let last = counts.last().map(|last| {
            let LastFault { region_offset, skew, write, cause, outcome } = last;
            NativeLastFault {
                region_offset: from_count(region_offset),
                mapping_offset: from_count(skew),
                operation: if write { "write" } else { "read" },
                cause: match cause {
                    Cause::Readonly => "readonly",
                    Cause::Unavailable => "unavailable",
                    Cause::BrokenMemory => "memory-error",
                    Cause::PastEnd => "past-end",
                },
                outcome: match outcome {
                    Outcome::Trap => "trap",
                    Outcome::PrivatePage => "private-page",
                    Outcome::Zeros => "zeros",
                },
                is_shown: shown_inode.is_none_or(|inode| inode == counts.last_inode()),
            }
        });
        Self {
            stray_writes: from_count(counts.stray_writes()),
            faults: from_count(counts.faults()),
            unacknowledged: from_count(counts.unacknowledged()),
            last,
        }
    }
}
