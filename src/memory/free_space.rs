//! Free space of a linear memory: what it grew by for mappings, and no mapping is in now.
//! Bookkeeping only: nothing here touches a page.

use crate::sys::page::{PageAligned, PageSpan};
use std::collections::{BTreeMap, BTreeSet};

/// Disjoint spans that don't touch each other, found by place and by size.
#[derive(Debug, Default)]
pub struct FreeSpace {
    by_start: BTreeMap<PageAligned, PageSpan>,
    by_size: BTreeSet<(PageAligned, PageAligned)>,
}

impl FreeSpace {
    /// The start of the smallest span that holds `length`; of several, the lowest.
    pub fn find(&self, length: PageAligned) -> Option<PageSpan> {
        let (_, start) = self.by_size.range((length, PageAligned::ZERO)..).next()?;
        PageSpan::new(*start, length)
    }

    /// The same for a start that is a multiple of `align` when `base` is added. Looks at a few of
    /// the smallest that may do, at one that must, and at the last: a memory grows there.
    pub fn find_aligned(
        &self,
        length: PageAligned,
        base: PageAligned,
        align: u64,
    ) -> Option<PageSpan> {
        const FEW: usize = 16;
        let from = |length: PageAligned| self.by_size.range((length, PageAligned::ZERO)..);
        let ample = PageAligned::round_up(align).and_then(|align| length.checked_add(align));
        let ample = ample.and_then(|ample| from(ample).next());
        let last = self.by_start.keys().next_back();
        let starts = from(length).take(FEW).chain(ample).map(|(_, start)| start).chain(last);
        starts.copied().find_map(|start| {
            let free = self.by_start.get(&start)?;
            let address = base.checked_add(free.start())?;
            let aligned = PageAligned::new(address.get().checked_next_multiple_of(align)?)?;
            PageSpan::new(aligned.checked_sub(base)?, length)
                .filter(|span| span.end() <= free.end())
        })
    }

    pub fn contains(&self, span: PageSpan) -> bool {
        let below = self.by_start.range(..=span.start()).next_back();
        below.is_some_and(|(_, free)| free.start() <= span.start() && span.end() <= free.end())
    }

    pub fn spans(&self) -> impl DoubleEndedIterator<Item = PageSpan> {
        self.by_start.values().copied()
    }

    /// Adds a span, joined with what it touches or overlaps.
    pub(super) fn insert(&mut self, span: PageSpan) {
        let (mut start, mut end) = (span.start(), span.end());
        while let Some((_, near)) =
            self.by_start.range(..=end).next_back().filter(|(_, near)| near.end() >= start)
        {
            let near = *near;
            start = start.min(near.start());
            end = end.max(near.end());
            self.take(near);
        }
        self.put(PageSpan::between(start, end).expect("it holds the span that was added"));
    }

    /// Takes a span out; parts of it that are not free are passed over.
    pub(super) fn remove(&mut self, span: PageSpan) {
        while let Some((_, near)) =
            self.by_start.range(..span.end()).next_back().filter(|(_, near)| near.overlaps(span))
        {
            let near = *near;
            self.take(near);
            if let Some(below) = PageSpan::between(near.start(), span.start()) {
                self.put(below);
            }
            if let Some(above) = PageSpan::between(span.end(), near.end()) {
                self.put(above);
            }
        }
    }

    /// Whether both indexes have the same spans. For tests.
    #[cfg(test)]
    pub(super) fn is_consistent(&self) -> bool {
        self.by_size.len() == self.by_start.len()
            && self.spans().all(|span| self.by_size.contains(&(span.length(), span.start())))
    }

    fn put(&mut self, span: PageSpan) {
        self.by_start.insert(span.start(), span);
        self.by_size.insert((span.length(), span.start()));
    }

    fn take(&mut self, span: PageSpan) {
        self.by_start.remove(&span.start());
        self.by_size.remove(&(span.length(), span.start()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::page::host_page_bytes;

    fn aligned(pages: u64) -> PageAligned {
        PageAligned::new(pages * host_page_bytes()).unwrap()
    }

    fn span(start: u64, length: u64) -> PageSpan {
        PageSpan::new(aligned(start), aligned(length)).unwrap()
    }

    #[test]
    fn an_aligned_span_is_found_where_there_is_one() {
        let mut free = FreeSpace::default();
        free.insert(span(3, 9));
        free.insert(span(20, 14));
        let align = 8 * host_page_bytes();
        assert_eq!(free.find_aligned(aligned(4), aligned(0), align), Some(span(8, 4)));
        // The first one would hold it, but at no multiple of 8 pages.
        assert_eq!(free.find_aligned(aligned(5), aligned(0), align), Some(span(24, 5)));
        assert_eq!(free.find_aligned(aligned(5), aligned(1), align), Some(span(7, 5)));
        assert_eq!(free.find_aligned(aligned(11), aligned(0), align), None);
    }
}
