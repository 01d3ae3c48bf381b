//! Snapshots in files, and by descriptors.

use super::format::{self, Checksum, HEADER_BYTES, Header, Kept, Mac, invalid};
use super::metadata::{About, Metadata, State};
use super::{Content, Settings, Snapshot, wire};
use crate::error::{Code, Error, Result, check_cancelled};
use crate::region::not_opened;
use crate::sys::alloc;
use crate::sys::checked_fd::Description;
use crate::sys::file::{self, FileKind};
use crate::sys::memfd::Seals;
use crate::sys::page::{PageAligned, PageSpan, host_page_bytes};
use crate::sys::{SysResult, memfd, process, to_u64, to_usize};
use nix::errno::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What is read, summed and written at once.
const STEP_BYTES: u64 = 1 << 20;

/// A snapshot that came from elsewhere. It has no mappings before [`Snapshot::grant`].
#[derive(Debug)]
pub struct Loaded {
    pub snapshot: Snapshot,
    /// What [`Snapshot::finish`] was given.
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

impl Snapshot {
    /// Writes the snapshot to a file, which takes the place of one that is there when it is
    /// complete. Holes stay holes. A symbolic link is followed. Once `cancelled` is set it ends,
    /// with an error, and leaves nothing.
    ///
    /// `mac`: the authentication code of what [`Snapshot::part`] gives; zeros: none.
    pub fn save(&self, path: &Path, mac: &Mac, cancelled: &AtomicBool) -> Result<()> {
        let what = format!("can't save a snapshot to {}", file::absolute(path).display());
        let path = &file::resolve_links(path)
            .map_err(|sys| not_opened(path, what.clone(), sys))?
            .ok_or_else(|| {
            Error::new(
                Code::NotAFile,
                format!(
                    "{what}: what is there is no regular file; remove it, or choose another name"
                ),
            )
        })?;
        if path.file_name().is_none() {
            return Err(Error::new(Code::OpenFailed, format!("{what}: the path names no file")));
        }
        let refused = |sys| not_opened(path, what.clone(), sys);
        let (beside, fd) = temporary_beside(path).map_err(refused)?;
        let saved = self
            .write_to(fd.as_fd(), mac, cancelled, &what)
            .and_then(|()| file::rename(&beside, path).map_err(refused));
        if saved.is_err() {
            file::remove(&beside);
        }
        saved
    }

    fn write_to(
        &self,
        to: BorrowedFd<'_>,
        mac: &Mac,
        cancelled: &AtomicBool,
        what: &str,
    ) -> Result<()> {
        let failed = |sys| Error::from_sys(Code::WriteFailed, what, sys);
        let mut header = Header { mac: *mac, ..*self.header()? };
        // What looks for data moves the position, so it has one of its own.
        let from = self.fd.reopen_readonly().map_err(failed)?;
        let description = read_description(from.as_fd(), &header)?;
        file::set_length(to, header.file_bytes()).map_err(failed)?;
        let mut checksum = format::begin_checksum(&header, &description);
        let kept = self.kept.all()?;
        copy_kept(from.as_fd(), to, &header, &kept, &mut checksum, cancelled, &failed, &failed)?;
        header.checksum = checksum.finish_128();
        file::write_all(to, header.metadata_offset(), &description).map_err(failed)?;
        file::write_all(to, 0, &header.encode()).map_err(failed)?;
        file::sync(to).map_err(failed)
    }

    fn header(&self) -> Result<&Header> {
        self.header.get().ok_or_else(|| Error::new(Code::Internal, "the snapshot is not complete"))
    }

    /// A part of what an authentication code covers, from the snapshot's own pages, which nobody
    /// can write: what is authenticated is what memories show. 0 begins.
    pub fn part(&self, from: u64) -> Result<Part> {
        let failed = |sys| Error::from_sys(Code::ReadFailed, "can't read a snapshot", sys);
        let header = self.header()?;
        let kept = self.kept.all()?;
        let fd = self.fd.reopen_readonly().map_err(failed)?;
        let mut bytes = Vec::new();
        if from == 0 {
            let description = read_description(fd.as_fd(), header)?;
            bytes
                .try_reserve_exact(HEADER_BYTES.saturating_add(description.len()))
                .map_err(alloc::Refused::from)?;
            bytes.extend_from_slice(&format::begin_mac(header));
            bytes.extend_from_slice(&description);
            return Ok(Part { bytes, next: kept.first().map(|_| header.data_offset.get()) });
        }
        // Offsets in the file, all of which are above 0.
        let at = from.checked_sub(header.data_offset.get()).and_then(PageAligned::new);
        let at = at.ok_or_else(|| Error::new(Code::Internal, "no part begins there"))?;
        let mut next = from;
        let mut steps = Steps::new(fd.as_fd(), header, &kept, at);
        let mut buffer = alloc::zeroed(to_usize(STEP_BYTES))?;
        // Each page with its number. Small spans, of which there may be many, share a part.
        let room = STEP_BYTES.saturating_add(STEP_BYTES / 256).saturating_mul(2);
        bytes.try_reserve_exact(to_usize(room)).map_err(alloc::Refused::from)?;
        while to_u64(bytes.len()) < STEP_BYTES {
            let Some((step, end)) = steps.next().map_err(failed)? else {
                return Ok(Part { bytes, next: None });
            };
            let offset = header.data_offset.get().saturating_add(step.start().get());
            let pages = buffer.get_mut(..to_usize(step.length().get())).unwrap_or_default();
            if file::read_up_to(fd.as_fd(), offset, pages).map_err(failed)? < pages.len() {
                return Err(Error::new(Code::Internal, "a sealed snapshot was cut off"));
            }
            for (_, number, page) in format::pages_of(step.start(), pages) {
                bytes.extend_from_slice(&number);
                bytes.extend_from_slice(page);
            }
            next = header.data_offset.get().saturating_add(end.get());
        }
        Ok(Part { bytes, next: Some(next) })
    }

    /// A snapshot from a file that [`Snapshot::save`] wrote, copied into memory of its own.
    /// Cancelled as a save is.
    pub fn load(path: &Path, settings: Settings, cancelled: &AtomicBool) -> Result<Loaded> {
        let what = format!("can't load a snapshot from {}", file::absolute(path).display());
        let named = |error: Error| error.reworded(|error| format!("{what}: {error}"));
        let read_failed = |sys| Error::from_sys(Code::ReadFailed, &what, sys);
        check_cancelled(cancelled)?;
        let from = crate::region::open_regular(path, false)?;
        let Ends { header, description, metadata, kept, state } =
            read_ends(from.as_fd()).map_err(named)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let name: String = name.chars().take(50).collect();
        let refused = |sys| Error::from_sys(Code::OutOfMemory, &what, sys);
        let fd = memfd::create_growing(&name).map_err(refused)?;
        file::set_length(&fd, header.metadata_offset()).map_err(refused)?;
        let mut checksum = format::begin_checksum(&header, &description);
        let all = kept.all().map_err(|no| named(no.into()))?;
        copy_kept(
            from.as_fd(),
            fd.as_fd(),
            &header,
            &all,
            &mut checksum,
            cancelled,
            &read_failed,
            &refused,
        )
        .map_err(|error| {
            if error.code() == Code::SnapshotInvalid { named(error) } else { error }
        })?;
        if checksum.finish_128() != header.checksum {
            let message = "its checksum does not fit: the file was damaged or altered; take and save the snapshot again";
            return Err(named(invalid(message)));
        }
        let content = Content::of(&fd, &header, &all).map_err(refused)?;
        let Metadata { about, mappings, .. } = metadata;
        let snapshot = Self::new(&name, fd, Description::Ours, content, &header, kept, settings);
        let snapshot = Self { saved: mappings.into_vec(), ..snapshot.map_err(refused)? };
        snapshot.seal(&Header { checksum: 0, mac: Mac::default(), ..header }, &[&description])?;
        let mac = (header.mac != Mac::default()).then_some(header.mac);
        Ok(Loaded { snapshot, about, state, mac })
    }

    /// The snapshot of another thread of this process, by its descriptor, which is duplicated: the
    /// same pages.
    pub fn from_fd(fd: RawFd, settings: Settings) -> Result<Loaded> {
        let what = format!("can't use file descriptor {fd} as a snapshot");
        let named = |error: Error| error.reworded(|error| format!("{what}: {error}"));
        let fd =
            file::duplicate(fd).map_err(|sys| Error::from_sys(Code::OpenFailed, &what, sys))?;
        if !memfd::is_memfd(fd.as_fd())
            || !memfd::seals(fd.as_fd()).is_some_and(Seals::forbid_changes)
        {
            let message = "it is no sealed memfd; pass what `duplicateFd` of a Snapshot gives, or load a saved one";
            return Err(named(invalid(message)));
        }
        if file::is_hugetlb(&fd).map_err(|sys| Error::from_sys(Code::OpenFailed, &what, sys))? {
            return Err(named(invalid("its pages are of hugetlb, which no snapshot's are")));
        }
        let Ends { header, metadata, kept, state, .. } = read_ends(fd.as_fd()).map_err(named)?;
        let name = file::path_of(&fd).unwrap_or_default();
        let name = name.to_string_lossy();
        let name = name.strip_prefix("/memfd:").unwrap_or(&name);
        let name = name.strip_suffix(" (deleted)").unwrap_or(name);
        let all = kept.all().map_err(|no| named(no.into()))?;
        let content = Content::of(&fd, &header, &all);
        let content = content.map_err(|sys| Error::from_sys(Code::ReadFailed, &what, sys))?;
        let Metadata { about, mappings, .. } = metadata;
        let snapshot = Self::new(name, fd, Description::Shared, content, &header, kept, settings);
        let snapshot = Self {
            header: OnceLock::from(Header { checksum: 0, mac: Mac::default(), ..header }),
            saved: mappings.into_vec(),
            ..snapshot.map_err(|sys| Error::from_sys(Code::OpenFailed, &what, sys))?
        };
        Ok(Loaded { snapshot, about, state, mac: None })
    }
}

/// What stands at a file's start and end, all of it checked but for the checksum.
struct Ends {
    header: Header,
    /// Metadata and state, as they are in the file.
    description: Vec<u8>,
    metadata: Metadata,
    kept: Kept,
    state: Option<State>,
}

fn read_ends(fd: BorrowedFd<'_>) -> Result<Ends> {
    let failed = |sys| Error::from_sys(Code::ReadFailed, "it can't be read", sys);
    let status = file::status(fd).map_err(failed)?;
    if status.kind != FileKind::Regular {
        return Err(invalid("it is no regular file"));
    }
    let mut first = [0; HEADER_BYTES];
    let read = file::read_up_to(fd, 0, &mut first).map_err(failed)?;
    let header = Header::decode(first.get(..read).unwrap_or_default())?;
    if status.byte_length != header.file_bytes() {
        return Err(invalid(format!(
            "it has {} bytes and should have {}: it was cut off, or something was added",
            status.byte_length,
            header.file_bytes()
        )));
    }
    let description = read_description(fd, &header)?;
    let (metadata, state) = description
        .split_at_checked(to_usize(header.metadata_bytes))
        .ok_or_else(|| invalid("it was cut off"))?;
    let (metadata, kept) = format::decode_metadata(metadata, header.byte_length)?;
    let state: Option<State> = if state.is_empty() {
        None
    } else {
        Some(wire::decode(state, "list of globals and tables")?)
    };
    state.as_ref().map_or(Ok(()), State::check)?;
    Ok(Ends { header, description, metadata, kept, state })
}

/// Metadata and state.
fn read_description(fd: BorrowedFd<'_>, header: &Header) -> Result<Vec<u8>> {
    let failed = |sys| Error::from_sys(Code::ReadFailed, "it can't be read", sys);
    let mut description = alloc::zeroed(to_usize(header.description_bytes()))?;
    if file::read_up_to(fd, header.metadata_offset(), &mut description).map_err(failed)?
        < description.len()
    {
        return Err(invalid("it was cut off"));
    }
    Ok(description)
}

/// What of a file's pages of the memory holds data, a step at a time.
struct Steps<'a> {
    fd: BorrowedFd<'a>,
    data_offset: u64,
    kept: std::slice::Iter<'a, PageSpan>,
    span: Option<PageSpan>,
    at: PageAligned,
}

impl<'a> Steps<'a> {
    /// `kept` in order; of it, what is at `at` and after.
    fn new(fd: BorrowedFd<'a>, header: &Header, kept: &'a [PageSpan], at: PageAligned) -> Self {
        Self { fd, data_offset: header.data_offset.get(), kept: kept.iter(), span: None, at }
    }

    /// The next step, and where the one after it begins.
    fn next(&mut self) -> SysResult<Option<(PageSpan, PageAligned)>> {
        loop {
            let rest =
                self.span.and_then(|span| PageSpan::between(self.at.max(span.start()), span.end()));
            let Some(rest) = rest else {
                self.span = self.kept.next().copied();
                if self.span.is_none() {
                    return Ok(None);
                }
                continue;
            };
            let offset = |at: PageAligned| self.data_offset.saturating_add(at.get());
            // Holes are not read: a large one takes long.
            let data = file::first_data(self.fd, offset(rest.start()), offset(rest.end()))?;
            let start = data
                .and_then(|data| data.checked_sub(self.data_offset))
                .map(PageAligned::round_down);
            let Some(rest) =
                start.and_then(|start| PageSpan::between(start.max(rest.start()), rest.end()))
            else {
                self.at = rest.end();
                continue;
            };
            let step = rest.first(STEP_BYTES);
            self.at = step.end();
            return Ok(Some((step, step.end())));
        }
    }
}

/// Copies what a file holds of the memory to the same offsets of another, but for zeros, and sums
/// it.
#[allow(clippy::too_many_arguments)]
fn copy_kept(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    header: &Header,
    kept: &[PageSpan],
    checksum: &mut Checksum,
    cancelled: &AtomicBool,
    read_failed: &dyn Fn(crate::sys::SysError) -> Error,
    write_failed: &dyn Fn(crate::sys::SysError) -> Error,
) -> Result<()> {
    let mut buffer = alloc::zeroed(to_usize(STEP_BYTES))?;
    let mut steps = Steps::new(from, header, kept, PageAligned::ZERO);
    while let Some((step, _)) = steps.next().map_err(read_failed)? {
        check_cancelled(cancelled)?;
        let offset = header.data_offset.get().saturating_add(step.start().get());
        let bytes = buffer.get_mut(..to_usize(step.length().get())).unwrap_or_default();
        if file::read_up_to(from, offset, bytes).map_err(read_failed)? < bytes.len() {
            return Err(invalid("the file was cut off while it was read"));
        }
        for (_, number, page) in format::pages_of(step.start(), bytes) {
            checksum.write(&number);
            checksum.write(page);
        }
        write_data(to, offset, bytes).map_err(write_failed)?;
    }
    check_cancelled(cancelled)
}

/// Writes the pages that are not all zeros.
fn write_data(to: BorrowedFd<'_>, offset: u64, bytes: &[u8]) -> SysResult<()> {
    let mut at = offset;
    for page in bytes.chunks(to_usize(host_page_bytes())) {
        if page.iter().any(|byte| *byte != 0) {
            file::write_all(to, at, page)?;
        }
        at = at.saturating_add(to_u64(page.len()));
    }
    Ok(())
}

/// A new file in the same directory, and its name, which no other save of this process has. One
/// that a process of the same number left is passed over.
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
