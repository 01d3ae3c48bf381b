//! Tests of whole modules: what is exposed, found and refused. Growth is in `growth.rs`,
//! damaged modules and limits are in `hostile.rs`.

mod growth;
mod hostile;

use super::buffers::slice;
use super::expose::{EXPORT_SECTION, HEADER, write_section};
use super::*;
use crate::error::Code;
use proptest::prelude::*;
use wasm_encoder::{CustomSection, Encode};
use wasmparser::{ExternalKind, Parser, Payload};

fn wasm(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap()
}

/// What a text's module shows once it is exposed. Checks what holds for all modules.
fn exposed(text: &str) -> Exposed {
    let bytes = wasm(text);
    let exposed = expose_state(&bytes).unwrap();
    assert_eq!(expose_state(&exposed.bytes).unwrap(), exposed);
    assert_eq!(Report::decode(&exposed.report.encode().unwrap()), Ok(Some(exposed.report.clone())));
    assert_eq!(exposed.report.export_count as usize, exports(&exposed.bytes).len());
    let others =
        |bytes: &[u8]| sections(bytes, |id, name| id != EXPORT_SECTION && name != Some(SECTION));
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

/// The names that were added for what one kind of thing is.
fn names(report: &Report, kind: &str) -> Vec<String> {
    let names = report.added.iter().map(Added::name);
    names.filter(|name| name.starts_with(&format!("{PREFIX}{kind}"))).collect()
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
    let expected: Vec<_> =
        expected.map(|(name, kind, index)| (name.to_owned(), kind, index)).into();
    assert_eq!(exports(&exposed.bytes), expected);

    let Report { memory_count, memory, global_count, table_count, unreadable_globals, .. } =
        exposed.report;
    let memory = memory.unwrap();
    assert_eq!((memory_count, memory.initial, memory.maximum), (1, 1, Some(10)));
    assert!(memory.added && memory.import.is_none() && !memory.shared && !memory.is_64);
    assert_eq!((global_count, table_count), (3, 2));
    let vector = Unreadable { export: "hostmap:global:4".to_owned(), ty: "v128".to_owned() };
    assert_eq!(unreadable_globals, Few { first: vec![vector], count: 1 });
    assert_eq!(exposed.report.unreadable_tables.count, 0);
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
    let report = exposed.report;
    assert_eq!(names(&report, ""), ["hostmap:global:1"]);
    // A host can change the table.
    assert_eq!((report.global_count, report.table_count), (2, 1));
    let memory = report.memory.unwrap();
    assert_eq!((memory.export.as_str(), memory.added), ("memory", false));
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
    let report = report(text);
    assert_eq!(names(&report, "table"), ["hostmap:table:0:2"]);
    assert_eq!(report.memory.unwrap().export, "hostmap:memory:3");
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
    assert_eq!(memory.import, Some(Import::of("a", "b")));
}

#[test]
fn tables_that_can_change_are_found_and_others_stay_hidden() {
    let shown = |rest: &str| {
        let text = format!(
            r"(module (table $a 4 funcref) (table $b 4 funcref) (elem $e func $f) (func $f) {rest})"
        );
        let report = report(&text);
        (names(&report, "table"), report.table_count)
    };
    let both = (["hostmap:table:0", "hostmap:table:1"].map(str::to_owned).to_vec(), 2);
    let none = (vec![], 0);
    let run = |code: &str| shown(&format!(r#"(func (export "run") {code})"#));
    assert_eq!(run("(drop (table.get $a (i32.const 0)))"), none);
    // Where one of them changes, functions may come from the other.
    assert_eq!(run("(table.set $a (i32.const 0) (ref.null func))"), both);
    assert_eq!(run("(drop (table.grow $b (ref.null func) (i32.const 1)))"), both);
    assert_eq!(run("(table.fill $b (i32.const 0) (ref.null func) (i32.const 1))"), both);
    assert_eq!(run("(table.copy $b $a (i32.const 0) (i32.const 0) (i32.const 1))"), both);
    assert_eq!(run("(table.init $a $e (i32.const 0) (i32.const 0) (i32.const 1))"), both);
    assert_eq!(shown(r#"(export "b" (table $b))"#), (vec!["hostmap:table:0".to_owned()], 2));
    assert_eq!(shown("(global (mut funcref) (ref.null func))"), both);
    assert_eq!(shown("(global funcref (ref.null func)) (global (mut i32) (i32.const 0))"), none);
    assert_eq!(report(r#"(module (import "env" "table" (table 1 funcref)))"#).table_count, 1);
}

#[test]
fn what_code_does_with_tables_is_told() {
    let told = |text: &str| {
        let report = report(text);
        assert_eq!(report.tables.len(), report.table_count as usize);
        let told = report.tables.into_iter().map(|table| {
            let flags = [
                (table.added, '+'),
                (table.imported, 'i'),
                (table.changed, 'c'),
                (table.sized, 's'),
            ];
            let flags = flags.iter().filter(|(has, _)| *has).map(|&(_, flag)| flag);
            format!("{} {}", table.export, flags.collect::<String>()).trim_end().to_owned()
        });
        told.collect::<Vec<_>>()
    };
    let of_code = |code: &str| {
        told(&format!(
            r#"(module (import "e" "i" (table $i 1 funcref)) (table $t (export "t") (export "u") 1 funcref)
                (table $h 1 funcref) (elem $e func) (elem declare func $f) (func $f)
                (func (export "run") {code}))"#
        ))
    };
    let none = ["hostmap:table:0 +i", "t", "hostmap:table:2 +"];
    assert_eq!(of_code("(drop (table.get $t (i32.const 0)))"), none);
    assert_eq!(of_code("(table.set $t (i32.const 0) (ref.func $f))"), [none[0], "t c", none[2]]);
    let grows = "(drop (table.grow $i (ref.null func) (i32.const 1)))";
    assert_eq!(of_code(grows), ["hostmap:table:0 +ics", none[1], none[2]]);
    let sizes = "(drop (table.size $h))";
    assert_eq!(of_code(sizes), [none[0], none[1], "hostmap:table:2 +s"]);
    for writes in [
        "(table.fill $t (i32.const 0) (ref.null func) (i32.const 1))",
        "(table.copy $t $i (i32.const 0) (i32.const 0) (i32.const 1))",
        "(table.init $t $e (i32.const 0) (i32.const 0) (i32.const 0))",
    ] {
        assert_eq!(of_code(writes), [none[0], "t c", none[2]], "{writes}");
    }
    // Only what the start function does is the same each time.
    let start = |rest: &str| {
        told(&format!(
            r#"(module (table $t (export "t") 1 funcref) (start $init)
                (func $init (drop (table.grow $t (ref.null func) (table.size $t)))) {rest})"#
        ))
    };
    assert_eq!(start(""), ["t"]);
    assert_eq!(start(r#"(func (export "f") (call $init))"#), ["t cs"]);
    assert_eq!(start("(elem declare func $init)"), ["t cs"]);
    assert!(told("(module (table 1 funcref))").is_empty());
}

#[test]
fn tables_are_told_of_one_by_one_unless_they_are_many_or_have_long_names() {
    let told = |count: usize, name: &str| {
        let tables = "(table 1 funcref)".repeat(count);
        let report = report(&format!(r#"(module {tables} (export "{name}" (table 0)))"#));
        assert_eq!(report.table_count as usize, count);
        report.tables.len()
    };
    assert_eq!(told(report::MOST_TABLES, "t"), report::MOST_TABLES);
    assert_eq!(told(report::MOST_TABLES + 1, "t"), 0);
    assert_eq!(told(2, &"t".repeat(report::MOST_TABLE_NAME_BYTES)), 2);
    assert_eq!(told(2, &"t".repeat(report::MOST_TABLE_NAME_BYTES + 1)), 0);
    // A report that leaves some out is none.
    let mut some =
        report(r#"(module (table (export "a") 1 funcref) (table (export "b") 1 funcref))"#);
    some.tables.pop();
    assert_eq!(Report::decode(&some.encode().unwrap()), Ok(None));
    some.tables.clear();
    assert_eq!(Report::decode(&some.encode().unwrap()), Ok(Some(some)));
}

#[test]
fn segments_that_the_start_function_drops_are_none_to_worry_about() {
    let dropped = |rest: &str| {
        let text = format!(
            r#"(module (memory 1) (data $passive "abc") (data $other "d") (data (i32.const 0) "x")
                (func $init (memory.init $passive (i32.const 0) (i32.const 0) (i32.const 3)) (call $drop))
                (func $drop (data.drop $passive) (data.drop 2)) {rest})"#
        );
        let report = report(&text);
        assert_eq!(names(&report, "dropped").len(), report.dropped_segments.first.len());
        report.dropped_segments.first
    };
    assert_eq!(dropped("(start $init)"), []);
    assert_eq!(dropped(""), []);
    assert_eq!(dropped(r#"(start $init) (export "init" (func $init))"#), [Segment::Data(0)]);
    // The one that drops can be called later, and nothing then that would miss the segment.
    assert_eq!(dropped(r#"(start $init) (func (export "later") (call $drop))"#), []);
    assert_eq!(dropped("(start $init) (elem declare func $init)"), [Segment::Data(0)]);
    let text = r#"(module (table 1 funcref) (elem $e func) (func (export "run")
        (table.init $e (i32.const 0) (i32.const 0) (i32.const 0)) (elem.drop $e)))"#;
    assert_eq!(report(text).dropped_segments.first, [Segment::Element(0)]);
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
    let unreadable = report("(module (table (export \"t\") 1 exnref))").unreadable_tables;
    assert_eq!(unreadable.first, [Unreadable { export: "t".to_owned(), ty: "exnref".to_owned() }]);
    // Any instance tells, by a name of its memory.
    let module = "(module (memory 1) (type $s (struct (field (mut i32)))) (global (mut anyref) (ref.null any)))";
    assert_eq!(names(&report(module), "gc"), ["hostmap:gc-objects"]);
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
    let Report { memory, table_count, global_count, gc_objects, .. } = report(text);
    assert!(memory.unwrap().is_64);
    assert_eq!((global_count, table_count), (1, 0));
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
    assert_eq!(exposed.report.table_count, 1);
    assert!(exposed.report.tables.iter().all(|table| table.changed && table.sized));
    assert_eq!(exposed.report.dropped_segments.first, [Segment::Data(0)]);
    assert_eq!(expose_state(&exposed.bytes).unwrap(), exposed);
}

#[test]
fn a_forged_report_changes_nothing() {
    let text = r#"(module (memory (export "hostmap:memory") 1) (global (export "g") (mut i32) (i32.const 0)))"#;
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
    assert_eq!(with(&Report::default().encode().unwrap()), honest);
    // One that calls the module's own exports added: they are added again then.
    let mut forged = honest.clone();
    forged.added.push(Added { what: What::Memory, attempt: 1 });
    let found = with(&forged.encode().unwrap()).memory.unwrap();
    assert_eq!((found.export.as_str(), found.added), ("hostmap:memory", true));
}

#[test]
fn errors_say_where() {
    let message = |bytes: &[u8]| {
        let error = expose_state(bytes).unwrap_err();
        assert_eq!(error.code(), Code::InvalidValue);
        error.to_string()
    };
    assert!(message(b"").ends_with("at byte 0"));
    assert!(message(b"(module)").contains("at byte 0"));
    let bytes = wasm(r#"(module (memory 1) (func (export "run")))"#);
    assert!(message(&bytes[..bytes.len() - 1]).contains("at byte"));
    assert!(message(b"\0asm\x0d\0\x01\0").contains("component"));
}

#[test]
fn a_report_that_nobody_wrote_is_none() {
    let added = |count: u32| {
        let mut report = Report { added: Vec::new(), ..Report::default() };
        report.added.resize(count as usize, Added { what: What::Global(7), attempt: 1 });
        report.encode().unwrap()
    };
    let most = Report::decode(&added(MOST_ADDED)).unwrap().unwrap();
    assert_eq!(most.added.len(), MOST_ADDED as usize);
    assert_eq!(Report::decode(&added(MOST_ADDED + 1)), Ok(None));

    // A count with nothing behind it.
    let bytes = Report::default().encode().unwrap();
    let at = bytes.windows(6).position(|part| part == b"\xa5added").unwrap() + 6;
    assert_eq!(bytes[at], 0x90, "an empty list");
    let [before, after] = [&bytes[..at], &bytes[at + 1..]];
    let with = |list: &[u8]| Report::decode(&[before, list, after].concat());
    assert_eq!(with(&[0x90]), Ok(Some(Report::default())));
    assert_eq!(with(&[0xdd, 0xff, 0xff, 0xff, 0xff]), Ok(None));
    // The same list, written longer than need be.
    assert_eq!(with(&[0xdc, 0, 0]), Ok(None));
    assert_eq!(Report::decode(&[&bytes[..], &[0xc0]].concat()), Ok(None));

    let attempt = Added { what: What::Memory, attempt: 0 };
    let report = Report { added: vec![attempt], ..Report::default() };
    assert_eq!(Report::decode(&report.encode().unwrap()), Ok(None));
    let few = Few { first: vec![Segment::Data(1)], count: 2 };
    let report = Report { dropped_segments: few, ..Report::default() };
    assert_eq!(Report::decode(&report.encode().unwrap()), Ok(None));
}

#[test]
fn a_report_has_the_names_of_its_fields() {
    let data = report("(module (memory 1) (global (mut i32) (i32.const 0)))").encode().unwrap();
    assert_eq!(data[0], section::VERSION);
    for name in ["memory_count", "export", "maximum", "global", "attempt", "gc_objects"] {
        assert!(data.windows(name.len()).any(|part| part == name.as_bytes()), "{name}");
    }
    // A field that this version doesn't know.
    let at = data.windows(10).position(|part| part == b"gc_objects").unwrap();
    let mut other = data.clone();
    other[at] = b'x';
    assert_eq!(Report::decode(&other), Ok(None));
}

#[test]
fn a_module_of_another_version_is_refused_by_its_number() {
    let bytes = exposed("(module (memory 1))").bytes;
    let data = report("(module (memory 1))").encode().unwrap();
    let at = bytes.len() - data.len();
    for version in [0, 1, 2, 3, section::VERSION + 1, 0xff] {
        let mut other = bytes.clone();
        other[at] = version;
        for error in [expose_state(&other).unwrap_err(), instrument_growth(&other).unwrap_err()] {
            assert_eq!(error.code(), Code::UnsuitableModule);
            let message = error.to_string();
            assert!(message.contains(&format!("version {version},")), "{message}");
        }
    }
}
