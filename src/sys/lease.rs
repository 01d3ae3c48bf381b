//! Leases on files: who would write a file waits until those who have a lease on it let go, or
//! until the kernel's patience ends (fcntl(2), `fs.lease-break-time`).
//!
//! A read lease can be had of a file that nobody has open for writing, or mapped so. From then on
//! an `open` for writing and a `truncate`, by any process, wait. The thread that watches gets a
//! signal, which it never handles: it is blocked there, and waited for.
//!
//! One call gets past a lease: `open(O_RDONLY | O_TRUNC)`, which POSIX leaves undefined, empties
//! the file (Linux 6.18).
//!
//! Calls: fcntl(F_SETLEASE, F_GETLEASE, F_SETOWN_EX), gettid, tgkill, rt_sigtimedwait. Not for
//! handlers.

// It calls the C library about leases and signals.
#![allow(unsafe_code)]

use super::{SysError, SysResult, inject};
use nix::errno::Errno;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

/// The thread that is told when somebody wants to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watcher(libc::pid_t);

/// `struct f_owner_ex` of linux/fcntl.h.
#[repr(C)]
struct Owner {
    kind: libc::c_int,
    id: libc::pid_t,
}

const F_SETOWN_EX: libc::c_int = 15;
const F_OWNER_TID: libc::c_int = 0;

/// What the kernel sends.
const SIGNAL: libc::c_int = libc::SIGIO;

impl Watcher {
    /// The calling thread, which blocks all signals that processes send: see `thread::spawn`.
    pub fn this_thread() -> Self {
        // By its number: glibc has had a function for it only since 2.30.
        // SAFETY: it takes no arguments and always succeeds.
        let id = unsafe { libc::syscall(libc::SYS_gettid) };
        // A thread's number is a pid_t: it is the result that is wider.
        #[allow(clippy::cast_possible_truncation)]
        Self(id as libc::pid_t)
    }

    /// Ends its wait.
    pub fn wake(self) {
        // SAFETY: it touches no memory. The thread of this process with this number never ends, and
        // blocks the signal.
        unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), self.0, SIGNAL) };
    }
}

/// Takes a read lease. EAGAIN: somebody has the file open for writing. EACCES: it is another
/// user's, and the process has no CAP_LEASE. EINVAL: its file system has no leases.
///
/// The open file description has the lease. It is given back when the last descriptor and mapping
/// of it is gone.
pub fn take(fd: BorrowedFd<'_>, watcher: Watcher) -> SysResult<()> {
    inject::trip("fcntl_owner")?;
    let owner = Owner { kind: F_OWNER_TID, id: watcher.0 };
    // First of all: without it the signal would be the process's, and end it.
    // SAFETY: the kernel reads the struct, which outlives the call.
    let owned = unsafe { libc::fcntl(fd.as_raw_fd(), F_SETOWN_EX, &raw const owner) };
    if owned < 0 {
        return Err(SysError::new("fcntl", Errno::last()));
    }
    inject::trip("fcntl_lease")?;
    set(fd, libc::F_RDLCK)
}

fn set(fd: BorrowedFd<'_>, kind: libc::c_int) -> SysResult<()> {
    // SAFETY: it takes a number and touches no memory.
    if unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETLEASE, kind) } < 0 {
        return Err(SysError::new("fcntl", Errno::last()));
    }
    Ok(())
}

/// Whether somebody waits to write, or the lease is gone.
pub fn is_wanted(fd: BorrowedFd<'_>) -> bool {
    if inject::trip("fcntl_wanted").is_err() {
        return true;
    }
    // SAFETY: it touches no memory.
    unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETLEASE) != libc::F_RDLCK }
}

/// Gives the lease back: who waits goes on. False: the kernel had taken it already, so the file may
/// have been written.
pub fn give_back(fd: BorrowedFd<'_>) -> bool {
    inject::trip("fcntl_give_back").and_then(|()| set(fd, libc::F_UNLCK)).is_ok()
}

/// Waits until a lease of this thread is wanted, or [`Watcher::wake`], for so long at most.
pub fn wait(most: Option<Duration>) {
    // SAFETY: a sigset_t is plain bits, for which zero is a value. The pointers are to locals.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, SIGNAL);
        match most.map(to_timespec) {
            Some(most) => libc::sigtimedwait(&raw const set, std::ptr::null_mut(), &raw const most),
            None => libc::sigwaitinfo(&raw const set, std::ptr::null_mut()),
        };
    }
}

fn to_timespec(duration: Duration) -> libc::timespec {
    libc::timespec {
        tv_sec: duration.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}

/// How long the kernel waits before it takes a lease away. `None`: for ever.
pub fn break_time() -> Option<Duration> {
    const USUAL: u64 = 45;
    let text = std::fs::read_to_string("/proc/sys/fs/lease-break-time").unwrap_or_default();
    match text.trim().parse().unwrap_or(USUAL) {
        0 => None,
        seconds => Some(Duration::from_secs(seconds)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{File, OpenOptions};
    use std::os::fd::AsFd;
    use std::os::unix::fs::OpenOptionsExt;
    use std::sync::mpsc;

    #[test]
    fn who_would_write_waits_and_the_watcher_hears_of_it() {
        let path = std::env::temp_dir().join(format!("hostmap-lease-{}", std::process::id()));
        let writer = File::create(&path).unwrap();
        let (say, hear) = mpsc::channel();
        let (go, wait_for) = mpsc::channel::<()>();
        let watching = super::super::thread::spawn("watch", move || {
            say.send(Watcher::this_thread()).unwrap();
            wait_for.recv().unwrap();
            wait(None);
        })
        .unwrap();
        let watcher = hear.recv().unwrap();
        let reader = File::open(&path).unwrap();
        let fd = reader.as_fd();
        assert_eq!(take(fd, watcher).unwrap_err().errno, Errno::EAGAIN);
        drop(writer);
        take(fd, watcher).unwrap();
        assert!(!is_wanted(fd));
        let open = || OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(&path);
        assert_eq!(open().unwrap_err().raw_os_error(), Some(libc::EWOULDBLOCK));
        assert!(is_wanted(fd));
        go.send(()).unwrap();
        watching.join().unwrap();
        assert!(give_back(fd));
        assert!(!give_back(fd), "it is gone");
        open().unwrap();
        std::fs::remove_file(&path).unwrap();
    }
}
