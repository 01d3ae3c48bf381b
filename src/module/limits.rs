//! How many of each thing a module may have.
//!
//! Most are the limits of the JavaScript interface's specification, which V8 has too. Counts above
//! them are refused before anything is allocated for them.

use crate::error::{ModuleError, Result};

pub(super) const MODULE_BYTES: u32 = 1 << 30;
/// Of an import or export. wasmparser refuses longer names.
pub(super) const MOST_NAME_BYTES: usize = 100_000;
pub(super) const TYPES: u32 = 1_000_000;
pub(super) const FUNCTIONS: u32 = 1_000_000;
pub(super) const IMPORTS: u32 = 1_000_000;
pub(super) const EXPORTS: u32 = 1_000_000;
pub(super) const GLOBALS: u32 = 1_000_000;
pub(super) const DATA_SEGMENTS: u32 = 100_000;
pub(super) const ELEMENT_SEGMENTS: u32 = 10_000_000;
pub(super) const TABLES: u32 = 100_000;

/// How many exports are added at most. Node 20 and 22 accept no more exports in all; later versions
/// accept a million. Each becomes a JavaScript object in every instance.
pub const MOST_ADDED: u32 = 100_000;

/// How many memories of a module can have their growth watched. No process could make more: each
/// takes gigabytes of address space.
pub(super) const MOST_GROWN: usize = 1000;

pub(super) fn at_most(things: &'static str, count: u32, limit: u32) -> Result<()> {
    if count <= limit {
        return Ok(());
    }
    Err(ModuleError::TooMany { things, count, limit }.into())
}
