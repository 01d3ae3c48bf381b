//! Everything that can go wrong, and the words that users read.
//!
//! To add a cause, or to reword one:
//! 1. Find the noun's file: `file.rs`, `region.rs`, `share.rs`, `memory.rs`, `window.rs` ... The
//!    noun is that of the operation, not of the object: a region that a memory can't map is in
//!    `memory.rs`.
//! 2. Add a variant: `#[error("words")] Name { data } => Code,` (see `causes.rs`).
//! 3. Say what was given, what the limit is, and what to do instead.
//! 4. Return it: `return Err(RegionError::Closed { name }.into())`.
//! 5. A refused system call goes into a variant's `refused: Refused`: `refused: sys.into()`.
//! 6. A new code goes into `code.rs` and into index.d.ts; no code ever changes. If a collection of
//!    garbage may mend the cause, it also goes into `NO_ROOM` of `lib/pool/errors.js`: after those
//!    codes a pool collects and tries again.
//!
//! Why something was refused is decided in `diagnose.rs`, and worded in `refused.rs`.

mod causes;
mod code;
mod fault;
mod file;
mod memory;
mod module;
mod name;
mod paging;
mod refused;
mod region;
mod share;
mod snapshot;
mod window;

pub use code::Code;
pub use fault::FaultError;
pub use file::{Attempt, FileError, PathHint};
pub use memory::MemoryError;
pub use module::ModuleError;
pub use name::{FolderFlaw, NameError, NameFlaw};
pub use paging::PagingError;
pub use refused::Refused;
pub use region::RegionError;
pub use share::ShareError;
pub use snapshot::{Flaw, SnapshotError, Source, Unguarded};
pub use window::WindowError;

use crate::sys::SysError;
use crate::sys::alloc;
use crate::v8::live_memory::NotWasmMemory;
use std::sync::atomic::{AtomicBool, Ordering};

/// What went wrong: one variant for each noun.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Fault(#[from] FaultError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Memory(#[from] MemoryError),
    #[error(transparent)]
    Module(#[from] ModuleError),
    #[error(transparent)]
    Name(#[from] NameError),
    #[error(transparent)]
    Paging(#[from] PagingError),
    #[error(transparent)]
    Region(#[from] RegionError),
    #[error(transparent)]
    Share(#[from] ShareError),
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    #[error(transparent)]
    Window(#[from] WindowError),
    #[error("The operation was aborted")]
    Aborted,
    #[error(
        "the process has no memory for what this call must keep; free some, or raise the limit"
    )]
    NoMemory(SysError),
    /// A defect of this package. The words are for those who mend it.
    #[error("{0}")]
    Defect(&'static str),
    #[error("another version was loaded first")]
    TwoVersions,
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub fn code(&self) -> Code {
        match self {
            Self::Fault(error) => error.code(),
            Self::File(error) => error.code(),
            Self::Memory(error) => error.code(),
            Self::Module(error) => error.code(),
            Self::Name(error) => error.code(),
            Self::Paging(error) => error.code(),
            Self::Region(error) => error.code(),
            Self::Share(error) => error.code(),
            Self::Snapshot(error) => error.code(),
            Self::Window(error) => error.code(),
            Self::Aborted => Code::Aborted,
            Self::NoMemory(_) => Code::OutOfMemory,
            Self::Defect(_) => Code::Internal,
            Self::TwoVersions => Code::TwoVersions,
        }
    }

    /// The kernel's refusal, where there was one.
    pub fn sys(&self) -> Option<SysError> {
        match self {
            Self::Fault(error) => error.sys(),
            Self::File(error) => error.sys(),
            Self::Memory(error) => error.sys(),
            Self::Module(error) => error.sys(),
            Self::Name(error) => error.sys(),
            Self::Paging(error) => error.sys(),
            Self::Region(error) => error.sys(),
            Self::Share(error) => error.sys(),
            Self::Snapshot(error) => error.sys(),
            Self::Window(error) => error.sys(),
            Self::NoMemory(sys) => Some(*sys),
            Self::Aborted | Self::Defect(_) | Self::TwoVersions => None,
        }
    }
}

impl From<alloc::Refused> for Error {
    fn from(refused: alloc::Refused) -> Self {
        Self::NoMemory(refused.into())
    }
}

impl From<NotWasmMemory> for Error {
    fn from(_: NotWasmMemory) -> Self {
        MemoryError::NotWasmMemory.into()
    }
}

impl From<Flaw> for Error {
    fn from(flaw: Flaw) -> Self {
        SnapshotError::Flawed { flaw }.into()
    }
}

/// For steps of what takes long: an error once it is not wanted any more.
pub fn check_cancelled(cancelled: &AtomicBool) -> Result<()> {
    match cancelled.load(Ordering::Acquire) {
        true => Err(Error::Aborted),
        false => Ok(()),
    }
}
