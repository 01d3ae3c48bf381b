//! Which locks this thread takes, for tests of lib/. Empty without the feature.

#![cfg(feature = "locks")]

use crate::sys::lock;
use napi_derive::napi;

/// Writes down from now on which locks this thread takes, and which system calls it makes.
#[napi]
pub fn trace_locks() {
    lock::start();
}

/// What it did since then, in order: `Takes Memory 7`, `Calls mmap`, `Frees Memory 7`.
#[napi]
pub fn traced_locks() -> Vec<String> {
    let said = |event| match event {
        lock::Event::Takes { level, lock } => format!("Takes {level:?} {lock}"),
        lock::Event::Frees { level, lock } => format!("Frees {level:?} {lock}"),
        lock::Event::Calls(name) => format!("Calls {name}"),
    };
    lock::take().into_iter().map(said).collect()
}
