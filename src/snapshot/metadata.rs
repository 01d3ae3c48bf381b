//! What a snapshot's file says besides the bytes of the memory, and what of it can be so.
//!
//! Two sections hold it. The *metadata* says which pages the file holds, what was mapped, and for
//! which module it is. The *state* is what the instance keeps outside of its memory: mutable
//! globals and tables. The types here are the format: a field that is renamed, added or removed is
//! another version of it (see `format.rs`).

use super::format::invalid;
use super::wire::{List, Text};
use crate::access::Access;
use crate::error::Result;
use crate::sys::alloc::{self, Refused};
use crate::sys::page::{HUGE_PAGE_BYTES, PageAligned, PageSpan};
use serde::{Deserialize, Serialize};

/// Each costs every memory that shows them a VMA or two; a hostile file could ask for as many as
/// there are.
pub(super) const MOST_PIECES: usize = 16;
/// More free spans than that are forgotten: they go into a restored memory's table one by one.
pub(super) const MOST_FREE: usize = 4096;
/// A process has no more mappings, unless vm.max_map_count was raised.
const MOST_MAPPINGS: usize = 1 << 16;

/// V8's bounds: of globals of a module, of the length of a table, of a name's bytes.
const MOST_GLOBALS: usize = 1_000_000;
const MOST_TABLES: usize = 100_000;
const MOST_ENTRIES: usize = 10_000_000;
const MOST_NAME_BYTES: usize = 100_000;
/// As many functions as a module may have, and as many other values.
const MOST_VALUES: usize = 2_000_000;
const MOST_STRING_BYTES: usize = 1 << 20;

/// Spans are counted in pages of this size, whatever those of the host.
pub(super) const UNIT_BYTES: u64 = 4096;
/// As many as the largest memory has.
const MOST_UNITS: usize = 1 << 24;

/// How many bytes the metadata may take: the more, the more pages and mappings a memory can have.
/// The spans of one list never take more than a byte for each page of the memory.
pub(super) fn most_metadata_bytes(byte_length: PageAligned) -> u64 {
    let in_proportion = byte_length.get() / 8;
    in_proportion.min(31 << 20).saturating_add(1 << 20)
}

/// How many the state may take: enough for a table of 300,000 functions. A file can make some ten
/// times as much of objects.
pub(super) const MOST_STATE_BYTES: u64 = 16 << 20;

pub type Name = Text<MOST_NAME_BYTES>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AddressType {
    #[default]
    I32,
    I64,
}

/// What the caller wants to know again when the snapshot is loaded elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    pub address: AddressType,
    /// `sha256-` and hexadecimal digits.
    pub module: Option<Text<71>>,
    /// Why no other process can use it.
    pub unsaveable: Option<Text<{ MOST_NAME_BYTES + 4096 }>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Metadata {
    pub(super) about: About,
    /// What of the memory is laid from the file; all else of its own pages is zeros.
    pub(super) pieces: Spans,
    /// Pages of private mappings that had been written.
    pub(super) written: Spans,
    /// Where mappings may be put: the memory grew by it for them, and it is none.
    pub(super) free: Spans,
    pub(super) mappings: List<SavedMapping, MOST_MAPPINGS>,
}

/// Spans of pages, in order, none over another.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Spans {
    /// Of each: pages between the end of the one before and its start.
    gaps: List<u32, MOST_UNITS>,
    /// Of each: its pages.
    lengths: List<u32, MOST_UNITS>,
}

/// A mapping or window, as a file has it: it holds no region.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedMapping {
    /// Where it starts, in bytes from the start of the memory.
    pub address: u64,
    /// Bytes of its place, in whole pages.
    pub byte_length: u64,
    pub access: Access,
    /// `None` for an empty window.
    pub shown: Option<SavedPart>,
    /// `None` for a mapping.
    pub window: Option<SavedWindow>,
    /// Whether its place goes back to the free space past the memory's original end.
    pub from_free: bool,
    /// Whether missing pages end its use.
    pub strict: bool,
}

/// The part of a region that is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedPart {
    pub region_name: Text<4096>,
    pub byte_offset: u64,
    pub byte_length: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedWindow {
    pub access: Access,
    /// Whether accesses to its tail trap.
    pub tail_traps: bool,
}

/// What an instance keeps outside of its memory.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// All that a global or table holds, each once; they name it by its place here.
    pub values: List<Value, MOST_VALUES>,
    pub globals: List<SavedGlobal, MOST_GLOBALS>,
    pub tables: List<SavedTable, MOST_TABLES>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Value {
    Null,
    Undefined,
    Boolean(bool),
    Number(f64),
    /// In decimal digits.
    Bigint(Text<41>),
    String(Text<MOST_STRING_BYTES>),
    Function(SavedFunction),
}

/// A function of the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedFunction {
    pub index: u32,
    pub export_name: Option<Name>,
    pub whose: Whose,
}

/// Whether an instance showed a function when it was new.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Whose {
    Own,
    Foreign,
    Unknown,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedGlobal {
    pub name: Name,
    /// Which of the state's values.
    pub value: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedTable {
    pub name: Name,
    pub length: u32,
    /// What is not null, in order.
    pub runs: List<SavedRun, MOST_ENTRIES>,
}

/// Entries that follow each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedRun {
    pub at: u32,
    /// Of each entry: which of the state's values.
    pub values: List<u32, MOST_ENTRIES>,
}

impl Spans {
    /// Spans must be in order, none over another.
    pub(super) fn of(spans: &[PageSpan]) -> Result<Self, Refused> {
        let units = |from: PageAligned, to: PageAligned| {
            let bytes = to.get().saturating_sub(from.get());
            u32::try_from(bytes / UNIT_BYTES).unwrap_or(u32::MAX)
        };
        let (mut gaps, mut lengths) =
            (alloc::with_room(spans.len())?, alloc::with_room(spans.len())?);
        let mut at = PageAligned::ZERO;
        for span in spans {
            gaps.push(units(at, span.start()));
            lengths.push(units(span.start(), span.end()));
            at = span.end();
        }
        // No memory has more pages.
        Ok(Self {
            gaps: List::new(gaps).unwrap_or_default(),
            lengths: List::new(lengths).unwrap_or_default(),
        })
    }

    /// In a memory of this size, and at most so many.
    pub(super) fn decode(&self, byte_length: PageAligned, most: usize) -> Result<Vec<PageSpan>> {
        let damaged = || invalid("its pages are not in order, or not in the memory");
        if self.gaps.len() != self.lengths.len() || self.lengths.len() > most {
            return Err(damaged());
        }
        let mut spans = alloc::with_room(self.lengths.len())?;
        let mut at = 0_u64;
        for (gap, length) in self.gaps.iter().zip(self.lengths.iter()) {
            // Both are below 2^32, and `at` is below the memory's length: none of this overflows.
            let start = at.saturating_add(u64::from(*gap).saturating_mul(UNIT_BYTES));
            let end = start.saturating_add(u64::from(*length).saturating_mul(UNIT_BYTES));
            let span = PageAligned::new(start).zip(PageAligned::new(end));
            let span = span.and_then(|(start, end)| PageSpan::between(start, end));
            spans.push(span.filter(|span| span.end() <= byte_length).ok_or_else(damaged)?);
            at = end;
        }
        Ok(spans)
    }
}

impl SavedMapping {
    pub fn span(&self) -> Option<PageSpan> {
        PageSpan::new(PageAligned::new(self.address)?, PageAligned::new(self.byte_length)?)
    }

    /// Whether it is one that can be, whatever the region.
    fn is_sound(&self) -> bool {
        let Some(span) = self.span() else { return false };
        let fits = |part: &SavedPart| {
            let shown = part.pages().is_some_and(|pages| {
                // A mapping fills its place, up to the region's page.
                let rest = span.length().checked_sub(pages);
                rest.is_some_and(|rest| self.window.is_some() || rest.get() < HUGE_PAGE_BYTES)
            });
            shown
                && part.byte_length > 0
                && part.byte_offset.checked_add(part.byte_length).is_some()
        };
        match (&self.shown, self.window) {
            (None, window) => window.is_some(),
            (Some(part), Some(window)) => fits(part) && window.access.allows(self.access),
            (Some(part), None) => fits(part),
        }
    }
}

impl SavedPart {
    /// Which byte of its first page is the first that is shown.
    pub fn skip(&self) -> u64 {
        self.byte_offset.saturating_sub(PageAligned::round_down(self.byte_offset).get())
    }

    /// The bytes of its pages.
    fn pages(&self) -> Option<PageAligned> {
        PageAligned::round_up(self.skip().checked_add(self.byte_length)?)
    }

    /// What of a mapping at this span it takes.
    fn within(&self, span: PageSpan) -> Option<PageSpan> {
        PageSpan::new(span.start(), self.pages()?)?.within(span)
    }
}

impl Metadata {
    /// Refuses what no snapshot says. Spans are checked where they are decoded.
    pub(super) fn check(&self, byte_length: PageAligned, written: &[PageSpan]) -> Result<()> {
        let is_digest = |digest: &str| {
            digest.strip_prefix("sha256-").is_some_and(|digits| {
                digits.len() == 64
                    && digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
            })
        };
        if self.about.module.as_deref().is_some_and(|digest| !is_digest(digest)) {
            return Err(invalid("its digest of the module is none"));
        }
        let mut at = PageAligned::ZERO;
        for mapping in self.mappings.iter() {
            let span =
                mapping.span().filter(|span| span.start() >= at && span.end() <= byte_length);
            let Some(span) = span.filter(|_| mapping.is_sound()) else {
                return Err(invalid("its mappings lie over each other or outside of the memory"));
            };
            at = span.end();
        }
        // Writing to others on a restore would end the process.
        let lies_in_one = |span: &PageSpan| {
            let ends_before =
                |mapping: &SavedMapping| mapping.span().is_some_and(|it| it.end() <= span.start());
            let mapping = self.mappings.get(self.mappings.partition_point(ends_before))?;
            let shown = mapping.shown.as_ref().filter(|_| mapping.access.is_copy_on_write())?;
            span.within(shown.within(mapping.span()?)?).filter(|inside| inside == span)
        };
        if !written.iter().all(|span| lies_in_one(span).is_some()) {
            return Err(invalid("it has written pages outside of private mappings"));
        }
        Ok(())
    }
}

impl State {
    /// Refuses what no instance can hold.
    pub(super) fn check(&self) -> Result<()> {
        let damaged = |why: &str| invalid(format!("its globals or tables are damaged: {why}"));
        let is_value = |index: u32| crate::sys::to_usize(index.into()) < self.values.len();
        let is_sound = |value: &Value| match value {
            Value::Bigint(digits) => is_integer(digits),
            _ => true,
        };
        if !self.values.iter().all(is_sound) {
            return Err(damaged("a value is none"));
        }
        if !self.globals.iter().all(|global| is_value(global.value)) {
            return Err(damaged("a global has no value"));
        }
        // Of all tables together, so that a file of some bytes can't ask for all memory.
        let mut left = MOST_ENTRIES;
        for table in self.tables.iter() {
            left = left
                .checked_sub(crate::sys::to_usize(table.length.into()))
                .ok_or_else(|| damaged("the tables have too many entries"))?;
            let mut at = 0;
            for run in table.runs.iter() {
                let length = u64::try_from(run.values.len()).unwrap_or(u64::MAX);
                let end = u64::from(run.at).saturating_add(length);
                if u64::from(run.at) < at || length == 0 || end > table.length.into() {
                    return Err(damaged("a table's entries are not in order, or not in the table"));
                }
                if !run.values.iter().all(|value| is_value(*value)) {
                    return Err(damaged("a table's entry has no value"));
                }
                at = end;
            }
        }
        let names =
            self.globals.iter().map(|it| &it.name).chain(self.tables.iter().map(|it| &it.name));
        let mut names: Vec<&str> = alloc::collected(names.map(|name| &**name))?;
        names.sort_unstable();
        if names.windows(2).any(|pair| matches!(pair, [first, second] if first == second)) {
            return Err(damaged("a name is there twice"));
        }
        Ok(())
    }
}

/// As `BigInt` writes it.
fn is_integer(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_plain = !digits.starts_with('0') || text == "0";
    (1..=40).contains(&digits.len())
        && is_plain
        && digits.bytes().all(|digit| digit.is_ascii_digit())
}
