//! Words that threads and signal handlers share: an array of atomic numbers, which takes memory
//! only where one was written, and a bell that wakes those who wait for any of them.
//!
//! Calls: futex, clock_gettime. Everything here is safe in handlers, but for [`Words::new`].

// It makes references to words of a mapping, and gives the kernel addresses of words and times.
#![allow(unsafe_code)]

use super::mmap::{Mmap, Pages};
use super::page::PageAligned;
use super::{SysError, SysResult, to_usize};
use nix::errno::Errno;
use std::sync::atomic::{AtomicU32, Ordering};

#[derive(Debug)]
pub struct Words {
    mmap: Mmap,
    count: u64,
}

impl Words {
    /// So many words, all 0.
    pub fn new(count: u64) -> SysResult<Self> {
        let length = count.checked_mul(4).and_then(PageAligned::round_up);
        let length = length.ok_or(SysError::new("mmap", Errno::EOVERFLOW))?;
        Ok(Self { mmap: Mmap::new(length, Pages::Zeros)?, count })
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    /// `None`: there are not so many.
    pub fn get(&self, index: u64) -> Option<&AtomicU32> {
        if index >= self.count {
            return None;
        }
        let skew = index.checked_mul(4)?;
        let address = self.mmap.address().checked_add(skew)?;
        // SAFETY: the mapping has 4 bytes for each word, aligned, readable and writable, as long as
        // it is borrowed. Nobody else knows its address, and all access is atomic.
        Some(unsafe { AtomicU32::from_ptr(to_usize(address) as *mut u32) })
    }
}

/// Counts rings. A thread that waits has read the count before it looked at what it waits for.
#[derive(Debug, Default)]
pub struct Bell(AtomicU32);

impl Bell {
    pub fn rings(&self) -> u32 {
        self.0.load(Ordering::SeqCst)
    }

    /// Wakes those who wait for something of this number, and some others.
    pub fn ring(&self, number: u64) {
        self.wake(bit_of(number));
    }

    /// Wakes all who wait.
    pub fn ring_all(&self) {
        self.wake(u32::MAX);
    }

    fn wake(&self, bits: u32) {
        self.0.fetch_add(1, Ordering::SeqCst);
        // SAFETY: FUTEX_WAKE_BITSET uses the address of a word that `self` holds as a key, and
        // takes no times.
        unsafe {
            libc::syscall(
                libc::SYS_futex,
                self.0.as_ptr(),
                libc::FUTEX_WAKE_BITSET | libc::FUTEX_PRIVATE_FLAG,
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
        // SAFETY: the kernel reads the word that `self` holds, and a local time.
        unsafe {
            libc::syscall(
                libc::SYS_futex,
                self.0.as_ptr(),
                libc::FUTEX_WAIT_BITSET | libc::FUTEX_PRIVATE_FLAG,
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
        let words = Words::new(1 << 32).unwrap();
        for index in [0, 77, (1 << 32) - 1] {
            assert_eq!(words.get(index).unwrap().fetch_add(3, Ordering::Relaxed), 0);
            assert_eq!(words.get(index).unwrap().load(Ordering::Relaxed), 3);
        }
        assert!(words.get(1 << 32).is_none());
    }

    #[test]
    fn a_ring_wakes_who_waits_and_is_not_missed() {
        let bell = Bell::default();
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
