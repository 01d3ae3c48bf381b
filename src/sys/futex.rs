//! Waiting for a word of a region that another thread or process changes. The kernel knows the word
//! by its file and offset, wherever it is mapped.
//!
//! Calls: futex, futex_waitv (kernel 5.16 and later), clock_gettime. Not for handlers.

// The kernel is given addresses of words and times.
#![allow(unsafe_code)]

use super::mmap::Mmap;
use super::optional::Feature;
use super::wake::Wake;
use super::{SysError, SysResult, inject, to_usize};
use nix::errno::Errno;
use std::time::{Duration, Instant};

/// A 32-bit word in a mapping that stays as long as this lives.
#[derive(Debug)]
pub struct Word {
    mmap: Mmap,
    /// Aligned, and inside the mapping with all of its bytes.
    skew: usize,
}

/// What ended a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    Woken,
    /// The word was not as expected.
    Changed,
    TimedOut,
    Cancelled,
}

/// How long a kernel without futex_waitv (before 5.16) may take to see that a wait was cancelled.
const SLICE: Duration = Duration::from_millis(50);

static WAITV: Feature = Feature::new("futex_waitv", ask_for_waitv);

/// As the kernel takes it: `struct futex_waitv`.
#[repr(C)]
struct Waiter {
    value: u64,
    address: u64,
    flags: u32,
    reserved: u32,
}

const FUTEX2_SIZE_U32: u32 = 2;
const FUTEX2_PRIVATE: u32 = 128;

/// Whether the kernel has futex_waitv: it waits for no word, which a kernel that has the call
/// refuses as it should.
pub fn ask_for_waitv() -> SysResult<()> {
    let nothing = std::ptr::null::<u8>();
    // SAFETY: it is told that there are no words, so it looks at none.
    unsafe { libc::syscall(libc::SYS_futex_waitv, nothing, 0, 0, nothing, libc::CLOCK_MONOTONIC) };
    match Errno::last() {
        Errno::EINVAL => Ok(()),
        errno => Err(SysError::new("futex_waitv", errno)),
    }
}

impl Word {
    /// `None`: it is not aligned, or not all of it is in the mapping.
    pub fn new(mmap: Mmap, skew: u64) -> Option<Self> {
        let end = skew.checked_add(4)?;
        (skew.is_multiple_of(4) && end <= mmap.span().length().get())
            .then(|| Self { mmap, skew: to_usize(skew) })
    }

    /// Only ever given to the kernel, which takes a missing page for an error and not a fault.
    fn address(&self) -> u64 {
        self.mmap.address().checked_add(super::to_u64(self.skew)).expect("it is in the mapping")
    }

    /// Wakes up to so many waiters, of any process, and returns how many there were.
    pub fn wake(&self, most: u32) -> SysResult<u64> {
        // The kernel compares the number after it has woken one.
        if most == 0 {
            return Ok(0);
        }
        let most = i32::try_from(most).unwrap_or(i32::MAX);
        inject::trip("futex")?;
        // SAFETY: FUTEX_WAKE uses the address as a key and neither reads nor writes there; it
        // answers EFAULT where nothing is mapped.
        let woken =
            unsafe { libc::syscall(libc::SYS_futex, self.address(), libc::FUTEX_WAKE, most) };
        u64::try_from(woken).map_err(|_| SysError::new("futex", Errno::last()))
    }

    /// Waits while the word is `expected`, until somebody wakes it, until the deadline, or until
    /// `cancel` was called.
    pub fn wait(
        &self,
        expected: u32,
        deadline: Option<Instant>,
        cancel: &Wake,
    ) -> SysResult<Ended> {
        // A deadline of CLOCK_MONOTONIC, like `Instant`.
        let timeout = match deadline.map(monotonic) {
            Some(None) => None,
            Some(timeout) => timeout,
            None => None,
        };
        let waiters = [
            Waiter {
                value: expected.into(),
                address: self.address(),
                flags: FUTEX2_SIZE_U32,
                reserved: 0,
            },
            Waiter {
                value: 0,
                address: cancel.address(),
                flags: FUTEX2_SIZE_U32 | FUTEX2_PRIVATE,
                reserved: 0,
            },
        ];
        inject::trip("futex")?;
        let mut waited = false;
        loop {
            let woken = WAITV.tried(|| {
                // SAFETY: the pointers are those of a local array, with its length, and of a local
                // timespec or null. The kernel reads them and the two words, and writes nothing.
                let woken = unsafe {
                    libc::syscall(
                        libc::SYS_futex_waitv,
                        waiters.as_ptr(),
                        waiters.len(),
                        0,
                        timeout.as_ref().map_or(std::ptr::null(), std::ptr::from_ref),
                        libc::CLOCK_MONOTONIC,
                    )
                };
                u64::try_from(woken).map_err(|_| SysError::new("futex_waitv", Errno::last()))
            });
            match woken {
                None => return self.wait_in_slices(expected, deadline, cancel),
                Some(Ok(0)) => return Ok(Ended::Woken),
                Some(Ok(_)) => return Ok(Ended::Cancelled),
                Some(Err(sys)) => match sys.errno {
                    Errno::EINTR => waited = true,
                    Errno::ETIMEDOUT => return Ok(Ended::TimedOut),
                    Errno::EAGAIN if cancel.calls() != 0 => return Ok(Ended::Cancelled),
                    // Interrupted, it may have missed the wake-up. That the word has changed says
                    // as much.
                    Errno::EAGAIN => {
                        return Ok(if waited { Ended::Woken } else { Ended::Changed });
                    }
                    _ => return Err(sys),
                },
            }
        }
    }

    /// The same without futex_waitv. It misses a wake-up that comes between two slices and changes
    /// no word.
    pub fn wait_in_slices(
        &self,
        expected: u32,
        deadline: Option<Instant>,
        cancel: &Wake,
    ) -> SysResult<Ended> {
        let mut waited = false;
        loop {
            if cancel.calls() != 0 {
                return Ok(Ended::Cancelled);
            }
            // No time is left once the deadline has passed.
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let slice = left.map_or(SLICE, |left| left.min(SLICE));
            // SAFETY: a timespec is plain numbers, for which zero is a value.
            let mut timeout: libc::timespec = unsafe { std::mem::zeroed() };
            // Less than a second.
            timeout.tv_nsec = slice.subsec_nanos().into();
            // SAFETY: FUTEX_WAIT reads the word, and answers EFAULT where nothing is mapped. The
            // timeout is a local of less than a second.
            let ended = unsafe {
                libc::syscall(
                    libc::SYS_futex,
                    self.address(),
                    libc::FUTEX_WAIT,
                    expected,
                    &raw const timeout,
                )
            };
            match (ended, Errno::last()) {
                (0, _) => return Ok(Ended::Woken),
                (_, Errno::EAGAIN) => {
                    return Ok(if waited { Ended::Woken } else { Ended::Changed });
                }
                (_, Errno::ETIMEDOUT) if left.is_some_and(|left| left <= SLICE) => {
                    return Ok(Ended::TimedOut);
                }
                (_, Errno::ETIMEDOUT | Errno::EINTR) => waited = true,
                (_, errno) => return Err(SysError::new("futex", errno)),
            }
        }
    }
}

/// `None`: further away than the clock can say.
fn monotonic(deadline: Instant) -> Option<libc::timespec> {
    // SAFETY: a timespec is plain numbers, for which zero is a value.
    let mut now: libc::timespec = unsafe { std::mem::zeroed() };
    // SAFETY: the call writes one timespec, and `now` is one. Linux always has this clock.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    // No time is left once the deadline has passed.
    let left = deadline.saturating_duration_since(Instant::now());
    let passed = Duration::new(u64::try_from(now.tv_sec).ok()?, u32::try_from(now.tv_nsec).ok()?);
    let at = passed.checked_add(left)?;
    now.tv_sec = i64::try_from(at.as_secs()).ok()?;
    now.tv_nsec = at.subsec_nanos().into();
    Some(now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::memfd;
    use crate::sys::mmap::{Pages, Sharing};
    use crate::sys::page::PageAligned;
    use std::os::fd::AsFd;
    use std::os::fd::OwnedFd;

    type Wait = fn(&Word, u32, Option<Instant>, &Wake) -> SysResult<Ended>;
    const WAYS: [Wait; 2] = [Word::wait, Word::wait_in_slices];

    fn word(fd: &OwnedFd, sharing: Sharing) -> Word {
        let pages =
            Pages::File { fd: fd.as_fd(), offset: PageAligned::ZERO, sharing, is_memfd: true };
        Word::new(Mmap::new(PageAligned::round_up(1).unwrap(), pages).unwrap(), 8).unwrap()
    }

    #[test]
    fn waiters_are_woken_through_another_mapping() {
        let fd = memfd::create("futex", 4096).unwrap();
        for (wait, sharing) in WAYS.into_iter().zip([Sharing::Shared, Sharing::ReadOnly]) {
            let (mine, other) = (word(&fd, sharing), word(&fd, Sharing::Shared));
            std::thread::scope(|scope| {
                let waiter = scope.spawn(|| wait(&mine, 0, None, &Wake::new()));
                while other.wake(1).unwrap() == 0 {
                    std::thread::yield_now();
                }
                assert_eq!(waiter.join().unwrap(), Ok(Ended::Woken));
            });
        }
    }

    #[test]
    fn none_are_woken_where_none_are_asked_for() {
        let fd = memfd::create("futex", 4096).unwrap();
        let (mine, other) = (word(&fd, Sharing::Shared), word(&fd, Sharing::Shared));
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| mine.wait(0, None, &Wake::new()));
            while !waiter.is_finished() {
                assert_eq!(other.wake(0), Ok(0));
                if other.wake(1) == Ok(1) {
                    break;
                }
            }
        });
    }

    #[cfg(feature = "inject")]
    #[test]
    fn a_wait_goes_on_without_futex_waitv() {
        let this = Some(std::thread::current().id());
        let fd = memfd::create("futex", 4096).unwrap();
        let word = word(&fd, Sharing::Shared);
        for errno in crate::sys::optional::ABSENT_ERRNOS {
            inject::arm("futex_waitv", 0, errno as i32, this);
            let soon = Instant::now().checked_add(Duration::from_millis(5));
            assert_eq!(word.wait(0, soon, &Wake::new()), Ok(Ended::TimedOut), "{errno}");
            assert!(!inject::disarm(this), "it went off");
        }
    }

    #[test]
    fn other_ends() {
        let fd = memfd::create("futex", 4096).unwrap();
        let word = word(&fd, Sharing::Shared);
        for wait in WAYS {
            assert_eq!(wait(&word, 1, None, &Wake::new()), Ok(Ended::Changed));
            let soon = Instant::now().checked_add(Duration::from_millis(5));
            assert_eq!(wait(&word, 0, soon, &Wake::new()), Ok(Ended::TimedOut));
            let cancel = Wake::new();
            std::thread::scope(|scope| {
                let waiter = scope.spawn(|| wait(&word, 0, None, &cancel));
                cancel.call();
                assert_eq!(waiter.join().unwrap(), Ok(Ended::Cancelled));
            });
        }
    }
}
