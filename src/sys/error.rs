//! A refused system call: which one, and with which errno. What a refusal means to a user, and the
//! words for it, belong to `error/`.

use super::alloc::Refused;
use nix::errno::Errno;

/// A system call that the kernel refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SysError {
    pub syscall: &'static str,
    pub errno: Errno,
    /// Whether pages that were to be replaced are gone, and zeros are there now: see
    /// `mmap::replace`.
    pub removed: bool,
}

impl SysError {
    pub fn new(syscall: &'static str, errno: Errno) -> Self {
        Self { syscall, errno, removed: false }
    }

    /// The error of a call made through `std`.
    pub fn from_io(syscall: &'static str, error: &std::io::Error) -> Self {
        let errno = error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
        Self { syscall, errno, removed: false }
    }
}

impl std::fmt::Display for SysError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let words = match self.errno {
            // nix has the words of other systems for it.
            Errno::EBADF => "bad file descriptor",
            errno => errno.desc(),
        };
        // The errno by its name alone: its own Display repeats the words.
        write!(f, "{words} ({:?} from {})", self.errno, self.syscall)
    }
}

pub type SysResult<T> = Result<T, SysError>;

impl From<Refused> for SysError {
    fn from(_: Refused) -> Self {
        Self::new("malloc", Errno::ENOMEM)
    }
}
