//! Modules, and exports for the state that they hide.

use super::buffer::bytes_of;
use super::task::{Job, NativeTask};
use crate::error::{Error, ModuleError};
use crate::module::{self, Added, Exposed, Few, Import, Instrumented, Report, Table};
use crate::sys::to_usize;
use napi::Env;
use napi::bindgen_prelude::{AsyncTask, Uint8Array, Unknown};
use napi_derive::napi;

/// What an instance shows of its state, and what can't be reached. Its size depends on no count of
/// the module's, but for the text of `added` and for `tables`, which are at most 1,000.
#[napi(object)]
pub struct NativeReport {
    pub memory_count: u32,
    pub memory: Option<NativeMemoryReport>,
    pub export_count: u32,
    /// The names of exports that were added, each with a line break behind it.
    pub added: String,
    /// In words, the first few: `hostmap:global:3 (v128)`. Empty if there are none.
    pub unreadable_globals: String,
    pub unreadable_tables: String,
    /// In words, such as `data segment 0`.
    pub dropped_segments: String,
    pub gc_objects: bool,
    /// What code may do with each table that may change; `undefined` where that is not known.
    pub tables: Option<Vec<NativeTable>>,
}

/// A table, and what the module's own code may do with it after the start function.
#[napi(object)]
pub struct NativeTable {
    pub export_name: String,
    /// The export was added.
    pub added: bool,
    pub imported: bool,
    /// Code may write to it, or grow it.
    pub changed: bool,
    /// Code may learn its size, and keep that.
    pub sized: bool,
}

impl From<Table> for NativeTable {
    fn from(table: Table) -> Self {
        let Table { export, added, imported, changed, sized } = table;
        Self { export_name: export, added, imported, changed, sized }
    }
}

/// The module's only memory.
#[napi(object)]
pub struct NativeMemoryReport {
    pub export_name: String,
    /// `undefined` if the module defines it.
    pub import: Option<NativeImport>,
    pub is64: bool,
}

/// Where a module imports something from.
#[napi(object)]
pub struct NativeImport {
    pub module: String,
    pub name: String,
}

impl NativeImport {
    fn from_core(import: Import) -> Self {
        Self { module: import.module, name: import.name }
    }
}

#[napi(object)]
pub struct NativeExposed {
    pub bytes: Uint8Array,
    pub report: NativeReport,
}

/// The module with its state exported.
#[napi(catch_unwind)]
pub fn expose_state(env: Env, bytes: Unknown<'_>) -> napi::Result<NativeExposed> {
    Ok(module::expose_state(&copy_of(env, bytes)?)?.into())
}

/// The same on another thread.
#[napi(catch_unwind)]
pub fn expose_state_later(
    env: Env,
    task: &NativeTask,
    bytes: Unknown<'_>,
) -> napi::Result<AsyncTask<Job>> {
    let bytes = copy_of(env, bytes)?;
    Ok(task.run(move |_| module::expose_state(&bytes), |it| Ok(NativeExposed::from(it))))
}

/// A module that asks the host for growth: see `src/module/growth.rs`.
#[napi(object)]
pub struct NativeInstrumented {
    pub bytes: Uint8Array,
    pub import_module: String,
    pub memories: Vec<NativeGrownMemory>,
}

/// A memory that code of the module grows.
#[napi(object)]
pub struct NativeGrownMemory {
    pub index: u32,
    pub is64: bool,
    /// `undefined` if the module defines it.
    pub import: Option<NativeImport>,
    pub export_name: String,
    /// The export was added.
    pub added: bool,
}

/// Makes a module ask the host for each growth.
#[napi(catch_unwind)]
pub fn instrument_growth(env: Env, bytes: Unknown<'_>) -> napi::Result<NativeInstrumented> {
    Ok(module::instrument_growth(&copy_of(env, bytes)?)?.into())
}

/// The same on another thread.
#[napi(catch_unwind)]
pub fn instrument_growth_later(
    env: Env,
    task: &NativeTask,
    bytes: Unknown<'_>,
) -> napi::Result<AsyncTask<Job>> {
    let bytes = copy_of(env, bytes)?;
    Ok(task.run(move |_| module::instrument_growth(&bytes), |it| Ok(NativeInstrumented::from(it))))
}

/// What the custom section of an exposed module says; `undefined` for anything else. Refuses the
/// section of another version of this package.
#[napi(catch_unwind)]
pub fn read_report(env: Env, section: Unknown<'_>) -> napi::Result<Option<NativeReport>> {
    Ok(Report::decode(&copy_of(env, section)?)?.map(NativeReport::from))
}

/// The bytes of a module. They are copied since other code may change the array's meanwhile.
fn copy_of(env: Env, array: Unknown<'_>) -> Result<Vec<u8>, Error> {
    let bytes = bytes_of(env, array)?;
    let refused = |_| ModuleError::NoMemoryForCopy { byte_length: to_usize(bytes.byte_length) };
    Ok(bytes.copy().map_err(refused)?)
}

/// The first of a list in words, and how many more there are.
fn words<T>(few: &Few<T>, word: impl Fn(&T) -> String) -> String {
    let first: Vec<_> = few.first.iter().map(word).collect();
    let more = (few.count as usize).checked_sub(first.len());
    match more.expect("the first ones are counted too") {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}

/// An export's name for a message: it may have 100,000 bytes.
fn short(name: &str) -> String {
    const MOST: usize = 60;
    match name.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}...", name.get(..end).unwrap_or_default()),
        None => name.to_owned(),
    }
}

impl From<Instrumented> for NativeInstrumented {
    fn from(made: Instrumented) -> Self {
        let memories = made.memories.into_iter().map(|memory| NativeGrownMemory {
            index: memory.index,
            is64: memory.is_64,
            import: memory.import.map(NativeImport::from_core),
            export_name: memory.export,
            added: memory.added,
        });
        Self {
            bytes: Uint8Array::new(made.bytes),
            import_module: made.import_module,
            memories: memories.collect(),
        }
    }
}

impl From<Exposed> for NativeExposed {
    fn from(exposed: Exposed) -> Self {
        Self { bytes: Uint8Array::new(exposed.bytes), report: exposed.report.into() }
    }
}

impl From<Report> for NativeReport {
    fn from(report: Report) -> Self {
        let unreadable = |few| {
            words(few, |it: &module::Unreadable| format!("{} ({})", short(&it.export), it.ty))
        };
        let is_told = u32::try_from(report.tables.len()) == Ok(report.table_count);
        let mut added = String::new();
        for name in report.added.iter().map(Added::name) {
            added.push_str(&name);
            added.push('\n');
        }
        Self {
            memory_count: report.memory_count,
            unreadable_globals: unreadable(&report.unreadable_globals),
            unreadable_tables: unreadable(&report.unreadable_tables),
            dropped_segments: words(&report.dropped_segments, ToString::to_string),
            memory: report.memory.map(|memory| NativeMemoryReport {
                import: memory.import.map(NativeImport::from_core),
                export_name: memory.export,
                is64: memory.is_64,
            }),
            export_count: report.export_count,
            added,
            gc_objects: report.gc_objects,
            tables: is_told.then(|| report.tables.into_iter().map(NativeTable::from).collect()),
        }
    }
}
