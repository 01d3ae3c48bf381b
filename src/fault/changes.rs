//! The changes that a handler makes to pages, and the VMAs that they take.
//!
//! Each page that is changed cuts its VMA in three, so each function claims VMAs first, and changes
//! nothing if the process has no room for them. Handlers run all of it: nothing here may allocate,
//! lock or panic.
//!
//! Every function asks the same of its caller, which is inside the range's gate: the pages are
//! ours, by the process's map ([`GuardedRange::is_ours`]) or by the range's proof.

// Handlers change pages that their owner has registered for it.
#![allow(unsafe_code)]

use super::range::GuardedRange;
use super::zeros;
use crate::paging::Pager;
use crate::sys::mmap::{self, Sharing};
use crate::sys::owned_span::OwnedSpan;
use crate::sys::page::{PageAligned, PageSpan};
use crate::sys::process_map::Vma;
use crate::sys::{SysError, SysResult, process_map, vma_budget};
use nix::errno::Errno;
use std::sync::atomic::Ordering;

/// VMAs that one changed page adds.
const VMAS_OF_A_PAGE: u64 = 2;

/// Makes pages writable; what is written goes to copies.
pub(super) fn make_writable(range: &GuardedRange, block: PageSpan) -> bool {
    if !vma_budget::take_in_handler(VMAS_OF_A_PAGE) {
        return false;
    }
    if !make_all_writable(range, block) {
        vma_budget::give_back(VMAS_OF_A_PAGE);
        return false;
    }
    range.stray_vmas.fetch_add(VMAS_OF_A_PAGE, Ordering::Relaxed);
    true
}

/// The same of all pages of a VMA in a range, which takes no VMAs.
pub(super) fn make_all_writable(range: &GuardedRange, part: PageSpan) -> bool {
    // They are private, as all pages that we map read-only: no write reaches the file.
    own(range, part).is_some_and(|part| mmap::unprotect_private(part).is_ok())
}

/// Puts zeros in place of a page.
pub(super) fn put_zeros(range: &GuardedRange, page: PageSpan, sharing: Sharing) -> bool {
    if !vma_budget::take_in_handler(VMAS_OF_A_PAGE) {
        return false;
    }
    if !put_zeros_in_all(range, page, sharing) {
        vma_budget::give_back(VMAS_OF_A_PAGE);
        return false;
    }
    range.zero_vmas.fetch_add(VMAS_OF_A_PAGE, Ordering::Relaxed);
    true
}

/// The same of all pages of a VMA from one on, which takes no VMAs.
pub(super) fn put_zeros_in_all(range: &GuardedRange, tail: PageSpan, sharing: Sharing) -> bool {
    range.changed.store(true, Ordering::Release);
    own(range, tail).is_some_and(|tail| zeros::replace(tail, sharing).is_ok())
}

/// The same for a page of a paged region, which takes no VMAs. False: something is there by now.
/// `None`: it can't be done.
pub(super) fn put_zero_page(range: &GuardedRange, pager: &Pager, page: PageSpan) -> Option<bool> {
    range.changed.store(true, Ordering::Release);
    match pager.put_zero_page(own(range, page)?) {
        Ok(()) => Some(true),
        Err(SysError { errno: Errno::EEXIST, .. }) => Some(false),
        Err(_) => None,
    }
}

/// After [`put_zeros`] beside other zeros: they are one VMA, so what was claimed for one is given
/// back.
pub(super) fn zeros_merged(range: &GuardedRange) {
    vma_budget::give_back(VMAS_OF_A_PAGE);
    range.zero_vmas.fetch_sub(VMAS_OF_A_PAGE, Ordering::Relaxed);
}

/// Shows chunks that are present, where pages raise SIGBUS.
pub(super) fn show(
    range: &GuardedRange,
    pager: &Pager,
    span: PageSpan,
    offset: PageAligned,
    sharing: Sharing,
) -> bool {
    if !vma_budget::take_in_handler(VMAS_OF_A_PAGE) {
        // What was shown before makes room: it is shown again when it is touched.
        if !hide_all(range, pager) || !vma_budget::take_in_handler(VMAS_OF_A_PAGE) {
            return false;
        }
    }
    let shown =
        own(range, span).is_some_and(|pages| is_whole(range, pager.show(pages, offset, sharing)));
    if !shown {
        vma_budget::give_back(VMAS_OF_A_PAGE);
        return false;
    }
    range.zero_vmas.fetch_add(VMAS_OF_A_PAGE, Ordering::Relaxed);
    // Beside others that were shown, they are one VMA.
    if let Some(vma) = process_map::holding_in_handler(span.start().get()) {
        let merged = [vma.start < span.start().get(), vma.end > span.end().get()];
        merged.into_iter().filter(|is_merged| *is_merged).for_each(|_| zeros_merged(range));
    }
    true
}

/// Lets all chunks of a range go that were shown. Not where a page of its own may be among them.
pub(super) fn hide_all(range: &GuardedRange, pager: &Pager) -> bool {
    let is_clean = !range.spec.access.is_writable()
        && range.spec.counts.stray_writes() == 0
        && range.strays.load(Ordering::Relaxed) == 0
        && range.stray_vmas.load(Ordering::Relaxed) == 0;
    let shown = range.zero_vmas.load(Ordering::Relaxed);
    // A window's tail is no chunk.
    if !is_clean || shown == 0 || range.spec.is_window {
        return false;
    }
    let span = range.spec.span;
    let offset = range.file_offset_of(span.start());
    let hidden = own(range, span).zip(offset).is_some_and(|(pages, offset)| {
        is_whole(range, pager.hide(pages, offset, Sharing::ReadOnly))
    });
    if hidden {
        vma_budget::give_back(range.zero_vmas.swap(0, Ordering::Relaxed));
    }
    hidden
}

/// The opposite of [`show`], for a piece of a VMA. Not for handlers.
pub(super) fn hide(
    range: &GuardedRange,
    pager: &Pager,
    piece: PageSpan,
    offset: PageAligned,
    vma: &Vma,
) -> bool {
    take_out(range, piece, vma, |pages| pager.hide(pages, offset, sharing_of(vma)))
}

/// Shows the region again in the place of zeros, for a piece of a VMA. Not for handlers.
pub(super) fn show_again(
    range: &GuardedRange,
    pager: &Pager,
    piece: PageSpan,
    offset: PageAligned,
    vma: &Vma,
) -> bool {
    take_out(range, piece, vma, |pages| match pager.is_userfault() {
        true => pager.put(pages, offset, sharing_of(vma)),
        // It is shown when it is touched.
        false => pager.hide(pages, offset, sharing_of(vma)),
    })
}

/// As the pages of a VMA can be seen.
pub(super) fn sharing_of(vma: &Vma) -> Sharing {
    if vma.writable { Sharing::CopyOnWrite } else { Sharing::ReadOnly }
}

/// Replaces a piece of a VMA that [`put_zeros`] or [`show`] has made.
fn take_out(
    range: &GuardedRange,
    piece: PageSpan,
    vma: &Vma,
    replace: impl FnOnce(OwnedSpan<'_>) -> SysResult<()>,
) -> bool {
    // What is on either side stays, in VMAs of its own.
    let is_beside = |part: PageSpan| (part.start() < piece.start(), part.end() > piece.end());
    let beside = range.part_of(vma).map(is_beside);
    let is_split = beside == Some((true, true));
    if is_split && !vma_budget::take_in_handler(VMAS_OF_A_PAGE) {
        return false;
    }
    let is_out = own(range, piece).is_some_and(|pages| is_whole(range, replace(pages)));
    if is_split && is_out {
        range.zero_vmas.fetch_add(VMAS_OF_A_PAGE, Ordering::Relaxed);
    } else if is_split {
        vma_budget::give_back(VMAS_OF_A_PAGE);
    } else if is_out && beside == Some((false, false)) {
        let fewer = |vmas: u64| vmas.checked_sub(VMAS_OF_A_PAGE);
        let counted = range.zero_vmas.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fewer);
        if counted.is_ok() {
            vma_budget::give_back(VMAS_OF_A_PAGE);
        }
    }
    is_out
}

/// Whether it was done. Where the kernel had no memory left half-way, zeros are there that are no
/// page of the region's: they are counted.
fn is_whole(range: &GuardedRange, done: SysResult<()>) -> bool {
    if done.is_err_and(|sys| sys.removed) {
        range.changed.store(true, Ordering::Release);
        range.spec.counts.add_faults(1);
    }
    done.is_ok()
}

/// Pages of a range, to change them. `None`: some are not of the range.
pub(super) fn own(range: &GuardedRange, part: PageSpan) -> Option<OwnedSpan<'_>> {
    // SAFETY: the pages are those that were registered (see the head of this file), and the caller
    // of `Registration::new` promised that a handler may change them. Nobody replaces or unmaps
    // them meanwhile: the owner waits at the gate, and the memory is alive, since a thread is using
    // it.
    (part.within(range.spec.span) == Some(part)).then(|| unsafe { OwnedSpan::assume(part) })
}
