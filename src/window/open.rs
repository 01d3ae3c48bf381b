//! Opens windows. They show nothing yet: all of a new window is its tail.

use crate::error::{Result, WindowError};
use crate::fault::Shown;
use crate::memory::place::{check_overlap, pages_of, span_at};
use crate::memory::table::Entry;
use crate::memory::window_state::{Window, WindowSpec};
use crate::memory::{Held, Mapped, Memory, State, next_mapping_id};
use crate::sys::page::{HUGE_PAGE_BYTES, PageAligned, PageSpan};
use crate::sys::vma_budget::VmaClaim;
use crate::v8::live_memory::LiveMemory;

/// VMAs that a window takes at most: what it shows, its tail, and what it cuts off its
/// surroundings.
const VMAS_OF_A_WINDOW: u64 = 3;

/// Opens a window at an offset into the memory.
pub fn open_at(memory: &Memory, live: LiveMemory<'_>, at: u64, spec: WindowSpec) -> Result<Mapped> {
    let span = span_at(live, at, spec.length)?;
    let mut state = memory.lock_at(live)?;
    check_overlap(&state.table, span)?;
    let from_free = state.table.free().contains(span);
    open(memory, live, &mut state, span, spec, from_free)
}

/// Opens a window in free space: what the memory grew by for mappings. `None`: there is not enough,
/// and the memory must grow.
///
/// `aligned`: at an address of the process that is a multiple of 2 MiB. A chunk that starts at such
/// a multiple of its file is then mapped by entries for 2 MiB where the page cache has them, and
/// touched by as many fewer page faults.
pub fn open_in_free_space(
    memory: &Memory,
    live: LiveMemory<'_>,
    spec: WindowSpec,
    aligned: bool,
) -> Result<Option<Mapped>> {
    let mut state = memory.lock_at(live)?;
    let free = match aligned {
        true => state.table.free().find_aligned(spec.length, memory.base(), HUGE_PAGE_BYTES),
        false => state.table.free().find(spec.length),
    };
    match free.filter(|span| span.end() <= live.byte_length()) {
        Some(span) => open(memory, live, &mut state, span, spec, true).map(Some),
        // The caller grows the memory now, which can't be undone. So what would be refused after
        // the growth is refused before.
        None => VmaClaim::take(VMAS_OF_A_WINDOW)
            .map(|_| None)
            .map_err(|full| WindowError::NoRoom { refused: full.into() }.into()),
    }
}

/// Opens a window in place of a memory's own pages. `span` is inside the memory, and overlaps no
/// mapping.
pub(crate) fn open(
    memory: &Memory,
    live: LiveMemory<'_>,
    state: &mut State,
    span: PageSpan,
    spec: WindowSpec,
    from_free: bool,
) -> Result<Mapped> {
    let not_opened = |refused| WindowError::NotOpened { byte_length: span.length().get(), refused };
    let target = pages_of(live, span)?;
    let vmas = VmaClaim::take(VMAS_OF_A_WINDOW).map_err(|full| not_opened(full.into()))?;
    let registration = memory.register(state, target, spec.access, true, Shown::nothing());
    let window = Window::new(spec);
    window.fill_tail(target).map_err(|sys| {
        if sys.removed {
            // Zeros are there now.
            state.image = None;
        }
        not_opened(sys.into())
    })?;
    let id = next_mapping_id();
    let entry = Entry {
        span,
        access: spec.access,
        id,
        from_free,
        region_offset: PageAligned::ZERO,
        inode: 0,
        file_offset: PageAligned::ZERO,
    };
    registration.resume();
    let held = Held { registration, _vmas: vmas, window: Some(window), adopted: None, ahead: None };
    state.table.insert(entry, true, held);
    Ok(Mapped { start: span.start(), id })
}
