//! Linear memories and their mappings.
//!
//! `array` is always a Uint8Array over the whole of the memory's buffer, made by lib/ from a memory
//! that it holds: V8 tells its base and length from it, and the memory is alive as long as the call
//! lasts.

// It promises that a guard is that of a memory, and how far the memory may grow.
#![allow(unsafe_code)]

use super::buffer::{bytes_of, live_memory};
use super::fault_counts::NativeFaults;
use super::handles::{Handles, Slot};
use super::region::region_of;
use super::task::{Job, NativeTask};
use super::{from_count, internal, to_access, to_count, to_number, to_populate};
use crate::diagnose;
use crate::error::{Error, MemoryError};
use crate::fault::Counts;
use crate::memory::{self, Mapped, Memory};
use crate::region::LoadProgress;
use crate::sys::SysError;
use crate::sys::page::{PageAligned, PageSpan};
use crate::sys::vma_budget::{VMAS_OF_A_MEMORY, VmaClaim};
use crate::sys::{alloc, difference};
use crate::v8::live_memory::LiveMemory;
use crate::v8::reservation::{self, LARGEST_32_BIT_BYTES, MapBefore, ProvenGuard, Reservation};
use napi::Env;
use napi::bindgen_prelude::{AsyncTask, Unknown};
use napi_derive::napi;
use std::cell::RefCell;
use std::sync::Arc;

/// What V8 reserves for a memory.
#[napi(object, object_from_js = false)]
pub struct NativeReservation {
    pub below_bytes: f64,
    /// From the memory's base on.
    pub above_bytes: f64,
}

/// What was mapped or opened.
#[napi(object, object_from_js = false)]
pub struct NativeMapped {
    pub start: f64,
    pub id: f64,
}

impl NativeMapped {
    pub(super) fn new(mapped: Mapped) -> Self {
        Self { start: from_count(mapped.start.get()), id: from_count(mapped.id) }
    }
}

/// A mapping or window as the table has it.
#[napi(object, object_from_js = false)]
pub struct NativeEntry {
    pub start: f64,
    pub end: f64,
    pub access: &'static str,
    pub byte_offset: f64,
    /// What a window shows. Absent for a mapping.
    pub shown_bytes: Option<f64>,
}

/// The process's map before a memory was made.
#[napi]
pub struct NativeMapBefore {
    before: MapBefore,
}

#[napi]
impl NativeMapBefore {
    #[napi(constructor, catch_unwind)]
    pub fn new() -> napi::Result<Self> {
        let before = MapBefore::take().map_err(map_unread)?;
        Ok(Self { before })
    }

    /// What the memory that was made since reserves.
    #[napi(catch_unwind)]
    pub fn reservation_of(&self, env: Env, array: Unknown<'_>) -> napi::Result<NativeReservation> {
        let extent = bytes_of(env, array)?.extent()?;
        Ok(self.before.reservation_of(extent).map_err(map_unread)?.into())
    }
}

impl From<Reservation> for NativeReservation {
    fn from(reservation: Reservation) -> Self {
        Self {
            below_bytes: from_count(reservation.below_bytes),
            above_bytes: from_count(reservation.above_bytes),
        }
    }
}

/// What memories of a kind reserve, if one of any thread was found to have its guards.
#[napi(catch_unwind)]
pub fn proven_reservation(is_64_bit: bool) -> Option<NativeReservation> {
    reservation::proven(is_64_bit).map(Into::into)
}

fn map_unread(sys: SysError) -> Error {
    MemoryError::MapUnread { refused: sys.into() }.into()
}

/// Refuses a memory that is about to be made, if it would take V8's last mappings.
#[napi(catch_unwind)]
pub fn check_headroom() -> napi::Result<()> {
    let taken = VmaClaim::take(VMAS_OF_A_MEMORY)
        .map_err(|full| Error::from(MemoryError::NotMade { refused: full.into() }))?;
    drop(taken);
    Ok(())
}

/// Whether everything round a memory in such a reservation is inaccessible.
#[napi(catch_unwind)]
pub fn is_guarded(
    env: Env,
    array: Unknown<'_>,
    below_bytes: f64,
    above_bytes: f64,
) -> napi::Result<bool> {
    let reservation =
        Reservation { below_bytes: to_count(below_bytes)?, above_bytes: to_count(above_bytes)? };
    let extent = bytes_of(env, array)?.extent()?;
    let guarded = reservation::is_guarded(extent, reservation).map_err(map_unread)?;
    Ok(guarded)
}

/// The guard after a memory, as the process's map proved it.
#[napi]
pub struct NativeGuard {
    guard: ProvenGuard,
}

/// The same, with what was proved of the guard: null if something is accessible there. Else all
/// threads know what memories of the kind reserve.
#[napi(catch_unwind)]
pub fn prove_guard(
    env: Env,
    array: Unknown<'_>,
    is_64_bit: bool,
    below_bytes: f64,
    above_bytes: f64,
) -> napi::Result<Option<NativeGuard>> {
    let reservation =
        Reservation { below_bytes: to_count(below_bytes)?, above_bytes: to_count(above_bytes)? };
    let extent = bytes_of(env, array)?.extent()?;
    let guard = reservation::prove_guard(extent, reservation).map_err(map_unread)?;
    if guard.is_some() {
        reservation::note_proven(is_64_bit, reservation);
    }
    Ok(guard.map(|guard| NativeGuard { guard }))
}

/// Whether the bytes of a buffer may be those of a linear memory.
#[napi(catch_unwind)]
pub fn may_be_linear(env: Env, array: Unknown<'_>) -> napi::Result<bool> {
    let extent = bytes_of(env, array)?.extent()?;
    let linear = memory::may_be_linear(extent).map_err(map_unread)?;
    Ok(linear)
}

/// The error for a memory that V8 could not make or grow, with the cause that was found.
#[napi(catch_unwind)]
pub fn why_refused(what: String, reservation_bytes: f64, commit_bytes: f64) -> napi::Result<()> {
    let asked = (to_count(reservation_bytes)?, to_count(commit_bytes)?);
    Err(Error::from(match diagnose::v8_memory(asked.0, asked.1) {
        Ok(cause) => MemoryError::V8Refused { what, refused: cause.into() },
        Err(sys) => MemoryError::V8RefusedUnseen { what, refused: sys.into() },
    })
    .into())
}

/// A number that tells a memory's address, to find a memory again by a new buffer.
#[napi(catch_unwind)]
pub fn base_of(env: Env, array: Unknown<'_>) -> napi::Result<f64> {
    Ok(from_count(bytes_of(env, array)?.extent()?.base().get()))
}

thread_local! {
    static MEMORIES: RefCell<Handles<Memory>> = const { RefCell::new(Handles::new()) };
}

pub(super) fn memory_of(handle: u32) -> Result<Arc<Memory>, Error> {
    MEMORIES
        .with_borrow(|memories| memories.get(handle))
        .ok_or_else(|| internal("there is no such memory"))
}

/// Owns a handle on the mapping table of a memory. The functions below take its number.
#[napi]
pub struct NativeMemory {
    slot: Slot<Memory>,
}

#[napi]
impl NativeMemory {
    #[napi(constructor, catch_unwind)]
    pub fn new(env: Env, array: Unknown<'_>) -> napi::Result<Self> {
        let memory = Memory::attach(live_memory(env, array)?)?;
        Ok(Self { slot: Slot::new(&MEMORIES, memory)? })
    }

    #[napi(getter)]
    pub fn handle(&self) -> u32 {
        self.slot.number()
    }
}

/// Takes note of the guard of a memory. `largest_64_bit_bytes`: how large a 64-bit memory may be,
/// which V8 alone knows; null for a 32-bit one.
#[napi(catch_unwind)]
pub fn set_guard(
    memory: u32,
    env: Env,
    array: Unknown<'_>,
    guard: &NativeGuard,
    largest_64_bit_bytes: Option<f64>,
) -> napi::Result<()> {
    let largest_bytes = largest_64_bit_bytes.map_or(Ok(LARGEST_32_BIT_BYTES), to_count)?;
    if largest_bytes < LARGEST_32_BIT_BYTES {
        return Err(internal("a 64-bit memory may be as large as a 32-bit one").into());
    }
    let live = live_memory(env, array)?;
    let memory = memory_of(memory)?;
    // SAFETY: lib/platform/reservation.js alone calls this, with the proof that it has just got for
    // this memory. No 32-bit memory grows past what its addresses reach; of 64-bit memories the
    // number is V8's own bound, as lib/ has measured it.
    unsafe { memory.set_guard(live, guard.guard, largest_bytes) }?;
    Ok(())
}

/// Whether the memory is still the one whose mappings the table has.
#[napi(catch_unwind)]
pub fn is_at(memory: u32, env: Env, array: Unknown<'_>) -> napi::Result<bool> {
    Ok(memory_of(memory)?.is_still_at(live_memory(env, array)?))
}

/// Whether the kernel has none of the mappings of the table any more: the memory was moved, or is
/// dead.
#[napi(catch_unwind)]
pub fn is_lost(memory: u32) -> napi::Result<bool> {
    Ok(memory_of(memory)?.is_lost())
}

/// Forgets mappings that the kernel does not have any more.
#[napi(catch_unwind)]
pub fn forget_lost(memory: u32) -> napi::Result<()> {
    memory_of(memory)?.forget_lost();
    Ok(())
}

#[napi(catch_unwind)]
pub fn sync(memory: u32, env: Env, array: Unknown<'_>) -> napi::Result<()> {
    Ok(memory_of(memory)?.sync(live_memory(env, array)?)?)
}

/// A mapping or window.
pub(super) fn mapped(start: f64, id: f64) -> Result<Mapped, Error> {
    let start =
        PageAligned::new(to_count(start)?).ok_or_else(|| internal("a mapping starts at a page"))?;
    Ok(Mapped { start, id: to_count(id)? })
}

/// For what was just made: calls on it must fail while it has unacknowledged faults. Part of the
/// call that makes it, since a second one could fail.
pub(super) fn set_strict(memory: &Memory, mapped: Mapped, strict: bool) {
    if strict && let Some((counts, _)) = memory.counts(mapped) {
        counts.make_strict();
    }
}

/// Maps at an offset and gives the mapping's id, by `[region, at, byte offset, byte length, access,
/// when to populate, whether it is strict]`.
pub(super) fn map_at(
    memory: &Memory,
    live: LiveMemory<'_>,
    [region, at, byte_offset, byte_length, access, populate, strict]: [f64; 7],
) -> Result<f64, Error> {
    let region = region_of(to_number(region)?)?;
    let pages = region.pages(aligned_offset(byte_offset)?, to_count(byte_length)?)?;
    let access = to_access(to_number(access)?)?;
    let mapped =
        memory.map_at(live, to_count(at)?, &pages, access, to_populate(to_number(populate)?)?)?;
    set_strict(memory, mapped, strict != 0.0);
    Ok(from_count(mapped.id))
}

/// Maps in free space, or gives null where the memory must grow.
#[napi(catch_unwind)]
#[allow(clippy::too_many_arguments)]
pub fn map_in_free_space(
    memory: u32,
    env: Env,
    array: Unknown<'_>,
    region: u32,
    byte_offset: f64,
    byte_length: f64,
    access: u32,
    populate: u32,
    strict: bool,
    congruent: bool,
) -> napi::Result<Option<NativeMapped>> {
    let region = region_of(region)?;
    let pages = region.pages(aligned_offset(byte_offset)?, to_count(byte_length)?)?;
    let live = live_memory(env, array)?;
    let memory = memory_of(memory)?;
    let mapped = memory.map_in_free_space(
        live,
        &pages,
        to_access(access)?,
        to_populate(populate)?,
        congruent,
    )?;
    if let Some(mapped) = mapped {
        set_strict(&memory, mapped, strict);
    }
    Ok(mapped.map(NativeMapped::new))
}

/// By how many bytes the memory must grow for a place where huge pages can be mapped as such.
#[napi(catch_unwind)]
pub fn growth_for_congruent(
    memory: u32,
    env: Env,
    array: Unknown<'_>,
    region: u32,
    byte_offset: f64,
    byte_length: f64,
) -> napi::Result<f64> {
    let region = region_of(region)?;
    let pages = region.pages(aligned_offset(byte_offset)?, to_count(byte_length)?)?;
    let (length, offset) = (pages.length(), pages.file_offset());
    let memory = memory_of(memory)?;
    Ok(from_count(memory.growth_for_congruent(live_memory(env, array)?, length, offset)?))
}

#[napi(catch_unwind)]
pub fn add_free_space(
    memory: u32,
    env: Env,
    array: Unknown<'_>,
    start: f64,
    end: f64,
) -> napi::Result<()> {
    Ok(memory_of(memory)?.add_free_space(
        live_memory(env, array)?,
        to_count(start)?,
        to_count(end)?,
    )?)
}

#[napi(catch_unwind)]
pub fn has_free_space(
    memory: u32,
    env: Env,
    array: Unknown<'_>,
    byte_length: f64,
) -> napi::Result<bool> {
    let live = live_memory(env, array)?;
    Ok(memory_of(memory)?.has_free_space(live, to_count(byte_length)?)?)
}

/// As `unmap`, but pages that were written stay as they are.
#[napi(catch_unwind)]
pub fn unmap_unwritten(
    memory: u32,
    env: Env,
    array: Unknown<'_>,
    start: f64,
    id: f64,
) -> napi::Result<Option<NativeFaults>> {
    let live = live_memory(env, array)?;
    Ok(faults_of(memory_of(memory)?.unmap_unwritten(live, mapped(start, id)?)?))
}

/// Unmaps, if the mapping is still there, by `[start, id]`. Gives the faults that it had, or `None`
/// if it had none.
pub(super) fn unmap(
    memory: &Memory,
    live: LiveMemory<'_>,
    [start, id]: [f64; 2],
) -> Result<Option<NativeFaults>, Error> {
    Ok(faults_of(memory.unmap(live, mapped(start, id)?)?))
}

fn faults_of(counts: Option<Arc<Counts>>) -> Option<NativeFaults> {
    counts.filter(|counts| counts.last().is_some()).map(|counts| NativeFaults::new(&counts, None))
}

/// The mappings and windows of all threads, by address.
#[napi(catch_unwind)]
pub fn entries(memory: u32) -> napi::Result<Vec<NativeEntry>> {
    let entries = memory_of(memory)?.entries()?;
    let named = entries.iter().map(|(entry, shown)| NativeEntry {
        start: from_count(entry.span.start().get()),
        end: from_count(entry.span.end().get()),
        access: entry.access.name(),
        byte_offset: from_count(entry.region_offset.get()),
        shown_bytes: shown.map(|shown| from_count(shown.get())),
    });
    Ok(alloc::collected(named).map_err(Error::from)?)
}

pub(super) fn aligned_offset(byte_offset: f64) -> Result<PageAligned, Error> {
    let byte_offset = to_count(byte_offset)?;
    PageAligned::new(byte_offset).ok_or_else(|| {
        let below = PageAligned::round_down(byte_offset).get();
        let skew = difference(byte_offset, below);
        let page = crate::sys::page::host_page_bytes();
        MemoryError::OffsetNotAtPage { byte_offset, page, below, skew }.into()
    })
}

/// `[from, to)`: bytes of the mapping.
#[napi(catch_unwind)]
#[allow(clippy::too_many_arguments)]
pub fn prefetch(
    task: &NativeTask,
    memory: u32,
    env: Env,
    array: Unknown<'_>,
    start: f64,
    id: f64,
    from: f64,
    to: f64,
    is_file: bool,
) -> napi::Result<AsyncTask<Job>> {
    let memory = memory_of(memory)?;
    memory.check_base(bytes_of(env, array)?.address)?;
    let mapped = mapped(start, id)?;
    let part = PageAligned::round_up(to_count(to)?)
        .and_then(|to| PageSpan::between(PageAligned::round_down(to_count(from).ok()?), to))
        .ok_or_else(|| internal("no such part of a mapping"))?;
    let prefetch =
        move |progress: &LoadProgress| memory.prefetch(mapped, part, is_file, &progress.cancelled);
    Ok(task.run(prefetch, Ok))
}
