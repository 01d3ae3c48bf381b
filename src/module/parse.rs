//! Reads a module, and keeps what the rest of this room needs: a few bytes for each thing in it,
//! whatever it is.

use super::effects::Effects;
use super::growth::IMPORT_MODULE;
use super::report::Memory;
use super::{Report, SECTION, Segment, limits, push, room_for};
use crate::error::{ModuleError, Result};
use std::ops::Range;
use wasmparser::{
    AbstractHeapType, CompositeInnerType, ConstExpr, DataKind, ElementItems, ElementKind, Encoding,
    ExportSectionReader, ExternalKind, HeapType, Operator, Parser, Payload, RefType, TableInit,
    TypeRef, TypeSectionReader, UnpackedIndex, ValType,
};

/// What type index stands for, as far as it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TypeKind {
    Function,
    Continuation,
    Object,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Global {
    pub ty: ValType,
    pub mutable: bool,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Table {
    pub ty: RefType,
    pub imported: bool,
}

#[derive(Debug, Default)]
pub(super) struct Parsed<'a> {
    /// Id and contents of each, but for the report.
    pub sections: Vec<(u8, Range<u64>)>,
    /// Of those that `expose_state` added before.
    pub known: Option<Report>,
    pub exports: Vec<ExportSectionReader<'a>>,
    types: Vec<TypeKind>,
    unread_types: bool,
    /// Types could not be read, or some of them have fields that can be written.
    pub mutable_objects: bool,
    pub memory_count: u32,
    /// The first one.
    pub memory: Option<Memory>,
    /// Module and name of those that are imported.
    pub imported_memories: Vec<(&'a str, &'a str)>,
    /// Whether their addresses have 64 bits, of all of them.
    pub memories_64: Vec<bool>,
    /// Modules that things are imported from, of those that might be chosen for what is added.
    pub imported_modules: Vec<&'a str>,
    pub globals: Vec<Global>,
    pub tables: Vec<Table>,
    /// Some element segment holds objects, which are made once for each instance.
    pub segments_hold_objects: bool,
    imported_functions: u32,
    bodies_read: u32,
    /// In order.
    pub passive: Vec<Segment>,
    pub effects: Effects,
    /// Code that could not be read: it may do anything.
    pub unread_code: bool,
}

impl<'a> Parsed<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self> {
        let size = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        at_most("bytes", size, u32::try_from(limits::MODULE_BYTES).unwrap_or(u32::MAX))?;
        // What wasm-encoder makes: a section, the module, and the growth of both.
        room_for(bytes.len(), 4)?;
        let mut module = Self::default();
        for payload in Parser::new(0).parse_all(bytes) {
            let payload = payload?;
            if let Some((id, range)) = payload.as_section()
                && !is_report(&payload)
            {
                push(&mut module.sections, (id, range))?;
            }
            module.read_payload(payload)?;
        }
        Ok(module)
    }

    /// How many functions there are, as far as the bytes have them.
    pub(super) fn function_count(&self) -> usize {
        self.imported_functions.saturating_add(self.bodies_read) as usize
    }

    fn read_payload(&mut self, payload: Payload<'a>) -> Result<()> {
        match payload {
            Payload::TypeSection(types) => {
                at_most("groups of types", types.count(), limits::TYPES)?;
                // wasmparser keeps a group at a time, up to 30 bytes for each of its own.
                let range = types.range();
                let byte_length =
                    usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX);
                room_for(byte_length, 32)?;
                let read = self.read_types(types)?;
                // If not, they are of a proposal that is not known here.
                self.unread_types |= !read;
                self.mutable_objects |= !read;
            }
            Payload::ImportSection(imports) => {
                at_most("imports", imports.count(), limits::IMPORTS)?;
                for import in imports.into_imports() {
                    let import = import?;
                    if import.module.starts_with(IMPORT_MODULE) {
                        push(&mut self.imported_modules, import.module)?;
                    }
                    match import.ty {
                        TypeRef::Func(_) | TypeRef::FuncExact(_) => {
                            self.imported_functions = self.imported_functions.saturating_add(1);
                            at_most("functions", self.imported_functions, limits::FUNCTIONS)?;
                        }
                        TypeRef::Table(table) => {
                            push(
                                &mut self.tables,
                                Table { ty: table.element_type, imported: true },
                            )?;
                        }
                        TypeRef::Memory(memory) => {
                            push(&mut self.imported_memories, (import.module, import.name))?;
                            let import = Some((import.module, import.name));
                            self.add_memory(import, &memory)?;
                        }
                        TypeRef::Global(ty) => {
                            let global = Global { ty: ty.content_type, mutable: ty.mutable };
                            push(&mut self.globals, global)?;
                        }
                        TypeRef::Tag(_) => {}
                    }
                }
            }
            Payload::FunctionSection(functions) => {
                at_most("functions", functions.count(), limits::FUNCTIONS)?;
            }
            Payload::TableSection(tables) => {
                at_most("tables", tables.count(), limits::TABLES)?;
                for table in tables {
                    let table = table?;
                    push(&mut self.tables, Table { ty: table.ty.element_type, imported: false })?;
                    if let TableInit::Expr(init) = table.init {
                        self.refer(&init)?;
                    }
                }
            }
            Payload::MemorySection(memories) => {
                for memory in memories {
                    self.add_memory(None, &memory?)?;
                }
            }
            Payload::GlobalSection(globals) => {
                at_most("globals", globals.count(), limits::GLOBALS)?;
                for global in globals {
                    let global = global?;
                    let ty = global.ty;
                    push(&mut self.globals, Global { ty: ty.content_type, mutable: ty.mutable })?;
                    self.refer(&global.init_expr)?;
                }
            }
            Payload::ExportSection(exports) => {
                at_most("exports", exports.count(), limits::EXPORTS)?;
                for export in exports.clone() {
                    let export = export?;
                    if matches!(export.kind, ExternalKind::Func | ExternalKind::FuncExact) {
                        self.effects.escapes(export.index)?;
                    }
                }
                push(&mut self.exports, exports)?;
            }
            Payload::ElementSection(elements) => {
                at_most("element segments", elements.count(), limits::ELEMENT_SEGMENTS)?;
                for (index, element) in (0..).zip(elements) {
                    let element = element?;
                    if matches!(element.kind, ElementKind::Passive) {
                        push(&mut self.passive, Segment::Element(index))?;
                    }
                    match element.items {
                        ElementItems::Functions(functions) => {
                            for function in functions {
                                self.effects.escapes(function?)?;
                            }
                        }
                        ElementItems::Expressions(ty, expressions) => {
                            self.segments_hold_objects |= self.may_hold_objects(ValType::Ref(ty));
                            for expression in expressions {
                                self.refer(&expression?)?;
                            }
                        }
                    }
                }
            }
            Payload::DataSection(data) => {
                at_most("data segments", data.count(), limits::DATA_SEGMENTS)?;
                let mut passive = Vec::new();
                for (index, data) in (0..).zip(data) {
                    if matches!(data?.kind, DataKind::Passive) {
                        push(&mut passive, Segment::Data(index))?;
                    }
                }
                super::reserve(&mut passive, self.passive.len())?;
                passive.append(&mut self.passive);
                self.passive = passive;
            }
            Payload::CodeSectionEntry(body) => {
                let function = self.imported_functions.saturating_add(self.bodies_read);
                self.bodies_read = self.bodies_read.saturating_add(1);
                if !self.effects.read_code(function, &body)? {
                    self.unread_code = true;
                }
            }
            Payload::CustomSection(custom) if custom.name() == SECTION => {
                self.known = Report::decode(custom.data());
            }
            Payload::Version { encoding: Encoding::Component, .. } => {
                return Err(ModuleError::Component.into());
            }
            _ => {}
        }
        Ok(())
    }

    fn add_memory(
        &mut self,
        import: Option<(&str, &str)>,
        ty: &wasmparser::MemoryType,
    ) -> Result<()> {
        self.memory_count = self.memory_count.saturating_add(1);
        push(&mut self.memories_64, ty.memory64)?;
        if self.memory.is_some() {
            return Ok(());
        }
        self.memory = Some(Memory {
            import: import.map(|(module, name)| (module.to_owned(), name.to_owned())),
            initial: ty.initial,
            maximum: ty.maximum,
            shared: ty.shared,
            is_64: ty.memory64,
            ..Memory::default()
        });
        Ok(())
    }

    /// How many types there are; `None` where they can't be read.
    pub(super) fn type_count(&self) -> Option<u32> {
        if self.unread_types { None } else { u32::try_from(self.types.len()).ok() }
    }

    pub(super) fn imported_functions(&self) -> u32 {
        self.imported_functions
    }

    /// False where they can't be read.
    fn read_types(&mut self, types: TypeSectionReader<'a>) -> Result<bool> {
        for group in types {
            let Ok(group) = group else { return Ok(false) };
            for ty in group.types() {
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
                push(&mut self.types, kind)?;
            }
        }
        Ok(true)
    }

    /// Notes the functions that a constant expression refers to.
    fn refer(&mut self, expression: &ConstExpr<'a>) -> Result<()> {
        for operator in expression.get_operators_reader() {
            match operator {
                Ok(Operator::RefFunc { function_index }) => self.effects.escapes(function_index)?,
                Ok(_) => {}
                Err(_) => {
                    self.unread_code = true;
                    break;
                }
            }
        }
        Ok(())
    }

    fn kind_of(&self, index: UnpackedIndex) -> Option<TypeKind> {
        let UnpackedIndex::Module(index) = index else { return None };
        self.types.get(usize::try_from(index).ok()?).copied()
    }

    /// JavaScript has no values for vectors, exceptions and continuations.
    pub(super) fn is_readable(&self, ty: ValType) -> bool {
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

    pub(super) fn may_hold_functions(&self, ty: ValType) -> bool {
        let ValType::Ref(ty) = ty else { return false };
        match ty.heap_type() {
            HeapType::Abstract { ty, .. } => matches!(ty, AbstractHeapType::Func),
            HeapType::Concrete(index) | HeapType::Exact(index) => {
                matches!(self.kind_of(index), Some(TypeKind::Function) | None)
            }
        }
    }

    pub(super) fn may_hold_objects(&self, ty: ValType) -> bool {
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

fn at_most(things: &'static str, count: u32, limit: u32) -> Result<()> {
    if count <= limit {
        return Ok(());
    }
    Err(ModuleError::TooMany { things, count, limit }.into())
}

fn is_report(payload: &Payload<'_>) -> bool {
    matches!(payload, Payload::CustomSection(custom) if custom.name() == SECTION)
}
