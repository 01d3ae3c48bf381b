//! Which memory is at which base: everything that is known of memories is found by its base, in all
//! threads.
//!
//! V8 may give the base of a dead memory to another one before anybody told us of the death. So
//! what is found is asked of the kernel before it is believed (`presence.rs`).
//!
//! Its lock is held while the kernel is asked about memories that were found at a base, or that
//! nobody has a handle on.

use super::handle::Memory;
use super::leased::LeasedFile;
use super::presence::{Presence, is_lost, is_mapped, presence};
use super::protect::protect_all;
use super::state::{HandleId, Shared, State};
use crate::error::{MemoryError, Result};
use crate::sys::SysResult;
use crate::sys::alloc;
use crate::sys::lock::{Guard, Level, Lock};
use crate::sys::page::PageAligned;
use crate::sys::process_map;
use crate::sys::vma_budget::{VMAS_OF_A_MEMORY, VmaClaim};
use crate::v8::live_memory::{LiveMemory, MemoryExtent};
use std::collections::BTreeMap;
use std::sync::Arc;

/// So many unattached memories are left alone.
const FEW_UNATTACHED: usize = 8;

static MEMORIES: Lock<Memories> = Lock::new(
    Level::Memories,
    Memories { by_base: BTreeMap::new(), unattached: Vec::new(), sweep_at: FEW_UNATTACHED },
);

/// Locked when a memory is wrapped or collected; mapping does not pass here.
fn memories() -> Guard<'static, Memories> {
    MEMORIES.lock()
}

#[derive(Debug)]
struct Memories {
    by_base: BTreeMap<PageAligned, Arc<Shared>>,
    /// Bases of memories without a handle. They are dead, or live on in a module that nobody looks
    /// at through us any more, and then their mappings are still there.
    unattached: Vec<PageAligned>,
    /// How many of them are looked at next.
    sweep_at: usize,
}

impl Memories {
    /// Forgets the unattached memories that are dead, when they are twice as many as last time:
    /// looking at each asks the kernel for its mappings, and a program that ends lets go of all its
    /// memories one by one.
    fn sweep_if_many(&mut self) {
        if self.unattached.len() < self.sweep_at {
            return;
        }
        let Self { by_base, unattached, .. } = self;
        unattached.retain(|base| {
            let Some(shared) = by_base.get(base) else { return false };
            let state = shared.lock();
            let is_attached = state.attached > 0;
            let is_dead = !is_attached && (state.table.is_empty() || is_lost(*base, &state));
            drop(state);
            if is_dead {
                by_base.remove(base);
            }
            !is_attached && !is_dead
        });
        let left = self.unattached.len();
        self.sweep_at =
            left.checked_mul(2).expect("a list is far shorter than 2^63").max(FEW_UNATTACHED);
    }

    fn is(&self, shared: &Arc<Shared>) -> bool {
        self.by_base.get(&shared.base).is_some_and(|found| Arc::ptr_eq(found, shared))
    }
}

/// Whether what is at the start of a buffer may be a linear memory's first page: V8's own, which is
/// no file's, or a mapping that we know of. A buffer over some file's pages that happens to be
/// below a memory's guard is none.
pub fn may_be_linear(extent: MemoryExtent) -> SysResult<bool> {
    let base = extent.base();
    let first = process_map::at_or_after(base.get())?;
    let is_file = first.is_some_and(|vma| vma.start <= base.get() && vma.inode != 0);
    Ok(!is_file || memories().by_base.contains_key(&base))
}

/// All that are known, in all threads. They may be dead.
pub(super) fn known() -> Result<Vec<Arc<Shared>>> {
    Ok(alloc::collected(memories().by_base.values().map(Arc::clone))?)
}

/// Locks each memory that may show a file, one after the other. They may be dead.
pub(crate) fn for_each_showing(
    file: &LeasedFile,
    mut look: impl FnMut(PageAligned, &mut State) -> Result<()>,
) -> Result<()> {
    known()?.iter().try_for_each(|shared| {
        let mut state = shared.lock();
        let shows = state.files.iter().any(|shown| std::ptr::eq(&raw const *shown.file, file));
        if shows { look(shared.base, &mut state) } else { Ok(()) }
    })
}

impl Memory {
    /// A handle on what is known of the memory at this base.
    pub fn attach(live: LiveMemory<'_>) -> Result<Self> {
        // Where there is no headroom, mapping is what is refused. Before the lock that all threads
        // share: now and then it reads the process's map.
        let vmas = VmaClaim::take(VMAS_OF_A_MEMORY).ok();
        let mut memories = memories();
        memories.sweep_if_many();
        let found = match memories.by_base.get(&live.base()) {
            Some(shared) => revive(shared, live)?.then(|| Arc::clone(shared)),
            None => None,
        };
        let shared = found.unwrap_or_else(|| {
            let mut state = State::default();
            state.protection.known_length = live.byte_length();
            let shared = Arc::new(Shared::new(live.base(), state, vmas));
            memories.by_base.insert(live.base(), Arc::clone(&shared));
            shared
        });
        let mut state = shared.lock();
        state.attached = state.attached.checked_add(1).expect("each handle takes memory");
        let gone_before = state.gone.count;
        // Nothing proves that it was this memory in which an image was put, nor that this one has
        // the same guard.
        state.forget_memory();
        protect_all(&shared, &mut state, live, None);
        drop(state);
        Ok(Self { shared, gone_before, id: HandleId::next() })
    }

    /// Whether the memory is where it was and, by its mappings, was so all along. Asked after a
    /// growth.
    ///
    /// Cost: one query of the process's map, for the first mapping. If that is gone, one for each.
    pub fn is_still_at(&self, live: LiveMemory<'_>) -> bool {
        if self.base() != live.base() {
            return false;
        }
        let state = self.lock();
        let is_first_mapped = match state.table.held().next() {
            None => return true,
            Some((first, held)) => is_mapped(self.base(), first, held),
        };
        // Where the kernel can't be asked, nothing is known.
        is_first_mapped.unwrap_or(true) || !is_lost(self.base(), &state)
    }

    /// Forgets a memory whose mappings are lost, so that neither the fault guard nor the next
    /// memory at this base meets them.
    pub fn forget_lost(&self) {
        let mut memories = memories();
        let mut state = self.lock();
        if !is_lost(self.base(), &state) {
            // There is nothing in it, or V8 has not given the old place back yet: the next one that
            // comes looks again.
            return;
        }
        let lost = std::mem::take(&mut state.table);
        state.forget_memory();
        state.content = None;
        state.files = Vec::new();
        drop(state);
        if memories.is(&self.shared) {
            memories.by_base.remove(&self.base());
        }
        drop(memories);
        // Without any lock: it takes that of the fault guard's registry.
        drop(lost);
    }
}

/// Whether what was found is the living memory's. If nothing proves it, it is made as new.
fn revive(shared: &Shared, live: LiveMemory<'_>) -> Result<bool> {
    let mut state = shared.lock();
    let presence = presence(shared.base, &state)
        .map_err(|sys| MemoryError::MappingsUnseen { refused: sys.into() })?;
    if presence != Presence::All || state.table.is_empty() {
        state.table.forget_free();
    }
    if state.table.is_empty() {
        state.protection.known_length = live.byte_length();
    }
    Ok(presence != Presence::None)
}

impl Drop for Memory {
    fn drop(&mut self) {
        let mut memories = memories();
        let mut state = self.lock();
        state.attached = state.attached.checked_sub(1).expect("each handle was counted");
        state.disown_adopted(self.id);
        let is_last = state.attached == 0;
        let is_empty = state.table.is_empty();
        drop(state);
        // One that was replaced, since its base came back, goes with its last handle. Pages are
        // left alone: if the memory is dead, something else may be there now.
        if is_last && memories.is(&self.shared) {
            if is_empty {
                memories.by_base.remove(&self.base());
            } else {
                memories.unattached.push(self.base());
                memories.sweep_if_many();
            }
        }
    }
}
