//! Rewrites modules, so that JavaScript can reach the state of their instances and the host can
//! decide about growth.
//!
//! Between two calls an instance keeps its memory, its mutable globals, its tables, which of its
//! passive segments were dropped, and what references in globals and tables lead to. JavaScript
//! reaches what is exported, and compilers export little: hardly any module exports its stack
//! pointer. So [`expose_state`] rewrites the export section, and copies all other sections byte for
//! byte. It adds a custom section with a [`Report`] of what it found, because a compiled module
//! shows nothing else. [`instrument_growth`] rewrites each `memory.grow` in a module's code.
//!
//! The bytes are untrusted and not validated; V8 does that. Invalid bytes are an error here only if
//! they can't be read. Time and memory are linear in the size of the module, whatever its headers
//! claim. Nothing here recurses. Counts above the [limits](limits) that all engines share are
//! refused before anything is allocated for them.
//!
//! ```text
//! names.rs    names in the rewritten module
//! limits.rs   how many of each thing a module may have
//! buffers.rs  fallible allocation and checked sums
//! report.rs   the report of a module's state
//! section.rs  the custom section that holds it
//! types.rs    which values JavaScript can read
//! effects.rs  what code can do after the start function
//! parse.rs    reads a module into a few bytes for each thing in it
//! exports.rs  writes the export section
//! expose.rs   makes the report, and writes the module that exports its state
//! growth.rs   replaces memory.grow in code by a call of the host
//! ```

mod buffers;
mod effects;
mod exports;
mod expose;
mod growth;
mod limits;
mod names;
mod parse;
mod report;
mod section;
#[cfg(test)]
mod tests;
mod types;

pub use expose::{Exposed, expose_state};
pub use growth::{GrownMemory, Instrumented, instrument_growth};
pub use limits::MOST_ADDED;
pub use names::{PREFIX, SECTION};
pub use report::{Added, Few, Import, Memory, Report, Segment, Table, Unreadable, What};
