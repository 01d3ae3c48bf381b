//! Why the kernel refused a system call, or V8 a memory.
//!
//! Neither says. `ENOMEM` of `mmap` has half a dozen causes, and V8 only says "could not allocate
//! memory". So this file looks at every limit that is known to bind, and yields a [`Cause`]. It is
//! the only place that decides: one order, one set of thresholds. Words and codes for each cause
//! are in `error/refused.rs`. Nothing here writes text for users, and nothing retries. A pool does:
//! `NO_ROOM` of `lib/pool/errors.js` lists the codes after which it collects garbage and tries
//! again. A new cause that a collection may mend needs its code there.

use crate::sys::limits::{self, AddressSpace, Overcommit};
use crate::sys::optional::says_absent;
use crate::sys::page::WASM_PAGE_BYTES;
use crate::sys::vma_budget::NoHeadroom;
use crate::sys::{SysError, SysResult, checked_fd};
use nix::errno::Errno;

/// With no more VMAs left than these, their number is taken for the cause. A memory takes up to
/// three and a mapping two; the rest is for VMAs that other threads gave back between the refusal
/// and the count.
const NO_VMAS_LEFT: u64 = 8;

/// What V8 asks for above a reservation, to align the memory's base.
const ALIGNMENT_BYTES: u64 = WASM_PAGE_BYTES;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// No limit explains it.
    Unknown,
    /// The process has as many descriptors as RLIMIT_NOFILE allows.
    ProcessDescriptors,
    /// The system has as many open files as fs.file-max allows.
    SystemDescriptors,
    /// Other code of the process closed the descriptor.
    DescriptorLost,
    /// We refused before the kernel did, to leave VMAs to V8.
    Headroom(NoHeadroom),
    MapCount {
        used: u64,
        limit: u64,
    },
    RlimitAddressSpace {
        /// What was asked for, where that is known.
        asked_bytes: Option<u64>,
        mapped_bytes: u64,
        limit_bytes: u64,
    },
    RlimitData {
        /// What was asked for, where that is known.
        asked_bytes: Option<u64>,
        used_bytes: u64,
        limit_bytes: u64,
    },
    AddressSpace {
        asked_bytes: u64,
        total_bytes: u64,
        inaccessible_bytes: u64,
        largest_free_bytes: u64,
    },
    /// vm.overcommit_memory is 2, and less can be committed than was asked for.
    Overcommit {
        asked_bytes: u64,
    },
    /// The kernel has no memory for a mapping, its tables or its pages.
    NoMemoryForMapping,
    /// No memory or no space for the bytes of a file.
    NoMemoryForBytes,
    /// RLIMIT_FSIZE, which holds for memfds too.
    FileSize,
    /// A filter of system calls.
    MemfdsForbidden,
}

/// What was asked for when memory was refused; `None` where that is not known.
#[derive(Debug, Clone, Copy, Default)]
struct Asked {
    reservation_bytes: Option<u64>,
    commit_bytes: Option<u64>,
}

/// Why the kernel refused a system call.
pub fn system_call(sys: SysError) -> Cause {
    match (sys.errno, sys.syscall) {
        (Errno::EMFILE, _) => Cause::ProcessDescriptors,
        (Errno::ENFILE, _) => Cause::SystemDescriptors,
        (Errno::EBADF, checked_fd::LOST_AT) => Cause::DescriptorLost,
        (Errno::ENOMEM, "mmap" | "mremap" | "mprotect" | "madvise") => {
            // Where the map can't be read, the limits alone may tell the cause.
            let space = limits::address_space().unwrap_or_default();
            of_memory(&space, Asked::default()).unwrap_or(Cause::NoMemoryForMapping)
        }
        (Errno::ENOMEM | Errno::ENOSPC | Errno::EDQUOT, _) => Cause::NoMemoryForBytes,
        (Errno::EFBIG, _) => Cause::FileSize,
        (errno, "memfd_create") if says_absent(errno) => Cause::MemfdsForbidden,
        _ => Cause::Unknown,
    }
}

/// Why V8 could not allocate or grow a memory. `reservation_bytes` is the address space that was
/// to be reserved (0 when a memory grows), `commit_bytes` what was to be made accessible.
pub fn v8_memory(reservation_bytes: u64, commit_bytes: u64) -> SysResult<Cause> {
    let asked =
        Asked { reservation_bytes: Some(reservation_bytes), commit_bytes: Some(commit_bytes) };
    Ok(of_memory(&limits::address_space()?, asked).unwrap_or(Cause::Unknown))
}

/// The limit that binds, if one does.
fn of_memory(space: &AddressSpace, asked: Asked) -> Option<Cause> {
    let limit = limits::max_map_count();
    // The limit may be lowered below what the process has: then none is left.
    if limit.saturating_sub(space.vma_count) <= NO_VMAS_LEFT {
        return Some(Cause::MapCount { used: space.vma_count, limit });
    }
    if let Ok(Some(limit_bytes)) = limits::rlimit_address_space()
        // Where nobody knows what was asked for: less is left than the process has already. The
        // limit may be lowered below what the process has: then nothing is left.
        && asked.reservation_bytes.unwrap_or(space.mapped_bytes)
            > limit_bytes.saturating_sub(space.mapped_bytes)
    {
        return Some(Cause::RlimitAddressSpace {
            asked_bytes: asked.reservation_bytes,
            mapped_bytes: space.mapped_bytes,
            limit_bytes,
        });
    }
    if let Some(asked_bytes) = asked.reservation_bytes.filter(|bytes| *bytes > 0)
        // The number comes from JavaScript. One near 2^64 fits nowhere, and clamped it does not
        // either.
        && asked_bytes.saturating_add(ALIGNMENT_BYTES) > space.largest_free_bytes
    {
        return Some(Cause::AddressSpace {
            asked_bytes,
            total_bytes: space.total_bytes,
            inaccessible_bytes: space.inaccessible_bytes,
            largest_free_bytes: space.largest_free_bytes,
        });
    }
    if let Some((used_bytes, limit_bytes)) = limits::data_limit()
        // As above.
        && asked.commit_bytes.unwrap_or(used_bytes) > limit_bytes.saturating_sub(used_bytes)
    {
        return Some(Cause::RlimitData {
            asked_bytes: asked.commit_bytes,
            used_bytes,
            limit_bytes,
        });
    }
    let asked_bytes = asked.commit_bytes?;
    (limits::overcommit() == Overcommit::Never
        && limits::commit_left_bytes().is_some_and(|left| asked_bytes > left))
    .then_some(Cause::Overcommit { asked_bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_has_its_cause() {
        let cause = |syscall, errno| system_call(SysError::new(syscall, errno));
        assert_eq!(cause("open", Errno::EMFILE), Cause::ProcessDescriptors);
        assert_eq!(cause("memfd_create", Errno::ENFILE), Cause::SystemDescriptors);
        assert_eq!(cause(checked_fd::LOST_AT, Errno::EBADF), Cause::DescriptorLost);
        assert_eq!(cause("mmap", Errno::ENOMEM), Cause::NoMemoryForMapping);
        assert_eq!(cause("pwrite", Errno::ENOSPC), Cause::NoMemoryForBytes);
        assert_eq!(cause("ftruncate", Errno::EFBIG), Cause::FileSize);
        assert_eq!(cause("open", Errno::EACCES), Cause::Unknown);
    }

    #[test]
    fn a_reservation_that_fits_nowhere_is_told_from_one_that_nothing_explains() {
        assert!(matches!(v8_memory(1 << 60, 0), Ok(Cause::AddressSpace { .. })));
        assert_eq!(v8_memory(1 << 30, 0), Ok(Cause::Unknown));
    }
}
