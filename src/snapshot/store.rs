//! Snapshots in files, and by descriptors.

use super::format::{self, Checksum, HEADER_BYTES, Header, Tail, invalid};
use super::{Content, Settings, Snapshot};
use crate::error::{Code, Error, Result, check_cancelled};
use crate::sys::checked_fd::Description;
use crate::sys::file::{self, FileKind};
use crate::sys::page::{PageSpan, host_page_bytes};
use crate::sys::{SysResult, memfd, to_u64, to_usize};
use nix::errno::Errno;
use nix::fcntl::SealFlag;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What is read, summed and written at once.
const STEP_BYTES: u64 = 1 << 20;

/// A snapshot that came from elsewhere. It has no mappings before [`Snapshot::set_mappings`].
#[derive(Debug)]
pub struct Loaded {
    pub snapshot: Snapshot,
    /// What [`Snapshot::finish`] was given.
    pub metadata: String,
}

impl Snapshot {
    /// Writes the snapshot to a file, which takes the place of one that is there when it is complete. Holes stay holes. A symbolic link
    /// is followed. Once `cancelled` is set it ends, with an error, and leaves nothing.
    pub fn save(&self, path: &Path, cancelled: &AtomicBool) -> Result<()> {
        let what = format!("can't save a snapshot to {}", path.display());
        let path = &file::place_for(path)
            .map_err(|sys| Error::from_sys(Code::OpenFailed, &what, sys))?
            .ok_or_else(|| {
                Error::new(
                    Code::NotAFile,
                    format!("{what}: what is there is no regular file; remove it, or choose another name"),
                )
            })?;
        if path.file_name().is_none() {
            return Err(Error::new(Code::OpenFailed, format!("{what}: the path names no file")));
        }
        let refused = |sys| Error::from_sys(Code::OpenFailed, &what, sys);
        let (beside, fd) = temporary_beside(path).map_err(refused)?;
        let saved = self
            .write_to(fd.as_fd(), cancelled, &what)
            .and_then(|()| file::rename(&beside, path).map_err(refused));
        if saved.is_err() {
            file::remove(&beside);
        }
        saved
    }

    fn write_to(&self, to: BorrowedFd<'_>, cancelled: &AtomicBool, what: &str) -> Result<()> {
        let failed = |sys| Error::from_sys(Code::WriteFailed, what, sys);
        let tail = self.tail().encode();
        let mut header = self.header(to_u64(tail.len()));
        file::set_length(to, header.file_bytes()).map_err(failed)?;
        let mut checksum = format::begin_checksum(&header, &tail);
        let kept = self.tail().kept();
        // What looks for data moves the position, so it has one of its own.
        let from = self.fd.reopen_readonly().map_err(failed)?;
        copy_kept(from.as_fd(), to, &header, &kept, &mut checksum, cancelled, &failed, &failed)?;
        header.checksum = checksum.finish_128();
        file::write_all(to, header.tail_offset(), &tail).map_err(failed)?;
        file::write_all(to, 0, &header.encode()).map_err(failed)?;
        file::sync(to).map_err(failed)
    }

    /// A snapshot from a file that [`Snapshot::save`] wrote, copied into memory of its own. Cancelled as a save is.
    pub fn load(path: &Path, settings: Settings, cancelled: &AtomicBool) -> Result<Loaded> {
        let what = format!("can't load a snapshot from {}", path.display());
        let named = |error: Error| Error { message: format!("{what}: {}", error.message), ..error };
        let read_failed = |sys| Error::from_sys(Code::ReadFailed, &what, sys);
        check_cancelled(cancelled)?;
        let from = crate::region::open_regular(path, false)?;
        let (header, tail_bytes) = read_ends(from.as_fd()).map_err(named)?;
        let tail = Tail::decode(&tail_bytes, header.byte_length).map_err(named)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let name: String = name.chars().take(50).collect();
        let refused = |sys| Error::from_sys(Code::OutOfMemory, &what, sys);
        let fd = memfd::create_growing(&name).map_err(refused)?;
        file::set_length(&fd, header.tail_offset()).map_err(refused)?;
        let mut checksum = format::begin_checksum(&header, &tail_bytes);
        copy_kept(
            from.as_fd(),
            fd.as_fd(),
            &header,
            &tail.kept(),
            &mut checksum,
            cancelled,
            &read_failed,
            &refused,
        )?;
        if checksum.finish_128() != header.checksum {
            let message = "its checksum does not fit: the file was damaged or altered; take and save the snapshot again";
            return Err(named(invalid(message)));
        }
        let metadata = tail.metadata.clone();
        let content = Content::of(&fd, &header, &tail.kept()).map_err(refused)?;
        let snapshot = Self::new(&name, fd, Description::Ours, content, &header, tail, settings);
        let snapshot = snapshot.map_err(refused)?;
        snapshot.finish(metadata.clone())?;
        Ok(Loaded { snapshot, metadata })
    }

    /// The snapshot of another thread of this process, by its descriptor, which is duplicated: the same pages.
    pub fn from_fd(fd: RawFd, settings: Settings) -> Result<Loaded> {
        let what = format!("can't use file descriptor {fd} as a snapshot");
        let named = |error: Error| Error { message: format!("{what}: {}", error.message), ..error };
        let fd = file::duplicate(fd).map_err(|sys| Error::from_sys(Code::OpenFailed, &what, sys))?;
        let sealed = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE;
        if !memfd::is_memfd(fd.as_fd())
            || !memfd::seals(fd.as_fd()).is_some_and(|seals| seals.contains(sealed))
        {
            let message =
                "it is no sealed memfd; pass what `duplicateFd` of a Snapshot gives, or load a saved one";
            return Err(named(invalid(message)));
        }
        if file::huge_page_bytes(&fd).map_err(|sys| Error::from_sys(Code::OpenFailed, &what, sys))?.is_some()
        {
            return Err(named(invalid("its pages are of hugetlb, which no snapshot's are")));
        }
        let (header, tail_bytes) = read_ends(fd.as_fd()).map_err(named)?;
        let tail = Tail::decode(&tail_bytes, header.byte_length).map_err(named)?;
        let name = file::path_of(&fd).unwrap_or_default();
        let name = name.to_string_lossy();
        let name = name.strip_prefix("/memfd:").unwrap_or(&name);
        let name = name.strip_suffix(" (deleted)").unwrap_or(name);
        let content = Content::of(&fd, &header, &tail.kept());
        let content = content.map_err(|sys| Error::from_sys(Code::ReadFailed, &what, sys))?;
        let draft = Tail::default();
        let snapshot = Self::new(name, fd, Description::Shared, content, &header, draft, settings);
        let snapshot = snapshot.map_err(|sys| Error::from_sys(Code::OpenFailed, &what, sys))?;
        let snapshot = Self { tail: OnceLock::from(tail.clone()), ..snapshot };
        Ok(Loaded { snapshot, metadata: tail.metadata })
    }
}

/// What stands at a file's start and end.
fn read_ends(fd: BorrowedFd<'_>) -> Result<(Header, Vec<u8>)> {
    let failed = |sys| Error::from_sys(Code::ReadFailed, "it can't be read", sys);
    let status = file::status(fd).map_err(failed)?;
    if status.kind != FileKind::Regular {
        return Err(invalid("it is no regular file"));
    }
    let mut first = [0; HEADER_BYTES];
    if file::read_up_to(fd, 0, &mut first).map_err(failed)? < first.len() {
        return Err(invalid("it is too short to be a snapshot"));
    }
    let header = Header::decode(&first)?;
    if status.byte_length != header.file_bytes() {
        return Err(invalid(format!(
            "it has {} bytes and should have {}: it was cut off, or something was added",
            status.byte_length,
            header.file_bytes()
        )));
    }
    let mut tail = vec![0; to_usize(header.tail_bytes)];
    if file::read_up_to(fd, header.tail_offset(), &mut tail).map_err(failed)? < tail.len() {
        return Err(invalid("it was cut off"));
    }
    Ok((header, tail))
}

/// Copies what a file holds of the memory to the same offsets of another, but for zeros, and sums it.
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
    let mut buffer = vec![0; to_usize(STEP_BYTES)];
    for span in kept {
        let mut at = span.start();
        // Up to where the file has no data from `at` on.
        let mut hole_end = 0;
        while let Some(step) = PageSpan::between(at, span.end()).map(|rest| rest.first(STEP_BYTES)) {
            check_cancelled(cancelled)?;
            let offset = header.data_offset.get().saturating_add(step.start().get());
            let end = offset.saturating_add(step.length().get());
            let bytes = buffer.get_mut(..to_usize(step.length().get())).unwrap_or_default();
            if offset >= hole_end {
                let rest_end = header.data_offset.get().saturating_add(span.end().get());
                let data = file::first_data(from, offset, rest_end).map_err(read_failed)?;
                hole_end = data.unwrap_or(rest_end);
            }
            at = step.end();
            if end <= hole_end {
                // Not read: that of a large hole takes long, and of a memfd memory.
                bytes.fill(0);
                checksum.write(bytes);
                continue;
            }
            if file::read_up_to(from, offset, bytes).map_err(read_failed)? < bytes.len() {
                return Err(invalid("the file was cut off while it was read"));
            }
            checksum.write(bytes);
            write_data(to, offset, bytes).map_err(write_failed)?;
        }
    }
    Ok(())
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

/// A new file in the same directory, and its name, which no other save of this process has. One that a process of the same number left is passed over.
fn temporary_beside(path: &Path) -> SysResult<(PathBuf, OwnedFd)> {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let beside = path.with_file_name(format!(".hostmap-{}-{number}.tmp", std::process::id()));
        match file::create_new(&beside) {
            Err(sys) if sys.errno == Errno::EEXIST => {}
            created => return created.map(|fd| (beside, fd)),
        }
    }
}
