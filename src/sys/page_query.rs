//! What single system calls tell about one page, however many VMAs the process has.
//!
//! For kernels without PROCMAP_QUERY, where the VMA of an address is known by the text of the whole
//! map only. All functions but [`prepare_for_handler`] are safe in a signal handler, and none
//! changes a byte.
//!
//! Calls: rt_sigprocmask and futex with arguments that do nothing; pread on /proc/self/mem and
//! /proc/self/pagemap.

// The kernel is given addresses, good and bad.
#![allow(unsafe_code)]

use super::kept::KeptFile;
use super::page::{PageSpan, host_page_bytes};
use super::pagemap::{self, ENTRY_BYTES};
use super::{SysError, SysResult, to_usize};
use nix::errno::Errno;
use std::os::fd::AsRawFd;
use std::ptr;

/// Addressed by position, and so one description for all threads. Reads of it pass over protection
/// (FOLL_FORCE).
pub(super) static MEMORY: KeptFile = KeptFile::new(c"/proc/self/mem");
static PAGEMAP: KeptFile = KeptFile::new(c"/proc/self/pagemap");

/// Opens what handlers ask. Without them they read the text.
pub fn prepare_for_handler() {
    let _ = MEMORY.prepare();
    let _ = PAGEMAP.prepare();
}

pub fn is_prepared_for_handler() -> bool {
    MEMORY.is_ready() && PAGEMAP.is_ready()
}

/// Whether a read of this address would succeed now.
pub fn is_readable(address: u64) -> bool {
    const SIGNAL_SET_BYTES: usize = 8;
    const NO_SUCH_HOW: libc::c_int = -1;
    // The kernel copies the set in before it looks at what is to be done with it (kernel/signal.c):
    // EFAULT or EINVAL.
    let aligned = to_usize(address & !7);
    // SAFETY: the kernel reads eight bytes at the address, and answers EFAULT where it can't. Then
    // it refuses the operation, which does not exist, so no mask changes.
    let result = unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            NO_SUCH_HOW,
            aligned,
            ptr::null_mut::<libc::c_void>(),
            SIGNAL_SET_BYTES,
        )
    };
    result == -1 && Errno::last() == Errno::EINVAL
}

/// Whether a write to this address would succeed now. A private page becomes the process's own by
/// it, as by the write.
pub fn is_writable(address: u64) -> bool {
    // Adds 0 to the word, then wakes nobody who waits for it: its value would have to be -1, and
    // that nobody waits for.
    let operation = (libc::FUTEX_OP_ADD << 28) | (libc::FUTEX_OP_CMP_EQ << 24) | 0xfff;
    let unused = 0_u32;
    let aligned = to_usize(address & !3);
    // SAFETY: the kernel adds 0 to the word, atomically, so no write of another thread is lost, and
    // answers EFAULT where it can't. `unused` is a local word, which nobody waits for.
    let result = unsafe {
        libc::syscall(
            libc::SYS_futex,
            &raw const unused,
            libc::FUTEX_WAKE_OP | libc::FUTEX_PRIVATE_FLAG,
            1,
            ptr::null::<libc::timespec>(),
            aligned,
            operation,
        )
    };
    result >= 0
}

/// Touches each page of a range as a read would, so that it is there and mapped. EFAULT where one
/// can't be had, and no signal. Changes nothing, whatever is there.
pub(super) fn touch(span: PageSpan) -> SysResult<()> {
    touch_each(span, is_readable)
}

/// The same as a write would, which changes no byte: private pages become copies.
pub(super) fn touch_for_writing(span: PageSpan) -> SysResult<()> {
    touch_each(span, is_writable)
}

fn touch_each(span: PageSpan, is_there: impl Fn(u64) -> bool) -> SysResult<()> {
    let mut pages = (span.start().get()..span.end().get()).step_by(to_usize(host_page_bytes()));
    // What a touch of that page would raise a signal for.
    if pages.all(is_there) { Ok(()) } else { Err(SysError::new("madvise", Errno::EFAULT)) }
}

/// Reads bytes of the process's memory past its protection; false: they are not there. `None`: that
/// can't be told now.
pub(super) fn read_past_protection(address: u64, bytes: &mut [u8]) -> Option<bool> {
    let position = i64::try_from(address).ok()?;
    let read = MEMORY.with(|memory| {
        // SAFETY: the pointer and the length are those of one slice, which is borrowed exclusively.
        unsafe { libc::pread(memory.as_raw_fd(), bytes.as_mut_ptr().cast(), bytes.len(), position) }
    });
    read.ok().map(|read| usize::try_from(read) == Ok(bytes.len()))
}

/// Whether there is a page at this address, accessible or not, and its contents can be had. Brings
/// it in.
pub fn is_there(address: u64) -> bool {
    read_past_protection(address, &mut [0]) == Some(true)
}

/// Whether the page at this address is there and is a file's: not a copy, nor anonymous memory.
/// Brings it in.
pub fn is_file_page(address: u64) -> bool {
    if !is_there(address) {
        return false;
    }
    is_mapped_file_page(address)
}

/// Whether the page at this address is in the page table and is a file's. Brings nothing in.
pub fn is_mapped_file_page(address: u64) -> bool {
    let Some(position) = pagemap::position_of(address) else { return false };
    let mut entry = [0_u8; ENTRY_BYTES];
    let read = PAGEMAP.with(|pagemap| {
        // SAFETY: `entry` is a local of ENTRY_BYTES.
        unsafe {
            libc::pread(pagemap.as_raw_fd(), entry.as_mut_ptr().cast(), ENTRY_BYTES, position)
        }
    });
    let entry = u64::from_ne_bytes(entry);
    read.is_ok_and(|read| usize::try_from(read) == Ok(ENTRY_BYTES))
        && pagemap::is_present_file_page(entry)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::contents;
    use crate::sys::mmap::{self, Mmap, Pages, Sharing};
    use crate::sys::page::{PageAligned, PageSpan};
    use std::os::fd::AsFd;

    #[test]
    fn what_they_tell_is_what_an_access_would_find() {
        prepare_for_handler();
        let page = PageAligned::round_up(1).unwrap();
        let fd = crate::sys::memfd::create("asked", page.get()).unwrap();
        let file = |sharing| Pages::File {
            fd: fd.as_fd(),
            offset: PageAligned::ZERO,
            sharing,
            is_memfd: true,
        };
        for (pages, readable, writable, is_file) in [
            (file(Sharing::ReadOnly), true, false, true),
            (file(Sharing::Shared), true, true, true),
            // Asked whether it can be written, the page is a copy.
            (file(Sharing::CopyOnWrite), true, true, false),
            (file(Sharing::Inaccessible), false, false, true),
            (Pages::Zeros, true, true, false),
            (Pages::ReadonlyZeros, true, false, false),
        ] {
            let map = Mmap::new(page, pages).unwrap();
            for at in [0, 1, 4094, page.get() - 1] {
                let at = map.address() + at;
                let found = (is_readable(at), is_writable(at), is_file_page(at));
                assert_eq!(found, (readable, writable, is_file), "{pages:?}");
            }
        }
        // Past the end of its file, a page is neither. And nothing is, where nothing is mapped.
        let map = Mmap::new(PageAligned::round_up(page.get() + 1).unwrap(), file(Sharing::Shared))
            .unwrap();
        let past = map.address() + page.get();
        assert_eq!(
            (is_readable(past), is_writable(past), is_file_page(past)),
            (false, false, false)
        );
        drop(map);
        assert_eq!(
            (is_readable(past), is_writable(past), is_file_page(past)),
            (false, false, false)
        );
    }

    #[test]
    fn asking_changes_no_byte() {
        let map = Mmap::new(PageAligned::round_up(1).unwrap(), Pages::Zeros).unwrap();
        let page = PageSpan::page_at(map.address()).unwrap();
        // SAFETY: a page of the test's own mapping.
        unsafe { contents::clear(page) };
        assert!(is_writable(map.address() + 8) && is_readable(map.address() + 8));
        // SAFETY: nothing but this test writes to its mapping.
        assert!(unsafe { contents::is_zero(page) });
        mmap::protect_readonly(map.owned().part(page).unwrap()).unwrap();
        assert!(!is_writable(map.address()) && is_readable(map.address()));
    }
}
