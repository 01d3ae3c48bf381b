//! Modules: which of their state can be reached from outside, and ways to reach more of it.
//!
//! What an instance keeps between two calls is its memory, its mutable globals, its tables, which
//! of its passive segments were dropped, and whatever references in globals and tables lead to.
//! JavaScript reaches what is exported, and compilers export little: hardly any module shows its
//! stack pointer. So [`expose_state`] rewrites the export section. All other sections stay as they
//! are, byte for byte; what it found, the [`Report`], goes into a custom section, since of a
//! compiled module nothing else is left to look at. [`instrument_growth`] rewrites the
//! `memory.grow` of a module's code.
//!
//! The bytes are anybody's, and nobody has validated them: that is V8's work. What is wrong with
//! them is an error here only where it can't be read. Time and memory are linear in the size of the
//! module whatever its headers claim, nothing here recurses, and counts above the [limits](limits)
//! that all engines share are refused before they are believed.
//!
//! ```text
//! names.rs    names that the rewritten module has
//! limits.rs   how much of each thing a module may have
//! buffers.rs  lists whose size a module decides
//! report.rs   what is known of a module's state
//! section.rs  the custom section that holds it
//! types.rs    which values JavaScript can read
//! effects.rs  what code can do after the start function
//! parse.rs    reads a module, and keeps of it what the others need, a few bytes for each thing
//! exports.rs  the export section that is written
//! expose.rs   finds out the report, and writes the module that shows its state
//! growth.rs   memory.grow in code becomes a call of the host
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
pub use report::{Added, Few, Import, Memory, Report, Segment, Unreadable, What};
