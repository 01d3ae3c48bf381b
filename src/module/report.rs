//! What is known of the state of a module's instances: data, and the names that follow from it.
//!
//! `expose.rs` finds it out. The types are also the format that `section.rs` stores, so a change of
//! a field is a change of the format: see there.

use super::buffers::count;
use super::limits::{MOST_ADDED, MOST_NAME_BYTES};
use super::names::PREFIX;
use crate::wire;
use serde::{Deserialize, Serialize};

const MOST_ADDED_ITEMS: usize = MOST_ADDED as usize;
/// How many things a message names.
const MOST_NAMED: usize = 5;
/// How many tables are told of one by one, and how long their names may be: an engine has three.
pub(super) const MOST_TABLES: usize = 1000;
pub(super) const MOST_TABLE_NAME_BYTES: usize = 1000;
/// A type in the text format.
const MOST_TYPE_BYTES: usize = 100;

/// The state of a module's instances. Its size depends only on how many exports were added.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// How many memories the module has, including imported ones.
    pub memory_count: u32,
    /// The memory, if there is exactly one.
    pub memory: Option<Memory>,
    /// How many exports the rewritten module has.
    pub export_count: u32,
    /// The exports that were added.
    #[serde(deserialize_with = "wire::list::<_, _, MOST_ADDED_ITEMS>")]
    pub added: Vec<Added>,
    /// How many globals are mutable.
    pub global_count: u32,
    /// How many tables the module's code, or a host that can reach them, may change after the start
    /// function.
    pub table_count: u32,
    /// Each of those tables; none of them where they are many, or have long names. Then anything
    /// may be true of them.
    #[serde(deserialize_with = "wire::list::<_, _, MOST_TABLES>")]
    pub tables: Vec<Table>,
    /// Mutable globals whose values JavaScript can't represent.
    pub unreadable_globals: Few<Unreadable>,
    pub unreadable_tables: Few<Unreadable>,
    /// Passive segments that code may drop after the start function, and that other code uses.
    pub dropped_segments: Few<Segment>,
    /// Whether globals or tables may hold objects with mutable fields.
    pub gc_objects: bool,
}

/// The first items of a list, for a message, and how many there are in all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, bound(deserialize = "T: Deserialize<'de>"))]
pub struct Few<T> {
    #[serde(deserialize_with = "wire::list::<_, _, MOST_NAMED>")]
    pub first: Vec<T>,
    pub count: u32,
}

impl<T> Default for Few<T> {
    fn default() -> Self {
        Self { first: Vec::new(), count: 0 }
    }
}

impl<T> Few<T> {
    pub(super) const MOST: usize = MOST_NAMED;

    pub(super) fn add(&mut self, item: impl FnOnce() -> T) {
        if self.first.len() < Self::MOST {
            self.first.push(item());
        }
        count(&mut self.count);
    }
}

/// Where a module imports something from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Import {
    #[serde(deserialize_with = "wire::text::<_, MOST_NAME_BYTES>")]
    pub module: String,
    #[serde(deserialize_with = "wire::text::<_, MOST_NAME_BYTES>")]
    pub name: String,
}

impl Import {
    pub(super) fn of(module: &str, name: &str) -> Self {
        Self { module: module.to_owned(), name: name.to_owned() }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// The name of its export.
    #[serde(deserialize_with = "wire::text::<_, MOST_NAME_BYTES>")]
    pub export: String,
    /// The export was added.
    pub added: bool,
    pub import: Option<Import>,
    /// In Wasm pages.
    pub initial: u64,
    pub maximum: Option<u64>,
    pub shared: bool,
    pub is_64: bool,
}

/// A table, and what the module's own code may do with it after the start function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// The name of its export.
    #[serde(deserialize_with = "wire::text::<_, MOST_TABLE_NAME_BYTES>")]
    pub export: String,
    /// The export was added.
    pub added: bool,
    pub imported: bool,
    /// Code may write to it, or grow it.
    pub changed: bool,
    /// Code may learn its size, and keep that.
    pub sized: bool,
}

/// A global or table: the name of its export, and its type in the text format.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unreadable {
    #[serde(deserialize_with = "wire::text::<_, MOST_NAME_BYTES>")]
    pub export: String,
    #[serde(rename = "type", deserialize_with = "wire::text::<_, MOST_TYPE_BYTES>")]
    pub ty: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Segment {
    Data(u32),
    Element(u32),
}

impl std::fmt::Display for Segment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Data(index) => write!(f, "data segment {index}"),
            Self::Element(index) => write!(f, "element segment {index}"),
        }
    }
}

/// The kinds of things that hold state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum StateKind {
    Table,
    Memory,
    Global,
}

/// An export that was added. Its name is made from this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Added {
    pub what: What,
    /// 1 if the first name was free. Otherwise the number at the end of the name: `:2`, `:3` ...
    pub attempt: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    Memory,
    Global(u32),
    Table(u32),
    /// The memory under one more name, which says that the instance may drop segments. JavaScript
    /// can't get from an instance to its module, where the report is.
    DroppedSegments,
    /// The same for objects with mutable fields.
    GcObjects,
}

impl What {
    pub(super) fn first_attempt(self) -> Added {
        Added { what: self, attempt: 1 }
    }
}

impl Added {
    /// The name of the export.
    pub fn name(&self) -> String {
        let name = match self.what {
            What::Memory => format!("{PREFIX}memory"),
            What::Global(index) => format!("{PREFIX}global:{index}"),
            What::Table(index) => format!("{PREFIX}table:{index}"),
            What::DroppedSegments => format!("{PREFIX}dropped-segments"),
            What::GcObjects => format!("{PREFIX}gc-objects"),
        };
        if self.attempt > 1 { format!("{name}:{}", self.attempt) } else { name }
    }

    pub(super) fn thing(&self) -> (StateKind, u32) {
        match self.what {
            What::Memory | What::DroppedSegments | What::GcObjects => (StateKind::Memory, 0),
            What::Global(index) => (StateKind::Global, index),
            What::Table(index) => (StateKind::Table, index),
        }
    }
}
