//! Puts zeroed pages, as V8 makes them, in place of a mapping or window.

use super::handle::Memory;
use super::place::pages_of;
use super::protect::protect_all;
use super::state::{Mapped, State};
use crate::error::{MemoryError, Result};
use crate::fault::Counts;
use crate::sys::mmap::{self, Advice, Pages};
use crate::v8::live_memory::LiveMemory;
use std::sync::Arc;

impl Memory {
    /// Unmaps, and returns the faults that the mapping had. `None`: it is not there any more.
    pub fn unmap(&self, live: LiveMemory<'_>, mapped: Mapped) -> Result<Option<Arc<Counts>>> {
        // There is no use in protecting this mapping first: protected again is what is left.
        let mut state = self.lock_unprotected(live)?;
        self.unmap_in(&mut state, live, mapped)
    }

    pub(crate) fn unmap_in(
        &self,
        state: &mut State,
        live: LiveMemory<'_>,
        mapped: Mapped,
    ) -> Result<Option<Arc<Counts>>> {
        let Some((entry, held)) = state.table.get(mapped.start, mapped.id) else {
            return Ok(None);
        };
        let target = pages_of(live, entry.span)?;
        let counts = Arc::clone(held.registration.counts());
        held.registration.pause();
        mmap::replace(target, Pages::Zeros).map_err(|sys| {
            if sys.removed {
                held.registration.mark_changed();
            }
            held.registration.resume();
            let byte_length = target.span().length().get();
            MemoryError::NotUnmapped { byte_length, refused: sys.into() }
        })?;
        // V8's own pages are marked so, and VMAs merge only if they don't differ. Where the advice
        // is refused there is one VMA more.
        let _ = mmap::advise(target, Advice::DontFork);
        state.table.remove(mapped.start, mapped.id);
        state.gone.count = state
            .gone
            .count
            .checked_add(counts.unacknowledged())
            .expect("nobody lives to see 2^64 faults");
        protect_all(&self.shared, state, live, None);
        Ok(Some(counts))
    }
}
