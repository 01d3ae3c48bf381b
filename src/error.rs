//! The one error type of the crate. Its codes are those that users see, documented in index.d.ts.

use crate::sys::SysError;
use crate::sys::alloc::Refused;
use crate::sys::checked_fd;
use crate::sys::vma_budget::NoHeadRoom;
use nix::errno::Errno;
use std::sync::atomic::{AtomicBool, Ordering};

macro_rules! codes {
    ($($variant:ident = $text:literal,)*) => {
        /// What went wrong, as a stable code.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Code { $($variant,)* }

        impl Code {
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

codes! {
    OutOfRange = "ERR_OUT_OF_RANGE",
    InvalidValue = "ERR_INVALID_ARG_VALUE",
    Aborted = "ABORT_ERR",
    RegionClosed = "ERR_HOSTMAP_REGION_CLOSED",
    RegionReadonly = "ERR_HOSTMAP_REGION_READONLY",
    RegionBusy = "ERR_HOSTMAP_REGION_BUSY",
    NotAFile = "ERR_HOSTMAP_NOT_A_FILE",
    EmptyFile = "ERR_HOSTMAP_EMPTY_FILE",
    DescriptorLost = "ERR_HOSTMAP_DESCRIPTOR_LOST",
    ShareInvalid = "ERR_HOSTMAP_SHARE_INVALID",
    ShareUsed = "ERR_HOSTMAP_SHARE_USED",
    ShareClosed = "ERR_HOSTMAP_SHARE_CLOSED",
    ShareDenied = "ERR_HOSTMAP_SHARE_DENIED",
    TooManyShares = "ERR_HOSTMAP_TOO_MANY_SHARES",
    FileShrunk = "ERR_HOSTMAP_FILE_SHRUNK",
    OpenFailed = "ERR_HOSTMAP_OPEN_FAILED",
    ReadFailed = "ERR_HOSTMAP_READ_FAILED",
    WriteFailed = "ERR_HOSTMAP_WRITE_FAILED",
    OutOfMemory = "ERR_HOSTMAP_OUT_OF_MEMORY",
    TooManyFiles = "ERR_HOSTMAP_TOO_MANY_FILES",
    MapFailed = "ERR_HOSTMAP_MAP_FAILED",
    MapCount = "ERR_HOSTMAP_MAP_COUNT",
    AddressSpace = "ERR_HOSTMAP_ADDRESS_SPACE",
    RlimitAddressSpace = "ERR_HOSTMAP_RLIMIT_AS",
    Overcommit = "ERR_HOSTMAP_OVERCOMMIT",
    MemoryRefused = "ERR_HOSTMAP_MEMORY_REFUSED",
    NotWasmMemory = "ERR_HOSTMAP_NOT_WASM_MEMORY",
    MemoryMoved = "ERR_HOSTMAP_MEMORY_MOVED",
    Overlap = "ERR_HOSTMAP_OVERLAP",
    Faulted = "ERR_HOSTMAP_FAULTED",
    SnapshotClosed = "ERR_HOSTMAP_SNAPSHOT_CLOSED",
    SnapshotMismatch = "ERR_HOSTMAP_SNAPSHOT_MISMATCH",
    SnapshotInvalid = "ERR_HOSTMAP_SNAPSHOT_INVALID",
    UnsuitableModule = "ERR_HOSTMAP_UNSUITABLE_MODULE",
    NoExternalBuffers = "ERR_HOSTMAP_NO_EXTERNAL_BUFFERS",
    TwoVersions = "ERR_HOSTMAP_TWO_VERSIONS",
    Internal = "ERR_HOSTMAP_INTERNAL",
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    pub code: Code,
    /// What was asked, what the limit is, what to do.
    pub message: String,
    /// The kernel's refusal, where there was one.
    pub sys: Option<SysError>,
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), sys: None }
    }

    /// An error for a refused system call. Causes that need a remedy of their own get their own
    /// code, whatever the call was.
    pub fn from_sys(otherwise: Code, what: impl std::fmt::Display, sys: SysError) -> Self {
        let (code, remedy) = match (sys.errno, sys.syscall) {
            (Errno::EMFILE, _) => {
                (Code::TooManyFiles, "; close regions that are done with, or raise `ulimit -n`")
            }
            (Errno::ENFILE, _) => {
                (Code::TooManyFiles, "; the system has no file descriptors left (fs.file-max)")
            }
            (Errno::EBADF, checked_fd::LOST_AT) => {
                let message = format!(
                    "{what}: the descriptor behind it is gone: other code of this process closed it, by a double close or a loop over numbers; make it again"
                );
                return Self { sys: Some(sys), ..Self::new(Code::DescriptorLost, message) };
            }
            (Errno::ENOMEM, "mmap" | "mremap" | "mprotect" | "madvise") => {
                return Self::no_mapping(what, sys);
            }
            (Errno::ENOMEM | Errno::ENOSPC | Errno::EDQUOT, _) => (
                Code::OutOfMemory,
                "; free memory, raise the limit, or use HostRegion.open, which takes none",
            ),
            (Errno::EFBIG, _) => {
                (Code::OutOfMemory, "; the limit on file sizes (`ulimit -f`) holds for memfds too")
            }
            _ => (otherwise, ""),
        };
        Self { code, message: format!("{what}: {sys}{remedy}"), sys: Some(sys) }
    }

    /// New mappings are refused before the process has so many that V8 can't get memory.
    pub fn no_head_room(what: impl std::fmt::Display, full: NoHeadRoom) -> Self {
        let NoHeadRoom { used, limit, left_to_others } = full;
        let message = format!(
            "{what}: the process has {used} of {limit} memory mappings, and the last {left_to_others} are left to V8, which could not go on without; unmap some, or raise vm.max_map_count"
        );
        Self::new(Code::MapCount, message)
    }

    /// ENOMEM of a mapping call has several causes, and the kernel does not say which: look.
    fn no_mapping(what: impl std::fmt::Display, sys: SysError) -> Self {
        let space = crate::sys::limits::address_space().unwrap_or_default();
        let most = crate::sys::limits::max_map_count();
        let limit = crate::sys::limits::rlimit_address_space().ok().flatten();
        let (code, cause) = if space.area_count.saturating_add(8) >= most {
            (
                Code::MapCount,
                format!(
                    "the process has {} of {most} memory mappings; unmap some, or raise vm.max_map_count",
                    space.area_count
                ),
            )
        } else if let Some(limit) =
            limit.filter(|limit| *limit < space.mapped_bytes.saturating_mul(2))
        {
            (
                Code::RlimitAddressSpace,
                format!(
                    "the process has mapped {} of the {limit} bytes that RLIMIT_AS allows; raise `ulimit -v`",
                    space.mapped_bytes
                ),
            )
        } else {
            (Code::OutOfMemory, "the kernel has no memory for it".to_owned())
        };
        Self { code, message: format!("{what}: {sys}; {cause}"), sys: Some(sys) }
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        let message =
            "the process has no memory for what this call must keep; free some, or raise the limit";
        Self { sys: Some(refused.into()), ..Self::new(Code::OutOfMemory, message) }
    }
}

/// For steps of what takes long: an error once it is not wanted any more.
pub fn check_cancelled(cancelled: &AtomicBool) -> Result<()> {
    match cancelled.load(Ordering::Acquire) {
        true => Err(Error::new(Code::Aborted, "The operation was aborted")),
        false => Ok(()),
    }
}
