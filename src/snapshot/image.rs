//! The image: the pages of a memory that a snapshot's memfd holds. What is put where, what may be
//! copied, and what a memory shows of it.
//!
//! Data types, and questions to the memfd. No memory is changed here.

// It registers a mapping with the fault guard.
#![allow(unsafe_code)]

use super::own::VmaFile;
use super::spans::united;
use crate::access::Access;
use crate::fault::{Proof, RangeSpec, Registration, Shown};
use crate::memory::image::Content;
use crate::memory::leased::LeasedFile;
use crate::region::thp::STEP_BYTES;
use crate::sys::alloc::{self, Refused};
use crate::sys::mmap::{self, Advice, Mmap};
use crate::sys::page::{HUGE_PAGE_BYTES, PageAligned, PageSpan, WASM_PAGE_BYTES};
use crate::sys::{SysResult, file, sum};
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// Which pages of a memory the image holds, and for what. Offsets in the memory, in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Extents {
    /// What is mapped from the memfd. All other pages of the memory's own are zeros.
    pub(super) pieces: Vec<PageSpan>,
    /// Pages of private mappings that had been written.
    pub(super) written: Vec<PageSpan>,
    /// Not in the image: where mappings may be put, since the memory grew by it for them, and none
    /// is there.
    pub(super) free: Vec<PageSpan>,
}

impl Extents {
    /// All that the image holds, in order. A piece may go over a private mapping, whose written
    /// pages are not its own.
    pub(super) fn all(&self) -> Result<Vec<PageSpan>, Refused> {
        united(alloc::collected(self.pieces.iter().chain(&self.written).copied())?)
    }
}

/// At which offset of its memfd the image of a memory at this address begins: huge pages of the
/// memfd can be mapped as such where address and offset are congruent modulo 2 MiB. Leaves room for
/// the header.
pub(super) fn data_offset_for(base: PageAligned) -> PageAligned {
    let congruent = base.get() % HUGE_PAGE_BYTES;
    let has_room = congruent >= WASM_PAGE_BYTES;
    let offset = if has_room { Some(congruent) } else { congruent.checked_add(HUGE_PAGE_BYTES) };
    PageAligned::round_down(offset.expect("it is below 4 MiB"))
}

impl Content {
    /// Looks for data in these extents of a memfd.
    pub(super) fn of(
        fd: &OwnedFd,
        data_offset: PageAligned,
        extents: &[PageSpan],
    ) -> SysResult<Self> {
        let inode = file::status(fd)?.inode;
        let mut data = Vec::new();
        for span in extents {
            let offset = |at: PageAligned| {
                data_offset.checked_add(at).expect("an image ends far below 2^64").get()
            };
            let (mut at, end) = (offset(span.start()), offset(span.end()));
            while let Some((from, to)) = file::next_data(fd, at, end)? {
                let in_memory = |bytes: u64| bytes.checked_sub(data_offset.get());
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
        Ok(Self { inode, file: None, data_offset, data: united(data)? })
    }

    /// Where in the memfd the data is.
    pub(super) fn in_file(&self) -> impl Iterator<Item = PageSpan> {
        let at_offset = |span: &PageSpan| span.at_base(self.data_offset);
        self.data.iter().map(move |span| at_offset(span).expect("an image ends far below 2^64"))
    }

    /// The addresses of the data in a part of a VMA that maps the memfd.
    pub(super) fn in_vma(&self, span: PageSpan, file: VmaFile) -> Result<Vec<PageSpan>, Refused> {
        let shown =
            PageAligned::new(file.offset).and_then(|offset| offset.checked_sub(self.data_offset));
        let Some(shown) = shown.and_then(|start| PageSpan::new(start, span.length())) else {
            // Below the image: no restore maps that.
            return alloc::copied(&[span]);
        };
        let first = self.data.partition_point(|data| data.end() <= shown.start());
        let inside = self.data.iter().skip(first).map_while(|data| data.within(shown));
        let address = |at: PageAligned| span.start().checked_add(at.checked_sub(shown.start())?);
        alloc::collected(
            inside
                .filter_map(|data| PageSpan::between(address(data.start())?, address(data.end())?)),
        )
    }
}

/// A read-only mapping of an image, to copy pages from.
#[derive(Debug)]
pub(super) struct CopySource {
    /// Of a file, which may lose its bytes. Before the mapping, which is dropped after it.
    guard: Option<Registration>,
    pub(super) mmap: Mmap,
    /// Which byte of the memory is its first.
    pub(super) start: PageAligned,
}

impl CopySource {
    /// `file`: what it maps, if that is no memfd, and from which offset on.
    pub(super) fn new(
        mmap: Mmap,
        start: PageAligned,
        file: Option<&Arc<LeasedFile>>,
        offset: PageAligned,
    ) -> Self {
        let guard = file.map(|file| {
            let spec = RangeSpec {
                span: mmap.span(),
                memory_offset: None,
                is_window: false,
                is_image: true,
                access: Access::Readonly,
                counts: Arc::default(),
                unprotected: Arc::default(),
                proof: Proof::Owned,
            };
            let shown = Shown {
                pager: None,
                inode: file.inode,
                file_offset: offset,
                region_offset: start,
                length: mmap.span().length(),
                region_name: &file.name,
            };
            // SAFETY: it is a mapping of its own, into which Rust makes no reference, and which is
            // unmapped after the registration is dropped.
            let guard = unsafe { Registration::new(spec, shown) };
            guard.resume();
            guard
        });
        Self { guard, mmap, start }
    }

    /// Whether all that was read of it was the file's.
    pub(super) fn is_whole(&self) -> bool {
        self.guard.as_ref().is_none_or(|guard| !guard.is_changed())
    }

    /// Where the bytes of these pages of the memory are.
    pub(super) fn address_of(&self, span: PageSpan) -> Option<PageAligned> {
        let skew = span.start().checked_sub(self.start)?;
        let address = self.mmap.span().start().checked_add(skew)?;
        let end = address.checked_add(span.length())?;
        (end <= self.mmap.span().end()).then_some(address)
    }

    /// Gathers pages of these blocks of the memfd in huge ones. Best effort.
    pub(super) fn gather(&self, blocks: &[PageSpan], content: &Content) {
        let mapped = content
            .data_offset
            .checked_add(self.start)
            .and_then(|start| PageSpan::new(start, self.mmap.span().length()));
        for block in blocks {
            let inside = mapped.and_then(|mapped| whole_blocks(block.within(mapped)?));
            let address = inside.zip(mapped).and_then(|(inside, mapped)| {
                let skew = inside.start().checked_sub(mapped.start())?;
                PageSpan::new(self.mmap.span().start().checked_add(skew)?, inside.length())
            });
            let mut left = address.and_then(|address| self.mmap.owned().part(address));
            while let Some(rest) = left {
                let step = rest.first(STEP_BYTES);
                // Another error says that these can't be had, or not now.
                let collapsed = mmap::advise(step, Advice::Collapse);
                if collapsed.is_err_and(mmap::knows_no_collapse) {
                    return;
                }
                left = PageSpan::between(step.span().end(), rest.span().end())
                    .and_then(|behind| rest.part(behind));
            }
        }
    }
}

/// The blocks of a memfd of which at least three quarters are data, joined where they touch. What a
/// memory reads of a huge page is one entry of its page tables for 2 MiB, and costs a restore
/// nothing; the zeros in it take memory.
///
/// `data`: offsets in the memfd, in order.
pub(super) fn dense_blocks(data: impl Iterator<Item = PageSpan>) -> Result<Vec<PageSpan>, Refused> {
    let mut dense = Vec::new();
    let mut current: Option<(PageSpan, u64)> = None;
    // Only blocks that hold data are looked at: a memory may be one large hole.
    for span in data {
        let mut next = Some(span);
        while let Some(left) = next {
            let block = huge_block(left.start()).expect("an image ends far below 2^64");
            let inside = left.within(block).map_or(0, |inside| inside.length().get());
            match &mut current {
                Some((known, bytes)) if *known == block => *bytes = sum(*bytes, inside),
                _ => keep_dense(&mut dense, current.replace((block, inside)))?,
            }
            next = PageSpan::between(block.end(), left.end());
        }
    }
    keep_dense(&mut dense, current)?;
    Ok(dense)
}

fn keep_dense(dense: &mut Vec<PageSpan>, block: Option<(PageSpan, u64)>) -> Result<(), Refused> {
    const WORTH_IT_BYTES: u64 = HUGE_PAGE_BYTES / 4 * 3;
    let Some((block, _)) = block.filter(|(_, bytes)| *bytes >= WORTH_IT_BYTES) else {
        return Ok(());
    };
    if let Some(last) = dense.last_mut()
        && last.end() == block.start()
        && let Some(both) = PageSpan::between(last.start(), block.end())
    {
        *last = both;
        return Ok(());
    }
    alloc::push(dense, block)
}

/// What of a span is whole blocks.
fn whole_blocks(span: PageSpan) -> Option<PageSpan> {
    let start = span.start().get().next_multiple_of(HUGE_PAGE_BYTES);
    let end = huge_block(span.end())?.start();
    PageSpan::between(PageAligned::new(start)?, end)
}

/// The 2 MiB that hold this offset and start at a multiple of 2 MiB.
fn huge_block(offset: PageAligned) -> Option<PageSpan> {
    let start = offset.get().checked_sub(offset.get() % HUGE_PAGE_BYTES)?;
    PageSpan::new(PageAligned::new(start)?, PageAligned::new(HUGE_PAGE_BYTES)?)
}

/// The id of no snapshot.
pub(super) const ZEROS: u64 = 0;

#[cfg(test)]
mod tests {
    use super::*;

    fn span(start: u64, end: u64) -> PageSpan {
        let at = |bytes: u64| PageAligned::new(bytes).unwrap();
        PageSpan::between(at(start), at(end)).unwrap()
    }

    #[test]
    fn blocks_are_dense_with_three_quarters_of_data() {
        const BLOCK: u64 = HUGE_PAGE_BYTES;
        let dense = |data: &[PageSpan]| dense_blocks(data.iter().copied()).unwrap();
        assert_eq!(dense(&[]), []);
        // Joined where they touch, whatever the data begins and ends with.
        assert_eq!(dense(&[span(BLOCK / 4, 3 * BLOCK)]), [span(0, 3 * BLOCK)]);
        assert_eq!(dense(&[span(BLOCK / 2, 2 * BLOCK + BLOCK / 2)]), [span(BLOCK, 2 * BLOCK)]);
        // Of several runs.
        let quarter = BLOCK / 4;
        let runs = |last: u64| {
            let at = 7 * BLOCK;
            [span(at, at + quarter), span(at + 2 * quarter, at + last)]
        };
        assert_eq!(dense(&runs(4 * quarter)), [span(7 * BLOCK, 8 * BLOCK)]);
        assert_eq!(dense(&runs(4 * quarter - 65_536)), []);
        let apart = [span(0, BLOCK), span(4 * BLOCK, 5 * BLOCK)];
        assert_eq!(dense(&apart), apart);
    }

    #[test]
    fn of_a_span_whole_blocks_are_what_is_between_their_borders() {
        const BLOCK: u64 = HUGE_PAGE_BYTES;
        assert_eq!(whole_blocks(span(BLOCK, 3 * BLOCK)), Some(span(BLOCK, 3 * BLOCK)));
        let uneven = span(BLOCK - 65_536, 3 * BLOCK + 65_536);
        assert_eq!(whole_blocks(uneven), Some(span(BLOCK, 3 * BLOCK)));
        assert_eq!(whole_blocks(span(65_536, 2 * BLOCK - 65_536)), None);
    }
}
