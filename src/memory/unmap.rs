//! Puts zeroed pages, as V8 makes them, in place of a mapping or window.
//!
//! In a block that the module's allocator may have taken back, pages that were written are the
//! module's: they stay as they are, and the rest become zeros. A page that was never written since
//! it was mapped holds nothing that a user of malloc may rely on.

use super::handle::Memory;
use super::place::pages_of;
use super::protect::protect_all;
use super::state::{Mapped, State};
use crate::error::{MemoryError, Result};
use crate::fault::Counts;
use crate::sys::mmap::{self, Advice, Mmap, Pages};
use crate::sys::owned_span::OwnedSpan;
use crate::sys::page::{PageSpan, host_page_bytes};
use crate::sys::pagemap::{self, Which};
use crate::sys::{SysError, SysResult, alloc, file, memfd, to_usize};
use crate::v8::live_memory::LiveMemory;
use nix::errno::Errno;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

/// How much is copied at once.
const CHUNK_BYTES: u64 = 1 << 20;

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

    pub(super) fn unmap_by(
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
///
/// The kernel copies, by way of a file. A page may be gone by now: a file that gets shorter takes
/// the private pages past its end along. Rust would fault there, and fault again for ever, since no
/// handler comes in; the kernel says EFAULT. What was written is lost then, as it is for everybody.
fn copies(span: PageSpan, written: &[PageSpan]) -> SysResult<Mmap> {
    let own = Mmap::new(span.length(), Pages::Zeros)?;
    let between = memfd::create_growing("unmap")?;
    for run in written {
        let mut rest = Some(*run);
        while let Some(left) = rest {
            let chunk = left.first(CHUNK_BYTES);
            copy(chunk, place_of(chunk, span, &own)?, between.as_fd())?;
            rest = PageSpan::between(chunk.end(), run.end());
        }
    }
    Ok(own)
}

/// Where in a mapping pages of `span` are copied to.
fn place_of<'a>(pages: PageSpan, span: PageSpan, own: &'a Mmap) -> SysResult<OwnedSpan<'a>> {
    pages
        .start()
        .checked_sub(span.start())
        .and_then(|offset| own.span().start().checked_add(offset))
        .and_then(|start| PageSpan::new(start, pages.length()))
        .and_then(|place| own.owned().part(place))
        .ok_or(SysError::new("mmap", Errno::EFAULT))
}

/// Copies pages, and leaves out those that are gone.
fn copy(from: PageSpan, to: OwnedSpan<'_>, between: BorrowedFd<'_>) -> SysResult<()> {
    match file::write_all_from(between, 0, from.start().get(), from.length().get()) {
        Ok(()) => file::read_all_to(between, 0, to),
        Err(SysError { errno: Errno::EFAULT, .. }) => {
            let pages = |span: PageSpan| {
                let starts = span.start().get()..span.end().get();
                starts.step_by(to_usize(host_page_bytes())).filter_map(PageSpan::page_at)
            };
            if from.length().get() == host_page_bytes() {
                return Ok(());
            }
            for (page, place) in pages(from).zip(pages(to.span())) {
                let place = to.part(place).ok_or(SysError::new("mmap", Errno::EFAULT))?;
                copy(page, place, between)?;
            }
            Ok(())
        }
        Err(sys) => Err(sys),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::mmap::Sharing;
    use crate::sys::page::PageAligned;

    #[test]
    fn pages_that_are_gone_are_zeros_and_those_beside_them_are_copied() {
        let page = host_page_bytes();
        let length = |pages: u64| PageAligned::new(pages * page).unwrap();
        let file = memfd::create_growing("shorter").unwrap();
        file::write_all(&file, 0, &vec![7; length(4).get() as usize]).unwrap();
        let pages = Pages::File {
            fd: file.as_fd(),
            offset: PageAligned::ZERO,
            sharing: Sharing::CopyOnWrite,
            is_memfd: true,
        };
        let map = Mmap::new(length(4), pages).unwrap();
        // Makes all of them this process's own.
        file::read_all_to(file.as_fd(), 0, map.owned()).unwrap();
        let written = [map.span().first(2 * page), map.span()];
        file::set_length(&file, 3 * page).unwrap();

        let own = copies(map.span(), &written).unwrap();
        let seen = memfd::create_growing("seen").unwrap();
        file::write_all_from(seen.as_fd(), 0, own.address(), length(4).get()).unwrap();
        let mut bytes = vec![1; length(4).get() as usize];
        file::read_up_to(&seen, 0, &mut bytes).unwrap();
        let expected: Vec<u8> =
            (0..4).flat_map(|at| vec![if at < 3 { 7 } else { 0 }; page as usize]).collect();
        assert!(bytes == expected);
    }
}
