//! Snapshots over the pages of saved files, which are not copied. All processes that open one share
//! the system's pages of it. `watch.rs` has the promise that what others write to the file shows in
//! no memory.

use super::backing::Backing;
use super::metadata::Metadata;
use super::store::{Described, Loaded, check_pages, of_source, read_described, share_with};
use super::{Settings, Snapshot, format, watch};
use crate::error::{Attempt, Error, Flaw, Result, SnapshotError, Source, Unguarded};
use crate::memory::image::Content;
use crate::memory::leased::LeasedFile;
use crate::region::{open_regular, try_to_map};
use crate::sys::alloc;
use crate::sys::checked_fd::{CheckedFd, Description};
use crate::sys::file::FileKind;
use crate::sys::optional::says_absent;
use crate::sys::page::PageAligned;
use crate::sys::{SysError, file, lease, memfd, to_u64};
use nix::errno::Errno;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

/// Which parts of a file are looked at before it is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verify {
    /// What it says of itself, but none of the memory's pages.
    Description,
    /// All of it: reads the whole file.
    All,
}

/// Makes a snapshot over the pages of a file that [`save`](super::store::save) wrote.
///
/// Cost: grows with what the file says of itself, and not with the memory, unless all is verified.
pub fn open(
    path: &Path,
    settings: Settings,
    verify: Verify,
    cancelled: &AtomicBool,
) -> Result<Loaded> {
    let source = Source::Opened(file::absolute(path));
    let attempt = Attempt::open(path);
    let fd = open_regular(path, false)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    over(fd, &name, &attempt, &source, settings, verify, cancelled)
}

/// Makes a snapshot over what a caller's descriptor refers to: the sealed memfd of another
/// snapshot, or a saved file. The memfd's is duplicated. A file is opened anew: the caller's
/// description may be anybody's.
pub fn from_fd(fd: RawFd, settings: Settings) -> Result<Loaded> {
    let source = Source::Descriptor(fd);
    let duplicated = file::duplicate(fd).map_err(|sys| {
        let (from, refused) = (source.clone(), sys.into());
        SnapshotError::SourceNotOpened { from, refused }
    })?;
    if memfd::is_memfd(duplicated.as_fd()) {
        share_with(duplicated, &source, settings).map_err(|error| of_source(error, &source))
    } else {
        reopen(&duplicated, &source, settings)
    }
}

fn reopen(fd: &OwnedFd, source: &Source, settings: Settings) -> Result<Loaded> {
    let failed = |sys: SysError| {
        let refused = sys.into();
        Error::from(SnapshotError::SourceNotOpened { from: source.clone(), refused })
    };
    let before = file::status(fd).map_err(failed)?;
    // Another kind may do something when it is opened, or wait.
    if before.kind != FileKind::Regular {
        return Err(of_source(Flaw::NotRegular.into(), source));
    }
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let opened = file::open_proc(&path, false).map_err(failed)?;
    let now = file::status(&opened).map_err(failed)?;
    if (now.device, now.inode) != (before.device, before.inode) {
        return Err(failed(SysError::new("open", Errno::EBADF)));
    }
    let path = file::path_of(&opened).unwrap_or_default();
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let attempt = Attempt::UseDescriptor(fd.as_raw_fd());
    let nobody = AtomicBool::new(false);
    over(opened, &name, &attempt, source, settings, Verify::Description, &nobody)
}

fn over(
    fd: OwnedFd,
    name: &str,
    attempt: &Attempt,
    source: &Source,
    settings: Settings,
    verify: Verify,
    cancelled: &AtomicBool,
) -> Result<Loaded> {
    let refused = |why| Error::from(SnapshotError::NotGuarded { from: source.clone(), why });
    let not_opened = |sys: SysError| {
        let refused = sys.into();
        Error::from(SnapshotError::SourceNotOpened { from: source.clone(), refused })
    };
    let not_read = |sys: SysError| {
        let refused = sys.into();
        Error::from(SnapshotError::SourceNotRead { from: source.clone(), refused })
    };
    let flawed = |error| of_source(error, source);
    if file::is_hugetlb(&fd).map_err(not_opened)? {
        return Err(flawed(Flaw::Hugetlb.into()));
    }
    // A mapping of an overlay's file is one of the file below, whose writers no lease on the
    // overlay knows: it is given while a writable mapping is there (Linux 6.18).
    if file::is_overlay(&fd).map_err(not_opened)? {
        return Err(refused(Unguarded::NoLeases));
    }
    // Before anything is believed of it.
    watch::take_lease(fd.as_fd()).map_err(|sys| match sys.errno {
        // There may be no thread to watch it.
        _ if sys.syscall == "clone" => not_opened(sys),
        Errno::EAGAIN => refused(Unguarded::IsWritten),
        Errno::EACCES | Errno::EPERM => refused(Unguarded::OfAnother),
        errno if says_absent(errno) => refused(Unguarded::NoLeases),
        _ => not_opened(sys),
    })?;
    let described = read_described(fd.as_fd(), &not_read).map_err(flawed)?;
    described.check().map_err(flawed)?;
    let Described { header, description, metadata, extents, state } = described;
    let all = extents.all()?;
    if verify == Verify::All {
        check_pages(fd.as_fd(), &header, &description, &all, cancelled, &not_read)
            .map_err(flawed)?;
    }
    let content = Content::of(&fd, header.data_offset, &all).map_err(not_read)?;
    let shown = try_to_map(fd.as_fd(), PageAligned::ZERO, false, attempt)?;
    let status = file::status(&fd).map_err(not_opened)?;
    let inode = shown.unwrap_or(status.inode);
    let header_span = (0, to_u64(format::HEADER_BYTES));
    let description_span = (header.metadata_offset(), header.file_bytes());
    let pages = content.data.iter();
    let pages = pages.map(|span| (header.offset_of(span.start()), header.offset_of(span.end())));
    let data = alloc::collected([header_span].into_iter().chain(pages).chain([description_span]))?;
    let fd = CheckedFd::new(fd, Description::Ours).map_err(not_opened)?;
    let name: String = name.chars().take(50).collect();
    let file = LeasedFile::new(name.as_str().into(), fd, inode, header.file_bytes(), data);
    let file = Arc::new(file);
    if lease::is_wanted(file.fd.get().map_err(not_opened)?) {
        return Err(refused(Unguarded::IsWritten));
    }
    watch::begin(&file);
    let Metadata { about, mappings, .. } = metadata;
    let content = Content { inode, file: Some(Arc::clone(&file)), ..content };
    let mac = (header.mac != format::Mac::default()).then_some(header.mac);
    let byte_length = header.byte_length;
    let snapshot = Snapshot {
        header: OnceLock::from(header),
        saved: mappings.into_vec(),
        ..Snapshot::with(&name, Backing::File(file), content, byte_length, extents, settings)
    };
    Ok(Loaded { snapshot, about, state, mac })
}
