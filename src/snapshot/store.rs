//! Snapshots in files, and by descriptors: saving, loading, and the parts that an authentication
//! code covers. What a file says is checked here and in `metadata.rs`, before anything is made of
//! it.

use super::complete::seal;
use super::format::{self, Checksum, HEADER_BYTES, Header, Mac};
use super::image::Extents;
use super::metadata::{About, Metadata, State};
use super::spans::UNIT_BYTES;
use super::{ImageFd, Settings, Snapshot};
use crate::error::{Attempt, Error, Flaw, Result, SnapshotError, Source, check_cancelled};
use crate::memory::image::Content;
use crate::region::{not_opened, open_regular};
use crate::sys::alloc::{self, Refused};
use crate::sys::checked_fd::Description;
use crate::sys::file::{self, FileKind};
use crate::sys::memfd::Seals;
use crate::sys::page::{PageAligned, PageSpan, host_page_bytes};
use crate::sys::{SysError, SysResult, memfd, process, to_u64, to_usize};
use nix::errno::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// How much is read, summed and written at once.
const STEP_BYTES: u64 = 1 << 20;
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
    // A descriptor of its own: the search for data moves the position.
    let from = snapshot.fd.reopen_readonly().map_err(failed)?;
    let description = read_description(from.as_fd(), &header, &not_read)?;
    file::set_length(to, header.file_bytes()).map_err(failed)?;
    let mut checksum = format::begin_checksum(&header, &description);
    let extents = snapshot.extents.all()?;
    let copy = ImageCopy { from: from.as_fd(), to, header: &header, extents: &extents };
    copy.run(&mut checksum, cancelled, &failed, &failed)?;
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
    let fd = snapshot.fd.reopen_readonly().map_err(not_read)?;
    let mut bytes = Vec::new();
    if from == 0 {
        let head = format::begin_mac(header);
        let description = read_description(fd.as_fd(), header, &not_read)?;
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
    let mut steps = Steps::new(fd.as_fd(), header, &extents, at);
    let mut buffer = alloc::zeroed(to_usize(STEP_BYTES))?;
    bytes.try_reserve_exact(to_usize(MOST_PART_BYTES)).map_err(Refused::from)?;
    // Small extents, of which there may be many, share a part.
    while to_u64(bytes.len()) < STEP_BYTES {
        let Some(step) = steps.next().map_err(not_read)? else {
            return Ok(Part { bytes, next: None });
        };
        let pages = buffer.get_mut(..to_usize(step.length().get())).expect("a step fits in it");
        let offset = header.offset_of(step.start());
        if file::read_up_to(fd.as_fd(), offset, pages).map_err(not_read)? < pages.len() {
            return Err(Error::Defect("a sealed snapshot was cut off"));
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
    let Described { header, description, metadata, extents, state } =
        read_described(from, &read_failed)?;
    let fd = memfd::create_growing(name).map_err(not_kept)?;
    file::set_length(&fd, header.metadata_offset()).map_err(not_kept)?;
    let mut checksum = format::begin_checksum(&header, &description);
    let all = extents.all()?;
    let copy = ImageCopy { from, to: fd.as_fd(), header: &header, extents: &all };
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
    let mac = (header.mac != Mac::default()).then_some(header.mac);
    Ok(Loaded { snapshot, about, state, mac })
}

/// Makes a snapshot of another thread's or process's memfd, whose descriptor is duplicated: the
/// same pages.
pub fn from_fd(fd: RawFd, settings: Settings) -> Result<Loaded> {
    let source = Source::Descriptor(fd);
    share_with(fd, &source, settings).map_err(|error| of_source(error, &source))
}

fn share_with(fd: RawFd, source: &Source, settings: Settings) -> Result<Loaded> {
    let open_failed = |sys: SysError| {
        let refused = sys.into();
        Error::from(SnapshotError::SourceNotOpened { from: source.clone(), refused })
    };
    let read_failed = |sys: SysError| {
        let refused = sys.into();
        Error::from(SnapshotError::SourceNotRead { from: source.clone(), refused })
    };
    let fd = file::duplicate(fd).map_err(open_failed)?;
    if !memfd::is_memfd(fd.as_fd()) || !memfd::seals(fd.as_fd()).is_some_and(Seals::forbid_changes)
    {
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
fn of_source(error: Error, from: &Source) -> Error {
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
struct Described {
    header: Header,
    /// Metadata and state, as they are in the file.
    description: Vec<u8>,
    metadata: Metadata,
    extents: Extents,
    state: Option<State>,
}

fn read_described(fd: BorrowedFd<'_>, failed: &dyn Fn(SysError) -> Error) -> Result<Described> {
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

/// Goes through the data of an image, a step at a time.
struct Steps<'a> {
    fd: BorrowedFd<'a>,
    header: &'a Header,
    extents: std::slice::Iter<'a, PageSpan>,
    current: Option<PageSpan>,
    at: PageAligned,
}

impl<'a> Steps<'a> {
    /// `extents` in order. Begins at `at`, an offset in the memory.
    fn new(
        fd: BorrowedFd<'a>,
        header: &'a Header,
        extents: &'a [PageSpan],
        at: PageAligned,
    ) -> Self {
        Self { fd, header, extents: extents.iter(), current: None, at }
    }

    /// The next step, as offsets in the memory.
    fn next(&mut self) -> SysResult<Option<PageSpan>> {
        loop {
            let left = self
                .current
                .and_then(|span| PageSpan::between(self.at.max(span.start()), span.end()));
            let Some(left) = left else {
                self.current = self.extents.next().copied();
                if self.current.is_none() {
                    return Ok(None);
                }
                continue;
            };
            // Holes are not read: a large one takes long.
            let (from, to) =
                (self.header.offset_of(left.start()), self.header.offset_of(left.end()));
            let data = file::first_data(self.fd, from, to)?;
            let start = data
                .and_then(|data| data.checked_sub(self.header.data_offset.get()))
                .map(PageAligned::round_down);
            let Some(data) =
                start.and_then(|start| PageSpan::between(start.max(left.start()), left.end()))
            else {
                self.at = left.end();
                continue;
            };
            let step = data.first(STEP_BYTES);
            self.at = step.end();
            return Ok(Some(step));
        }
    }
}

/// Copies an image to the same offsets of another file, without its zeros.
struct ImageCopy<'a> {
    from: BorrowedFd<'a>,
    to: BorrowedFd<'a>,
    header: &'a Header,
    extents: &'a [PageSpan],
}

impl ImageCopy<'_> {
    /// Adds what it copies to the checksum.
    fn run(
        &self,
        checksum: &mut Checksum,
        cancelled: &AtomicBool,
        read_failed: &dyn Fn(SysError) -> Error,
        write_failed: &dyn Fn(SysError) -> Error,
    ) -> Result<()> {
        let mut buffer = alloc::zeroed(to_usize(STEP_BYTES))?;
        let mut steps = Steps::new(self.from, self.header, self.extents, PageAligned::ZERO);
        while let Some(step) = steps.next().map_err(read_failed)? {
            check_cancelled(cancelled)?;
            let offset = self.header.offset_of(step.start());
            let bytes = buffer.get_mut(..to_usize(step.length().get())).expect("a step fits in it");
            if file::read_up_to(self.from, offset, bytes).map_err(read_failed)? < bytes.len() {
                return Err(Flaw::CutOffMeanwhile.into());
            }
            for (number, page) in format::pages_of(step.start(), bytes) {
                checksum.write(&number);
                checksum.write(page);
            }
            write_data(self.to, offset, bytes).map_err(write_failed)?;
        }
        check_cancelled(cancelled)
    }
}

/// Writes the pages that are not all zeros.
fn write_data(to: BorrowedFd<'_>, offset: u64, bytes: &[u8]) -> SysResult<()> {
    let page_bytes = host_page_bytes();
    let offsets = (offset..).step_by(to_usize(page_bytes));
    for (page, at) in bytes.chunks(to_usize(page_bytes)).zip(offsets) {
        if page.iter().any(|byte| *byte != 0) {
            file::write_all(to, at, page)?;
        }
    }
    Ok(())
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
