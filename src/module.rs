//! Modules: which of their state can be reached from outside, and a way to reach more of it.
//!
//! What an instance keeps between two calls is its memory, its mutable globals, its tables, which of its passive
//! segments were dropped, and whatever references in globals and tables lead to. JavaScript reaches what is exported,
//! and compilers export little: hardly any module shows its stack pointer. So [`expose_state`] rewrites the export
//! section. All other sections stay as they are, byte for byte, whatever they hold; what it found, the [`Report`],
//! goes into a custom section, since of a compiled module nothing else is left to look at.
//!
//! The module is not validated: that is V8's work. What is wrong with it is an error only where it can't be read.

use crate::error::{Code, Error, Result};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::Range;
use wasm_encoder::{CustomSection, Encode, Module, RawSection};
use wasmparser::{
    AbstractHeapType, BinaryReader, CompositeInnerType, ConstExpr, DataKind, ElementItems, ElementKind,
    Encoding, ExportSectionReader, ExternalKind, FunctionBody, HeapType, Operator, Parser, Payload, RefType,
    TableInit, TypeRef, TypeSectionReader, UnpackedIndex, ValType,
};

/// The custom section with the report.
pub const SECTION: &str = "wasm-hostmap";
/// How the names of exports start that were added.
pub const PREFIX: &str = "hostmap:";
const REPORT_VERSION: u8 = 1;

const EXPORT_SECTION: u8 = 7;
/// Start, element, code, data and data count: what may follow the export section.
const AFTER_EXPORTS: [u8; 5] = [8, 9, 10, 11, 12];

/// A module that shows its state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exposed {
    pub bytes: Vec<u8>,
    pub report: Report,
}

/// The state of a module's instances.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// How many memories it has, imported ones included.
    pub memory_count: u32,
    /// The memory, if it has just one.
    pub memory: Option<Memory>,
    /// The mutable ones.
    pub globals: Vec<Global>,
    /// Those that may change after the start function, by code of the module or by a host that they are shown to.
    pub tables: Vec<Table>,
    /// Passive segments that may be dropped after the start function, and that somebody could miss then.
    pub dropped_segments: Vec<Segment>,
    /// Whether globals or tables may hold objects with fields that can be written.
    pub gc_objects: bool,
}

/// The module and name of an import.
pub type Import = (String, String);

/// Something that is exported, by the module itself or since it was exposed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reach {
    pub export: String,
    /// By [`expose_state`].
    pub added: bool,
    pub import: Option<Import>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory {
    pub reach: Reach,
    /// In Wasm pages.
    pub initial: u64,
    pub maximum: Option<u64>,
    pub shared: bool,
    pub is_64: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Global {
    pub reach: Reach,
    /// As in the text format.
    pub value_type: String,
    /// Whether JavaScript can read and write it.
    pub readable: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    pub reach: Reach,
    pub element_type: String,
    pub readable: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Segment {
    Data(u32),
    Element(u32),
}

/// Exports the memory, if there is just one, the mutable globals and the tables that can change, as far as they are not exported. What was exposed
/// already comes out as it went in.
pub fn expose_state(bytes: &[u8]) -> Result<Exposed> {
    let mut module = Parsed::default();
    module.read(bytes)?;
    let mut exports = Exports::of(bytes, &module)?;
    let report = module.report(&mut exports);

    let mut out = Module::new();
    let mut written = false;
    for section in &module.sections {
        let is_export = section.id == EXPORT_SECTION;
        if !written && (is_export || (AFTER_EXPORTS.contains(&section.id) && exports.count > 0)) {
            out.section(&RawSection { id: EXPORT_SECTION, data: &exports.section() });
            written = true;
        }
        if !is_export {
            out.section(&RawSection { id: section.id, data: slice(bytes, &section.range)? });
        }
    }
    if !written && exports.count > 0 {
        out.section(&RawSection { id: EXPORT_SECTION, data: &exports.section() });
    }
    let data = report.encode();
    out.section(&CustomSection { name: SECTION.into(), data: data.as_slice().into() });
    Ok(Exposed { bytes: out.finish(), report })
}

/// A section as it stands in the module.
#[derive(Debug)]
struct RawRange {
    id: u8,
    range: Range<u64>,
}

/// What a function does to state that can't be told from its exports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Deed {
    ChangesTable(u32),
    Drops(Segment),
    Uses(Segment),
}

/// What type index stands for, as far as it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TypeKind {
    Function,
    Continuation,
    Object,
}

#[derive(Debug, Default)]
struct Parsed<'a> {
    sections: Vec<RawRange>,
    /// Of those that `expose_state` added before.
    known: Option<Report>,
    exports: Vec<ExportSectionReader<'a>>,
    types: Vec<TypeKind>,
    /// Types could not be read, or some of them have fields that can be written.
    mutable_objects: bool,
    memories: Vec<Memory>,
    /// Index, import, type, mutable.
    globals: Vec<(Option<Import>, ValType, bool)>,
    tables: Vec<(Option<Import>, RefType)>,
    /// Types of element segments, whose items are made once for each instance.
    segments: Vec<RefType>,
    function_count: u32,
    imported_functions: u32,
    bodies_read: u32,
    passive: BTreeSet<Segment>,
    /// Functions that are referred to, so that anybody might call them.
    escaping: Vec<u32>,
    calls: BTreeMap<u32, Vec<u32>>,
    deeds: Vec<(u32, Deed)>,
    /// Code that could not be read: it may do anything.
    unread_code: bool,
}

impl<'a> Parsed<'a> {
    fn read(&mut self, bytes: &'a [u8]) -> Result<()> {
        for payload in Parser::new(0).parse_all(bytes) {
            let payload = payload?;
            if let Some((id, range)) = payload.as_section()
                && !is_report(&payload)
            {
                self.sections.push(RawRange { id, range });
            }
            self.read_payload(payload)?;
        }
        Ok(())
    }

    fn read_payload(&mut self, payload: Payload<'a>) -> Result<()> {
        match payload {
            Payload::TypeSection(types) => {
                // If not, they are of a proposal that is not known here.
                let read = self.read_types(types).is_ok();
                self.mutable_objects |= !read;
            }
            Payload::ImportSection(imports) => {
                for import in imports.into_imports() {
                    let import = import?;
                    let name = Some((import.module.to_owned(), import.name.to_owned()));
                    match import.ty {
                        TypeRef::Func(_) | TypeRef::FuncExact(_) => {
                            self.imported_functions = self.imported_functions.saturating_add(1);
                        }
                        TypeRef::Table(table) => self.tables.push((name, table.element_type)),
                        TypeRef::Memory(memory) => self.memories.push(memory_of(name, &memory)),
                        TypeRef::Global(global) => {
                            self.globals.push((name, global.content_type, global.mutable));
                        }
                        TypeRef::Tag(_) => {}
                    }
                }
            }
            Payload::FunctionSection(functions) => {
                self.function_count = self.function_count.saturating_add(functions.count());
            }
            Payload::TableSection(tables) => {
                for table in tables {
                    let table = table?;
                    self.tables.push((None, table.ty.element_type));
                    if let TableInit::Expr(init) = table.init {
                        self.refer(&init);
                    }
                }
            }
            Payload::MemorySection(memories) => {
                for memory in memories {
                    self.memories.push(memory_of(None, &memory?));
                }
            }
            Payload::GlobalSection(globals) => {
                for global in globals {
                    let global = global?;
                    self.globals.push((None, global.ty.content_type, global.ty.mutable));
                    self.refer(&global.init_expr);
                }
            }
            Payload::ExportSection(exports) => {
                for export in exports.clone() {
                    let export = export?;
                    if export.kind == ExternalKind::Func {
                        self.escaping.push(export.index);
                    }
                }
                self.exports.push(exports);
            }
            Payload::ElementSection(elements) => {
                for (index, element) in (0..).zip(elements) {
                    let element = element?;
                    if matches!(element.kind, ElementKind::Passive) {
                        self.passive.insert(Segment::Element(index));
                    }
                    match element.items {
                        ElementItems::Functions(functions) => {
                            for function in functions {
                                self.escaping.push(function?);
                            }
                        }
                        ElementItems::Expressions(ty, expressions) => {
                            self.segments.push(ty);
                            for expression in expressions {
                                self.refer(&expression?);
                            }
                        }
                    }
                }
            }
            Payload::DataSection(data) => {
                for (index, data) in (0..).zip(data) {
                    if matches!(data?.kind, DataKind::Passive) {
                        self.passive.insert(Segment::Data(index));
                    }
                }
            }
            Payload::CodeSectionEntry(body) => {
                let function = self.imported_functions.saturating_add(self.bodies_read);
                self.bodies_read = self.bodies_read.saturating_add(1);
                if self.read_code(function, &body).is_err() {
                    self.unread_code = true;
                }
            }
            Payload::CustomSection(custom) if custom.name() == SECTION => {
                self.known = Report::decode(custom.data());
            }
            Payload::Version { encoding: Encoding::Component, .. } => {
                let why = "it is a component; pass one of its core modules";
                return Err(Error::new(Code::InvalidValue, format!("{CANT_READ}: {why}")));
            }
            _ => {}
        }
        Ok(())
    }

    fn read_types(&mut self, types: TypeSectionReader<'a>) -> wasmparser::Result<()> {
        for group in types {
            for ty in group?.types() {
                let kind = match &ty.composite_type.inner {
                    CompositeInnerType::Func(_) => TypeKind::Function,
                    CompositeInnerType::Cont(_) => TypeKind::Continuation,
                    CompositeInnerType::Array(array) => {
                        self.mutable_objects |= array.0.mutable;
                        TypeKind::Object
                    }
                    CompositeInnerType::Struct(object) => {
                        self.mutable_objects |= object.fields.iter().any(|field| field.mutable);
                        TypeKind::Object
                    }
                };
                self.types.push(kind);
            }
        }
        Ok(())
    }

    /// Notes the functions that a constant expression refers to.
    fn refer(&mut self, expression: &ConstExpr<'a>) {
        for operator in expression.get_operators_reader() {
            match operator {
                Ok(Operator::RefFunc { function_index }) => self.escaping.push(function_index),
                Ok(_) => {}
                Err(_) => {
                    self.unread_code = true;
                    return;
                }
            }
        }
    }

    fn read_code(&mut self, function: u32, body: &FunctionBody<'a>) -> wasmparser::Result<()> {
        let mut operators = body.get_operators_reader()?;
        while !operators.eof() {
            let deed = match operators.read()? {
                Operator::Call { function_index } | Operator::ReturnCall { function_index } => {
                    self.calls.entry(function).or_default().push(function_index);
                    continue;
                }
                Operator::RefFunc { function_index } => {
                    self.escaping.push(function_index);
                    continue;
                }
                Operator::TableSet { table }
                | Operator::TableGrow { table }
                | Operator::TableFill { table }
                | Operator::TableCopy { dst_table: table, .. }
                | Operator::TableAtomicSet { table_index: table, .. }
                | Operator::TableAtomicRmwXchg { table_index: table, .. }
                | Operator::TableAtomicRmwCmpxchg { table_index: table, .. } => Deed::ChangesTable(table),
                Operator::TableInit { elem_index, table } => {
                    self.deeds.push((function, Deed::Uses(Segment::Element(elem_index))));
                    Deed::ChangesTable(table)
                }
                Operator::ElemDrop { elem_index } => Deed::Drops(Segment::Element(elem_index)),
                Operator::DataDrop { data_index } => Deed::Drops(Segment::Data(data_index)),
                Operator::MemoryInit { data_index: index, .. }
                | Operator::ArrayNewData { array_data_index: index, .. }
                | Operator::ArrayInitData { array_data_index: index, .. } => Deed::Uses(Segment::Data(index)),
                Operator::ArrayNewElem { array_elem_index: index, .. }
                | Operator::ArrayInitElem { array_elem_index: index, .. } => {
                    Deed::Uses(Segment::Element(index))
                }
                _ => continue,
            };
            self.deeds.push((function, deed));
        }
        Ok(())
    }

    fn report(&self, exports: &mut Exports) -> Report {
        let memory_count = u32::try_from(self.memories.len()).unwrap_or(u32::MAX);
        let mut memory = match self.memories.as_slice() {
            [memory] => Some(memory.clone()),
            _ => None,
        };
        if let Some(Memory { reach, .. }) = &mut memory {
            let import = reach.import.take();
            *reach = exports.reach(ExternalKind::Memory, 0, import, || format!("{PREFIX}memory"));
        }
        let deeds = self.deeds_after_start();
        let globals = (0..)
            .zip(&self.globals)
            .filter(|(_, (_, _, mutable))| *mutable)
            .map(|(index, (import, ty, _))| Global {
                reach: exports
                    .reach(ExternalKind::Global, index, import.clone(), || format!("{PREFIX}global:{index}")),
                value_type: ty.to_string(),
                readable: self.is_readable(*ty),
            })
            .collect();
        let is_changeable = |(index, (import, _)): (u32, &(Option<Import>, RefType))| {
            import.is_some()
                || exports.has(ExternalKind::Table, index)
                || self.unread_code
                || deeds.contains(&Deed::ChangesTable(index))
        };
        // Functions may come from tables that don't change into others, and are found again by where they were.
        let carries_functions = (0..).zip(&self.tables).any(is_changeable)
            || self.globals.iter().any(|(_, ty, mutable)| *mutable && self.may_hold_functions(*ty));
        let tables = (0..)
            .zip(&self.tables)
            // What nobody can change stays hidden: who was shown it could change it.
            .filter(|table| is_changeable(*table) || carries_functions)
            .collect::<Vec<_>>();
        let tables = tables
            .into_iter()
            .map(|(index, (import, ty))| {
                let reach = exports
                    .reach(ExternalKind::Table, index, import.clone(), || format!("{PREFIX}table:{index}"));
                let readable = self.is_readable(ValType::Ref(*ty));
                Table { reach, element_type: ty.to_string(), readable }
            })
            .collect();
        let dropped_segments = self
            .passive
            .iter()
            .copied()
            .filter(|segment| {
                self.unread_code
                    || (deeds.contains(&Deed::Drops(*segment)) && deeds.contains(&Deed::Uses(*segment)))
            })
            .collect();
        let holds_objects = self.globals.iter().any(|(_, ty, _)| self.may_hold_objects(*ty))
            || self.tables.iter().any(|(_, ty)| self.may_hold_objects(ValType::Ref(*ty)))
            || self.segments.iter().any(|ty| self.may_hold_objects(ValType::Ref(*ty)));
        Report {
            memory_count,
            memory,
            globals,
            tables,
            dropped_segments,
            gc_objects: self.mutable_objects && holds_objects,
        }
    }

    /// What functions do that may be called when the start function is through. Every instance has run that one, so
    /// what it alone does is the same in all.
    fn deeds_after_start(&self) -> BTreeSet<Deed> {
        let mut reached: HashSet<u32> = HashSet::new();
        let mut next = self.escaping.clone();
        while let Some(function) = next.pop() {
            if reached.insert(function) {
                next.extend(self.calls.get(&function).into_iter().flatten());
            }
        }
        self.deeds.iter().filter(|(function, _)| reached.contains(function)).map(|(_, deed)| *deed).collect()
    }

    fn kind_of(&self, index: UnpackedIndex) -> Option<TypeKind> {
        let UnpackedIndex::Module(index) = index else { return None };
        self.types.get(usize::try_from(index).ok()?).copied()
    }

    /// JavaScript has no values for vectors, exceptions and continuations.
    fn is_readable(&self, ty: ValType) -> bool {
        match ty {
            ValType::V128 => false,
            ValType::Ref(ty) => match ty.heap_type() {
                HeapType::Abstract { ty, .. } => !matches!(
                    ty,
                    AbstractHeapType::Exn
                        | AbstractHeapType::NoExn
                        | AbstractHeapType::Cont
                        | AbstractHeapType::NoCont
                ),
                HeapType::Concrete(index) | HeapType::Exact(index) => {
                    self.kind_of(index) != Some(TypeKind::Continuation)
                }
            },
            _ => true,
        }
    }

    fn may_hold_functions(&self, ty: ValType) -> bool {
        let ValType::Ref(ty) = ty else { return false };
        match ty.heap_type() {
            HeapType::Abstract { ty, .. } => matches!(ty, AbstractHeapType::Func),
            HeapType::Concrete(index) | HeapType::Exact(index) => {
                matches!(self.kind_of(index), Some(TypeKind::Function) | None)
            }
        }
    }

    fn may_hold_objects(&self, ty: ValType) -> bool {
        let ValType::Ref(ty) = ty else { return false };
        match ty.heap_type() {
            HeapType::Abstract { ty, .. } => matches!(
                ty,
                AbstractHeapType::Any
                    | AbstractHeapType::Eq
                    | AbstractHeapType::Struct
                    | AbstractHeapType::Array
                    | AbstractHeapType::Extern
            ),
            HeapType::Concrete(index) | HeapType::Exact(index) => {
                matches!(self.kind_of(index), Some(TypeKind::Object) | None)
            }
        }
    }
}

/// The export section to be written.
struct Exports {
    count: u32,
    entries: Vec<u8>,
    names: BTreeSet<String>,
    /// The first name of each thing.
    own: BTreeMap<(u8, u32), String>,
}

impl Exports {
    /// The module's own: without those that were added before.
    fn of(bytes: &[u8], module: &Parsed<'_>) -> Result<Self> {
        let added = module.known.as_ref().map(Report::added).unwrap_or_default();
        let mut own = Self { count: 0, entries: Vec::new(), names: BTreeSet::new(), own: BTreeMap::new() };
        for section in &module.exports {
            let mut exports = section.clone().into_iter_with_offsets().peekable();
            while let Some(export) = exports.next() {
                let (start, export) = export?;
                let end = match exports.peek() {
                    Some(Ok((offset, _))) => *offset,
                    _ => section.range().end,
                };
                if added.contains(export.name) && kind_byte(export.kind).is_some() {
                    continue;
                }
                own.count = own.count.saturating_add(1);
                own.entries.extend_from_slice(slice(bytes, &(start..end))?);
                own.names.insert(export.name.to_owned());
                if let Some(kind) = kind_byte(export.kind) {
                    own.own.entry((kind, export.index)).or_insert_with(|| export.name.to_owned());
                }
            }
        }
        Ok(own)
    }

    /// Whether the module itself exports a thing.
    fn has(&self, kind: ExternalKind, index: u32) -> bool {
        kind_byte(kind).is_some_and(|kind| self.own.contains_key(&(kind, index)))
    }

    /// The export of a thing, which is added if there is none.
    fn reach(
        &mut self,
        kind: ExternalKind,
        index: u32,
        import: Option<Import>,
        name: impl Fn() -> String,
    ) -> Reach {
        let Some(byte) = kind_byte(kind) else { return Reach::default() };
        if let Some(export) = self.own.get(&(byte, index)) {
            return Reach { export: export.clone(), added: false, import };
        }
        let mut export = name();
        let mut attempt: u32 = 1;
        while !self.names.insert(export.clone()) {
            attempt = attempt.saturating_add(1);
            export = format!("{}:{attempt}", name());
        }
        export.as_str().encode(&mut self.entries);
        self.entries.push(byte);
        index.encode(&mut self.entries);
        self.count = self.count.saturating_add(1);
        Reach { export, added: true, import }
    }

    fn section(&self) -> Vec<u8> {
        let mut data = Vec::with_capacity(self.entries.len().saturating_add(5));
        self.count.encode(&mut data);
        data.extend_from_slice(&self.entries);
        data
    }
}

/// How an export section names the kinds of things that hold state.
fn kind_byte(kind: ExternalKind) -> Option<u8> {
    match kind {
        ExternalKind::Table => Some(1),
        ExternalKind::Memory => Some(2),
        ExternalKind::Global => Some(3),
        _ => None,
    }
}

fn memory_of(import: Option<Import>, ty: &wasmparser::MemoryType) -> Memory {
    Memory {
        reach: Reach { import, ..Reach::default() },
        initial: ty.initial,
        maximum: ty.maximum,
        shared: ty.shared,
        is_64: ty.memory64,
    }
}

fn is_report(payload: &Payload<'_>) -> bool {
    matches!(payload, Payload::CustomSection(custom) if custom.name() == SECTION)
}

fn slice<'a>(bytes: &'a [u8], range: &Range<u64>) -> Result<&'a [u8]> {
    let start = usize::try_from(range.start).ok();
    let end = usize::try_from(range.end).ok();
    start
        .zip(end)
        .and_then(|(start, end)| bytes.get(start..end))
        .ok_or_else(|| Error::new(Code::InvalidValue, format!("{CANT_READ}: a section ends past its end")))
}

const CANT_READ: &str = "the bytes are no WebAssembly module that can be read";

impl From<wasmparser::Error> for Error {
    fn from(error: wasmparser::Error) -> Self {
        let (what, at) = (error.message(), error.offset());
        Self::new(Code::InvalidValue, format!("{CANT_READ}: {what}, at byte {at}"))
    }
}

impl Report {
    /// The names of the exports that were added.
    fn added(&self) -> BTreeSet<&str> {
        let globals = self.globals.iter().map(|global| &global.reach);
        let tables = self.tables.iter().map(|table| &table.reach);
        let memory = self.memory.iter().map(|memory| &memory.reach);
        memory
            .chain(globals)
            .chain(tables)
            .filter(|reach| reach.added)
            .map(|reach| reach.export.as_str())
            .collect()
    }

    /// The contents of the custom section.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![REPORT_VERSION];
        self.memory_count.encode(&mut out);
        out.push(u8::from(self.memory.is_some()));
        if let Some(memory) = &self.memory {
            memory.reach.encode(&mut out);
            memory.initial.encode(&mut out);
            memory.maximum.encode(&mut out);
            out.push(bits([memory.shared, memory.is_64]));
        }
        self.globals.as_slice().encode(&mut out);
        self.tables.as_slice().encode(&mut out);
        self.dropped_segments.as_slice().encode(&mut out);
        out.push(bits([self.gc_objects, false]));
        out
    }

    /// `None` for anything but what `encode` of this version gives.
    pub fn decode(data: &[u8]) -> Option<Self> {
        let mut reader = BinaryReader::new(data, 0);
        let report = Self::decode_from(&mut reader).ok().flatten()?;
        reader.eof().then_some(report)
    }

    fn decode_from(reader: &mut BinaryReader<'_>) -> wasmparser::Result<Option<Self>> {
        if reader.read_u8()? != REPORT_VERSION {
            return Ok(None);
        }
        let memory_count = reader.read_var_u32()?;
        let memory = match reader.read_u8()? {
            0 => None,
            _ => Some(Memory {
                reach: Reach::decode(reader)?,
                initial: reader.read_var_u64()?,
                maximum: match reader.read_u8()? {
                    0 => None,
                    _ => Some(reader.read_var_u64()?),
                },
                ..Memory::default()
            }),
        };
        let memory = match memory {
            None => None,
            Some(memory) => {
                let [shared, is_64] = read_bits(reader)?;
                Some(Memory { shared, is_64, ..memory })
            }
        };
        let mut globals = Vec::new();
        for _ in 0..reader.read_var_u32()? {
            let reach = Reach::decode(reader)?;
            let value_type = reader.read_string()?.to_owned();
            let [readable, _] = read_bits(reader)?;
            globals.push(Global { reach, value_type, readable });
        }
        let mut tables = Vec::new();
        for _ in 0..reader.read_var_u32()? {
            let reach = Reach::decode(reader)?;
            let element_type = reader.read_string()?.to_owned();
            let [readable, _] = read_bits(reader)?;
            tables.push(Table { reach, element_type, readable });
        }
        let mut dropped_segments = Vec::new();
        for _ in 0..reader.read_var_u32()? {
            let [is_element, _] = read_bits(reader)?;
            let index = reader.read_var_u32()?;
            dropped_segments.push(if is_element { Segment::Element(index) } else { Segment::Data(index) });
        }
        let [gc_objects, _] = read_bits(reader)?;
        Ok(Some(Self { memory_count, memory, globals, tables, dropped_segments, gc_objects }))
    }
}

fn bits([first, second]: [bool; 2]) -> u8 {
    u8::from(first) | (u8::from(second) << 1)
}

fn read_bits(reader: &mut BinaryReader<'_>) -> wasmparser::Result<[bool; 2]> {
    let byte = reader.read_u8()?;
    Ok([byte & 1 != 0, byte & 2 != 0])
}

impl Reach {
    fn decode(reader: &mut BinaryReader<'_>) -> wasmparser::Result<Self> {
        let export = reader.read_unlimited_string()?.to_owned();
        let [added, imported] = read_bits(reader)?;
        let import = match imported {
            false => None,
            true => {
                Some((reader.read_unlimited_string()?.to_owned(), reader.read_unlimited_string()?.to_owned()))
            }
        };
        Ok(Self { export, added, import })
    }
}

impl Encode for Reach {
    fn encode(&self, out: &mut Vec<u8>) {
        self.export.as_str().encode(out);
        out.push(bits([self.added, self.import.is_some()]));
        if let Some((module, name)) = &self.import {
            module.as_str().encode(out);
            name.as_str().encode(out);
        }
    }
}

impl Encode for Global {
    fn encode(&self, out: &mut Vec<u8>) {
        self.reach.encode(out);
        self.value_type.as_str().encode(out);
        out.push(bits([self.readable, false]));
    }
}

impl Encode for Table {
    fn encode(&self, out: &mut Vec<u8>) {
        self.reach.encode(out);
        self.element_type.as_str().encode(out);
        out.push(bits([self.readable, false]));
    }
}

impl Encode for Segment {
    fn encode(&self, out: &mut Vec<u8>) {
        let (is_element, index) = match *self {
            Self::Data(index) => (false, index),
            Self::Element(index) => (true, index),
        };
        out.push(bits([is_element, false]));
        index.encode(out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wasm(text: &str) -> Vec<u8> {
        wat::parse_str(text).unwrap()
    }

    /// What a text's module shows once it is exposed. Checks what holds for all modules.
    fn exposed(text: &str) -> Exposed {
        let bytes = wasm(text);
        let exposed = expose_state(&bytes).unwrap();
        assert_eq!(expose_state(&exposed.bytes).unwrap(), exposed);
        assert_eq!(Report::decode(&exposed.report.encode()).as_ref(), Some(&exposed.report));
        let others = |bytes: &[u8]| sections(bytes, |id, name| id != EXPORT_SECTION && name != Some(SECTION));
        assert_eq!(others(&exposed.bytes), others(&bytes));
        exposed
    }

    fn report(text: &str) -> Report {
        exposed(text).report
    }

    type Sections = Vec<(u8, Vec<u8>)>;

    fn sections(bytes: &[u8], wanted: impl Fn(u8, Option<&str>) -> bool) -> Sections {
        let mut found = Vec::new();
        for payload in Parser::new(0).parse_all(bytes) {
            let payload = payload.unwrap();
            let name = match &payload {
                Payload::CustomSection(custom) => Some(custom.name()),
                _ => None,
            };
            if let Some((id, range)) = payload.as_section()
                && wanted(id, name)
            {
                found.push((id, slice(bytes, &range).unwrap().to_vec()));
            }
        }
        found
    }

    /// Name, kind and index of all exports.
    fn exports(bytes: &[u8]) -> Vec<(String, ExternalKind, u32)> {
        let mut found = Vec::new();
        for payload in Parser::new(0).parse_all(bytes) {
            if let Payload::ExportSection(exports) = payload.unwrap() {
                for export in exports {
                    let export = export.unwrap();
                    found.push((export.name.to_owned(), export.kind, export.index));
                }
            }
        }
        found
    }

    fn names(reaches: impl IntoIterator<Item = Reach>) -> Vec<String> {
        reaches.into_iter().map(|reach| reach.export).collect()
    }

    #[test]
    fn what_is_hidden_is_exported() {
        let exposed = exposed(
            r#"(module
                (import "env" "base" (global i32))
                (import "env" "sp" (global (mut i32)))
                (memory 1 10)
                (table 4 funcref)
                (table 2 externref)
                (global (mut i64) (i64.const 7))
                (global f32 (f32.const 1))
                (global (mut v128) (v128.const i64x2 1 2))
                (func (export "run") (table.set 0 (i32.const 0) (ref.null func))))"#,
        );
        let expected = [
            ("run", ExternalKind::Func, 0),
            ("hostmap:memory", ExternalKind::Memory, 0),
            ("hostmap:global:1", ExternalKind::Global, 1),
            ("hostmap:global:2", ExternalKind::Global, 2),
            ("hostmap:global:4", ExternalKind::Global, 4),
            ("hostmap:table:0", ExternalKind::Table, 0),
            ("hostmap:table:1", ExternalKind::Table, 1),
        ];
        let expected: Vec<_> = expected.map(|(name, kind, index)| (name.to_owned(), kind, index)).into();
        assert_eq!(exports(&exposed.bytes), expected);

        let Report { memory_count, memory, globals, tables, .. } = exposed.report;
        let memory = memory.unwrap();
        assert_eq!((memory_count, memory.initial, memory.maximum), (1, 1, Some(10)));
        assert!(memory.reach.added && memory.reach.import.is_none() && !memory.shared && !memory.is_64);
        let types: Vec<_> =
            globals.iter().map(|global| (global.value_type.as_str(), global.readable)).collect();
        assert_eq!(types, [("i32", true), ("i64", true), ("v128", false)]);
        assert_eq!(globals[0].reach.import, Some(("env".to_owned(), "sp".to_owned())));
        assert_eq!(tables[0].element_type, "funcref");
        assert!(tables.iter().all(|table| table.readable));
    }

    #[test]
    fn what_is_exported_keeps_its_name() {
        let exposed = exposed(
            r#"(module
                (memory (export "memory") (export "again") 1)
                (table (export "table") 1 funcref)
                (global (export "g") (mut i32) (i32.const 0))
                (global (mut i32) (i32.const 0)))"#,
        );
        let Report { memory, globals, tables, .. } = exposed.report;
        assert_eq!(memory.unwrap().reach, Reach { export: "memory".to_owned(), ..Reach::default() });
        assert_eq!(names(globals.iter().map(|global| global.reach.clone())), ["g", "hostmap:global:1"]);
        // A host can change it.
        assert!(!tables[0].reach.added);
    }

    #[test]
    fn names_that_are_taken_are_not_taken_again() {
        let text = r#"(module
            (memory 1)
            (func (export "hostmap:memory"))
            (func (export "hostmap:memory:2"))
            (table 1 funcref)
            (global (mut funcref) (ref.null func))
            (global (export "hostmap:table:0") i32 (i32.const 0)))"#;
        let Report { memory, tables, .. } = report(text);
        assert_eq!(memory.unwrap().reach.export, "hostmap:memory:3");
        assert_eq!(tables[0].reach.export, "hostmap:table:0:2");
    }

    #[test]
    fn a_module_without_exports_gets_a_section_in_its_place() {
        let bytes = exposed("(module (memory 1) (func) (start 0) (data (i32.const 0) \"abc\"))").bytes;
        let ids: Vec<u8> = sections(&bytes, |_, _| true).into_iter().map(|(id, _)| id).collect();
        assert_eq!(ids, [1, 3, 5, 7, 8, 10, 11, 0]);
        assert_eq!(exports(&exposed("(module (memory 1))").bytes).len(), 1);
        assert!(exports(&exposed("(module)").bytes).is_empty());
    }

    #[test]
    fn memories_are_counted() {
        assert_eq!(report("(module)").memory_count, 0);
        let two = report(r#"(module (import "a" "b" (memory 1)) (memory 1))"#);
        assert_eq!((two.memory_count, two.memory), (2, None));
        let memory = report(r#"(module (import "a" "b" (memory i64 1 2 shared)))"#).memory.unwrap();
        assert!(memory.shared && memory.is_64);
        assert_eq!(memory.reach.import, Some(("a".to_owned(), "b".to_owned())));
    }

    #[test]
    fn tables_that_can_change_are_found_and_others_stay_hidden() {
        let shown = |rest: &str| {
            let text = format!(
                r#"(module (table $a 4 funcref) (table $b 4 funcref) (elem $e func $f) (func $f) {rest})"#
            );
            names(report(&text).tables.into_iter().map(|table| table.reach))
        };
        let both = ["hostmap:table:0", "hostmap:table:1"];
        let run = |code: &str| shown(&format!(r#"(func (export "run") {code})"#));
        assert!(run("(drop (table.get $a (i32.const 0)))").is_empty());
        // Where one of them changes, functions may come from the other.
        assert_eq!(run("(table.set $a (i32.const 0) (ref.null func))"), both);
        assert_eq!(run("(drop (table.grow $b (ref.null func) (i32.const 1)))"), both);
        assert_eq!(run("(table.fill $b (i32.const 0) (ref.null func) (i32.const 1))"), both);
        assert_eq!(run("(table.copy $b $a (i32.const 0) (i32.const 0) (i32.const 1))"), both);
        assert_eq!(run("(table.init $a $e (i32.const 0) (i32.const 0) (i32.const 1))"), both);
        assert_eq!(shown(r#"(export "b" (table $b))"#), ["hostmap:table:0", "b"]);
        assert_eq!(shown("(global (mut funcref) (ref.null func))"), both);
        assert!(shown("(global funcref (ref.null func)) (global (mut i32) (i32.const 0))").is_empty());
        assert_eq!(report(r#"(module (import "env" "table" (table 1 funcref)))"#).tables.len(), 1);
    }

    #[test]
    fn segments_that_the_start_function_drops_are_none_to_worry_about() {
        let dropped = |rest: &str| {
            let text = format!(
                r#"(module (memory 1) (data $passive "abc") (data $other "d") (data (i32.const 0) "x")
                    (func $init (memory.init $passive (i32.const 0) (i32.const 0) (i32.const 3)) (call $drop))
                    (func $drop (data.drop $passive) (data.drop 2)) {rest})"#
            );
            report(&text).dropped_segments
        };
        assert_eq!(dropped("(start $init)"), []);
        assert_eq!(dropped(""), []);
        assert_eq!(dropped(r#"(start $init) (export "init" (func $init))"#), [Segment::Data(0)]);
        // The one that drops can be called later, and nothing then that would miss the segment.
        assert_eq!(dropped(r#"(start $init) (func (export "later") (call $drop))"#), []);
        assert_eq!(dropped("(start $init) (elem declare func $init)"), [Segment::Data(0)]);
        let text = r#"(module (table 1 funcref) (elem $e func) (func (export "run")
            (table.init $e (i32.const 0) (i32.const 0) (i32.const 0)) (elem.drop $e)))"#;
        assert_eq!(report(text).dropped_segments, [Segment::Element(0)]);
    }

    #[test]
    fn objects_count_where_something_keeps_them() {
        let objects = |text: &str| report(&format!("(module {text})")).gc_objects;
        assert!(!objects("(type $s (struct (field (mut i32))))"));
        assert!(!objects("(type $s (struct (field i32))) (global (mut (ref null $s)) (ref.null $s))"));
        assert!(objects("(type $s (struct (field (mut i32)))) (global (ref null $s) (ref.null $s))"));
        assert!(objects("(type $a (array (mut i8))) (table 1 anyref)"));
        assert!(!objects(
            "(type $a (array (mut i8))) (type $f (func)) (table 1 (ref null $f)) (table 1 i31ref)"
        ));
        assert!(objects(
            "(type $s (struct (field (mut i32)))) (elem (ref $s) (item (struct.new $s (i32.const 7))))"
        ));
        assert!(!report("(module (table (export \"t\") 1 exnref))").tables[0].readable);
    }

    #[test]
    fn all_proposals_pass() {
        let text = r#"(module
            (type $point (struct (field $x (mut f64))))
            (type $f (func (param i32) (result i32)))
            (tag $oops (param i32))
            (memory $m i64 1)
            (table $t i64 1 funcref)
            (global (mut externref) (ref.null extern))
            (func $tail (type $f) (return_call $tail (local.get 0)))
            (func (export "a") (param $p (ref $point)) (result f64) (struct.get $point $x (local.get $p)))
            (func (export "b") (result i32)
                (block $catch (result i32)
                    (try_table (catch $oops $catch) (throw $oops (i32.const 1)))
                    (i32.const 0)))
            (func (export "c") (param v128 v128 v128) (result v128)
                (f32x4.relaxed_madd (local.get 0) (local.get 1) (local.get 2)))
            (func (export "d") (result i32) (i32.atomic.rmw.add (i64.const 0) (i32.const 1))))"#;
        let Report { memory, tables, globals, gc_objects, .. } = report(text);
        assert!(memory.unwrap().is_64);
        assert!(tables.is_empty());
        assert_eq!(globals.len(), 1);
        // A struct may hide in an externref.
        assert!(gc_objects);
    }

    #[test]
    fn code_that_cannot_be_read_may_do_anything() {
        let mut bytes = wasm(
            r#"(module (memory 1) (table 1 funcref) (data $d "abc")
                (func (export "run") (drop (i32.const 99))))"#,
        );
        let at = bytes.windows(2).rposition(|pair| pair == [0x41, 0xe3]).unwrap();
        // No instruction begins with this byte.
        bytes[at] = 0x27;
        let exposed = expose_state(&bytes).unwrap();
        assert_eq!(exposed.report.tables.len(), 1);
        assert_eq!(exposed.report.dropped_segments, [Segment::Data(0)]);
        assert_eq!(expose_state(&exposed.bytes).unwrap(), exposed);
    }

    #[test]
    fn a_forged_report_changes_nothing() {
        let text =
            r#"(module (memory (export "hostmap:memory") 1) (global (export "g") (mut i32) (i32.const 0)))"#;
        let bytes = wasm(text);
        let with = |data: &[u8]| {
            let mut forged = bytes.clone();
            let section = CustomSection { name: SECTION.into(), data: data.into() };
            forged.push(0);
            section.encode(&mut forged);
            expose_state(&forged).unwrap().report
        };
        let honest = expose_state(&bytes).unwrap().report;
        assert_eq!(with(b""), honest);
        assert_eq!(with(&Report::default().encode()), honest);
        // One that calls the module's own exports added: they are added again then.
        let mut lie = honest.clone();
        lie.globals[0].reach.added = true;
        let found = with(&lie.encode());
        assert_eq!(found.globals[0].reach.export, "hostmap:global:0");
        assert!(found.globals[0].reach.added);
    }

    #[test]
    fn errors_say_where() {
        let message = |bytes: &[u8]| {
            let Error { code, message, .. } = expose_state(bytes).unwrap_err();
            assert_eq!(code, Code::InvalidValue);
            message
        };
        assert!(message(b"").ends_with("at byte 0"));
        assert!(message(b"(module)").contains("at byte 0"));
        let bytes = wasm(r#"(module (memory 1) (func (export "run")))"#);
        assert!(message(&bytes[..bytes.len() - 1]).contains("at byte"));
        assert!(message(b"\0asm\x0d\0\x01\0").contains("component"));
    }

    const SEEDS: [&str; 4] = [
        "(module)",
        r#"(module (import "a" "b" (memory 1)) (import "a" "c" (global (mut i32))) (table 2 funcref) (func $f)
            (elem (i32.const 0) func $f) (elem $p func $f) (data $d "abc") (start $f)
            (func (export "run") (table.init $p (i32.const 0) (i32.const 0) (i32.const 1)) (elem.drop $p)
                (memory.init $d (i32.const 0) (i32.const 0) (i32.const 1)) (data.drop $d) (call $f)))"#,
        r#"(module (type $s (struct (field (mut i32)))) (rec (type $a (array (mut (ref null $s)))))
            (global (export "g") (mut (ref null $a)) (ref.null $a)) (table $t 1 (ref null $s)) (tag (param i32))
            (func (param v128) (result i32) (i8x16.extract_lane_u 3 (local.get 0))))"#,
        r#"(module (memory i64 1 3 shared) (global (mut v128) (v128.const i64x2 1 2)) (table i64 1 10 externref)
            (func (export "x") (param i64) (result i32) (i32.atomic.load offset=8 (local.get 0))))"#,
    ];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        #[test]
        fn no_bytes_make_it_panic(
            seed in 0..SEEDS.len(),
            exposed_first in any::<bool>(),
            edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4_u8), 1..6),
        ) {
            let mut bytes = wasm(SEEDS[seed]);
            if exposed_first {
                bytes = expose_state(&bytes).unwrap().bytes;
            }
            for (at, byte, how) in edits {
                let at = at.index(bytes.len().max(1));
                match how {
                    0 => bytes.insert(at, byte),
                    1 if at < bytes.len() => { bytes.remove(at); }
                    2 => bytes.truncate(at),
                    _ => if let Some(old) = bytes.get_mut(at) { *old = byte },
                }
            }
            if let Ok(exposed) = expose_state(&bytes) {
                prop_assert_eq!(&expose_state(&exposed.bytes).unwrap(), &exposed);
            }
        }

        #[test]
        fn no_section_makes_it_panic(mut data in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = Report::decode(&data);
            if let Some(first) = data.first_mut() {
                *first = REPORT_VERSION;
                let _ = Report::decode(&data);
            }
        }
    }
}
