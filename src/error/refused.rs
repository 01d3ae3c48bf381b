//! A refused system call, or memory, in words: each [`Cause`] of `diagnose.rs` with its words and
//! its code side by side. What was being done is said by the noun's cause that holds a [`Refused`].
//!
//! A new code here that a collection of garbage may mend also goes into `NO_ROOM` of
//! `lib/pool/errors.js`.

use super::Code;
use crate::diagnose::{self, Cause};
use crate::sys::SysError;
use crate::sys::vma_budget::NoHeadroom;
use std::borrow::Cow;
use std::fmt;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    cause: Cause,
    /// `None` where V8 was refused, which doesn't say what the kernel said, or where we refused.
    sys: Option<SysError>,
}

/// Looks for the cause at once: the process may change.
impl From<SysError> for Refused {
    fn from(sys: SysError) -> Self {
        Self { cause: diagnose::system_call(sys), sys: Some(sys) }
    }
}

impl From<NoHeadroom> for Refused {
    fn from(full: NoHeadroom) -> Self {
        Self { cause: Cause::Headroom(full), sys: None }
    }
}

/// V8 was refused.
impl From<Cause> for Refused {
    fn from(cause: Cause) -> Self {
        Self { cause, sys: None }
    }
}

impl Refused {
    /// The code of a cause that has one of its own, whatever was being done.
    pub fn code(&self) -> Option<Code> {
        self.told().0
    }

    pub fn sys(&self) -> Option<SysError> {
        self.sys
    }

    fn told(&self) -> (Option<Code>, Cow<'static, str>) {
        let (code, words) = match self.cause {
            Cause::Unknown if self.sys.is_some() => return (None, "".into()),
            Cause::Unknown => {
                return (
                    None,
                    "no limit of address space, RLIMIT_AS, RLIMIT_DATA, memory mappings or overcommit was found that explains it".into(),
                );
            }
            Cause::MemfdsForbidden => {
                return (
                    None,
                    "a sandbox of this process refuses `memfd_create`, which every kernel has; allow it there (a container's seccomp profile), or open files instead".into(),
                );
            }
            Cause::ProcessDescriptors => (
                Code::TooManyFiles,
                "close regions that are done with, or raise `ulimit -n`".into(),
            ),
            Cause::SystemDescriptors => (
                Code::TooManyFiles,
                "the system has no file descriptors left (fs.file-max)".into(),
            ),
            Cause::DescriptorLost => (
                Code::DescriptorLost,
                "the descriptor behind it is gone: other code of this process closed it, by a double close or a loop over numbers; make it again".into(),
            ),
            Cause::Headroom(NoHeadroom { used, limit, left_to_others }) => (
                Code::MapCount,
                format!("the process has {used} of {limit} memory mappings, and the last {left_to_others} are left to V8, which could not go on without; unmap some, or raise vm.max_map_count").into(),
            ),
            Cause::MapCount { used, limit } => (
                Code::MapCount,
                format!("the process has {used} of {limit} memory mappings; unmap some, or raise vm.max_map_count").into(),
            ),
            Cause::RlimitAddressSpace { asked_bytes: Some(asked), mapped_bytes, limit_bytes } => (
                Code::RlimitAddressSpace,
                format!("a memory reserves {asked} bytes of address space, and the process has {mapped_bytes} of the {limit_bytes} that RLIMIT_AS allows; raise `ulimit -v`").into(),
            ),
            Cause::RlimitAddressSpace { asked_bytes: None, mapped_bytes, limit_bytes } => (
                Code::RlimitAddressSpace,
                format!("the process has mapped {mapped_bytes} of the {limit_bytes} bytes that RLIMIT_AS allows; raise `ulimit -v`").into(),
            ),
            Cause::RlimitData { asked_bytes: Some(asked), used_bytes, limit_bytes } => (
                Code::RlimitData,
                format!("{asked} bytes are to be made writable, and the process has {used_bytes} of the {limit_bytes} that RLIMIT_DATA allows; raise `ulimit -d`").into(),
            ),
            Cause::RlimitData { asked_bytes: None, used_bytes, limit_bytes } => (
                Code::RlimitData,
                format!("the process has {used_bytes} of the {limit_bytes} bytes of private writable memory that RLIMIT_DATA allows; raise `ulimit -d`").into(),
            ),
            Cause::AddressSpace { asked_bytes, total_bytes, inaccessible_bytes, largest_free_bytes } => (
                Code::AddressSpace,
                format!(
                    "each memory reserves {asked_bytes} bytes of address space; of {total_bytes} bytes, reservations hold {inaccessible_bytes}, about {} of them, and the largest gap is {largest_free_bytes}; drop memories that are done with and let them be collected, or use several processes",
                    // Not 0 where this is the cause: an error's words must never panic.
                    inaccessible_bytes.checked_div(asked_bytes).unwrap_or(0)
                ).into(),
            ),
            Cause::Overcommit { asked_bytes } => (
                Code::Overcommit,
                format!("{asked_bytes} bytes are to be committed and vm.overcommit_memory is 2; set it to 0 or 1, or raise vm.overcommit_ratio").into(),
            ),
            Cause::NoMemoryForMapping => {
                (Code::OutOfMemory, "the kernel has no memory for it".into())
            }
            Cause::NoMemoryForBytes => (
                Code::OutOfMemory,
                "free memory, raise the limit, or use HostRegion.open, which takes none".into(),
            ),
            Cause::FileSize => (
                Code::OutOfMemory,
                "the limit on file sizes (`ulimit -f`) holds for memfds too".into(),
            ),
        };
        (Some(code), words)
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (_, words) = self.told();
        match self.sys {
            // The kernel's words would mislead: it was we who found out.
            Some(_) if self.cause == Cause::DescriptorLost => f.write_str(&words),
            Some(sys) if words.is_empty() => write!(f, "{sys}"),
            Some(sys) => write!(f, "{sys}; {words}"),
            None => f.write_str(&words),
        }
    }
}
