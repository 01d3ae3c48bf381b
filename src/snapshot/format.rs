//! How a snapshot lies in its file. A memfd and a saved file hold the same bytes, but for the
//! digests, which only a saved one has.
//!
//! ```text
//!  0        256       data_offset                    data_offset + byte_length
//!  | header | hole .. | byte 0 of the memory ........ | metadata | state |
//! ```
//!
//! The header, in bytes; all numbers are 64 bits, little-endian:
//!
//! ```text
//!    0  the magic bytes
//!    8  the version of the format
//!   16  the checksum, XXH3 of 128 bits; zeros in a memfd
//!   32  the authentication code, HMAC-SHA256; zeros if there is none
//!   64  the sections, 24 bytes each: name, offset, length; then zeros
//! ```
//!
//! Byte N of the memory is byte `data_offset + N` of the file. `data_offset` leaves the same rest
//! modulo 2 MiB as the memory's address, so that huge pages of the memfd can be mapped as such.
//! Other sections are described in `metadata.rs`.
//!
//! What the digests cover is the same for both ([`pages_of`]): the header, metadata and state, and
//! each page of the memory that is not all zeros, after its number. So holes are not read, and it
//! does not matter which zeros are holes.

use super::metadata::{self, Metadata};
use super::wire;
use crate::error::{Code, Error, Result};
use crate::sys::alloc;
use crate::sys::page::{HUGE_PAGE_BYTES, PageAligned, PageSpan, WASM_PAGE_BYTES};
use twox_hash::XxHash3_128;

const MAGIC: [u8; 8] = *b"\x89hostmap";
/// Counted up when the format changes.
const VERSION: u64 = 2;

pub(super) const HEADER_BYTES: usize = 256;
const SECTIONS_AT: usize = 64;
const SECTION_BYTES: usize = 24;
/// What a file of any version has at least.
const LEAST_BYTES: usize = 64;

const MEMORY: [u8; 8] = *b"memory\0\0";
const METADATA: [u8; 8] = *b"metadata";
const STATE: [u8; 8] = *b"state\0\0\0";

/// Four times the largest memory of any V8.
const MOST_BYTES: u64 = 64 << 30;

pub(super) type Checksum = XxHash3_128;
pub type Mac = [u8; 32];

/// What a file's first bytes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) byte_length: PageAligned,
    pub(super) data_offset: PageAligned,
    pub(super) metadata_bytes: u64,
    /// 0 if there is none.
    pub(super) state_bytes: u64,
    /// 0 in a memfd.
    pub(super) checksum: u128,
    /// Zeros: none.
    pub(super) mac: Mac,
}

/// What of a memory is in the file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Kept {
    /// What is laid from the file, in order; all else of the memory's own pages is zeros.
    pub(super) pieces: Vec<PageSpan>,
    /// Pages of private mappings that had been written, in order.
    pub(super) written: Vec<PageSpan>,
    /// Where mappings may be put: the memory grew by it for them, and it is none, in order.
    pub(super) free: Vec<PageSpan>,
}

impl Header {
    pub(super) fn metadata_offset(&self) -> u64 {
        self.data_offset.get().saturating_add(self.byte_length.get())
    }

    pub(super) fn description_bytes(&self) -> u64 {
        self.metadata_bytes.saturating_add(self.state_bytes)
    }

    pub(super) fn file_bytes(&self) -> u64 {
        self.metadata_offset().saturating_add(self.description_bytes())
    }

    pub(super) fn encode(&self) -> [u8; HEADER_BYTES] {
        let state_offset = self.metadata_offset().saturating_add(self.metadata_bytes);
        let sections = [
            (MEMORY, self.data_offset.get(), self.byte_length.get()),
            (METADATA, self.metadata_offset(), self.metadata_bytes),
            (STATE, state_offset, self.state_bytes),
        ];
        let sections = sections.into_iter().filter(|(.., length)| *length > 0);
        let sections = sections.flat_map(|(name, offset, length)| {
            name.into_iter().chain(offset.to_le_bytes()).chain(length.to_le_bytes())
        });
        let head =
            MAGIC.into_iter().chain(VERSION.to_le_bytes()).chain(self.checksum.to_le_bytes());
        let mut bytes = [0; HEADER_BYTES];
        let fields = head.chain(self.mac).chain(sections);
        bytes.iter_mut().zip(fields).for_each(|(byte, value)| *byte = value);
        bytes
    }

    /// `bytes`: the first ones of a file, as many as it has of [`HEADER_BYTES`].
    pub(super) fn decode(bytes: &[u8]) -> Result<Self> {
        if bytes.len() < LEAST_BYTES {
            return Err(invalid("it is too short to be a snapshot"));
        }
        if !bytes.starts_with(&MAGIC) {
            return Err(invalid("it is no snapshot of wasm-hostmap"));
        }
        let number = |at: usize| -> u64 {
            let field = bytes.get(at..).and_then(|rest| rest.first_chunk());
            field.map_or(0, |field| u64::from_le_bytes(*field))
        };
        if number(8) != VERSION {
            return Err(invalid(format!(
                "its format has version {}, and this package reads version {VERSION}; take the snapshot again with this version of wasm-hostmap",
                number(8)
            )));
        }
        let damaged = || {
            invalid(
                "its header is damaged, or it was taken on a machine whose host pages are smaller than here",
            )
        };
        let checksum = bytes.get(16..).and_then(|rest| rest.first_chunk()).ok_or_else(damaged)?;
        let mac = bytes.get(32..).and_then(|rest| rest.first_chunk()).ok_or_else(damaged)?;
        let mut header = Self {
            byte_length: PageAligned::ZERO,
            data_offset: PageAligned::ZERO,
            metadata_bytes: 0,
            state_bytes: 0,
            checksum: u128::from_le_bytes(*checksum),
            mac: *mac,
        };
        let sections = bytes.get(SECTIONS_AT..).unwrap_or_default();
        for section in sections.as_chunks::<SECTION_BYTES>().0 {
            let (name, numbers) = section.split_first_chunk::<8>().ok_or_else(damaged)?;
            let (offset, length) = numbers.split_first_chunk::<8>().ok_or_else(damaged)?;
            let length = length.first_chunk().map_or(0, |length| u64::from_le_bytes(*length));
            match *name {
                MEMORY => {
                    let offset = u64::from_le_bytes(*offset);
                    header.data_offset = PageAligned::new(offset).ok_or_else(damaged)?;
                    header.byte_length = PageAligned::new(length).ok_or_else(damaged)?;
                }
                METADATA => header.metadata_bytes = length,
                STATE => header.state_bytes = length,
                _ => {}
            }
        }
        let is_sound = header.byte_length.get().is_multiple_of(WASM_PAGE_BYTES)
            && header.byte_length.get() <= MOST_BYTES
            && (WASM_PAGE_BYTES..=HUGE_PAGE_BYTES.saturating_mul(2))
                .contains(&header.data_offset.get())
            && (1..=metadata::most_metadata_bytes(header.byte_length))
                .contains(&header.metadata_bytes)
            && header.state_bytes <= metadata::MOST_STATE_BYTES;
        // Written as it would be written here: other sections, another order, or gaps between them
        // are no part of this version.
        if !is_sound || header.encode()[..] != *bytes { Err(damaged()) } else { Ok(header) }
    }

    /// What the digests cover of it. A checksum covers the authentication code, too.
    fn digested(&self, with_mac: bool) -> [u8; HEADER_BYTES] {
        let mac = if with_mac { self.mac } else { Mac::default() };
        Self { checksum: 0, mac, ..*self }.encode()
    }
}

impl Kept {
    pub(super) fn of(metadata: &Metadata, byte_length: PageAligned) -> Result<Self> {
        let most_written = crate::sys::to_usize(byte_length.get() / metadata::UNIT_BYTES);
        let kept = Self {
            pieces: metadata.pieces.decode(byte_length, metadata::MOST_PIECES)?,
            written: metadata.written.decode(byte_length, most_written)?,
            free: metadata.free.decode(byte_length, metadata::MOST_FREE)?,
        };
        metadata.check(byte_length, &kept.written)?;
        Ok(kept)
    }

    /// All that the file holds of the memory, in order. A piece may go over a private mapping,
    /// whose written pages are not its own.
    pub(super) fn all(&self) -> Result<Vec<PageSpan>, alloc::Refused> {
        united(alloc::collected(self.pieces.iter().chain(&self.written).copied())?)
    }
}

/// Reads the metadata of a snapshot of a memory of this size.
pub(super) fn decode_metadata(bytes: &[u8], byte_length: PageAligned) -> Result<(Metadata, Kept)> {
    let metadata: Metadata = wire::decode(bytes, "metadata")?;
    let kept = Kept::of(&metadata, byte_length)?;
    Ok((metadata, kept))
}

/// In order, and none over another or beside it.
pub(super) fn united(mut spans: Vec<PageSpan>) -> Result<Vec<PageSpan>, alloc::Refused> {
    // In place: a sort that keeps the order of equals takes memory.
    spans.sort_unstable_by_key(|span| span.start());
    let mut united: Vec<PageSpan> = alloc::with_room(spans.len())?;
    for span in spans {
        match united.last_mut() {
            Some(last) if last.end() >= span.start() => {
                *last =
                    PageSpan::between(last.start(), last.end().max(span.end())).unwrap_or(*last);
            }
            _ => united.push(span),
        }
    }
    Ok(united)
}

/// The checksum of a file, but for the pages of the memory, which the caller adds by [`pages_of`].
pub(super) fn begin_checksum(header: &Header, description: &[u8]) -> Checksum {
    let mut checksum = Checksum::new();
    checksum.write(&header.digested(true));
    checksum.write(description);
    checksum
}

/// What comes first of all that an authentication code covers; metadata, state and pages follow.
pub(super) fn begin_mac(header: &Header) -> [u8; HEADER_BYTES] {
    header.digested(false)
}

/// The pages of a part of the memory that are not all zeros, each with what a digest covers of it:
/// its number, then its bytes.
pub(super) fn pages_of(
    start: PageAligned,
    bytes: &[u8],
) -> impl Iterator<Item = (u64, [u8; 8], &[u8])> {
    let unit = crate::sys::to_usize(metadata::UNIT_BYTES);
    let offsets = (start.get()..).step_by(unit);
    let pages =
        bytes.chunks(unit).zip(offsets).filter(|(page, _)| page.iter().any(|byte| *byte != 0));
    pages.map(|(page, offset)| (offset, (offset / metadata::UNIT_BYTES).to_le_bytes(), page))
}

pub(super) fn invalid(why: impl Into<String>) -> Error {
    Error::new(Code::SnapshotInvalid, why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Access;
    use crate::snapshot::metadata::{
        About, SavedMapping, SavedPart, SavedWindow, Spans, State, Value,
    };
    use crate::snapshot::wire::{List, Text};
    use crate::sys::page::host_page_bytes;
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
            mac: [9; 32],
        }
    }

    fn span(start: u64, end: u64) -> PageSpan {
        PageSpan::between(pages(start << 16), pages(end << 16)).unwrap()
    }

    fn kept() -> Kept {
        Kept {
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

    fn metadata(kept: &Kept, mappings: Vec<SavedMapping>) -> Metadata {
        Metadata {
            about: About::default(),
            pieces: Spans::of(&kept.pieces).unwrap(),
            written: Spans::of(&kept.written).unwrap(),
            free: Spans::of(&kept.free).unwrap(),
            mappings: List::new(mappings).unwrap(),
        }
    }

    fn encoded(metadata: &Metadata) -> Vec<u8> {
        wire::encode(metadata, 1 << 20).unwrap().unwrap()
    }

    fn usual() -> Metadata {
        metadata(&kept(), vec![mapping(4, 6, Access::Private), mapping(6, 9, Access::Shared)])
    }

    #[test]
    fn what_was_written_is_read() {
        assert_eq!(Header::decode(&header().encode()), Ok(header()));
        let no_state = Header { state_bytes: 0, mac: Mac::default(), ..header() };
        assert_eq!(Header::decode(&no_state.encode()), Ok(no_state));
        assert_eq!(decode_metadata(&encoded(&usual()), pages(LENGTH)), Ok((usual(), kept())));
        assert_eq!(kept().all().unwrap(), [span(0, 3), span(4, 5), span(9, 64)]);
        let over_a_mapping = Kept { written: vec![span(2, 5), span(10, 12)], ..kept() };
        assert_eq!(over_a_mapping.all().unwrap(), [span(0, 5), span(9, 64)]);
    }

    #[test]
    fn other_files_and_versions_are_told_apart() {
        let refusal = |bytes: &[u8]| Header::decode(bytes).unwrap_err().to_string();
        assert!(refusal(&[0; HEADER_BYTES]).contains("no snapshot"));
        assert!(refusal(&header().encode()[..63]).contains("too short"));
        assert!(refusal(&header().encode()[..255]).contains("damaged"));
        for version in [1, 3] {
            let mut other = header().encode();
            other[8] = version;
            assert!(
                refusal(&other)
                    .contains(&format!("version {version}, and this package reads version 2"))
            );
        }
    }

    #[test]
    fn headers_have_one_form() {
        let sound = header().encode();
        // Past the digests every byte is told by others.
        for at in SECTIONS_AT..HEADER_BYTES {
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
        let refused = |kept: Kept| {
            let metadata = metadata(&kept, vec![mapping(4, 6, Access::Private)]);
            decode_metadata(&encoded(&metadata), pages(1 << 30)).is_err()
        };
        assert!(!refused(kept()));
        assert!(
            refused(Kept { pieces: vec![span(0, (1 << 14) + 1)], ..kept() }),
            "past the memory's end"
        );
        assert!(
            refused(Kept { pieces: (0..17).map(|i| span(2 * i, 2 * i + 1)).collect(), ..kept() }),
            "many"
        );
        assert!(refused(Kept { written: vec![span(4, 7)], ..kept() }), "past the mapping's end");
        assert!(refused(Kept { written: vec![span(7, 8)], ..kept() }), "outside of mappings");
        let free =
            |count: u64| (0..count).map(|i| PageSpan::page_at(2 * i * host_page_bytes()).unwrap());
        let free_refused = |count| refused(Kept { free: free(count).collect(), ..kept() });
        assert!(!free_refused(4096) && free_refused(4097));
    }

    #[test]
    fn mappings_that_can_not_be_are_refused() {
        let refused = |mappings: Vec<SavedMapping>| {
            let metadata = metadata(&Kept::default(), mappings);
            decode_metadata(&encoded(&metadata), pages(LENGTH)).is_err()
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
        assert!(
            refused(vec![SavedMapping { shown: part(u64::MAX, 1 << 16), ..usual() }]),
            "of 2^64"
        );
        let window = |access, within| SavedMapping {
            shown: part(4096, 5),
            access,
            window: Some(SavedWindow { access: within, tail_traps: true }),
            ..usual()
        };
        assert!(!refused(vec![window(Access::Private, Access::Private)]));
        assert!(
            refused(vec![window(Access::Shared, Access::Private)]),
            "more than the window allows"
        );
        let about = About { module: Text::new("sha256-x".into()), ..About::default() };
        let odd = Metadata { about, ..metadata(&Kept::default(), Vec::new()) };
        assert!(decode_metadata(&encoded(&odd), pages(LENGTH)).is_err());
    }

    #[test]
    fn metadata_has_one_encoding_and_no_other_fields() {
        let sound = encoded(&usual());
        let refused = |bytes: &[u8]| decode_metadata(bytes, pages(LENGTH)).is_err();
        assert!(
            refused(&[])
                && refused(&[&sound[..], &[0]].concat())
                && refused(&sound[..sound.len() - 1])
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
        assert!(wire::decode::<State>(huge, "state").is_err());
    }

    #[test]
    fn values_come_back_to_the_bit() {
        let state = |number| State {
            values: List::new(vec![Value::Number(number)]).unwrap(),
            ..State::default()
        };
        for number in
            [0.0, -0.0, 1.5, f64::INFINITY, f64::NEG_INFINITY, f64::MIN_POSITIVE, f64::MAX]
        {
            let bytes = wire::encode(&state(number), 100).unwrap().unwrap();
            let State { values, .. } = wire::decode(&bytes, "state").unwrap();
            assert!(
                matches!(values[..], [Value::Number(back)] if back.to_bits() == number.to_bits())
            );
        }
        assert_eq!(wire::encode(&state(1.0), 8), Ok(None), "more bytes than there may be");
        let digits = |text: &str| State {
            values: List::new(vec![Value::Bigint(Text::new(text.into()).unwrap())]).unwrap(),
            ..State::default()
        };
        for (text, is_sound) in
            [("0", true), ("-12", true), ("", false), ("-", false), ("01", false), ("-0", false)]
        {
            assert_eq!(digits(text).check().is_ok(), is_sound, "{text:?}");
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
            if let Ok((metadata, kept)) = decode_metadata(&bytes, pages(LENGTH)) {
                prop_assert!(kept.all().unwrap().iter().all(|span| span.end().get() <= LENGTH));
                prop_assert!(metadata.mappings.iter().all(|it| it.span().unwrap().end().get() <= LENGTH));
                prop_assert_eq!(encoded(&metadata), bytes);
            }
        }
    }
}
