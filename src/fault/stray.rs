//! Accesses that a page's protection forbids (SIGSEGV): writes to read-only pages, and anything
//! past a window's end. The process's map has shown that the page is ours.
//!
//! A module could use up the process's VMAs by a store to every second page. So the first few pages
//! of a range are changed one by one, then larger and larger blocks.
//!
//! Handlers run all of it: nothing here may allocate, lock or panic.

use super::counts::Cause;
use super::range::GuardedRange;
use super::{changes, outcome, zeros};
use crate::sys::fault_info::{Fault, FaultKind};
use crate::sys::page::{PageAligned, PageSpan, host_page_bytes};
use crate::sys::process_map::Vma;
use std::sync::atomic::Ordering;

/// How many pages of a range are made writable one by one. The next so many stray writes do it for
/// a block of [`FIRST_BLOCK_PAGES`] each, the next for a block of twice as many, and so on.
///
/// Copies of both numbers: `__test__/model/model.js` (`STRAY_PAGES`, `FIRST_BLOCK_PAGES`),
/// `index.d.ts` (`Mapping.strayWrites`) and ARCHITECTURE.md ("A VMA budget").
pub(super) const SINGLE_PAGES: u32 = 32;
const FIRST_BLOCK_PAGES: u64 = 16;

/// True: the access may be done again, or V8 traps.
pub(super) fn handle(range: &GuardedRange, fault: &Fault, vma: &Vma) -> bool {
    if fault.kind != FaultKind::Protection {
        return false;
    }
    if !vma.readable && zeros::is_zeros(vma, fault.address) {
        return past_end(range, fault, vma);
    }
    match fault.is_write() {
        // A window has slid since: the read succeeds now.
        Some(false) => vma.readable,
        // Another thread was here first, or the memory has just grown.
        Some(true) if vma.writable => true,
        Some(true) => write_to_protected(range, fault, vma),
        None => false,
    }
}

/// A write that the kernel can't make a private page for by itself.
pub(super) fn write_to_protected(range: &GuardedRange, fault: &Fault, vma: &Vma) -> bool {
    // We make no shared mapping read-only. A writable one would let the write through to the file.
    if vma.shared {
        return false;
    }
    if outcome::trap(range, fault, Cause::Readonly) {
        return true;
    }
    if !make_private(range, fault.address, vma) {
        return false;
    }
    outcome::private_page(range, fault);
    true
}

/// The tail of a window, past what it shows.
fn past_end(range: &GuardedRange, fault: &Fault, vma: &Vma) -> bool {
    if outcome::trap(range, fault, Cause::PastEnd) {
        return true;
    }
    // All of it: it is one VMA, and a loop that runs past the end does not stop after a page.
    let is_writable =
        range.part_of(vma).is_some_and(|part| changes::make_all_writable(range, part));
    if is_writable {
        outcome::past_end(range, fault);
    }
    is_writable
}

fn make_private(range: &GuardedRange, address: u64, vma: &Vma) -> bool {
    // All of the VMA that is in our range is ours: its offsets in the file run on.
    let Some(part) = range.part_of(vma) else { return false };
    let block = block_of(range.spec.span, address, range.strays.fetch_add(1, Ordering::Relaxed));
    block
        .and_then(|block| block.within(part))
        .is_some_and(|block| changes::make_writable(range, block))
        // The process has no room for more VMAs: the whole one takes none.
        || changes::make_all_writable(range, part)
}

/// The block that holds an address, after so many stray writes. Blocks are side by side from the
/// start of the range on. `None` on overflow.
pub(super) fn block_of(span: PageSpan, address: u64, strays: u32) -> Option<PageSpan> {
    let pages = match (strays / SINGLE_PAGES).checked_sub(1) {
        None => 1,
        Some(doublings) => FIRST_BLOCK_PAGES.checked_shl(doublings)?,
    };
    let bytes = pages.checked_mul(host_page_bytes()).filter(|bytes| *bytes > 0)?;
    let skew = address.checked_sub(span.start().get())?;
    let start = address.checked_sub(skew.checked_rem(bytes)?)?;
    let end = start.checked_add(bytes)?.min(span.end().get());
    PageSpan::between(PageAligned::new(start)?, PageAligned::new(end)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_grow_and_stay_inside_their_range() {
        let page = host_page_bytes();
        let pages = |first: u64, end: u64| {
            PageSpan::between(
                PageAligned::new(first * page).unwrap(),
                PageAligned::new(end * page).unwrap(),
            )
        };
        let span = pages(5, 1005).unwrap();
        let at = |strays| block_of(span, 100 * page + 7, strays);
        assert_eq!(at(0), pages(100, 101));
        assert_eq!(at(SINGLE_PAGES - 1), pages(100, 101));
        assert_eq!(at(SINGLE_PAGES), pages(85, 101));
        assert_eq!(at(2 * SINGLE_PAGES), pages(69, 101));
        assert_eq!(at(10 * SINGLE_PAGES), pages(5, 1005));
        assert_eq!(at(u32::MAX), None, "a block that no number holds");
        assert_eq!(block_of(span, 4 * page, 0), None, "outside of the range");
    }
}
