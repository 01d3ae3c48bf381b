//! wasm-hostmap: host memory in the linear memories of WebAssembly modules, without a copy.
//!
//! ```text
//!  index.js, lib/      checks arguments, words errors, holds the JavaScript objects
//!  ----------------------------------------------------------------------------------- Node-API
//!  js/                 converts arguments, calls the core, nothing else
//!  ------------------------------------------------------------------------- no Node from here on
//!  region.rs           bytes behind a file descriptor: memfds and files
//!  memory.rs           V8's linear memories: where they lie, what guards them, mapping into them   <- start here
//!  window.rs           mappings that slide over regions larger than a memory
//!  huge.rs             filling memfds with huge pages that the kernel gathers, and counting them
//!  mirror.rs ahead.rs   what makes slides one call, and brings pages in before the module asks for them
//!  snapshot/           a memory's state at one moment, and putting it back
//!  mapping.rs          the mapping table of a memory: what is mapped where, and what is free
//!  module/             modules: exports for the state that they hide
//!  fault/              the fault guard: what a signal handler does about faults in mappings
//!  access.rs           the access modes of mappings
//!  error/              what can go wrong: causes, words and codes
//!  diagnose.rs         why V8 or the kernel refused
//!  ----------------------------------------------------------------------------------- system calls
//!  sys/                the only callers of the kernel
//! ```
//!
//! The trick, and what makes it safe, is told at the head of `memory.rs`.

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
pub mod region;
pub mod share;
pub mod snapshot;
pub mod sys;
pub mod v8;
pub mod window;
