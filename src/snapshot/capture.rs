//! Taking a snapshot.

use super::format::{Header, MOST_PIECES, Tail};
use super::{KeptMapping, KeptRegion, Settings, Snapshot, data_offset_for};
use crate::error::{Code, Error, Result};
use crate::mapping::{Access, MappingTable};
use crate::memory::{Held, Memory, Place};
use crate::region::Region;
use crate::sys::page::{PageAligned, PageSpan, host_page_bytes};
use crate::sys::pagemap::{self, Which};
use crate::sys::{SysResult, contents, file, memfd, process_map};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

/// The region that a mapping or window of a memory shows, which the table does not hold.
#[derive(Debug, Clone)]
pub struct MappedRegion {
    pub start: PageAligned,
    /// `None` for an empty window.
    pub region: Option<Arc<Region>>,
    /// From the first page's start.
    pub byte_length: u64,
}

/// Zeros between two stretches of data that are laid with them: cheaper than two more areas for each memory that shows them.
const SMALL_GAP_BYTES: u64 = 1 << 20;

impl Memory {
    /// Keeps the memory as it is. [`Snapshot::finish`] completes it.
    ///
    /// The caller holds the memory, and no thread is in it. Cost: grows with the pages that were ever written.
    pub fn capture(
        &self,
        place: Place,
        name: &str,
        regions: &[MappedRegion],
        settings: Settings,
    ) -> Result<Snapshot> {
        let failed = |sys| Error::from_sys(Code::OutOfMemory, "can't take a snapshot", sys);
        let state = self.lock_at(place)?;
        let mappings = keep_mappings(&state.table, regions)?;
        let header = Header {
            byte_length: place.byte_length(),
            data_offset: data_offset_for(place.base()),
            tail_bytes: 0,
            checksum: 0,
        };
        let fd = memfd::create_growing(name).map_err(failed)?;
        file::set_length(&fd, header.tail_offset()).map_err(failed)?;
        let copy = Copy { fd: fd.as_fd(), base: place.base(), data_offset: header.data_offset };

        let mut data = Vec::new();
        for stretch in own_stretches(&state.table, place.byte_length()) {
            for candidate in written_pages(self.addresses(stretch)?).map_err(failed)? {
                copy.data_of(candidate, &mut data).map_err(failed)?;
            }
        }
        let mut written = Vec::new();
        for mapping in mappings.iter().filter(|mapping| mapping.access == Access::Private) {
            let Some(target) = mapping.shown_part().map(|span| self.addresses(span)).transpose()? else {
                continue;
            };
            for own in own_pages(target).map_err(failed)? {
                written.push(copy.all_of(own).map_err(failed)?);
            }
        }
        drop(state);
        let tail = Tail { pieces: pieces_of(&data), written, metadata: String::new() };
        let snapshot = Snapshot::new(name, fd, &header, tail, settings);
        snapshot.set_mappings(mappings)?;
        Ok(snapshot)
    }
}

impl KeptMapping {
    /// What of it shows a region, in whole pages.
    pub(super) fn shown_part(&self) -> Option<PageSpan> {
        let length = PageAligned::round_up(self.shown.as_ref()?.byte_length)?;
        PageSpan::new(self.span.start(), length)?.within(self.span)
    }
}

fn keep_mappings(table: &MappingTable<Held>, regions: &[MappedRegion]) -> Result<Vec<KeptMapping>> {
    let keep = |(entry, held): (&crate::mapping::Entry, &Held)| {
        let start = entry.span.start();
        let known = regions.iter().find(|known| known.start == start).ok_or_else(|| {
            let message = format!(
                "the mapping at {} was made by another thread; take the snapshot there, or unmap it",
                start.get()
            );
            Error::new(Code::RegionClosed, message)
        })?;
        let is_empty = held.window.as_ref().is_some_and(|window| window.shown() == PageAligned::ZERO);
        let shown = match &known.region {
            _ if is_empty => None,
            Some(region) => Some(KeptRegion {
                region: Arc::clone(region),
                byte_offset: entry.region_offset,
                byte_length: known.byte_length,
            }),
            None => return Err(Error::new(Code::Internal, "a mapping shows no region")),
        };
        Ok(KeptMapping {
            span: entry.span,
            shown,
            access: entry.access,
            from_free: entry.from_free,
            window: held.window.as_ref().map(crate::window::Window::kind),
        })
    };
    table.held().map(keep).collect()
}

/// What of a memory is no mapping, as offsets.
pub(super) fn own_stretches(table: &MappingTable<Held>, byte_length: PageAligned) -> Vec<PageSpan> {
    let mut stretches = Vec::new();
    let mut at = PageAligned::ZERO;
    for entry in table.entries() {
        stretches.extend(PageSpan::between(at, entry.span.start().min(byte_length)));
        at = entry.span.end();
    }
    stretches.extend(PageSpan::between(at, byte_length));
    stretches
}

/// The areas of the process that lie in a range, and whether each shows a file.
pub(super) fn areas_in(target: PageSpan) -> SysResult<Vec<(PageSpan, bool)>> {
    let mut areas = Vec::new();
    let mut at = target.start();
    while let Some(rest) = PageSpan::between(at, target.end()) {
        let Some(vma) = process_map::at_or_after(at.get())?.filter(|vma| vma.start < rest.end().get()) else {
            break;
        };
        let (Some(start), Some(end)) = (PageAligned::new(vma.start), PageAligned::new(vma.end)) else {
            break;
        };
        areas.extend(
            PageSpan::between(start, end)
                .and_then(|area| area.within(rest))
                .map(|area| (area, vma.inode != 0)),
        );
        at = end;
    }
    Ok(areas)
}

/// Pages of a memory's own that may hold something: in anonymous memory those that were written. Where an earlier snapshot is laid, the
/// page tables say nothing of what it shows, so it is all of them.
fn written_pages(target: PageSpan) -> SysResult<Vec<PageSpan>> {
    let mut pages = Vec::new();
    for (area, is_file) in areas_in(target)? {
        if is_file {
            pages.push(area);
        } else {
            // Where nothing can be told, all of it is looked at.
            pages.extend(own_pages(area).unwrap_or_else(|_| vec![area]));
        }
    }
    Ok(pages)
}

fn own_pages(target: PageSpan) -> SysResult<Vec<PageSpan>> {
    let mut pages = Vec::new();
    let scanned = pagemap::scan(target, Which::Own, u64::MAX, |run| pages.push(run.span));
    if scanned.is_err() {
        pages.clear();
        pagemap::read(target, |run| match pages.last_mut() {
            Some(last) if last.end() == run.span.start() => {
                *last = PageSpan::between(last.start(), run.span.end()).unwrap_or(*last);
            }
            _ => pages.push(run.span),
        })?;
    }
    Ok(pages)
}

struct Copy<'fd> {
    fd: BorrowedFd<'fd>,
    base: PageAligned,
    data_offset: PageAligned,
}

impl Copy<'_> {
    /// Copies what is not zero of a range, and adds where it lies in the memory.
    fn data_of(&self, range: PageSpan, data: &mut Vec<PageSpan>) -> SysResult<()> {
        let mut run: Option<PageSpan> = None;
        let mut at = range.start();
        while let Some(page) = PageSpan::between(at, range.end()).map(|rest| rest.first(host_page_bytes())) {
            // SAFETY: a page of the memory's own, below its length, which the caller holds.
            if unsafe { contents::is_zero(page) } {
                self.add(run.take(), data)?;
            } else {
                let start = run.map_or(page.start(), PageSpan::start);
                run = PageSpan::between(start, page.end());
            }
            at = page.end();
        }
        self.add(run, data)
    }

    fn add(&self, run: Option<PageSpan>, data: &mut Vec<PageSpan>) -> SysResult<()> {
        let Some(run) = run else { return Ok(()) };
        data.push(self.all_of(run)?);
        Ok(())
    }

    /// Copies a range, and gives where it lies in the memory.
    fn all_of(&self, range: PageSpan) -> SysResult<PageSpan> {
        let overflow = crate::sys::SysError::new("pwrite", nix::errno::Errno::EOVERFLOW);
        let offset = range.start().checked_sub(self.base).ok_or(overflow)?;
        let at = self.data_offset.checked_add(offset).ok_or(overflow)?;
        file::write_all_from(self.fd, at.get(), range.start().get(), range.length().get())?;
        PageSpan::new(offset, range.length()).ok_or(overflow)
    }
}

/// What is laid from the file: the data, joined over gaps that are small, and further over the smallest ones until there are few pieces.
fn pieces_of(data: &[PageSpan]) -> Vec<PageSpan> {
    let mut gaps: Vec<u64> = data.windows(2).map(gap).collect();
    // Gaps that stay: the largest, and none that is small.
    gaps.sort_unstable_by(|a, b| b.cmp(a));
    let least = gaps.get(MOST_PIECES.saturating_sub(1)).map_or(0, |gap| gap.saturating_add(1));
    let least = least.max(SMALL_GAP_BYTES);
    let mut pieces: Vec<PageSpan> = Vec::new();
    for span in data {
        match pieces.last_mut() {
            Some(last) if gap(&[*last, *span]) < least => {
                *last = PageSpan::between(last.start(), span.end()).unwrap_or(*last);
            }
            _ => pieces.push(*span),
        }
    }
    pieces
}

fn gap(pair: &[PageSpan]) -> u64 {
    match pair {
        [first, second] => second.start().get().saturating_sub(first.end().get()),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn span(start: u64, end: u64) -> PageSpan {
        let page = host_page_bytes();
        let at = |pages: u64| PageAligned::new(pages * page).unwrap();
        PageSpan::between(at(start), at(end)).unwrap()
    }

    #[test]
    fn small_gaps_are_joined_and_large_ones_are_not() {
        let far = SMALL_GAP_BYTES / host_page_bytes();
        assert_eq!(pieces_of(&[]), []);
        assert_eq!(pieces_of(&[span(0, 1), span(2, 3)]), [span(0, 3)]);
        let apart = [span(0, 1), span(far + 1, far + 2)];
        assert_eq!(pieces_of(&apart), apart);
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
            let pieces = pieces_of(&data);
            prop_assert!(pieces.len() <= MOST_PIECES);
            prop_assert!(data.iter().all(|span| pieces.iter().any(|piece| span.within(*piece) == Some(*span))));
            prop_assert!(pieces.windows(2).all(|pair| gap(pair) >= SMALL_GAP_BYTES));
            prop_assert!(pieces.iter().all(|piece| data.iter().any(|span| span.start() == piece.start())));
        }
    }
}
