//! Puts zeroed pages, as V8 makes them, in place of a mapping or window.
//!
//! In a block that the module's allocator may have taken back, pages that were written are the
//! module's: they stay as they are, and the rest become zeros. A page that was never written since
//! it was mapped holds nothing that a user of malloc may rely on.

// It copies pages of a memory.
#![allow(unsafe_code)]

use super::handle::Memory;
use super::place::pages_of;
use super::protect::protect_all;
use super::state::{Mapped, State};
use crate::error::{MemoryError, Result};
use crate::fault::Counts;
use crate::sys::mmap::{self, Advice, Mmap, Pages};
use crate::sys::owned_span::OwnedSpan;
use crate::sys::page::PageSpan;
use crate::sys::pagemap::{self, Which};
use crate::sys::{SysError, SysResult, alloc, contents};
use crate::v8::live_memory::LiveMemory;
use nix::errno::Errno;
use std::sync::Arc;

impl Memory {
    /// Unmaps, and returns the faults that the mapping had. `None`: it is not there any more.
    pub fn unmap(&self, live: LiveMemory<'_>, mapped: Mapped) -> Result<Option<Arc<Counts>>> {
        // There is no use in protecting this mapping first: protected again is what is left.
        let mut state = self.lock_unprotected(live)?;
        self.unmap_in(&mut state, live, mapped)
    }

    /// The same, but pages that were written stay as they are. For private mappings.
    ///
    /// Cost: beside that of `unmap`, a scan of the page tables, and a copy of what was written.
    pub fn unmap_unwritten(
        &self,
        live: LiveMemory<'_>,
        mapped: Mapped,
    ) -> Result<Option<Arc<Counts>>> {
        let mut state = self.lock_unprotected(live)?;
        self.unmap_by(&mut state, live, mapped, replace_unwritten)
    }

    pub(crate) fn unmap_in(
        &self,
        state: &mut State,
        live: LiveMemory<'_>,
        mapped: Mapped,
    ) -> Result<Option<Arc<Counts>>> {
        self.unmap_by(state, live, mapped, |target| mmap::replace(target, Pages::Zeros))
    }

    fn unmap_by(
        &self,
        state: &mut State,
        live: LiveMemory<'_>,
        mapped: Mapped,
        replace: impl FnOnce(OwnedSpan<'_>) -> SysResult<()>,
    ) -> Result<Option<Arc<Counts>>> {
        let Some((entry, held)) = state.table.get(mapped.start, mapped.id) else {
            return Ok(None);
        };
        let target = pages_of(live, entry.span)?;
        let counts = Arc::clone(held.registration.counts());
        held.registration.pause();
        replace(target).map_err(|sys| {
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

/// Zeros with copies of the pages that were written, in one step. Handlers are kept out, so a
/// thread that writes meanwhile waits at the protected page, and writes to the new one.
fn replace_unwritten(target: OwnedSpan<'_>) -> SysResult<()> {
    mmap::protect_readonly(target)?;
    let replaced = written(target.span()).and_then(|written| match written.as_slice() {
        [] => mmap::replace(target, Pages::Zeros),
        written => mmap::replace_by_own(target, copies(target.span(), written)?),
    });
    replaced.inspect_err(|sys| {
        // Zeros that plug a hole are writable. Where it fails, writes make pages private one by
        // one.
        if !sys.removed {
            let _ = mmap::unprotect_private(target);
        }
    })
}

fn written(span: PageSpan) -> SysResult<Vec<PageSpan>> {
    let (mut runs, mut pushed) = (Vec::new(), Ok(()));
    let see = |run: pagemap::Run| pushed = pushed.and_then(|()| alloc::push(&mut runs, run.span));
    if pagemap::scan(span, Which::OwnOfFile, u64::MAX, see).is_err() {
        // A kernel that can't scan.
        (runs, pushed) = (Vec::new(), Ok(()));
        let see =
            |run: pagemap::Run| pushed = pushed.and_then(|()| alloc::push(&mut runs, run.span));
        pagemap::read(span, see)?;
    }
    pushed?;
    Ok(runs)
}

/// A mapping of zeros, with copies of these pages of `span` in their places.
fn copies(span: PageSpan, written: &[PageSpan]) -> SysResult<Mmap> {
    let own = Mmap::new(span.length(), Pages::Zeros)?;
    for run in written {
        let place = run
            .start()
            .checked_sub(span.start())
            .and_then(|offset| own.span().start().checked_add(offset))
            .and_then(|start| PageSpan::new(start, run.length()))
            .and_then(|place| place.within(own.span()))
            .filter(|place| place.length() == run.length());
        let place = place.ok_or(SysError::new("mmap", Errno::EFAULT))?;
        // SAFETY: the run is in a span of a living memory, whose pages can be read; `own` is a
        // writable mapping that nobody else knows.
        unsafe { contents::copy(run.start(), place) };
    }
    Ok(own)
}
