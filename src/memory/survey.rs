//! What is known of all memories of the process, in all threads: to be looked at.
//!
//! Nothing here changes anything, and no memory is kept. What is given is true of the moment in
//! which its memory was looked at; the next one may be looked at later.

use super::presence::is_lost;
use super::registry::known;
use super::state::{Held, Shared};
use super::table::Entry;
use super::window_state::{Tail, Window};
use crate::error::Result;
use crate::fault::Counts;
use crate::sys::alloc;
use crate::sys::page::PageAligned;
use std::sync::Arc;

/// A memory at one moment.
#[derive(Debug)]
pub struct Surveyed {
    pub base: PageAligned,
    /// Whether any thread has an object for it.
    pub is_attached: bool,
    /// Its size when that was last looked at: growth by the module alone tells nobody.
    pub known_bytes: PageAligned,
    pub mappings: Vec<SurveyedMapping>,
}

/// A mapping or window at one moment.
#[derive(Debug)]
pub struct SurveyedMapping {
    pub entry: Entry,
    pub window: Option<SurveyedWindow>,
    pub is_adopted: bool,
    /// Empty: it shows no region.
    pub region_name: Arc<str>,
    pub counts: Arc<Counts>,
}

#[derive(Debug, Clone, Copy)]
pub struct SurveyedWindow {
    pub shown: PageAligned,
    pub tail_traps: bool,
}

/// Every memory that anybody has an object for, or that still has mappings.
///
/// Cost: one lock for each memory; of those that nobody has an object for, one query of the
/// process's map for each mapping at most.
pub fn survey() -> Result<Vec<Surveyed>> {
    let known = known()?;
    let mut found = alloc::with_room(known.len())?;
    for shared in &known {
        if let Some(memory) = look_at(shared)? {
            found.push(memory);
        }
    }
    Ok(found)
}

/// `None`: it is dead, and only nobody has said so yet.
fn look_at(shared: &Shared) -> Result<Option<Surveyed>> {
    let state = shared.lock();
    let is_attached = state.attached > 0;
    if !is_attached && (state.table.is_empty() || is_lost(shared.base, &state)) {
        return Ok(None);
    }
    let mappings =
        alloc::collected(state.table.held().map(|(entry, held)| of_mapping(entry, held)))?;
    let known_bytes = state.protection.known_length;
    Ok(Some(Surveyed { base: shared.base, is_attached, known_bytes, mappings }))
}

fn of_mapping(entry: &Entry, held: &Held) -> SurveyedMapping {
    let of_window = |window: &Window| SurveyedWindow {
        shown: window.shown(),
        tail_traps: window.spec().tail == Tail::Inaccessible,
    };
    SurveyedMapping {
        entry: *entry,
        window: held.window.as_ref().map(of_window),
        is_adopted: held.adopted.is_some(),
        region_name: held.registration.region_name(),
        counts: Arc::clone(held.registration.counts()),
    }
}
