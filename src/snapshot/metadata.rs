//! What a snapshot's file says besides the bytes of the memory.
//!
//! Two sections say it. The *metadata* says which pages the file holds, what was mapped, and for
//! which module it is. The *state* is what the instance keeps outside of its memory: mutable
//! globals and tables. The types here are the format, in MessagePack with the name of each field
//! (`src/wire/`).
//!
//! # To add a field
//!
//! 1. Add it here, to [`Metadata`], [`About`], [`SavedMapping`] or [`State`]. Bound it: a text or
//!    list has its greatest length in its type.
//! 2. Refuse values that no snapshot has, in `Metadata::check` or `State::check` below: files are
//!    anybody's.
//! 3. Count up `VERSION` in `format.rs`. Files of other versions are refused by that number. Then
//!    write the fuzzer's corpus again: `node fuzz/seeds.mjs`, with the new addon.
//! 4. Write it: in `KeptMapping::to_saved` (mod.rs) if it is a mapping's, else in `complete.rs`.
//! 5. Read it: in `grant.rs` if it is a mapping's. The loader hands out [`About`] and [`State`]
//!    whole.
//! 6. If JavaScript gives or gets it, name it in the `Native...` object of
//!    `src/js/snapshot_data.rs`, and in `lib/snapshot/`: `capture.js` gives it, `load.js` gets it
//!    from a file, `restore.js` puts it back, and `grants.js` has what users see of a mapping. A
//!    part of the state also goes through `lib/instance/encoding.js`.
//! 7. Add it to `usual()` in `tests.rs`, whose tests then write, read and damage it.
//!
//! Nothing here reads a file or a memory.

use super::image::Extents;
use super::spans::{MOST_PIECES, SavedSpans, UNIT_BYTES};
use crate::access::Access;
use crate::error::{Error, Flaw, Result};
use crate::sys::alloc;
use crate::sys::page::{HUGE_PAGE_BYTES, PageAligned, PageSpan};
use crate::wire::{self, List, Text, Unread};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// More free spans than that are forgotten: they go into a restored memory's table one by one.
pub(super) const MOST_FREE: usize = 4096;
/// A process has no more mappings, unless vm.max_map_count was raised.
pub(super) const MOST_MAPPINGS: usize = 1 << 16;

/// V8's bounds: of globals of a module, of the length of a table, of a name's bytes.
const MOST_GLOBALS: usize = 1_000_000;
const MOST_TABLES: usize = 100_000;
const MOST_ENTRIES: usize = 10_000_000;
const MOST_NAME_BYTES: usize = 100_000;
/// As many functions as a module may have, and as many other values.
const MOST_VALUES: usize = 2_000_000;
const MOST_STRING_BYTES: usize = 1 << 20;

/// How many bytes the metadata may take: more for a memory that can have more pages and mappings.
/// The spans of one list never take more than a byte for each page of the memory.
pub(super) fn most_metadata_bytes(byte_length: PageAligned) -> u64 {
    const LEAST: u64 = 1 << 20;
    const MOST: u64 = 32 << 20;
    let in_proportion = byte_length.get() / 8;
    in_proportion.checked_add(LEAST).map_or(MOST, |bytes| bytes.min(MOST))
}

/// How many bytes the state may take: enough for a table of 300,000 functions. The objects that a
/// file is read into can take some ten times as much memory.
pub(super) const MOST_STATE_BYTES: u64 = 16 << 20;

pub type Name = Text<MOST_NAME_BYTES>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AddressType {
    #[default]
    I32,
    I64,
}

/// What the caller gets back when it loads the snapshot elsewhere.
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
    /// What of the memory is mapped from the file: see [`Extents`].
    pub(super) pieces: SavedSpans,
    /// Pages of private mappings that had been written.
    pub(super) written: SavedSpans,
    /// Where mappings may be put.
    pub(super) free: SavedSpans,
    pub(super) mappings: List<SavedMapping, MOST_MAPPINGS>,
}

/// A mapping or window in a file, which names its region and does not hold it.
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
        let first_page = PageAligned::round_down(self.byte_offset);
        self.byte_offset.checked_sub(first_page.get()).expect("it was rounded down")
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
    /// Reads the metadata of a snapshot of a memory of this size, and refuses what no snapshot
    /// says.
    pub(super) fn read(bytes: &[u8], byte_length: PageAligned) -> Result<(Self, Extents)> {
        let metadata: Self = decode(bytes, "metadata")?;
        let most_written = crate::sys::to_usize(byte_length.get() / UNIT_BYTES);
        let extents = Extents {
            pieces: metadata.pieces.decode(byte_length, MOST_PIECES)?,
            written: metadata.written.decode(byte_length, most_written)?,
            free: metadata.free.decode(byte_length, MOST_FREE)?,
        };
        metadata.check(byte_length, &extents.written)?;
        Ok((metadata, extents))
    }

    /// Spans were checked when they were decoded.
    fn check(&self, byte_length: PageAligned, written: &[PageSpan]) -> Result<()> {
        let is_digest = |digest: &str| {
            digest.strip_prefix("sha256-").is_some_and(|digits| {
                digits.len() == 64
                    && digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
            })
        };
        if self.about.module.as_deref().is_some_and(|digest| !is_digest(digest)) {
            return Err(Flaw::ModuleDigest.into());
        }
        let mut at = PageAligned::ZERO;
        for mapping in self.mappings.iter() {
            let span =
                mapping.span().filter(|span| span.start() >= at && span.end() <= byte_length);
            let Some(span) = span.filter(|_| mapping.is_sound()) else {
                return Err(Flaw::Mappings.into());
            };
            at = span.end();
        }
        // A restore writes these pages. A write to another kind of mapping would end the process.
        let is_in_private = |span: &PageSpan| {
            let ends_before =
                |mapping: &SavedMapping| mapping.span().is_some_and(|it| it.end() <= span.start());
            let mapping = self.mappings.get(self.mappings.partition_point(ends_before))?;
            let shown = mapping.shown.as_ref().filter(|_| mapping.access.is_copy_on_write())?;
            span.within(shown.within(mapping.span()?)?).filter(|inside| inside == span)
        };
        if !written.iter().all(|span| is_in_private(span).is_some()) {
            return Err(Flaw::WrittenPages.into());
        }
        Ok(())
    }
}

impl State {
    /// Reads a state, and refuses what no instance can hold.
    pub(super) fn read(bytes: &[u8]) -> Result<Self> {
        let state: Self = decode(bytes, "list of globals and tables")?;
        state.check()?;
        Ok(state)
    }

    pub(super) fn check(&self) -> Result<()> {
        let damaged = |why| Error::from(Flaw::State(why));
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
                let length = crate::sys::to_u64(run.values.len());
                let end = u64::from(run.at).checked_add(length).expect("a list is bounded");
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

/// Reads a section of the file. Its name is for the error.
fn decode<T: DeserializeOwned + Serialize>(bytes: &[u8], section: &'static str) -> Result<T> {
    wire::decode(bytes).map_err(|unread| match unread {
        Unread::NoMemory(refused) => refused.into(),
        Unread::NoValue(why) => Flaw::Encoding { section, why }.into(),
        Unread::OtherEncoding => Flaw::OtherEncoding { section }.into(),
    })
}

/// As `BigInt` writes it.
fn is_integer(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_plain = !digits.starts_with('0') || text == "0";
    (1..=40).contains(&digits.len())
        && is_plain
        && digits.bytes().all(|digit| digit.is_ascii_digit())
}
