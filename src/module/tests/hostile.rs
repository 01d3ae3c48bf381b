//! Modules that are damaged, forged or too large, and memory that runs out.

use super::super::*;
use super::growth::GROWS;
use super::*;

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
