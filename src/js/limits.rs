//! What the machine and the process allow.

use super::from_count;
use crate::error::{Error, MemoryError};
use crate::sys::limits::{self, Overcommit};
use crate::sys::page::{WASM_PAGE_BYTES, host_page_bytes};
use crate::sys::{SysError, sum, userfault};
use napi_derive::napi;

#[napi(object)]
pub struct NativeLimits {
    pub page_size: f64,
    pub total_bytes: f64,
    pub free_bytes: f64,
    pub largest_free_bytes: f64,
    pub mapped_bytes: f64,
    /// `undefined` if there is none.
    pub rlimit_address_space_bytes: Option<f64>,
    pub overcommit: String,
    pub map_count_used: f64,
    pub map_count_limit: f64,
    /// How many reservations of the given size still fit, each with the Wasm page more that V8 asks
    /// for to align it.
    pub room_for: f64,
    pub userfaultfd: bool,
}

#[napi(catch_unwind)]
pub fn limits(reservation_bytes: f64) -> napi::Result<NativeLimits> {
    let refused = |sys: SysError| Error::from(MemoryError::LimitsUnread { refused: sys.into() });
    let space = limits::address_space().map_err(refused)?;
    let rlimit = limits::rlimit_address_space().map_err(refused)?;
    let overcommit = match limits::overcommit() {
        Overcommit::Heuristic => "heuristic",
        Overcommit::Always => "always",
        Overcommit::Never => "never",
    };
    Ok(NativeLimits {
        page_size: from_count(host_page_bytes()),
        total_bytes: from_count(space.total_bytes),
        free_bytes: from_count(space.free_bytes),
        largest_free_bytes: from_count(space.largest_free_bytes),
        mapped_bytes: from_count(space.mapped_bytes),
        rlimit_address_space_bytes: rlimit.map(from_count),
        overcommit: overcommit.to_owned(),
        map_count_used: from_count(space.vma_count),
        map_count_limit: from_count(limits::max_map_count()),
        userfaultfd: userfault::probe().is_ok(),
        room_for: from_count(
            space.room_for(sum(super::to_count(reservation_bytes)?, WASM_PAGE_BYTES)),
        ),
    })
}

/// Bytes of a host page. Makes no system call after the first.
#[napi]
pub fn host_page_size() -> f64 {
    from_count(host_page_bytes())
}
