//! Snapshots in files, and by descriptors: saving, loading, and the parts that an authentication
//! code covers. What a file says is checked here and in `metadata.rs`, before anything is made of
//! it.

use super::complete::seal;
use super::copy::{ImageCopy, STEP_BYTES, Steps};
use super::format::{self, HEADER_BYTES, Header, Mac};
use super::image::Extents;
use super::metadata::{About, Metadata, State};
use super::spans::UNIT_BYTES;
use super::{ImageFd, Settings, Snapshot};
use crate::error::{Attempt, Error, Flaw, Result, SnapshotError, Source, check_cancelled};
use crate::memory::image::Content;
use crate::memory::leased::Reading;
use crate::region::{not_opened, open_regular};
use crate::sys::alloc::{self, Refused};
use crate::sys::checked_fd::Description;
use crate::sys::file::{self, FileKind};
use crate::sys::memfd::Seals;
use crate::sys::page::{PageAligned, PageSpan};
use crate::sys::{SysError, SysResult, memfd, process, to_u64, to_usize};
use nix::errno::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A part begins another step as long as it has less than a step. Each page comes with its number,
/// of 8 bytes.
const MOST_PART_BYTES: u64 = 2 * (STEP_BYTES + STEP_BYTES / UNIT_BYTES * 8);

/// A snapshot that came from elsewhere. It has no mappings until [`grant`](super::grant::grant).
#[derive(Debug)]
pub struct Loaded {
    pub snapshot: Snapshot,
    /// What [`complete`](super::complete::complete) was given.
    pub about: About,
    pub state: Option<State>,
    /// The authentication code of the file; `None`: it has none.
    pub mac: Option<Mac>,
}

/// A part of what an authentication code covers, in the order in which it covers them.
#[derive(Debug)]
pub struct Part {
    pub bytes: Vec<u8>,
    /// Where the next part begins; `None`: this is the last one.
    pub next: Option<u64>,
}

/// Writes the snapshot to a file, which takes the place of one that is there once it is complete.
/// Holes stay holes. A symbolic link is followed. Once `cancelled` is set the save ends with an
/// error, and leaves nothing.
///
/// `mac`: the authentication code of what [`read_part`] gives; zeros: none.
pub fn save(snapshot: &Snapshot, path: &Path, mac: &Mac, cancelled: &AtomicBool) -> Result<()> {
    let attempt = Attempt::save_snapshot(path);
    let asked = file::absolute(path);
    let path = file::resolve_links(path).map_err(|sys| not_opened(path, attempt.clone(), sys))?;
    let path = &path.ok_or_else(|| SnapshotError::PlaceTaken { path: asked.clone() })?;
    if path.file_name().is_none() {
        return Err(SnapshotError::NoFileName { path: asked }.into());
    }
    let refused = |sys| not_opened(path, attempt.clone(), sys);
    let (beside, fd) = temporary_beside(path).map_err(refused)?;
    let saved = write_to(snapshot, fd.as_fd(), mac, cancelled, &asked)
        .and_then(|()| file::rename(&beside, path).map_err(refused));
    if saved.is_err() {
        file::remove(&beside);
    }
    saved
}

fn write_to(
    snapshot: &Snapshot,
    to: BorrowedFd<'_>,
    mac: &Mac,
    cancelled: &AtomicBool,
    path: &Path,
) -> Result<()> {
    let failed = |sys: SysError| {
        Error::from(SnapshotError::NotWritten { path: path.to_owned(), refused: sys.into() })
    };
    let mut header = Header { mac: *mac, ..*header_of(snapshot)? };
    let (fd, reading) = snapshot.backing.read().map_err(failed)?;
    // A descriptor of its own: the search for data moves the position.
    let from = fd.reopen_readonly().map_err(failed)?;
    let description = read_description(from.as_fd(), &header, &not_read)?;
    file::set_length(to, header.file_bytes()).map_err(failed)?;
    let mut checksum = format::begin_checksum(&header, &description);
    header.description_checksum = checksum.finish_128();
    let extents = snapshot.extents.all()?;
    let copy = ImageCopy { from: from.as_fd(), to: Some(to), header: &header, extents: &extents };
    copy.run(&mut checksum, cancelled, &failed, &failed)?;
    check_held(snapshot, reading.as_ref())?;
    header.checksum = checksum.finish_128();
    file::write_all(to, header.metadata_offset(), &description).map_err(failed)?;
    file::write_all(to, 0, &header.encode()).map_err(failed)?;
    file::sync(to).map_err(failed)
}

fn header_of(snapshot: &Snapshot) -> Result<&Header> {
    let header = snapshot.header.get();
    header.ok_or(Error::Defect("the snapshot is not complete"))
}

/// A part of what an authentication code covers. `from`: where the part begins; 0 for the first.
///
/// Reads the snapshot's own pages, which nobody can write: what is authenticated is what memories
/// show.
pub fn read_part(snapshot: &Snapshot, from: u64) -> Result<Part> {
    let header = header_of(snapshot)?;
    let extents = snapshot.extents.all()?;
    let (fd, reading) = snapshot.backing.read().map_err(not_read)?;
    let fd = fd.reopen_readonly().map_err(not_read)?;
    let part = part_of(header, &extents, fd.as_fd(), from)?;
    check_held(snapshot, reading.as_ref())?;
    Ok(part)
}

/// Refuses what was read of a file while others could write it.
fn check_held(snapshot: &Snapshot, reading: Option<&Reading<'_>>) -> Result<()> {
    if reading.is_some_and(|reading| !reading.was_held()) {
        return Err(SnapshotError::FileLost { name: snapshot.name().to_owned() }.into());
    }
    snapshot.check_whole()
}

fn part_of(header: &Header, extents: &[PageSpan], fd: BorrowedFd<'_>, from: u64) -> Result<Part> {
    let mut bytes = Vec::new();
    if from == 0 {
        let head = format::begin_mac(header);
        let description = read_description(fd, header, &not_read)?;
        bytes.try_reserve(head.len()).map_err(Refused::from)?;
        bytes.extend_from_slice(&head);
        bytes.try_reserve(description.len()).map_err(Refused::from)?;
        bytes.extend_from_slice(&description);
        return Ok(Part { bytes, next: extents.first().map(|_| header.data_offset.get()) });
    }
    // The other parts begin at their offset in the file, which is above 0.
    let at = from.checked_sub(header.data_offset.get()).and_then(PageAligned::new);
    let at = at.ok_or(Error::Defect("no part begins there"))?;
    let mut next = from;
    let mut steps = Steps::new(fd, header, extents, at);
    let mut buffer = alloc::zeroed(to_usize(STEP_BYTES))?;
    bytes.try_reserve_exact(to_usize(MOST_PART_BYTES)).map_err(Refused::from)?;
    // Small extents, of which there may be many, share a part.
    while to_u64(bytes.len()) < STEP_BYTES {
        let Some(step) = steps.next().map_err(not_read)? else {
            return Ok(Part { bytes, next: None });
        };
        let pages = buffer.get_mut(..to_usize(step.length().get())).expect("a step fits in it");
        let offset = header.offset_of(step.start());
        if file::read_up_to(fd, offset, pages).map_err(not_read)? < pages.len() {
            return Err(Flaw::CutOff.into());
        }
        for (number, page) in format::pages_of(step.start(), pages) {
            bytes.extend_from_slice(&number);
            bytes.extend_from_slice(page);
        }
        next = header.offset_of(step.end());
    }
    Ok(Part { bytes, next: Some(next) })
}

/// Makes a snapshot of a file that [`save`] wrote, copied into memory of its own. Cancelled as a
/// save is.
pub fn load(path: &Path, settings: Settings, cancelled: &AtomicBool) -> Result<Loaded> {
    check_cancelled(cancelled)?;
    let source = Source::File(file::absolute(path));
    let from = open_regular(path, false)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let name: String = name.chars().take(50).collect();
    copy_from(from.as_fd(), &name, &source, settings, cancelled)
        .map_err(|error| of_source(error, &source))
}

fn copy_from(
    from: BorrowedFd<'_>,
    name: &str,
    source: &Source,
    settings: Settings,
    cancelled: &AtomicBool,
) -> Result<Loaded> {
    let read_failed = |sys: SysError| {
        let refused = sys.into();
        Error::from(SnapshotError::SourceNotRead { from: source.clone(), refused })
    };
    let not_kept = |sys: SysError| {
        let refused = sys.into();
        Error::from(SnapshotError::NotKept { from: source.clone(), refused })
    };
    let described = read_described(from, &read_failed)?;
    described.check()?;
    let Described { header, description, metadata, extents, state } = described;
    let fd = memfd::create_growing(name).map_err(not_kept)?;
    file::set_length(&fd, header.metadata_offset()).map_err(not_kept)?;
    let mut checksum = format::begin_checksum(&header, &description);
    let all = extents.all()?;
    let copy = ImageCopy { from, to: Some(fd.as_fd()), header: &header, extents: &all };
    copy.run(&mut checksum, cancelled, &read_failed, &not_kept)?;
    if checksum.finish_128() != header.checksum {
        return Err(Flaw::Checksum.into());
    }
    let content = Content::of(&fd, header.data_offset, &all).map_err(not_kept)?;
    let Metadata { about, mappings, .. } = metadata;
    let byte_length = header.byte_length;
    let image = ImageFd { fd, description: Description::Ours, content, byte_length, extents };
    let snapshot = Snapshot::new(name, image, settings).map_err(not_kept)?;
    let snapshot = Snapshot { saved: mappings.into_vec(), ..snapshot };
    seal(&snapshot, &header.without_digests(), &[&description])?;
    snapshot.gather();
    let mac = (header.mac != Mac::default()).then_some(header.mac);
    Ok(Loaded { snapshot, about, state, mac })
}

/// Checks the bytes of a file whose description was read.
pub(super) fn check_pages(
    from: BorrowedFd<'_>,
    header: &Header,
    description: &[u8],
    extents: &[PageSpan],
    cancelled: &AtomicBool,
    failed: &dyn Fn(SysError) -> Error,
) -> Result<()> {
    let mut checksum = format::begin_checksum(header, description);
    let copy = ImageCopy { from, to: None, header, extents };
    copy.run(&mut checksum, cancelled, failed, failed)?;
    if checksum.finish_128() == header.checksum { Ok(()) } else { Err(Flaw::Checksum.into()) }
}

/// Makes a snapshot over another thread's or process's memfd: the same pages.
pub(super) fn share_with(fd: OwnedFd, source: &Source, settings: Settings) -> Result<Loaded> {
    let open_failed = |sys: SysError| {
        let refused = sys.into();
        Error::from(SnapshotError::SourceNotOpened { from: source.clone(), refused })
    };
    let read_failed = |sys: SysError| {
        let refused = sys.into();
        Error::from(SnapshotError::SourceNotRead { from: source.clone(), refused })
    };
    if !memfd::seals(fd.as_fd()).is_some_and(Seals::forbid_changes) {
        return Err(Flaw::NotSealed.into());
    }
    if file::is_hugetlb(&fd).map_err(open_failed)? {
        return Err(Flaw::Hugetlb.into());
    }
    let Described { header, metadata, extents, state, .. } =
        read_described(fd.as_fd(), &read_failed)?;
    let name = file::path_of(&fd).unwrap_or_default();
    let name = name.to_string_lossy();
    let name = name.strip_prefix("/memfd:").unwrap_or(&name);
    let name = name.strip_suffix(" (deleted)").unwrap_or(name);
    let content = Content::of(&fd, header.data_offset, &extents.all()?).map_err(read_failed)?;
    let Metadata { about, mappings, .. } = metadata;
    let byte_length = header.byte_length;
    let image = ImageFd { fd, description: Description::Shared, content, byte_length, extents };
    let snapshot = Snapshot {
        header: OnceLock::from(header.without_digests()),
        saved: mappings.into_vec(),
        ..Snapshot::new(name, image, settings).map_err(open_failed)?
    };
    Ok(Loaded { snapshot, about, state, mac: None })
}

/// A flaw, with where the bytes came from.
pub(super) fn of_source(error: Error, from: &Source) -> Error {
    match error {
        Error::Snapshot(SnapshotError::Flawed { flaw }) => {
            SnapshotError::Invalid { from: from.clone(), flaw }.into()
        }
        other => other,
    }
}

fn not_read(sys: SysError) -> Error {
    SnapshotError::NotRead { refused: sys.into() }.into()
}

/// What a file says of itself, all of it checked but for the checksum.
pub(super) struct Described {
    pub(super) header: Header,
    /// Metadata and state, as they are in the file.
    pub(super) description: Vec<u8>,
    pub(super) metadata: Metadata,
    pub(super) extents: Extents,
    pub(super) state: Option<State>,
}

impl Described {
    /// Refuses what was damaged since it was saved. A memfd has no checksum.
    pub(super) fn check(&self) -> Result<()> {
        let checksum = format::begin_checksum(&self.header, &self.description);
        let is_right = checksum.finish_128() == self.header.description_checksum;
        if is_right { Ok(()) } else { Err(Flaw::Checksum.into()) }
    }
}

pub(super) fn read_described(
    fd: BorrowedFd<'_>,
    failed: &dyn Fn(SysError) -> Error,
) -> Result<Described> {
    let status = file::status(fd).map_err(failed)?;
    if status.kind != FileKind::Regular {
        return Err(Flaw::NotRegular.into());
    }
    let mut first = [0; HEADER_BYTES];
    let read = file::read_up_to(fd, 0, &mut first).map_err(failed)?;
    let header = Header::decode(first.get(..read).expect("it read at most as many bytes"))?;
    if status.byte_length != header.file_bytes() {
        let (has, should) = (status.byte_length, header.file_bytes());
        return Err(Flaw::Length { has, should }.into());
    }
    let description = read_description(fd, &header, failed)?;
    let (metadata, state) = description
        .split_at_checked(to_usize(header.metadata_bytes))
        .expect("metadata and state are what was read");
    let (metadata, extents) = Metadata::read(metadata, header.byte_length)?;
    let state = if state.is_empty() { None } else { Some(State::read(state)?) };
    Ok(Described { header, description, metadata, extents, state })
}

/// Metadata and state.
fn read_description(
    fd: BorrowedFd<'_>,
    header: &Header,
    failed: &dyn Fn(SysError) -> Error,
) -> Result<Vec<u8>> {
    let mut description = alloc::zeroed(to_usize(header.description_bytes()))?;
    if file::read_up_to(fd, header.metadata_offset(), &mut description).map_err(failed)?
        < description.len()
    {
        return Err(Flaw::CutOff.into());
    }
    Ok(description)
}

/// A new file in the same directory, and its name, which no other save of this process has. Skips
/// the names of files that an earlier process of the same number left.
fn temporary_beside(path: &Path) -> SysResult<(PathBuf, OwnedFd)> {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let beside = path.with_file_name(format!(".hostmap-{}-{number}.tmp", process::id()));
        match file::create_new(&beside) {
            Err(sys) if sys.errno == Errno::EEXIST => {}
            created => return created.map(|fd| (beside, fd)),
        }
    }
}
