//! Buffers whose pages are moved into a memory, and back.
//!
//! `array` is over the memory's buffer, as in `memory.rs`; `source` and `into` are Uint8Arrays over
//! all of the other buffer. lib/ detaches that one, and holds it.

use super::buffer::{bytes_of, kept_allocation, live_memory};
use super::memory::{mapped, memory_of};
use super::{from_count, internal, to_count};
use crate::error::Error;
use crate::memory::adopt::{Adoption, Back, Means, Place};
use crate::sys::mmap::Unmovable;
use crate::sys::page::PageAligned;
use crate::v8::array_bytes::{ArrayBytes, Holders};
use napi::Env;
use napi::bindgen_prelude::Unknown;
use napi_derive::napi;

/// What was adopted, or why it was not.
#[napi(object, object_from_js = false)]
pub struct NativeAdopted {
    pub start: f64,
    /// 0: nothing was done, since the pages can't be moved.
    pub id: f64,
    pub copied_bytes: f64,
    /// Why its pages can't be moved.
    pub why: Option<&'static str>,
}

fn array_bytes<'call>(
    env: Env,
    array: Unknown<'call>,
    holders: Holders,
) -> Result<ArrayBytes<'call>, Error> {
    let bytes = bytes_of(env, array)?.array_bytes(holders);
    bytes.ok_or_else(|| internal("a buffer without bytes"))
}

/// `at`: null for free space. `room_bytes`: how many bytes from there on it may be in. Gives null
/// where the memory must grow.
#[napi(catch_unwind)]
#[allow(clippy::too_many_arguments, clippy::fn_params_excessive_bools)]
pub fn adopt(
    memory: u32,
    env: Env,
    array: Unknown<'_>,
    source: Unknown<'_>,
    at: Option<f64>,
    room_bytes: f64,
    congruent: bool,
    may_move: bool,
    may_copy: bool,
) -> napi::Result<Option<NativeAdopted>> {
    let holders = if may_move { Holders::One } else { Holders::Any };
    let source = array_bytes(env, source, holders)?;
    let place = match at {
        Some(at) => Place::At { at: to_count(at)?, room_bytes: to_count(room_bytes)? },
        None => Place::FreeSpace { congruent },
    };
    let means = match (may_move, may_copy) {
        (true, false) => Means::Move,
        (true, true) => Means::MoveOrCopy,
        (false, _) => Means::Copy,
    };
    let adopted = memory_of(memory)?.adopt(live_memory(env, array)?, source, place, means)?;
    Ok(match adopted {
        Adoption::Done(adopted) => Some(NativeAdopted {
            start: from_count(adopted.mapped.start.get()),
            id: from_count(adopted.mapped.id),
            copied_bytes: from_count(adopted.copied_bytes),
            why: adopted.why_copied.map(Unmovable::name),
        }),
        Adoption::NotMovable(why) => {
            Some(NativeAdopted { start: 0.0, id: 0.0, copied_bytes: 0.0, why: Some(why.name()) })
        }
        Adoption::NoSpace => None,
    })
}

/// By how many bytes the memory must grow for a place where page tables can be moved.
#[napi(catch_unwind)]
pub fn growth_for_adopted(
    memory: u32,
    env: Env,
    array: Unknown<'_>,
    source: Unknown<'_>,
) -> napi::Result<f64> {
    let pages = array_bytes(env, source, Holders::Any)?.pages();
    let (length, start) = (pages.length(), pages.start());
    let memory = memory_of(memory)?;
    Ok(from_count(memory.growth_for_congruent(live_memory(env, array)?, length, start)?))
}

/// How far into a page a buffer begins.
#[napi(catch_unwind)]
pub fn skew_of(env: Env, array: Unknown<'_>) -> napi::Result<f64> {
    let address = bytes_of(env, array)?.address;
    let page = PageAligned::round_down(address).get();
    Ok(from_count(crate::sys::difference(address, page)))
}

/// Moves an adopted buffer's pages back into it, or copies them into another one of its length;
/// unmaps it, and gives how many bytes were copied. Null: it is not there any more.
///
/// `into`: null where the buffer was detached, and lib/ keeps its allocation.
#[napi(catch_unwind)]
pub fn release_adopted(
    memory: u32,
    env: Env,
    array: Unknown<'_>,
    into: Option<Unknown<'_>>,
    start: f64,
    id: f64,
    may_copy: bool,
) -> napi::Result<Option<f64>> {
    let back = match into {
        // lib/ alone has it: the caller's that could not be detached, or one made for this.
        Some(into) => Back::Buffer(array_bytes(env, into, Holders::One)?),
        None => Back::Origin(kept_allocation(&array)),
    };
    let live = live_memory(env, array)?;
    let copied = memory_of(memory)?.release(live, mapped(start, id)?, back, may_copy)?;
    Ok(copied.map(from_count))
}
