//! Puts a region's pages into a memory: at an offset, or in space that the memory grew by for it.

use super::ahead;
use super::handle::Memory;
use super::place::{check_mappable, check_overlap, pages_of, span_at};
use super::prefetch::bring_in;
use super::state::{Held, Mapped, State, next_mapping_id};
use super::table::Entry;
use crate::access::Access;
use crate::error::{Error, MemoryError, Result};
use crate::region::{RegionPages, keep_out_of_dumps, thp};
use crate::sys::page::{HUGE_PAGE_BYTES, PageAligned, PageSpan, WASM_PAGE_BYTES};
use crate::sys::vma_budget::{VMAS_OF_A_MAPPING, VmaClaim};
use crate::v8::live_memory::LiveMemory;

/// When pages are mapped that are in memory already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Populate {
    /// By the page faults of who touches them.
    AsTouched,
    /// The same; where somebody reads one page after the other, just before.
    Ahead,
    /// With the mapping.
    All,
}

impl Populate {
    /// By number, as `lib/memory/map.js` gives it.
    pub fn from_code(code: u32) -> Option<Self> {
        [Self::AsTouched, Self::Ahead, Self::All].into_iter().find(|it| *it as u32 == code)
    }
}

impl From<bool> for Populate {
    fn from(now: bool) -> Self {
        if now { Self::All } else { Self::AsTouched }
    }
}

/// A page of a shared file is mapped once more when it is written first.
fn may_read_ahead(pages: &RegionPages<'_>, access: Access) -> bool {
    pages.length().get() >= ahead::LEAST_BYTES
        && pages.can_be_populated()
        && (!access.writes_through() || pages.region().is_memory())
}

impl Memory {
    /// Maps at an offset into the memory.
    ///
    /// Cost: one or two system calls (see [`mmap::replace`]), one query of the process's map.
    pub fn map_at(
        &self,
        live: LiveMemory<'_>,
        at: u64,
        pages: &RegionPages<'_>,
        access: Access,
        populate: impl Into<Populate>,
    ) -> Result<Mapped> {
        let populate = populate.into();
        let span = span_at(live, at, pages.length())?;
        check_mappable(pages, access)?;
        let mut state = self.lock_at(live)?;
        check_overlap(&state.table, span)?;
        let from_free = state.table.free().contains(span);
        let mapped = self.map_span(live, &mut state, span, pages, access, populate, from_free)?;
        drop(state);
        if populate == Populate::All && pages.can_be_populated() {
            bring_in(self.addresses(span));
        }
        Ok(mapped)
    }

    /// Maps in free space: what the memory grew by for mappings. `None`: there is not enough, and
    /// the memory must grow.
    ///
    /// `congruent`: where huge pages of the region can be mapped as such, see `thp.rs`.
    pub fn map_in_free_space(
        &self,
        live: LiveMemory<'_>,
        pages: &RegionPages<'_>,
        access: Access,
        populate: impl Into<Populate>,
        congruent: bool,
    ) -> Result<Option<Mapped>> {
        let populate = populate.into();
        // Before the caller grows the memory for it.
        check_mappable(pages, access)?;
        let mut state = self.lock_at(live)?;
        let free = state.table.free();
        let free = match congruent {
            true => {
                // As if the memory began where the region's first huge page would.
                let base = thp::base_for(self.base(), pages.file_offset());
                base.and_then(|base| free.find_aligned(pages.length(), base, HUGE_PAGE_BYTES))
            }
            false => free.find(pages.length()),
        };
        let Some(span) = free.filter(|span| span.end() <= live.byte_length()) else {
            // The caller grows the memory now, which can't be undone. So what would be refused
            // after the growth is refused before.
            let not_mapped = |refused| MemoryError::RegionNotMapped {
                region: pages.region().name().to_owned(),
                refused,
            };
            pages.check_descriptor().map_err(|sys| not_mapped(sys.into()))?;
            VmaClaim::take(VMAS_OF_A_MAPPING).map_err(|full| not_mapped(full.into()))?;
            return Ok(None);
        };
        let mapped = self.map_span(live, &mut state, span, pages, access, populate, true)?;
        drop(state);
        if populate == Populate::All && pages.can_be_populated() {
            bring_in(self.addresses(span));
        }
        Ok(Some(mapped))
    }

    /// Whether a mapping of so many bytes finds free space.
    pub fn has_free_space(&self, live: LiveMemory<'_>, byte_length: u64) -> Result<bool> {
        let state = self.lock_at(live)?;
        let free = PageAligned::round_up(byte_length).and_then(|it| state.table.free().find(it));
        Ok(free.is_some_and(|span| span.end() <= live.byte_length()))
    }

    /// By how many bytes the memory must grow for such a place, in whole Wasm pages: what is free
    /// at its end is a part of it. 0: another thread has unmapped enough there since.
    pub fn growth_for_congruent(
        &self,
        live: LiveMemory<'_>,
        length: PageAligned,
        file_offset: PageAligned,
    ) -> Result<u64> {
        let state = self.lock_at(live)?;
        let byte_length = live.byte_length();
        let last = state.table.free().spans().next_back().filter(|span| span.end() == byte_length);
        let start = last.map_or(byte_length, PageSpan::start);
        drop(state);
        let end = thp::base_for(self.base(), file_offset).and_then(|base| {
            let address =
                base.checked_add(start)?.get().checked_next_multiple_of(HUGE_PAGE_BYTES)?;
            PageAligned::new(address)?.checked_sub(base)?.checked_add(length)
        });
        // Below the memory's length: what another thread gave back is enough, and the growth is 0.
        let growth = end
            .map(|end| end.get().saturating_sub(byte_length.get()))
            .and_then(|growth| growth.checked_next_multiple_of(WASM_PAGE_BYTES));
        growth.ok_or(Error::Defect("a mapping would end beyond all addresses"))
    }

    /// Adds what the memory grew by for mappings to the free space.
    pub fn add_free_space(&self, live: LiveMemory<'_>, start: u64, end: u64) -> Result<()> {
        let mut state = self.lock_at(live)?;
        let span = PageAligned::new(start)
            .zip(PageAligned::new(end))
            .and_then(|(start, end)| PageSpan::between(start, end))
            .filter(|span| span.end() <= live.byte_length())
            .ok_or(Error::Defect("free space is not inside the memory"))?;
        state.table.add_free(span);
        Ok(())
    }

    /// Maps in place of a memory's own pages. `span` is inside the memory, and overlaps no mapping.
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn map_span(
        &self,
        live: LiveMemory<'_>,
        state: &mut State,
        span: PageSpan,
        pages: &RegionPages<'_>,
        access: Access,
        populate: Populate,
        from_free: bool,
    ) -> Result<Mapped> {
        let not_mapped = |refused| MemoryError::NotMapped {
            byte_length: span.length().get(),
            region: pages.region().name().to_owned(),
            refused,
        };
        let target = pages_of(live, span)?;
        let vmas = VmaClaim::take(VMAS_OF_A_MAPPING).map_err(|full| not_mapped(full.into()))?;
        // Before the pages are there, since another thread may touch them at once. Where mapping
        // fails it is dropped.
        let registration = self.register(state, target, access, false, pages.shown());
        pages.put(target, access.sharing()).map_err(|sys| {
            if sys.removed {
                // Zeros are there now.
                state.image = None;
            }
            not_mapped(sys.into())
        })?;
        registration.resume();
        let id = next_mapping_id();
        let entry = Entry {
            span,
            access,
            id,
            from_free,
            region_offset: pages.region_offset(),
            inode: pages.inode(),
            file_offset: pages.file_offset(),
        };
        let ahead = (populate == Populate::Ahead && may_read_ahead(pages, access))
            .then(|| ahead::watch(target.span()));
        let held = Held { registration, _vmas: vmas, window: None, adopted: None, ahead };
        state.table.insert(entry, !access.is_writable(), held);
        // A private file mapping is dumped only if it was written (vma_dump_size in fs/coredump.c),
        // so a read-only one needs no advice.
        if access.is_writable() {
            keep_out_of_dumps(target.span());
        }
        Ok(Mapped { start: span.start(), id })
    }
}
