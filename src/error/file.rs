//! What is wrong with a file, or with the part of it that was asked for.

use super::Refused;
use super::causes::causes;
use crate::sys::SysError;
use crate::sys::file::{self, FileKind};
use std::fmt;
use std::path::{Path, PathBuf};

/// What was to be done with a file: the beginning of each message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attempt {
    Open(PathBuf),
    Load(PathBuf),
    SaveSnapshot(PathBuf),
    UseDescriptor(i32),
    /// A region of this name.
    Receive(String),
}

impl Attempt {
    pub fn open(path: &Path) -> Self {
        Self::Open(file::absolute(path))
    }

    pub fn load(path: &Path) -> Self {
        Self::Load(file::absolute(path))
    }

    pub fn save_snapshot(path: &Path) -> Self {
        Self::SaveSnapshot(file::absolute(path))
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(path) => write!(f, "can't open {}", path.display()),
            Self::Load(path) => write!(f, "can't load {}", path.display()),
            Self::SaveSnapshot(path) => write!(f, "can't save a snapshot to {}", path.display()),
            Self::UseDescriptor(fd) => write!(f, "can't use file descriptor {fd}"),
            Self::Receive(name) => write!(f, "can't receive region \"{name}\""),
        }
    }
}

/// What a path that can't be opened tells about the mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathHint {
    Tilde,
    FileUrl,
    OtherUrl,
    NoFolder,
    DanglingLink,
    RunningProgram,
}

fn remedy(hint: Option<PathHint>) -> &'static str {
    match hint {
        None => "",
        Some(PathHint::Tilde) => {
            "; `~` is expanded by shells only: use path.join(os.homedir(), ...)"
        }
        Some(PathHint::FileUrl) => "; this is a string: for a file: URL pass new URL(...)",
        Some(PathHint::OtherUrl) => {
            "; only files can be opened: fetch the bytes, and pass them to HostRegion.copyFrom"
        }
        Some(PathHint::NoFolder) => "; its folder does not exist either",
        Some(PathHint::DanglingLink) => "; it is a symbolic link that leads nowhere",
        Some(PathHint::RunningProgram) => {
            "; a program that runs can't be written: open it without `writable`, or load it"
        }
    }
}

fn noun(kind: FileKind) -> &'static str {
    match kind {
        FileKind::Regular => "a regular file",
        FileKind::Directory => "a directory",
        FileKind::Pipe => "a pipe",
        FileKind::Socket => "a socket",
        FileKind::Device => "a device",
        FileKind::Other => "not a regular file",
    }
}

causes! {
    pub enum FileError {
        #[error("{attempt}: {refused}{}", remedy(*.hint))]
        NotOpened { attempt: Attempt, refused: Refused, hint: Option<PathHint> }
            => OpenFailed unless refused,

        #[error("{attempt}: it is not open for reading; open it for reading, or reading and writing")]
        NotReadable { attempt: Attempt } => OpenFailed,

        #[error("{attempt}: it is {}; only regular files and memfds can be mapped", noun(*.kind))]
        NotRegular { attempt: Attempt, kind: FileKind } => NotAFile,

        #[error("{attempt}: its pages are huge ones of hugetlbfs, which can't take the place of parts of a memory; use an ordinary file or memfd, or HostRegion.load with hugePages: true")]
        Hugetlb { attempt: Attempt } => NotAFile,

        #[error("{attempt}: it can't be mapped ({sys})")]
        NotMappable { attempt: Attempt, sys: SysError } => NotAFile from sys,

        #[error("{attempt}: its pages can be mapped for reading only ({sys}), so that a memory with them could not grow; copy it with HostRegion.load, or read it and use HostRegion.copyFrom")]
        NeverWritable { attempt: Attempt, sys: SysError } => NotAFile from sys,

        #[error("{attempt}: it is empty, so there is nothing to map")]
        Empty { attempt: Attempt } => EmptyFile,

        #[error("byteOffset is {byte_offset}; it must be below the file's size, {file_bytes}")]
        PartPastEnd { byte_offset: u64, file_bytes: u64 } => OutOfRange,

        #[error("byteLength is {byte_length}; it must be 1 to {most}, what the file has from byteOffset {byte_offset} on")]
        PartLength { byte_length: u64, most: u64, byte_offset: u64 } => OutOfRange,

        #[error("byteOffset is {byte_offset}; it must be a multiple of the host page size, {page_bytes}: start at {below}")]
        PartNotAtPage { byte_offset: u64, page_bytes: u64, below: u64 } => OutOfRange,

        #[error("{attempt}: {refused}")]
        NotRead { attempt: Attempt, refused: Refused } => ReadFailed unless refused,

        #[error("{attempt}: the file ended at byte {at} of {end}; it got shorter meanwhile")]
        ShrunkMeanwhile { attempt: Attempt, at: u64, end: u64 } => FileShrunk,
    }
}
