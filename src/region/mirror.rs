//! Mirrors: a region's pages, mapped once where nobody touches them, to be moved into windows.
//!
//! ```text
//!  region  |..............[bbbbbbbbbbbb]..................|   300 GB
//!                          |          |
//!  mirror  |..............[bbbbbbbbbbbb]..................|   all of it: one VMA of address space
//!                          |  mremap  |                       moves what was brought in, too
//!  memory  | heap ...     [bbbbbbbbbbbb|tail] ...             a window, always at the same address
//! ```
//!
//! One `mmap` can't put a file's pages over others without the danger of a hole (see `sys::mmap`),
//! and two calls take twice as long. A range of the mirror is moved over the window instead
//! (MREMAP_DONTUNMAP: the mirror keeps its VMA). A thread that touches pages in the mirror before
//! spares the module its page faults.
//!
//! All windows of a region that see it in the same way share a mirror. No call may change a part of
//! its VMA: a mirror is never split.
//!
//! Where the page cache has folios of 2 MiB, the kernel maps each by one entry. Such an entry moves
//! only as a whole, and to an address that is congruent to its own. If a slide takes a part of it,
//! or shows it elsewhere, the kernel drops the entry, and the window faults the pages in again. A
//! second mirror of small pages would gain at most 3 percent there (docs/internals.md).

use super::backing::{FilePages, keep_out_of_dumps};
use crate::sys::limits;
use crate::sys::lock::{Guard, Level, Lock};
use crate::sys::mmap::{self, Advice, Hint, Mmap, Sharing};
use crate::sys::owned_span::OwnedSpan;
use crate::sys::page::{PageAligned, PageSpan};
use crate::sys::vma_budget::VmaClaim;
use crate::sys::{SysError, SysResult};
use nix::errno::Errno;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// Page tables of what was brought in and moved away stay with a mirror, 2 MiB for each GiB. After
/// so many bytes it is replaced.
const USED_UP_BYTES: u64 = 32 << 30;

/// All mirrors together may take one in so many parts of the address space.
const SHARE_OF_ADDRESS_SPACE: u64 = 4;

#[derive(Debug)]
pub struct Mirror {
    mmap: Mmap,
    brought_in_bytes: AtomicU64,
    _vmas: VmaClaim,
    _space: Space,
}

/// Address space that mirrors take. Given back when dropped.
#[derive(Debug)]
struct Space(u64);

static SPACE_TAKEN: AtomicU64 = AtomicU64::new(0);

impl Space {
    /// `None`: the others have left too little.
    fn take(bytes: u64) -> Option<Self> {
        static MOST: OnceLock<u64> = OnceLock::new();
        let most = match MOST.get() {
            Some(most) => *most,
            None => {
                // Not remembered if the map can't be read now.
                let space = limits::address_space().ok()?;
                *MOST.get_or_init(|| space.total_bytes / SHARE_OF_ADDRESS_SPACE)
            }
        };
        let more = |taken: u64| taken.checked_add(bytes).filter(|taken| *taken <= most);
        let taken = SPACE_TAKEN.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        taken.ok().map(|_| Self(bytes))
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        SPACE_TAKEN.fetch_sub(self.0, Ordering::Relaxed);
    }
}

impl Mirror {
    pub(super) fn new(whole: FilePages<'_>, sharing: Sharing) -> Result<Self, NoMirror> {
        let space = Space::take(whole.length.get()).ok_or(NoMirror::ForNow)?;
        let pages = whole.as_pages(sharing).map_err(|_| NoMirror::ForGood)?;
        if !mmap::can_mirror(sharing) || !mmap::can_move_from(pages) {
            return Err(NoMirror::ForGood);
        }
        let vmas = VmaClaim::take(1).map_err(|_| NoMirror::ForNow)?;
        let mmap = Mmap::new(whole.length, pages).map_err(|_| NoMirror::ForGood)?;
        // As V8's pages: moved ones must not differ in this. All of it, so that it stays one VMA.
        mmap::advise(mmap.owned(), Advice::DontFork).map_err(|_| NoMirror::ForGood)?;
        keep_out_of_dumps(mmap.span());
        Ok(Self { mmap, brought_in_bytes: AtomicU64::new(0), _vmas: vmas, _space: space })
    }

    fn is_used_up(&self) -> bool {
        self.brought_in_bytes.load(Ordering::Relaxed) >= USED_UP_BYTES
    }

    /// Where a range of the region is. `None`: not in this mirror.
    fn addresses(&self, range: PageSpan) -> Option<PageSpan> {
        range.at_base(self.mmap.span().start())?.within(self.mmap.span())
    }

    /// Moves a range of the region to where a window shows it.
    pub fn move_to(&self, target: OwnedSpan<'_>, offset: PageAligned) -> SysResult<()> {
        let from = PageSpan::new(offset, target.span().length());
        let from = from.and_then(|range| self.addresses(range));
        let outside = SysError::new("mremap", Errno::EFAULT);
        mmap::move_from(&self.mmap, from.ok_or(outside)?, target)
    }

    /// Brings a range in, so that it is there when it is moved. Best effort.
    pub fn bring_in(&self, range: PageSpan, holes_stay: bool) {
        let Some(span) = self.addresses(range) else { return };
        self.brought_in_bytes.fetch_add(span.length().get(), Ordering::Relaxed);
        if !holes_stay {
            let _ = mmap::hint(span, Hint::PopulateRead);
            return;
        }
        // A read of a memfd's hole would take memory.
        let page = PageAligned::round_up(1).expect("a host page has at least a byte");
        let next = |at: PageAligned| at.checked_add(page).expect("the mirror ends below 2^64");
        let mut start = span.start();
        let mut runs = self.mmap.resident(span).into_iter().map(|byte| byte & 1 == 1).peekable();
        while let Some(is_there) = runs.next() {
            let mut end = next(start);
            while runs.next_if_eq(&is_there).is_some() {
                end = next(end);
            }
            if let Some(run) = PageSpan::between(start, end).filter(|_| is_there) {
                let _ = mmap::hint(run, Hint::PopulateRead);
            }
            start = end;
        }
    }

    /// Starts to read a range from the disk.
    pub fn read_ahead(&self, range: PageSpan) {
        if let Some(span) = self.addresses(range) {
            let _ = mmap::hint(span, Hint::WillNeed);
        }
    }

    /// Unmaps what was brought in and not moved, so that the kernel may let it go.
    pub fn leave(&self, range: PageSpan) {
        if let Some(span) = self.addresses(range) {
            let _ = self.mmap.drop_pages(span);
        }
    }

    /// The same for all of it.
    pub fn leave_all(&self) {
        let _ = self.mmap.drop_pages(self.mmap.span());
    }
}

/// Why there is no mirror.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoMirror {
    /// Other mirrors or VMAs take what it needs.
    ForNow,
    /// The kernel can't, or may not.
    ForGood,
}

/// The mirrors of a region: one for each way to see it.
#[derive(Debug)]
pub struct Mirrors {
    readonly: Lock<Slot>,
    copy_on_write: Lock<Slot>,
    shared: Lock<Slot>,
}

#[derive(Debug)]
enum Slot {
    Empty,
    Made(Arc<Mirror>),
    /// It is not tried again, since slides must stay fast.
    Refused,
}

impl Default for Mirrors {
    fn default() -> Self {
        let slot = || Lock::new(Level::Mirror, Slot::Empty);
        Self { readonly: slot(), copy_on_write: slot(), shared: slot() }
    }
}

impl Mirrors {
    fn slot(&self, sharing: Sharing) -> Option<Guard<'_, Slot>> {
        let slot = match sharing {
            Sharing::ReadOnly => &self.readonly,
            Sharing::CopyOnWrite => &self.copy_on_write,
            Sharing::Shared => &self.shared,
            Sharing::Inaccessible => return None,
        };
        Some(slot.lock())
    }

    /// The mirror, if there is one.
    pub fn get(&self, sharing: Sharing) -> Option<Arc<Mirror>> {
        match &*self.slot(sharing)? {
            Slot::Made(mirror) => Some(Arc::clone(mirror)),
            Slot::Empty | Slot::Refused => None,
        }
    }

    /// The mirror; made, if it is used up, or if there is none and `first` asks for it.
    pub fn get_or_make(
        &self,
        sharing: Sharing,
        first: bool,
        make: impl FnOnce() -> Result<Mirror, NoMirror>,
    ) -> Option<Arc<Mirror>> {
        let mut slot = self.slot(sharing)?;
        match &*slot {
            Slot::Made(mirror) if !mirror.is_used_up() => return Some(Arc::clone(mirror)),
            Slot::Refused => return None,
            Slot::Empty if !first => return None,
            Slot::Made(_) | Slot::Empty => {}
        }
        // One that is used up goes first: it may be what the new one needs.
        *slot = Slot::Empty;
        match make() {
            Ok(mirror) => {
                let mirror = Arc::new(mirror);
                *slot = Slot::Made(Arc::clone(&mirror));
                Some(mirror)
            }
            Err(NoMirror::ForNow) => None,
            Err(NoMirror::ForGood) => {
                *slot = Slot::Refused;
                None
            }
        }
    }
}
