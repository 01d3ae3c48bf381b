//! Takes a snapshot of a memory: writes its data to a memfd, and keeps its mappings.
//!
//! Reads the memory, and changes nothing in it.

// It reads the pages of a memory.
#![allow(unsafe_code)]

use super::format::{Header, Mac};
use super::image::{Extents, data_offset_for};
use super::metadata::MOST_FREE;
use super::own::{own_pages, own_parts, vmas_in};
use super::spans::{pieces_of, united};
use super::{ImageFd, KeptMapping, KeptRegion, Settings, Snapshot};
use crate::error::{Result, SnapshotError};
use crate::memory::image::Content;
use crate::memory::table::{Entry, MappingTable};
use crate::memory::window_state::Window;
use crate::memory::{Held, Memory};
use crate::region::Region;
use crate::sys::alloc::{self, Refused};
use crate::sys::checked_fd::Description;
use crate::sys::page::{PageAligned, PageSpan, host_page_bytes};
use crate::sys::pagemap::Which;
use crate::sys::{SysError, SysResult, contents, file, memfd};
use crate::v8::live_memory::LiveMemory;
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
    /// Which byte of the first page is the first that the caller asked for.
    pub skip: u64,
    /// Whether missing pages end its use.
    pub strict: bool,
}

/// Keeps the memory as it is. [`complete`](super::complete::complete) makes a snapshot of it that
/// can be shared.
///
/// The caller holds the memory, and no thread is in it. Cost: grows with the pages that were ever
/// written.
pub fn capture(
    memory: &Memory,
    live: LiveMemory<'_>,
    name: &str,
    regions: &[MappedRegion],
    settings: Settings,
) -> Result<Snapshot> {
    let failed = |sys: SysError| SnapshotError::NotTaken { refused: sys.into() };
    let state = memory.lock_at(live)?;
    let mappings = keep_mappings(&state.table, regions)?;
    let byte_length = live.byte_length();
    let data_offset = data_offset_for(live.base());
    let header = Header {
        byte_length,
        data_offset,
        metadata_bytes: 0,
        state_bytes: 0,
        checksum: 0,
        mac: Mac::default(),
    };
    let fd = memfd::create_growing(name).map_err(failed)?;
    file::set_length(&fd, header.metadata_offset()).map_err(failed)?;
    let copier = Copier { fd: fd.as_fd(), base: live.base(), data_offset };

    let mut data = Vec::new();
    for part in own_parts(&state.table, byte_length)? {
        let part = memory.addresses(part);
        for candidate in maybe_data(part, state.content.as_deref()).map_err(failed)? {
            copier.copy_data(candidate, &mut data).map_err(failed)?;
        }
    }
    let mut written = Vec::new();
    for mapping in mappings.iter().filter(|mapping| mapping.access.is_copy_on_write()) {
        let Some(shown) = mapping.shown_part() else { continue };
        for own in own_pages(memory.addresses(shown), Which::OwnOfFile).map_err(failed)? {
            alloc::push(&mut written, copier.copy_all(own).map_err(failed)?)?;
        }
    }
    let free = state.table.free().spans().filter(|span| span.end() <= byte_length);
    let free = alloc::collected(free.take(MOST_FREE))?;
    drop(state);
    let extents = Extents { pieces: pieces_of(&data)?, written, free };
    let inode = file::status(&fd).map_err(failed)?.inode;
    let content = Content { inode, data_offset, data };
    let image = ImageFd { fd, description: Description::Ours, content, byte_length, extents };
    let snapshot = Snapshot::new(name, image, settings).map_err(failed)?;
    snapshot.set_mappings(mappings)?;
    Ok(snapshot)
}

/// The mappings of the table, with the regions that the caller knows of.
fn keep_mappings(table: &MappingTable<Held>, regions: &[MappedRegion]) -> Result<Vec<KeptMapping>> {
    let mut regions: Vec<&MappedRegion> = alloc::collected(regions)?;
    regions.sort_unstable_by_key(|known| known.start);
    let mut kept = Vec::new();
    for (entry, held) in table.held() {
        let start = entry.span.start();
        let index = regions.binary_search_by_key(&start, |known| known.start).ok();
        let known = index.and_then(|index| regions.get(index));
        let mapping = known
            .and_then(|known| keep(entry, held, known))
            .ok_or(SnapshotError::ShownByOther { start: start.get() })?;
        alloc::push(&mut kept, mapping)?;
    }
    Ok(kept)
}

/// `None`: it shows something else than the caller knows of. Another thread changed it, and nothing
/// tells which region it shows.
fn keep(entry: &Entry, held: &Held, known: &MappedRegion) -> Option<KeptMapping> {
    let shown_length = held.window.as_ref().map_or(entry.span.length(), Window::shown);
    let shown = known.region.as_ref().map(|region| KeptRegion {
        region: Arc::clone(region),
        byte_offset: entry.region_offset,
        byte_length: known.byte_length,
        skip: known.skip,
    });
    let is_same = match &shown {
        None => shown_length == PageAligned::ZERO,
        Some(shown) => {
            let pages = shown.pages().ok()?;
            pages.inode() == entry.inode
                && pages.file_offset() == entry.file_offset
                && pages.length() == shown_length
        }
    };
    is_same.then(|| KeptMapping {
        span: entry.span,
        shown,
        access: entry.access,
        from_free: entry.from_free,
        strict: known.strict,
        window: held.window.as_ref().map(Window::spec),
    })
}

/// Pages of a memory's own that may hold data. Of anonymous memory, those that were written. Of an
/// earlier snapshot's image, those and its data; to look at its holes would fill them. Of another
/// file, all.
fn maybe_data(target: PageSpan, content: Option<&Content>) -> SysResult<Vec<PageSpan>> {
    let mut pages = Vec::new();
    for vma in vmas_in(target)? {
        let which = if vma.file.is_some() { Which::OwnOfFile } else { Which::Own };
        // Where the kernel tells nothing, all of it is looked at.
        let mut own = own_pages(vma.span, which).or_else(|_| alloc::copied(&[vma.span]))?;
        match (vma.file, content) {
            (None, _) => append(&mut pages, own)?,
            (Some(file), Some(content)) if file.inode == content.inode => {
                append(&mut own, content.in_vma(vma.span, file)?)?;
                append(&mut pages, united(own)?)?;
            }
            (Some(_), _) => alloc::push(&mut pages, vma.span)?,
        }
    }
    Ok(pages)
}

fn append(spans: &mut Vec<PageSpan>, more: Vec<PageSpan>) -> Result<(), Refused> {
    spans.try_reserve(more.len())?;
    spans.extend(more);
    Ok(())
}

/// Copies pages of a memory to the same place of an image.
struct Copier<'fd> {
    fd: BorrowedFd<'fd>,
    base: PageAligned,
    data_offset: PageAligned,
}

impl Copier<'_> {
    /// Copies the pages of a range that are not all zeros, and adds their offsets in the memory.
    fn copy_data(&self, range: PageSpan, data: &mut Vec<PageSpan>) -> SysResult<()> {
        let mut run: Option<PageSpan> = None;
        let mut at = range.start();
        while let Some(page) =
            PageSpan::between(at, range.end()).map(|left| left.first(host_page_bytes()))
        {
            // SAFETY: `range` is a part of the memory below its length: it is one of `own_parts`,
            // which end there. The caller of `capture` holds the memory, so its pages can be read.
            if unsafe { contents::is_zero(page) } {
                self.copy_run(run.take(), data)?;
            } else {
                let start = run.map_or(page.start(), PageSpan::start);
                run = PageSpan::between(start, page.end());
            }
            at = page.end();
        }
        self.copy_run(run, data)
    }

    fn copy_run(&self, run: Option<PageSpan>, data: &mut Vec<PageSpan>) -> SysResult<()> {
        let Some(run) = run else { return Ok(()) };
        Ok(alloc::push(data, self.copy_all(run)?)?)
    }

    /// Copies a range, and gives its offsets in the memory.
    fn copy_all(&self, range: PageSpan) -> SysResult<PageSpan> {
        let offset = range.start().checked_sub(self.base).expect("it is a part of the memory");
        let at = self.data_offset.checked_add(offset).expect("an image ends far below 2^64");
        file::write_all_from(self.fd, at.get(), range.start().get(), range.length().get())?;
        Ok(PageSpan::new(offset, range.length()).expect("an offset is below its address"))
    }
}
