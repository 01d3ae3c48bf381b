//! Regular files by their paths, and parts of files. Snapshots are opened by this, too.
//!
//! Nothing here makes a region: it opens and checks, and finds out what a path that can't be opened
//! tells about the mistake.

use crate::error::{Attempt, FileError, PathHint, Result};
use crate::sys::file::{self, FileKind};
use crate::sys::{SysError, difference};
use nix::errno::Errno;
use std::os::fd::OwnedFd;
use std::path::Path;

/// Which part of a file a region is to be. `byte_length: None` is all that follows.
#[derive(Debug, Clone, Copy, Default)]
pub struct Part {
    pub byte_offset: u64,
    pub byte_length: Option<u64>,
}

impl Part {
    /// Its length in a file of this size.
    pub(super) fn length_in(self, file_bytes: u64, attempt: &Attempt) -> Result<u64, FileError> {
        let byte_offset = self.byte_offset;
        if file_bytes == 0 {
            return Err(FileError::Empty { attempt: attempt.clone() });
        }
        if byte_offset >= file_bytes {
            return Err(FileError::PartPastEnd { byte_offset, file_bytes });
        }
        let most = difference(file_bytes, byte_offset);
        let byte_length = self.byte_length.unwrap_or(most);
        if byte_length == 0 || byte_length > most {
            return Err(FileError::PartLength { byte_length, most, byte_offset });
        }
        Ok(byte_length)
    }
}

/// Opens a file of a kind that can be mapped.
pub(crate) fn open_regular(path: &Path, writable: bool) -> Result<OwnedFd> {
    let attempt = || Attempt::open(path);
    let fd = file::open_file(path, writable).map_err(|sys| match sys.errno {
        // A directory, opened for writing.
        Errno::EISDIR => {
            FileError::NotRegular { attempt: attempt(), kind: FileKind::Directory }.into()
        }
        // A socket, or a device without a driver.
        Errno::ENXIO => FileError::NotRegular { attempt: attempt(), kind: FileKind::Socket }.into(),
        _ => not_opened(path, attempt(), sys),
    })?;
    let status = file::status(&fd).map_err(|sys| not_opened(path, attempt(), sys))?;
    check_regular(status.kind, &attempt())?;
    Ok(fd)
}

pub(super) fn check_regular(kind: FileKind, attempt: &Attempt) -> Result<(), FileError> {
    match kind {
        FileKind::Regular => Ok(()),
        kind => Err(FileError::NotRegular { attempt: attempt.clone(), kind }),
    }
}

/// The error for a path that could not be opened, with a hint where the path gives one.
pub(crate) fn not_opened(path: &Path, attempt: Attempt, sys: SysError) -> crate::error::Error {
    FileError::NotOpened { attempt, refused: sys.into(), hint: hint(path, sys.errno) }.into()
}

fn hint(path: &Path, errno: Errno) -> Option<PathHint> {
    let text = path.to_str().unwrap_or_default();
    match errno {
        Errno::ETXTBSY => Some(PathHint::RunningProgram),
        Errno::ENOENT if text.starts_with('~') => Some(PathHint::Tilde),
        Errno::ENOENT if text.starts_with("file:") => Some(PathHint::FileUrl),
        Errno::ENOENT if text.contains("://") => Some(PathHint::OtherUrl),
        Errno::ENOENT if file::is_link(path) => Some(PathHint::DanglingLink),
        Errno::ENOENT => {
            let absolute = file::absolute(path);
            let is_missing = absolute.parent().is_some_and(|folder| !file::exists(folder));
            is_missing.then_some(PathHint::NoFolder)
        }
        _ => None,
    }
}

/// The last part of a path, cut to what the kernel takes for the name of a memfd: 249 bytes.
pub(super) fn file_name(path: &Path) -> String {
    const MOST_BYTES: usize = 200;
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    let cut = (0..=name.len().min(MOST_BYTES)).rev().find(|end| name.is_char_boundary(*end));
    name[..cut.expect("0 is a boundary")].to_owned()
}
