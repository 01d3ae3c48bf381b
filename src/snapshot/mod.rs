//! Snapshots: the pages of a linear memory at one moment, and putting them back.
//!
//! # What is kept
//!
//! ```text
//!  memory   |dddddd....dd..........................|mmmmmmmmmm|.......dd..|    d: data  .: zeros  m: a mapping
//!  pieces   |[__________]                          |          |      [__] |    what is laid from the memfd
//!  memfd    |header|dddddd    dd                                      dd  |tail|    sealed; holes take no memory
//! ```
//!
//! Mappings of regions are kept as what they are: which region, where, with what access. Of private ones, the pages that were
//! written are kept too.
//!
//! # Putting it back
//!
//! The first restore of a memory *lays* the pieces: private mappings of the memfd, one `mmap` each, whatever their size. From
//! then on the kernel knows which pages differ from the snapshot: those that were written, which are the process's own pages
//! (`sys/pagemap.rs`); all others are still the memfd's, and shared by all memories that show it. The next restores *clean*: they find the
//! own pages and either copy the snapshot's bytes over them, or drop them.
//!
//! Copying a page takes about 0.1 us, and the next write to it nothing. Dropping it costs as much, and the next write a page fault,
//! which is 1 to 2 us. So the first [`Settings::keep_resident_bytes`] are copied, and what is beyond is dropped, so that no memory keeps more than that
//! once it is clean. Where the kernel can't tell own pages (before 6.7), all are dropped.

mod capture;
mod format;
mod restore;
mod store;

pub use capture::MappedRegion;
pub(crate) use restore::Laid;
pub use store::Loaded;

use crate::error::{Code, Error, Result};
use crate::mapping::Access;
use crate::region::{Region, RegionPages};
use crate::sys::checked_fd::{CheckedFd, Description};
use crate::sys::mmap::{self, Advice, Mmap, Pages, Sharing};
use crate::sys::page::{HUGE_PAGE_BYTES, PageAligned, PageSpan, WASM_PAGE_BYTES, host_page_bytes};
use crate::sys::{SysResult, file, memfd};
use crate::window::Kind;
use format::{Header, Tail};
use nix::errno::Errno;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// A mapping or window that a snapshot keeps.
#[derive(Debug, Clone)]
pub struct KeptMapping {
    pub span: PageSpan,
    /// What it shows; `None` for an empty window.
    pub shown: Option<KeptRegion>,
    /// Of a mapping. A window's is that of what it shows.
    pub access: Access,
    /// Whether its place goes back to the free space past the memory's original end.
    pub from_free: bool,
    /// `None` for a mapping.
    pub window: Option<Kind>,
}

/// A range of a region.
#[derive(Debug, Clone)]
pub struct KeptRegion {
    pub region: Arc<Region>,
    pub byte_offset: PageAligned,
    pub byte_length: u64,
}

impl KeptRegion {
    fn pages(&self) -> Result<RegionPages<'_>> {
        self.region.pages(self.byte_offset, self.byte_length)
    }
}

/// How a snapshot is kept and restored.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// How many bytes of written pages a restore copies at most; the pages beyond are dropped.
    pub keep_resident_bytes: u64,
    /// Whether its pages are gathered in huge ones where they can be.
    pub huge_pages: bool,
}

#[derive(Debug)]
pub struct Snapshot {
    /// Tells it from all others of the process, past ones too. Not 0.
    id: u64,
    name: Arc<str>,
    fd: CheckedFd,
    content: Arc<Content>,
    /// Where byte 0 of the memory is in the memfd.
    data_offset: PageAligned,
    byte_length: PageAligned,
    tail: OnceLock<Tail>,
    /// Before it is finished.
    draft: Tail,
    mappings: OnceLock<Vec<KeptMapping>>,
    settings: Settings,
    /// The memfd's pages, to copy from. Empty as long as there was no address space for them.
    image: OnceLock<Image>,
}

/// Where a snapshot's memfd is not all zeros: for a later snapshot of a memory that shows it, since reading its holes would fill them.
#[derive(Debug)]
pub(crate) struct Content {
    inode: u64,
    data_offset: PageAligned,
    /// As offsets in the memory, in order.
    data: Vec<PageSpan>,
}

/// A read-only mapping of what a snapshot holds.
#[derive(Debug)]
struct Image {
    mmap: Mmap,
    /// Which byte of the memory is its first.
    start: PageAligned,
}

impl Image {
    /// Where the bytes of these pages are.
    fn of(&self, span: PageSpan) -> Option<PageAligned> {
        let skew = span.start().checked_sub(self.start)?;
        let address = self.mmap.span().start().checked_add(skew)?;
        let end = address.checked_add(span.length())?;
        (end <= self.mmap.span().end()).then_some(address)
    }
}

fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Where a memory at this address begins in a snapshot's file.
fn data_offset_for(base: PageAligned) -> PageAligned {
    let rest = base.get() % HUGE_PAGE_BYTES;
    let offset = if rest < WASM_PAGE_BYTES { rest.saturating_add(HUGE_PAGE_BYTES) } else { rest };
    PageAligned::round_down(offset)
}

impl Snapshot {
    fn new(
        name: &str,
        fd: OwnedFd,
        description: Description,
        content: Content,
        header: &Header,
        draft: Tail,
        settings: Settings,
    ) -> SysResult<Self> {
        Ok(Self {
            id: next_id(),
            name: name.into(),
            fd: CheckedFd::new(fd, description)?,
            content: Arc::new(content),
            data_offset: header.data_offset,
            byte_length: header.byte_length,
            tail: OnceLock::new(),
            draft,
            mappings: OnceLock::new(),
            settings,
            image: OnceLock::new(),
        })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// A descriptor of its memfd that is the caller's.
    pub fn duplicate_fd(&self) -> Result<OwnedFd> {
        self.fd.duplicate().map_err(|sys| {
            let what = format!("can't duplicate the descriptor of snapshot \"{}\"", self.name);
            Error::from_sys(Code::OpenFailed, what, sys)
        })
    }

    /// Bytes of the memory that it was taken of.
    pub fn byte_length(&self) -> PageAligned {
        self.byte_length
    }

    /// Bytes of memory that it holds at this moment.
    pub fn resident_bytes(&self) -> u64 {
        self.fd.get().and_then(file::status).map_or(0, |status| status.allocated_bytes)
    }

    pub fn mappings(&self) -> &[KeptMapping] {
        self.mappings.get().map_or(&[], Vec::as_slice)
    }

    fn tail(&self) -> &Tail {
        self.tail.get().unwrap_or(&self.draft)
    }

    fn header(&self, tail_bytes: u64) -> Header {
        Header { byte_length: self.byte_length, data_offset: self.data_offset, tail_bytes, checksum: 0 }
    }

    /// Completes a snapshot that was captured: from now on nobody can write it. `metadata` is what the caller wants to know again when it is
    /// loaded elsewhere.
    pub fn finish(&self, metadata: String) -> Result<()> {
        let failed = |sys| Error::from_sys(Code::OutOfMemory, "can't complete a snapshot", sys);
        let tail = Tail { metadata, ..self.draft.clone() };
        let bytes = tail.encode();
        let header = self.header(crate::sys::to_u64(bytes.len()));
        let fd = self.fd.get().map_err(failed)?;
        file::write_all(fd, header.tail_offset(), &bytes).map_err(failed)?;
        file::write_all(fd, 0, &header.encode()).map_err(failed)?;
        memfd::seal_size(fd).map_err(failed)?;
        memfd::seal_write(fd).map_err(failed)?;
        self.tail.set(tail).map_err(|_| Error::new(Code::Internal, "the snapshot is complete already"))?;
        if self.settings.huge_pages {
            self.gather();
        }
        Ok(())
    }

    /// Gathers the memfd's pages in huge ones where they are dense. What a memory has read of them is one entry of its page tables
    /// then for 2 MiB, and costs a restore nothing. Best effort.
    fn gather(&self) {
        let Some(image) = self.image() else { return };
        let resident = image.mmap.resident(image.mmap.span());
        let whole = |span: PageSpan| {
            let start = span.start().get().checked_next_multiple_of(HUGE_PAGE_BYTES)?;
            PageSpan::new(PageAligned::new(start)?, PageAligned::new(HUGE_PAGE_BYTES)?)
        };
        let mut next = whole(image.mmap.span());
        while let Some(block) = next.filter(|block| block.end() <= image.mmap.span().end()) {
            next = PageSpan::between(block.end(), image.mmap.span().end()).and_then(whole);
            let pages = |bytes: u64| crate::sys::to_usize(bytes.checked_div(host_page_bytes()).unwrap_or(0));
            let first = pages(block.start().get().saturating_sub(image.mmap.address()));
            let count = pages(HUGE_PAGE_BYTES);
            let held = resident.iter().skip(first).take(count).filter(|page| **page).count();
            // Where a quarter is missing, the memory that it would take is worth more.
            if held.saturating_mul(4) < count.saturating_mul(3) {
                continue;
            }
            // EINVAL: the system has none. Else this block can't be had now.
            let refused = mmap::advise(block, Advice::Collapse).err();
            if refused.is_some_and(|sys| sys.errno == Errno::EINVAL) {
                return;
            }
        }
    }

    /// Says what regions the mappings of a loaded snapshot show. It has none before.
    pub fn set_mappings(&self, mappings: Vec<KeptMapping>) -> Result<()> {
        let is_sound = |mapping: &KeptMapping| mapping.span.end() <= self.byte_length;
        let follow = mappings.windows(2).all(|pair| match pair {
            [first, second] => first.span.end() <= second.span.start(),
            _ => true,
        });
        // Writing to others on a restore would end the process.
        let lies_in_one = |written: &PageSpan| {
            let index = mappings.partition_point(|mapping| mapping.span.end() <= written.start());
            let private = mappings.get(index).filter(|mapping| mapping.access == Access::Private);
            private.and_then(|mapping| written.within(mapping.shown_part()?)) == Some(*written)
        };
        if !follow || !mappings.iter().all(is_sound) || !self.tail().written.iter().all(lies_in_one) {
            return Err(format::invalid(
                "its mappings lie over each other or outside of the memory, or written pages outside of private ones",
            ));
        }
        self.mappings
            .set(mappings)
            .map_err(|_| Error::new(Code::Internal, "the snapshot has its mappings already"))
    }

    /// Pages of the memfd for a part of the memory.
    fn pages(&self, span: PageSpan, sharing: Sharing) -> SysResult<Pages<'_>> {
        let overflow = crate::sys::SysError::new("mmap", nix::errno::Errno::EOVERFLOW);
        let offset = self.data_offset.checked_add(span.start()).ok_or(overflow)?;
        Ok(Pages::File { fd: self.fd.get()?, offset, sharing, is_memfd: true })
    }

    /// All that it holds, mapped to be copied from.
    fn image(&self) -> Option<&Image> {
        let make = || {
            let kept = self.tail().kept();
            let end = kept.iter().map(|span| span.end()).max()?;
            let span = PageSpan::between(kept.first()?.start(), end)?;
            let pages = self.pages(span, Sharing::ReadOnly).ok()?;
            let offset = self.data_offset.checked_add(span.start())?.get();
            let mmap = Mmap::new_congruent(span.length(), pages, offset).ok()?;
            Some(Image { mmap, start: span.start() })
        };
        match self.image.get() {
            Some(image) => Some(image),
            None => {
                let image = make()?;
                Some(self.image.get_or_init(|| image))
            }
        }
    }
}
