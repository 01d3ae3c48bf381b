//! Lists of page spans: in order, none over another. How they are joined, and how files hold them.
//!
//! Pure bookkeeping: nothing here looks at a page or at a memory.

use crate::error::{Error, Flaw, Result};
use crate::sys::alloc::{self, Refused};
use crate::sys::page::{PageAligned, PageSpan};
use crate::wire::List;
use serde::{Deserialize, Serialize};

/// Files count in pages of this size, whatever the host's pages are.
pub(super) const UNIT_BYTES: u64 = 4096;
/// As many as the largest memory has.
const MOST_UNITS: usize = 1 << 24;

/// Each piece costs every memory that shows it a VMA or two. A hostile file could ask for as many
/// as the process may have.
pub(super) const MOST_PIECES: usize = 16;

/// Zeros between two runs of data that become a part of one piece: they cost less than two more
/// VMAs for each memory that shows them.
const SMALL_GAP_BYTES: u64 = 1 << 20;

/// Sorts spans, and joins those that overlap or touch.
pub(super) fn united(mut spans: Vec<PageSpan>) -> Result<Vec<PageSpan>, Refused> {
    // In place: a stable sort takes memory.
    spans.sort_unstable_by_key(|span| span.start());
    let mut united: Vec<PageSpan> = alloc::with_room(spans.len())?;
    for span in spans {
        match united.last_mut() {
            Some(last) if last.end() >= span.start() => *last = hull(*last, span),
            _ => united.push(span),
        }
    }
    Ok(united)
}

/// The pieces that hold all of `data`, which is in order: joined over small gaps, then over the
/// smallest others until there are at most [`MOST_PIECES`].
pub(super) fn pieces_of(data: &[PageSpan]) -> Result<Vec<PageSpan>, Refused> {
    let mut gaps: Vec<u64> = alloc::collected(data.windows(2).map(gap))?;
    gaps.sort_unstable_by(|a, b| b.cmp(a));
    // A gap of at least so many bytes stays. Of the largest ones there may be one less than pieces.
    let least = gaps.get(MOST_PIECES - 1).map_or(0, |largest_to_join| {
        largest_to_join.checked_add(1).expect("a gap is a part of a memory")
    });
    let least = least.max(SMALL_GAP_BYTES);
    let mut pieces: Vec<PageSpan> = Vec::new();
    for span in data {
        match pieces.last_mut() {
            Some(last) if gap(&[*last, *span]) < least => *last = hull(*last, *span),
            _ => alloc::push(&mut pieces, *span)?,
        }
    }
    Ok(pieces)
}

/// From the start of the first to the end of the one that ends last.
fn hull(first: PageSpan, second: PageSpan) -> PageSpan {
    PageSpan::between(first.start(), first.end().max(second.end()))
        .expect("it holds the first span, which is not empty")
}

/// The bytes between two spans that follow each other.
fn gap(pair: &[PageSpan]) -> u64 {
    let [first, second] = pair else { unreachable!("windows(2) gives pairs") };
    distance(first.end(), second.start())
}

fn distance(from: PageAligned, to: PageAligned) -> u64 {
    to.checked_sub(from).expect("spans are in order, none over another").get()
}

/// The form of a list of spans in a file. Two columns, since there may be millions.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SavedSpans {
    /// Of each span: the units between the end of the one before it and its start.
    gaps: List<u32, MOST_UNITS>,
    /// Of each span: its units.
    lengths: List<u32, MOST_UNITS>,
}

impl SavedSpans {
    pub(super) fn of(spans: &[PageSpan]) -> Result<Self, Refused> {
        let units = |from: PageAligned, to: PageAligned| {
            u32::try_from(distance(from, to) / UNIT_BYTES).expect("no memory has 2^32 pages")
        };
        let mut gaps = alloc::with_room(spans.len())?;
        let mut lengths = alloc::with_room(spans.len())?;
        let mut at = PageAligned::ZERO;
        for span in spans {
            gaps.push(units(at, span.start()));
            lengths.push(units(span.start(), span.end()));
            at = span.end();
        }
        let column = |units| List::new(units).expect("no memory has so many pages");
        Ok(Self { gaps: column(gaps), lengths: column(lengths) })
    }

    /// The spans, all of which must be in a memory of this size, and at most so many.
    pub(super) fn decode(&self, byte_length: PageAligned, most: usize) -> Result<Vec<PageSpan>> {
        let damaged = || Error::from(Flaw::Spans);
        if self.gaps.len() != self.lengths.len() || self.lengths.len() > most {
            return Err(damaged());
        }
        let mut spans = alloc::with_room(self.lengths.len())?;
        let mut at = 0_u64;
        let after = |at: u64, units: u32| {
            let bytes = u64::from(units).checked_mul(UNIT_BYTES);
            bytes.and_then(|bytes| at.checked_add(bytes)).ok_or_else(damaged)
        };
        for (gap, length) in self.gaps.iter().zip(self.lengths.iter()) {
            let start = after(at, *gap)?;
            let end = after(start, *length)?;
            let span = PageAligned::new(start).zip(PageAligned::new(end));
            let span = span.and_then(|(start, end)| PageSpan::between(start, end));
            spans.push(span.filter(|span| span.end() <= byte_length).ok_or_else(damaged)?);
            at = end;
        }
        Ok(spans)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::page::host_page_bytes;
    use proptest::prelude::*;

    fn span(start: u64, end: u64) -> PageSpan {
        let page = host_page_bytes();
        let at = |pages: u64| PageAligned::new(pages * page).unwrap();
        PageSpan::between(at(start), at(end)).unwrap()
    }

    #[test]
    fn small_gaps_are_joined_and_large_ones_are_not() {
        let far = SMALL_GAP_BYTES / host_page_bytes();
        assert_eq!(pieces_of(&[]).unwrap(), []);
        assert_eq!(pieces_of(&[span(0, 1), span(2, 3)]).unwrap(), [span(0, 3)]);
        let apart = [span(0, 1), span(far + 1, far + 2)];
        assert_eq!(pieces_of(&apart).unwrap(), apart);
    }

    #[test]
    fn spans_are_united_in_order() {
        assert_eq!(
            united(vec![span(5, 7), span(0, 2), span(1, 3), span(3, 4), span(6, 9)]).unwrap(),
            [span(0, 4), span(5, 9)]
        );
        assert_eq!(united(vec![]).unwrap(), []);
    }

    proptest! {
        #[test]
        fn pieces_are_few_and_hold_all_data(lengths in proptest::collection::vec((1..2000_u64, 1..5_u64), 0..40)) {
            let mut at = 0;
            let data: Vec<PageSpan> = lengths.into_iter().map(|(gap, length)| {
                let span = span(at + gap, at + gap + length);
                at += gap + length;
                span
            }).collect();
            let pieces = pieces_of(&data).unwrap();
            prop_assert!(pieces.len() <= MOST_PIECES);
            prop_assert!(data.iter().all(|span| pieces.iter().any(|piece| span.within(*piece) == Some(*span))));
            prop_assert!(pieces.windows(2).all(|pair| gap(pair) >= SMALL_GAP_BYTES));
            prop_assert!(pieces.iter().all(|piece| data.iter().any(|span| span.start() == piece.start())));
        }
    }
}
