//! Makes the report of a module's state, and exports the state that is hidden. All other sections
//! are copied byte for byte.

use super::buffers::{count, push, reserve, slice, sum};
use super::effects::Effect;
use super::exports::Exports;
use super::names::SECTION;
use super::parse::Parsed;
use super::report::{
    self, MOST_TABLE_NAME_BYTES, MOST_TABLES, Memory, Report, StateKind, Unreadable, What,
};
use crate::error::{ModuleError, Result};
use std::borrow::Cow;
use wasm_encoder::Encode;
use wasmparser::ValType;

pub(super) const EXPORT_SECTION: u8 = 7;
/// Start, element, code, data and data count: what may follow the export section.
const AFTER_EXPORTS: [u8; 5] = [8, 9, 10, 11, 12];

/// A module that exports its state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exposed {
    pub bytes: Vec<u8>,
    pub report: Report,
}

/// Adds exports for the memory, if there is exactly one, for mutable globals, and for tables that
/// can change, unless they are exported already. A module that was exposed before stays the same.
pub fn expose_state(bytes: &[u8]) -> Result<Exposed> {
    let module = Parsed::read(bytes)?;
    let mut exports = Exports::own_of(bytes, &module)?;
    let report = make_report(&module, &mut exports)?;
    let section = exports.section()?;
    let data = report.encode()?;

    let mut out = Vec::new();
    let section_bytes = section.as_ref().map_or(0, Vec::len);
    reserve(&mut out, sum([bytes.len(), section_bytes, data.len(), PER_SECTION * 3]))?;
    out.extend_from_slice(&HEADER);
    let mut section = section.as_deref();
    for &(id, ref range) in &module.sections {
        let is_export = id == EXPORT_SECTION;
        if (is_export || AFTER_EXPORTS.contains(&id))
            && let Some(section) = section.take()
        {
            write_section(&mut out, EXPORT_SECTION, &[section])?;
        }
        if !is_export {
            write_section(&mut out, id, &[slice(bytes, range)?])?;
        }
    }
    if let Some(section) = section {
        write_section(&mut out, EXPORT_SECTION, &[section])?;
    }
    let mut name = Vec::new();
    SECTION.encode(&mut name);
    write_section(&mut out, 0, &[&name, &data])?;
    Ok(Exposed { bytes: out, report })
}

pub(super) const HEADER: [u8; 8] = *b"\0asm\x01\0\0\0";
/// An id, and a length.
const PER_SECTION: usize = 6;

pub(super) fn write_section(out: &mut Vec<u8>, id: u8, parts: &[&[u8]]) -> Result<()> {
    let length = parts.iter().map(|part| part.len()).fold(0, |before, more| sum([before, more]));
    let length_field = u32::try_from(length).map_err(|_| ModuleError::SectionTooLong)?;
    // Rarely needed: the caller reserves enough for most modules.
    if out.spare_capacity_mut().len() < sum([length, PER_SECTION]) {
        reserve(out, sum([length, PER_SECTION]))?;
    }
    out.push(id);
    length_field.encode(out);
    for part in parts {
        out.extend_from_slice(part);
    }
    Ok(())
}

/// Finds all that may change, and adds exports for what has none.
fn make_report(module: &Parsed<'_>, exports: &mut Exports<'_>) -> Result<Report> {
    let mut report = Report { memory_count: module.memory_count, ..Report::default() };
    if let Some(memory) = module.memory.as_ref().filter(|_| module.memory_count == 1) {
        let own = exports.own_name(StateKind::Memory, 0).map(str::to_owned);
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
    report.gc_objects = module.types.mutable_objects
        && (module.segments_hold_objects
            || module.globals.iter().any(|global| module.types.may_hold_objects(global.ty))
            || module
                .tables
                .iter()
                .any(|table| module.types.may_hold_objects(ValType::Ref(table.ty))));
    // Without a memory, nothing can be restored.
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
        count(&mut report.global_count);
        let export = match exports.own_name(StateKind::Global, index) {
            Some(name) => Cow::Borrowed(name),
            None => Cow::Owned(exports.add(What::Global(index).first_attempt())?),
        };
        if !module.types.is_readable(global.ty) {
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
            || exports.own_name(StateKind::Table, index).is_some()
            || effects.binary_search(&Effect::ChangesTable(index)).is_ok()
    };
    let tables = || (0..).zip(&module.tables);
    // Code may copy functions from tables that don't change. A restore finds a function by its
    // place in a table, so those tables must be exported, too.
    let carries_functions = tables()
        .any(|(index, table)| is_changeable(exports, index, table.imported))
        || module
            .globals
            .iter()
            .any(|global| global.mutable && module.types.may_hold_functions(global.ty));
    for (index, table) in tables() {
        // An export would let the host change a table that nothing can change now.
        if !carries_functions && !is_changeable(exports, index, table.imported) {
            continue;
        }
        count(&mut report.table_count);
        let (export, added) = match exports.own_name(StateKind::Table, index) {
            Some(name) => (Cow::Borrowed(name), false),
            None => (Cow::Owned(exports.add(What::Table(index).first_attempt())?), true),
        };
        let may = |effect| module.unread_code || effects.binary_search(&effect).is_ok();
        if report.tables.len() < MOST_TABLES && export.len() <= MOST_TABLE_NAME_BYTES {
            let told = report::Table {
                export: export.clone().into_owned(),
                added,
                imported: table.imported,
                changed: may(Effect::ChangesTable(index)),
                sized: may(Effect::Sizes(index)),
            };
            push(&mut report.tables, told)?;
        }
        if !module.types.is_readable(ValType::Ref(table.ty)) {
            let ty = table.ty.to_string();
            report.unreadable_tables.add(|| Unreadable { export: export.into_owned(), ty });
        }
    }
    // All of them, or none.
    if u32::try_from(report.tables.len()) != Ok(report.table_count) {
        report.tables.clear();
    }
    Ok(())
}
