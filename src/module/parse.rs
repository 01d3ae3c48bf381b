//! Reads a module, and keeps what the rest of this room needs: a few bytes for each thing in it.
//! Nothing here validates; V8 does.

use super::buffers::{count, plus, push, reserve, room_for};
use super::effects::Effects;
use super::limits::{self, at_most};
use super::names::{IMPORT_MODULE, SECTION};
use super::report::{Import, Memory, Report, Segment};
use super::types::Types;
use crate::error::{Error, ModuleError, Result};
use std::ops::Range;
use wasmparser::{
    ConstExpr, DataKind, DataSectionReader, ElementItems, ElementKind, ElementSectionReader,
    Encoding, ExportSectionReader, ExternalKind, GlobalSectionReader, ImportSectionReader,
    Operator, Parser, Payload, RefType, TableInit, TableSectionReader, TypeRef, ValType,
};

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
    /// The id and contents of each section but the report's.
    pub sections: Vec<(u8, Range<u64>)>,
    /// The report of a module that was exposed before.
    pub known: Option<Report>,
    pub exports: Vec<ExportSectionReader<'a>>,
    pub types: Types,
    pub memory_count: u32,
    /// The first one.
    pub memory: Option<Memory>,
    /// The module and name of each imported memory.
    pub imported_memories: Vec<(&'a str, &'a str)>,
    /// For each memory, whether its addresses have 64 bits.
    pub memories_64: Vec<bool>,
    /// Names of modules that things are imported from, if they start with [`IMPORT_MODULE`].
    pub imported_modules: Vec<&'a str>,
    pub globals: Vec<Global>,
    pub tables: Vec<Table>,
    /// Whether an element segment may hold objects. They are made once for each instance.
    pub segments_hold_objects: bool,
    imported_functions: u32,
    bodies_read: u32,
    /// In order.
    pub passive: Vec<Segment>,
    pub effects: Effects,
    /// Whether some code could not be read. Such code may do anything.
    pub unread_code: bool,
}

impl<'a> Parsed<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self> {
        // A length that has more than 32 bits is above the limit all the same.
        let byte_length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        at_most("bytes", byte_length, limits::MODULE_BYTES)?;
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

    /// How many functions there are. Of a module that is cut off, those whose code is there.
    pub(super) fn function_count(&self) -> u32 {
        plus(self.imported_functions, self.bodies_read)
    }

    fn read_payload(&mut self, payload: Payload<'a>) -> Result<()> {
        match payload {
            Payload::TypeSection(types) => self.types.read(types),
            Payload::ImportSection(imports) => self.read_imports(imports),
            Payload::FunctionSection(functions) => {
                at_most("functions", functions.count(), limits::FUNCTIONS)
            }
            Payload::TableSection(tables) => self.read_tables(tables),
            Payload::MemorySection(memories) => {
                for memory in memories {
                    self.add_memory(None, &memory?)?;
                }
                Ok(())
            }
            Payload::GlobalSection(globals) => self.read_globals(globals),
            Payload::ExportSection(exports) => self.read_exports(exports),
            Payload::ElementSection(elements) => self.read_elements(elements),
            Payload::DataSection(data) => self.read_data(data),
            Payload::CodeSectionEntry(body) => {
                let function = self.function_count();
                count(&mut self.bodies_read);
                self.unread_code |= !self.effects.read_code(function, &body)?;
                Ok(())
            }
            Payload::CustomSection(custom) if custom.name() == SECTION => {
                self.known = Report::decode(custom.data())?;
                Ok(())
            }
            Payload::Version { encoding: Encoding::Component, .. } => {
                Err(ModuleError::Component.into())
            }
            _ => Ok(()),
        }
    }

    fn read_imports(&mut self, imports: ImportSectionReader<'a>) -> Result<()> {
        at_most("imports", imports.count(), limits::IMPORTS)?;
        for import in imports.into_imports() {
            let import = import?;
            if import.module.starts_with(IMPORT_MODULE) {
                push(&mut self.imported_modules, import.module)?;
            }
            match import.ty {
                TypeRef::Func(_) | TypeRef::FuncExact(_) => {
                    count(&mut self.imported_functions);
                    at_most("functions", self.imported_functions, limits::FUNCTIONS)?;
                }
                TypeRef::Table(table) => {
                    push(&mut self.tables, Table { ty: table.element_type, imported: true })?;
                }
                TypeRef::Memory(memory) => {
                    let import = (import.module, import.name);
                    push(&mut self.imported_memories, import)?;
                    self.add_memory(Some(import), &memory)?;
                }
                TypeRef::Global(ty) => {
                    let global = Global { ty: ty.content_type, mutable: ty.mutable };
                    push(&mut self.globals, global)?;
                }
                TypeRef::Tag(_) => {}
            }
        }
        Ok(())
    }

    fn read_tables(&mut self, tables: TableSectionReader<'a>) -> Result<()> {
        at_most("tables", tables.count(), limits::TABLES)?;
        for table in tables {
            let table = table?;
            push(&mut self.tables, Table { ty: table.ty.element_type, imported: false })?;
            if let TableInit::Expr(init) = table.init {
                self.refer(&init)?;
            }
        }
        Ok(())
    }

    fn read_globals(&mut self, globals: GlobalSectionReader<'a>) -> Result<()> {
        at_most("globals", globals.count(), limits::GLOBALS)?;
        for global in globals {
            let global = global?;
            let ty = global.ty;
            push(&mut self.globals, Global { ty: ty.content_type, mutable: ty.mutable })?;
            self.refer(&global.init_expr)?;
        }
        Ok(())
    }

    fn read_exports(&mut self, exports: ExportSectionReader<'a>) -> Result<()> {
        at_most("exports", exports.count(), limits::EXPORTS)?;
        for export in exports.clone() {
            let export = export?;
            if matches!(export.kind, ExternalKind::Func | ExternalKind::FuncExact) {
                self.effects.escapes(export.index)?;
            }
        }
        push(&mut self.exports, exports)
    }

    fn read_elements(&mut self, elements: ElementSectionReader<'a>) -> Result<()> {
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
                    self.segments_hold_objects |= self.types.may_hold_objects(ValType::Ref(ty));
                    for expression in expressions {
                        self.refer(&expression?)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Data segments go before element segments in `passive`, but their section comes later.
    fn read_data(&mut self, data: DataSectionReader<'a>) -> Result<()> {
        at_most("data segments", data.count(), limits::DATA_SEGMENTS)?;
        let mut passive = Vec::new();
        for (index, data) in (0..).zip(data) {
            if matches!(data?.kind, DataKind::Passive) {
                push(&mut passive, Segment::Data(index))?;
            }
        }
        reserve(&mut passive, self.passive.len())?;
        passive.append(&mut self.passive);
        self.passive = passive;
        Ok(())
    }

    fn add_memory(
        &mut self,
        import: Option<(&str, &str)>,
        ty: &wasmparser::MemoryType,
    ) -> Result<()> {
        count(&mut self.memory_count);
        push(&mut self.memories_64, ty.memory64)?;
        if self.memory.is_some() {
            return Ok(());
        }
        self.memory = Some(Memory {
            import: import.map(|(module, name)| Import::of(module, name)),
            initial: ty.initial,
            maximum: ty.maximum,
            shared: ty.shared,
            is_64: ty.memory64,
            ..Memory::default()
        });
        Ok(())
    }

    pub(super) fn imported_functions(&self) -> u32 {
        self.imported_functions
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
}

impl From<wasmparser::Error> for Error {
    fn from(error: wasmparser::Error) -> Self {
        ModuleError::Unreadable { what: error.message().to_owned(), at: error.offset() }.into()
    }
}

fn is_report(payload: &Payload<'_>) -> bool {
    matches!(payload, Payload::CustomSection(custom) if custom.name() == SECTION)
}
