//! The Node-API face of the core: only converts arguments and calls the core. lib/ is its only
//! caller; it has checked types, and holds the JavaScript objects whose lives matter (the
//! memory, its buffer, the region).

mod adopt;
mod buffer;
mod copies;
mod doctor;
mod event_loop;
mod fast_call;
mod fault;
mod fault_counts;
mod fill;
mod handles;
mod inject;
mod inspect;
mod limits;
mod locks;
mod memory;
mod module;
mod names;
mod opened;
mod paged;
mod paging;
mod placement;
mod reader;
mod region;
mod share;
mod snapshot;
mod snapshot_data;
mod task;
mod totals;
mod wait;
mod window;

use crate::access::Access;
use crate::error::Error;
use crate::memory::Populate;
use crate::region::thp::PageKind;

/// Carries an error to lib/support/errors.js, which makes the Error that users see: `CODE SYSCALL
/// ERRNO`, then the message.
impl From<Error> for napi::Error {
    #[cold]
    #[inline(never)]
    fn from(error: Error) -> Self {
        let (syscall, errno) = error.sys().map_or(("-", 0), |sys| (sys.syscall, sys.errno as i32));
        let head = format!("{} {syscall} {errno}", error.code().as_str());
        Self::new(napi::Status::GenericFailure, format!("{head}\n{error}"))
    }
}

/// A defect: lib/ passed what it should have refused.
fn internal(message: &'static str) -> Error {
    Error::Defect(message)
}

/// A count or offset. JavaScript's numbers hold whole ones up to 2^53.
fn to_count(value: f64) -> Result<u64, Error> {
    const MOST: f64 = 9_007_199_254_740_992.0;
    if value.fract() != 0.0 || !(0.0..=MOST).contains(&value) {
        return Err(internal("a count is not a whole number from 0 to 2^53"));
    }
    // Checked above: it has no fraction, no sign, and fits.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    Ok(value as u64)
}

/// A handle, or another number of 32 bits.
fn to_number(value: f64) -> Result<u32, Error> {
    u32::try_from(to_count(value)?).map_err(|_| internal("a number is too large"))
}

/// A count for JavaScript. Exact up to 2^53, which no address space or file reaches.
#[allow(clippy::cast_precision_loss)]
fn from_count(value: u64) -> f64 {
    value as f64
}

/// An access mode by its number.
fn to_access(code: u32) -> Result<Access, Error> {
    Access::from_code(code).ok_or_else(|| internal("no such access"))
}

fn to_populate(code: u32) -> Result<Populate, Error> {
    Populate::from_code(code).ok_or_else(|| internal("no such time to populate"))
}

/// What pages a region in memory is to have.
fn to_kind(huge_pages: bool) -> PageKind {
    if huge_pages { PageKind::Gathered } else { PageKind::Ordinary }
}
