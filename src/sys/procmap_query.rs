//! Asking the kernel for one VMA: the ioctl PROCMAP_QUERY on /proc/self/maps (kernel 6.11 and
//! later).
//!
//! One question takes half a microsecond, however many VMAs the process has.
//!
//! Calls: ioctl(PROCMAP_QUERY). Everything here is safe in handlers, but for [`prepare`].

// The kernel writes its answer to an address.
#![allow(unsafe_code)]

use super::kept::KeptFile;
use super::optional::says_absent;
use super::vma::Vma;
use super::{SysError, SysResult, inject};
use nix::errno::Errno;
use std::os::fd::{AsRawFd, BorrowedFd};

/// `struct procmap_query` of linux/fs.h.
#[repr(C)]
#[derive(Default)]
struct ProcmapQuery {
    size: u64,
    query_flags: u64,
    query_addr: u64,
    vma_start: u64,
    vma_end: u64,
    vma_flags: u64,
    vma_page_size: u64,
    vma_offset: u64,
    inode: u64,
    dev_major: u32,
    dev_minor: u32,
    vma_name_size: u32,
    build_id_size: u32,
    vma_name_addr: u64,
    build_id_addr: u64,
}

const PROCMAP_QUERY_BYTES: u64 = 104;
const _: () = assert!(size_of::<ProcmapQuery>() == 104);
const COVERING_OR_NEXT_VMA: u64 = 0x10;
const VMA_READABLE: u64 = 0x01;
const VMA_WRITABLE: u64 = 0x02;
const VMA_EXECUTABLE: u64 = 0x04;
const VMA_SHARED: u64 = 0x08;

nix::ioctl_readwrite!(procmap_query, b'f', 17, ProcmapQuery);

/// For queries, which don't depend on where a reader is: one for all threads.
static MAP: KeptFile = KeptFile::new(c"/proc/self/maps");

/// Whether [`prepare`] has nothing to do. No system call.
pub(super) fn is_ready() -> bool {
    MAP.is_ready()
}

/// Opens what [`query`] asks, so that it need not. Not for handlers.
pub(super) fn prepare() -> SysResult<()> {
    MAP.prepare()
}

/// What comes back from the kernel.
#[derive(Debug)]
pub(super) enum Answer {
    Vma(Option<Vma>),
    Failed(SysError),
    /// There is no descriptor to ask by.
    NotNow,
    /// The kernel is older than the call, an emulator does not know it, or a sandbox forbids it.
    Never,
}

/// The VMA that holds an address, or the next one above it.
pub(super) fn query(address: u64) -> Answer {
    let by_kept = MAP.unchecked().map(|map| query_by(map, address));
    let answer = match by_kept {
        // Another part of the program closed our descriptor, and its number may be another file's
        // by now; or it never was open.
        None | Some(Err(SysError { errno: Errno::EBADF | Errno::ENOTTY | Errno::EINVAL, .. }))
            if !MAP.is_same() =>
        {
            match MAP.with(|map| query_by(map, address)) {
                Ok(answer) => answer,
                Err(_) => return Answer::NotNow,
            }
        }
        Some(answer) => answer,
        None => return Answer::NotNow,
    };
    match answer {
        Ok(found) => Answer::Vma(found),
        Err(SysError { errno, .. }) if says_absent(errno) || errno == Errno::EBADF => Answer::Never,
        Err(sys) => Answer::Failed(sys),
    }
}

/// What the kernel answers to the call, whatever is mapped. Not for handlers.
pub(super) fn probe() -> SysResult<()> {
    MAP.with(|map| query_by(map, 0))?.map(drop)
}

fn query_by(map: BorrowedFd<'_>, address: u64) -> SysResult<Option<Vma>> {
    inject::trip("ioctl")?;
    let mut query = ProcmapQuery {
        size: PROCMAP_QUERY_BYTES,
        query_flags: COVERING_OR_NEXT_VMA,
        query_addr: address,
        ..ProcmapQuery::default()
    };
    // SAFETY: `query` is a `struct procmap_query` that says its own size, so the kernel writes
    // inside it. It writes nothing else, since no buffer for a name or build id is given.
    match unsafe { procmap_query(map.as_raw_fd(), &raw mut query) } {
        Ok(_) => Ok(Some(Vma {
            start: query.vma_start,
            end: query.vma_end,
            readable: query.vma_flags & VMA_READABLE != 0,
            writable: query.vma_flags & VMA_WRITABLE != 0,
            executable: query.vma_flags & VMA_EXECUTABLE != 0,
            shared: query.vma_flags & VMA_SHARED != 0,
            file_offset: if query.inode == 0 { 0 } else { query.vma_offset },
            inode: query.inode,
        })),
        Err(Errno::ENOENT) => Ok(None),
        Err(errno) => Err(SysError::new("ioctl", errno)),
    }
}

#[cfg(all(test, feature = "inject"))]
mod tests {
    use super::*;
    use crate::sys::optional::ABSENT_ERRNOS;

    #[test]
    fn whatever_says_that_there_is_no_such_call_is_remembered() {
        let this = Some(std::thread::current().id());
        prepare().unwrap();
        for errno in ABSENT_ERRNOS {
            // Asked again where the descriptor may be another file's by now.
            for _ in 0..2 {
                inject::arm("ioctl", 0, errno as i32, this);
            }
            assert!(matches!(query(0), Answer::Never), "{errno}");
            inject::disarm(this);
        }
        inject::arm("ioctl", 0, Errno::ENOMEM as i32, this);
        assert!(matches!(query(0), Answer::Failed(_)));
    }
}
