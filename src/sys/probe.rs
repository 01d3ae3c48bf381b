//! What this kernel, and whatever filters its calls, answers to the calls that the library can do
//! without, or without which a part of it fails. For reports: what the library does without a call
//! is decided where it makes it.
//!
//! Each is asked once, on pages and files that this file makes. No release is believed: calls are
//! carried back to older kernels, and sandboxes refuse them on new ones.
//!
//! Calls: those of the files that it asks; copy_file_range and userfaultfd with arguments that do
//! nothing; getrlimit. Not for handlers.

// It makes system calls that no library has.
#![allow(unsafe_code)]

use super::mmap::{self, Mmap, Pages, Sharing};
use super::page::PageAligned;
use super::pagemap::{self, Which};
use super::{SysError, SysResult, futex, inject, memfd, procmap_query, userfault};
use nix::errno::Errno;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};

/// A call by its name, and why it can't be had.
#[derive(Debug, Clone, Copy)]
pub struct Answer {
    pub name: &'static str,
    pub outcome: SysResult<()>,
}

/// Asks for all of them.
pub fn kernel() -> [Answer; 11] {
    let answer = |name, outcome| Answer { name, outcome };
    [
        answer("memfd_create", sealed_memfd()),
        answer("F_SEAL_FUTURE_WRITE", future_write_seal()),
        answer("PROCMAP_QUERY", procmap_query::probe()),
        answer("PAGEMAP_SCAN", pagemap_scan()),
        answer("MADV_POPULATE_READ", mmap::probe_populate()),
        answer("MADV_COLLAPSE", mmap::probe_collapse()),
        answer("MREMAP_DONTUNMAP", move_pages_of_file()),
        answer("futex_waitv", futex_waitv()),
        answer("copy_file_range", copy_file_range()),
        answer("userfaultfd", userfaultfd()),
        answer("UFFD_FEATURE_SIGBUS", userfault::probe()),
    ]
}

/// Sealed against everything, as regions and snapshots are.
fn sealed_memfd() -> SysResult<()> {
    memfd::seal_write(memfd::create("probe", page().get())?)
}

fn future_write_seal() -> SysResult<()> {
    memfd::seal_future_write(memfd::create("probe", page().get())?)
}

fn pagemap_scan() -> SysResult<()> {
    let map = Mmap::new(page(), Pages::Zeros)?;
    pagemap::scan(map.span(), Which::Own, 1, |_| ()).map(drop)
}

fn move_pages_of_file() -> SysResult<()> {
    let fd = memfd::create("probe", page().get())?;
    let pages = Pages::File {
        fd: fd.as_fd(),
        offset: PageAligned::ZERO,
        sharing: Sharing::ReadOnly,
        is_memfd: true,
    };
    // Only this way can it fail: pages of a file that is there, to where the kernel likes.
    if mmap::can_move_from(pages) { Ok(()) } else { Err(SysError::new("mremap", Errno::EINVAL)) }
}

fn futex_waitv() -> SysResult<()> {
    inject::trip("futex")?;
    futex::ask_for_waitv()
}

/// Copies nothing from no file to no file.
fn copy_file_range() -> SysResult<()> {
    inject::trip("copy_file_range")?;
    let none = std::ptr::null_mut::<libc::off64_t>();
    // SAFETY: without descriptors it touches neither files nor memory.
    unsafe { libc::syscall(libc::SYS_copy_file_range, -1, none, -1, none, 0, 0) };
    // It can't but fail; any other reason is the answer.
    match Errno::last() {
        Errno::EBADF => Ok(()),
        errno => Err(SysError::new("copy_file_range", errno)),
    }
}

/// For faults in user mode, which need no privilege; for all faults on a kernel that knows no such
/// difference (before 5.11).
fn userfaultfd() -> SysResult<()> {
    const USER_MODE_ONLY: libc::c_int = 1;
    match open_userfaultfd(USER_MODE_ONLY) {
        Err(SysError { errno: Errno::EINVAL, .. }) => open_userfaultfd(0),
        opened => opened,
    }
    .map(drop)
}

fn open_userfaultfd(flags: libc::c_int) -> SysResult<OwnedFd> {
    inject::trip("userfaultfd")?;
    // SAFETY: it takes flags and touches no memory.
    let fd = unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC | flags) };
    match i32::try_from(fd) {
        // SAFETY: the kernel has just made it, and nobody else knows it.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(SysError::new("userfaultfd", Errno::last())),
    }
}

fn page() -> PageAligned {
    PageAligned::round_up(1).expect("one byte is in one page")
}

/// A limit of the process: what it is held to, and what it may ask for. `None`: there is none.
#[derive(Debug, Clone, Copy)]
pub struct Rlimit {
    pub name: &'static str,
    pub soft: Option<u64>,
    pub hard: Option<u64>,
}

/// The limits that the library meets.
pub fn rlimits() -> SysResult<[Rlimit; 6]> {
    let read = |name, resource| -> SysResult<Rlimit> {
        let (soft, hard) =
            getrlimit(resource).map_err(|errno| SysError::new("getrlimit", errno))?;
        let bound = |limit| (limit != RLIM_INFINITY).then_some(limit);
        Ok(Rlimit { name, soft: bound(soft), hard: bound(hard) })
    };
    Ok([
        read("NOFILE", Resource::RLIMIT_NOFILE)?,
        read("AS", Resource::RLIMIT_AS)?,
        read("DATA", Resource::RLIMIT_DATA)?,
        read("FSIZE", Resource::RLIMIT_FSIZE)?,
        read("MEMLOCK", Resource::RLIMIT_MEMLOCK)?,
        read("CORE", Resource::RLIMIT_CORE)?,
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_either_has_a_call_or_says_why_not() {
        let without = [
            Errno::ENOSYS,
            Errno::EINVAL,
            Errno::ENOTTY,
            Errno::EPERM,
            Errno::EACCES,
            Errno::EOPNOTSUPP,
        ];
        for Answer { name, outcome } in kernel() {
            if let Err(sys) = outcome {
                assert!(without.contains(&sys.errno), "{name}: {sys}");
            }
        }
        // No release that the library runs on lacks these.
        for Answer { name, outcome } in &kernel()[..2] {
            assert_eq!(*outcome, Ok(()), "{name}");
        }
    }

    #[test]
    fn what_the_kernel_answers_is_what_the_library_finds() {
        let has = |wanted| {
            let answers = kernel();
            let answer = answers.iter().find(|answer| answer.name == wanted);
            answer.expect("it is one of them").outcome.is_ok()
        };
        crate::sys::process_map::at_or_after(0).unwrap();
        assert_eq!(has("PROCMAP_QUERY"), !crate::sys::process_map::is_text());
    }

    #[test]
    fn a_limit_is_what_the_process_is_held_to() {
        let limits = rlimits().unwrap();
        let address_space = limits.iter().find(|limit| limit.name == "AS").unwrap();
        assert_eq!(address_space.soft, crate::sys::limits::rlimit_address_space().unwrap());
    }
}
