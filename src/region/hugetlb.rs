//! Regions of huge pages that the system keeps in reserve (hugetlb): all of their pages are there,
//! or there is no region.
//!
//! They differ from those that the kernel gathers (`huge.rs`):
//!
//! - They come from a pool, as large as an administrator makes it, and stay whole: nothing splits
//!   or swaps them.
//! - They are mapped, protected and replaced as wholes only, at addresses that are multiples of 2
//!   MiB. A region says how large its smallest piece is (`Region::page_bytes`), and everything that
//!   cuts cuts there.
//! - `write` does not know them: they are filled through a mapping.
//! - A copy for a copy-on-write comes from the pool, and SIGBUS where that is empty. So we want
//!   none: there are no `private` mappings, and a stray write goes to a copy in ordinary pages
//!   (`fault`). Only where a module has grown its memory by itself, and made a mapping writable so,
//!   the kernel copies.

// The kernel writes into a mapping of its own.
#![allow(unsafe_code)]

use crate::error::{Code, Error, Result};
use crate::fault;
use crate::sys::mmap::{self, Mmap, Pages, Sharing};
use crate::sys::page::{HUGE_PAGE_BYTES, PageAligned};
use crate::sys::{SysError, SysResult, file, limits, memfd};
use nix::errno::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// What is taken from the pool by one call. Clearing takes some milliseconds.
const TAKE_BYTES: u64 = 64 << 20;

/// What is copied at once, so that it stays in the CPU's caches between two copies.
const COPY_BYTES: u64 = 1 << 20;

/// Bytes of whole huge pages. `None` on overflow.
pub fn round_up(byte_length: u64) -> Option<PageAligned> {
    PageAligned::new(byte_length.checked_next_multiple_of(HUGE_PAGE_BYTES)?)
}

/// Whether a memfd is as those that are made here: pages of 2 MiB, and all of them there.
pub fn is_whole(fd: BorrowedFd<'_>) -> SysResult<bool> {
    let status = file::status(fd)?;
    if status.byte_length == 0 {
        return Ok(true);
    }
    let is_ours = file::huge_page_bytes(fd)? == Some(HUGE_PAGE_BYTES)
        && memfd::is_memfd(fd)
        && memfd::keeps_size(fd)
        && status.byte_length.is_multiple_of(HUGE_PAGE_BYTES)
        && status.allocated_bytes >= status.byte_length;
    // What was allocated may lie past its end. Who can only read it can't ask for more, and the
    // fault guard has to do.
    Ok(is_ours
        && match file::allocate(fd, 0, status.byte_length) {
            Err(sys) if sys.errno == Errno::EBADF => true,
            Err(sys) if sys.errno == Errno::ENOSPC => false,
            done => done.map(|()| true)?,
        })
}

/// Without a handler that can copy, a stray write would want a page of the pool's.
pub fn check_guard(what: &str) -> Result<()> {
    if !mmap::can_move_huge_pages() {
        let message = format!(
            "{what}: its huge pages can't be moved into a memory by kernels before Linux 5.16"
        );
        return Err(Error::new(Code::MapFailed, message));
    }
    fault::ensure_copies().map_err(|why| {
        let message = format!(
            "{what}: its huge pages can't be protected without the fault guard, and there is none: {why}"
        );
        Error::new(Code::MapFailed, message)
    })
}

/// A memfd that is being filled. Its pages are promised from the start: filling it can't fail for
/// want of some.
#[derive(Debug)]
pub struct Filling {
    fd: OwnedFd,
    shown: Mmap,
    /// Pages below are there.
    taken: u64,
    bounce: Option<OwnedFd>,
}

impl Filling {
    pub fn start(name: &str, byte_length: u64) -> Result<Self> {
        let start = || {
            let length = round_up(byte_length).ok_or(SysError::new("ftruncate", Errno::EFBIG))?;
            let fd = memfd::create_huge(name)?;
            file::set_length(&fd, length.get())?;
            memfd::seal_size(&fd)?;
            // A shared mapping reserves what it may take (mmap(2), MAP_NORESERVE).
            let (offset, sharing) = (PageAligned::ZERO, Sharing::Shared);
            let pages = Pages::Hugetlb { fd: fd.as_fd(), offset, sharing };
            let shown = Mmap::new(length, pages)?;
            Ok(Self { fd, shown, taken: 0, bounce: None })
        };
        start().map_err(|sys| refused(byte_length, sys))
    }

    /// Takes all pages up to here.
    pub fn take_until(&mut self, end: u64) -> Result<()> {
        let end = end.min(self.shown.span().length().get());
        while self.taken < end {
            let length = end.saturating_sub(self.taken).min(TAKE_BYTES);
            file::allocate(&self.fd, self.taken, length).map_err(|sys| refused(end, sys))?;
            self.taken = self.taken.saturating_add(length);
        }
        Ok(())
    }

    /// Takes some more; whether that were all.
    pub fn take_more(&mut self) -> Result<bool> {
        self.take_until(self.taken.saturating_add(TAKE_BYTES))?;
        Ok(self.taken >= self.shown.span().length().get())
    }

    /// Copies bytes of a file, and says how many: 0 at its end.
    pub fn copy_file(
        &mut self,
        from: BorrowedFd<'_>,
        from_offset: u64,
        to: u64,
        length: u64,
    ) -> SysResult<u64> {
        let target = self.address(to, length)?;
        // SAFETY: pages of ours that nobody else knows, and no reference into them is made.
        unsafe { file::read_to(from, from_offset, target, length) }
    }

    /// Copies bytes of the process. EFAULT where some of them can't be read.
    pub fn copy_memory(&mut self, source: u64, to: u64, length: u64) -> SysResult<()> {
        let bounce = match self.bounce.take() {
            Some(bounce) => bounce,
            None => memfd::create("bounce", COPY_BYTES)?,
        };
        // By way of a file, since the kernel reads what Rust must not.
        let mut done = 0;
        while done < length {
            let step = length.saturating_sub(done).min(COPY_BYTES);
            file::write_all_from(bounce.as_fd(), 0, source.saturating_add(done), step)?;
            let copied = self.copy_file(bounce.as_fd(), 0, to.saturating_add(done), step)?;
            if copied == 0 {
                return Err(SysError::new("pread", Errno::EIO));
            }
            done = done.saturating_add(copied);
        }
        self.bounce = Some(bounce);
        Ok(())
    }

    /// The memfd, with all of its pages.
    pub fn finish(mut self) -> Result<OwnedFd> {
        self.take_until(u64::MAX)?;
        Ok(self.fd)
    }

    fn address(&self, offset: u64, length: u64) -> SysResult<u64> {
        let end = offset.checked_add(length).filter(|end| *end <= self.taken);
        let address = self.shown.address().checked_add(offset);
        end.and(address).ok_or(SysError::new("pread", Errno::EFAULT))
    }
}

/// Why there is no such region, and what would do.
fn refused(byte_length: u64, sys: SysError) -> Error {
    let what = format!("can't allocate a region of {byte_length} bytes with hugePages: 'hugetlb'");
    let else_do = "or use hugePages: true, which needs no reserve";
    let why = match sys.errno {
        Errno::ENOMEM | Errno::ENOSPC => {
            let needed = byte_length.div_ceil(HUGE_PAGE_BYTES);
            let free = limits::free_huge_pages(HUGE_PAGE_BYTES).unwrap_or(0);
            format!(
                "it needs {needed} huge pages of 2 MiB, and {free} of the system's pool are free, or a control group allows less; make the pool larger (as root: sysctl vm.nr_hugepages=N), {else_do}"
            )
        }
        Errno::ENODEV | Errno::ENOENT | Errno::EINVAL | Errno::ENOSYS => {
            format!("this system has no pool of huge pages of 2 MiB ({sys}); {else_do}")
        }
        _ => return Error::from_sys(Code::OutOfMemory, what, sys),
    };
    Error::new(Code::OutOfMemory, format!("{what}: {why}")).with_sys(sys)
}
