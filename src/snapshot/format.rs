//! How a snapshot lies in its file. A memfd and a saved file hold the same bytes, but for the checksum, which only a saved one has.
//!
//! ```text
//!  0        64 KiB   data_offset                    data_offset + byte_length, the tail
//!  | header | hole .. | byte 0 of the memory ........ | pieces | written | free | metadata |
//! ```
//!
//! Byte N of the memory is byte `data_offset + N` of the file. `data_offset` leaves the same rest modulo 2 MiB as the memory's address,
//! so that huge pages of the memfd can be mapped as such. All numbers are 64 bits, little-endian.

use crate::error::{Code, Error, Result};
use crate::sys::page::{HUGE_PAGE_BYTES, PageAligned, PageSpan, WASM_PAGE_BYTES};
use twox_hash::XxHash3_128;

const MAGIC: [u8; 8] = *b"\x89hostmap";
/// Counted up when the format changes.
const VERSION: u64 = 1;

pub(super) const HEADER_BYTES: usize = 64;
const CHECKSUM_AT: usize = 48;

/// Each costs every memory that shows them an area or two; a hostile file could ask for as many as there are.
pub(super) const MOST_PIECES: usize = 16;
/// More free spans than that are forgotten: they go into a restored memory's table one by one.
pub(super) const MOST_FREE: usize = 4096;
/// More than any sensible one has, and little enough to be read at once.
const MOST_TAIL_BYTES: u64 = 64 << 20;

/// Four times the largest memory of any V8.
const MOST_BYTES: u64 = 64 << 30;

pub(super) type Checksum = XxHash3_128;

/// What a file's first bytes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) byte_length: PageAligned,
    pub(super) data_offset: PageAligned,
    pub(super) tail_bytes: u64,
    /// 0 in a memfd.
    pub(super) checksum: u128,
}

/// What its last bytes say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Tail {
    /// What of the memory is laid from the file, in order; all else of its own pages is zeros.
    pub(super) pieces: Vec<PageSpan>,
    /// Pages of private mappings that had been written, in order.
    pub(super) written: Vec<PageSpan>,
    /// Where mappings may be put: the memory grew by it for them, and it is none, in order.
    pub(super) free: Vec<PageSpan>,
    /// Whatever the caller wants to know again.
    pub(super) metadata: String,
}

impl Header {
    pub(super) fn tail_offset(&self) -> u64 {
        self.data_offset.get().saturating_add(self.byte_length.get())
    }

    pub(super) fn file_bytes(&self) -> u64 {
        self.tail_offset().saturating_add(self.tail_bytes)
    }

    pub(super) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let numbers = [VERSION, self.byte_length.get(), self.data_offset.get(), self.tail_bytes, 0];
        let numbers = numbers.iter().flat_map(|number| number.to_le_bytes());
        let fields = MAGIC.into_iter().chain(numbers).chain(self.checksum.to_le_bytes());
        bytes.iter_mut().zip(fields).for_each(|(byte, value)| *byte = value);
        bytes
    }

    pub(super) fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Self> {
        if !bytes.starts_with(&MAGIC) {
            return Err(invalid("it is no snapshot of wasm-hostmap"));
        }
        let number = |index: usize| -> u64 {
            let at = index.saturating_mul(8);
            let field = bytes.get(at..).and_then(|rest| rest.first_chunk());
            field.map_or(0, |field| u64::from_le_bytes(*field))
        };
        if number(1) != VERSION {
            return Err(invalid(format!(
                "its format has version {}, and this package reads version {VERSION}; take the snapshot again with this version of wasm-hostmap",
                number(1)
            )));
        }
        let checksum = bytes.get(CHECKSUM_AT..).and_then(|rest| rest.first_chunk());
        let header =
            PageAligned::new(number(2)).zip(PageAligned::new(number(3))).map(|(byte_length, data_offset)| {
                Self {
                    byte_length,
                    data_offset,
                    tail_bytes: number(4),
                    checksum: checksum.map_or(0, |checksum| u128::from_le_bytes(*checksum)),
                }
            });
        let is_sound = |header: &Self| {
            header.byte_length.get().is_multiple_of(WASM_PAGE_BYTES)
                && header.byte_length.get() <= MOST_BYTES
                && (WASM_PAGE_BYTES..=HUGE_PAGE_BYTES.saturating_mul(2)).contains(&header.data_offset.get())
                && (24..=MOST_TAIL_BYTES).contains(&header.tail_bytes)
                && number(5) == 0
        };
        header.filter(is_sound).ok_or_else(|| {
            invalid(
                "its header is damaged, or it was taken on a machine whose host pages are smaller than here",
            )
        })
    }
}

impl Tail {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for spans in [&self.pieces, &self.written, &self.free] {
            let count = u64::try_from(spans.len()).unwrap_or(u64::MAX);
            bytes.extend(count.to_le_bytes());
            for span in spans {
                bytes.extend(span.start().get().to_le_bytes());
                bytes.extend(span.end().get().to_le_bytes());
            }
        }
        bytes.extend(self.metadata.as_bytes());
        bytes
    }

    pub(super) fn decode(mut bytes: &[u8], byte_length: PageAligned) -> Result<Self> {
        let pieces = take_spans(&mut bytes, byte_length).filter(|pieces| pieces.len() <= MOST_PIECES);
        let written = take_spans(&mut bytes, byte_length);
        let free = take_spans(&mut bytes, byte_length).filter(|free| free.len() <= MOST_FREE);
        let metadata = std::str::from_utf8(bytes).ok();
        match (pieces, written, free, metadata) {
            (Some(pieces), Some(written), Some(free), Some(metadata)) => {
                Ok(Self { pieces, written, free, metadata: metadata.to_owned() })
            }
            _ => Err(invalid("its list of pieces is damaged")),
        }
    }

    /// All that the file holds of the memory, in order. A piece may go over a private mapping, whose written pages are not its own.
    pub(super) fn kept(&self) -> Vec<PageSpan> {
        united(self.pieces.iter().chain(&self.written).copied().collect())
    }
}

/// In order, and none over another or beside it.
pub(super) fn united(mut spans: Vec<PageSpan>) -> Vec<PageSpan> {
    spans.sort_by_key(|span| span.start());
    let mut united: Vec<PageSpan> = Vec::with_capacity(spans.len());
    for span in spans {
        match united.last_mut() {
            Some(last) if last.end() >= span.start() => {
                *last = PageSpan::between(last.start(), last.end().max(span.end())).unwrap_or(*last);
            }
            _ => united.push(span),
        }
    }
    united
}

/// A list of spans that follow each other within a memory of this size.
fn take_spans(bytes: &mut &[u8], byte_length: PageAligned) -> Option<Vec<PageSpan>> {
    let number = |bytes: &mut &[u8]| -> Option<u64> {
        let (first, rest) = bytes.split_first_chunk()?;
        *bytes = rest;
        Some(u64::from_le_bytes(*first))
    };
    let count = usize::try_from(number(bytes)?).ok()?;
    // More than are there can't be meant.
    if count > bytes.len() / 16 {
        return None;
    }
    let mut spans: Vec<PageSpan> = Vec::with_capacity(count);
    for _ in 0..count {
        let (start, end) = (PageAligned::new(number(bytes)?)?, PageAligned::new(number(bytes)?)?);
        let span = PageSpan::between(start, end)?;
        if span.end() > byte_length || spans.last().is_some_and(|last| last.end() > start) {
            return None;
        }
        spans.push(span);
    }
    Some(spans)
}

/// The checksum of a file, but for the bytes of the memory, which the caller adds.
pub(super) fn begin_checksum(header: &Header, tail: &[u8]) -> Checksum {
    let mut checksum = Checksum::new();
    checksum.write(&Header { checksum: 0, ..*header }.encode());
    checksum.write(tail);
    checksum
}

pub(super) fn invalid(why: impl Into<String>) -> Error {
    Error::new(Code::SnapshotInvalid, why)
}

#[cfg(test)]
mod tests {
    use super::*;
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
            tail_bytes: 99,
            checksum: 7 << 100,
        }
    }

    fn span(start: u64, end: u64) -> PageSpan {
        PageSpan::between(pages(start << 16), pages(end << 16)).unwrap()
    }

    fn tail() -> Tail {
        Tail {
            pieces: vec![span(0, 3), span(9, 64)],
            written: vec![span(4, 5)],
            free: vec![span(5, 8)],
            metadata: "{\"é\":1}".into(),
        }
    }

    #[test]
    fn what_was_written_is_read() {
        assert_eq!(Header::decode(&header().encode()), Ok(header()));
        assert_eq!(Tail::decode(&tail().encode(), pages(LENGTH)), Ok(tail()));
        assert_eq!(tail().kept(), [span(0, 3), span(4, 5), span(9, 64)]);
        let over_a_mapping = Tail { written: vec![span(2, 5), span(10, 12)], ..tail() };
        assert_eq!(over_a_mapping.kept(), [span(0, 5), span(9, 64)]);
    }

    #[test]
    fn other_files_and_versions_are_told_apart() {
        let refusal = |bytes: [u8; HEADER_BYTES]| Header::decode(&bytes).unwrap_err().message;
        assert!(refusal([0; HEADER_BYTES]).contains("no snapshot"));
        let mut later = header().encode();
        later[8] = 2;
        assert!(refusal(later).contains("version 2"));
    }

    #[test]
    fn spans_that_can_not_be_are_refused() {
        let refused = |pieces: Vec<PageSpan>| {
            let tail = Tail { pieces, ..tail() };
            Tail::decode(&tail.encode(), pages(LENGTH)).is_err()
        };
        assert!(refused(vec![span(0, 65)]), "past the memory's end");
        assert!(refused(vec![span(0, 3), span(2, 4)]), "over each other");
        assert!(refused((0..17).map(|i| span(2 * i, 2 * i + 1)).collect()), "too many");
        let free = |count: u64| (0..count).map(|i| PageSpan::page_of(2 * i * host_page_bytes()).unwrap());
        let free_refused = |count| {
            let tail = Tail { free: free(count).collect(), ..tail() };
            Tail::decode(&tail.encode(), pages(1 << 30)).is_err()
        };
        assert!(!free_refused(4096) && free_refused(4097));
        let mut unaligned = tail().encode();
        unaligned[8] = 1;
        assert!(Tail::decode(&unaligned, pages(LENGTH)).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_and_what_it_takes_is_sound(
            edits in proptest::collection::vec((0..HEADER_BYTES, any::<u8>()), 0..6),
            mut bytes in proptest::collection::vec(any::<u8>(), 0..200),
            counts in any::<[u8; 2]>(),
        ) {
            let mut head = header().encode();
            for (at, byte) in edits {
                head[at] = byte;
            }
            if let Ok(header) = Header::decode(&head) {
                prop_assert!(header.data_offset.get() >= WASM_PAGE_BYTES && header.byte_length.get() <= MOST_BYTES);
            }
            if bytes.len() > 24 {
                bytes[..8].copy_from_slice(&u64::from(counts[0] % 5).to_le_bytes());
            }
            if let Ok(tail) = Tail::decode(&bytes, pages(LENGTH)) {
                prop_assert!(tail.kept().iter().all(|span| span.end().get() <= LENGTH));
            }
        }
    }
}
