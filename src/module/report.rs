//! What is known of the state of a module's instances, and the custom section that holds it.

use super::effects::Effect;
use super::exports::{Exports, Kind};
use super::parse::Parsed;
use super::{MOST_ADDED, PREFIX, push, reserve};
use crate::error::Result;
use std::borrow::Cow;
use wasm_encoder::Encode;
use wasmparser::{BinaryReader, ValType};

const VERSION: u8 = 2;

/// The state of a module's instances. As small for a module with a million globals as for one with
/// ten.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// How many memories it has, imported ones included.
    pub memory_count: u32,
    /// The memory, if it has just one.
    pub memory: Option<Memory>,
    /// How many exports it has now.
    pub export_count: u32,
    /// Those of them that were added.
    pub added: Vec<Added>,
    /// How many globals can be written.
    pub global_count: u32,
    /// How many tables may change after the start function, by code of the module or by a host that
    /// they are shown to.
    pub table_count: u32,
    /// Those of the globals that JavaScript has no values for.
    pub unreadable_globals: Few<Unreadable>,
    pub unreadable_tables: Few<Unreadable>,
    /// Passive segments that may be dropped after the start function, and that somebody could miss
    /// then.
    pub dropped_segments: Few<Segment>,
    /// Whether globals or tables may hold objects with fields that can be written.
    pub gc_objects: bool,
}

/// The first of a list, to be named in a message, and how many there are in all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Few<T> {
    pub first: Vec<T>,
    pub count: u32,
}

impl<T> Default for Few<T> {
    fn default() -> Self {
        Self { first: Vec::new(), count: 0 }
    }
}

impl<T> Few<T> {
    const MOST: usize = 5;

    fn add(&mut self, item: impl FnOnce() -> T) {
        if self.first.len() < Self::MOST {
            self.first.push(item());
        }
        self.count = self.count.saturating_add(1);
    }
}

/// The module and name of an import.
pub type Import = (String, String);

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory {
    /// The name that it is exported by.
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

/// A global or table, by its export, and its type as in the text format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    pub export: String,
    pub ty: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
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

/// An export that was added. Its name follows from this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Added {
    pub what: What,
    /// Which name was free: the first one asked for, or that with `:2`, ...
    pub attempt: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    Memory,
    Global(u32),
    Table(u32),
    /// The memory once more. The name says of any instance that it may drop segments, since nothing
    /// leads from an instance to its module.
    DroppedSegments,
    /// The same for objects with fields that can be written.
    GcObjects,
}

impl What {
    fn first_attempt(self) -> Added {
        Added { what: self, attempt: 1 }
    }

    fn code(self) -> (u8, u32) {
        match self {
            Self::Memory => (0, 0),
            Self::Global(index) => (1, index),
            Self::Table(index) => (2, index),
            Self::DroppedSegments => (3, 0),
            Self::GcObjects => (4, 0),
        }
    }

    fn from_code(code: u8, index: u32) -> Option<Self> {
        [
            Self::Memory,
            Self::Global(index),
            Self::Table(index),
            Self::DroppedSegments,
            Self::GcObjects,
        ]
        .into_iter()
        .find(|what| what.code() == (code, index))
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

    pub(super) fn thing(&self) -> (Kind, u32) {
        match self.what {
            What::Memory | What::DroppedSegments | What::GcObjects => (Kind::Memory, 0),
            What::Global(index) => (Kind::Global, index),
            What::Table(index) => (Kind::Table, index),
        }
    }
}

/// Looks at all that may change, and adds exports for what has none.
pub(super) fn make(module: &Parsed<'_>, exports: &mut Exports<'_>) -> Result<Report> {
    let mut report = Report { memory_count: module.memory_count, ..Report::default() };
    if let Some(memory) = module.memory.as_ref().filter(|_| module.memory_count == 1) {
        let own = exports.own_name(Kind::Memory, 0).map(str::to_owned);
        let added = own.is_none();
        let export = match own {
            Some(name) => name,
            None => exports.add(What::Memory.first_attempt())?,
        };
        report.memory = Some(Memory { export, added, ..memory.clone() });
    }
    let effects = module.effects.after_start(module.function_count())?;
    add_globals(module, exports, &mut report)?;
    add_tables(module, &effects, exports, &mut report)?;
    for segment in module.passive.iter().copied() {
        let has = |effect| effects.binary_search(&effect).is_ok();
        if module.unread_code || (has(Effect::Drops(segment)) && has(Effect::Uses(segment))) {
            report.dropped_segments.add(|| segment);
        }
    }
    report.gc_objects = module.mutable_objects
        && (module.segments_hold_objects
            || module.globals.iter().any(|global| module.may_hold_objects(global.ty))
            || module.tables.iter().any(|table| module.may_hold_objects(ValType::Ref(table.ty))));
    // Without a memory there is nothing that could be restored at all.
    if report.memory.is_some() {
        if report.dropped_segments.count > 0 {
            exports.add(What::DroppedSegments.first_attempt())?;
        }
        if report.gc_objects {
            exports.add(What::GcObjects.first_attempt())?;
        }
    }
    report.export_count = exports.count();
    report.added = std::mem::take(&mut exports.added);
    Ok(report)
}

fn add_globals(module: &Parsed<'_>, exports: &mut Exports<'_>, report: &mut Report) -> Result<()> {
    for (index, global) in (0..).zip(&module.globals).filter(|(_, global)| global.mutable) {
        report.global_count = report.global_count.saturating_add(1);
        let export = match exports.own_name(Kind::Global, index) {
            Some(name) => Cow::Borrowed(name),
            None => Cow::Owned(exports.add(What::Global(index).first_attempt())?),
        };
        if !module.is_readable(global.ty) {
            let ty = global.ty.to_string();
            report.unreadable_globals.add(|| Unreadable { export: export.into_owned(), ty });
        }
    }
    Ok(())
}

fn add_tables(
    module: &Parsed<'_>,
    effects: &[Effect],
    exports: &mut Exports<'_>,
    report: &mut Report,
) -> Result<()> {
    let is_changeable = |exports: &Exports<'_>, index: u32, imported: bool| {
        imported
            || module.unread_code
            || exports.own_name(Kind::Table, index).is_some()
            || effects.binary_search(&Effect::ChangesTable(index)).is_ok()
    };
    let tables = || (0..).zip(&module.tables);
    // Functions may come from tables that don't change into others, and are found again by where
    // they were.
    let carries_functions = tables()
        .any(|(index, table)| is_changeable(exports, index, table.imported))
        || module
            .globals
            .iter()
            .any(|global| global.mutable && module.may_hold_functions(global.ty));
    for (index, table) in tables() {
        // What nobody can change stays hidden: who was shown it could change it.
        if !carries_functions && !is_changeable(exports, index, table.imported) {
            continue;
        }
        report.table_count = report.table_count.saturating_add(1);
        let export = match exports.own_name(Kind::Table, index) {
            Some(name) => Cow::Borrowed(name),
            None => Cow::Owned(exports.add(What::Table(index).first_attempt())?),
        };
        if !module.is_readable(ValType::Ref(table.ty)) {
            let ty = table.ty.to_string();
            report.unreadable_tables.add(|| Unreadable { export: export.into_owned(), ty });
        }
    }
    Ok(())
}

impl Report {
    /// The contents of the custom section.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        // Each of them takes at most 11 bytes. All else is bounded but for names, which the module
        // has, too.
        reserve(&mut out, self.added.len().saturating_mul(11).saturating_add(1 << 12))?;
        out.push(VERSION);
        self.memory_count.encode(&mut out);
        u32::from(self.memory.is_some()).encode(&mut out);
        if let Some(memory) = &self.memory {
            memory.export.encode(&mut out);
            u32::from(memory.added).encode(&mut out);
            u32::from(memory.import.is_some()).encode(&mut out);
            if let Some((module, name)) = &memory.import {
                module.encode(&mut out);
                name.encode(&mut out);
            }
            memory.initial.encode(&mut out);
            memory.maximum.encode(&mut out);
            u32::from(memory.shared).encode(&mut out);
            u32::from(memory.is_64).encode(&mut out);
        }
        self.export_count.encode(&mut out);
        self.global_count.encode(&mut out);
        self.table_count.encode(&mut out);
        for few in [&self.unreadable_globals, &self.unreadable_tables] {
            few.count.encode(&mut out);
            few.first.len().encode(&mut out);
            for Unreadable { export, ty } in &few.first {
                export.encode(&mut out);
                ty.encode(&mut out);
            }
        }
        self.dropped_segments.count.encode(&mut out);
        self.dropped_segments.first.len().encode(&mut out);
        for segment in &self.dropped_segments.first {
            let (is_element, index) = match *segment {
                Segment::Data(index) => (false, index),
                Segment::Element(index) => (true, index),
            };
            u32::from(is_element).encode(&mut out);
            index.encode(&mut out);
        }
        u32::from(self.gc_objects).encode(&mut out);
        self.added.len().encode(&mut out);
        for added in &self.added {
            let (code, index) = added.what.code();
            out.push(code);
            index.encode(&mut out);
            added.attempt.encode(&mut out);
        }
        Ok(out)
    }

    /// `None` for anything but what `encode` of this version gives.
    pub fn decode(data: &[u8]) -> Option<Self> {
        let mut reader = BinaryReader::new(data, 0);
        let report = Self::decode_from(&mut reader)?;
        reader.eof().then_some(report)
    }

    fn decode_from(reader: &mut BinaryReader<'_>) -> Option<Self> {
        if reader.read_u8().ok()? != VERSION {
            return None;
        }
        let mut report = Self { memory_count: reader.read_var_u32().ok()?, ..Self::default() };
        if read_flag(reader)? {
            let mut memory = Memory {
                export: read_text(reader)?,
                added: read_flag(reader)?,
                ..Memory::default()
            };
            if read_flag(reader)? {
                memory.import = Some((read_text(reader)?, read_text(reader)?));
            }
            memory.initial = reader.read_var_u64().ok()?;
            if read_flag(reader)? {
                memory.maximum = Some(reader.read_var_u64().ok()?);
            }
            memory.shared = read_flag(reader)?;
            memory.is_64 = read_flag(reader)?;
            report.memory = Some(memory);
        }
        report.export_count = reader.read_var_u32().ok()?;
        report.global_count = reader.read_var_u32().ok()?;
        report.table_count = reader.read_var_u32().ok()?;
        let unreadable = |reader: &mut BinaryReader<'_>| {
            Some(Unreadable { export: read_text(reader)?, ty: read_text(reader)? })
        };
        report.unreadable_globals = read_few(reader, unreadable)?;
        report.unreadable_tables = read_few(reader, unreadable)?;
        report.dropped_segments = read_few(reader, |reader| {
            let is_element = read_flag(reader)?;
            let index = reader.read_var_u32().ok()?;
            Some(if is_element { Segment::Element(index) } else { Segment::Data(index) })
        })?;
        report.gc_objects = read_flag(reader)?;
        let added = reader.read_var_u32().ok()?;
        // Each takes many times as much here as in a section that somebody may have made up.
        if added > MOST_ADDED {
            return None;
        }
        for _ in 0..added {
            let code = reader.read_u8().ok()?;
            let what = What::from_code(code, reader.read_var_u32().ok()?)?;
            let attempt = reader.read_var_u32().ok()?;
            push(&mut report.added, Added { what, attempt }).ok()?;
        }
        Some(report)
    }
}

fn read_few<T>(
    reader: &mut BinaryReader<'_>,
    mut read: impl FnMut(&mut BinaryReader<'_>) -> Option<T>,
) -> Option<Few<T>> {
    let count = reader.read_var_u32().ok()?;
    let length = reader.read_var_u32().ok()?;
    let most = count.min(u32::try_from(Few::<T>::MOST).ok()?);
    if length != most {
        return None;
    }
    let first = (0..length).map(|_| read(reader)).collect::<Option<_>>()?;
    Some(Few { first, count })
}

fn read_flag(reader: &mut BinaryReader<'_>) -> Option<bool> {
    match reader.read_u8().ok()? {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

fn read_text(reader: &mut BinaryReader<'_>) -> Option<String> {
    reader.read_unlimited_string().ok().map(str::to_owned)
}
