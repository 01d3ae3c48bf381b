//! The form of a snapshot's file. A memfd and a saved file hold the same bytes, but for the
//! digests, which only a saved file has.
//!
//! ```text
//!  0        256       data_offset                    data_offset + byte_length
//!  | header | hole .. | byte 0 of the memory ........ | metadata | state |
//! ```
//!
//! The header, in bytes; all numbers have 64 bits, little-endian:
//!
//! ```text
//!    0  the magic bytes
//!    8  the version of the format
//!   16  the checksum, XXH3 of 128 bits; zeros in a memfd
//!   32  the authentication code, HMAC-SHA256; zeros if there is none
//!   64  the sections, 24 bytes each: name, offset, length; then zeros
//!  240  the checksum of the description, XXH3 of 128 bits; zeros in a memfd
//! ```
//!
//! Byte N of the memory is byte `data_offset + N` of the file. `data_offset` and the memory's
//! address are congruent modulo 2 MiB, so that huge pages of the memfd can be mapped as such.
//! `metadata.rs` describes the other sections.
//!
//! The last checksum covers what the file says of itself: the header, metadata and state. Who opens
//! the file checks it, and need not read the memory's pages.
//!
//! The digests cover the same in both ([`pages_of`]): the header, metadata and state, and each page
//! of the memory that is not all zeros, after its number. So holes are not read, and it does not
//! matter which zeros are holes.
//!
//! Only the header and the digests are read and written here. Nothing here opens a file.

use super::metadata::{MOST_STATE_BYTES, most_metadata_bytes};
use super::spans::UNIT_BYTES;
use crate::error::{Error, Flaw, Result};
use crate::sys::page::{HUGE_PAGE_BYTES, PageAligned, WASM_PAGE_BYTES};
use twox_hash::XxHash3_128;

const MAGIC: [u8; 8] = *b"\x89hostmap";
/// Counted up when the format changes: see `metadata.rs`.
pub(super) const VERSION: u64 = 3;

pub(super) const HEADER_BYTES: usize = 256;
pub(super) const SECTIONS_AT: usize = 64;
const SECTION_BYTES: usize = 24;
pub(super) const DESCRIPTION_CHECKSUM_AT: usize = HEADER_BYTES - 16;
/// What a file of any version has at least.
const LEAST_BYTES: usize = 64;

const MEMORY: [u8; 8] = *b"memory\0\0";
const METADATA: [u8; 8] = *b"metadata";
const STATE: [u8; 8] = *b"state\0\0\0";

/// Four times the largest memory of any V8.
pub(super) const MOST_BYTES: u64 = 64 << 30;

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
    /// Of what the file says of itself. 0 in a memfd.
    pub(super) description_checksum: u128,
    /// Zeros: none.
    pub(super) mac: Mac,
}

impl Header {
    pub(super) fn metadata_offset(&self) -> u64 {
        sum(self.data_offset.get(), self.byte_length.get())
    }

    /// Where this byte of the memory is in the file.
    pub(super) fn offset_of(&self, at: PageAligned) -> u64 {
        sum(self.data_offset.get(), at.get())
    }

    /// As a memfd has it.
    pub(super) fn without_digests(&self) -> Self {
        Self { checksum: 0, description_checksum: 0, mac: Mac::default(), ..*self }
    }

    /// Metadata and state together.
    pub(super) fn description_bytes(&self) -> u64 {
        sum(self.metadata_bytes, self.state_bytes)
    }

    pub(super) fn file_bytes(&self) -> u64 {
        sum(self.metadata_offset(), self.description_bytes())
    }

    pub(super) fn encode(&self) -> [u8; HEADER_BYTES] {
        let state_offset = sum(self.metadata_offset(), self.metadata_bytes);
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
        let last = bytes.iter_mut().skip(DESCRIPTION_CHECKSUM_AT);
        last.zip(self.description_checksum.to_le_bytes()).for_each(|(byte, value)| *byte = value);
        bytes
    }

    /// `bytes`: the first ones of a file, as many as it has of [`HEADER_BYTES`].
    pub(super) fn decode(bytes: &[u8]) -> Result<Self> {
        if bytes.len() < LEAST_BYTES {
            return Err(Flaw::TooShort.into());
        }
        if !bytes.starts_with(&MAGIC) {
            return Err(Flaw::NotOurs.into());
        }
        let number = |at: usize| -> u64 {
            let field = bytes.get(at..).and_then(|rest| rest.first_chunk());
            field.map_or(0, |field| u64::from_le_bytes(*field))
        };
        if number(8) != VERSION {
            return Err(Flaw::Version { found: number(8), known: VERSION }.into());
        }
        let damaged = || Error::from(Flaw::Header);
        let checksum = bytes.get(16..).and_then(|rest| rest.first_chunk()).ok_or_else(damaged)?;
        let mac = bytes.get(32..).and_then(|rest| rest.first_chunk()).ok_or_else(damaged)?;
        let sections = bytes.get(SECTIONS_AT..DESCRIPTION_CHECKSUM_AT).unwrap_or_default();
        let last = bytes.get(DESCRIPTION_CHECKSUM_AT..).and_then(|rest| rest.first_chunk());
        let mut header = Self {
            byte_length: PageAligned::ZERO,
            data_offset: PageAligned::ZERO,
            metadata_bytes: 0,
            state_bytes: 0,
            checksum: u128::from_le_bytes(*checksum),
            description_checksum: u128::from_le_bytes(*last.ok_or_else(damaged)?),
            mac: *mac,
        };
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
            && (WASM_PAGE_BYTES..=2 * HUGE_PAGE_BYTES).contains(&header.data_offset.get())
            && (1..=most_metadata_bytes(header.byte_length)).contains(&header.metadata_bytes)
            && header.state_bytes <= MOST_STATE_BYTES;
        // Written as it would be written here: other sections, another order, or gaps between them
        // are no part of this version.
        if !is_sound || header.encode()[..] != *bytes { Err(damaged()) } else { Ok(header) }
    }

    /// What the digests cover of it. A checksum covers the authentication code, too.
    fn digested(&self, with_mac: bool) -> [u8; HEADER_BYTES] {
        let mac = if with_mac { self.mac } else { Mac::default() };
        Self { checksum: 0, description_checksum: 0, mac, ..*self }.encode()
    }
}

/// Each number of a header is bounded where it is decoded, or is of a memory that exists.
fn sum(first: u64, second: u64) -> u64 {
    first.checked_add(second).expect("a snapshot's file is far smaller than 2^64 bytes")
}

/// The checksum of what a file says of itself. With the pages of the memory, which the caller adds
/// by [`pages_of`], it is that of the file.
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
pub(super) fn pages_of(start: PageAligned, bytes: &[u8]) -> impl Iterator<Item = ([u8; 8], &[u8])> {
    let pages = bytes.chunks(crate::sys::to_usize(UNIT_BYTES));
    let data = pages.zip(start.get() / UNIT_BYTES..);
    let data = data.filter(|(page, _)| page.iter().any(|byte| *byte != 0));
    data.map(|(page, number)| (number.to_le_bytes(), page))
}
