//! What is wrong with a region or a view of it. Causes of the file behind it are in `file.rs`.

use super::Refused;
use super::causes::causes;
use crate::sys::SysError;
use std::path::PathBuf;

causes! {
    pub enum RegionError {
        #[error("region \"{name}\" was closed")]
        Closed { name: String } => RegionClosed,

        /// JavaScript's handle is closed; nobody knows the name any more.
        #[error("the region was closed")]
        HandleClosed => RegionClosed,

        #[error("byteLength is 0; a region has at least 1 byte")]
        NoBytes => OutOfRange,

        #[error("can't allocate a region of {byte_length} bytes")]
        TooLong { byte_length: u64 } => OutOfRange,

        #[error("can't allocate a region of {byte_length} bytes: {refused}")]
        NotAllocated { byte_length: u64, refused: Refused } => OutOfMemory unless refused,

        #[error("can't copy {byte_length} bytes into a region: {refused}")]
        NotCopied { byte_length: u64, refused: Refused } => OutOfMemory unless refused,

        #[error("can't copy {byte_length} bytes into a region: {sys}; are they of a file that was truncated?")]
        SourceNotRead { byte_length: u64, sys: SysError } => ReadFailed from sys,

        #[error("can't make a region: {refused}")]
        NotMade { refused: Refused } => OutOfMemory unless refused,

        #[error("byteOffset is {byte_offset} and source has {byte_length} bytes; they must end at or below the region's byteLength, {region_bytes}")]
        WriteRange { byte_offset: u64, byte_length: u64, region_bytes: u64 } => OutOfRange,

        #[error("can't write to region \"{name}\": it is sealed, or its file or token is for reading only; open the file with `writable: true`")]
        NotWritable { name: String } => RegionReadonly,

        #[error("can't write to region \"{name}\": its descriptor appends (O_APPEND), wherever it is told to write; open the file without")]
        Appends { name: String } => RegionReadonly,

        #[error("can't write to region \"{name}\": {refused}")]
        NotWritten { name: String, refused: Refused } => WriteFailed unless refused,

        #[error("can't read region \"{name}\": {refused}")]
        NotRead { name: String, refused: Refused } => ReadFailed unless refused,

        #[error("can't write to region \"{name}\": {sys}")]
        FileNotWritten { name: String, sys: SysError } => WriteFailed from sys,

        #[error("byteOffset is {byte_offset}; it must be below the region's byteLength, {region_bytes}")]
        PagesPastEnd { byte_offset: u64, region_bytes: u64 } => OutOfRange,

        #[error("byteLength is {byte_length}; it must be 1 to {most}, what the region has from byteOffset {byte_offset} on")]
        PagesLength { byte_length: u64, most: u64, byte_offset: u64 } => OutOfRange,

        #[error("can't {what} region \"{name}\": {refused}")]
        NotExamined { what: &'static str, name: String, refused: Refused } => OpenFailed unless refused,

        #[error("can't {what} region \"{name}\": its file, {}, has {file_bytes} bytes now, and the range ends at byte {end} of it; make the file as long as it was, or open it again", .path.display())]
        FileShrunk { what: &'static str, name: String, path: PathBuf, file_bytes: u64, end: u64 } => FileShrunk,

        #[error("byteOffset is {byte_offset} and byteLength {byte_length}; the view must have at least 1 byte and end at or below the region's byteLength, {region_bytes}")]
        ViewRange { byte_offset: u64, byte_length: u64, region_bytes: u64 } => OutOfRange,

        #[error("can't take bytes of region \"{name}\" with access 'shared': it is sealed, or its file was opened for reading only; use 'readonly' or 'private'")]
        NotViewedWritable { name: String } => RegionReadonly,

        #[error("can't map a view of {byte_length} bytes: {refused}")]
        NotViewed { byte_length: u64, refused: Refused } => MapFailed unless refused,

        #[error("can't seal region \"{name}\": a 'shared' mapping, a writable view or Buffer of another region over it, or a writable mapping of another process exists; unmap or close it first")]
        MappedWritable { name: String } => RegionBusy,

        #[error("can't seal region \"{name}\": only memfds that allow it can be sealed, and this is a memfd with F_SEAL_SEAL or opened for reading only")]
        MemfdNotSealable { name: String } => RegionReadonly,

        #[error("can't seal region \"{name}\": only memfds that allow it can be sealed, and this is a file; load it into memory with HostRegion.load")]
        FileNotSealable { name: String } => RegionReadonly,

        #[error("can't seal region \"{name}\": {refused}")]
        NotSealed { name: String, refused: Refused } => MapFailed unless refused,

        #[error("can't share region \"{name}\" with access 'shared': it is sealed, or its file was opened for reading only; use 'readonly'")]
        ShareNotWritable { name: String } => RegionReadonly,

        #[error("can't share region \"{name}\" with enforce: only memfds that allow seals can forbid writing, on Linux 5.1 and later; for a file, its permissions do")]
        NotEnforceable { name: String } => RegionReadonly,

        #[error("can't share region \"{name}\" with enforce: {refused}")]
        NotEnforced { name: String, refused: Refused } => MapFailed unless refused,

        #[error("can't duplicate the descriptor of region \"{name}\": {refused}")]
        NotDuplicated { name: String, refused: Refused } => OpenFailed unless refused,

        #[error("this runtime does not allow ArrayBuffers over external memory (Electron does not); map the region into a memory instead")]
        NoExternalBuffers => NoExternalBuffers,

        #[error("a view of {byte_length} bytes is more than this runtime's ArrayBuffers hold; take a smaller part")]
        ViewTooLong { byte_length: u64 } => OutOfRange,

        #[error("can't map a word of region \"{name}\": {refused}")]
        WordNotMapped { name: String, refused: Refused } => MapFailed unless refused,

        #[error("can't wait for, or notify, a word of region \"{name}\": {refused}")]
        WordRefused { name: String, refused: Refused } => MapFailed unless refused,

        #[error("can't wait for, or notify, a word of region \"{name}\": {sys}")]
        WordGone { name: String, sys: SysError } => FileShrunk from sys,
    }
}
