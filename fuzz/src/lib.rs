//! What is fuzzed. Each target takes bytes that anybody may have made, and panics where a promise
//! is broken. The fuzz targets and the bounded run call the same functions.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use wasm_hostmap::module::{Report, SECTION, expose_state, instrument_growth};
use wasm_hostmap::snapshot::Settings;
use wasm_hostmap::snapshot::open;
use wasm_hostmap::snapshot::store::{self, Loaded};
use wasm_hostmap::sys::{file, memfd};
use wasmparser::{Parser, Payload, Validator, WasmFeatures};

mod tables;

/// `Err` says why a target could not read its input, which mutations may bring about and seeds may
/// not: one that is refused tests no more than the first check.
pub type Outcome = Result<(), String>;

/// The module rewriter: what it makes of a valid module is valid, a second pass changes nothing,
/// and what it says of tables is so. Of anything else it makes an error, or bytes.
pub fn module(bytes: &[u8]) -> Outcome {
    let is_valid = is_valid(bytes);
    let exposed = expose_state(bytes);
    let made = instrument_growth(bytes);
    if is_valid {
        if let Ok(exposed) = &exposed {
            assert!(self::is_valid(&exposed.bytes), "exposeState made it invalid");
            let again = expose_state(&exposed.bytes).expect("what was exposed can be read");
            assert_eq!(again.bytes, exposed.bytes, "exposing twice is exposing once");
            tables::check(bytes, exposed);
        }
        if let Ok(made) = &made {
            assert!(self::is_valid(&made.bytes), "instrumentGrowth made it invalid");
        }
    }
    // The report that a module brings is anybody's too.
    let section = report_section(bytes);
    let report = Report::decode(section.unwrap_or(bytes));
    if let Ok(Some(report)) = &report {
        let encoded = report.encode().expect("a small report");
        assert_eq!(encoded, section.unwrap_or(bytes), "a report has one encoding");
    }
    exposed.map_err(|error| error.to_string())?;
    made.map_err(|error| error.to_string())?;
    if !is_valid {
        return Err("the module is not valid".to_owned());
    }
    if section.is_some() && report == Ok(None) {
        return Err("its report is none".to_owned());
    }
    Ok(())
}

/// The contents of the first custom section that could hold a report.
fn report_section(bytes: &[u8]) -> Option<&[u8]> {
    Parser::new(0).parse_all(bytes).map_while(Result::ok).find_map(|payload| match payload {
        Payload::CustomSection(custom) if custom.name() == SECTION => Some(custom.data()),
        _ => None,
    })
}

/// Valid under every proposal that the library is built with.
fn is_valid(bytes: &[u8]) -> bool {
    Validator::new_with_features(WasmFeatures::all()).validate_all(bytes).is_ok()
}

const SETTINGS: Settings = Settings { keep_resident_bytes: 0, huge_pages: false };
/// Larger snapshots are not read to their end: one is a hole of 64 GiB, if its file says so.
const MOST_BYTES: u64 = 1 << 20;

/// The snapshot reader, both ways: as a saved file, whose checksum hardly any mutation fits, and as
/// the sealed memfd of another process, which has none.
///
/// One that reads the input is enough: the checksum of a seed may be of other bytes than zeros.
///
/// The input is a header and what follows the memory's bytes in a file: see
/// `src/snapshot/format.rs`. The memory's bytes are zeros.
pub fn snapshot(input: &[u8]) -> Outcome {
    let fd = sealed_file(input).ok_or("there is no memfd for it")?;
    let path = PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()));
    let as_file = store::load(&path, SETTINGS, &AtomicBool::new(false));
    if let Ok(loaded) = &as_file {
        check(loaded);
    }
    let as_descriptor = open::from_fd(fd.as_raw_fd(), SETTINGS);
    if let Ok(loaded) = &as_descriptor {
        check(loaded);
    }
    as_file.or(as_descriptor).map(drop).map_err(|error| error.to_string())
}

/// What a snapshot that was taken from foreign bytes promises.
fn check(loaded: &Loaded) {
    let snapshot = &loaded.snapshot;
    let byte_length = snapshot.byte_length();
    let mut end = None;
    for mapping in snapshot.saved_mappings() {
        let span = mapping.span().expect("its place is made of pages");
        assert!(span.end() <= byte_length, "a mapping ends in the memory");
        assert!(end.is_none_or(|end| end <= span.start()), "mappings don't overlap");
        end = Some(span.end());
    }
    if let Some(state) = &loaded.state {
        let count = u32::try_from(state.values.len()).expect("lists are bounded");
        assert!(state.globals.iter().all(|global| global.value < count), "each global has a value");
    }
    if byte_length.get() > MOST_BYTES {
        return;
    }
    let mut next = Some(0);
    while let Some(from) = next {
        let part = store::read_part(snapshot, from).expect("a sealed memfd can be read");
        assert!(part.next.is_none_or(|next| next > from), "parts go on");
        next = part.next;
    }
}

/// A sealed memfd: the input, with the zeros of the memory in between.
fn sealed_file(input: &[u8]) -> Option<OwnedFd> {
    let (header, description) = input.split_at(input.len().min(HEADER_BYTES));
    // The offset of the second section, if there is room for the memory that it says.
    let offset =
        header.get(96..104).and_then(|field| field.try_into().ok()).map(u64::from_le_bytes);
    let offset = offset.filter(|offset| (HEADER_BYTES as u64..MOST_OFFSET).contains(offset));
    let fd = memfd::create_growing("fuzz").ok()?;
    file::write_all(&fd, 0, header).ok()?;
    file::write_all(&fd, offset.unwrap_or(HEADER_BYTES as u64), description).ok()?;
    memfd::seal_size(&fd).ok()?;
    memfd::seal_write(&fd).ok()?;
    Some(fd)
}

const HEADER_BYTES: usize = 256;
const MOST_OFFSET: u64 = 1 << 40;
