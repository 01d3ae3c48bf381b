//! Completes a captured snapshot: writes its description behind the image, and seals the memfd.
//! From then on nobody can write it, so memories and processes that share it can trust its bytes.

use super::Snapshot;
use super::format::{Header, Mac};
use super::metadata::{
    About, MOST_MAPPINGS, MOST_STATE_BYTES, Metadata, State, most_metadata_bytes,
};
use super::spans::SavedSpans;
use crate::error::{Error, Result, SnapshotError};
use crate::sys::alloc;
use crate::sys::checked_fd::CheckedFd;
use crate::sys::{SysError, file, memfd, to_u64};
use crate::wire::{self, List, Text};

/// `about` and `state` are what the caller gets back when it loads the snapshot elsewhere. Gives
/// the reason where no other thread or process can use it.
pub fn complete(
    snapshot: &Snapshot,
    about: About,
    state: Option<&State>,
) -> Result<Option<String>> {
    let mut about = about;
    let mut state_bytes = Vec::new();
    if let Some(state) = state.filter(|_| about.unsaveable.is_none()) {
        match wire::encode(state, MOST_STATE_BYTES)? {
            Some(bytes) => state_bytes = bytes,
            None => {
                let why = format!(
                    "its globals and tables would take more than {MOST_STATE_BYTES} bytes of a file"
                );
                about.unsaveable = Text::new(why);
            }
        }
    }
    let unsaveable = about.unsaveable.as_deref().map(alloc::text).transpose()?;
    let metadata = describe(snapshot, about)?;
    let header = Header {
        byte_length: snapshot.byte_length,
        data_offset: snapshot.content.data_offset,
        metadata_bytes: to_u64(metadata.len()),
        state_bytes: to_u64(state_bytes.len()),
        checksum: 0,
        description_checksum: 0,
        mac: Mac::default(),
    };
    seal(snapshot, &header, &[&metadata, &state_bytes])?;
    Ok(unsaveable)
}

/// The metadata, encoded.
fn describe(snapshot: &Snapshot, about: About) -> Result<Vec<u8>> {
    let metadata = Metadata {
        about,
        pieces: SavedSpans::of(&snapshot.extents.pieces)?,
        written: SavedSpans::of(&snapshot.extents.written)?,
        free: SavedSpans::of(&snapshot.extents.free)?,
        mappings: List::new(snapshot.described_mappings()?)
            .ok_or(SnapshotError::TooManyMappings { most: MOST_MAPPINGS })?,
    };
    let most = most_metadata_bytes(snapshot.byte_length);
    Ok(wire::encode(&metadata, most)?.ok_or(SnapshotError::MappingsTooLong { most_bytes: most })?)
}

/// Writes the description and the header, and closes the memfd to all writers.
pub(super) fn seal(snapshot: &Snapshot, header: &Header, description: &[&[u8]]) -> Result<()> {
    let failed = |sys: SysError| SnapshotError::NotCompleted { refused: sys.into() };
    let fd = snapshot.backing.fd().and_then(CheckedFd::get).map_err(failed)?;
    let mut at = header.metadata_offset();
    for part in description {
        file::write_all(fd, at, part).map_err(failed)?;
        at = at.checked_add(to_u64(part.len())).expect("the header bounds the description");
    }
    file::write_all(fd, 0, &header.encode()).map_err(failed)?;
    memfd::seal_size(fd).map_err(failed)?;
    memfd::seal_write(fd).map_err(failed)?;
    snapshot.header.set(*header).map_err(|_| Error::Defect("the snapshot is complete already"))?;
    Ok(())
}
