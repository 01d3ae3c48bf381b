//! wasm-hostmap: host memory in the linear memories of WebAssembly modules, without a copy.
//!
//! ```text
//!  index.js, lib/   checks arguments, words errors, holds the JavaScript objects
//!  ------------------------------------------------------------------------------- Node-API
//!  js/              converts arguments and calls the rooms below
//!  ------------------------------------------------------------------------------- no Node below
//!  module/          reads and rewrites the bytes of a module
//!  snapshot/        the state of a memory at one moment: taken, restored and stored
//!  window/          mappings that slide
//!  memory/          linear memories and the mappings in them                   <- start here
//!  region/          bytes behind a file descriptor: memfds, files and views of them
//!  names/           tokens in a folder, by name
//!  share/           regions and snapshots for other threads and processes
//!  fault/           what a signal handler does about faults in mappings
//!  error/           causes, words and codes
//!  diagnose.rs      why V8 or the kernel refused
//!  wire/            how descriptions are stored: MessagePack, bounded
//!  access.rs        the kinds of access
//!  v8/              what we know of V8
//!  totals.rs        what the process has done, in numbers
//!  ------------------------------------------------------------------------------- system calls
//!  sys/             the only callers of the kernel
//! ```
//!
//! A room uses those below it. The trick, and what makes it safe, is told at the head of
//! `memory/mod.rs`. `ARCHITECTURE.md` draws the arrows; `CONTRIBUTING.md` says where to change
//! what.

// Files that need `unsafe` allow it by name, and say what for.
#![deny(unsafe_code)]
// Tests may let arithmetic panic.
#![cfg_attr(
    test,
    allow(
        clippy::arithmetic_side_effects,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss
    )
)]

pub mod access;
pub mod diagnose;
pub mod error;
pub mod fault;
// The registration of its classes is left out of test builds, so they would be dead code there.
#[cfg(all(feature = "addon", not(test)))]
mod js;
pub mod memory;
pub mod module;
pub mod names;
pub mod paging;
pub mod region;
pub mod share;
pub mod snapshot;
pub mod sys;
pub mod totals;
pub mod v8;
pub mod window;
pub mod wire;
