//! Windows. `array` as in memory.rs.

use super::memory::{aligned_offset, memory_of, place_of, to_access};
use super::region::region_of;
use super::{from_count, internal, to_count};
use crate::ahead::Stream;
use crate::error::Error;
use crate::memory::Mapped;
use crate::sys::page::PageAligned;
use crate::window::{Kind, Rest};
use napi::Env;
use napi::bindgen_prelude::Unknown;
use napi_derive::napi;
use std::sync::Arc;

/// `byte_length` is in whole host pages.
fn kind(byte_length: f64, access: u32, trap: bool) -> Result<Kind, Error> {
    let length = PageAligned::new(to_count(byte_length)?)
        .filter(|length| *length > PageAligned::ZERO)
        .ok_or_else(|| internal("a window has whole pages"))?;
    let rest = if trap { Rest::Inaccessible } else { Rest::Zeros };
    Ok(Kind { length, access: to_access(access)?, rest })
}

fn mapped(start: f64, id: f64) -> Result<Mapped, Error> {
    let start = PageAligned::new(to_count(start)?).ok_or_else(|| internal("a window starts at a page"))?;
    Ok(Mapped { start, id: to_count(id)? })
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
) -> napi::Result<Option<Vec<f64>>> {
    let kind = kind(byte_length, access, trap)?;
    let opened = memory_of(memory)?.window_in_free_space(place_of(env, array)?, kind)?;
    Ok(opened.map(|opened| vec![from_count(opened.start.get()), from_count(opened.id)]))
}

/// Slides a window. False: it is not there any more.
#[napi(catch_unwind)]
#[allow(clippy::too_many_arguments)]
pub fn slide(
    memory: u32,
    env: Env,
    array: Unknown<'_>,
    start: f64,
    id: f64,
    region: u32,
    byte_offset: f64,
    byte_length: f64,
    access: u32,
) -> napi::Result<bool> {
    let region = region_of(region)?;
    let pages = region.pages(aligned_offset(byte_offset)?, to_count(byte_length)?)?;
    let shown = Some((&pages, to_access(access)?));
    Ok(memory_of(memory)?.slide(place_of(env, array)?, mapped(start, id)?, shown)?)
}

/// Reads ahead and leaves behind for one pass over a region, as long as it is held.
#[napi]
pub struct NativeStream {
    stream: Arc<Stream>,
}

#[napi]
impl NativeStream {
    #[napi(constructor, catch_unwind)]
    pub fn new(region: u32, access: u32, read_ahead: bool, leave_behind: bool) -> napi::Result<Self> {
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

/// Empties a window. False: it is not there any more.
#[napi(catch_unwind)]
pub fn slide_to_nothing(
    memory: u32,
    env: Env,
    array: Unknown<'_>,
    start: f64,
    id: f64,
) -> napi::Result<bool> {
    Ok(memory_of(memory)?.slide(place_of(env, array)?, mapped(start, id)?, None)?)
}
