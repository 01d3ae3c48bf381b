//! Taking a snapshot.

// It reads the pages of a memory.
#![allow(unsafe_code)]

use super::format::{Header, Kept, Mac, united};
use super::metadata::{MOST_FREE, MOST_PIECES};
use super::{Content, KeptMapping, KeptRegion, Settings, Snapshot, data_offset_for};
use crate::error::{Code, Error, Result};
use crate::memory::table::MappingTable;
use crate::memory::{Held, Memory};
use crate::region::Region;
use crate::sys::alloc;
use crate::sys::checked_fd::Description;
use crate::sys::page::{PageAligned, PageSpan, host_page_bytes};
use crate::sys::pagemap::{self, Which};
use crate::sys::{SysResult, contents, file, memfd, process_map};
use crate::v8::live_memory::LiveMemory;
use crate::window::Window;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// The region that a mapping or window of a memory shows, which the table does not hold.
#[derive(Debug, Clone)]
pub struct MappedRegion {
    pub start: PageAligned,
    /// `None` for an empty window.
    pub region: Option<Arc<Region>>,
    /// From the first page's start.
    pub byte_length: u64,
    /// Which byte of the first page is the first that the caller asked for.
    pub skip: u64,
    /// Whether missing pages end its use: for whoever restores it.
    pub strict: bool,
}

/// Zeros between two stretches of data that are laid with them: cheaper than two more VMAs for
/// each memory that shows them.
const SMALL_GAP_BYTES: u64 = 1 << 20;

impl Memory {
    /// Keeps the memory as it is. [`Snapshot::finish`] completes it.
    ///
    /// The caller holds the memory, and no thread is in it. Cost: grows with the pages that were
    /// ever written.
    pub fn capture(
        &self,
        place: LiveMemory<'_>,
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
            metadata_bytes: 0,
            state_bytes: 0,
            checksum: 0,
            mac: Mac::default(),
        };
        let fd = memfd::create_growing(name).map_err(failed)?;
        file::set_length(&fd, header.metadata_offset()).map_err(failed)?;
        let copy = Copy { fd: fd.as_fd(), base: place.base(), data_offset: header.data_offset };

        let mut data = Vec::new();
        for stretch in own_stretches(&state.table, place.byte_length())? {
            let stretch = self.addresses(stretch)?;
            for candidate in written_pages(stretch, state.content.as_deref()).map_err(failed)? {
                copy.data_of(candidate, &mut data).map_err(failed)?;
            }
        }
        let mut written = Vec::new();
        for mapping in mappings.iter().filter(|mapping| mapping.access.is_copy_on_write()) {
            let Some(target) = mapping.shown_part().map(|span| self.addresses(span)).transpose()?
            else {
                continue;
            };
            for own in own_pages(target, Which::OwnOfFile).map_err(failed)? {
                alloc::push(&mut written, copy.all_of(own).map_err(failed)?)?;
            }
        }
        let free = state.table.free().spans().filter(|span| span.end() <= place.byte_length());
        let free = alloc::collected(free.take(MOST_FREE))?;
        drop(state);
        let kept = Kept { pieces: pieces_of(&data)?, written, free };
        let inode = file::status(&fd).map_err(failed)?.inode;
        let content = Content { inode, data_offset: header.data_offset, data };
        let snapshot = Snapshot::new(name, fd, Description::Ours, content, &header, kept, settings);
        let snapshot = snapshot.map_err(failed)?;
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

/// What stands in the table, with the regions that the caller knows of. Where the two don't fit,
/// another thread was there, and nothing tells what it shows.
fn keep_mappings(table: &MappingTable<Held>, regions: &[MappedRegion]) -> Result<Vec<KeptMapping>> {
    let mut known: Vec<&MappedRegion> = alloc::collected(regions)?;
    known.sort_unstable_by_key(|known| known.start);
    let keep = |(entry, held): (&crate::memory::table::Entry, &Held)| {
        let start = entry.span.start();
        let unknown = || {
            let message = format!(
                "what the mapping or window at {} shows was put there by another thread; take the snapshot there, or unmap it",
                start.get()
            );
            Error::new(Code::RegionClosed, message)
        };
        let shown_length = held.window.as_ref().map_or(entry.span.length(), Window::shown);
        let index =
            known.binary_search_by_key(&start, |known| known.start).map_err(|_| unknown())?;
        let known = known.get(index).ok_or_else(unknown)?;
        let shown = known.region.as_ref().map(|region| KeptRegion {
            region: Arc::clone(region),
            byte_offset: entry.region_offset,
            byte_length: known.byte_length,
            skip: known.skip,
        });
        let is_it = match &shown {
            None => shown_length == PageAligned::ZERO,
            Some(shown) => {
                let pages = shown.pages().map_err(|_| unknown())?;
                pages.inode() == entry.inode
                    && pages.file_offset() == entry.file_offset
                    && pages.length() == shown_length
            }
        };
        if !is_it {
            return Err(unknown());
        }
        Ok(KeptMapping {
            span: entry.span,
            shown,
            access: entry.access,
            from_free: entry.from_free,
            strict: known.strict,
            window: held.window.as_ref().map(Window::kind),
        })
    };
    let mut kept = Vec::new();
    for held in table.held() {
        alloc::push(&mut kept, keep(held)?)?;
    }
    Ok(kept)
}

/// What of a memory is no mapping, as offsets.
pub(super) fn own_stretches(
    table: &MappingTable<Held>,
    byte_length: PageAligned,
) -> Result<Vec<PageSpan>, alloc::Refused> {
    let mut stretches = Vec::new();
    let mut at = PageAligned::ZERO;
    for entry in table.entries() {
        if let Some(stretch) = PageSpan::between(at, entry.span.start().min(byte_length)) {
            alloc::push(&mut stretches, stretch)?;
        }
        at = entry.span.end();
    }
    if let Some(stretch) = PageSpan::between(at, byte_length) {
        alloc::push(&mut stretches, stretch)?;
    }
    Ok(stretches)
}

/// What of a VMA of the process lies in a range.
#[derive(Debug, Clone, Copy)]
pub(super) struct Area {
    pub(super) span: PageSpan,
    pub(super) file: Option<AreaFile>,
}

/// The file that a VMA shows.
#[derive(Debug, Clone, Copy)]
pub(super) struct AreaFile {
    inode: u64,
    /// Of the span's start.
    offset: u64,
}

/// The VMAs of the process that lie in a range.
pub(super) fn vmas_in(target: PageSpan) -> SysResult<Vec<Area>> {
    let mut vmas = Vec::new();
    let mut at = target.start();
    while let Some(rest) = PageSpan::between(at, target.end()) {
        let Some(vma) =
            process_map::at_or_after(at.get())?.filter(|vma| vma.start < rest.end().get())
        else {
            break;
        };
        let (Some(start), Some(end)) = (PageAligned::new(vma.start), PageAligned::new(vma.end))
        else {
            break;
        };
        let span = PageSpan::between(start, end).and_then(|area| area.within(rest));
        let file = |span: PageSpan| {
            let skew = span.start().get().saturating_sub(vma.start);
            AreaFile { inode: vma.inode, offset: vma.file_offset.saturating_add(skew) }
        };
        if let Some(span) = span {
            alloc::push(&mut vmas, Area { span, file: (vma.inode != 0).then(|| file(span)) })?;
        }
        at = end;
    }
    Ok(vmas)
}

/// Pages of a memory's own that may hold something: in anonymous memory those that were written.
/// Where an earlier snapshot is laid, also what its file holds; its holes are not looked at, which
/// would fill them. Of another file's pages, all.
fn written_pages(target: PageSpan, content: Option<&Content>) -> SysResult<Vec<PageSpan>> {
    let mut pages = Vec::new();
    for area in vmas_in(target)? {
        let which = if area.file.is_some() { Which::OwnOfFile } else { Which::Own };
        // Where nothing can be told, all of it is looked at.
        let own = own_pages(area.span, which).or_else(|_| alloc::copied(&[area.span]))?;
        match (area.file, content) {
            (None, _) => append(&mut pages, own)?,
            (Some(file), Some(content)) if file.inode == content.inode => {
                let mut own = own;
                append(&mut own, content.in_area(area.span, file.offset)?)?;
                append(&mut pages, united(own)?)?;
            }
            (Some(_), _) => alloc::push(&mut pages, area.span)?,
        }
    }
    Ok(pages)
}

fn append(spans: &mut Vec<PageSpan>, more: Vec<PageSpan>) -> Result<(), alloc::Refused> {
    spans.try_reserve(more.len())?;
    spans.extend(more);
    Ok(())
}

impl Content {
    /// What the file holds, looked for.
    pub(super) fn of(fd: &OwnedFd, header: &Header, kept: &[PageSpan]) -> SysResult<Self> {
        let inode = file::status(fd)?.inode;
        let mut data = Vec::new();
        for span in kept {
            let offset = |at: PageAligned| header.data_offset.get().saturating_add(at.get());
            let (mut at, end) = (offset(span.start()), offset(span.end()));
            while let Some((from, to)) = file::next_data(fd, at, end)? {
                let in_memory = |bytes: u64| bytes.checked_sub(header.data_offset.get());
                let start = in_memory(from).map(PageAligned::round_down);
                let stop = in_memory(to).and_then(PageAligned::round_up);
                if let Some(found) =
                    start.zip(stop).and_then(|(start, stop)| PageSpan::between(start, stop))
                {
                    alloc::push(&mut data, found)?;
                }
                at = to;
            }
        }
        Ok(Self { inode, data_offset: header.data_offset, data: united(data)? })
    }

    /// The addresses of what the file holds in a VMA that shows it from an offset on.
    fn in_area(&self, area: PageSpan, offset: u64) -> Result<Vec<PageSpan>, alloc::Refused> {
        let shown =
            PageAligned::new(offset).and_then(|offset| offset.checked_sub(self.data_offset));
        let Some(shown) = shown.and_then(|start| PageSpan::new(start, area.length())) else {
            // Not as a snapshot is laid.
            return alloc::copied(&[area]);
        };
        let first = self.data.partition_point(|data| data.end() <= shown.start());
        let inside = self.data.iter().skip(first).map_while(|data| data.within(shown));
        let address = |at: PageAligned| area.start().checked_add(at.checked_sub(shown.start())?);
        alloc::collected(
            inside
                .filter_map(|data| PageSpan::between(address(data.start())?, address(data.end())?)),
        )
    }
}

fn own_pages(target: PageSpan, which: Which) -> SysResult<Vec<PageSpan>> {
    let mut pages = Vec::new();
    let mut kept = Ok(());
    let scanned = pagemap::scan(target, which, u64::MAX, |run| {
        if kept.is_ok() {
            kept = alloc::push(&mut pages, run.span);
        }
    });
    if scanned.is_err() && kept.is_ok() {
        pages.clear();
        pagemap::read(target, |run| match pages.last_mut() {
            Some(last) if last.end() == run.span.start() => {
                *last = PageSpan::between(last.start(), run.span.end()).unwrap_or(*last);
            }
            _ if kept.is_ok() => kept = alloc::push(&mut pages, run.span),
            _ => {}
        })?;
    }
    kept?;
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
        while let Some(page) =
            PageSpan::between(at, range.end()).map(|rest| rest.first(host_page_bytes()))
        {
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
        Ok(alloc::push(data, self.all_of(run)?)?)
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

/// What is laid from the file: the data, joined over gaps that are small, and further over the
/// smallest ones until there are few pieces.
fn pieces_of(data: &[PageSpan]) -> Result<Vec<PageSpan>, alloc::Refused> {
    let mut gaps: Vec<u64> = alloc::collected(data.windows(2).map(gap))?;
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
            _ => alloc::push(&mut pieces, *span)?,
        }
    }
    Ok(pieces)
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
