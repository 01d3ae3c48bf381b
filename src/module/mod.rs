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
//! parse.rs    reads a module, and keeps of it what the others need, a few bytes for each thing
//! effects.rs  what code can do after the start function
//! exports.rs  the export section that is written
//! report.rs   what is known of a module's state, and the custom section that holds it
//! growth.rs   memory.grow in code becomes a call of the host
//! ```

mod effects;
mod exports;
mod growth;
mod parse;
mod report;
#[cfg(test)]
mod tests;

pub use growth::{GrownMemory, Instrumented, instrument_growth};
pub use report::{Added, Few, Memory, Report, Segment, Unreadable, What};

use crate::error::{Error, ModuleError, Result};
use crate::sys::inject;
use exports::Exports;
use nix::errno::Errno;
use parse::Parsed;
use std::ops::Range;
use wasm_encoder::Encode;

/// The custom section with the report.
pub const SECTION: &str = "wasm-hostmap";
/// How the names of exports start that were added.
pub const PREFIX: &str = "hostmap:";

const EXPORT_SECTION: u8 = 7;
/// Start, element, code, data and data count: what may follow the export section.
const AFTER_EXPORTS: [u8; 5] = [8, 9, 10, 11, 12];

/// The most of each thing that any engine takes: those of the JavaScript interface's specification,
/// which V8 has too.
mod limits {
    pub const MODULE_BYTES: usize = 1 << 30;
    pub const TYPES: u32 = 1_000_000;
    pub const FUNCTIONS: u32 = 1_000_000;
    pub const IMPORTS: u32 = 1_000_000;
    pub const EXPORTS: u32 = 1_000_000;
    pub const GLOBALS: u32 = 1_000_000;
    pub const DATA_SEGMENTS: u32 = 100_000;
    pub const ELEMENT_SEGMENTS: u32 = 10_000_000;
    pub const TABLES: u32 = 100_000;
}

/// The most exports that are added: as many as each V8 takes (Node 20 and 22 take no more in all,
/// later ones a million). Each becomes a JavaScript object in every instance.
pub const MOST_ADDED: u32 = 100_000;

/// A module that shows its state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exposed {
    pub bytes: Vec<u8>,
    pub report: Report,
}

/// Exports the memory, if there is just one, the mutable globals and the tables that can change, as
/// far as they are not exported. What was exposed already comes out as it went in.
pub fn expose_state(bytes: &[u8]) -> Result<Exposed> {
    let module = Parsed::read(bytes)?;
    let mut exports = Exports::own_of(bytes, &module)?;
    let report = report::make(&module, &mut exports)?;
    let section = exports.section()?;
    let data = report.encode()?;

    let mut out = Vec::new();
    let copied = bytes.len().saturating_add(section.as_ref().map_or(0, Vec::len));
    reserve(&mut out, copied.saturating_add(data.len()).saturating_add(PER_SECTION * 3))?;
    out.extend_from_slice(&HEADER);
    let mut section = section.as_deref();
    for &(id, ref range) in &module.sections {
        let is_export = id == EXPORT_SECTION;
        if (is_export || AFTER_EXPORTS.contains(&id))
            && let Some(section) = section.take()
        {
            write_section(&mut out, EXPORT_SECTION, &[section])?;
        }
        if !is_export {
            write_section(&mut out, id, &[slice(bytes, range)?])?;
        }
    }
    if let Some(section) = section {
        write_section(&mut out, EXPORT_SECTION, &[section])?;
    }
    let mut name = Vec::new();
    SECTION.encode(&mut name);
    write_section(&mut out, 0, &[&name, &data])?;
    Ok(Exposed { bytes: out, report })
}

const HEADER: [u8; 8] = *b"\0asm\x01\0\0\0";
/// An id, and a length.
const PER_SECTION: usize = 6;

fn write_section(out: &mut Vec<u8>, id: u8, parts: &[&[u8]]) -> Result<()> {
    let length = parts.iter().map(|part| part.len()).fold(0, usize::saturating_add);
    let length_field = u32::try_from(length).map_err(|_| ModuleError::SectionTooLong)?;
    // Grows only where the first guess was too low: lengths may be written longer here than there.
    if out.capacity().saturating_sub(out.len()) < length.saturating_add(PER_SECTION) {
        reserve(out, length.saturating_add(PER_SECTION))?;
    }
    out.push(id);
    length_field.encode(out);
    for part in parts {
        out.extend_from_slice(part);
    }
    Ok(())
}

/// Room for so many more items: what a module asks for may be more than there is.
fn reserve<T>(list: &mut Vec<T>, more: usize) -> Result<()> {
    inject::trip("malloc").map_err(|sys| ModuleError::NoMemory { errno: sys.errno })?;
    list.try_reserve(more).map_err(|_| ModuleError::NoMemory { errno: Errno::ENOMEM }.into())
}

/// Appends an item.
fn push<T>(list: &mut Vec<T>, item: T) -> Result<()> {
    if list.len() == list.capacity() {
        reserve(list, 1)?;
    }
    list.push(item);
    Ok(())
}

/// What libraries allocate while they read or write so many bytes can't fail but by ending the
/// process. So room for `times` as much is taken here once, and given back.
fn room_for(byte_length: usize, times: usize) -> Result<()> {
    reserve(&mut Vec::<u8>::new(), byte_length.saturating_mul(times))
}

fn slice<'a>(bytes: &'a [u8], range: &Range<u64>) -> Result<&'a [u8]> {
    let start = usize::try_from(range.start).ok();
    let end = usize::try_from(range.end).ok();
    start
        .zip(end)
        .and_then(|(start, end)| bytes.get(start..end))
        .ok_or(ModuleError::CutSection.into())
}

impl From<wasmparser::Error> for Error {
    fn from(error: wasmparser::Error) -> Self {
        ModuleError::Unreadable { what: error.message().to_owned(), at: error.offset() }.into()
    }
}
