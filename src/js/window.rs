//! Windows. `array` as in memory.rs.

use super::buffer::live_memory;
use super::memory::{NativeMapped, aligned_offset, mapped, memory_of, set_strict};
use super::region::region_of;
use super::{from_count, internal, to_access, to_count, to_number};
use crate::error::Error;
use crate::memory::Memory;
use crate::memory::window_state::{Tail, WindowSpec};
use crate::sys::page::PageAligned;
use crate::v8::live_memory::LiveMemory;
use crate::window::{self, Stream};
use napi::Env;
use napi::bindgen_prelude::Unknown;
use napi_derive::napi;
use std::sync::Arc;

/// `byte_length` is in whole host pages.
pub(super) fn spec(byte_length: f64, access: u32, trap: bool) -> Result<WindowSpec, Error> {
    let length = PageAligned::new(to_count(byte_length)?)
        .filter(|length| *length > PageAligned::ZERO)
        .ok_or_else(|| internal("a window has whole pages"))?;
    let tail = if trap { Tail::Inaccessible } else { Tail::Zeros };
    Ok(WindowSpec { length, access: to_access(access)?, tail })
}

/// Opens a window at an offset and gives its id.
#[napi(catch_unwind)]
#[allow(clippy::too_many_arguments)]
pub fn window_at(
    memory: u32,
    env: Env,
    array: Unknown<'_>,
    at: f64,
    byte_length: f64,
    access: u32,
    trap: bool,
    strict: bool,
) -> napi::Result<f64> {
    let spec = spec(byte_length, access, trap)?;
    let memory = memory_of(memory)?;
    let opened = window::open_at(&memory, live_memory(env, array)?, to_count(at)?, spec)?;
    set_strict(&memory, opened, strict);
    Ok(from_count(opened.id))
}

/// Opens a window in free space, or gives null where the memory must grow.
#[napi(catch_unwind)]
#[allow(clippy::too_many_arguments)]
pub fn window_in_free_space(
    memory: u32,
    env: Env,
    array: Unknown<'_>,
    byte_length: f64,
    access: u32,
    trap: bool,
    strict: bool,
    aligned: bool,
) -> napi::Result<Option<NativeMapped>> {
    let spec = spec(byte_length, access, trap)?;
    let memory = memory_of(memory)?;
    let opened = window::open_in_free_space(&memory, live_memory(env, array)?, spec, aligned)?;
    if let Some(opened) = opened {
        set_strict(&memory, opened, strict);
    }
    Ok(opened.map(NativeMapped::new))
}

/// Slides a window; to nothing without a length. False: it is not there any more. Takes `[start,
/// id, region, offset, length, access]`.
pub(super) fn slide(
    memory: &Memory,
    live: LiveMemory<'_>,
    [start, id, region, byte_offset, byte_length, access]: [f64; 6],
) -> Result<bool, Error> {
    let mapped = mapped(start, id)?;
    if byte_length == 0.0 {
        return window::slide(memory, live, mapped, None);
    }
    let region = region_of(to_number(region)?)?;
    let pages = region.pages(aligned_offset(byte_offset)?, to_count(byte_length)?)?;
    window::slide(memory, live, mapped, Some((&pages, to_access(to_number(access)?)?)))
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
        region: u32,
        access: u32,
        read_ahead: bool,
        leave_behind: bool,
    ) -> napi::Result<Self> {
        let region = region_of(region)?;
        let sharing = to_access(access)?.sharing();
        Ok(Self { stream: Arc::new(Stream::new(&region, sharing, read_ahead, leave_behind)) })
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
