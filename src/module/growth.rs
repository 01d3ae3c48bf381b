//! Replaces each `memory.grow` by a call of the host.
//!
//! ```text
//! memory.grow N   ->   call $grow:N
//!
//! (import "hostmap" "grow:N" (func $host (param $pages T) (param $size T) (result T)))
//! (func $grow:N (param $pages T) (result T) (local $answer T)
//!   (local.set $answer (call $host (local.get $pages) (memory.size N)))
//!   (if (result T) (T.eq (local.get $answer) (T.const -2))
//!     (then (memory.grow N (local.get $pages)))      ;; as if nobody had been asked
//!     (else (local.get $answer))))                   ;; the host has grown it, or -1
//! ```
//!
//! The host answers -2 while the start function runs in a module that defines its memory: the host
//! can't reach the memory yet. It decides about the growth all the same, and no mapping exists yet
//! that the growth could leave unprotected.
//!
//! Imports come before a module's own functions, so the indices of those shift. The added types and
//! functions come last. wasm-encoder's `reencode` finds all indices outside of code, those in the
//! name section included. Code is copied, and only what names a function is written anew: its
//! `instruction` would bring two instances of every instruction into the addon, and their names. A
//! module that can't be read is refused.

use super::buffers::{count, plus, reserve, slice};
use super::exports::Exports;
use super::expose::expose_state;
use super::limits::MOST_GROWN;
use super::names::{IMPORT_MODULE, PREFIX};
use super::parse::Parsed;
use super::report::{Import, StateKind};
use crate::error::{Error, ModuleError, Result};
use std::ops::Range;
use wasm_encoder::reencode::{self, Reencode, utils};
use wasm_encoder::{
    BlockType, CodeSection, ConstExpr, EntityType, ExportKind, ExportSection, Function,
    FunctionSection, ImportSection, InstructionSink, Module, SectionId, TypeSection, ValType,
};
use wasmparser::{
    CustomSectionReader, FunctionBody, KnownCustom, Operator, OperatorsReader, Parser,
};

/// The host's answer if it leaves the growth to the module.
const GROW_HERE: i32 = -2;

/// A module that asks the host for growth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instrumented {
    pub bytes: Vec<u8>,
    /// The module name that the functions are imported from. The module itself doesn't use it.
    pub import_module: String,
    /// Each memory that the code grows. The host's function for it is called `grow:INDEX`.
    pub memories: Vec<GrownMemory>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrownMemory {
    pub index: u32,
    pub is_64: bool,
    pub import: Option<Import>,
    /// The name of its export.
    pub export: String,
    /// The export was added.
    pub added: bool,
}

/// Makes a module ask the host for each growth. A module whose code grows no memory stays the same.
pub fn instrument_growth(bytes: &[u8]) -> Result<Instrumented> {
    let module = Parsed::read(bytes)?;
    let import_module = free_module(&module)?;
    if module.unread_code {
        return Err(ModuleError::UnreadCode.into());
    }
    let Some(type_count) = module.types.count() else {
        return Err(ModuleError::UnreadTypes.into());
    };
    if module.effects.grown.len() > MOST_GROWN {
        return Err(ModuleError::GrowsTooMany.into());
    }
    let memories = grown_memories(&module, &Exports::all_of(bytes, &module)?)?;
    if memories.is_empty() {
        let mut copy = Vec::new();
        reserve(&mut copy, bytes.len())?;
        copy.extend_from_slice(bytes);
        return Ok(Instrumented { bytes: copy, import_module, memories });
    }
    let mut rewrite = Rewrite {
        bytes,
        import_module: &import_module,
        memories: &memories,
        type_count,
        imported: module.imported_functions(),
        function_count: module.function_count(),
        has_imports: false,
        has_exports: false,
    };
    let mut out = Module::new();
    rewrite.parse_core_module(&mut out, Parser::new(0), bytes)?;
    let mut bytes = out.finish();
    if module.known.is_some() {
        // The report lists exports, and those have changed.
        bytes = expose_state(&bytes)?.bytes;
    }
    Ok(Instrumented { bytes, import_module, memories })
}

/// The memories that code grows, with their exports.
fn grown_memories(module: &Parsed<'_>, exports: &Exports<'_>) -> Result<Vec<GrownMemory>> {
    let mut memories = Vec::new();
    reserve(&mut memories, module.effects.grown.len())?;
    for &index in &module.effects.grown {
        let at = index as usize;
        let Some(&is_64) = module.memories_64.get(at) else {
            return Err(ModuleError::GrowsNone { index }.into());
        };
        let own = exports.own_name(StateKind::Memory, index).map(str::to_owned);
        let added = own.is_none();
        let import = module.imported_memories.get(at);
        memories.push(GrownMemory {
            index,
            is_64,
            import: import.map(|&(module, name)| Import::of(module, name)),
            export: own.unwrap_or_else(|| free_export(exports, index)),
            added,
        });
    }
    Ok(memories)
}

/// A free name for a memory's export. The first memory gets the name that `expose_state` gives it.
fn free_export(exports: &Exports<'_>, index: u32) -> String {
    let name =
        if index == 0 { format!("{PREFIX}memory") } else { format!("{PREFIX}memory-{index}") };
    first_free(&name, |name| exports.is_taken(name))
}

fn free_module(module: &Parsed<'_>) -> Result<String> {
    let mut taken = Vec::new();
    reserve(&mut taken, module.imported_modules.len())?;
    taken.extend_from_slice(&module.imported_modules);
    taken.sort_unstable();
    Ok(first_free(IMPORT_MODULE, |name| taken.binary_search(&name).is_ok()))
}

fn first_free(name: &str, is_taken: impl Fn(&str) -> bool) -> String {
    let mut free = name.to_owned();
    let mut attempt: u32 = 1;
    while is_taken(&free) {
        count(&mut attempt);
        free = format!("{name}:{attempt}");
    }
    free
}

type Outcome<T> = std::result::Result<T, reencode::Error<Error>>;

impl From<reencode::Error<Error>> for Error {
    fn from(error: reencode::Error<Error>) -> Self {
        match error {
            reencode::Error::ParseError(error) => error.into(),
            reencode::Error::UserError(error) => error,
            other => ModuleError::NotRewritten { why: other.to_string() }.into(),
        }
    }
}

struct Rewrite<'a> {
    /// The module before the rewrite.
    bytes: &'a [u8],
    import_module: &'a str,
    memories: &'a [GrownMemory],
    /// This and the two fields below count things of the module before the rewrite.
    type_count: u32,
    imported: u32,
    function_count: u32,
    has_imports: bool,
    has_exports: bool,
}

impl Rewrite<'_> {
    fn added(&self) -> u32 {
        u32::try_from(self.memories.len()).expect("at most MOST_GROWN")
    }

    /// The types of the host's function and of the added function. Each address type has two.
    fn types_of(&self, memory: &GrownMemory) -> (u32, u32) {
        let first = plus(self.type_count, if memory.is_64 { 2 } else { 0 });
        (first, plus(first, 1))
    }

    /// The index of the host's function for a memory, by its place in the list.
    fn host_function(&self, at: u32) -> u32 {
        plus(self.imported, at)
    }

    /// The index of the added function for a memory, by its place in the list.
    fn own_function(&self, at: u32) -> u32 {
        plus(plus(self.function_count, self.added()), at)
    }

    fn add_imports(&mut self, imports: &mut ImportSection) {
        self.has_imports = true;
        for memory in self.memories {
            let (ty, _) = self.types_of(memory);
            imports.import(
                self.import_module,
                &format!("grow:{}", memory.index),
                EntityType::Function(ty),
            );
        }
    }

    fn add_exports(&mut self, exports: &mut ExportSection) {
        self.has_exports = true;
        for memory in self.memories.iter().filter(|memory| memory.added) {
            exports.export(&memory.export, ExportKind::Memory, memory.index);
        }
    }

    /// The index of a function that the module had, after the rewrite.
    fn shifted(&self, function: u32) -> Outcome<u32> {
        if function < self.imported {
            return Ok(function);
        }
        let too_large = || reencode::Error::UserError(ModuleError::TooManyFunctions.into());
        function.checked_add(self.added()).ok_or_else(too_large)
    }

    /// The index of the function that is called in place of `memory.grow`.
    fn instead_of_grow(&self, memory: u32) -> Outcome<u32> {
        let at = self.memories.binary_search_by_key(&memory, |memory| memory.index).ok();
        let at = at.and_then(|at| u32::try_from(at).ok());
        let missing = || reencode::Error::UserError(ModuleError::ReadTwice.into());
        Ok(self.own_function(at.ok_or_else(missing)?))
    }

    /// Copies the module's bytes from an offset to the end of the code that follows it.
    fn copy_code(&self, from: u64, mut code: OperatorsReader<'_>) -> Outcome<Vec<u8>> {
        let mut copy = Vec::new();
        let mut copied = from;
        let mut anew = Vec::new();
        while !code.eof() {
            let start = code.original_position();
            let operator = code.read()?;
            anew.clear();
            let mut sink = InstructionSink::new(&mut anew);
            match operator {
                Operator::Call { function_index } => sink.call(self.shifted(function_index)?),
                Operator::ReturnCall { function_index } => {
                    sink.return_call(self.shifted(function_index)?)
                }
                Operator::RefFunc { function_index } => {
                    sink.ref_func(self.shifted(function_index)?)
                }
                Operator::MemoryGrow { mem } => sink.call(self.instead_of_grow(mem)?),
                _ => continue,
            };
            copy.extend_from_slice(self.part(copied..start)?);
            copy.extend_from_slice(&anew);
            copied = code.original_position();
        }
        copy.extend_from_slice(self.part(copied..code.original_position())?);
        Ok(copy)
    }

    fn part(&self, range: Range<u64>) -> Outcome<&[u8]> {
        slice(self.bytes, &range).map_err(reencode::Error::UserError)
    }

    fn body(&self, at: u32, memory: &GrownMemory) -> Function {
        let ty = address_type(memory);
        let mut body = Function::new([(1, ty)]);
        let mut sink = body.instructions();
        sink.local_get(0).memory_size(memory.index).call(self.host_function(at)).local_tee(1);
        if memory.is_64 {
            sink.i64_const(GROW_HERE.into()).i64_eq();
        } else {
            sink.i32_const(GROW_HERE).i32_eq();
        }
        sink.if_(BlockType::Result(ty)).local_get(0).memory_grow(memory.index);
        sink.else_().local_get(1).end().end();
        body
    }
}

fn address_type(memory: &GrownMemory) -> ValType {
    if memory.is_64 { ValType::I64 } else { ValType::I32 }
}

impl Reencode for Rewrite<'_> {
    type Error = Error;

    fn function_index(&mut self, function: u32) -> Outcome<u32> {
        self.shifted(function)
    }

    fn const_expr(&mut self, expression: wasmparser::ConstExpr<'_>) -> Outcome<ConstExpr> {
        let start = expression.get_binary_reader().original_position();
        let mut code = self.copy_code(start, expression.get_operators_reader())?;
        // wasm-encoder writes the `end`.
        code.pop();
        Ok(ConstExpr::raw(code))
    }

    fn parse_function_body(
        &mut self,
        code: &mut CodeSection,
        body: FunctionBody<'_>,
    ) -> Outcome<()> {
        // From its locals on.
        code.raw(&self.copy_code(body.range().start, body.get_operators_reader()?)?);
        Ok(())
    }

    fn parse_type_section(
        &mut self,
        types: &mut TypeSection,
        section: wasmparser::TypeSectionReader<'_>,
    ) -> Outcome<()> {
        utils::parse_type_section(self, types, section)?;
        for ty in [ValType::I32, ValType::I64] {
            types.ty().function([ty, ty], [ty]);
            types.ty().function([ty], [ty]);
        }
        Ok(())
    }

    fn parse_import_section(
        &mut self,
        imports: &mut ImportSection,
        section: wasmparser::ImportSectionReader<'_>,
    ) -> Outcome<()> {
        utils::parse_import_section(self, imports, section)?;
        self.add_imports(imports);
        Ok(())
    }

    fn parse_function_section(
        &mut self,
        functions: &mut FunctionSection,
        section: wasmparser::FunctionSectionReader<'_>,
    ) -> Outcome<()> {
        utils::parse_function_section(self, functions, section)?;
        for memory in self.memories {
            functions.function(self.types_of(memory).1);
        }
        Ok(())
    }

    fn parse_export_section(
        &mut self,
        exports: &mut ExportSection,
        section: wasmparser::ExportSectionReader<'_>,
    ) -> Outcome<()> {
        utils::parse_export_section(self, exports, section)?;
        self.add_exports(exports);
        Ok(())
    }

    fn parse_code_section(
        &mut self,
        code: &mut CodeSection,
        section: wasmparser::CodeSectionReader<'_>,
    ) -> Outcome<()> {
        utils::parse_code_section(self, code, section)?;
        for (at, memory) in (0..).zip(self.memories) {
            code.function(&self.body(at, memory));
        }
        Ok(())
    }

    /// Adds the sections that the module lacks, in the required order.
    fn intersperse_section_hook(
        &mut self,
        module: &mut Module,
        _: Option<SectionId>,
        before: Option<SectionId>,
    ) -> Outcome<()> {
        use SectionId::{Code, Data, DataCount, Element, Export, Import, Start, Type};
        if !self.has_imports && !matches!(before, Some(Type | Import)) {
            let mut imports = ImportSection::new();
            self.add_imports(&mut imports);
            module.section(&imports);
        }
        let is_past_exports =
            matches!(before, None | Some(Start | Element | DataCount | Code | Data));
        if !self.has_exports && is_past_exports && before != Some(Export) {
            let mut exports = ExportSection::new();
            self.add_exports(&mut exports);
            if !exports.is_empty() {
                module.section(&exports);
            }
        }
        Ok(())
    }

    fn parse_custom_section(
        &mut self,
        module: &mut Module,
        section: CustomSectionReader<'_>,
    ) -> Outcome<()> {
        // Hints for places in code, which have moved. Engines don't need them.
        if section.name().starts_with("metadata.code.") {
            return Ok(());
        }
        let KnownCustom::Name(names) = section.as_known() else {
            return utils::parse_custom_section(self, module, section);
        };
        // Engines ignore names that they can't read. So do we.
        if let Ok(names) = self.custom_name_section(names) {
            module.section(&names);
        }
        Ok(())
    }
}
