//! What files say, written, read and damaged.

use super::format::{
    DESCRIPTION_CHECKSUM_AT, HEADER_BYTES, Header, MOST_BYTES, Mac, SECTIONS_AT, VERSION,
};
use super::image::Extents;
use super::metadata::{About, Metadata, SavedMapping, SavedPart, SavedWindow, State, Value};
use super::spans::SavedSpans;
use crate::access::Access;
use crate::sys::page::{PageAligned, PageSpan, WASM_PAGE_BYTES, host_page_bytes};
use crate::wire::{self, List, Text};
use proptest::prelude::*;

const LENGTH: u64 = 64 * WASM_PAGE_BYTES;

fn pages(bytes: u64) -> PageAligned {
    PageAligned::new(bytes).unwrap()
}

fn header() -> Header {
    Header {
        byte_length: pages(LENGTH),
        data_offset: pages(3 * WASM_PAGE_BYTES),
        metadata_bytes: 99,
        state_bytes: 3,
        checksum: 7 << 100,
        description_checksum: 5 << 90,
        mac: [9; 32],
    }
}

fn span(start: u64, end: u64) -> PageSpan {
    PageSpan::between(pages(start << 16), pages(end << 16)).unwrap()
}

fn extents() -> Extents {
    Extents {
        pieces: vec![span(0, 3), span(9, 64)],
        written: vec![span(4, 5)],
        free: vec![span(5, 8)],
    }
}

fn mapping(start: u64, end: u64, access: Access) -> SavedMapping {
    let region_name = Text::new("region".into()).unwrap();
    let byte_length = (end - start) << 16;
    SavedMapping {
        address: start << 16,
        byte_length,
        access,
        shown: Some(SavedPart { region_name, byte_offset: 0, byte_length }),
        window: None,
        from_free: true,
        strict: false,
    }
}

fn metadata(extents: &Extents, mappings: Vec<SavedMapping>) -> Metadata {
    Metadata {
        about: About::default(),
        pieces: SavedSpans::of(&extents.pieces).unwrap(),
        written: SavedSpans::of(&extents.written).unwrap(),
        free: SavedSpans::of(&extents.free).unwrap(),
        mappings: List::new(mappings).unwrap(),
    }
}

fn encoded(metadata: &Metadata) -> Vec<u8> {
    wire::encode(metadata, 1 << 20).unwrap().unwrap()
}

fn usual() -> Metadata {
    metadata(&extents(), vec![mapping(4, 6, Access::Private), mapping(6, 9, Access::Shared)])
}

#[test]
fn what_was_written_is_read() {
    assert_eq!(Header::decode(&header().encode()), Ok(header()));
    let no_state = Header { state_bytes: 0, mac: Mac::default(), ..header() };
    assert_eq!(Header::decode(&no_state.encode()), Ok(no_state));
    assert_eq!(Metadata::read(&encoded(&usual()), pages(LENGTH)), Ok((usual(), extents())));
    assert_eq!(extents().all().unwrap(), [span(0, 3), span(4, 5), span(9, 64)]);
    let over_a_mapping = Extents { written: vec![span(2, 5), span(10, 12)], ..extents() };
    assert_eq!(over_a_mapping.all().unwrap(), [span(0, 5), span(9, 64)]);
}

#[test]
fn other_files_and_versions_are_told_apart() {
    let refusal = |bytes: &[u8]| Header::decode(bytes).unwrap_err().to_string();
    assert!(refusal(&[0; HEADER_BYTES]).contains("no snapshot"));
    assert!(refusal(&header().encode()[..63]).contains("too short"));
    assert!(refusal(&header().encode()[..255]).contains("damaged"));
    for version in [VERSION - 1, VERSION + 1] {
        let mut other = header().encode();
        other[8] = u8::try_from(version).unwrap();
        assert!(
            refusal(&other)
                .contains(&format!("version {version}, and this package reads version {VERSION}"))
        );
    }
}

#[test]
fn headers_have_one_form() {
    let sound = header().encode();
    // Past the digests every byte is told by others.
    for at in SECTIONS_AT..DESCRIPTION_CHECKSUM_AT {
        let mut changed = sound;
        changed[at] ^= 1;
        let decoded = Header::decode(&changed);
        assert!(
            decoded.is_err() || decoded.unwrap().file_bytes() != header().file_bytes(),
            "byte {at}"
        );
    }
}

#[test]
fn spans_that_can_not_be_are_refused() {
    let refused = |extents: Extents| {
        let metadata = metadata(&extents, vec![mapping(4, 6, Access::Private)]);
        Metadata::read(&encoded(&metadata), pages(1 << 30)).is_err()
    };
    assert!(!refused(extents()));
    assert!(
        refused(Extents { pieces: vec![span(0, (1 << 14) + 1)], ..extents() }),
        "past the memory's end"
    );
    assert!(
        refused(Extents { pieces: (0..17).map(|i| span(2 * i, 2 * i + 1)).collect(), ..extents() }),
        "many"
    );
    assert!(refused(Extents { written: vec![span(4, 7)], ..extents() }), "past the mapping's end");
    assert!(refused(Extents { written: vec![span(7, 8)], ..extents() }), "outside of mappings");
    let free =
        |count: u64| (0..count).map(|i| PageSpan::page_at(2 * i * host_page_bytes()).unwrap());
    let free_refused = |count| refused(Extents { free: free(count).collect(), ..extents() });
    assert!(!free_refused(4096) && free_refused(4097));
}

#[test]
fn mappings_that_can_not_be_are_refused() {
    let refused = |mappings: Vec<SavedMapping>| {
        let metadata = metadata(&Extents::default(), mappings);
        Metadata::read(&encoded(&metadata), pages(LENGTH)).is_err()
    };
    let usual = || mapping(4, 6, Access::Readonly);
    assert!(!refused(vec![usual(), mapping(6, 64, Access::Shared)]));
    assert!(refused(vec![usual(), mapping(5, 7, Access::Readonly)]), "over each other");
    assert!(refused(vec![mapping(63, 65, Access::Readonly)]), "past the memory's end");
    assert!(refused(vec![SavedMapping { address: 1, ..usual() }]), "not at a page");
    assert!(refused(vec![SavedMapping { shown: None, ..usual() }]), "of nothing");
    let part = |byte_offset, byte_length| {
        let region_name = Text::new("region".into()).unwrap();
        Some(SavedPart { region_name, byte_offset, byte_length })
    };
    assert!(
        refused(vec![SavedMapping { shown: part(0, (2 << 16) + 1), ..usual() }]),
        "of too much"
    );
    assert!(refused(vec![SavedMapping { shown: part(1, 2 << 16), ..usual() }]), "of too much");
    assert!(refused(vec![SavedMapping { shown: part(0, 0), ..usual() }]), "of no bytes");
    assert!(refused(vec![SavedMapping { shown: part(u64::MAX, 1 << 16), ..usual() }]), "of 2^64");
    let window = |access, within| SavedMapping {
        shown: part(4096, 5),
        access,
        window: Some(SavedWindow { access: within, tail_traps: true }),
        ..usual()
    };
    assert!(!refused(vec![window(Access::Private, Access::Private)]));
    assert!(refused(vec![window(Access::Shared, Access::Private)]), "more than the window allows");
    let about = About { module: Text::new("sha256-x".into()), ..About::default() };
    let odd = Metadata { about, ..metadata(&Extents::default(), Vec::new()) };
    assert!(Metadata::read(&encoded(&odd), pages(LENGTH)).is_err());
}

#[test]
fn metadata_has_one_encoding_and_no_other_fields() {
    let sound = encoded(&usual());
    let refused = |bytes: &[u8]| Metadata::read(bytes, pages(LENGTH)).is_err();
    assert!(
        refused(&[]) && refused(&[&sound[..], &[0]].concat()) && refused(&sound[..sound.len() - 1])
    );
    // One more field, and the same one twice.
    for field in ["odd", "free"] {
        let mut more = sound.clone();
        more[0] += 1;
        more.extend(
            [&[0xa0 + u8::try_from(field.len()).unwrap()], field.as_bytes(), &[0xc0]].concat(),
        );
        assert!(refused(&more));
    }
    // A positional form, which serde would take.
    let positional = rmp_serde::to_vec(&usual()).unwrap();
    assert!(rmp_serde::from_slice::<Metadata>(&positional).is_ok() && refused(&positional));
    // A list that says to have four billion.
    let huge = b"\x83\xa6values\xdd\xff\xff\xff\xff";
    assert!(wire::decode::<State>(huge).is_err());
}

#[test]
fn values_come_back_to_the_bit() {
    let state = |number| State {
        values: List::new(vec![Value::Number(number)]).unwrap(),
        ..State::default()
    };
    for number in [0.0, -0.0, 1.5, f64::INFINITY, f64::NEG_INFINITY, f64::MIN_POSITIVE, f64::MAX] {
        let bytes = wire::encode(&state(number), 100).unwrap().unwrap();
        let State { values, .. } = wire::decode(&bytes).unwrap();
        assert!(matches!(values[..], [Value::Number(back)] if back.to_bits() == number.to_bits()));
    }
    assert_eq!(wire::encode(&state(1.0), 8), Ok(None), "more bytes than there may be");
    let digits = |text: &str| State {
        values: List::new(vec![Value::Bigint(Text::new(text.into()).unwrap())]).unwrap(),
        ..State::default()
    };
    for (text, is_sound) in
        [("0", true), ("-12", true), ("", false), ("-", false), ("01", false), ("-0", false)]
    {
        assert_eq!(
            State::read(&wire::encode(&digits(text), 100).unwrap().unwrap()).is_ok(),
            is_sound,
            "{text:?}"
        );
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic_and_what_it_takes_is_sound(
        head_edits in proptest::collection::vec((0..HEADER_BYTES, any::<u8>()), 0..6),
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
    ) {
        let mut head = header().encode();
        for (at, byte) in head_edits {
            head[at] = byte;
        }
        if let Ok(header) = Header::decode(&head) {
            prop_assert!(header.data_offset.get() >= WASM_PAGE_BYTES && header.byte_length.get() <= MOST_BYTES);
        }
        let mut bytes = encoded(&usual());
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok((metadata, extents)) = Metadata::read(&bytes, pages(LENGTH)) {
            prop_assert!(extents.all().unwrap().iter().all(|span| span.end().get() <= LENGTH));
            prop_assert!(metadata.mappings.iter().all(|it| it.span().unwrap().end().get() <= LENGTH));
            prop_assert_eq!(encoded(&metadata), bytes);
        }
    }
}
