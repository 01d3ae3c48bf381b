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

const SEEDS: [&str; 5] = [
    GROWS,
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
        let _ = instrument_growth(&bytes);
        if let Ok(exposed) = expose_state(&bytes) {
            prop_assert_eq!(&expose_state(&exposed.bytes).unwrap(), &exposed);
        }
    }

    #[test]
    fn no_section_makes_it_panic(mut data in prop::collection::vec(any::<u8>(), 0..60)) {
        let _ = Report::decode(&data);
        if let Some(first) = data.first_mut() {
            *first = section::VERSION;
            let _ = Report::decode(&data);
        }
    }
}

/// A module of one section of so many equal entries.
fn many(section: u8, count: u32, entry: &[u8]) -> Vec<u8> {
    let mut data = Vec::new();
    count.encode(&mut data);
    data.extend(entry.repeat(count as usize));
    let mut bytes = HEADER.to_vec();
    write_section(&mut bytes, section, &[&data]).unwrap();
    bytes
}

#[test]
fn what_no_engine_takes_is_refused_before_it_is_believed() {
    let global = [0x7f, 1, 0x41, 0, 0x0b];
    for (section, entry) in [(6, &global[..]), (2, &[0, 0, 3, 0x7f, 1]), (4, &[0x70, 0, 0])] {
        let error = expose_state(&many(section, 1_000_001, entry)).unwrap_err();
        assert_eq!(error.code(), Code::InvalidValue);
        let message = error.to_string();
        assert!(message.contains("1000001") && message.contains("no engine"), "{message}");
    }
    // A count with nothing behind it.
    let mut bytes = HEADER.to_vec();
    write_section(&mut bytes, 6, &[&[0xff, 0xff, 0xff, 0xff, 0x0f]]).unwrap();
    assert!(expose_state(&bytes).unwrap_err().to_string().contains("4294967295 globals"));
}

#[test]
fn no_more_exports_are_added_than_each_v8_takes() {
    let global = [0x7f, 1, 0x41, 0, 0x0b];
    let exposed = expose_state(&many(6, MOST_ADDED, &global)).unwrap();
    assert_eq!(exposed.report.export_count, MOST_ADDED);
    assert_eq!(expose_state(&exposed.bytes).unwrap(), exposed);
    let error = expose_state(&many(6, MOST_ADDED + 1, &global)).unwrap_err();
    assert_eq!(error.code(), Code::UnsuitableModule);
    let message = error.to_string();
    assert!(message.contains("100000"), "{message}");
}

#[cfg(feature = "inject")]
#[test]
fn memory_that_is_not_there_is_an_error_at_each_step() {
    use crate::sys::inject;
    use nix::errno::Errno;
    let bytes = wasm(SEEDS[2]);
    let thread = Some(std::thread::current().id());
    for before in 0.. {
        inject::arm("malloc", before, Errno::ENOMEM as i32, thread);
        let result = expose_state(&bytes).and_then(|it| Ok((it, instrument_growth(&bytes)?)));
        if inject::disarm(thread) {
            assert!(before > 10);
            assert_eq!(result.unwrap().0, expose_state(&bytes).unwrap());
            break;
        }
        assert_eq!(result.unwrap_err().code(), Code::OutOfMemory);
    }
}

/// The text of what each function does, by wasmparser's names of operators, for functions of the
/// module's own.
fn code(bytes: &[u8]) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for payload in Parser::new(0).parse_all(bytes) {
        if let Payload::CodeSectionEntry(body) = payload.unwrap() {
            let operators = body.get_operators_reader().unwrap().into_iter();
            found.push(operators.map(|operator| format!("{:?}", operator.unwrap())).collect());
        }
    }
    found
}

const GROWS: &str = r#"(module $m
    (type $s (struct (field i32)))
    (import "hostmap" "x" (func $given (param i32)))
    (memory $a 1) (memory $b i64 2) (memory $still 1)
    (table 2 funcref)
    (global funcref (ref.func $first))
    (func $first (param $pages i32) (result i32) (memory.grow $a (local.get $pages)))
    (func $second (result i64) (call $given (i32.const 1)) (drop (ref.func $first)) (memory.grow $b (i64.const 1)))
    (func $third (result i32) (return_call $first (i32.const 3)))
    (start $start) (func $start)
    (elem (i32.const 0) func $first) (elem declare funcref (ref.func $second))
    (export "third" (func $third)) (export "b" (memory $b)))"#;

#[test]
fn growth_becomes_a_call_and_all_functions_are_found_where_they_are() {
    let Instrumented { bytes, import_module, memories } = instrument_growth(&wasm(GROWS)).unwrap();
    assert_eq!(import_module, "hostmap:2");
    let found: Vec<_> =
        memories.iter().map(|it| (it.index, it.is_64, it.export.as_str(), it.added)).collect();
    assert_eq!(found, [(0, false, "hostmap:memory", true), (1, true, "b", false)]);
    // Two imports more.
    let functions = code(&bytes);
    let call = |function: u32| format!("Call {{ function_index: {function} }}");
    assert_eq!(functions.len(), 6);
    assert_eq!(functions[0][1], call(7));
    assert!(functions[1].contains(&call(0)) && functions[1].contains(&call(8)));
    assert!(functions[1].contains(&"RefFunc { function_index: 3 }".to_owned()));
    assert!(functions[2].contains(&"ReturnCall { function_index: 3 }".to_owned()));
    let ours = &functions[5];
    assert!(ours.contains(&call(2)) && ours.contains(&"MemoryGrow { mem: 1 }".to_owned()));
    let exported = exports(&bytes);
    assert!(exported.contains(&("third".to_owned(), ExternalKind::Func, 5)));
    assert!(exported.contains(&("hostmap:memory".to_owned(), ExternalKind::Memory, 0)));
    let mut names = Vec::new();
    for payload in Parser::new(0).parse_all(&bytes) {
        match payload.unwrap() {
            Payload::StartSection { func, .. } => assert_eq!(func, 6),
            Payload::CustomSection(custom) => {
                let wasmparser::KnownCustom::Name(reader) = custom.as_known() else { continue };
                for subsection in reader {
                    if let wasmparser::Name::Function(map) = subsection.unwrap() {
                        names = map
                            .into_iter()
                            .map(|it| it.unwrap())
                            .map(|it| (it.index, it.name.to_owned()))
                            .collect();
                    }
                }
            }
            _ => {}
        }
    }
    let expected = [(0, "given"), (3, "first"), (4, "second"), (5, "third"), (6, "start")];
    assert_eq!(names, expected.map(|(index, name)| (index, name.to_owned())));
}

#[test]
fn a_module_that_does_not_grow_stays_as_it_is() {
    let bytes =
        wasm(r#"(module (memory (export "m") 1) (func (export "size") (result i32) memory.size))"#);
    let made = instrument_growth(&bytes).unwrap();
    assert_eq!((made.bytes, made.memories), (bytes, vec![]));
}

#[test]
fn exposing_and_growth_go_together_in_both_orders() {
    let text = r#"(module (memory 1) (global (mut i32) (i32.const 0)) (table 1 funcref)
        (func $f (export "f") (result i32) (table.set (i32.const 0) (ref.func $f)) (memory.grow (i32.const 1))))"#;
    let names = |report: &Report| report.added.iter().map(Added::name).collect::<Vec<_>>();
    let exposed_first = instrument_growth(&expose_state(&wasm(text)).unwrap().bytes).unwrap();
    let found = expose_state(&exposed_first.bytes).unwrap();
    assert_eq!(found.bytes, exposed_first.bytes);
    assert_eq!(names(&found.report), ["hostmap:memory", "hostmap:global:0", "hostmap:table:0"]);
    assert_eq!(
        (exposed_first.memories[0].export.as_str(), exposed_first.memories[0].added),
        ("hostmap:memory", false)
    );

    let growth_first = expose_state(&instrument_growth(&wasm(text)).unwrap().bytes).unwrap();
    assert_eq!(names(&growth_first.report), ["hostmap:global:0", "hostmap:table:0"]);
    assert_eq!(growth_first.report.memory.unwrap().export, "hostmap:memory");
}

#[test]
fn growth_that_cannot_be_watched_is_refused() {
    let code_of = |bytes: &[u8]| instrument_growth(bytes).unwrap_err().code();
    let mut unread = wasm("(module (memory 1) (func (drop (i32.const 99))))");
    let at = unread.windows(2).rposition(|pair| pair == [0x41, 0xe3]).unwrap();
    unread[at] = 0x27;
    assert_eq!(code_of(&unread), Code::UnsuitableModule);
    // A memory that is not there.
    let body = [0x41, 1, 0x40, 5, 0x1a, 0x0b];
    let mut bytes = HEADER.to_vec();
    write_section(&mut bytes, 1, &[&[1, 0x60, 0, 0]]).unwrap();
    write_section(&mut bytes, 3, &[&[1, 0]]).unwrap();
    write_section(&mut bytes, 10, &[&[1, 7, 0], &body]).unwrap();
    assert_eq!(code_of(&bytes), Code::UnsuitableModule);
    assert_eq!(code_of(b"(module)"), Code::InvalidValue);
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
    for version in [0, 1, 2, section::VERSION + 1, 0xff] {
        let mut other = bytes.clone();
        other[at] = version;
        for error in [expose_state(&other).unwrap_err(), instrument_growth(&other).unwrap_err()] {
            assert_eq!(error.code(), Code::UnsuitableModule);
            let message = error.to_string();
            assert!(message.contains(&format!("version {version},")), "{message}");
        }
    }
}
