//! What a report says of tables, held against another reading of the module: one that does not
//! follow calls.

use std::collections::{BTreeMap, BTreeSet};
use wasm_hostmap::module::Exposed;
use wasmparser::{ExternalKind, FunctionBody, Operator, Parser, Payload, TypeRef};

/// Tables, by their indices.
#[derive(Default)]
struct Uses {
    written: BTreeSet<u32>,
    sized: BTreeSet<u32>,
}

/// Code that is exported can be called; code that is not there does nothing.
pub fn check(bytes: &[u8], exposed: &Exposed) {
    let (anywhere, exported) = uses(bytes);
    let report = &exposed.report;
    let indices = tables(&exposed.bytes);
    let mut told = BTreeSet::new();
    for table in &report.tables {
        let index = indices[table.export.as_str()];
        told.insert(index);
        let says = |flag: bool, anywhere: &BTreeSet<u32>, exported: &BTreeSet<u32>, what: &str| {
            assert!(!flag || anywhere.contains(&index), "no code {what} table {index}");
            assert!(flag || !exported.contains(&index), "code {what} table {index}");
        };
        says(table.changed, &anywhere.written, &exported.written, "writes");
        says(table.sized, &anywhere.sized, &exported.sized, "sizes");
    }
    if report.tables.len() == report.table_count as usize {
        assert!(exported.written.is_subset(&told), "a table that code writes is not told of");
    }
}

/// What all code does, and what functions do that are exported.
fn uses(bytes: &[u8]) -> (Uses, Uses) {
    let (mut anywhere, mut exported) = (Uses::default(), Uses::default());
    let mut shown = BTreeSet::new();
    let mut function = 0;
    for payload in payloads(bytes) {
        match payload {
            Payload::ImportSection(imports) => {
                for import in imports.into_imports() {
                    let ty = import.expect("a valid module").ty;
                    function += u32::from(matches!(ty, TypeRef::Func(_) | TypeRef::FuncExact(_)));
                }
            }
            Payload::ExportSection(exports) => {
                for export in exports {
                    let export = export.expect("a valid module");
                    if matches!(export.kind, ExternalKind::Func | ExternalKind::FuncExact) {
                        shown.insert(export.index);
                    }
                }
            }
            Payload::CodeSectionEntry(body) => {
                read(&body, &mut anywhere);
                if shown.contains(&function) {
                    read(&body, &mut exported);
                }
                function += 1;
            }
            _ => {}
        }
    }
    (anywhere, exported)
}

fn read(body: &FunctionBody<'_>, uses: &mut Uses) {
    for operator in body.get_operators_reader().expect("a valid module") {
        match operator.expect("a valid module") {
            Operator::TableGrow { table } => {
                uses.written.insert(table);
                uses.sized.insert(table);
            }
            Operator::TableSize { table } => {
                uses.sized.insert(table);
            }
            Operator::TableSet { table }
            | Operator::TableFill { table }
            | Operator::TableInit { table, .. }
            | Operator::TableCopy { dst_table: table, .. }
            | Operator::TableAtomicSet { table_index: table, .. }
            | Operator::TableAtomicRmwXchg { table_index: table, .. }
            | Operator::TableAtomicRmwCmpxchg { table_index: table, .. } => {
                uses.written.insert(table);
            }
            _ => {}
        }
    }
}

/// The tables that a module exports, by their names.
fn tables(bytes: &[u8]) -> BTreeMap<&str, u32> {
    let mut found = BTreeMap::new();
    for payload in payloads(bytes) {
        if let Payload::ExportSection(exports) = payload {
            for export in exports {
                let export = export.expect("a valid module");
                if export.kind == ExternalKind::Table {
                    found.insert(export.name, export.index);
                }
            }
        }
    }
    found
}

fn payloads(bytes: &[u8]) -> impl Iterator<Item = Payload<'_>> {
    Parser::new(0).parse_all(bytes).map(|payload| payload.expect("a valid module"))
}
