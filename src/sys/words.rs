//! Words that threads, signal handlers and other processes share: an array of atomic numbers, which
//! takes memory only where one was written, and a bell that wakes those who wait for any of them.
//!
//! One process writes them, by a mapping that it made before the memfd was sealed: the kernel lets
//! no other process write there (F_SEAL_FUTURE_WRITE, since 5.1). Others wait all the same, since a
//! futex that is only waited for need not be writable.
//!
//! Calls: futex, clock_gettime. Everything here is safe in handlers, but for [`Words::new`] and
//! [`Words::open`].

// It makes references to words of a mapping, and gives the kernel addresses of words and times.
#![allow(unsafe_code)]

use super::mmap::{self, Mmap, Pages, Sharing};
use super::page::{PageAligned, host_page_bytes};
use super::{SysError, SysResult, file, memfd, sum, to_usize};
use nix::errno::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Numbers of 64 bits before the words, on a page of their own. The first is the bell.
pub const NUMBERS: usize = 64;

#[derive(Debug)]
pub struct Words {
    mmap: Mmap,
    count: u64,
    is_writable: bool,
}

/// A page for the bell and the numbers, then the words.
fn bytes_of(count: u64) -> SysResult<PageAligned> {
    let words = count.checked_mul(4).and_then(PageAligned::round_up);
    let all = words.and_then(|words| words.get().checked_add(host_page_bytes()));
    all.and_then(PageAligned::new).ok_or(SysError::new("mmap", Errno::EOVERFLOW))
}

impl Words {
    /// So many words, all 0, and what others open them by.
    pub fn new(count: u64) -> SysResult<(Self, OwnedFd)> {
        let length = bytes_of(count)?;
        let fd = memfd::create("words", length.get())?;
        let pages = Pages::File {
            fd: fd.as_fd(),
            offset: PageAligned::ZERO,
            sharing: Sharing::Shared,
            is_memfd: true,
        };
        let mmap = Mmap::new(length, pages)?;
        let _ = mmap::advise(mmap.owned(), mmap::Advice::NoHugePage);
        memfd::seal_future_write(&fd)?;
        Ok((Self { mmap, count, is_writable: true }, fd))
    }

    /// Words of another process, to be read. They are as many as it says, and can't become fewer.
    pub fn open(fd: BorrowedFd<'_>, count: u64) -> SysResult<Self> {
        let refused = SysError::new("mmap", Errno::EBADMSG);
        let length = bytes_of(count)?;
        let seals = memfd::seals(fd).filter(|_| memfd::is_memfd(fd)).ok_or(refused)?;
        let is_whole = file::status(fd)?.byte_length == length.get();
        if !is_whole || !seals.forbid_shrinking() || !seals.forbid_new_writers() {
            return Err(refused);
        }
        let pages = Pages::File {
            fd,
            offset: PageAligned::ZERO,
            sharing: Sharing::ReadOnly,
            is_memfd: true,
        };
        Ok(Self { mmap: Mmap::new(length, pages)?, count, is_writable: false })
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    fn address_of(&self, index: u64) -> Option<u64> {
        let skew = (index < self.count).then(|| index.checked_mul(4)).flatten()?;
        sum(self.mmap.address(), host_page_bytes()).checked_add(skew)
    }

    /// A word that may be written. `None`: there are not so many, or they are another process's.
    pub fn get(&self, index: u64) -> Option<&AtomicU32> {
        let address = self.address_of(index).filter(|_| self.is_writable)?;
        // SAFETY: the mapping has 4 bytes for each word, aligned, readable and writable, as long as
        // it is borrowed. All access in any process is atomic.
        Some(unsafe { AtomicU32::from_ptr(to_usize(address) as *mut u32) })
    }

    /// What a word is now. `None`: there are not so many.
    pub fn load(&self, index: u64) -> Option<u32> {
        let address = self.address_of(index)?;
        // SAFETY: as in `get`; a load only reads, by one instruction.
        let word = unsafe { AtomicU32::from_ptr(to_usize(address) as *mut u32) };
        Some(word.load(Ordering::SeqCst))
    }

    /// One of the numbers, but the bell.
    fn number_at(&self, which: usize) -> &AtomicU64 {
        let which = which.clamp(1, NUMBERS.wrapping_sub(1));
        let address = sum(self.mmap.address(), super::to_u64(which.wrapping_mul(8)));
        // SAFETY: the first page has room for all of them, aligned, as long as it is borrowed. Who
        // writes it has asked whether it may. All access in any process is atomic.
        unsafe { AtomicU64::from_ptr(to_usize(address) as *mut u64) }
    }

    pub fn number(&self, which: usize) -> u64 {
        self.number_at(which).load(Ordering::SeqCst)
    }

    /// Of another process, it stays as it is.
    pub fn set_number(&self, which: usize, value: u64) {
        if self.is_writable {
            self.number_at(which).store(value, Ordering::SeqCst);
        }
    }

    pub fn bell(&self) -> Bell<'_> {
        // SAFETY: as in `number_at`.
        let rings = unsafe { AtomicU32::from_ptr(to_usize(self.mmap.address()) as *mut u32) };
        Bell { rings, is_writable: self.is_writable }
    }
}

/// Counts rings. A thread that waits has read the count before it looked at what it waits for.
#[derive(Debug, Clone, Copy)]
pub struct Bell<'a> {
    rings: &'a AtomicU32,
    is_writable: bool,
}

impl Bell<'_> {
    pub fn rings(&self) -> u32 {
        self.rings.load(Ordering::SeqCst)
    }

    /// Wakes those who wait for something of this number, and some others, in all processes.
    pub fn ring(&self, number: u64) {
        self.wake(bit_of(number));
    }

    /// Wakes all who wait. The bell of another process is not counted: one who is about to wait
    /// may miss it.
    pub fn ring_all(&self) {
        self.wake(u32::MAX);
    }

    fn wake(&self, bits: u32) {
        if self.is_writable {
            self.rings.fetch_add(1, Ordering::SeqCst);
        }
        // SAFETY: FUTEX_WAKE_BITSET uses the address of a word that is borrowed as a key, and takes
        // no times.
        unsafe {
            libc::syscall(
                libc::SYS_futex,
                self.rings.as_ptr(),
                libc::FUTEX_WAKE_BITSET,
                i32::MAX,
                std::ptr::null::<libc::timespec>(),
                std::ptr::null::<u32>(),
                bits,
            );
        }
    }

    /// Waits until it rings after `seen` for this number, until the time, or for no reason.
    pub fn wait(&self, seen: u32, number: u64, until: Time) {
        let at = until.0;
        // SAFETY: the kernel reads the word that is borrowed, and a local time.
        unsafe {
            libc::syscall(
                libc::SYS_futex,
                self.rings.as_ptr(),
                libc::FUTEX_WAIT_BITSET,
                seen,
                &raw const at,
                std::ptr::null::<u32>(),
                bit_of(number),
            );
        }
    }
}

fn bit_of(number: u64) -> u32 {
    1 << (number & 31)
}

/// A moment, by a clock that only goes forward.
#[derive(Debug, Clone, Copy)]
pub struct Time(libc::timespec);

impl Time {
    pub fn now() -> Self {
        let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the call writes one timespec, and `now` is one. Linux always has this clock.
        unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
        Self(now)
    }

    pub fn later_by(self, milliseconds: u32) -> Self {
        let Self(mut at) = self;
        at.tv_sec = at.tv_sec.saturating_add((milliseconds / 1000).into());
        // Below two seconds.
        let nanoseconds = i64::from(milliseconds % 1000).wrapping_mul(1_000_000);
        at.tv_nsec = at.tv_nsec.wrapping_add(nanoseconds);
        if at.tv_nsec >= 1_000_000_000 {
            at.tv_nsec = at.tv_nsec.wrapping_sub(1_000_000_000);
            at.tv_sec = at.tv_sec.saturating_add(1);
        }
        Self(at)
    }

    pub fn is_before(self, other: Self) -> bool {
        (self.0.tv_sec, self.0.tv_nsec) < (other.0.tv_sec, other.0.tv_nsec)
    }

    pub fn sooner(self, other: Self) -> Self {
        if self.is_before(other) { self } else { other }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_zeros_and_take_memory_where_they_are_written() {
        let (words, fd) = Words::new(1 << 32).unwrap();
        for index in [0, 77, (1 << 32) - 1] {
            assert_eq!(words.get(index).unwrap().fetch_add(3, Ordering::Relaxed), 0);
            assert_eq!(words.load(index), Some(3));
        }
        assert!(words.get(1 << 32).is_none() && words.load(1 << 32).is_none());
        assert!(file::status(&fd).unwrap().allocated_bytes < 1 << 20);
    }

    #[test]
    fn others_read_and_wait_and_can_not_write() {
        let (words, fd) = Words::new(1000).unwrap();
        words.set_number(3, 7);
        let file = std::fs::OpenOptions::new();
        let mut file = file;
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&fd));
        let again = file.read(true).write(true).open(path).unwrap();
        assert_eq!(nix::unistd::write(&again, b"x"), Err(Errno::EPERM));
        let others = Words::open(again.as_fd(), 1000).unwrap();
        assert!(others.get(1).is_none());
        others.set_number(3, 8);
        assert_eq!((others.number(3), others.load(999)), (7, Some(0)));
        assert!(Words::open(fd.as_fd(), 5000).is_err(), "there are fewer");
        let unsealed = memfd::create("words", bytes_of(1000).unwrap().get()).unwrap();
        assert!(Words::open(unsealed.as_fd(), 1000).is_err());
        let seen = others.bell().rings();
        let soon = Time::now().later_by(60_000);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while others.load(33) == Some(0) {
                    others.bell().wait(seen, 33, soon);
                }
            });
            words.get(33).unwrap().store(1, Ordering::SeqCst);
            words.bell().ring(33);
        });
        others.bell().ring_all();
        assert_eq!(others.bell().rings(), seen.wrapping_add(1));
        assert!(Time::now().is_before(soon));
    }

    #[test]
    fn a_ring_wakes_who_waits_and_is_not_missed() {
        let (words, _) = Words::new(1).unwrap();
        let bell = words.bell();
        let seen = bell.rings();
        let soon = Time::now().later_by(60_000);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while bell.rings() == seen {
                    bell.wait(seen, 33, soon);
                }
            });
            bell.ring(1);
        });
        bell.wait(seen, 2, soon);
        let now = Time::now();
        bell.wait(bell.rings(), 2, now.later_by(5));
        assert!(now.is_before(Time::now()) && Time::now().is_before(soon));
        assert!(now.is_before(now.later_by(1999)) && now.sooner(soon).is_before(soon));
    }
}
