//! Brings the pages of mappings in before a module asks for them. Hint only: nothing here changes
//! what a memory shows, so the memory may be dead by then.

use super::handle::Memory;
use super::presence::is_lost;
use super::state::Mapped;
use crate::error::{MemoryError, Result, check_cancelled};
use crate::sys::mmap::{self, Hint};
use crate::sys::page::PageSpan;
use nix::errno::Errno;
use std::sync::atomic::AtomicBool;

/// What one call brings in for a mapping that is populated: other threads get the process's map in
/// between.
const POPULATE_STEP_BYTES: u64 = 16 << 20;

/// The same for a prefetch, which others should not wait for.
const PREFETCH_STEP_BYTES: u64 = 4 << 20;

/// The kernel cuts each request off at what its disk takes at once (`force_page_cache_ra` in
/// mm/readahead.c), which is seldom less than this.
const REQUEST_BYTES: u64 = 128 << 10;

impl Memory {
    /// Brings pages of a mapping in, from an offset in it on, and maps them. Blocks until it is
    /// done or cancelled, or the mapping is gone.
    ///
    /// `is_file`: its pages may have to be read, and are asked for one step ahead.
    pub fn prefetch(
        &self,
        mapped: Mapped,
        part: PageSpan,
        is_file: bool,
        cancelled: &AtomicBool,
    ) -> Result<()> {
        let mut at = part.start();
        let mut requested_to = part.start();
        while let Some(left) = PageSpan::between(at, part.end()) {
            check_cancelled(cancelled)?;
            let step = left.first(PREFETCH_STEP_BYTES);
            let request_to = left.first(2 * PREFETCH_STEP_BYTES).end();
            let request = PageSpan::between(requested_to, request_to);
            if let Some(request) = request.filter(|_| is_file) {
                let Some(target) = self.part_of(mapped, request) else { return Ok(()) };
                start_to_read(target);
                requested_to = request.end();
            }
            let Some(target) = self.part_of(mapped, step) else { return Ok(()) };
            match mmap::hint(target, Hint::PopulateRead) {
                // The memory moved meanwhile, and somebody else's pages are there.
                Err(_) if self.is_lost() => return Ok(()),
                // The file has lost these pages, or its disk has.
                Err(sys) if matches!(sys.errno, Errno::EFAULT | Errno::EIO | Errno::EHWPOISON) => {
                    return Err(MemoryError::NotBroughtIn { refused: sys.into() }.into());
                }
                // Best effort: where the kernel is too old or has no memory, pages come when they
                // are touched.
                _ => at = step.end(),
            }
        }
        Ok(())
    }

    /// The addresses of a part of a mapping. `None`: the mapping is not there any more, or
    /// a provider brings its pages in.
    fn part_of(&self, mapped: Mapped, part: PageSpan) -> Option<PageSpan> {
        let state = self.lock();
        let (entry, held) = state.table.get(mapped.start, mapped.id)?;
        // Of a paged region, what is not there can't be brought in so, and what is there is.
        if held.registration.is_paged() {
            return None;
        }
        let span = entry.span;
        drop(state);
        let inside = part.at_base(span.start())?.within(span)?;
        Some(self.addresses(inside))
    }

    /// Whether the table has mappings, and the kernel none of them: V8 has moved the memory, or
    /// freed it.
    pub fn is_lost(&self) -> bool {
        let state = self.lock();
        !state.table.is_empty() && is_lost(self.base(), &state)
    }
}

/// Brings pages in. Best effort: what can't be brought in now is brought in, or fails, when it is
/// touched. It takes as long as reading them, so no lock is held; if the mapping is gone by then,
/// other pages are read for nothing.
pub(super) fn bring_in(target: PageSpan) {
    let mut at = target.start();
    while let Some(left) = PageSpan::between(at, target.end()) {
        let step = left.first(POPULATE_STEP_BYTES);
        if mmap::hint(step, Hint::PopulateRead).is_err() {
            return;
        }
        at = step.end();
    }
}

/// Starts to read the pages of a file.
fn start_to_read(target: PageSpan) {
    let mut at = target.start();
    while let Some(left) = PageSpan::between(at, target.end()) {
        let piece = left.first(REQUEST_BYTES);
        if mmap::hint(piece, Hint::WillNeed).is_err() {
            return;
        }
        at = piece.end();
    }
}
