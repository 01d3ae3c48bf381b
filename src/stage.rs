//! Stages: a region's pages, mapped once where nobody touches them, ready to be moved into windows.
//!
//! ```text
//!  region  |..............[bbbbbbbbbbbb]..................|     300 GB
//!                          |          |
//!  stage   |..............[bbbbbbbbbbbb]..................|     all of it, one area of address space and nothing else
//!                          |  mremap  |  one system call, for the pages and for what was brought in of them
//!  memory  | heap ...     [bbbbbbbbbbbb|rest] ...               a window: always at the same address
//! ```
//!
//! A file's pages can't be mapped over others by one `mmap` without the danger of a hole (see `sys::mmap`), and two calls take twice as
//! long. A range of the stage is moved over the window instead (MREMAP_DONTUNMAP: the stage keeps its area). Whoever
//! touches pages in the stage before, on another thread, spares the module its page faults.
//!
//! All windows of a region that see it in the same way share one stage. It is never split: no call changes a part of its area.

use crate::region::{RegionPages, keep_out_of_dumps};
use crate::sys::SysResult;
use crate::sys::areas::Areas;
use crate::sys::mmap::{self, Advice, Mmap, Sharing};
use crate::sys::page::{PageAligned, PageSpan};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Page tables of what was brought in and moved away stay with a stage, 2 MiB for each GiB. After so many bytes it is replaced.
const USED_UP_BYTES: u64 = 32 << 30;

#[derive(Debug)]
pub struct Stage {
    mmap: Mmap,
    brought_in_bytes: AtomicU64,
    _areas: Areas,
}

impl Stage {
    /// `None`: there is no address space for it, or the kernel can't move pages from it.
    pub fn new(whole: &RegionPages<'_>, sharing: Sharing) -> Option<Self> {
        if !mmap::can_stage(sharing) || !mmap::can_move_from(whole.as_pages(sharing)) {
            return None;
        }
        let areas = Areas::take(1).ok()?;
        let mmap = Mmap::new(whole.length(), whole.as_pages(sharing)).ok()?;
        // As V8's pages: moved ones must not differ in this. All of it, so that it stays one area.
        mmap::advise(mmap.span(), Advice::DontFork).ok()?;
        keep_out_of_dumps(mmap.span());
        Some(Self { mmap, brought_in_bytes: AtomicU64::new(0), _areas: areas })
    }

    fn is_used_up(&self) -> bool {
        self.brought_in_bytes.load(Ordering::Relaxed) >= USED_UP_BYTES
    }

    /// Where a range of the region lies.
    fn addresses(&self, range: PageSpan) -> Option<PageSpan> {
        range.at_base(self.mmap.span().start())
    }

    /// Moves a range of the region to where a window shows it.
    ///
    /// # Safety
    /// As [`mmap::replace`].
    pub unsafe fn move_to(&self, target: PageSpan, offset: PageAligned) -> SysResult<()> {
        let from = PageSpan::new(offset, target.length()).and_then(|range| self.addresses(range));
        // SAFETY: the caller's promise. What does not lie in the stage is refused.
        unsafe { mmap::move_from(&self.mmap, from.unwrap_or(target), target) }
    }

    /// Brings a range in, so that it is there when it is moved. Best effort.
    pub fn bring_in(&self, range: PageSpan, holes_stay: bool) {
        let Some(span) = self.addresses(range) else { return };
        self.brought_in_bytes.fetch_add(span.length().get(), Ordering::Relaxed);
        if !holes_stay {
            let _ = mmap::advise(span, Advice::PopulateRead);
            return;
        }
        // A read of a memfd's hole would take memory.
        let page = PageAligned::round_up(1).unwrap_or_default();
        let mut start = span.start();
        let mut runs = self.mmap.resident(span).into_iter().peekable();
        while let Some(is_there) = runs.next() {
            let mut end = start.checked_add(page).unwrap_or(start);
            while runs.next_if_eq(&is_there).is_some() {
                end = end.checked_add(page).unwrap_or(end);
            }
            if let Some(run) = PageSpan::between(start, end).filter(|_| is_there) {
                let _ = mmap::advise(run, Advice::PopulateRead);
            }
            start = end;
        }
    }

    /// Starts to read a range from the disk.
    pub fn read_ahead(&self, range: PageSpan) {
        if let Some(span) = self.addresses(range) {
            let _ = mmap::advise(span, Advice::WillNeed);
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

/// The stages of a region: one for each way to see it.
#[derive(Debug, Default)]
pub struct Stages {
    by_sharing: [Mutex<Slot>; 3],
}

#[derive(Debug, Default)]
enum Slot {
    #[default]
    Empty,
    Made(Arc<Stage>),
    /// It could not be had once. It is not tried again, since slides must stay fast.
    Refused,
}

impl Stages {
    fn slot(&self, sharing: Sharing) -> Option<MutexGuard<'_, Slot>> {
        let index = match sharing {
            Sharing::ReadOnly => 0,
            Sharing::CopyOnWrite => 1,
            Sharing::Shared => 2,
            Sharing::Inaccessible => return None,
        };
        Some(self.by_sharing.get(index)?.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The stage, if there is one.
    pub fn get(&self, sharing: Sharing) -> Option<Arc<Stage>> {
        match &*self.slot(sharing)? {
            Slot::Made(stage) => Some(Arc::clone(stage)),
            Slot::Empty | Slot::Refused => None,
        }
    }

    /// The stage; made, if it is used up, or if there is none and `first` asks for it.
    pub fn get_or_make(
        &self,
        sharing: Sharing,
        first: bool,
        make: impl FnOnce() -> Option<Stage>,
    ) -> Option<Arc<Stage>> {
        let mut slot = self.slot(sharing)?;
        match &*slot {
            Slot::Made(stage) if !stage.is_used_up() => return Some(Arc::clone(stage)),
            Slot::Refused => return None,
            Slot::Empty if !first => return None,
            Slot::Made(_) | Slot::Empty => {}
        }
        let made = make().map(Arc::new);
        *slot = made.clone().map_or(Slot::Refused, Slot::Made);
        made
    }
}
