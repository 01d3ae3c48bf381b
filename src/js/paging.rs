//! Regions whose bytes come from a provider: what lib/paging/ is built on.
//!
//! # The border
//!
//! A pager is named by a number, in all threads of the process. It goes when its region is closed,
//! or collected, and nothing is left that shows it: then calls give ERR_HOSTMAP_REGION_CLOSED, and
//! the socket ends.
//!
//! ```text
//! native.pagedRegion(byteLength, name, chunkBytes, timeoutMs, useUserfaultfd: boolean | undefined)
//!   -> { owner: NativeRegion, pager: number, socketFd: number, isUserfaultfd: boolean }
//!      timeoutMs: a whole number, 1 to 2^32 - 1. `undefined` takes userfaultfd where it can be had.
//!      The socket is the caller's to close: `new net.Socket({ fd })`. Only reading it means
//!      something. Chunks that somebody waits for arrive on it, 8 bytes each, lowest byte first. A
//!      chunk may arrive again, or when it is present by then: look at its state. Its end (EOF)
//!      means that nobody can touch the region any more, or that the pager was closed.
//!
//! In the provider's thread:
//! native.pagerServe(pager)        touches in this thread fail at once from now on; when the thread
//!                                 ends, the pager is closed. A second one is refused
//!                                 (ERR_HOSTMAP_INTERNAL).
//! native.pagerProvide(pager, chunk, u8) -> boolean
//!                                 fills a chunk: exactly its bytes, of which the last chunk may
//!                                 have fewer. Wakes who waits. False: the pager was closed. True
//!                                 without a change where it was present already. It need not have
//!                                 been requested. Where it throws, the chunk is not there, and is
//!                                 still requested: provide it again, or call pagerFail.
//! native.pagerFail(pager, chunk)  touches that wait for it fail; the next one requests it again.
//!                                 Of a chunk that is present, it does nothing.
//! native.pagerRequest(pager, chunk) -> number
//!                                 claims a missing chunk without a touch. Gives the state that it
//!                                 had. If somebody touches it then, it arrives on the socket.
//! native.pagerEvict(pager, chunk) -> boolean
//!                                 takes it out of memory. False: not present, pinned, or (without
//!                                 userfaultfd) a mapping has written to it.
//!
//! native.pagerRefusePool(pager, isRefused)
//!                                 whether touches by threads that run no JavaScript, such as libuv's
//!                                 pool has, fail at once, those that wait too
//!
//! In any thread:
//! native.poolWaits() -> number | null               how many such threads wait for chunks, of all
//!                                 pagers; null where they can't be told from others
//! native.pagerPin(pager, first, last)              these chunks, the last included, are not evicted
//! native.pagerUnpin(pager, first, last) -> boolean the same range, once for each pin. False: none
//! native.pagerShow(pager, first, last)             those of these chunks that are present are shown in
//!                                 all mappings, as touches would do, for system calls. Pin first.
//! native.pagerStates(pager, first, count) -> Uint8Array    a state for each
//! native.pagerStats(pager) -> NativePagerStats
//! native.pagerClose(pager)        touches of what is not there fail at once, those that wait too;
//!                                 what is present stays readable. The socket ends. A pager that is
//!                                 gone is closed already: no error.
//! native.pagersClose(isAll)       the same for all that this thread has made, or all of the process,
//!                                 those too whose region is gone and whose mappings are not. The end
//!                                 of a thread that has made some does so by itself, but Node ends
//!                                 its workers before that, one after the other.
//! owner.pagedReader() -> NativeReader | null  for reads of what was pinned and is present; null for
//!                                 other regions. `owner.reader()` is refused, since a hole reads as
//!                                 zeros.
//!
//! States: 0 missing, 1 requested, 2 present, 3 being evicted.
//! ```
//!
//! Refused for such regions, by ERR_HOSTMAP_REGION_PAGED: `duplicateFd`, `write`, `seal`, `reader`,
//! `NativeWord`, and `adopt` of a buffer over one; `share` of a received one.
//!
//! # In other processes
//!
//! ```text
//! region.receivedPaging() -> { pager, callsFd, chunkBytes, isUserfaultfd } | null
//!      of a region that was received or found, once. Its pager is its own: `pagerShow`,
//!      `pagerStates`, `pagerStats` and `pagerClose` work; all that is the provider's is refused.
//!      The descriptor is one end of a stream, for what lib/paging asks.
//!
//! In the provider's thread, which finds two kinds of other numbers on its socket:
//! 2^64 - 1         somebody has received the region:
//! native.pagerNewcomers(pager) -> { id, touchesFd, callsFd }[]
//!                  those since the last call. On `touchesFd` come chunks that somebody there waits
//!                  for, and numbers of the next kind; its end is the receiver's. Both are the
//!                  caller's to close. Whatever comes there is a stranger's.
//! native.pagerDismiss(pager, id)  the receiver has ended. Until then nothing is evicted if he has
//!                                 no userfaultfd.
//! native.pagerTold(pager, chunk)  a receiver waits for the chunk, and was heard
//! 2^63 + chunk     pages of a chunk were made past the provider:
//! native.pagerSweep(pager, chunk) takes them out, unless the chunk is present
//! ```

use super::buffer::{Bytes, bytes_of};
use super::paged::prepare_thread;
use super::region::NativeRegion;
use super::{from_count, internal, to_count, to_number};
use crate::error::{Error, PagingError};
use crate::fault;
use crate::paging::{self, By, Pager, Provided, Spec};
use crate::region::Region;
use crate::sys::to_u64;
use crate::v8::current;
use napi::Env;
use napi::bindgen_prelude::{Uint8Array, Unknown};
use napi_derive::napi;
use std::os::fd::IntoRawFd;
use std::sync::Arc;

/// A new region and what pages it in. The descriptor is the caller's.
#[napi(object, object_from_js = false)]
pub struct NativePaged {
    pub owner: NativeRegion,
    pub pager: f64,
    pub socket_fd: i32,
    pub is_userfaultfd: bool,
}

/// What happened to a pager's chunks so far.
#[napi(object, object_from_js = false)]
pub struct NativePagerStats {
    /// Touches of chunks that were not there.
    pub faults: f64,
    /// Of these, those that waited.
    pub waits: f64,
    /// Touches that ended in a trap or in zeros.
    pub failed_touches: f64,
    /// Of these, those that waited for `timeoutMs`.
    pub timed_out: f64,
    /// Of these, those that could not wait: the pager was closed, or it was the provider's thread.
    pub refused: f64,
    /// How often handlers shown chunks; 0 with userfaultfd.
    pub shown: f64,
    /// Chunks that were provided, and evicted.
    pub provided: f64,
    pub evicted: f64,
    /// Chunks that are present now.
    pub present: f64,
    pub chunk_count: f64,
    pub is_closed: bool,
}

fn pager_of(pager: f64) -> Result<Arc<Pager>, Error> {
    paging::find(to_count(pager)?).ok_or_else(|| PagingError::Closed.into())
}

#[napi(catch_unwind)]
pub fn paged_region(
    env: Env,
    byte_length: f64,
    name: String,
    chunk_bytes: f64,
    timeout_milliseconds: f64,
    use_userfaultfd: Option<bool>,
) -> napi::Result<NativePaged> {
    let spec = Spec {
        byte_length: to_count(byte_length)?,
        chunk_bytes: to_count(chunk_bytes)?,
        timeout_milliseconds: to_number(timeout_milliseconds)?,
        by_userfault: use_userfaultfd,
    };
    prepare_thread(env)?;
    let (region, socket) = Region::paged(&name, spec)?;
    let pager = region.pager().ok_or_else(|| internal("a paged region has a pager"))?;
    let (id, is_userfaultfd) = (pager.id(), pager.is_userfault());
    let owner = NativeRegion::new(region)?;
    Ok(NativePaged {
        owner,
        pager: from_count(id),
        socket_fd: socket.into_raw_fd(),
        is_userfaultfd,
    })
}

#[napi(catch_unwind)]
pub fn pager_serve(env: Env, pager: f64) -> napi::Result<()> {
    let pager = pager_of(pager)?;
    pager.serve()?;
    let id = pager.id();
    // By its number, so that a worker that lives long does not keep it.
    let close = |id| {
        if let Some(pager) = paging::find(id) {
            pager.end();
        }
    };
    if let Err(error) = env.add_env_cleanup_hook(id, close) {
        pager.end();
        return Err(error);
    }
    Ok(())
}

#[napi(catch_unwind)]
pub fn pager_provide(env: Env, pager: f64, chunk: f64, bytes: Unknown<'_>) -> napi::Result<bool> {
    let Bytes { address, byte_length, .. } = bytes_of(env, bytes)?;
    let provided = fault::provide(&*pager_of(pager)?, to_count(chunk)?, address, byte_length)?;
    Ok(provided != Provided::Closed)
}

#[napi(catch_unwind)]
pub fn pager_fail(pager: f64, chunk: f64) -> napi::Result<()> {
    Ok(pager_of(pager)?.fail(to_count(chunk)?)?)
}

#[napi(catch_unwind)]
pub fn pager_request(pager: f64, chunk: f64) -> napi::Result<u32> {
    Ok(pager_of(pager)?.request(to_count(chunk)?)? as u32)
}

#[napi(catch_unwind)]
pub fn pager_evict(pager: f64, chunk: f64) -> napi::Result<bool> {
    Ok(fault::evict(&*pager_of(pager)?, to_count(chunk)?)?)
}

#[napi(catch_unwind)]
pub fn pager_refuse_pool(pager: f64, is_refused: bool) -> napi::Result<()> {
    pager_of(pager)?.refuse_pool(is_refused);
    Ok(())
}

#[napi(catch_unwind)]
pub fn pool_waits() -> Option<f64> {
    current::prepare().then(|| from_count(to_u64(paging::pool_waits())))
}

#[napi(catch_unwind)]
pub fn pager_pin(pager: f64, first: f64, last: f64) -> napi::Result<()> {
    Ok(pager_of(pager)?.pin(to_count(first)?, to_count(last)?)?)
}

#[napi(catch_unwind)]
pub fn pager_unpin(pager: f64, first: f64, last: f64) -> napi::Result<bool> {
    Ok(pager_of(pager)?.unpin(to_count(first)?, to_count(last)?)?)
}

#[napi(catch_unwind)]
pub fn pager_show(pager: f64, first: f64, last: f64) -> napi::Result<()> {
    let pager = pager_of(pager)?;
    let (first, last) = (to_count(first)?, to_count(last)?);
    pager.states(first, last.saturating_sub(first).saturating_add(1))?;
    Ok(fault::show(&pager, first, last)?)
}

#[napi(catch_unwind)]
pub fn pager_states(pager: f64, first: f64, count: f64) -> napi::Result<Uint8Array> {
    Ok(pager_of(pager)?.states(to_count(first)?, to_count(count)?)?.into())
}

#[napi(catch_unwind)]
pub fn pager_stats(pager: f64) -> napi::Result<NativePagerStats> {
    let pager = pager_of(pager)?;
    let counted = pager.counted();
    Ok(NativePagerStats {
        faults: from_count(counted.faults),
        waits: from_count(counted.waits),
        failed_touches: from_count(counted.failed),
        timed_out: from_count(counted.timed_out),
        refused: from_count(counted.refused),
        shown: from_count(counted.shown),
        provided: from_count(counted.provided),
        evicted: from_count(counted.evicted),
        present: from_count(counted.present),
        chunk_count: from_count(pager.chunk_count()),
        is_closed: pager.is_closed(),
    })
}

#[napi(catch_unwind)]
pub fn pager_close(pager: f64) -> napi::Result<()> {
    if let Some(pager) = paging::find(to_count(pager)?) {
        pager.end();
    }
    Ok(())
}

#[napi(catch_unwind)]
pub fn pagers_close(is_all: bool) {
    paging::close_made(if is_all { By::All } else { By::ThisThread });
}

/// A receiver whose descriptors are the caller's.
#[napi(object, object_from_js = false)]
pub struct NativeNewcomer {
    pub id: f64,
    pub touches_fd: i32,
    pub calls_fd: i32,
}

#[napi(catch_unwind)]
pub fn pager_newcomers(pager: f64) -> napi::Result<Vec<NativeNewcomer>> {
    let newcomers = pager_of(pager)?.newcomers().into_iter();
    let newcomers = newcomers.map(|it| NativeNewcomer {
        id: from_count(it.id),
        touches_fd: it.touches.into_raw_fd(),
        calls_fd: it.calls.into_raw_fd(),
    });
    Ok(newcomers.collect())
}

#[napi(catch_unwind)]
pub fn pager_dismiss(pager: f64, id: f64) -> napi::Result<()> {
    pager_of(pager)?.dismiss(to_count(id)?);
    Ok(())
}

#[napi(catch_unwind)]
pub fn pager_told(pager: f64, chunk: f64) -> napi::Result<()> {
    Ok(pager_of(pager)?.told(to_count(chunk)?)?)
}

#[napi(catch_unwind)]
pub fn pager_sweep(pager: f64, chunk: f64) -> napi::Result<()> {
    Ok(pager_of(pager)?.sweep(to_count(chunk)?)?)
}
