//! What the provider's thread does to ranges: taking chunks out of them, and showing those that
//! had failed. It goes through their gates, as handlers do. Not for handlers.

use super::changes;
use super::range::{self, GuardedRange};
use super::zeros;
use crate::error::{PagingError, Result};
use crate::paging::{Pager, Provided, State};
use crate::sys::mmap::{self, Sharing};
use crate::sys::page::{PageAligned, PageSpan, host_page_bytes};
use crate::sys::pagemap::{self, Which};
use crate::sys::process_map::{self, Vma};
use crate::sys::{SysError, SysResult, alloc, thread, to_usize};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Fills a chunk: see [`Pager::provide`]. Where touches of it have failed, or took too long, zeros
/// that took its place and can't have been written go, too.
pub fn provide(pager: &Pager, chunk: u64, source: u64, length: u64) -> Result<Provided> {
    let provided = pager.provide(chunk, source, length)?;
    // Looked at when it is present: touches that fail from now on find that it is.
    if provided == Provided::Done && pager.may_have_zeros(chunk) {
        for range in ranges_of(pager)? {
            if range.changed.load(Ordering::Acquire) {
                // Where it can't be shown, the zeros stay, which were counted.
                let _ = inside(&range, || show_again(&range, pager, chunk));
            }
        }
    }
    Ok(provided)
}

/// Takes a chunk out of all mappings, and out of memory. False: it is not there, it is pinned, or a
/// mapping has written to it.
pub fn evict(pager: &Pager, chunk: u64) -> Result<bool> {
    let Some(eviction) = pager.begin_eviction(chunk)? else { return Ok(false) };
    if !pager.is_userfault() {
        // Ranges that come later, or show the region later, find that it is not present.
        for range in ranges_of(pager)? {
            if !inside(&range, || hide(&range, pager, chunk)).unwrap_or(true) {
                return Ok(false);
            }
        }
    }
    let refused = |sys: SysError| PagingError::NotEvicted { chunk, refused: sys.into() };
    eviction.finish().map_err(refused)?;
    Ok(true)
}

/// Shows chunks that are present in all ranges of their region: for system calls, which fail where
/// a touch would have shown them.
pub fn show(pager: &Pager, first: u64, last: u64) -> Result<()> {
    if pager.is_userfault() {
        return Ok(());
    }
    for range in ranges_of(pager)? {
        for chunk in first..=last {
            // Where it can't be shown, the system call says so.
            inside(&range, || show_missing(&range, pager, chunk));
        }
    }
    Ok(())
}

/// Whether an address is in a range whose pages a provider brings in: code that touches it while it
/// holds a lock would wait for it.
pub fn shows_paged(address: u64) -> bool {
    range::find(address, GuardedRange::is_paged).1
}

fn ranges_of(pager: &Pager) -> Result<Vec<Arc<GuardedRange>>> {
    let mut ranges = Vec::new();
    let mut pushed = Ok(());
    range::for_each_shared(|range| {
        if range.may_show(pager) {
            pushed = pushed.and_then(|()| alloc::push(&mut ranges, Arc::clone(range)));
        }
    });
    pushed?;
    Ok(ranges)
}

/// Runs `work` inside the gate of a range, alone. `None`: the range is gone.
fn inside<R>(range: &GuardedRange, work: impl Fn() -> R) -> Option<R> {
    loop {
        if let Some(done) = range.gate.enter(&work) {
            return Some(done);
        }
        if range.is_gone.load(Ordering::Acquire) {
            return None;
        }
        // Its owner, or a handler, makes a few system calls.
        thread::yield_now();
    }
}

/// Shows each piece of a chunk in a range that is of one VMA to `see`, until it says false.
fn for_each_piece(
    range: &GuardedRange,
    pager: &Pager,
    chunk: u64,
    mut see: impl FnMut(PageSpan, &Vma) -> bool,
) -> SysResult<bool> {
    let is_it = range.pager().is_some_and(|shown| std::ptr::eq(shown, pager));
    let span = pager.bytes_of(chunk).and_then(|(start, length)| range.part_with(start, length));
    let Some(span) = span.filter(|_| is_it) else { return Ok(true) };
    let mut at = span.start();
    while let Some(left) = PageSpan::between(at, span.end()) {
        let Some(vma) = process_map::at_or_after(at.get())? else { return Ok(true) };
        let (start, end) = (PageAligned::round_down(vma.start), PageAligned::round_down(vma.end));
        let Some(piece) = PageSpan::between(start, end).and_then(|it| it.within(left)) else {
            return Ok(true);
        };
        // A memory that died leaves its range behind, and what is there now is somebody else's.
        if range.is_ours(&vma, piece.start().get()) && !see(piece, &vma) {
            return Ok(false);
        }
        at = piece.end();
    }
    Ok(true)
}

/// Touches of a chunk in a range raise SIGBUS again. False: it has pages of its own there, or the
/// kernel refuses.
fn hide(range: &GuardedRange, pager: &Pager, chunk: u64) -> bool {
    let done = for_each_piece(range, pager, chunk, |piece, vma| {
        if vma.inode != pager.inode() {
            return true;
        }
        let is_written = || {
            has(piece, Which::OwnOfFile).unwrap_or_else(|| {
                let mut found = false;
                pagemap::read(piece, |_: pagemap::Run| found = true).is_err() || found
            })
        };
        let hide = |offset| changes::hide(range, pager, piece, offset, vma);
        replace_unwritten(range, piece, vma, is_written, hide)
    });
    done == Ok(true)
}

/// Shows a chunk that is present where its touch would.
fn show_missing(range: &GuardedRange, pager: &Pager, chunk: u64) -> bool {
    let shown = for_each_piece(range, pager, chunk, |piece, vma| {
        let is_present = pager.state(chunk) == Some(State::Present);
        let is_it = is_present && pager.empty_inode() == Some(vma.inode);
        if is_it && let Some(offset) = range.file_offset_of(piece.start()) {
            let sharing = if vma.writable { Sharing::CopyOnWrite } else { Sharing::ReadOnly };
            changes::show(range, pager, piece, offset, sharing);
        }
        true
    });
    shown.is_ok()
}

/// Shows a chunk that is present where there are zeros that nobody has written to.
fn show_again(range: &GuardedRange, pager: &Pager, chunk: u64) -> bool {
    let show = |piece: PageSpan, vma: &Vma| {
        let is_present = pager.state(chunk) == Some(State::Present);
        if is_present && pager.is_userfault() && vma.inode == pager.inode() {
            drop_zero_pages(range, piece, vma);
        }
        if !is_present || !zeros::is_zeros(vma, piece.start().get()) {
            return true;
        }
        // A kernel that can't scan does not tell pages that were read from written ones.
        let is_written = || has(piece, Which::Own).unwrap_or(vma.writable);
        replace_unwritten(range, piece, vma, is_written, |offset| {
            changes::show_again(range, pager, piece, offset, vma)
        })
    };
    let shown = for_each_piece(range, pager, chunk, |piece, vma| {
        if !show(piece, vma) {
            // Beside what was written may be other zeros, in the same VMA.
            let starts = piece.start().get()..piece.end().get();
            let pages = starts.step_by(to_usize(host_page_bytes()));
            for page in pages.filter_map(PageSpan::page_at) {
                if let Ok(Some(vma)) = process_map::at_or_after(page.start().get()) {
                    show(page, &vma);
                }
            }
        }
        true
    });
    shown.is_ok()
}

/// Drops pages of zeros that handlers have put in place of missing ones: see
/// [`changes::put_zero_page`].
fn drop_zero_pages(range: &GuardedRange, piece: PageSpan, vma: &Vma) {
    if has(piece, Which::Zeros) != Some(true) {
        return;
    }
    let Some(owned) = changes::own(range, piece) else { return };
    // Else a thread could write after the look.
    if vma.writable && mmap::protect_readonly(owned).is_err() {
        return;
    }
    // Those that are not found stay: they were counted.
    let _ = pagemap::scan(piece, Which::Zeros, u64::MAX, |run| {
        if let Some(zeros) = changes::own(range, run.span) {
            let _ = mmap::discard(zeros);
        }
    });
    if vma.writable {
        let _ = mmap::unprotect_private(owned);
    }
}

/// Replaces a piece of a VMA, unless it was written. False: it stays.
fn replace_unwritten(
    range: &GuardedRange,
    piece: PageSpan,
    vma: &Vma,
    is_written: impl FnOnce() -> bool,
    replace: impl FnOnce(PageAligned) -> bool,
) -> bool {
    let Some(owned) = changes::own(range, piece) else { return false };
    // Else a thread could write after the look. It faults, and finds the gate closed.
    if vma.writable && mmap::protect_readonly(owned).is_err() {
        return false;
    }
    let offset = range.file_offset_of(piece.start()).filter(|_| !is_written());
    let is_replaced = offset.is_some_and(replace);
    if !is_replaced && vma.writable {
        // Where it fails, writes make pages private one by one.
        let _ = mmap::unprotect_private(owned);
    }
    is_replaced
}

/// Whether it has such pages. `None`: a kernel that can't scan.
fn has(piece: PageSpan, which: Which) -> Option<bool> {
    let mut found = false;
    pagemap::scan(piece, which, 1, |_: pagemap::Run| found = true).ok()?;
    Some(found)
}
