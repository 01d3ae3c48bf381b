//! The custom section that holds a report, in bytes that users keep in files: a byte with the
//! version of the format, and the [`Report`] in MessagePack, in which each field has its name
//! (`src/wire/`).
//!
//! Anybody may have made up the bytes. Those of this version that [`Report::encode`] doesn't write
//! hold no report, and the module counts as one that was never exposed.
//!
//! # To add a field
//!
//! 1. Add it in `report.rs`. Bound a text or list there, with `wire::text` and `wire::list`.
//! 2. Refuse values that no module has, in `Report::is_sound` below.
//! 3. Count up [`VERSION`]. Sections of other versions are refused by that number.

use super::buffers::{reserve, room_for, sum};
use super::report::{Few, Report};
use crate::error::{ModuleError, Result};
use crate::wire::{self, Unread};
use nix::errno::Errno;

pub(super) const VERSION: u8 = 4;

/// Enough for as many exports as are added, for as many tables as are told of, and for the names of
/// a memory and of what can't be read.
const MOST_BYTES: u64 = 8 << 20;

impl Report {
    /// The contents of the custom section.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let report = wire::encode(self, MOST_BYTES).map_err(|_| no_memory())?;
        let report = report.expect("wasmparser bounds names, and the lists are bounded");
        let mut section = Vec::new();
        reserve(&mut section, sum([report.len(), 1]))?;
        section.push(VERSION);
        section.extend_from_slice(&report);
        Ok(section)
    }

    /// What [`encode`](Self::encode) wrote. `None` if it wrote no such bytes.
    pub fn decode(section: &[u8]) -> Result<Option<Self>> {
        let Some((&found, report)) = section.split_first() else { return Ok(None) };
        if found != VERSION {
            return Err(ModuleError::ReportVersion { found, known: VERSION }.into());
        }
        if crate::sys::to_u64(report.len()) > MOST_BYTES {
            return Ok(None);
        }
        // What serde makes of an error holds texts that the bytes have.
        room_for(report.len(), 4)?;
        match wire::decode::<Self>(report) {
            Ok(report) => Ok(report.is_sound().then_some(report)),
            Err(Unread::NoMemory(_)) => Err(no_memory()),
            Err(Unread::NoValue(_) | Unread::OtherEncoding) => Ok(None),
        }
    }

    fn is_sound(&self) -> bool {
        self.unreadable_globals.is_sound()
            && self.unreadable_tables.is_sound()
            && self.dropped_segments.is_sound()
            && (self.tables.is_empty() || u32::try_from(self.tables.len()) == Ok(self.table_count))
            && self.added.iter().all(|added| added.attempt > 0)
    }
}

impl<T> Few<T> {
    /// Whether it names as many as it can.
    fn is_sound(&self) -> bool {
        let count = usize::try_from(self.count).unwrap_or(usize::MAX);
        self.first.len() == count.min(Self::MOST)
    }
}

fn no_memory() -> crate::error::Error {
    ModuleError::NoMemory { errno: Errno::ENOMEM }.into()
}
