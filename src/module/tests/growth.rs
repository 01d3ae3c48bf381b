//! Growth that becomes a call of the host's, and where it can't.

use super::super::*;
use super::*;

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

pub(super) const GROWS: &str = r#"(module $m
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
fn indices_in_constants_and_those_that_get_longer_are_found() {
    // The last one is 127, whose index takes a byte, and becomes 128, whose index takes two.
    let text = format!(
        "(module (memory 1) (table 1 funcref) (global funcref (ref.func $last))
        (elem (table 0) (i32.const 0) funcref (ref.func $last)) {}
        (func $last (result i32) (drop (call $last)) (memory.grow (i32.const 1))))",
        "(func)".repeat(127)
    );
    let Instrumented { bytes, .. } = instrument_growth(&wasm(&text)).unwrap();
    let call = |function: u32| format!("Call {{ function_index: {function} }}");
    let functions = code(&bytes);
    assert_eq!((&functions[127][0], &functions[127][3]), (&call(128), &call(129)));
    let mut constants = Vec::new();
    for payload in Parser::new(0).parse_all(&bytes) {
        match payload.unwrap() {
            Payload::GlobalSection(globals) => {
                constants.extend(globals.into_iter().map(|it| it.unwrap().init_expr));
            }
            Payload::ElementSection(segments) => {
                for segment in segments {
                    let wasmparser::ElementItems::Expressions(_, items) = segment.unwrap().items
                    else {
                        unreachable!("the segment has expressions");
                    };
                    constants.extend(items.into_iter().map(|it| it.unwrap()));
                }
            }
            _ => {}
        }
    }
    assert_eq!(constants.len(), 2);
    for constant in constants {
        let first = constant.get_operators_reader().read().unwrap();
        assert_eq!(format!("{first:?}"), "RefFunc { function_index: 128 }");
    }
}

#[test]
fn longer_encodings_than_needed_are_read_and_copied() {
    let long_constant = [0x41, 0x81, 0];
    let body =
        [&[0, 0x10, 0x80, 0x80, 0][..], &long_constant, &[0x40, 0x80, 0], &[0x1a, 0x0b]].concat();
    let mut bytes = HEADER.to_vec();
    write_section(&mut bytes, 1, &[&[1, 0x60, 0, 0]]).unwrap();
    write_section(&mut bytes, 3, &[&[1, 0]]).unwrap();
    write_section(&mut bytes, 5, &[&[1, 0, 1]]).unwrap();
    write_section(&mut bytes, 10, &[&[1, 13], &body]).unwrap();
    let made = instrument_growth(&bytes).unwrap().bytes;
    let [call, grow] = [1, 2].map(|function| format!("Call {{ function_index: {function} }}"));
    assert_eq!(code(&made)[0], [&call, "I32Const { value: 1 }", &grow, "Drop", "End"]);
    assert!(made.windows(3).any(|bytes| bytes == long_constant));
}
