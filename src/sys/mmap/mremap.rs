//! Moves pages over others.
//!
//! Calls: mremap.

// It moves pages over others.
#![allow(unsafe_code)]

use super::hole::{plug, trip_with_hole};
use super::mapping::{Mmap, address_of, pointer};
use super::pages::{Pages, Sharing};
use crate::sys::owned_span::OwnedSpan;
use crate::sys::page::{PageAligned, PageSpan};
use crate::sys::{SysError, SysResult, inject, limits, to_usize};
use nix::errno::Errno;
use nix::sys::mman::{MRemapFlags, mremap};

/// Moves a mapping that we made over a span of its length.
pub(super) fn move_over(scratch: Mmap, target: OwnedSpan<'_>) -> SysResult<()> {
    inject::trip("mremap")?;
    trip_with_hole(target)?;
    let span = target.span();
    assert_eq!(scratch.length, span.length(), "a mapping is moved over as many pages");
    let length = to_usize(span.length().get());
    let target = pointer(span.start().get())?;
    let flags = MRemapFlags::MREMAP_MAYMOVE | MRemapFlags::MREMAP_FIXED;
    // SAFETY: nobody else has the scratch mapping's address, so no reference dangles when it
    // moves. The pages that it replaces are an owned span of the same length.
    let moved = unsafe { mremap(scratch.pointer, length, length, flags, Some(target)) };
    let moved = moved.map_err(|errno| SysError::new("mremap", errno))?;
    // What was the scratch mapping is at the target now: nothing is left to unmap.
    std::mem::forget(scratch);
    assert_eq!(
        address_of(moved),
        span.start().get(),
        "MREMAP_FIXED gives the address that was asked for"
    );
    Ok(())
}

/// Puts the pages of a range of `mirror` in place of others, by one system call: what was touched
/// of them is touched already. The mirror keeps its own pages there, untouched ones.
///
/// `mremap` removes the old pages early (`mremap_to` in mm/mremap.c) and may fail after that for
/// reasons that plain moves don't have. Each is kept away from here: that the kernel can't do it at
/// all ([`can_move_from`]), that the range is in two VMAs (nobody ever splits a mirror), that it
/// may not have so much address space or memory ([`can_mirror`]).
pub fn move_from(mirror: &Mmap, from: PageSpan, over: OwnedSpan<'_>) -> SysResult<()> {
    inject::trip("mremap")?;
    if from.within(mirror.span()) != Some(from) {
        return Err(SysError::new("mremap", Errno::EFAULT));
    }
    // SAFETY: `from` is inside the mirror, of which there are no references and which keeps its
    // addresses.
    unsafe { move_and_leave(from, over) }
}

/// Puts one owner's pages in place of another's, by one system call. Where they were are zeros,
/// mapped as before. If it fails, they are still where they were, and contents of `over` may be
/// lost (`removed`).
///
/// `from` is one VMA of private anonymous pages, and what [`move_from`] says of failures holds: ask
/// [`check_movable`](super::check_movable) first.
pub fn move_owned(from: OwnedSpan<'_>, over: OwnedSpan<'_>) -> SysResult<()> {
    inject::trip("mremap_owned")?;
    // SAFETY: no Rust reference points into an owned span, and its addresses stay mapped.
    unsafe { move_and_leave(from.span(), over) }
}

/// # Safety
/// The contents of `from` may change: no Rust reference points there.
unsafe fn move_and_leave(from: PageSpan, over: OwnedSpan<'_>) -> SysResult<()> {
    let target = over.span();
    if from.length() != target.length() {
        return Err(SysError::new("mremap", Errno::EFAULT));
    }
    let length = to_usize(target.length().get());
    let flags = MRemapFlags::MREMAP_MAYMOVE
        | MRemapFlags::MREMAP_FIXED
        | MRemapFlags::from_bits_retain(libc::MREMAP_DONTUNMAP);
    let (from, to) = (pointer(from.start().get())?, pointer(target.start().get())?);
    let moved = trip_with_hole(over).and_then(|()| {
        // SAFETY: the caller promises that nobody relies on what is at `from`, and it keeps its
        // addresses (MREMAP_DONTUNMAP). The target is an owned span of the same length.
        unsafe { mremap(from, length, length, flags, Some(to)) }
            .map_err(|errno| SysError::new("mremap", errno))
    });
    let moved = moved.map_err(|sys| SysError { removed: plug(over), ..sys })?;
    assert_eq!(
        address_of(moved),
        target.start().get(),
        "MREMAP_FIXED gives the address that was asked for"
    );
    Ok(())
}

/// Whether the kernel moves such pages and leaves their VMA behind (MREMAP_DONTUNMAP, from 5.13 on
/// for files). Tries it with one page, to where the kernel likes: that removes nothing if it fails,
/// as it does on older ones.
pub fn can_move_from(first_page: Pages<'_>) -> bool {
    let Some(page) = PageAligned::round_up(1) else { return false };
    let Ok(mirror) = Mmap::new(page, first_page) else { return false };
    let length = to_usize(page.get());
    let flags = MRemapFlags::MREMAP_MAYMOVE | MRemapFlags::from_bits_retain(libc::MREMAP_DONTUNMAP);
    if inject::trip("mremap").is_err() {
        return false;
    }
    // SAFETY: the page is ours, and nothing is replaced.
    match unsafe { mremap(mirror.pointer, length, length, flags, None) } {
        Ok(pointer) => {
            // SAFETY: the kernel has moved the page there and told nobody else.
            drop(unsafe { Mmap::own(pointer, page) });
            true
        }
        Err(_) => false,
    }
}

/// Whether pages of this kind may be moved from a mirror: not where the kernel accounts for them,
/// since it does so after it has removed what was there.
pub fn can_mirror(sharing: Sharing) -> bool {
    let is_bounded = |limit: SysResult<Option<u64>>| limit.map_or(true, |limit| limit.is_some());
    let private_data_is_bounded =
        || is_bounded(limits::rlimit_data()) || limits::overcommit() == limits::Overcommit::Never;
    !(is_bounded(limits::rlimit_address_space())
        || sharing == Sharing::CopyOnWrite && private_data_is_bounded())
}

/// Whether pages of this kind may be moved from a mirror now. A limit may have come since the
/// mirror was made (prlimit(1)); the kernel would find it passed when the old pages are gone, and
/// then have no address space for others either.
pub fn can_move_now(sharing: Sharing) -> bool {
    !limits::is_bounded_now(sharing == Sharing::CopyOnWrite)
}
