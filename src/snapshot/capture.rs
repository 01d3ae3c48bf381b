//! Takes a snapshot of a memory: writes its data to a memfd, and keeps its mappings.
//!
//! Changes no byte of it. Its pages may be replaced by those of the memfd, which hold the same
//! (`adopt.rs`).

// It reads the pages of a memory.
#![allow(unsafe_code)]

use super::adopt::adopt;
use super::backing::is_lost;
use super::format::{Header, Mac};
use super::image::{Extents, data_offset_for, dense_blocks};
use super::metadata::MOST_FREE;
use super::own::{check_adopted, own_pages, own_parts, vmas_in};
use super::spans::{pieces_of, united};
use super::{ImageFd, KeptMapping, KeptRegion, Settings, Snapshot};
use crate::error::{Result, SnapshotError};
use crate::memory::image::Content;
use crate::memory::table::{Entry, MappingTable};
use crate::memory::window_state::Window;
use crate::memory::{Held, Memory, Populate, ShownFile, State};
use crate::region::Region;
use crate::region::thp::{HugePageMaker, STEP_BYTES};
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

/// What becomes of the memory's own pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Afterwards {
    /// It shows the snapshot's, as after a restore, where it has written none of them since.
    Shares,
    /// They stay.
    Keeps,
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
    afterwards: Afterwards,
) -> Result<Snapshot> {
    let failed = |sys: SysError| SnapshotError::NotTaken { refused: sys.into() };
    let mut state = memory.lock_at(live)?;
    let mappings = keep_mappings(&state.table, regions)?;
    let byte_length = live.byte_length();
    let data_offset = data_offset_for(live.base());
    let header = Header {
        byte_length,
        data_offset,
        metadata_bytes: 0,
        state_bytes: 0,
        checksum: 0,
        description_checksum: 0,
        mac: Mac::default(),
    };
    let fd = memfd::create_growing(name).map_err(failed)?;
    file::set_length(&fd, header.metadata_offset()).map_err(failed)?;
    let copier = Copier { fd: fd.as_fd(), base: live.base(), data_offset };

    let data = data_of(memory, live, &state)?;
    copier.copy_data(&data, settings.huge_pages).map_err(failed)?;
    let mut written = Vec::new();
    for mapping in mappings.iter().filter(|mapping| mapping.access.is_copy_on_write()) {
        let Some(shown) = mapping.shown_part() else { continue };
        for own in own_pages(memory.addresses(shown), Which::OwnOfFile).map_err(failed)? {
            let own = in_memory(own, live.base());
            copier.copy(own).map_err(failed)?;
            alloc::push(&mut written, own)?;
        }
    }
    let free = state.table.free().spans().filter(|span| span.end() <= byte_length);
    let free = alloc::collected(free.take(MOST_FREE))?;
    let extents = Extents { pieces: pieces_of(&data)?, written, free };
    let inode = file::status(&fd).map_err(failed)?.inode;
    let content = Content { inode, file: None, data_offset, data };
    let image = ImageFd { fd, description: Description::Ours, content, byte_length, extents };
    let snapshot = Snapshot::new(name, image, settings).map_err(failed)?;
    snapshot.set_mappings(mappings)?;
    if afterwards == Afterwards::Shares {
        adopt(memory, live, &mut state, &snapshot)?;
    }
    Ok(snapshot)
}

/// The pages of the memory's own that are not all zeros: runs of them, as offsets, in order.
///
/// The caller holds the memory, and no thread is in it. Cost: grows with the pages that were ever
/// written.
pub fn data_in(memory: &Memory, live: LiveMemory<'_>) -> Result<Vec<PageSpan>> {
    data_of(memory, live, &*memory.lock_at(live)?)
}

/// Refuses a memory of which its file has lost pages, and what was read of it.
fn check_shown(state: &State) -> Result<()> {
    let is_lost = |shown: &&ShownFile| shown.guard.is_changed() || is_lost(&shown.file);
    match state.files.iter().find(is_lost) {
        Some(shown) => {
            Err(SnapshotError::FileLost { name: shown.file.name.as_ref().to_owned() }.into())
        }
        None => Ok(()),
    }
}

fn data_of(memory: &Memory, live: LiveMemory<'_>, state: &State) -> Result<Vec<PageSpan>> {
    let failed = |sys: SysError| SnapshotError::NotTaken { refused: sys.into() };
    // Before it is read, too: that would put zeros in the place of missing pages.
    check_shown(state)?;
    let mut data = Vec::new();
    for part in own_parts(&state.table, live.byte_length())? {
        let part = memory.addresses(part);
        for candidate in maybe_data(part, state.content.as_deref()).map_err(failed)? {
            find_data(candidate, live.base(), &mut data).map_err(failed)?;
        }
    }
    check_shown(state)?;
    Ok(data)
}

/// The mappings of the table, with the regions that the caller knows of.
fn keep_mappings(table: &MappingTable<Held>, regions: &[MappedRegion]) -> Result<Vec<KeptMapping>> {
    let mut regions: Vec<&MappedRegion> = alloc::collected(regions)?;
    regions.sort_unstable_by_key(|known| known.start);
    let mut kept = Vec::new();
    check_adopted(table)?;
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
        populate: if held.ahead.is_some() { Populate::Ahead } else { Populate::AsTouched },
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
            (Some(file), Some(content)) if content.is_of(file.inode) => {
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

/// Adds the pages of a range of addresses that are not all zeros: runs of them, as offsets in the
/// memory that begins at `base`.
fn find_data(range: PageSpan, base: PageAligned, data: &mut Vec<PageSpan>) -> SysResult<()> {
    let mut run: Option<PageSpan> = None;
    let mut at = range.start();
    let mut keep = |run: Option<PageSpan>| match run {
        Some(run) => alloc::push(data, in_memory(run, base)),
        None => Ok(()),
    };
    while let Some(page) =
        PageSpan::between(at, range.end()).map(|left| left.first(host_page_bytes()))
    {
        // SAFETY: `range` is a part of the memory below its length: it is one of `own_parts`, which
        // end there. The caller of `capture` holds the memory, so its pages can be read.
        if unsafe { contents::is_zero(page) } {
            keep(run.take())?;
        } else {
            let start = run.map_or(page.start(), PageSpan::start);
            run = PageSpan::between(start, page.end());
        }
        at = page.end();
    }
    Ok(keep(run)?)
}

/// As offsets in the memory that begins at `base`.
fn in_memory(addresses: PageSpan, base: PageAligned) -> PageSpan {
    let offset = addresses.start().checked_sub(base).expect("it is a part of the memory");
    PageSpan::new(offset, addresses.length()).expect("an offset is below its address")
}

/// Copies pages of a memory to the same place of an image. All spans are offsets in the memory.
struct Copier<'fd> {
    fd: BorrowedFd<'fd>,
    base: PageAligned,
    data_offset: PageAligned,
}

impl Copier<'_> {
    /// Copies runs of pages, which are in order. Dense blocks are made huge just before they are
    /// filled: to gather pages that are filled already copies all of them again.
    fn copy_data(&self, data: &[PageSpan], huge_pages: bool) -> SysResult<()> {
        let blocks = match huge_pages {
            true => dense_blocks(data.iter().map(|span| self.in_file(*span)))?,
            false => Vec::new(),
        };
        let mut maker = HugePageMaker::default();
        let mut blocks = blocks.into_iter();
        let mut block = blocks.next();
        for span in data {
            let mut left = Some(*span);
            while let Some(rest) = left {
                let step = rest.first(STEP_BYTES);
                let end = self.in_file(step).end();
                while let Some(ahead) = block.filter(|ahead| ahead.start() < end) {
                    let ready = ahead.first(STEP_BYTES);
                    maker.prepare(self.fd, ready.start().get(), ready.end().get());
                    block = PageSpan::between(ready.end(), ahead.end()).or_else(|| blocks.next());
                }
                self.copy(step)?;
                left = PageSpan::between(step.end(), rest.end());
            }
        }
        Ok(())
    }

    fn copy(&self, span: PageSpan) -> SysResult<()> {
        let from = span.at_base(self.base).expect("it is a part of the memory");
        let to = self.in_file(span).start().get();
        file::write_all_from(self.fd, to, from.start().get(), from.length().get())
    }

    fn in_file(&self, span: PageSpan) -> PageSpan {
        span.at_base(self.data_offset).expect("an image ends far below 2^64")
    }
}
