//! The mapping table of a linear memory: which ranges of it are mappings, and which ranges past its
//! original end are ours to use for the next one.
//!
//! Pure bookkeeping: nothing here touches a page. Offsets are bytes from the start of the linear
//! memory.

use super::free_space::FreeSpace;
use crate::access::Access;
use crate::sys::page::{PageAligned, PageSpan};
use std::collections::{BTreeMap, BTreeSet};

/// A mapping, as the table knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    pub span: PageSpan,
    pub access: Access,
    /// Tells it from a later mapping in the same place. Never given twice.
    pub id: u64,
    /// Whether the span goes back to the free space when it is unmapped.
    pub from_free: bool,
    /// The byte of the region at its start.
    pub region_offset: PageAligned,
    /// Which file, and where in it: by these the process's map tells whether the mapping is still
    /// there.
    pub inode: u64,
    pub file_offset: PageAligned,
}

/// The mappings of one linear memory, none of which overlap, and the free space, which overlaps
/// none of them. `Held` is what lives and ends with a mapping.
#[derive(Debug)]
pub struct MappingTable<Held> {
    entries: BTreeMap<PageAligned, (Entry, Held)>,
    /// Where entries start that are read-only, or may become so when they slide.
    protectable: BTreeSet<PageAligned>,
    free: FreeSpace,
    /// Counts what came and went.
    version: u64,
}

impl<Held> Default for MappingTable<Held> {
    fn default() -> Self {
        Self {
            entries: BTreeMap::new(),
            protectable: BTreeSet::new(),
            free: FreeSpace::default(),
            version: 0,
        }
    }
}

impl<Held> MappingTable<Held> {
    /// A mapping that shares a page with this span.
    pub fn overlapping(&self, span: PageSpan) -> Option<&Entry> {
        // Entries don't overlap, so only the last one that starts below the span's end can reach
        // into it.
        let (_, (entry, _)) = self.entries.range(..span.end()).next_back()?;
        entry.span.overlaps(span).then_some(entry)
    }

    /// # Panics
    /// If it overlaps an entry: the caller has asked [`Self::overlapping`] under the same lock.
    pub fn insert(&mut self, entry: Entry, may_be_readonly: bool, held: Held) {
        assert!(self.overlapping(entry.span).is_none(), "mappings never overlap");
        self.free.remove(entry.span);
        self.version = self.version.wrapping_add(1);
        if may_be_readonly {
            self.protectable.insert(entry.span.start());
        }
        self.entries.insert(entry.span.start(), (entry, held));
    }

    pub fn get(&self, start: PageAligned, id: u64) -> Option<(&Entry, &Held)> {
        self.entries
            .get(&start)
            .filter(|(entry, _)| entry.id == id)
            .map(|(entry, held)| (entry, held))
    }

    /// To change what a window shows. The span stays.
    pub fn get_mut(&mut self, start: PageAligned, id: u64) -> Option<(&mut Entry, &mut Held)> {
        self.entries
            .get_mut(&start)
            .filter(|(entry, _)| entry.id == id)
            .map(|(entry, held)| (entry, held))
    }

    /// What starts here.
    pub fn at(&self, start: PageAligned) -> Option<(&Entry, &Held)> {
        self.entries.get(&start).map(|(entry, held)| (entry, held))
    }

    /// The same, to change what it shows. The span stays.
    pub fn at_mut(&mut self, start: PageAligned) -> Option<(&mut Entry, &mut Held)> {
        self.entries.get_mut(&start).map(|(entry, held)| (entry, held))
    }

    /// Another number after each mapping that came or went.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Forgets a mapping whose pages are zeros again, and gives what it held.
    pub fn remove(&mut self, start: PageAligned, id: u64) -> Option<Held> {
        self.get(start, id)?;
        let (entry, held) = self.entries.remove(&start)?;
        self.protectable.remove(&start);
        self.version = self.version.wrapping_add(1);
        if entry.from_free {
            self.free.insert(entry.span);
        }
        Some(held)
    }

    /// Forgets mappings whose pages stay as they are, as the memory's own. They are no free space:
    /// somebody may have their address.
    pub fn disown(&mut self, is_meant: impl Fn(&Held) -> bool) {
        let Self { entries, protectable, version, .. } = self;
        entries.retain(|start, (_, held)| {
            let is_meant = is_meant(held);
            if is_meant {
                protectable.remove(start);
                *version = version.wrapping_add(1);
            }
            !is_meant
        });
    }

    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values().map(|(entry, _)| entry)
    }

    /// Each mapping with what it holds.
    pub fn held(&self) -> impl Iterator<Item = (&Entry, &Held)> {
        self.entries.values().map(|(entry, held)| (entry, held))
    }

    /// Those that may be read-only, in order.
    pub fn protectable(&self) -> impl Iterator<Item = (&Entry, &Held)> {
        self.protectable
            .iter()
            .filter_map(|start| self.entries.get(start))
            .map(|(entry, held)| (entry, held))
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn free(&self) -> &FreeSpace {
        &self.free
    }

    /// Adds space that the memory grew by for us. What is a mapping there already stays one.
    pub fn add_free(&mut self, span: PageSpan) {
        let mut at = span.start();
        // Entries don't overlap, so only the last one that starts below can reach into it.
        let below = self.entries.range(..at).next_back();
        for (_, (entry, _)) in below.into_iter().chain(self.entries.range(at..span.end())) {
            if let Some(gap) = PageSpan::between(at, entry.span.start()) {
                self.free.insert(gap);
            }
            at = entry.span.end().max(at);
        }
        if let Some(rest) = PageSpan::between(at, span.end()) {
            self.free.insert(rest);
        }
    }

    /// Makes these spans the free space below `end`; what is a mapping stays one.
    pub fn set_free_below(&mut self, end: PageAligned, free: &[PageSpan]) {
        if let Some(below) = PageSpan::between(PageAligned::ZERO, end) {
            self.free.remove(below);
        }
        free.iter()
            .filter_map(|span| PageSpan::between(span.start(), span.end().min(end)))
            .for_each(|span| self.add_free(span));
    }

    pub fn forget_free(&mut self) {
        self.free = FreeSpace::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::page::host_page_bytes;
    use proptest::prelude::*;

    const PAGES: u64 = 64;

    fn aligned(pages: u64) -> PageAligned {
        PageAligned::new(pages * host_page_bytes()).unwrap()
    }

    fn span(start: u64, length: u64) -> PageSpan {
        PageSpan::new(aligned(start), aligned(length)).unwrap()
    }

    fn entry(span: PageSpan, id: u64, from_free: bool) -> Entry {
        Entry {
            span,
            access: Access::Readonly,
            id,
            from_free,
            region_offset: PageAligned::ZERO,
            inode: 1,
            file_offset: PageAligned::ZERO,
        }
    }

    fn pages_of(span: PageSpan) -> std::ops::Range<usize> {
        let page = |at: PageAligned| usize::try_from(at.get() / host_page_bytes()).unwrap();
        page(span.start())..page(span.end())
    }

    /// The same table, page by page, the slow and obvious way.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    enum Page {
        Plain,
        Free,
        Mapped(u64),
    }

    #[derive(Debug, Clone)]
    enum Step {
        MapAt { start: u64, length: u64 },
        MapFree { length: u64 },
        Unmap { nth: usize },
        AddFree { start: u64, length: u64 },
        SetFreeBelow { end: u64, free: Vec<bool> },
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let range = || (0..PAGES - 1).prop_flat_map(|start| (Just(start), 1..=PAGES - start));
        let step = prop_oneof![
            range().prop_map(|(start, length)| Step::MapAt { start, length: length.min(9) }),
            (1..12_u64).prop_map(|length| Step::MapFree { length }),
            (0..16_usize).prop_map(|nth| Step::Unmap { nth }),
            range().prop_map(|(start, length)| Step::AddFree { start, length }),
            (0..=PAGES, proptest::collection::vec(any::<bool>(), PAGES as usize))
                .prop_map(|(end, free)| Step::SetFreeBelow { end, free }),
        ];
        proptest::collection::vec(step, 1..80)
    }

    /// The free pages that make up the smallest sufficient run, lowest first, as the model finds
    /// them.
    fn model_find(model: &[Page], length: usize) -> Option<usize> {
        let mut best: Option<(usize, usize)> = None;
        let mut at = 0;
        while at < model.len() {
            let run = model[at..].iter().take_while(|page| **page == Page::Free).count();
            if run >= length && best.is_none_or(|(size, _)| run < size) {
                best = Some((run, at));
            }
            at += run.max(1);
        }
        best.map(|(_, at)| at)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 2000 }))]

        #[test]
        fn the_table_agrees_with_a_model_of_single_pages(steps in steps()) {
            let mut table = MappingTable::default();
            let mut model = [Page::Plain; PAGES as usize];
            let mut live: Vec<Entry> = Vec::new();
            for (id, step) in steps.into_iter().enumerate() {
                let id = id as u64;
                match step {
                    Step::MapAt { start, length } => {
                        let span = span(start, length);
                        let taken = model[pages_of(span)].iter().any(|page| matches!(page, Page::Mapped(_)));
                        prop_assert_eq!(table.overlapping(span).is_some(), taken);
                        if !taken {
                            let from_free = model[pages_of(span)].iter().all(|page| *page == Page::Free);
                            prop_assert_eq!(table.free().contains(span), from_free);
                            let new = entry(span, id, from_free);
                            table.insert(new, true, ());
                            live.push(new);
                            model[pages_of(span)].fill(Page::Mapped(id));
                        }
                    }
                    Step::MapFree { length } => {
                        let found = table.free().find(aligned(length));
                        let expected = model_find(&model, length as usize);
                        prop_assert_eq!(found.map(|span| pages_of(span).start), expected);
                        if let Some(span) = found {
                            let new = entry(span, id, true);
                            table.insert(new, true, ());
                            live.push(new);
                            model[pages_of(span)].fill(Page::Mapped(id));
                        }
                    }
                    Step::Unmap { nth } if !live.is_empty() => {
                        let gone = live.remove(nth % live.len());
                        prop_assert!(table.get(gone.span.start(), gone.id).is_some());
                        prop_assert!(table.get(gone.span.start(), gone.id + 1000).is_none());
                        table.remove(gone.span.start(), gone.id);
                        let left = if gone.from_free { Page::Free } else { Page::Plain };
                        model[pages_of(gone.span)].fill(left);
                    }
                    Step::Unmap { .. } => {}
                    Step::AddFree { start, length } => {
                        table.add_free(span(start, length));
                        for page in &mut model[pages_of(span(start, length))] {
                            if *page == Page::Plain {
                                *page = Page::Free;
                            }
                        }
                    }
                    Step::SetFreeBelow { end, free } => {
                        let runs = free.chunk_by(|a, b| a == b);
                        let spans = runs.scan(0, |start, run| {
                            let length = run.len() as u64;
                            *start += length;
                            Some((run[0], span(*start - length, length)))
                        });
                        let spans: Vec<PageSpan> =
                            spans.filter_map(|(is_free, span)| is_free.then_some(span)).collect();
                        table.set_free_below(aligned(end), &spans);
                        for (page, is_free) in model.iter_mut().zip(&free).take(end as usize) {
                            if !matches!(page, Page::Mapped(_)) {
                                *page = if *is_free { Page::Free } else { Page::Plain };
                            }
                        }
                    }
                }
                let mut seen = [Page::Plain; PAGES as usize];
                for free in table.free().spans() {
                    seen[pages_of(free)].fill(Page::Free);
                }
                for entry in table.entries() {
                    seen[pages_of(entry.span)].fill(Page::Mapped(entry.id));
                }
                prop_assert_eq!(seen, model);
                prop_assert!(table.free().is_consistent());
                prop_assert_eq!(table.is_empty(), live.is_empty());
            }
        }
    }
}
