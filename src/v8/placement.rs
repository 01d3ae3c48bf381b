//! Where V8's next reservation will be.
//!
//! A file's huge pages can be mapped as such only where host address and file offset are congruent
//! modulo 2 MiB. V8 takes what the kernel gives it and aligns it to 64 KiB, so a memory may begin
//! at any Wasm page. But the kernel gives the top of the highest gap that is large enough. To take
//! a little of that top moves the next reservation:
//!
//! ```text
//!      gap |                                              | in use      the top of the gap is at any page
//!    trial |              [ reservation                  ]|             asked for as V8 will: tells where it would be
//!    taken |                                         [fff]|             what is kept of the trial, less than 2 MiB
//!       V8 |         [ reservation                  ]     |             begins at a multiple of 2 MiB
//! ```
//!
//! There is no guarantee: another thread may map something in between. Not for handlers.

use crate::sys::page::{HUGE_PAGE_BYTES, PageAligned, WASM_PAGE_BYTES, host_page_bytes};
use crate::sys::placeholder::Placeholder;

/// How many gaps are tried: one that is just large enough for a reservation has no room for a
/// placeholder, too.
const ATTEMPTS: usize = 4;

/// Makes the kernel give the next reservation, of `below_bytes` and `above_bytes` around its base,
/// a place where the base is at a multiple of 2 MiB, for as long as the result lives. `None`: there
/// is no room for it, and placeholders would be in its way.
pub fn prepare(below_bytes: u64, above_bytes: u64) -> Option<Vec<Placeholder>> {
    // V8 asks for as much more as aligning it to a Wasm page may take, and gives the rest back.
    let slack = WASM_PAGE_BYTES.checked_sub(host_page_bytes());
    let slack = slack.expect("a Wasm page holds whole host pages");
    let asked = below_bytes.checked_add(above_bytes)?.checked_add(slack)?;
    let asked = PageAligned::new(asked)?;
    let mut placeholders = Vec::new();
    for _ in 0..=ATTEMPTS {
        let trial = Placeholder::new(asked).ok()?;
        // What the base is too high by.
        let excess = PageAligned::new(base_in(&trial, below_bytes)? % HUGE_PAGE_BYTES)?;
        match trial.keep_last(excess) {
            Some(top) => placeholders.push(top),
            None => return Some(placeholders),
        }
    }
    None
}

/// Where a memory begins if this is its reservation.
fn base_in(reservation: &Placeholder, below_bytes: u64) -> Option<u64> {
    reservation.address().checked_next_multiple_of(WASM_PAGE_BYTES)?.checked_add(below_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As V8 makes one.
    fn reserve(below: u64, above: u64) -> Placeholder {
        let slack = WASM_PAGE_BYTES - host_page_bytes();
        Placeholder::new(PageAligned::new(below + above + slack).unwrap()).unwrap()
    }

    #[test]
    fn the_next_reservation_begins_at_a_huge_page_wherever_the_gap_ends() {
        let (below, above) = (2 << 30, 8 << 30);
        let mut held = Vec::new();
        let mut filled = 0;
        for wasm_pages in 1..40 {
            // The tests of other threads map and unmap meanwhile: it is the way that is tested, not
            // the luck.
            let placed = (0..100).any(|_| {
                held.push(
                    Placeholder::new(PageAligned::new(wasm_pages * WASM_PAGE_BYTES).unwrap())
                        .unwrap(),
                );
                let placeholders = prepare(below, above);
                filled += placeholders.as_ref().map_or(0, Vec::len);
                let reservation = reserve(below, above);
                let base = base_in(&reservation, below).unwrap();
                held.push(reservation);
                base.is_multiple_of(HUGE_PAGE_BYTES)
            });
            assert!(placed);
            held.truncate(8);
        }
        assert!(filled > 0, "some would have begun elsewhere");
    }

    #[test]
    fn a_gap_that_is_just_large_enough_does_not_spoil_it() {
        let (below, above) = (2 << 30, 8 << 30);
        let in_one_of_many = (0..100).any(|_| {
            // Of three side by side, at no multiple, the first and last stay.
            let _skew = Placeholder::new(PageAligned::new(3 * WASM_PAGE_BYTES).unwrap()).unwrap();
            let reservations =
                [reserve(below, above), reserve(below, above), reserve(below, above)];
            let [_first, gap, _last] = reservations;
            let is_skewed = !base_in(&gap, below).unwrap().is_multiple_of(HUGE_PAGE_BYTES);
            drop(gap);
            let placeholders = prepare(below, above);
            let base = base_in(&reserve(below, above), below).unwrap();
            is_skewed
                && placeholders.is_some_and(|placeholders| placeholders.len() > 1)
                && base.is_multiple_of(HUGE_PAGE_BYTES)
        });
        assert!(in_one_of_many);
    }
}
