//! Writes the export section: the module's own exports unchanged, then those that are added.

use super::buffers::{count, push, reserve, slice, sum};
use super::limits::MOST_ADDED;
use super::names::PREFIX;
use super::parse::Parsed;
use super::report::{Added, StateKind};
use crate::error::{ModuleError, Result};
use wasm_encoder::Encode;
use wasmparser::ExternalKind;

impl StateKind {
    fn of(kind: ExternalKind) -> Option<Self> {
        match kind {
            ExternalKind::Table => Some(Self::Table),
            ExternalKind::Memory => Some(Self::Memory),
            ExternalKind::Global => Some(Self::Global),
            _ => None,
        }
    }

    /// Its code in export sections.
    fn byte(self) -> u8 {
        match self {
            Self::Table => 1,
            Self::Memory => 2,
            Self::Global => 3,
        }
    }
}

#[derive(Debug)]
pub(super) struct Exports<'a> {
    count: u32,
    /// Whether the module has a section, even an empty one.
    has_section: bool,
    entries: Vec<u8>,
    /// The module's own names that start with [`PREFIX`], in order.
    taken: Vec<&'a str>,
    /// The module's own exports of things that hold state, in order.
    own: Vec<(StateKind, u32, &'a str)>,
    pub(super) added: Vec<Added>,
}

impl<'a> Exports<'a> {
    /// The module's own exports, without those that `expose_state` added before.
    pub(super) fn own_of(bytes: &'a [u8], module: &Parsed<'a>) -> Result<Self> {
        let mut before = Vec::new();
        for added in module.known.iter().flat_map(|known| &known.added) {
            push(&mut before, added.name())?;
        }
        before.sort_unstable();
        Self::without(bytes, module, &before)
    }

    /// All exports.
    pub(super) fn all_of(bytes: &'a [u8], module: &Parsed<'a>) -> Result<Self> {
        Self::without(bytes, module, &[])
    }

    /// The exports that have none of these names. The names are in order.
    fn without(bytes: &'a [u8], module: &Parsed<'a>, before: &[String]) -> Result<Self> {
        let has_section = !module.exports.is_empty();
        let entries = Vec::new();
        let mut exports = Self {
            count: 0,
            has_section,
            entries,
            taken: Vec::new(),
            own: Vec::new(),
            added: Vec::new(),
        };
        for section in &module.exports {
            let range = section.range();
            reserve(&mut exports.entries, slice(bytes, &range)?.len())?;
            let mut entries = section.clone().into_iter_with_offsets().peekable();
            while let Some(export) = entries.next() {
                let (start, export) = export?;
                let end = match entries.peek() {
                    Some(Ok((offset, _))) => *offset,
                    _ => range.end,
                };
                let kind = StateKind::of(export.kind);
                let might_be_ours = export.name.starts_with(PREFIX);
                if might_be_ours
                    && kind.is_some()
                    && before.binary_search_by(|name| name.as_str().cmp(export.name)).is_ok()
                {
                    continue;
                }
                count(&mut exports.count);
                exports.entries.extend_from_slice(slice(bytes, &(start..end))?);
                if might_be_ours {
                    push(&mut exports.taken, export.name)?;
                }
                if let Some(kind) = kind {
                    push(&mut exports.own, (kind, export.index, export.name))?;
                }
            }
        }
        exports.taken.sort_unstable();
        // Names are in the order of the section, so the first name of each thing comes first.
        exports.own.sort_unstable_by_key(|&(kind, index, name)| (kind, index, name.as_ptr()));
        Ok(exports)
    }

    /// How many there are now.
    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// The first name by which the module itself exports a thing.
    pub(super) fn own_name(&self, kind: StateKind, index: u32) -> Option<&'a str> {
        let at = self.own.partition_point(|&(other, it, _)| (other, it) < (kind, index));
        self.own
            .get(at)
            .filter(|&&(other, it, _)| (other, it) == (kind, index))
            .map(|&(_, _, name)| name)
    }

    /// Whether the module has an export of a name that starts with [`PREFIX`].
    pub(super) fn is_taken(&self, name: &str) -> bool {
        self.taken.binary_search(&name).is_ok()
    }

    /// Adds an export, and returns its name.
    pub(super) fn add(&mut self, mut added: Added) -> Result<String> {
        if self.added.len() >= MOST_ADDED as usize {
            return Err(ModuleError::HidesTooMuch { most: MOST_ADDED }.into());
        }
        let mut name = added.name();
        while self.is_taken(&name) {
            count(&mut added.attempt);
            name = added.name();
        }
        let (kind, index) = added.thing();
        reserve(&mut self.entries, sum([name.len(), 11]))?;
        name.as_str().encode(&mut self.entries);
        self.entries.push(kind.byte());
        index.encode(&mut self.entries);
        count(&mut self.count);
        push(&mut self.added, added)?;
        Ok(name)
    }

    /// The contents of the section; `None` if there is none.
    pub(super) fn section(&self) -> Result<Option<Vec<u8>>> {
        if self.count == 0 && !self.has_section {
            return Ok(None);
        }
        let mut data = Vec::new();
        reserve(&mut data, sum([self.entries.len(), 5]))?;
        self.count.encode(&mut data);
        data.extend_from_slice(&self.entries);
        Ok(Some(data))
    }
}
