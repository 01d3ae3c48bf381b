//! Transparent huge pages for memfds: filling a memfd 2 MiB at a time, and counting them.
//!
//! ```text
//!  memfd   |  block  |  block  |  block  |tail|    blocks of 2 MiB; the tail has ordinary pages
//!          [      window     ]                     16 MiB of address space, over some blocks
//! ```
//!
//! Where `shmem_enabled` allows it, the first touch of a block that was advised (MADV_HUGEPAGE)
//! makes it huge. On most systems the setting is "never". There, MADV_COLLAPSE (Linux 6.1) works
//! whatever the setting says, unless it is "deny". It needs one page of the block, and makes the
//! rest of zeros. So a block becomes huge before it is filled: nothing is copied twice, and 511
//! fewer pages are allocated.
//!
//! A module gains where the same pages are mapped by entries for 2 MiB: one page fault replaces
//! 512, and the TLB holds less. For that, the host address must be congruent to the offset in the
//! file, modulo 2 MiB ([`base_for`]).

use crate::sys::mmap::{self, Advice, Hint, Mmap, Pages, Sharing};
use crate::sys::optional::says_absent;
use crate::sys::page::{HUGE_PAGE_BYTES, PageAligned, PageSpan};
use crate::sys::pagemap::{self, Which};
use crate::sys::{SysError, SysResult, difference, file, sum, to_u64};
use nix::errno::Errno;
use std::fmt;
use std::os::fd::BorrowedFd;

/// What pages a region in memory is to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageKind {
    Ordinary,
    /// Huge ones, where the kernel gathers some.
    Gathered,
}

/// Why there are none, or not everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhyNot {
    NotAsked,
    TooSmall,
    NotMemory,
    Unsupported,
    NoneFree,
    Elsewhere,
    NotTold,
}

impl fmt::Display for WhyNot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAsked => "they were not asked for; pass hugePages: true where the region is made",
            Self::TooSmall => "the region has less than 2 MiB",
            Self::NotMemory => "the region is a file, whose pages the kernel's cache has; load it",
            Self::Unsupported => {
                "the kernel gives none to shared memory: it is older than 6.1, or /sys/kernel/mm/transparent_hugepage/shmem_enabled is `deny`"
            }
            Self::NoneFree => "the system had no 2 MiB in one piece for some of it",
            Self::Elsewhere => {
                "some of it holds nothing, or was filled elsewhere with ordinary pages, or the system has split them since"
            }
            Self::NotTold => "the kernel can't tell: it is older than 6.7, or there is no address space to look by",
        })
    }
}

/// What is prepared at once, and should be filled at once: each MADV_COLLAPSE makes all CPUs hand
/// in their lists of new pages first.
pub const STEP_BYTES: u64 = 8 * HUGE_PAGE_BYTES;

/// Blocks that the system refuses before no more is asked for: each may have cost it a search
/// through all memory.
const MOST_REFUSALS: u32 = 8;

/// Makes blocks of a memfd huge before they are filled. Best effort: other pages stay ordinary.
#[derive(Debug, Default)]
pub struct HugePageMaker {
    /// Where the blocks are mapped meanwhile. `None`: not needed yet, or the kernel refused it.
    window: Option<Mmap>,
    blocks: u64,
    refusals: u32,
    /// No more is asked for: the kernel has no MADV_COLLAPSE.
    is_over: bool,
    why_not: Option<WhyNot>,
}

impl HugePageMaker {
    /// Makes all blocks huge that are in `[start, end)` of the memfd, and takes their memory. Some
    /// of them stay mapped writable until the maker is dropped.
    pub fn prepare(&mut self, fd: BorrowedFd<'_>, start: u64, end: u64) {
        let end = difference(end, end % HUGE_PAGE_BYTES);
        let mut at = start.next_multiple_of(HUGE_PAGE_BYTES);
        while at < end && !self.is_over && self.refusals < MOST_REFUSALS {
            let length = difference(end, at).min(STEP_BYTES);
            if let Err(sys) = self.prepare_step(fd, at, length) {
                self.refused(sys);
            }
            at = sum(at, length);
        }
    }

    /// How many were made huge.
    pub fn blocks(&self) -> u64 {
        self.blocks
    }

    /// Why not all of them are huge, if so.
    pub fn why_not(&self) -> Option<WhyNot> {
        self.why_not
    }

    fn refused(&mut self, sys: SysError) {
        self.refusals = self.refusals.checked_add(1).expect("it ends after a few");
        self.is_over = mmap::knows_no_collapse(sys);
        // Where the setting is "deny" the kernel refuses all blocks by EINVAL, as it does single
        // ones that it can't gather.
        let is_unsupported = self.is_over || self.blocks == 0 && says_absent(sys.errno);
        self.why_not = Some(if is_unsupported { WhyNot::Unsupported } else { WhyNot::NoneFree });
    }

    fn made(&mut self, blocks: u64) {
        self.blocks = sum(self.blocks, blocks);
        // What makes some is not unsupported.
        self.why_not = self.why_not.map(|_| WhyNot::NoneFree);
    }

    /// Some blocks, as many as the window holds.
    fn prepare_step(&mut self, fd: BorrowedFd<'_>, at: u64, length: u64) -> SysResult<()> {
        let aligned =
            |bytes: u64| PageAligned::new(bytes).ok_or(SysError::new("mmap", Errno::EINVAL));
        if self.window.is_none() {
            let window = Mmap::new_congruent(aligned(STEP_BYTES)?, Pages::ReadonlyZeros, 0);
            self.window = Some(window?);
        }
        let window = self.window.as_ref().ok_or(SysError::new("mmap", Errno::ENOMEM))?;
        let owned = window.owned().first(length);
        let span = owned.span();
        let pages =
            Pages::File { fd, offset: aligned(at)?, sharing: Sharing::Shared, is_memfd: true };
        mmap::replace(owned, pages)?;
        let _ = mmap::hint(span, Hint::HugePage);
        let mut blocks = Vec::new();
        let mut next = Some(owned);
        while let Some(tail) = next {
            let block = tail.first(HUGE_PAGE_BYTES);
            // It wants one page to be there.
            mmap::advise(block.first(1), Advice::PopulateWrite)?;
            blocks.push(block);
            let behind = PageSpan::between(block.span().end(), span.end());
            next = behind.and_then(|behind| owned.part(behind));
        }
        if mmap::advise(owned, Advice::Collapse).is_ok() {
            let made = to_u64(blocks.len());
            self.made(made);
            return Ok(());
        }
        // One by one, to know which; a page that was in use for a moment is free again perhaps.
        let gathered: Vec<_> =
            blocks.into_iter().map(|block| mmap::advise(block, Advice::Collapse)).collect();
        for outcome in gathered {
            match outcome {
                Ok(()) => self.made(1),
                Err(sys) => self.refused(sys),
            }
        }
        Ok(())
    }
}

/// What to take for a memory's base in the search for a multiple of 2 MiB, so that the address
/// found is congruent to this offset in a file. `None` on overflow.
pub fn base_for(base: PageAligned, file_offset: PageAligned) -> Option<PageAligned> {
    let skew = file_offset.get() % HUGE_PAGE_BYTES;
    base.checked_add(PageAligned::new(difference(HUGE_PAGE_BYTES, skew))?)
}

/// How many bytes of `[offset, offset + byte_length)` of a memfd are in huge pages now. `None`: the
/// kernel can't tell.
///
/// Cost: some three system calls for each 2 MiB that hold data.
pub fn bytes_of(fd: BorrowedFd<'_>, offset: PageAligned, byte_length: u64) -> Option<u64> {
    let length = PageAligned::round_up(byte_length)?;
    let pages = Pages::File { fd, offset, sharing: Sharing::ReadOnly, is_memfd: true };
    let shown = Mmap::new_congruent(length, pages, offset.get()).ok()?;
    touch_blocks(fd, offset, &shown).ok()?;
    let mut bytes = 0_u64;
    let count = |run: pagemap::Run| bytes = sum(bytes, run.span.length().get());
    pagemap::scan(shown.span(), Which::Huge, u64::MAX, count).ok()?;
    Some(bytes.min(byte_length))
}

/// Reads one page of each block that holds any; holes are left alone, since a read fills them.
fn touch_blocks(fd: BorrowedFd<'_>, offset: PageAligned, shown: &Mmap) -> SysResult<()> {
    let end = sum(offset.get(), shown.span().length().get());
    let mut at = offset.get();
    while let Some(start) = file::first_data(fd, at, end)? {
        let address = sum(shown.address(), difference(start, offset.get()));
        if let Some(page) = PageSpan::page_at(address).and_then(|page| page.within(shown.span())) {
            mmap::hint(page, Hint::PopulateRead)?;
        }
        at = sum(start, 1).next_multiple_of(HUGE_PAGE_BYTES);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::memfd;
    #[cfg(feature = "inject")]
    use crate::sys::to_usize;
    use std::os::fd::AsFd;

    const BLOCKS: u64 = 5;

    #[test]
    fn blocks_are_huge_before_they_are_filled_and_zeros() {
        let length = BLOCKS * HUGE_PAGE_BYTES + 5000;
        let fd = memfd::create("huge", length).unwrap();
        let mut maker = HugePageMaker::default();
        // From the second block on, without the tail.
        maker.prepare(fd.as_fd(), 1, length);
        let allocated = file::status(&fd).unwrap().allocated_bytes;
        let huge = bytes_of(fd.as_fd(), PageAligned::ZERO, length);
        if maker.why_not().is_some() {
            // Not here. Then next to nothing was taken.
            assert!(huge.is_none_or(|huge| huge < (BLOCKS - 1) * HUGE_PAGE_BYTES));
            return;
        }
        assert_eq!(allocated, (BLOCKS - 1) * HUGE_PAGE_BYTES);
        assert!(huge.is_none_or(|huge| huge == allocated), "{huge:?}");
        let mut bytes = vec![1; 4 << 20];
        file::read_up_to(&fd, HUGE_PAGE_BYTES, &mut bytes).unwrap();
        assert!(bytes.iter().all(|byte| *byte == 0));
        // What is there stays.
        file::write_all(&fd, HUGE_PAGE_BYTES + 70_000, &[7; 5000]).unwrap();
        maker.prepare(fd.as_fd(), 0, length);
        file::read_up_to(&fd, HUGE_PAGE_BYTES, &mut bytes).unwrap();
        assert_eq!(bytes.iter().map(|byte| u64::from(*byte)).sum::<u64>(), 5000 * 7);
    }

    #[test]
    fn counting_fills_no_holes() {
        let fd = memfd::create("holes", 64 * HUGE_PAGE_BYTES).unwrap();
        file::write_all(&fd, 9 * HUGE_PAGE_BYTES + 4096 * 3, b"x").unwrap();
        let before = file::status(&fd).unwrap().allocated_bytes;
        let _ = bytes_of(fd.as_fd(), PageAligned::ZERO, 64 * HUGE_PAGE_BYTES);
        assert_eq!(file::status(&fd).unwrap().allocated_bytes, before);
    }

    /// Refuses to gather one block, alone and together with those beside it.
    #[cfg(feature = "inject")]
    fn refuse_one(errno: Errno) {
        use crate::sys::inject;
        let this = Some(std::thread::current().id());
        for _ in 0..2 {
            inject::arm("madvise_collapse", 0, errno as i32, this);
        }
    }

    #[test]
    #[cfg(feature = "inject")]
    fn one_block_that_is_refused_costs_the_others_nothing() {
        let length = BLOCKS * HUGE_PAGE_BYTES;
        for errno in [Errno::EINVAL, Errno::ENOMEM, Errno::EBUSY, Errno::EAGAIN] {
            let fd = memfd::create("refused", length).unwrap();
            let mut maker = HugePageMaker::default();
            maker.prepare(fd.as_fd(), 0, length);
            if maker.why_not().is_some() {
                return;
            }
            let fd = memfd::create("refused", length).unwrap();
            let mut maker = HugePageMaker::default();
            refuse_one(errno);
            maker.prepare(fd.as_fd(), 0, length);
            assert!(!crate::sys::inject::disarm(Some(std::thread::current().id())), "it went off");
            assert_eq!((maker.blocks(), maker.why_not()), (BLOCKS - 1, Some(WhyNot::NoneFree)));
            let mut bytes = vec![1; to_usize(length)];
            assert_eq!(file::read_up_to(&fd, 0, &mut bytes).unwrap(), bytes.len());
            assert!(bytes.iter().all(|byte| *byte == 0), "{errno}");
        }
    }
}
