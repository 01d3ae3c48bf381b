//! What is known of one linear memory, shared by all handles on it in all threads, and its lock.
//!
//! Data only. Other files of this room change it, each what its name says.

use super::ahead::Ahead;
use super::image::{Content, ShownImage};
use super::leased::LeasedFile;
use super::table::MappingTable;
use super::window_state::Window;
use crate::fault::Registration;
use crate::sys::lock::{Guard, Level, Lock};
use crate::sys::mark::Mark;
use crate::sys::page::PageAligned;
use crate::sys::vma_budget::VmaClaim;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A mapping or window: where it starts, and its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mapped {
    pub start: PageAligned,
    pub id: u64,
}

/// An id that no other mapping or window of the process has.
pub(crate) fn next_mapping_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Tells a handle on a memory from all others of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HandleId(u64);

impl HandleId {
    pub(super) fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// What lives and ends with a mapping. Dropped in this order.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) registration: Registration,
    pub(crate) _vmas: VmaClaim,
    /// What a window shows; `None` for a mapping.
    pub(crate) window: Option<Window>,
    /// Where the bytes of an adopted buffer come from; `None` for all else.
    pub(crate) adopted: Option<AdoptedFrom>,
    /// Of a large mapping: its pages are mapped ahead of a pass.
    pub(crate) ahead: Option<Ahead>,
}

/// The buffer whose bytes are in a memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AdoptedFrom {
    pub(crate) address: u64,
    pub(crate) byte_length: u64,
    /// Whether its pages were moved, and those at its address are zeros.
    pub(crate) is_moved: bool,
    /// Which handle made it. Without that nobody can give it back.
    pub(super) owner: HandleId,
}

/// A file that a memory's own pages may show.
#[derive(Debug)]
pub(crate) struct ShownFile {
    pub(crate) file: Arc<LeasedFile>,
    /// What an access meets where the file has lost its bytes.
    pub(crate) guard: Registration,
}

/// What all handles on one reservation share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) base: PageAligned,
    state: Lock<State>,
    /// Whether a stray write left a page of a read-only mapping unprotected. Set by signal
    /// handlers.
    pub(super) unprotected: Arc<AtomicBool>,
    /// What the memory itself takes of the process's headroom.
    _vmas: Option<VmaClaim>,
}

impl Shared {
    pub(super) fn new(base: PageAligned, state: State, vmas: Option<VmaClaim>) -> Self {
        let state = Lock::new(Level::Memory, state);
        Self { base, state, unprotected: Arc::default(), _vmas: vmas }
    }

    pub(super) fn lock(&self) -> Guard<'_, State> {
        self.state.lock()
    }
}

/// What the lock of a memory protects.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) table: MappingTable<Held>,
    pub(super) protection: Protection,
    pub(super) gone: GoneFaults,
    /// How many `Memory` handles there are.
    pub(super) attached: usize,
    /// A page of the guard that no growth reaches, where the memory has one, and what was written
    /// there for handlers.
    pub(super) guard_page: Option<PageAligned>,
    pub(super) mark: Option<Mark>,
    /// What the memory's own pages show. `None`: nothing is known. Believe it only in a call that
    /// was given the living memory.
    pub(crate) image: Option<ShownImage>,
    /// Where the image that was mapped last has data. Which pages still show that image, the
    /// process's map tells.
    pub(crate) content: Option<Arc<Content>>,
    /// Files that its own pages may show.
    pub(crate) files: Vec<ShownFile>,
}

impl State {
    /// Makes the buffers that a handle has adopted the memory's own pages, as they are: where it is
    /// gone, so is all that could give them back, and a snapshot or a restore would be refused for
    /// good.
    pub(super) fn disown_adopted(&mut self, owner: HandleId) {
        self.table.disown(|held| held.adopted.is_some_and(|from| from.owner == owner));
    }

    /// Forgets all that is known of the pages, and of the guard: the memory may be another one.
    pub(super) fn forget_memory(&mut self) {
        (self.guard_page, self.mark) = (None, None);
        self.image = None;
    }
}

/// Windows that slide by turns. Where there are more, the kernel is asked more often.
const MOST_SLID: usize = 4;

/// What is known of the protection of read-only mappings: see `protect.rs`.
#[derive(Debug, Default)]
pub(super) struct Protection {
    /// The memory's size when all of them were last known to be protected.
    pub(super) known_length: PageAligned,
    /// When a slide last asked the kernel.
    pub(super) slid_in_tick: u64,
    /// Windows that have slid since the kernel was last asked. What a slide has mapped is
    /// protected, whether or not the others are.
    pub(super) slid: [Option<PageAligned>; MOST_SLID],
}

/// Faults of mappings that are gone.
#[derive(Debug, Default)]
pub(super) struct GoneFaults {
    /// Those that were unacknowledged when their mapping went, ever.
    pub(super) count: u64,
    /// How many of these have been acknowledged since.
    pub(super) acknowledged: u64,
}
