//! Linear memories of V8's, and the trick of putting host memory into them.
//!
//! # The trick
//!
//! V8 gives every WebAssembly memory a *reservation*: address space that nothing else may use, most
//! of it inaccessible. Compiled code adds a 32-bit index and a 32-bit offset to the *base* and
//! checks nothing: whatever lies beyond the memory's end is a *guard*, and touching it is a fault
//! that V8's handler turns into a trap.
//!
//! ```text
//!              base                base + byte_length                       base + above_bytes
//!               v                          v                                         v
//!  |   guard    | linear memory, read-write | reserved, may grow      |    guard     |
//!  |<- below -->|   |mmmmmmmm|              |
//!                     ^ a mapping: the same addresses, other pages
//! ```
//!
//! To the kernel an address range is just that: `mmap(MAP_FIXED)` puts other pages behind addresses
//! that are already in use, in one step. Compiled code, V8's bookkeeping and JavaScript's views of
//! the buffer all hold addresses, not pages, so they see the region's bytes from the next load on.
//! Nothing of V8 is patched and nothing is copied.
//!
//! # What makes it safe
//!
//! 1. Only ranges inside `[base, base + byte_length)` are ever replaced ([`Memory::map_at`] checks
//!    it against what V8 says at that moment). Beyond, a page that could be read would be a hole in
//!    the sandbox: nothing but the guard checks bounds.
//! 2. A replacement is one step (`sys::mmap::replace`). Where the kernel removes the old pages and
//!    then has no memory for the new ones, zeros fill the hole at once; where they can't, the
//!    process ends. Nothing runs on with a hole.
//! 3. Read-only mappings are copy-on-write underneath. V8 grows a memory with `mprotect(READ |
//!    WRITE)` over all of it, ours included; the mapping loses its write protection then, but the
//!    region stays as it is. [`Memory::sync`] protects it again at the next call.
//! 4. What faults all the same, a write to a read-only page or a page that a file has lost, is seen
//!    to by `fault`.
//! 5. Nothing here keeps a memory alive, and nothing touches it once it may be dead. Every call
//!    that changes pages takes a [`LiveMemory`], which only `unsafe` code makes: base and length of
//!    the buffer as V8 gives them in that call, from somebody who holds the memory.
//!
//! # A memory that moves
//!
//! V8 may copy a memory to another place when it grows: always where there are no guards, and V8 11
//! also where `mprotect` fails. The mappings are lost then: their bytes are copies, and the old
//! base may be another memory's by now, its guard even. So each call compares the base that V8
//! gives with the table's ([`Memory::check_base`]). A memory may also move away and back between
//! two calls. After a growth, therefore, the kernel is asked whether the mappings are still there
//! ([`Memory::is_still_at`]).
//!
//! # One table for each reservation, and the base that comes back
//!
//! A shared memory has a JavaScript object in each worker, all over one base: they share one
//! [`MappingTable`], found by the base. But V8 may give the base of a dead memory to a new one
//! before anybody told us of the death. So whoever finds a table asks the kernel whether its
//! mappings still stand: V8 unmaps the whole reservation when a memory dies, our pages included, so
//! a table with a mapping that is gone is a dead memory's. A table without mappings holds only free
//! space; since nothing proves whose that is, it is forgotten.

// It registers mappings with the fault guard, and marks a page of the guard.
#![allow(unsafe_code)]

pub mod table;

use crate::access::Access;
use crate::error::{Code, Error, Result, check_cancelled};
use crate::fault::{self, Counts, Proof, Registration};
use crate::memory::table::{Entry, MappingTable};
use crate::region::thp;
use crate::region::{RegionPages, keep_out_of_dumps};
use crate::snapshot::image::{Content, Laid};
use crate::sys::SysResult;
use crate::sys::alloc;
use crate::sys::clock;
use crate::sys::mark::{self, Mark};
use crate::sys::mmap::{self, Advice, Pages};
use crate::sys::owned_span::OwnedSpan;
use crate::sys::page::{HUGE_PAGE_BYTES, PageAligned, PageSpan, WASM_PAGE_BYTES, host_page_bytes};
use crate::sys::process_map;
use crate::sys::vma_budget::{VMAS_OF_A_MAPPING, VMAS_OF_A_MEMORY, VmaClaim};
use crate::v8::live_memory::{LiveMemory, MemoryExtent};
use crate::window::Window;
use nix::errno::Errno;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Whether what lies at the start of this range may be a linear memory's first page: V8's own,
/// which is no file's, or a mapping that we know of. A buffer over some file's pages, which happens
/// to lie below a memory's guard, is none.
pub fn may_be_linear(extent: MemoryExtent) -> SysResult<bool> {
    let base = extent.base();
    let first = process_map::at_or_after(base.get())?;
    let is_file = first.is_some_and(|vma| vma.start <= base.get() && vma.inode != 0);
    let is_known =
        || TABLES.lock().unwrap_or_else(PoisonError::into_inner).by_base.contains_key(&base);
    Ok(!is_file || is_known())
}

/// What the JavaScript objects over one reservation share.
#[derive(Debug)]
struct Shared {
    base: PageAligned,
    state: Mutex<State>,
    /// Whether a stray write left a page of a read-only mapping without its protection. Set by
    /// signal handlers.
    unprotected: Arc<AtomicBool>,
    /// What the memory itself takes of the process's head room.
    _vmas: Option<VmaClaim>,
}

/// What stands and falls with a mapping. Dropped in this order.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) registration: Registration,
    pub(crate) _vmas: VmaClaim,
    /// What a window shows; `None` for a mapping.
    pub(crate) window: Option<Window>,
}

/// Of more windows than these, which slide by turns, the kernel is asked more often.
const MOST_SLID: usize = 4;

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) table: MappingTable<Held>,
    /// The memory's size when the read-only mappings were last known to be protected.
    protected_length: PageAligned,
    /// When a slide last asked the kernel whether they are.
    slid_in_tick: u64,
    /// Windows that have slid since the kernel was last asked: what a slide laid anew is protected,
    /// whatever else is bare.
    slid: [Option<PageAligned>; MOST_SLID],
    /// Faults of what was unmapped that nobody had acknowledged, ever; and how many of these
    /// somebody has since.
    gone_faults: u64,
    gone_acknowledged: u64,
    /// How many `Memory` handles there are.
    attached: usize,
    /// A page of the guard that no growth reaches, where the memory has one, and what was written
    /// there for handlers.
    guard_page: Option<u64>,
    mark: Option<Mark>,
    /// What the memory's own pages show; `None`: nothing is known. Only one who holds the memory
    /// may believe it.
    pub(crate) laid: Option<Laid>,
    /// Of the snapshot that was laid last. What still shows it, the process's map tells.
    pub(crate) content: Option<Arc<Content>>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Every table, by the base of its memory. Locked when a memory is wrapped or collected; mapping
/// does not pass here. Lock order: this, then a table.
#[derive(Debug, Default)]
struct Tables {
    by_base: BTreeMap<PageAligned, Arc<Shared>>,
    /// Bases of tables that nobody is attached to. Their memory is dead, or lives on in a module
    /// that nobody looks at through us any more, and then its mappings still stand.
    unattached: Vec<PageAligned>,
    /// How many of them are looked at next.
    sweep_at: usize,
}

impl Tables {
    /// Drops the unattached tables of dead memories, when they are twice as many as last time: each
    /// is looked at by asking the kernel for its mappings, and a program that ends lets go of all
    /// its memories one by one.
    fn sweep_some(&mut self) {
        if self.unattached.len() >= self.sweep_at {
            self.sweep();
        }
    }

    fn sweep(&mut self) {
        let Self { by_base, unattached, .. } = self;
        unattached.retain(|base| {
            let Some(shared) = by_base.get(base) else {
                return false;
            };
            let state = shared.lock();
            let attached = state.attached > 0;
            let dead = !attached
                && (state.table.is_empty() || presence(*base, &state) == Ok(Presence::None));
            drop(state);
            if dead {
                by_base.remove(base);
            }
            !attached && !dead
        });
        self.sweep_at = self.unattached.len().saturating_mul(2).max(FEW_UNATTACHED);
    }
}

/// So many unattached tables are left alone.
const FEW_UNATTACHED: usize = 8;

static TABLES: Mutex<Tables> = Mutex::new(Tables {
    by_base: BTreeMap::new(),
    unattached: Vec::new(),
    sweep_at: FEW_UNATTACHED,
});

/// What is brought in by one call.
const POPULATE_STEP_BYTES: u64 = 16 << 20;

/// The same for a prefetch, which others should not wait for.
const PREFETCH_STEP_BYTES: u64 = 4 << 20;

pub(crate) fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A handle on a linear memory. It keeps nothing alive but the table.
#[derive(Debug)]
pub struct Memory {
    shared: Arc<Shared>,
    /// How many faults were gone before: see [`State::gone_faults`]. They may be of a memory that
    /// had this base earlier.
    gone_before: u64,
}

/// A mapping that was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mapped {
    pub start: PageAligned,
    pub id: u64,
}

impl Memory {
    pub fn attach(live: LiveMemory<'_>) -> Result<Self> {
        let mut tables = TABLES.lock().unwrap_or_else(PoisonError::into_inner);
        tables.sweep_some();
        let found = match tables.by_base.get(&live.base()) {
            Some(shared) => Self::revive(shared, live)?.then(|| Arc::clone(shared)),
            None => None,
        };
        let shared = found.unwrap_or_else(|| {
            let state = State { protected_length: live.byte_length(), ..State::default() };
            let shared = Arc::new(Shared {
                base: live.base(),
                state: Mutex::new(state),
                unprotected: Arc::default(),
                // Where there is no head room, mapping is what is refused.
                _vmas: VmaClaim::take(VMAS_OF_A_MEMORY).ok(),
            });
            tables.by_base.insert(live.base(), Arc::clone(&shared));
            shared
        });
        let mut state = shared.lock();
        state.attached = state.attached.saturating_add(1);
        let gone_before = state.gone_faults;
        // Nothing proves that it was this memory whose pages were laid, nor that this one has the
        // same guard.
        state.laid = None;
        (state.guard_page, state.mark) = (None, None);
        protect_all(&shared, &mut state, live, None);
        drop(state);
        Ok(Self { shared, gone_before })
    }

    /// Takes note of the guard of a memory that was found to have one: `above_bytes` from its base
    /// on are reserved, and no memory of its kind is larger than `largest_bytes`. Without it,
    /// faults cost as much as the process has VMAs, where its map is text.
    pub fn set_guard(
        &self,
        live: LiveMemory<'_>,
        largest_bytes: u64,
        above_bytes: u64,
    ) -> Result<()> {
        if process_map::is_text() {
            let mut state = self.lock_unprotected(live)?;
            state.guard_page = mark::address_in(live.base().get(), largest_bytes, above_bytes);
        }
        Ok(())
    }

    /// What proves to handlers that what is mapped now is mapped still. The caller holds the
    /// memory.
    pub(crate) fn proof(&self, state: &mut State) -> Proof {
        if let (None, Some(page)) = (state.mark, state.guard_page) {
            // SAFETY: the page is of the guard of this memory, as V8 lays them out, and no growth
            // reaches it. `set_guard` was called for the memory that is attached: whoever attaches
            // another one to this table clears it.
            state.mark = unsafe { Mark::put(page) };
        }
        state.mark.map_or(Proof::Absent, Proof::Marked)
    }

    /// Whether a table that was found is the living memory's at this place. If nothing proves it,
    /// it is made as new.
    fn revive(shared: &Shared, live: LiveMemory<'_>) -> Result<bool> {
        let mut state = shared.lock();
        let presence = presence(shared.base, &state).map_err(|sys| {
            Error::from_sys(
                Code::MemoryRefused,
                "can't look for the memory's mappings in the process's own map",
                sys,
            )
        })?;
        if presence != Presence::All || state.table.is_empty() {
            state.table.forget_free();
        }
        if state.table.is_empty() {
            state.protected_length = live.byte_length();
        }
        Ok(presence != Presence::None)
    }

    pub fn base(&self) -> PageAligned {
        self.shared.base
    }

    /// Refuses a memory that is not where the table's mappings are.
    pub fn check_base(&self, base: u64) -> Result<()> {
        if self.shared.base.get() == base {
            return Ok(());
        }
        let message = "V8 has moved the memory to another place when it grew, and its mappings are lost: their bytes are copies now; map again";
        Err(Error::new(Code::MemoryMoved, message))
    }

    /// Whether the memory is where it was, and was so all along as far as its mappings tell. Asked
    /// after a growth.
    ///
    /// Cost: one query of the process's map, for the first mapping. If that is gone, one for each.
    pub fn is_still_at(&self, live: LiveMemory<'_>) -> bool {
        if self.shared.base != live.base() {
            return false;
        }
        let state = self.lock();
        let first_is_mapped = match state.table.entries().next() {
            None => return true,
            Some(first) => is_mapped(self.shared.base, first),
        };
        // An error says nothing.
        first_is_mapped.unwrap_or(true) || !is_lost(self.shared.base, &state)
    }

    /// Whether the table has mappings, and the kernel none of them: V8 has moved the memory, or
    /// freed it.
    pub fn is_lost(&self) -> bool {
        let state = self.lock();
        !state.table.is_empty() && is_lost(self.shared.base, &state)
    }

    /// Drops a table whose mappings are lost, so that neither the fault guard nor the next memory
    /// at this base meets them.
    pub fn forget_lost(&self) {
        let mut tables = TABLES.lock().unwrap_or_else(PoisonError::into_inner);
        let base = self.shared.base;
        let mut state = self.shared.lock();
        if !is_lost(base, &state) {
            // Nothing is in it, or V8 has not given the old place back yet: whoever comes next
            // looks again.
            return;
        }
        let lost = std::mem::take(&mut state.table);
        (state.guard_page, state.mark) = (None, None);
        state.laid = None;
        state.content = None;
        drop(state);
        if tables.by_base.get(&base).is_some_and(|shared| Arc::ptr_eq(shared, &self.shared)) {
            tables.by_base.remove(&base);
        }
        drop(tables);
        // Without any lock: it takes that of the fault guard's registry.
        drop(lost);
    }

    fn lock_unprotected(&self, live: LiveMemory<'_>) -> Result<MutexGuard<'_, State>> {
        self.check_base(live.base().get())?;
        Ok(self.shared.lock())
    }

    pub(crate) fn lock_at(&self, live: LiveMemory<'_>) -> Result<MutexGuard<'_, State>> {
        let mut state = self.lock_unprotected(live)?;
        protect_all(&self.shared, &mut state, live, None);
        Ok(state)
    }

    /// As `lock_at`, for a slide of the window at `slides`, which is a call that is made often.
    /// What it shows gets new pages in any case. Of the others the kernel is asked once in a tick
    /// of its clock, since asking costs a tenth of a slide.
    pub(crate) fn lock_to_slide(
        &self,
        live: LiveMemory<'_>,
        slides: PageAligned,
    ) -> Result<MutexGuard<'_, State>> {
        let mut state = self.lock_unprotected(live)?;
        let tick = clock::tick();
        let has_room = state.slid.iter().any(|slid| slid.is_none_or(|start| start == slides));
        if tick != state.slid_in_tick || tick == 0 || !has_room {
            state.slid_in_tick = tick;
            protect_all(&self.shared, &mut state, live, Some(slides));
        } else {
            protect_again(&self.shared, &mut state, live);
        }
        if let Some(slid) =
            state.slid.iter_mut().find(|slid| slid.is_none_or(|start| start == slides))
        {
            *slid = Some(slides);
        }
        Ok(state)
    }

    /// Protects read-only mappings again, after a growth or one that failed.
    pub fn sync(&self, live: LiveMemory<'_>) -> Result<()> {
        self.lock_at(live).map(drop)
    }

    /// Maps at an offset into the memory.
    pub fn map_at(
        &self,
        live: LiveMemory<'_>,
        at: u64,
        pages: &RegionPages<'_>,
        access: Access,
        populate: bool,
    ) -> Result<Mapped> {
        let span = span_at(live, at, pages.length())?;
        check_mappable(pages, access)?;
        let mut state = self.lock_at(live)?;
        check_overlap(&state.table, span)?;
        let from_free = state.table.free().contains(span);
        let mapped = self.put(live, &mut state, span, pages, access, from_free)?;
        drop(state);
        self.bring_in(span, populate);
        Ok(mapped)
    }

    /// Maps in space past the memory's original end that is ours. `None`: there is not enough, the
    /// memory must grow.
    ///
    /// `congruent`: where huge pages of the region can be mapped as such, see `huge.rs`.
    pub fn map_in_free_space(
        &self,
        live: LiveMemory<'_>,
        pages: &RegionPages<'_>,
        access: Access,
        populate: bool,
        congruent: bool,
    ) -> Result<Option<Mapped>> {
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
            // The caller grows the memory now, which can't be undone: what would be refused after
            // it is refused before.
            let what = || format!("can't map region \"{}\"", pages.region().name());
            pages
                .as_pages(access.sharing())
                .map_err(|sys| Error::from_sys(Code::MapFailed, what(), sys))?;
            return VmaClaim::take(VMAS_OF_A_MAPPING)
                .map(|_| None)
                .map_err(|full| Error::no_headroom(what(), full));
        };
        let mapped = self.put(live, &mut state, span, pages, access, true)?;
        drop(state);
        self.bring_in(span, populate);
        Ok(Some(mapped))
    }

    /// By how many bytes the memory must grow for such a live, in whole Wasm pages: what is free
    /// at its end is a part of it.
    pub fn growth_for_congruent(
        &self,
        live: LiveMemory<'_>,
        pages: &RegionPages<'_>,
    ) -> Result<u64> {
        let state = self.lock_at(live)?;
        let tail =
            state.table.free().spans().next_back().filter(|span| span.end() == live.byte_length());
        let start = tail.map_or(live.byte_length(), PageSpan::start);
        drop(state);
        let end = thp::base_for(self.base(), pages.file_offset()).and_then(|base| {
            let address =
                base.checked_add(start)?.get().checked_next_multiple_of(HUGE_PAGE_BYTES)?;
            PageAligned::new(address)?.checked_sub(base)?.checked_add(pages.length())
        });
        let end = end.ok_or_else(|| Error::new(Code::Internal, "an address overflowed"))?;
        let growth = end.get().saturating_sub(live.byte_length().get());
        Ok(growth.checked_next_multiple_of(WASM_PAGE_BYTES).unwrap_or(growth))
    }

    /// Adds what the memory grew by to the free space.
    pub fn add_free_space(&self, live: LiveMemory<'_>, start: u64, end: u64) -> Result<()> {
        let mut state = self.lock_at(live)?;
        let span = PageAligned::new(start)
            .zip(PageAligned::new(end))
            .and_then(|(start, end)| PageSpan::between(start, end));
        match span.filter(|span| span.end() <= live.byte_length()) {
            Some(span) => state.table.add_free(span),
            None => {
                return Err(Error::new(
                    Code::Internal,
                    format!("[{start}, {end}) is not inside the memory"),
                ));
            }
        }
        Ok(())
    }

    pub(crate) fn put(
        &self,
        live: LiveMemory<'_>,
        state: &mut State,
        span: PageSpan,
        pages: &RegionPages<'_>,
        access: Access,
        from_free: bool,
    ) -> Result<Mapped> {
        let what = || {
            format!(
                "can't map {} bytes of region \"{}\"",
                span.length().get(),
                pages.region().name()
            )
        };
        let owned = pages_of(live, span)?;
        let target = owned.span();
        let vmas =
            VmaClaim::take(VMAS_OF_A_MAPPING).map_err(|full| Error::no_headroom(what(), full))?;
        // Before the pages, since another thread may touch them at once. Taken back where mapping
        // fails.
        let guarded = fault::RangeSpec {
            span: target,
            memory_offset: Some(span.start()),
            is_window: false,
            access,
            counts: Arc::default(),
            unprotected: Arc::clone(&self.shared.unprotected),
            proof: self.proof(state),
        };
        // SAFETY: the target is a part of a living memory, and shows these pages before `resume` is
        // called. No Rust reference points into a memory, nor into what V8 maps where it was when
        // it is dead; and by the proof or the process's map that is told from ours.
        let registration = unsafe { Registration::new(guarded, pages.shown()) };
        let file = pages.as_pages(access.sharing());
        let replaced = file.and_then(|file| mmap::replace(owned, file));
        replaced.map_err(|sys| {
            if sys.removed {
                // Zeros stand there now.
                state.laid = None;
            }
            Error::from_sys(Code::MapFailed, what(), sys)
        })?;
        registration.resume();
        let id = next_id();
        let entry = Entry {
            span,
            access,
            id,
            from_free,
            region_offset: pages.region_offset(),
            inode: pages.inode(),
            file_offset: pages.file_offset(),
        };
        let held = Held { registration, _vmas: vmas, window: None };
        state.table.insert(entry, !access.is_writable(), held);
        // A private file mapping is dumped only if it was written (vma_dump_size in fs/coredump.c),
        // so a read-only one needs no advice.
        if access.is_writable() {
            keep_out_of_dumps(target);
        }
        Ok(Mapped { start: span.start(), id })
    }

    /// Brings pages in if asked. Best effort: what can't be brought in now is brought in, or fails,
    /// when it is touched. Takes as long as reading them, so nobody is locked out meanwhile; if the
    /// mapping is gone by then, other pages are read for nothing.
    fn bring_in(&self, span: PageSpan, populate: bool) {
        let Some(target) = self.addresses(span).ok().filter(|_| populate) else { return };
        // In steps, so that other threads get the process's map in between.
        let mut at = target.start();
        while let Some(rest) = PageSpan::between(at, target.end()) {
            let step = rest.first(POPULATE_STEP_BYTES);
            if mmap::advise(step, Advice::PopulateRead).is_err() {
                return;
            }
            at = step.end();
        }
    }

    /// Brings pages of a mapping in, from an offset in it on, and maps them. Blocks until it is
    /// done or cancelled, or the mapping is gone.
    ///
    /// Needs nobody to hold the memory: advice changes nothing, whatever stands at these addresses
    /// by then.
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
        let mut asked_until = part.start();
        while let Some(rest) = PageSpan::between(at, part.end()) {
            check_cancelled(cancelled)?;
            let step = rest.first(PREFETCH_STEP_BYTES);
            let ahead = rest.first(PREFETCH_STEP_BYTES.saturating_mul(2));
            if let Some(ahead) = PageSpan::between(asked_until, ahead.end()).filter(|_| is_file) {
                let Some(target) = self.part_of(mapped, ahead)? else { return Ok(()) };
                ask_for(target);
                asked_until = ahead.end();
            }
            let Some(target) = self.part_of(mapped, step)? else { return Ok(()) };
            match mmap::advise(target, Advice::PopulateRead) {
                // The memory moved meanwhile, and somebody else's pages are there.
                Err(_) if self.is_lost() => return Ok(()),
                // What the file has lost, or its disk.
                Err(sys) if matches!(sys.errno, Errno::EFAULT | Errno::EIO | Errno::EHWPOISON) => {
                    let what = "can't bring in pages of a mapping";
                    return Err(Error::from_sys(Code::ReadFailed, what, sys));
                }
                // Best effort: where the kernel is too old or has no memory, pages come when they
                // are touched.
                _ => at = step.end(),
            }
        }
        Ok(())
    }

    /// The addresses of a part of a mapping. `None`: the mapping is not there any more.
    fn part_of(&self, mapped: Mapped, part: PageSpan) -> Result<Option<PageSpan>> {
        let state = self.lock();
        let found = state.table.get(mapped.start, mapped.id).map(|(entry, _)| entry.span);
        drop(state);
        let inside = found.and_then(|span| part.at_base(span.start())?.within(span));
        inside.map(|inside| self.addresses(inside)).transpose()
    }

    /// Puts zeroed, writable pages in the place of a mapping, and gives the faults that it had.
    /// `None`: it is not there any more.
    pub fn unmap(&self, live: LiveMemory<'_>, mapped: Mapped) -> Result<Option<Arc<Counts>>> {
        // Protected again when this mapping is gone: there is no use in protecting it first.
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
        let span = entry.span;
        if span.end() > live.byte_length() {
            return Err(Error::new(Code::Internal, "the memory is smaller than a mapping in it"));
        }
        let owned = pages_of(live, span)?;
        let counts = Arc::clone(held.registration.counts());
        held.registration.pause();
        mmap::replace(owned, Pages::Zeros).map_err(|sys| {
            if sys.removed {
                held.registration.mark_changed();
            }
            held.registration.resume();
            Error::from_sys(
                Code::MapFailed,
                format!("can't unmap {} bytes", span.length().get()),
                sys,
            )
        })?;
        // As V8 has its own pages, so that the VMAs merge again. Without it there is only one more
        // of them.
        let _ = mmap::advise(owned.span(), Advice::DontFork);
        state.table.remove(mapped.start, mapped.id);
        state.gone_faults = state.gone_faults.saturating_add(counts.unacknowledged());
        protect_all(&self.shared, state, live, None);
        Ok(Some(counts))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.lock()
    }

    pub(crate) fn unprotected(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.shared.unprotected)
    }

    /// The mappings, in order; of windows, how much they show.
    pub fn entries(&self) -> Result<Vec<(Entry, Option<PageAligned>)>> {
        let state = self.shared.lock();
        let entries = state.table.held();
        let entries =
            entries.map(|(entry, held)| (*entry, held.window.as_ref().map(Window::shown)));
        Ok(alloc::collected(entries)?)
    }

    /// Where mappings and windows start that have unacknowledged faults, and how many; whichever
    /// thread made them.
    pub fn faulted(&self) -> Result<Vec<(PageAligned, u64)>> {
        let state = self.shared.lock();
        let counted = state
            .table
            .held()
            .map(|(entry, held)| (entry.span.start(), held.registration.counts().unacknowledged()));
        Ok(alloc::collected(counted.filter(|(_, count)| *count > 0))?)
    }

    /// How many faults of what was unmapped since nobody has acknowledged, whichever thread did it.
    pub fn gone_faults(&self) -> u64 {
        self.gone_in(&self.shared.lock())
    }

    fn gone_in(&self, state: &State) -> u64 {
        state.gone_faults.saturating_sub(state.gone_acknowledged.max(self.gone_before))
    }

    /// Takes note of the faults of all of them, and of what was unmapped.
    pub fn acknowledge_faults(&self) -> u64 {
        let mut state = self.shared.lock();
        let gone = self.gone_in(&state);
        state.gone_acknowledged = state.gone_faults;
        state
            .table
            .held()
            .map(|(_, held)| held.registration.counts().acknowledge())
            .fold(gone, u64::saturating_add)
    }

    pub(crate) fn addresses(&self, span: PageSpan) -> Result<PageSpan> {
        span.at_base(self.shared.base)
            .ok_or_else(|| Error::new(Code::Internal, "an address overflowed"))
    }
}

/// Starts to read the pages of a file. The kernel cuts each call off at what its disk takes at once
/// (`force_page_cache_ra` in mm/readahead.c), which is seldom less than this.
fn ask_for(target: PageSpan) {
    const AT_ONCE_BYTES: u64 = 128 << 10;
    let mut at = target.start();
    while let Some(rest) = PageSpan::between(at, target.end()) {
        let piece = rest.first(AT_ONCE_BYTES);
        if mmap::advise(piece, Advice::WillNeed).is_err() {
            return;
        }
        at = piece.end();
    }
}

/// The pages of a span that was found to end within the memory.
pub(crate) fn pages_of(live: LiveMemory<'_>, span: PageSpan) -> Result<OwnedSpan<'_>> {
    live.pages(span)
        .ok_or_else(|| Error::new(Code::Internal, "the memory is smaller than a mapping in it"))
}

/// Where so many bytes at an offset lie in the memory.
pub(crate) fn span_at(live: LiveMemory<'_>, at: u64, length: PageAligned) -> Result<PageSpan> {
    let Some(start) = PageAligned::new(at) else {
        let page = host_page_bytes();
        let next = PageAligned::round_up(at).map_or(0, PageAligned::get);
        // Somebody thought of Wasm pages, perhaps.
        let pages =
            match at.checked_mul(WASM_PAGE_BYTES).filter(|bytes| *bytes < live.byte_length().get())
            {
                Some(bytes) => format!(" (it is in bytes: {at} Wasm pages are {bytes})"),
                None => String::new(),
            };
        return Err(Error::new(
            Code::OutOfRange,
            format!(
                "at is {at}; it must be a multiple of the host page size, {page}: the next is {next}{pages}"
            ),
        ));
    };
    PageSpan::new(start, length).filter(|span| span.end() <= live.byte_length()).ok_or_else(|| {
        Error::new(
            Code::OutOfRange,
            format!(
                "at is {at} and {} bytes of whole pages are to be mapped; they must end at or below the memory's byteLength, {}: grow it first, or leave `at` out",
                length.get(),
                live.byte_length().get()
            ),
        )
    })
}

pub(crate) fn check_overlap(table: &MappingTable<Held>, span: PageSpan) -> Result<()> {
    let Some(other) = table.overlapping(span) else { return Ok(()) };
    Err(Error::new(
        Code::Overlap,
        format!(
            "[{}, {}) overlaps the mapping at [{}, {}); unmap that first, or map elsewhere",
            span.start().get(),
            span.end().get(),
            other.span.start().get(),
            other.span.end().get()
        ),
    ))
}

pub(crate) fn check_mappable(pages: &RegionPages<'_>, access: Access) -> Result<()> {
    if access.writes_through() && !pages.region().is_writable() {
        let message = format!(
            "can't map region \"{}\" with access 'shared': it is sealed, or its file was opened for reading only; use 'readonly' or 'private'",
            pages.region().name()
        );
        return Err(Error::new(Code::RegionReadonly, message));
    }
    pages.check_file_size()
}

impl Drop for Memory {
    fn drop(&mut self) {
        let mut tables = TABLES.lock().unwrap_or_else(PoisonError::into_inner);
        let base = self.shared.base;
        let mut state = self.shared.lock();
        state.attached = state.attached.saturating_sub(1);
        let last = state.attached == 0;
        let is_empty = state.table.is_empty();
        drop(state);
        // A table that was replaced, since its base came back, goes with its last handle. Pages are
        // left alone: if the memory is dead, something else may lie there now.
        if last && tables.by_base.get(&base).is_some_and(|shared| Arc::ptr_eq(shared, &self.shared))
        {
            if is_empty {
                tables.by_base.remove(&base);
            } else {
                tables.unattached.push(base);
                tables.sweep_some();
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presence {
    /// Every mapping is where the table says; true of an empty table as well.
    All,
    /// Some are: the memory is the same, but somebody replaced pages of it.
    Some,
    /// None is: the memory that the table tells of is dead.
    None,
}

/// Asks the kernel. An error says nothing about the mappings: then nobody may take them for gone.
fn presence(base: PageAligned, state: &State) -> SysResult<Presence> {
    // We alone unmap what is mapped in a memory that lives.
    if let Some(presence) = state.mark.and_then(Mark::is_intact) {
        return Ok(if presence { Presence::All } else { Presence::None });
    }
    let table = &state.table;
    let (mut standing, mut gone) = (0_usize, 0_usize);
    for entry in table.entries() {
        if is_mapped(base, entry)? {
            standing = standing.saturating_add(1);
        } else {
            gone = gone.saturating_add(1);
        }
    }
    Ok(match (standing, gone) {
        (_, 0) => Presence::All,
        (0, _) => Presence::None,
        _ => Presence::Some,
    })
}

/// The same for one mapping, by its first page.
fn is_mapped(base: PageAligned, entry: &Entry) -> SysResult<bool> {
    let address = base.checked_add(entry.span.start()).map_or(0, PageAligned::get);
    let found = process_map::at_or_after(address)?;
    Ok(found.is_some_and(|vma| {
        let skew = address.checked_sub(vma.start);
        let is_file = entry.inode != 0
            && vma.inode == entry.inode
            && skew.and_then(|skew| vma.file_offset.checked_add(skew))
                == Some(entry.file_offset.get());
        is_file || fault::is_zeros(&vma, address)
    }))
}

/// Whether the kernel has none of the mappings of a table, which is not empty. An error says
/// nothing.
fn is_lost(base: PageAligned, state: &State) -> bool {
    presence(base, state) == Ok(Presence::None)
}

/// Protects read-only mappings again, whatever took their protection. Neither the memory's size nor
/// a handler tells of a growth that failed half-way, nor the old buffer of a shared memory of any:
/// the kernel is asked. `slides`: the window that is about to slide.
fn protect_all(
    shared: &Shared,
    state: &mut State,
    live: LiveMemory<'_>,
    slides: Option<PageAligned>,
) {
    protect_again(shared, state, live);
    let is_bare = is_any_bare(shared.base, state, live, slides);
    state.slid = [None; MOST_SLID];
    if is_bare {
        state.protected_length = PageAligned::ZERO;
        protect_again(shared, state, live);
    }
}

/// Asks the kernel about the lowest of those that have not slid since it was last asked, which
/// stands for all of them, since a growth makes a memory writable from its start upwards; and about
/// each that has slid.
fn is_any_bare(
    base: PageAligned,
    state: &State,
    live: LiveMemory<'_>,
    slides: Option<PageAligned>,
) -> bool {
    let has_slid = |start| Some(start) == slides || state.slid.contains(&Some(start));
    let pages = |(entry, held): (&Entry, &Held)| {
        let target = entry.span.at_base(base).filter(|_| entry.span.end() <= live.byte_length());
        // What the window that slides shows is replaced in any case.
        let shows = Some(entry.span.start()) != slides && !entry.access.is_writable();
        let (shown, rest) = match &held.window {
            Some(window) => (
                target.and_then(|target| window.shown_part(target)),
                target
                    .and_then(|target| window.tail_part(target))
                    .filter(|_| !window.tail_is_writable()),
            ),
            None => (target, None),
        };
        [shown.filter(|_| shows), rest]
            .into_iter()
            .flatten()
            .map(|span| span.first(host_page_bytes()))
    };
    let is_bare = mmap::is_writable;
    let mut others = state.table.guarded().filter(|(entry, _)| !has_slid(entry.span.start()));
    others.find_map(|it| pages(it).next()).is_some_and(is_bare)
        || slides
            .into_iter()
            .chain(state.slid.into_iter().flatten())
            .filter_map(|start| state.table.at(start))
            .any(|it| pages(it).any(is_bare))
}

/// V8 grows a memory by making all of it writable, and a stray write takes the protection of its
/// page. Read-only mappings are copy-on-write underneath, so nothing was lost; now stores trap
/// again.
fn protect_again(shared: &Shared, state: &mut State, live: LiveMemory<'_>) {
    let unprotected = shared.unprotected.load(Ordering::Relaxed)
        && shared.unprotected.swap(false, Ordering::AcqRel);
    let grown = live.byte_length() > state.protected_length;
    if !grown && !unprotected {
        return;
    }
    let mut all = true;
    for (entry, held) in
        state.table.held().filter(|(entry, _)| entry.span.end() <= live.byte_length())
    {
        let bare = held.registration.take_unprotected() || grown;
        if bare {
            held.registration.mark_changed();
        }
        let Some(target) = live.pages(entry.span).filter(|_| bare) else { continue };
        let shown = match &held.window {
            Some(window) => window.shown_part(target.span()).and_then(|shown| target.part(shown)),
            None => Some(target),
        };
        if let Some(shown) = shown.filter(|_| !entry.access.is_writable()) {
            all &= mmap::protect_readonly(shown).is_ok();
        }
        if let Some(window) = held.window.as_ref().filter(|window| !window.tail_is_writable()) {
            held.registration.pause();
            all &= window.fill_tail(target).is_ok();
            held.registration.resume();
        }
    }
    // One that failed is tried again at the next call.
    state.protected_length = if all { live.byte_length() } else { PageAligned::ZERO };
}
