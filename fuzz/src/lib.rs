//! What is fuzzed. Each target takes bytes that anybody may have made, and panics where a promise
//! is broken. The fuzz targets and the bounded run call the same functions.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use wasm_hostmap::module::{Report, expose_state, instrument_growth};
use wasm_hostmap::snapshot::Settings;
use wasm_hostmap::snapshot::store::{self, Loaded};
use wasm_hostmap::sys::{file, memfd};
use wasmparser::{Validator, WasmFeatures};

/// The module rewriter: what it makes of a valid module is valid, and a second pass changes
/// nothing. Of anything else it makes an error, or bytes.
pub fn module(bytes: &[u8]) {
    let is_valid = is_valid(bytes);
    let exposed = expose_state(bytes);
    let made = instrument_growth(bytes);
    if is_valid {
        if let Ok(exposed) = exposed {
            assert!(self::is_valid(&exposed.bytes), "exposeState made it invalid");
            let again = expose_state(&exposed.bytes).expect("what was exposed can be read");
            assert_eq!(again.bytes, exposed.bytes, "exposing twice is exposing once");
        }
        if let Ok(made) = made {
            assert!(self::is_valid(&made.bytes), "instrumentGrowth made it invalid");
        }
    }
    // The report that a module brings is anybody's too.
    if let Ok(Some(report)) = Report::decode(bytes) {
        let encoded = report.encode().expect("a small report");
        assert_eq!(Report::decode(&encoded), Ok(Some(report)), "a report comes back");
    }
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
/// The input is a header and what follows the memory's bytes in a file: see
/// `src/snapshot/format.rs`. The memory's bytes are zeros.
pub fn snapshot(input: &[u8]) {
    let Some(fd) = sealed_file(input) else { return };
    let path = PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()));
    if let Ok(loaded) = store::load(&path, SETTINGS, &AtomicBool::new(false)) {
        check(&loaded);
    }
    if let Ok(loaded) = store::from_fd(fd.as_raw_fd(), SETTINGS) {
        check(&loaded);
    }
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
