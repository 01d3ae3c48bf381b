//! The image: the pages of a memory that a snapshot's memfd holds. What is put where, what may be
//! copied, and what a memory shows of it.
//!
//! Data types, and questions to the memfd. No memory is changed here.

use super::own::VmaFile;
use super::spans::united;
use crate::memory::image::Content;
use crate::sys::alloc::{self, Refused};
use crate::sys::mmap::{self, Advice, Mmap};
use crate::sys::page::{HUGE_PAGE_BYTES, PageAligned, PageSpan, WASM_PAGE_BYTES};
use crate::sys::{SysResult, file};
use nix::errno::Errno;
use std::os::fd::OwnedFd;

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
        Ok(Self { inode, data_offset, data: united(data)? })
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
    pub(super) mmap: Mmap,
    /// Which byte of the memory is its first.
    pub(super) start: PageAligned,
}

impl CopySource {
    /// Where the bytes of these pages of the memory are.
    pub(super) fn address_of(&self, span: PageSpan) -> Option<PageAligned> {
        let skew = span.start().checked_sub(self.start)?;
        let address = self.mmap.span().start().checked_add(skew)?;
        let end = address.checked_add(span.length())?;
        (end <= self.mmap.span().end()).then_some(address)
    }

    /// Gathers the memfd's pages in huge ones where they are dense. What a memory reads of them is
    /// then one entry of its page tables for 2 MiB, and costs a restore nothing. Best effort.
    pub(super) fn gather(&self, data: &[PageSpan]) {
        // Only blocks that hold data are looked at: a hostile file may be one large hole.
        let mut current: Option<PageSpan> = None;
        let mut data_bytes = 0_u64;
        for span in data {
            let part = self.address_of(*span).and_then(|at| PageSpan::new(at, span.length()));
            let Some(part) = part else { return };
            let mut at = part.start();
            while let Some(left) = PageSpan::between(at, part.end()) {
                let Some(block) = huge_block(left.start()) else { return };
                if current != Some(block) {
                    if !self.collapse(current, data_bytes) {
                        return;
                    }
                    data_bytes = 0;
                    current = block.within(self.mmap.span()).filter(|inside| *inside == block);
                }
                let inside = left.within(block).map_or(0, |inside| inside.length().get());
                data_bytes = data_bytes.checked_add(inside).expect("a block has 2 MiB");
                at = block.end();
            }
        }
        self.collapse(current, data_bytes);
    }

    /// Makes a block one huge page, if at least three quarters of it are data. False: the system
    /// makes none.
    fn collapse(&self, block: Option<PageSpan>, data_bytes: u64) -> bool {
        const WORTH_IT_BYTES: u64 = HUGE_PAGE_BYTES / 4 * 3;
        let block = block.filter(|_| data_bytes >= WORTH_IT_BYTES);
        let Some(block) = block.and_then(|block| self.mmap.owned().part(block)) else {
            return true;
        };
        // Another error than EINVAL says that this block can't be had now.
        !mmap::advise(block, Advice::Collapse).is_err_and(|sys| sys.errno == Errno::EINVAL)
    }
}

/// The 2 MiB that hold this address and start at a multiple of 2 MiB.
fn huge_block(address: PageAligned) -> Option<PageSpan> {
    let start = address.get().checked_sub(address.get() % HUGE_PAGE_BYTES)?;
    PageSpan::new(PageAligned::new(start)?, PageAligned::new(HUGE_PAGE_BYTES)?)
}

/// The id of no snapshot.
pub(super) const ZEROS: u64 = 0;
