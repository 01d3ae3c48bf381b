//! Proof that a reservation of V8's is still the one that it was: a secret number in a page of its
//! guard.
//!
//! The registry of mappings is wrong in one case only: a memory has died, V8 has unmapped its
//! reservation with all that is in it, and we have not been told yet. With PROCMAP_QUERY the kernel
//! is asked what is at an address now. Without it that question takes the longer the more VMAs the
//! process has, so another one is asked: does the page that V8 never makes accessible still hold
//! the number that was written there for this memory? Code that can unmap the page has unmapped the
//! mappings too.
//!
//! The page stays inaccessible: `/proc/self/mem` writes past its protection (FOLL_FORCE), so no
//! mapping is made, no VMA is added, and nothing is left that a module could read. It is beyond the
//! largest memory of its kind, so no growth reaches it. It takes one page, and one or two of page
//! tables, for each memory that was mapped into.
//!
//! Calls: open, pread and pwrite on /proc/self/mem, prctl(PR_SET_THP_DISABLE).

// It writes to a page past its protection.
#![allow(unsafe_code)]

use super::lock::{Level, Lock};
use super::page::PageAligned;
use super::page_query::{MEMORY, is_readable, read_past_protection};
use super::{inject, random};
use std::os::fd::AsRawFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

const SECRET_BYTES: usize = 24;
const MARK_BYTES: usize = 32;

/// Drawn once for the process.
static SECRET: OnceLock<[u8; SECRET_BYTES]> = OnceLock::new();

/// A number that was written into a guard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    address: u64,
    /// Given once.
    id: u64,
}

impl Mark {
    /// Marks this page of the guard of a living memory, for as long as that lives. A page that is
    /// marked already keeps its mark. `None`: it can't be marked, and the text tells what is known.
    ///
    /// # Safety
    /// The page is inaccessible, and stays so while its memory lives: its bytes are not zero any
    /// more.
    pub unsafe fn put(page: PageAligned) -> Option<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        // One at a time: two threads that mark a shared memory get the same mark.
        static MARKING: Lock<()> = Lock::new(Level::Marking, ());
        let address = page.get();
        let _alone = MARKING.lock();
        MEMORY.prepare().ok()?;
        if SECRET.get().is_none() {
            let _ = SECRET.set(random::bytes().ok()?);
        }
        if is_readable(address) {
            return None;
        }
        let mut found = [0; MARK_BYTES];
        if read_past_protection(address, &mut found) != Some(true) {
            return None;
        }
        if let Some(id) = id_in(&found) {
            return Some(Self { address, id });
        }
        // Somebody else uses the page.
        if found != [0; MARK_BYTES] {
            return None;
        }
        let mark = Self { address, id: NEXT.fetch_add(1, Ordering::Relaxed) };
        without_huge_pages(|| write_past_protection(address, &mark.bytes()?)).then_some(mark)
    }

    /// Whether it is where it was put: what was mapped in its reservation since is mapped still.
    /// `None`: nothing can be told now. Safe in a handler.
    pub fn is_intact(self) -> Option<bool> {
        let mut found = [0; MARK_BYTES];
        let is_read = read_past_protection(self.address, &mut found)?;
        Some(is_read && id_in(&found) == Some(self.id))
    }

    fn bytes(self) -> Option<[u8; MARK_BYTES]> {
        let mut bytes = [0; MARK_BYTES];
        let (secret, id) = bytes.split_at_mut(SECRET_BYTES);
        secret.copy_from_slice(SECRET.get()?);
        id.copy_from_slice(&self.id.to_ne_bytes());
        Some(bytes)
    }
}

fn id_in(bytes: &[u8; MARK_BYTES]) -> Option<u64> {
    let (secret, id) = bytes.split_at(SECRET_BYTES);
    let id = u64::from_ne_bytes(id.try_into().ok()?);
    (SECRET.get().is_some_and(|ours| secret == ours)).then_some(id)
}

fn write_past_protection(address: u64, bytes: &[u8; MARK_BYTES]) -> Option<()> {
    inject::trip("pwrite_mem").ok()?;
    let position = i64::try_from(address).ok()?;
    // Not kept: a descriptor that writes anywhere is not for others to find.
    let memory = std::fs::OpenOptions::new().write(true).open("/proc/self/mem").ok()?;
    // SAFETY: pwrite reads MARK_BYTES of `bytes`. Through /proc/self/mem it writes to the page at
    // `address`, about which the caller of `put` promises that no code reads or writes it.
    let written =
        unsafe { libc::pwrite(memory.as_raw_fd(), bytes.as_ptr().cast(), MARK_BYTES, position) };
    (usize::try_from(written) == Ok(MARK_BYTES)).then_some(())
}

/// Where transparent huge pages are on for all, the first touch of a page takes 2 MiB. Not here:
/// they are off for the moment.
fn without_huge_pages(write: impl FnOnce() -> Option<()>) -> bool {
    let is_off = |value: Option<libc::c_ulong>| {
        let (call, value) = match value {
            Some(value) => (libc::PR_SET_THP_DISABLE, value),
            None => (libc::PR_GET_THP_DISABLE, 0),
        };
        // SAFETY: both calls take numbers only. They set or return how the kernel backs new pages,
        // and change no contents.
        unsafe { libc::prctl(call, value, 0, 0, 0) }
    };
    let was_on = is_off(None) == 0;
    if was_on {
        is_off(Some(1));
    }
    let written = write().is_some();
    if was_on {
        is_off(Some(0));
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::mmap::{Mmap, Pages, Sharing};
    use std::os::fd::AsFd;

    #[test]
    fn a_mark_is_gone_with_its_pages_and_unlike_that_of_another() {
        let page = PageAligned::round_up(1).unwrap();
        let fd = crate::sys::memfd::create("guard", page.get()).unwrap();
        let guard = || {
            let pages = Pages::File {
                fd: fd.as_fd(),
                offset: PageAligned::ZERO,
                sharing: Sharing::Inaccessible,
                is_memfd: true,
            };
            Mmap::new(page, pages).unwrap()
        };
        let (one, other) = (guard(), guard());
        // SAFETY: an inaccessible page of the test's own.
        let put = |map: &Mmap| unsafe { Mark::put(PageAligned::new(map.address()).unwrap()) };
        let (first, second) = (put(&one).unwrap(), put(&other).unwrap());
        assert_eq!((first.is_intact(), second.is_intact()), (Some(true), Some(true)));
        assert_ne!(first.id, second.id);
        assert_eq!(put(&one), Some(first), "it keeps its mark");
        assert!(!is_readable(one.address()));
        assert_eq!(Mark { address: first.address, id: second.id }.is_intact(), Some(false));
        drop(one);
        assert_eq!(first.is_intact(), Some(false));
        let accessible = Mmap::new(page, Pages::Zeros).unwrap();
        assert_eq!(put(&accessible), None, "a page that can be read is no guard");
    }
}
