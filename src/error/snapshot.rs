//! What is wrong with a snapshot, its file, or the memory that it is restored to.

use super::Refused;
use super::causes::causes;
use std::fmt;
use std::path::PathBuf;

causes! {
    pub enum SnapshotError {
        #[error("the snapshot was closed")]
        Closed => SnapshotClosed,

        #[error("can't take a snapshot: {refused}")]
        NotTaken { refused: Refused } => OutOfMemory unless refused,

        #[error("what the mapping or window at {start} shows was put there by another thread; take the snapshot there, or unmap it")]
        ShownByOther { start: u64 } => RegionClosed,

        #[error("the memory has an adopted buffer at {start}, which is no part of a snapshot: release or unmap it first")]
        HasAdopted { start: u64 } => Overlap,

        #[error("a snapshot keeps at most {most} mappings and windows")]
        TooManyMappings { most: usize } => OutOfRange,

        #[error("the mappings of the memory would take more than {most_bytes} bytes in a snapshot")]
        MappingsTooLong { most_bytes: u64 } => OutOfRange,

        #[error("can't complete a snapshot: {refused}")]
        NotCompleted { refused: Refused } => OutOfMemory unless refused,

        #[error("can't duplicate the descriptor of snapshot \"{name}\": {refused}")]
        NotDuplicated { name: String, refused: Refused } => OpenFailed unless refused,

        #[error("can't save a snapshot to {}: what is there is no regular file; remove it, or choose another name", .path.display())]
        PlaceTaken { path: PathBuf } => NotAFile,

        #[error("can't save a snapshot to {}: the path names no file", .path.display())]
        NoFileName { path: PathBuf } => OpenFailed,

        #[error("can't save a snapshot to {}: {refused}", .path.display())]
        NotWritten { path: PathBuf, refused: Refused } => WriteFailed unless refused,

        #[error("can't read a snapshot: {refused}")]
        NotRead { refused: Refused } => ReadFailed unless refused,

        /// Of bytes whose source is not known here; see [`SnapshotError::Invalid`].
        #[error("{flaw}")]
        Flawed { flaw: Flaw } => SnapshotInvalid,

        #[error("{from}: {flaw}")]
        Invalid { from: Source, flaw: Flaw } => SnapshotInvalid,

        #[error("{from}: {refused}")]
        SourceNotRead { from: Source, refused: Refused } => ReadFailed unless refused,

        #[error("{from}: {refused}")]
        SourceNotOpened { from: Source, refused: Refused } => OpenFailed unless refused,

        #[error("{from}: {refused}")]
        NotKept { from: Source, refused: Refused } => OutOfMemory unless refused,

        #[error("{from}: {why}")]
        NotGuarded { from: Source, why: Unguarded } => SnapshotUnguarded,

        #[error("the file of snapshot \"{name}\" was changed, and its bytes are lost; open or load it again")]
        FileLost { name: String } => SnapshotUnguarded,

        #[error("can't copy the pages of a snapshot's file: {refused}")]
        FileNotLeft { refused: Refused } => MapFailed unless refused,

        #[error("the mapping at {address} has {has} bytes, and the pages of region \"{name}\" take {takes}")]
        RegionOfOtherLength { address: u64, has: u64, name: String, takes: u64 } => SnapshotMismatch,

        #[error("the mapping at {address} has pages that were written, which need access 'private'; grant it, or a region without `access`")]
        WrittenNeedsPrivate { address: u64 } => SnapshotMismatch,

        #[error("the memory has a mapping at [{start}, {end}) which the snapshot has not, or not so; unmap it first")]
        OtherMapping { start: u64, end: u64 } => Overlap,

        #[error("can't restore a snapshot: {refused}")]
        NoHeadroom { refused: Refused } => MapCount unless refused,

        #[error("can't restore snapshot \"{name}\"; the memory holds a part of it now: try again, or use another memory: {refused}")]
        HalfRestored { name: String, refused: Refused } => MapFailed unless refused,

        #[error("can't take a snapshot; the kernel took pages of the memory meanwhile, which holds zeros there: use another memory: {refused}")]
        PagesLost { refused: Refused } => MapFailed unless refused,

        #[error("can't reset the memory; the memory holds a part of it now: try again, or use another memory: {refused}")]
        HalfReset { refused: Refused } => MapFailed unless refused,
    }
}

/// Where a snapshot comes from: the beginning of each message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    File(PathBuf),
    Opened(PathBuf),
    Descriptor(i32),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "can't load a snapshot from {}", path.display()),
            Self::Opened(path) => write!(f, "can't open a snapshot from {}", path.display()),
            Self::Descriptor(fd) => write!(f, "can't use file descriptor {fd} as a snapshot"),
        }
    }
}

/// Why nothing keeps a file from being changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unguarded {
    #[error(
        "it is open for writing, here or in another process, which could change the memories that show it; close it there, or use Snapshot.load, which copies it"
    )]
    IsWritten,
    #[error(
        "it is another user's, and so the kernel lets this process not guard it against changes; own the file, give the process CAP_LEASE, or use Snapshot.load, which copies it"
    )]
    OfAnother,
    #[error(
        "its file system has no leases that guard it against changes, as overlays and network file systems; keep it on another one, or use Snapshot.load, which copies it"
    )]
    NoLeases,
}

/// What is wrong with the bytes of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    #[error("it is no regular file")]
    NotRegular,
    #[error(
        "it is no sealed memfd; pass what `duplicateFd` of a Snapshot gives, or load a saved one"
    )]
    NotSealed,
    #[error("its pages are of hugetlb, which no snapshot's are")]
    Hugetlb,
    #[error("it is too short to be a snapshot")]
    TooShort,
    #[error("it is no snapshot of wasm-hostmap")]
    NotOurs,
    #[error(
        "its format has version {found}, and this package reads version {known}; take the snapshot again with this version of wasm-hostmap"
    )]
    Version { found: u64, known: u64 },
    #[error(
        "its header is damaged, or it was taken on a machine whose host pages are smaller than here"
    )]
    Header,
    #[error("it has {has} bytes and should have {should}: it was cut off, or something was added")]
    Length { has: u64, should: u64 },
    #[error("it was cut off")]
    CutOff,
    #[error("the file was cut off while it was read")]
    CutOffMeanwhile,
    #[error(
        "its checksum does not fit: the file was damaged or altered; take and save the snapshot again"
    )]
    Checksum,
    #[error("its {section} is damaged: {why}")]
    Encoding { section: &'static str, why: String },
    #[error("its {section} is damaged: it was not written by wasm-hostmap")]
    OtherEncoding { section: &'static str },
    #[error("its pages are not in order, or not in the memory")]
    Spans,
    #[error("its digest of the module is none")]
    ModuleDigest,
    #[error("its mappings overlap, or are not in the memory")]
    Mappings,
    #[error("it has written pages outside of private mappings")]
    WrittenPages,
    #[error("its globals or tables are damaged: {0}")]
    State(&'static str),
}
