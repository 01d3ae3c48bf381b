//! What a paged region was received with, and what a thread that has one needs. Apart from
//! `paging.rs`, which uses `region.rs`.

use super::from_count;
use crate::paging::{self, By};
use crate::region::Region;
use crate::v8::current;
use napi::Env;
use napi_derive::napi;
use std::cell::Cell;
use std::os::fd::IntoRawFd;

/// A received region's own pager, and what its owner's thread is asked by. The descriptor is the
/// caller's.
#[napi(object, object_from_js = false)]
pub struct NativeReceivedPaging {
    pub pager: f64,
    pub calls_fd: i32,
    pub chunk_bytes: f64,
    pub is_userfaultfd: bool,
}

impl NativeReceivedPaging {
    pub(super) fn of(region: &Region) -> Option<Self> {
        let pager = region.pager()?;
        Some(Self {
            calls_fd: pager.take_calls()?.into_raw_fd(),
            pager: from_count(pager.id()),
            chunk_bytes: from_count(pager.chunk_bytes()),
            is_userfaultfd: pager.is_userfault(),
        })
    }
}

/// What this thread makes or receives is closed with it.
pub(super) fn prepare_thread(env: Env) -> napi::Result<()> {
    // Before a touch asks.
    current::prepare();
    thread_local! {
        static IS_HOOKED: Cell<bool> = const { Cell::new(false) };
    }
    if IS_HOOKED.get() {
        return Ok(());
    }
    env.add_env_cleanup_hook((), |()| {
        IS_HOOKED.set(false);
        paging::close_made(By::ThisThread);
    })?;
    IS_HOOKED.set(true);
    Ok(())
}
