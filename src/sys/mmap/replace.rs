//! Replaces the pages of an address range. The head of this folder says how.
//!
//! Calls: mmap, or mmap and mremap.

// It maps over other pages.
#![allow(unsafe_code)]

use super::hole::{plug, trip_with_hole};
use super::mapping::{At, Mmap, address_of, raw_mmap};
use super::mremap::move_over;
use super::pages::Pages;
use super::strategy::{Strategy, strategy};
use crate::sys::owned_span::OwnedSpan;
use crate::sys::{SysError, SysResult};

/// Replaces the pages of an address range, in one step or not at all.
///
/// Cost: one `mmap` for zeros and private mappings of memfds; otherwise, and on kernels before
/// 6.12, an `mmap` and an `mremap`.
pub fn replace(span: OwnedSpan<'_>, pages: Pages<'_>) -> SysResult<()> {
    replace_and_plug(strategy(pages), span, pages)
}

/// Moves a mapping of our own, with what was written to it, over an address range of its length: in
/// one step or not at all.
pub fn replace_by_own(span: OwnedSpan<'_>, own: Mmap) -> SysResult<()> {
    move_over(own, span).map_err(|sys| SysError { removed: plug(span), ..sys })
}

fn replace_and_plug(strategy: Strategy, span: OwnedSpan<'_>, pages: Pages<'_>) -> SysResult<()> {
    replace_by(strategy, span, pages).map_err(|sys| SysError { removed: plug(span), ..sys })
}

fn replace_by(strategy: Strategy, span: OwnedSpan<'_>, pages: Pages<'_>) -> SysResult<()> {
    match strategy {
        Strategy::InPlace => {
            trip_with_hole(span)?;
            let at = raw_mmap(At::Over(span), pages)?;
            assert_eq!(
                address_of(at),
                span.span().start().get(),
                "MAP_FIXED gives the address that was asked for"
            );
            Ok(())
        }
        Strategy::MoveOver => {
            let scratch = Mmap::new(span.span().length(), pages)?;
            move_over(scratch, span)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(feature = "inject")]
    use crate::sys::inject;
    use crate::sys::memfd;
    use crate::sys::mmap::Sharing;
    use crate::sys::page::{PageAligned, PageSpan, host_page_bytes};
    use crate::sys::process_map;
    use crate::sys::to_usize;
    use nix::errno::Errno;
    use std::os::fd::AsFd;

    fn pages(count: u64) -> PageAligned {
        PageAligned::new(count * host_page_bytes()).unwrap()
    }

    fn read(address: u64) -> u8 {
        // SAFETY: the tests read what they mapped.
        unsafe { std::ptr::read_volatile(to_usize(address) as *const u8) }
    }

    fn write(address: u64, value: u8) {
        // SAFETY: the tests write what they mapped writable.
        unsafe { std::ptr::write_volatile(to_usize(address) as *mut u8, value) }
    }

    fn inner(whole: &Mmap) -> OwnedSpan<'_> {
        let start = whole.span().start().checked_add(pages(1)).unwrap();
        whole.owned().part(PageSpan::new(start, pages(2)).unwrap()).unwrap()
    }

    #[test]
    fn both_strategies_put_file_pages_and_zeros_in_place() {
        let fd = memfd::create("t", pages(4).get()).unwrap();
        nix::sys::uio::pwrite(&fd, b"A", i64::try_from(pages(1).get()).unwrap()).unwrap();
        for strategy in [Strategy::InPlace, Strategy::MoveOver] {
            for sharing in [Sharing::ReadOnly, Sharing::CopyOnWrite] {
                let whole = Mmap::new(pages(4), Pages::Zeros).unwrap();
                let span = inner(&whole);
                write(span.span().start().get(), b'z');
                let file =
                    Pages::File { fd: fd.as_fd(), offset: pages(1), sharing, is_memfd: true };
                replace_by(strategy, span, file).unwrap();
                assert_eq!(read(span.span().start().get()), b'A');
                if sharing == Sharing::CopyOnWrite {
                    write(span.span().start().get(), b'B');
                }
                replace_by(strategy, span, Pages::Zeros).unwrap();
                assert_eq!(read(span.span().start().get()), 0);
                write(span.span().start().get(), b'c');
            }
        }
        let mut byte = [0_u8];
        nix::sys::uio::pread(&fd, &mut byte, i64::try_from(pages(1).get()).unwrap()).unwrap();
        assert_eq!(&byte, b"A", "no copy-on-write mapping changed the file");
    }

    #[test]
    fn a_refused_mapping_leaves_what_was_there() {
        let fd = memfd::create("t", pages(4).get()).unwrap();
        memfd::seal_write(&fd).unwrap();
        let whole = Mmap::new(pages(4), Pages::Zeros).unwrap();
        let span = inner(&whole);
        write(span.span().start().get(), b'z');
        // A sealed memfd can't be mapped shared and writable: the kernel's own refusal.
        let file = Pages::File {
            fd: fd.as_fd(),
            offset: PageAligned::ZERO,
            sharing: Sharing::Shared,
            is_memfd: true,
        };
        let refused = replace(span, file);
        assert_eq!(refused.unwrap_err().errno, Errno::EPERM);
        assert_eq!(read(span.span().start().get()), b'z');
        let vma = process_map::at_or_after(span.span().start().get()).unwrap().unwrap();
        assert!(
            vma.start <= span.span().start().get()
                && vma.end >= span.span().end().get()
                && vma.writable
        );
    }

    /// The kernel calls a file's own mmap operation when the old pages are gone already. This
    /// file's always fails.
    #[test]
    fn a_file_that_refuses_to_be_mapped_leaves_what_was_there() {
        let Ok(file) = std::fs::File::open("/sys/kernel/notes") else { return };
        let whole = Mmap::new(pages(4), Pages::Zeros).unwrap();
        let span = inner(&whole);
        write(span.span().start().get(), b'z');
        for sharing in [Sharing::ReadOnly, Sharing::CopyOnWrite] {
            let pages = Pages::File {
                fd: file.as_fd(),
                offset: PageAligned::ZERO,
                sharing,
                is_memfd: false,
            };
            replace(span, pages).unwrap_err();
            assert_eq!(read(span.span().start().get()), b'z');
        }
    }

    #[cfg(feature = "inject")]
    #[test]
    fn a_hole_is_plugged_with_zeros() {
        let memfd = memfd::create("test", pages(4).get()).unwrap();
        let file = Pages::File {
            fd: memfd.as_fd(),
            offset: PageAligned::ZERO,
            sharing: Sharing::ReadOnly,
            is_memfd: true,
        };
        let mirror = Mmap::new(pages(4), file).unwrap();
        let this = Some(std::thread::current().id());
        for way in 0..3 {
            let target = Mmap::new(pages(4), Pages::Zeros).unwrap();
            write(target.address(), 7);
            inject::arm("hole", 0, Errno::ENOMEM as i32, this);
            let replaced = match way {
                0 => replace_and_plug(Strategy::InPlace, target.owned(), file),
                1 => replace_and_plug(Strategy::MoveOver, target.owned(), file),
                _ => crate::sys::mmap::move_from(&mirror, mirror.span(), target.owned()),
            };
            assert_eq!(replaced.unwrap_err().errno, Errno::ENOMEM);
            assert!(!inject::disarm(this), "it went off");
            for page in 0..4 {
                assert_eq!(read(target.address() + page * host_page_bytes()), 0);
            }
            write(target.address() + 3 * host_page_bytes(), 1);
        }
    }

    #[cfg(feature = "inject")]
    #[test]
    fn an_injected_failure_at_each_call_leaves_what_was_there() {
        let here = Some(std::thread::current().id());
        for (strategy, call) in [
            (Strategy::InPlace, "mmap"),
            (Strategy::MoveOver, "mmap"),
            (Strategy::MoveOver, "mremap"),
        ] {
            let whole = Mmap::new(pages(4), Pages::Zeros).unwrap();
            write(inner(&whole).span().start().get(), b'z');
            inject::arm(call, 0, libc::ENOMEM, here);
            let refused = replace_by(strategy, inner(&whole), Pages::Zeros);
            assert_eq!(refused.unwrap_err(), SysError::new(call, Errno::ENOMEM));
            assert_eq!(read(inner(&whole).span().start().get()), b'z');
            assert!(!inject::disarm(here));
        }
    }
}
