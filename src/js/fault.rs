//! The fault guard, for JavaScript: installing it, V8's probe, counts and reports.
//!
//! Converts arguments and results; decides nothing.

#![allow(unsafe_code)] // Promises when V8 may be asked to tell of its collections.

use super::buffer::{Bytes, bytes_of};
use super::fault_counts::NativeFaults;
use super::memory::memory_of;
use super::{event_loop, from_count, internal, to_count};
use crate::error::Error;
use crate::fault::{self, Counts};
use crate::memory::Mapped;
use crate::sys::alloc;
use crate::sys::lock::{Level, Lock};
use crate::sys::page::PageAligned;
use crate::sys::{self, signal};
use crate::v8::trap::{self, State};
use crate::v8::{collections, declined};
use napi::Env;
use napi::bindgen_prelude::{Function, Unknown};
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi_derive::napi;
use std::sync::Arc;
use std::thread::{self, ThreadId};
use std::time::Duration;

/// Installs the handler if it is not there; `null`, or why there is none. From then on this thread
/// remembers what V8 declines.
#[napi(catch_unwind)]
pub fn install_fault_guard(env: Env) -> napi::Result<Option<String>> {
    if let Err(reason) = fault::ensure() {
        return Ok(Some(reason.to_owned()));
    }
    // SAFETY: this is a call from JavaScript. Node-API runs the hook on this thread, before the
    // environment's isolate ends.
    if let Some(joined) = unsafe { collections::join() } {
        env.add_env_cleanup_hook(joined, |joined| {
            // SAFETY: the isolate that it joined is about to end, and runs this hook.
            unsafe { collections::leave(&joined) };
        })?;
    }
    Ok(None)
}

/// `first`, or `covered` if another handler was installed above ours.
#[napi(catch_unwind)]
pub fn fault_handler() -> String {
    // Where it can't be installed again, it is not the first one, which is the answer then.
    let _ = signal::reinstall();
    if signal::is_first() { "first" } else { "covered" }.to_owned()
}

/// What is known of V8's traps: `untried`, `probing`, `yes`, or why not.
#[napi(catch_unwind)]
pub fn traps() -> String {
    let text = match trap::state() {
        State::Untried => "untried",
        State::Probing => "probing",
        State::NoFlag | State::Flag => "yes",
        State::NoFunction => "V8 does not export the function that takes faults",
        State::Unclear => "V8 did not take a fault as it was expected to",
    };
    text.to_owned()
}

/// Under which number this thread remembers what V8 has declined: 0 after a collection, `null`
/// where nothing is remembered. For tests.
#[napi(catch_unwind)]
pub fn declined_stamp() -> Option<f64> {
    declined::stamp().map(from_count)
}

/// Makes ready for a Wasm load of the first byte after this memory's end. False: no probe is to be
/// made now.
#[napi(catch_unwind)]
pub fn begin_probe(env: Env, array: Unknown<'_>) -> napi::Result<bool> {
    let Bytes { address: base, byte_length, .. } = bytes_of(env, array)?;
    let begun = trap::begin_probe(sys::sum(base, byte_length));
    if begun {
        // A worker may be ended in the middle of anything, and what comes after in JavaScript is
        // not run then.
        env.add_env_cleanup_hook((), |()| trap::abandon_probe())?;
    }
    Ok(begun)
}

#[napi(catch_unwind)]
pub fn end_probe() {
    trap::end_probe();
}

/// The faults of a mapping, or `null` if it is not there any more.
#[napi(catch_unwind)]
pub fn faults_of(memory: u32, start: f64, id: f64) -> napi::Result<Option<NativeFaults>> {
    Ok(counts_of(memory, start, id)?.map(|(counts, inode)| NativeFaults::new(&counts, Some(inode))))
}

fn counts_of(memory: u32, start: f64, id: f64) -> napi::Result<Option<(Arc<Counts>, u64)>> {
    let start =
        PageAligned::new(to_count(start)?).ok_or_else(|| internal("a mapping starts at a page"))?;
    Ok(memory_of(memory)?.counts(Mapped { start, id: to_count(id)? }))
}

/// Acknowledges the faults of a mapping or window, and returns how many there were.
#[napi(catch_unwind)]
pub fn acknowledge_faults(memory: u32, start: f64, id: f64) -> napi::Result<f64> {
    Ok(counts_of(memory, start, id)?.map_or(0.0, |(counts, _)| from_count(counts.acknowledge())))
}

/// The same of all that are in a memory, or were unmapped since.
#[napi(catch_unwind)]
pub fn acknowledge_all_faults(memory: u32) -> napi::Result<f64> {
    Ok(from_count(memory_of(memory)?.acknowledge_faults()))
}

/// How many faults of mappings that are gone from a memory nobody has acknowledged.
#[napi(catch_unwind)]
pub fn gone_faults(memory: u32) -> napi::Result<f64> {
    Ok(from_count(memory_of(memory)?.gone_faults()))
}

/// A mapping or window with faults that nobody has acknowledged.
#[napi(object, object_from_js = false)]
pub struct NativeFaulted {
    pub start: f64,
    pub unacknowledged: f64,
}

/// The mappings and windows of a memory that have unacknowledged faults.
#[napi(catch_unwind)]
pub fn faulted_in(memory: u32) -> napi::Result<Vec<NativeFaulted>> {
    let faulted = memory_of(memory)?.faulted()?.into_iter().map(|(start, count)| NativeFaulted {
        start: from_count(start.get()),
        unacknowledged: from_count(count),
    });
    Ok(alloc::collected(faulted).map_err(Error::from)?)
}

#[napi(object)]
pub struct NativeReport {
    pub stray_write: bool,
    pub missing_page: bool,
    pub past_end: bool,
    pub is_window: bool,
    /// It was a memory that shows a snapshot's file.
    pub is_image: bool,
    pub region_name: String,
    /// Where the mapping starts in its memory; `undefined` for a view.
    pub address: Option<f64>,
    pub byte_length: f64,
    pub access: String,
    /// Which byte of the region the last fault was at.
    pub region_offset: Option<f64>,
}

/// What happened to the mappings and views that this thread made and was not told yet.
#[napi(catch_unwind)]
pub fn take_fault_reports() -> napi::Result<Vec<NativeReport>> {
    let reports = fault::take_reports().into_iter().map(|report| NativeReport {
        stray_write: report.stray_write,
        missing_page: report.missing_page,
        past_end: report.past_end,
        is_window: report.is_window,
        is_image: report.is_image,
        region_name: report.region_name.to_string(),
        address: report.memory_offset.map(from_count),
        byte_length: from_count(report.byte_length),
        access: report.access.name().to_owned(),
        region_offset: report.last.map(|last| from_count(last.region_offset)),
    });
    Ok(alloc::collected(reports).map_err(Error::from)?)
}

type Listener = ThreadsafeFunction<(), (), (), napi::Status, false, true>;

/// One for each thread: the newest, where a thread loads the package several times.
static LISTENERS: Lock<Vec<(ThreadId, Arc<Listener>)>> = Lock::new(Level::FaultThreads, Vec::new());

/// Calls back on this thread when there may be reports. Does not keep the event loop alive.
/// `comes_to_loop`: whatever the thread does, libuv's loop turns after it.
#[napi(catch_unwind)]
pub fn on_faults(
    env: Env,
    callback: Function<'_, (), ()>,
    comes_to_loop: bool,
) -> napi::Result<()> {
    let listener = callback
        .build_threadsafe_function::<()>()
        .callee_handled::<false>()
        .weak::<true>()
        .build()?;
    let thread = thread::current().id();
    let mut listeners = LISTENERS.lock();
    let known = listeners.len();
    listeners.retain(|(owner, _)| *owner != thread);
    let is_new = listeners.len() == known;
    listeners.push((thread, Arc::new(listener)));
    drop(listeners);
    fault::listen(true);
    if is_new {
        env.add_env_cleanup_hook(thread, |thread| {
            let mut listeners = LISTENERS.lock();
            listeners.retain(|(owner, _)| *owner != thread);
            drop(listeners);
            fault::listen(false);
            // What its loop had still to look for is told to the other listeners.
            fault::REPORTS.call();
        })?;
        if comes_to_loop {
            event_loop::look_before_waits(env, call_here);
        }
    }
    watch_once();
    Ok(())
}

/// Calls the listener of this thread.
fn call_here() {
    let thread = thread::current().id();
    let listeners = LISTENERS.lock();
    let own = listeners.iter().find(|(owner, _)| *owner == thread);
    let own = own.map(|(_, listener)| Arc::clone(listener));
    drop(listeners);
    if let Some(listener) = own {
        listener.call((), ThreadsafeFunctionCallMode::NonBlocking);
    }
}

/// Starts the thread that passes reports on. Where there is no thread to be had, reports wait for
/// the next call that takes them, counts are right all the same, and the next listener tries again.
fn watch_once() {
    static IS_WATCHED: Lock<bool> = Lock::new(Level::FaultWatcher, false);
    let mut is_watched = IS_WATCHED.lock();
    if !*is_watched {
        *is_watched = sys::thread::spawn("hostmap-faults", watch).is_ok();
    }
}

/// Waits for handlers, which may do no more than wake a thread, and tells the listeners.
fn watch() {
    /// To wake a thread that waits costs a handler 15 us where another processor has to be woken
    /// for it. So what follows soon after a report is told with the next.
    const REST: Duration = Duration::from_millis(1);
    sys::thread::give_way();
    let mut seen = 0;
    loop {
        seen = fault::REPORTS.wait_beyond(seen);
        // Called without the lock: an environment that is ending waits for nobody.
        let listeners = LISTENERS.lock().clone();
        for (_, listener) in listeners {
            listener.call((), ThreadsafeFunctionCallMode::NonBlocking);
        }
        sys::thread::sleep(REST);
    }
}
