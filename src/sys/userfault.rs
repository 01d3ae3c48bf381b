//! userfaultfd: a page that a memfd does not have raises SIGBUS, and is not made of zeros.
//!
//! One for the process, for faults of user mode. Nobody reads it: with UFFD_FEATURE_SIGBUS the
//! kernel sends the thread that touches a missing page a signal, and calls that read or write such
//! a page fail with EFAULT. That holds for private and shared mappings of memfds alike, after
//! `mprotect` and `memory.grow`, and ends where a mapping is moved (mremap) or a process forks.
//!
//! All registrations end when the last descriptor of the userfaultfd is closed, and missing pages
//! would be zeros from then on. So it is kept twice, under high numbers.
//!
//! Calls: userfaultfd, ioctl(UFFDIO_API, UFFDIO_REGISTER, UFFDIO_COPY, UFFDIO_ZEROPAGE). Not for
//! handlers, but for [`put_zero_page`].

// The kernel is given addresses.
#![allow(unsafe_code)]

use super::checked_fd::{CheckedFd, Description};
use super::lock::{Level, Lock};
use super::mmap::Mmap;
use super::owned_span::OwnedSpan;
use super::page::PageSpan;
use super::{SysError, SysResult, inject, thread};
use nix::errno::Errno;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::OnceLock;

/// UFFD_API, UFFD_USER_MODE_ONLY and others of linux/userfaultfd.h.
const API: u64 = 0xaa;
const USER_MODE_ONLY: libc::c_int = 1;
const FEATURE_SIGBUS: u64 = 1 << 7;
const MODE_MISSING: u64 = 1;
/// Nobody waits in the kernel.
const DONT_WAKE: u64 = 1;
const CAN_COPY: u64 = 1 << 3;

#[repr(C)]
#[derive(Default)]
struct ApiCall {
    api: u64,
    features: u64,
    ioctls: u64,
}

#[repr(C)]
#[derive(Default)]
struct RegisterCall {
    start: u64,
    length: u64,
    mode: u64,
    ioctls: u64,
}

#[repr(C)]
#[derive(Default)]
struct CopyCall {
    target: u64,
    source: u64,
    length: u64,
    mode: u64,
    copied: i64,
}

nix::ioctl_readwrite!(uffdio_api, API, 0x3f, ApiCall);
nix::ioctl_readwrite!(uffdio_register, API, 0x00, RegisterCall);
#[repr(C)]
#[derive(Default)]
struct ZeroCall {
    start: u64,
    length: u64,
    mode: u64,
    zeroed: i64,
}

nix::ioctl_readwrite!(uffdio_copy, API, 0x03, CopyCall);
nix::ioctl_readwrite!(uffdio_zeropage, API, 0x04, ZeroCall);

/// Both are of one userfaultfd.
#[derive(Debug)]
struct Kept {
    first: CheckedFd,
    second: CheckedFd,
}

impl Kept {
    fn get(&self) -> SysResult<BorrowedFd<'_>> {
        self.first.get().or_else(|_| self.second.get())
    }
}

static KEPT: OnceLock<Kept> = OnceLock::new();
static OPENING: Lock<()> = Lock::new(Level::Userfault, ());

/// Opens it unless it is open.
pub fn prepare() -> SysResult<()> {
    inject::trip("userfaultfd")?;
    let _alone = OPENING.lock();
    if KEPT.get().is_some() {
        return kept().map(drop);
    }
    let fd = open()?;
    let second = fd.try_clone().map_err(|error| SysError::from_io("fcntl", &error))?;
    let keep = |fd| CheckedFd::new(fd, Description::Ours);
    let _ = KEPT.set(Kept { first: keep(fd)?, second: keep(second)? });
    Ok(())
}

/// What `doctor` asks: whether one could be had now.
pub fn probe() -> SysResult<()> {
    inject::trip("userfaultfd")?;
    open().map(drop)
}

fn kept() -> SysResult<BorrowedFd<'static>> {
    KEPT.get().ok_or(SysError::new("userfaultfd", Errno::EBADF))?.get()
}

/// For faults in user mode, which needs no privilege. A kernel before 5.11 does not know the
/// difference, and asks for a privilege or a setting.
fn open() -> SysResult<OwnedFd> {
    let opened = match open_with(USER_MODE_ONLY) {
        Err(SysError { errno: Errno::EINVAL, .. }) => open_with(0),
        opened => opened,
    }?;
    let mut call = ApiCall { api: API, features: FEATURE_SIGBUS, ioctls: 0 };
    // SAFETY: the kernel reads and writes the local struct, which has the layout that it expects.
    unsafe { uffdio_api(opened.as_raw_fd(), &raw mut call) }
        .map_err(|errno| SysError::new("userfaultfd", errno))?;
    if call.features & FEATURE_SIGBUS == 0 {
        return Err(SysError::new("userfaultfd", Errno::EINVAL));
    }
    Ok(opened)
}

fn open_with(flags: libc::c_int) -> SysResult<OwnedFd> {
    // SAFETY: it takes flags and touches no memory.
    let fd = unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC | flags) };
    match i32::try_from(fd) {
        // SAFETY: the kernel has just made it, and nobody else knows it.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(SysError::new("userfaultfd", Errno::last())),
    }
}

/// From now on, missing pages of this mapping of a memfd raise SIGBUS.
pub fn register(span: OwnedSpan<'_>) -> SysResult<()> {
    inject::trip("uffdio_register")?;
    let span = span.span();
    let mut call = RegisterCall {
        start: span.start().get(),
        length: span.length().get(),
        mode: MODE_MISSING,
        ioctls: 0,
    };
    let fd = kept()?.as_raw_fd();
    // SAFETY: the kernel reads and writes the local struct, and changes no contents.
    unsafe { uffdio_register(fd, &raw mut call) }.map_err(|errno| SysError::new("ioctl", errno))?;
    if call.ioctls & CAN_COPY == 0 {
        return Err(SysError::new("ioctl", Errno::EINVAL));
    }
    Ok(())
}

/// How often a copy that the kernel wants to be done again is.
const MOST_TRIES: u32 = 1000;

/// Puts pages into a memfd by a shared mapping of it that was registered: each page as a whole, and
/// never one that is there already (EEXIST). Unlike `pwrite`, which leaves a page of zeros where it
/// can't read its source, and takes huge pages that reach beyond what it writes.
///
/// EFAULT: there is nothing to be read at `source`. What was done until then stays.
pub fn fill(target: &Mmap, part: PageSpan, source: u64) -> SysResult<()> {
    let outside = SysError::new("ioctl", Errno::EFAULT);
    let span = part.within(target.span()).filter(|span| *span == part).ok_or(outside)?;
    let (mut done, length) = (0_u64, span.length().get());
    let mut tries = 0_u32;
    while done < length {
        inject::trip("uffdio_copy")?;
        let mut call = CopyCall {
            // Neither wraps: the span is inside a mapping; where the source does, the kernel finds
            // no memory.
            target: span.start().get().wrapping_add(done),
            source: source.wrapping_add(done),
            length: length.wrapping_sub(done),
            mode: DONT_WAKE,
            copied: 0,
        };
        let fd = kept()?.as_raw_fd();
        // SAFETY: the kernel writes to pages of the memfd that nobody has, which is all that this
        // call can do, and reads the source itself.
        let copied = unsafe { uffdio_copy(fd, &raw mut call) };
        match (copied, u64::try_from(call.copied)) {
            (Ok(_) | Err(Errno::EAGAIN), Ok(copied)) if copied > 0 => {
                done = done.wrapping_add(copied);
            }
            (Ok(_) | Err(Errno::EAGAIN), _) if tries < MOST_TRIES => {
                tries = tries.wrapping_add(1);
                thread::yield_now();
            }
            (Err(errno), _) => return Err(SysError::new("ioctl", errno)),
            (Ok(_), _) => return Err(SysError::new("ioctl", Errno::EAGAIN)),
        }
    }
    Ok(())
}

/// Puts the kernel's page of zeros in place of a missing page of a private mapping that was
/// registered. The memfd stays as it is, and no VMA is cut. EEXIST: a page is there. Safe in
/// handlers.
pub fn put_zero_page(page: OwnedSpan<'_>) -> SysResult<()> {
    inject::trip("uffdio_zeropage")?;
    let span = page.span();
    let mut call = ZeroCall {
        start: span.start().get(),
        length: span.length().get(),
        mode: DONT_WAKE,
        zeroed: 0,
    };
    let fd = kept()?.as_raw_fd();
    // SAFETY: no Rust reference points into an owned span. The kernel changes no page that is
    // there.
    unsafe { uffdio_zeropage(fd, &raw mut call) }
        .map(drop)
        .map_err(|errno| SysError::new("ioctl", errno))
}
