//! Views: mappings of region pages at an address that the kernel picked, for ArrayBuffers.
//!
//! A view outlives its region as an address. When the region is closed, zeros replace its pages
//! unless it is one to keep, and its addresses stay mapped until nobody holds the view. Nothing
//! here may unmap them earlier: an `fs.read` into the buffer may still run on another thread.

// It registers views with the fault guard.
#![allow(unsafe_code)]

use super::backing::{FilePages, keep_out_of_dumps};
use crate::access::Access;
use crate::error::{RegionError, Result};
use crate::fault::{self, Counts, Proof, RangeSpec, Registration, Shown};
use crate::paging::Hold;
use crate::sys::lock::{Guard, Level, Lock};
use crate::sys::mmap::{self, Mmap, Pages, Sharing};
use crate::sys::page::{HUGE_PAGE_BYTES, PageAligned, PageSpan};
use crate::sys::vma_budget::VmaClaim;
use crate::sys::{SysResult, sum};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What closing the region does with a view, unless it is told what to do with all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtClose {
    Release,
    Keep,
}

#[derive(Debug)]
pub struct View {
    /// `None` once the view shows zeros. Dropped before the mapping, so that no handler finds
    /// addresses that are no longer ours.
    held: Lock<Option<Held>>,
    mmap: Mmap,
    /// Bytes from the first page's start to the view's first byte: less than a page.
    skew: u64,
    byte_length: u64,
    /// Where in the file its first page is.
    file_offset: PageAligned,
    is_shared: AtomicBool,
    is_placeholder: bool,
    at_close: AtClose,
}

/// What a view holds as long as it shows a region.
#[derive(Debug)]
struct Held {
    registration: Registration,
    _vmas: VmaClaim,
}

/// How a view shows its region. Sealing turns a shared one into a read-only one.
pub(super) fn sharing_of(access: Access) -> Sharing {
    match access {
        Access::Readonly => unwritable(),
        Access::Private | Access::Shared => access.sharing(),
    }
}

/// How a view shows a region that can't be written. Without a fault guard a write must not fault.
pub(super) fn unwritable() -> Sharing {
    if fault::ensure().is_ok() { Sharing::ReadOnly } else { Sharing::CopyOnWrite }
}

impl View {
    /// A view of nothing, which takes no memory. V8 counts it in place of memory that
    /// a region holds and no view shows.
    pub fn placeholder(byte_length: u64) -> Result<Arc<Self>> {
        let refused =
            |sys| RegionError::NotViewed { byte_length, refused: crate::error::Refused::from(sys) };
        let too_long = RegionError::ViewTooLong { byte_length };
        let length = PageAligned::round_up(byte_length).ok_or(too_long)?;
        let mmap = Mmap::new(length, Pages::ReadonlyZeros).map_err(refused)?;
        Ok(Arc::new(Self {
            held: Lock::new(Level::View, None),
            mmap,
            skew: 0,
            byte_length,
            file_offset: PageAligned::ZERO,
            is_shared: AtomicBool::new(false),
            is_placeholder: true,
            at_close: AtClose::Release,
        }))
    }

    /// `byte_length` bytes from `skew` on, which is in the first of these pages.
    pub(super) fn new(
        pages: FilePages<'_>,
        shown: Shown<'_>,
        counts: &Arc<Counts>,
        skew: u64,
        byte_length: u64,
        (access, at_close): (Access, AtClose),
    ) -> Result<Self> {
        let vmas = VmaClaim::take(1)
            .map_err(|full| RegionError::NotViewed { byte_length, refused: full.into() })?;
        let mmap = map(pages, shown.pager, sharing_of(access))
            .map_err(|sys| RegionError::NotViewed { byte_length, refused: sys.into() })?;
        keep_out_of_dumps(mmap.span());
        let range = RangeSpec {
            span: mmap.span(),
            memory_offset: None,
            is_window: false,
            is_image: false,
            access,
            counts: Arc::clone(counts),
            unprotected: Arc::default(),
            proof: Proof::Owned,
        };
        // SAFETY: the range is this view's own mapping, into which Rust makes no reference. It
        // shows these pages until `replace` pauses the registration, and is unmapped after the
        // registration is dropped: `held` is the first field.
        let registration = unsafe { Registration::new(range, shown) };
        registration.resume();
        Ok(Self {
            held: Lock::new(Level::View, Some(Held { registration, _vmas: vmas })),
            mmap,
            skew,
            byte_length,
            file_offset: pages.offset,
            is_shared: AtomicBool::new(access.writes_through()),
            is_placeholder: false,
            at_close,
        })
    }

    pub fn is_placeholder(&self) -> bool {
        self.is_placeholder
    }

    pub fn address(&self) -> u64 {
        sum(self.mmap.address(), self.skew)
    }

    pub fn byte_length(&self) -> u64 {
        self.byte_length
    }

    pub fn at_close(&self) -> AtClose {
        self.at_close
    }

    /// Whether it has pages of the region, and not zeros for good.
    pub fn shows_region(&self) -> bool {
        self.held().is_some()
    }

    pub(super) fn span(&self) -> PageSpan {
        self.mmap.span()
    }

    pub(super) fn file_offset(&self) -> PageAligned {
        self.file_offset
    }

    /// Whether what is written to it goes to the region.
    pub(super) fn is_shared(&self) -> bool {
        self.is_shared.load(Ordering::Acquire)
    }

    /// Shows the same bytes of the file, shared or not.
    pub(super) fn turn(&self, pages: Pages<'_>, is_shared: bool) -> SysResult<()> {
        self.replace(pages)?;
        keep_out_of_dumps(self.mmap.span());
        self.is_shared.store(is_shared, Ordering::Release);
        Ok(())
    }

    /// Shows zeros, for good: JavaScript that still reads the address sees other bytes than before.
    pub(super) fn blank(&self) -> SysResult<()> {
        self.replace(Pages::Zeros)?;
        *self.held() = None;
        Ok(())
    }

    /// Leaves the addresses mapped for good: see [`Mmap::abandon`].
    pub fn abandon(&self) {
        let _ = self.blank();
        self.mmap.abandon();
    }

    fn held(&self) -> Guard<'_, Option<Held>> {
        self.held.lock()
    }

    fn replace(&self, pages: Pages<'_>) -> SysResult<()> {
        let held = self.held();
        if let Some(held) = held.as_ref() {
            held.registration.pause();
        }
        let replaced = mmap::replace(self.mmap.owned(), pages);
        if let Some(held) = held.as_ref() {
            held.registration.resume();
        }
        replaced
    }
}

/// Where huge pages can be mapped as such, if there are any: that takes 2 MiB more of address space
/// for a moment.
fn map(pages: FilePages<'_>, pager: Option<&Hold>, sharing: Sharing) -> SysResult<Mmap> {
    if let Some(pager) = pager {
        return pager.map(pages.length, pages.offset, sharing);
    }
    let (length, offset) = (pages.length, pages.offset.get());
    let pages = pages.as_pages(sharing)?;
    if length.get() < HUGE_PAGE_BYTES {
        return Mmap::new(length, pages);
    }
    Mmap::new_congruent(length, pages, offset).or_else(|_| Mmap::new(length, pages))
}
