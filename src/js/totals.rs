//! What the process has done and has, in numbers. Converts results; decides nothing.

// It makes an ArrayBuffer over a thread's counts, by Node-API.
#![allow(unsafe_code)]

use super::from_count;
use crate::fault::totals::{self as faults, Guarded};
use crate::fault::{Cause, Outcome};
use crate::totals::{self, Block};
use napi::bindgen_prelude::Unknown;
use napi::{Env, sys};
use napi_derive::napi;
use std::ptr;

/// An ArrayBuffer over this thread's counts, for JavaScript to write; `null` where there can be
/// none. One for each environment: `lib/observe/counts.js` asks once.
#[napi(catch_unwind)]
pub fn thread_totals<'env>(env: Env) -> napi::Result<Option<Unknown<'env>>> {
    let Some(block) = totals::take() else { return Ok(None) };
    // At the end of the environment no JavaScript runs any more.
    if let Err(error) = env.add_env_cleanup_hook((), |()| totals::give_back()) {
        totals::give_back();
        return Err(error);
    }
    Ok(buffer_over(env, block))
}

fn buffer_over<'env>(env: Env, block: &'static Block) -> Option<Unknown<'env>> {
    let words = block.words();
    let mut buffer = ptr::null_mut();
    // SAFETY: the words are never freed, and nobody has a reference to what is in them: they are
    // atomics. So there is nothing to be finalized.
    let status = unsafe {
        sys::napi_create_external_arraybuffer(
            env.raw(),
            words.as_ptr().cast_mut().cast(),
            size_of_val(words),
            None,
            ptr::null_mut(),
            &raw mut buffer,
        )
    };
    // Electron allows none.
    if status != sys::Status::napi_ok {
        return None;
    }
    // SAFETY: the call gave a handle of this scope.
    Some(unsafe { Unknown::from_raw_unchecked(env.raw(), buffer) })
}

#[napi(object, object_from_js = false)]
pub struct NativeTotals {
    /// The counts of all threads: see `lib/observe/counts.js`.
    pub counts: Vec<f64>,
    /// By cause (readonly, unavailable, memory-error, past-end), and of each by outcome (trap,
    /// private-page, zeros).
    pub faults: Vec<f64>,
    pub mappings: f64,
    pub mapping_bytes: f64,
    pub windows: f64,
    pub window_bytes: f64,
    pub regions: f64,
    pub region_bytes: f64,
    pub snapshots: f64,
    pub snapshot_bytes: f64,
}

/// Of the whole process. Cost: a look at each mapping.
#[napi(catch_unwind)]
pub fn process_totals() -> NativeTotals {
    let causes = [Cause::Readonly, Cause::Unavailable, Cause::BrokenMemory, Cause::PastEnd];
    let outcomes = [Outcome::Trap, Outcome::PrivatePage, Outcome::Zeros];
    let faults = causes.iter().flat_map(|&cause| {
        outcomes.iter().map(move |&outcome| from_count(faults::faults(cause, outcome)))
    });
    let faults = faults.collect();
    let Guarded { mappings, mapping_bytes, windows, window_bytes } =
        crate::fault::totals::guarded();
    let (regions, region_bytes) = totals::REGIONS.now();
    let (snapshots, snapshot_bytes) = totals::SNAPSHOTS.now();
    NativeTotals {
        counts: totals::sums().to_vec(),
        faults,
        mappings: from_count(mappings),
        mapping_bytes: from_count(mapping_bytes),
        windows: from_count(windows),
        window_bytes: from_count(window_bytes),
        regions: from_count(regions),
        region_bytes: from_count(region_bytes),
        snapshots: from_count(snapshots),
        snapshot_bytes: from_count(snapshot_bytes),
    }
}
