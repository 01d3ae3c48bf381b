//! The region: a file or memfd, which part of it, and what is known of it.
//!
//! No mapping: those in memories, and views, are made from a region and outlive it. How regions are
//! made is in `allocate.rs`, `open.rs` and `load.rs`; here are their state and its questions.

use super::backing::{Backing, FilePages, RegionFile};
use super::mirror::{Mirror, Mirrors};
use super::thp::{self, HugePageMaker, WhyNot};
use super::view_list::ViewList;
use crate::error::{PagingError, RegionError, Result};
use crate::fault::Counts;
use crate::paging::Hold;
use crate::sys::checked_fd::CheckedFd;
use crate::sys::file;
use crate::sys::memfd::Seals;
use crate::sys::mmap::Sharing;
use crate::sys::page::{HUGE_PAGE_BYTES, PageAligned};
use crate::totals::{self, Held};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

#[derive(Debug)]
pub struct Region {
    pub(super) file: RegionFile,
    /// Where in the file the region starts.
    pub(super) file_offset: PageAligned,
    /// More than 0. The file had as many bytes from `file_offset` on, so their sum is below 2^63.
    pub(super) byte_length: u64,
    pub(super) name: Arc<str>,
    id: u64,
    /// Whether its descriptor, and who shared it, allow writing. A seal may forbid it since.
    may_write: AtomicBool,
    /// Views that JavaScript may still hold: `seal` makes those read-only that write to it.
    pub(super) views: Arc<ViewList>,
    mirrors: Arc<Mirrors>,
    /// Why its pages are ordinary ones, or some of them.
    not_huge: OnceLock<WhyNot>,
    /// Whether it was filled with some huge pages.
    is_huge: AtomicBool,
    /// Who brings its pages in, where that is a provider.
    pub(super) pager: Option<Hold>,
    _counted: Held,
}

impl Region {
    pub(super) fn new(
        file: RegionFile,
        file_offset: PageAligned,
        byte_length: u64,
        name: &str,
        may_write: bool,
    ) -> Self {
        static NEXT_ID: AtomicU64 = AtomicU64::new(1);
        Self {
            file,
            file_offset,
            byte_length,
            name: name.into(),
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            may_write: AtomicBool::new(may_write),
            views: Arc::default(),
            mirrors: Arc::default(),
            not_huge: OnceLock::new(),
            is_huge: AtomicBool::new(false),
            pager: None,
            _counted: totals::REGIONS.hold(byte_length),
        }
    }

    pub fn byte_length(&self) -> u64 {
        self.byte_length
    }

    pub fn backing(&self) -> Backing {
        self.file.backing
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn shared_name(&self) -> &Arc<str> {
        &self.name
    }

    /// Tells it from all other regions of the process, past ones too.
    pub fn id(&self) -> u64 {
        self.id
    }

    pub fn inode(&self) -> u64 {
        self.file.inode
    }

    pub fn file_offset(&self) -> PageAligned {
        self.file_offset
    }

    /// Who brings its pages in. `None`: they are all there.
    pub fn pager(&self) -> Option<&Hold> {
        self.pager.as_ref()
    }

    /// Refuses what would see pages that are not there as zeros.
    pub fn check_not_paged(&self, what: &'static str) -> Result<()> {
        match &self.pager {
            None => Ok(()),
            Some(_) => Err(PagingError::Refused { what, name: self.name().to_owned() }.into()),
        }
    }

    /// Its views and their faults, for one who asks for them after it is closed, too.
    pub fn views(&self) -> &Arc<ViewList> {
        &self.views
    }

    /// The faults that all of its views had.
    pub fn counts(&self) -> &Counts {
        self.views.counts()
    }

    /// Whether its file can't get shorter.
    pub fn keeps_size(&self) -> bool {
        self.file.keeps_size
    }

    /// Whether its pages are memory. Then reading a hole takes some.
    pub fn is_memory(&self) -> bool {
        self.file.is_memfd()
    }

    /// What the kernel says of its file or memfd now. `None`: its descriptor was closed.
    pub fn file_status(&self) -> Option<file::Status> {
        self.file.status()
    }

    /// How many bytes its file or memfd has now.
    pub fn file_bytes(&self) -> Option<u64> {
        self.file.status().map(|status| status.byte_length)
    }

    /// Bytes of memory that it holds now: the pages of a memfd that were ever touched. A file's
    /// pages are the kernel's cache, not the process's.
    pub fn held_bytes(&self) -> u64 {
        match self.backing() {
            Backing::Memfd => self.file.status().map_or(0, |status| status.allocated_bytes),
            Backing::File => 0,
        }
    }

    pub fn shared_fd(&self) -> &Arc<CheckedFd> {
        &self.file.fd
    }

    /// A descriptor of its file or memfd, for the caller to keep.
    pub fn duplicate_fd(&self) -> Result<OwnedFd> {
        self.check_not_paged("give out a descriptor of")?;
        Ok(self.file.fd.duplicate().map_err(|sys| {
            let name = self.name().to_owned();
            RegionError::NotDuplicated { name, refused: sys.into() }
        })?)
    }

    /// Asks the kernel: another process, or another region over the same memfd, may have sealed it.
    pub fn is_writable(&self) -> bool {
        self.may_write.load(Ordering::Acquire)
            && !self.file.seals().is_some_and(Seals::forbid_new_writers)
    }

    pub(super) fn forbid_writing_here(&self) {
        self.may_write.store(false, Ordering::Release);
    }

    /// Asks the kernel, as [`Self::is_writable`] does.
    pub fn is_sealed(&self) -> bool {
        self.file.seals().is_some_and(Seals::forbid_writing)
    }

    /// What fills it with huge pages, if that is asked for and it has room for one.
    pub(super) fn huge_page_maker(&self, is_asked_for: bool) -> Option<HugePageMaker> {
        (is_asked_for && self.byte_length >= HUGE_PAGE_BYTES).then(HugePageMaker::default)
    }

    /// Makes blocks of `[start, end)` huge, which are about to be filled.
    pub(super) fn prepare(&self, maker: Option<&mut HugePageMaker>, start: u64, end: u64) {
        if let Some((maker, fd)) = maker.zip(self.file.get().ok()) {
            maker.prepare(fd, start, end);
        }
    }

    /// Takes note of how that went.
    pub(super) fn set_huge(&self, maker: Option<&HugePageMaker>) {
        let why_not = match maker {
            Some(maker) => {
                self.is_huge.store(maker.blocks() > 0, Ordering::Release);
                maker.why_not()
            }
            None if self.byte_length < HUGE_PAGE_BYTES => Some(WhyNot::TooSmall),
            None => Some(WhyNot::NotAsked),
        };
        if let Some(why_not) = why_not {
            let _ = self.not_huge.set(why_not);
        }
    }

    /// Whether it was filled with huge pages, some of it at least.
    pub fn is_huge(&self) -> bool {
        self.is_huge.load(Ordering::Acquire)
    }

    /// How many of its bytes are in huge pages now, and why not all that hold data. Cost: see
    /// [`thp::bytes_of`].
    pub fn huge_pages(&self) -> (u64, Option<WhyNot>) {
        if !self.is_memory() {
            return (0, Some(WhyNot::NotMemory));
        }
        // To look for them maps pages, which would come to be zeros.
        if self.pager.is_some() {
            return (0, Some(WhyNot::NotAsked));
        }
        // A look for data moves the position, so it needs a descriptor of its own.
        let fd = self.file.fd.reopen_readonly().ok();
        let bytes = fd.and_then(|fd| thp::bytes_of(fd.as_fd(), self.file_offset, self.byte_length));
        let Some(bytes) = bytes else {
            // What is too small has none, on any kernel.
            let is_too_small = self.not_huge.get() == Some(&WhyNot::TooSmall);
            return (0, Some(if is_too_small { WhyNot::TooSmall } else { WhyNot::NotTold }));
        };
        let has_more = match self.byte_length / HUGE_PAGE_BYTES {
            0 => true,
            blocks => bytes / HUGE_PAGE_BYTES < blocks,
        };
        let why_not = self.not_huge.get().copied().unwrap_or(WhyNot::Elsewhere);
        (bytes, has_more.then_some(why_not))
    }

    /// All of its pages, mapped where nobody touches them, for windows to show. `None`: it can't be
    /// had; or there was none and `make` does not ask for it.
    pub fn mirror(&self, sharing: Sharing, make: bool) -> Option<Arc<Mirror>> {
        // A writable mapping that nobody asked for would keep the memfd from being sealed.
        if sharing == Sharing::Shared && self.is_memory() {
            return None;
        }
        // Moved pages would be registered no more, and those of the empty file stay missing.
        if self.pager.is_some() {
            return None;
        }
        let length = PageAligned::round_up(self.byte_length)?;
        let whole = FilePages { file: &self.file, offset: self.file_offset, length };
        self.mirrors.get_or_make(sharing, make, || Mirror::new(whole, sharing))
    }

    pub fn mirrors(&self) -> &Arc<Mirrors> {
        &self.mirrors
    }
}
