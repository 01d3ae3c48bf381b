//! Windows. `array` as in memory.rs.

use super::handles::{Handles, Slot};
use super::memory::{aligned_offset, mapped, memory_of, place_of, to_access};
use super::region::region_of;
use super::{from_count, internal, to_count};
use crate::ahead::Stream;
use crate::error::Error;
use crate::memory::{Mapped, Memory, Place};
use crate::sys::page::PageAligned;
use crate::window::{Kind, Rest};
use napi::Env;
use napi::bindgen_prelude::Unknown;
use napi_derive::napi;
use std::cell::RefCell;
use std::sync::Arc;

/// `byte_length` is in whole host pages.
pub(super) fn kind(byte_length: f64, access: u32, trap: bool) -> Result<Kind, Error> {
    let length = PageAligned::new(to_count(byte_length)?)
        .filter(|length| *length > PageAligned::ZERO)
        .ok_or_else(|| internal("a window has whole pages"))?;
    let rest = if trap { Rest::Inaccessible } else { Rest::Zeros };
    Ok(Kind { length, access: to_access(access)?, rest })
}

/// Opens a window at an offset and gives its id.
#[napi(catch_unwind)]
pub fn window_at(
    memory: u32,
    env: Env,
    array: Unknown<'_>,
    at: f64,
    byte_length: f64,
    access: u32,
    trap: bool,
) -> napi::Result<f64> {
    let kind = kind(byte_length, access, trap)?;
    let opened = memory_of(memory)?.window_at(place_of(env, array)?, to_count(at)?, kind)?;
    Ok(from_count(opened.id))
}

/// Opens a window in free space and gives `[offset, id]`, or null where the memory must grow.
#[napi(catch_unwind)]
pub fn window_in_free_space(
    memory: u32,
    env: Env,
    array: Unknown<'_>,
    byte_length: f64,
    access: u32,
    trap: bool,
    aligned: bool,
) -> napi::Result<Option<Vec<f64>>> {
    let kind = kind(byte_length, access, trap)?;
    let opened = memory_of(memory)?.window_in_free_space(place_of(env, array)?, kind, aligned)?;
    Ok(opened.map(|opened| vec![from_count(opened.start.get()), from_count(opened.id)]))
}

thread_local! {
    static WINDOWS: RefCell<Handles<Window>> = const { RefCell::new(Handles::new()) };
}

struct Window {
    memory: Arc<Memory>,
    mapped: Mapped,
}

/// Owns the number by which `slide` finds a window fast.
#[napi]
pub struct NativeWindow {
    slot: Slot<Window>,
}

#[napi]
impl NativeWindow {
    #[napi(constructor, catch_unwind)]
    pub fn new(memory: u32, start: f64, id: f64) -> napi::Result<Self> {
        let window = Window { memory: memory_of(memory)?, mapped: mapped(start, id)? };
        Ok(Self { slot: Slot::new(&WINDOWS, window)? })
    }

    #[napi(getter)]
    pub fn handle(&self) -> u32 {
        self.slot.number()
    }
}

fn window_of(handle: u32) -> Result<Arc<Window>, Error> {
    WINDOWS.with_borrow(|windows| windows.get(handle)).ok_or_else(|| internal("there is no such window"))
}

/// Slides a window; to nothing without a length. False: it is not there any more. Takes `[window, bytes of the memory, region,
/// offset, length, access]`.
///
/// The caller holds the memory, which has guards: V8 never moves such a one, so the base that the window was opened at is
/// good, and no array is needed to prove it.
pub(super) fn slide(
    [window, memory_bytes, region, byte_offset, byte_length, access]: [f64; 6],
) -> Result<bool, Error> {
    let window = window_of(to_number(window)?)?;
    let place = Place::new(window.memory.base().get(), to_count(memory_bytes)?)?;
    slide_in(&window, place, to_number(region)?, byte_offset, byte_length, to_number(access)?)
}

pub(super) fn to_number(value: f64) -> Result<u32, Error> {
    u32::try_from(to_count(value)?).map_err(|_| internal("a number is too large"))
}

/// The same in a memory that V8 may have moved.
#[napi(catch_unwind)]
pub fn slide_unguarded(
    window: u32,
    env: Env,
    array: Unknown<'_>,
    region: u32,
    byte_offset: f64,
    byte_length: f64,
    access: u32,
) -> napi::Result<bool> {
    Ok(slide_in(&*window_of(window)?, place_of(env, array)?, region, byte_offset, byte_length, access)?)
}

fn slide_in(
    window: &Window,
    place: Place,
    region: u32,
    byte_offset: f64,
    byte_length: f64,
    access: u32,
) -> Result<bool, Error> {
    if byte_length == 0.0 {
        return window.memory.slide(place, window.mapped, None);
    }
    let region = region_of(region)?;
    // Before its offset is looked at.
    region.check_slides()?;
    let pages = region.pages(aligned_offset(byte_offset)?, to_count(byte_length)?)?;
    window.memory.slide(place, window.mapped, Some((&pages, to_access(access)?)))
}

/// Reads ahead and leaves behind for one pass over a region, as long as it is held.
#[napi]
pub struct NativeStream {
    stream: Arc<Stream>,
}

#[napi]
impl NativeStream {
    #[napi(constructor, catch_unwind)]
    pub fn new(
        window: u32,
        region: u32,
        access: u32,
        read_ahead: bool,
        leave_behind: bool,
    ) -> napi::Result<Self> {
        let window = window_of(window)?;
        let address = window.memory.base().get().saturating_add(window.mapped.start.get());
        let region = region_of(region)?;
        let sharing = to_access(access)?.sharing();
        Ok(Self { stream: Arc::new(Stream::new(&region, address, sharing, read_ahead, leave_behind)) })
    }

    /// See [`Stream::advance`].
    #[napi(catch_unwind)]
    pub fn advance(&self, start: f64, end: f64, ahead_to: f64, restart: bool) -> napi::Result<()> {
        self.stream.advance(to_count(start)?, to_count(end)?, to_count(ahead_to)?, restart);
        Ok(())
    }

    #[napi(getter)]
    pub fn idle(&self) -> bool {
        self.stream.is_idle()
    }

    #[napi(catch_unwind)]
    pub fn end(&self) {
        self.stream.end();
    }
}

impl Drop for NativeStream {
    fn drop(&mut self) {
        self.stream.end();
    }
}
