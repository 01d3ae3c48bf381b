//! Opened snapshots, for JavaScript: this thread is called when somebody wants to write a file that
//! its memories show.

use super::{from_count, to_count};
use crate::error::Error;
use crate::memory::Memory;
use crate::snapshot::{leave, watch};
use crate::v8::live_memory::LiveMemory;
use napi::bindgen_prelude::Function;
use napi::threadsafe_function::ThreadsafeFunctionCallMode;
use napi::{Env, Status};
use napi_derive::napi;
use std::sync::Arc;

/// Puts copies of files in their place, where the memory shows files that somebody wants to write.
pub(super) fn leave_files(
    memory: &Memory,
    live: LiveMemory<'_>,
    []: [f64; 0],
) -> Result<(), Error> {
    leave::leave(memory, live)
}

/// Calls back on this thread, with a number, when its memories are to leave files. Gives the
/// thread's number. Does not keep the event loop alive.
#[napi(catch_unwind)]
pub fn on_files_wanted(env: Env, callback: Function<'_, f64, ()>) -> napi::Result<f64> {
    let call = callback
        .build_threadsafe_function::<f64>()
        .callee_handled::<false>()
        .weak::<true>()
        .build()?;
    let thread = watch::listen(Arc::new(move |round| {
        call.call(from_count(round), ThreadsafeFunctionCallMode::NonBlocking) == Status::Ok
    }));
    env.add_env_cleanup_hook(thread, watch::forget)?;
    Ok(from_count(thread))
}

/// The answer to a call: no memory of this thread shows a file any more that somebody wants to
/// write.
#[napi(catch_unwind)]
pub fn files_left(thread: f64, round: f64) -> napi::Result<()> {
    watch::left(to_count(thread)?, to_count(round)?);
    Ok(())
}
