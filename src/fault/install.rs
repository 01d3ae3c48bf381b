//! Installing the handler, with all that it needs open. Not for handlers.

// It promises that our handler may run as one.
#![allow(unsafe_code)]

use super::{handler, zeros};
use crate::sys::lock::{Level, Lock};
use crate::sys::{mmap, process, process_map, signal};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// Set in the environment to `off`, it leaves the process's signals alone.
const SWITCH: &str = "WASM_HOSTMAP_FAULT_GUARD";

/// Whether the handler is there.
static IS_INSTALLED: AtomicBool = AtomicBool::new(false);
static INSTALLING: Lock<()> = Lock::new(Level::Installing, ());

/// Whether the environment turns it off. It is asked once.
static IS_OFF: OnceLock<bool> = OnceLock::new();

/// Installs the handler, once. `Err` says why there is none. What can't be opened now, for want of
/// descriptors say, is tried again by the next call: until then a handler opens it for each fault.
pub fn ensure() -> Result<(), &'static str> {
    if IS_INSTALLED.load(Ordering::Acquire)
        && process_map::is_prepared_for_handler()
        && zeros::is_ready()
    {
        return Ok(());
    }
    if *IS_OFF.get_or_init(|| {
        process::variable(SWITCH).is_some_and(|value| value == "off" || value == "0")
    }) {
        return Err("it was turned off by WASM_HOSTMAP_FAULT_GUARD");
    }
    let _alone = INSTALLING.lock();
    mmap::prepare_for_handler();
    // Without it, a handler opens what it asks.
    let _ = process_map::prepare_for_handler();
    zeros::prepare();
    // SAFETY: `on_fault` and all that it reaches keep the rules at the head of `handler`. What they
    // ask was prepared above, or is opened by system calls alone.
    unsafe { signal::install(handler::on_fault) }.map_err(|_| "sigaction failed")?;
    IS_INSTALLED.store(true, Ordering::Release);
    Ok(())
}
