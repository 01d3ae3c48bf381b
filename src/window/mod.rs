//! Windows: mappings of a fixed address that slide over regions of any size.
//!
//! ```text
//!  region  |..........[bbbbbbbbbbbb]......................|     300 GB
//!                      |          |  slide: one system call
//!  memory  | heap ... [bbbbbbbbbbbb|rest] ...                   the window: always at the same address
//! ```
//!
//! A slide replaces pages as a mapping does, in one step: from a [mirror](crate::region::mirror)
//! where the region has one, in place where that can't leave a hole. What the window does not show,
//! past a region's end or when it is empty, is its *rest*: zeros, or inaccessible. Only a slide
//! that shows less than the one before needs a second call, which lays the rest.

// It registers windows with the fault guard.
#![allow(unsafe_code)]

pub mod readahead;

use crate::access::Access;
use crate::error::{Code, Error, Result};
use crate::fault::{self, Counts, Registration, Shown};
use crate::memory::table::Entry;
use crate::memory::{Held, Mapped, Memory, State, check_overlap, next_id, pages_of, span_at};
use crate::region::{RegionPages, keep_out_of_dumps};
use crate::sys::mmap::{self, Sharing};
use crate::sys::owned_span::OwnedSpan;
use crate::sys::page::{HUGE_PAGE_BYTES, PageAligned, PageSpan};
use crate::sys::vma_budget::VmaClaim;
use crate::sys::{SysError, SysResult};
use crate::v8::live_memory::LiveMemory;
use std::sync::{Arc, LazyLock};

/// VmaClaim that a window takes at most: what it shows, its rest, and what it cuts off its
/// surroundings.
const VMAS_OF_A_WINDOW: u64 = 3;

/// What is where no region is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tail {
    /// Zeros, which can be written as the window can.
    Zeros,
    /// Inaccessible: loads and stores trap.
    Inaccessible,
}

/// What a window is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    pub length: PageAligned,
    /// The most that a slide may ask for.
    pub access: Access,
    pub rest: Tail,
}

impl Kind {
    fn tail_sharing(self) -> Sharing {
        match (self.rest, self.access) {
            (Tail::Inaccessible, _) => Sharing::Inaccessible,
            (Tail::Zeros, access) if access.is_writable() => Sharing::CopyOnWrite,
            (Tail::Zeros, _) => Sharing::ReadOnly,
        }
    }

    /// Whether the rest may have been written without anybody noticing.
    fn tail_is_writable(self) -> bool {
        self.tail_sharing() == Sharing::CopyOnWrite
    }
}

/// A window, as its memory's table keeps it.
#[derive(Debug)]
pub(crate) struct Window {
    kind: Kind,
    /// How much of it shows a region, from its start.
    shown: PageAligned,
}

impl Window {
    pub(crate) fn shown(&self) -> PageAligned {
        self.shown
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    fn parts(&self, target: PageSpan) -> (Option<PageSpan>, Option<PageSpan>) {
        let middle = target.start().checked_add(self.shown).unwrap_or(target.end());
        (PageSpan::between(target.start(), middle), PageSpan::between(middle, target.end()))
    }

    /// Whether nothing in its rest is protected.
    pub(crate) fn tail_is_writable(&self) -> bool {
        self.kind.tail_is_writable()
    }

    /// What of it shows a region.
    pub(crate) fn shown_part(&self, target: PageSpan) -> Option<PageSpan> {
        self.parts(target).0
    }

    /// What of it shows nothing.
    pub(crate) fn tail_part(&self, target: PageSpan) -> Option<PageSpan> {
        self.parts(target).1
    }

    /// Lays the rest anew: what was written to it is forgotten, and its protection is back.
    pub(crate) fn fill_tail(&self, target: OwnedSpan<'_>) -> SysResult<()> {
        let rest = self.tail_part(target.span()).and_then(|rest| target.part(rest));
        rest.map_or(Ok(()), |rest| fault::show_past_end(rest, self.kind.tail_sharing()))
    }

    /// Shows these pages at the window's start, and its rest behind. If it fails the window shows
    /// what it did, or less of it, or nothing.
    fn slide(
        &mut self,
        target: OwnedSpan<'_>,
        pages: Option<(&RegionPages<'_>, Access)>,
    ) -> SysResult<()> {
        let shown = pages.map_or(PageAligned::ZERO, |(pages, _)| pages.length());
        let before = self.shown;
        self.shown = shown.min(before);
        if shown < before || self.kind.tail_is_writable() {
            // Before anything else, so that the window never shows parts of two regions.
            if let Err(sys) = self.fill_tail(target) {
                if sys.removed {
                    // What is there now can be written. Where this fails too, it stays.
                    let _ = self.fill_tail(target);
                } else {
                    self.shown = before;
                }
                return Err(sys);
            }
        }
        if let Some((pages, access)) = pages
            && let Err(sys) = show(target.first(pages.length().get()), pages, access)
        {
            if sys.removed {
                self.shown = PageAligned::ZERO;
                // Where this fails too, anonymous zeros are there.
                let _ = self.fill_tail(target);
            }
            return Err(sys);
        }
        self.shown = shown;
        Ok(())
    }
}

/// Puts a region's pages in the place of others.
fn show(target: OwnedSpan<'_>, pages: &RegionPages<'_>, access: Access) -> SysResult<()> {
    let sharing = access.sharing();
    let region = pages.region();
    let grain = pages.grain(target.span().start().get());
    let mut removed = false;
    let mirror = region.mirror(sharing, grain, !pages.is_one_step(sharing));
    if let Some(mirror) = mirror.filter(|_| mmap::can_move_now(sharing)) {
        match mirror.move_to(target, pages.region_offset()) {
            Ok(()) => return Ok(()),
            Err(sys) => removed = sys.removed,
        }
    }
    let file = pages.as_pages(sharing);
    let shown = file.and_then(|file| mmap::replace(target, file));
    shown.map_err(|sys| SysError { removed: sys.removed || removed, ..sys })?;
    // A private file mapping is dumped only if it was written.
    if access.is_writable() {
        keep_out_of_dumps(target.span());
    }
    Ok(())
}

impl Memory {
    /// Opens a window at an offset into the memory. It shows nothing yet.
    pub fn window_at(&self, live: LiveMemory<'_>, at: u64, kind: Kind) -> Result<Mapped> {
        let span = span_at(live, at, kind.length)?;
        let mut state = self.lock_at(live)?;
        check_overlap(&state.table, span)?;
        let from_free = state.table.free().contains(span);
        self.open(live, &mut state, span, kind, from_free)
    }

    /// Opens a window in space past the memory's original end that is ours. `None`: there is not
    /// enough, the memory must grow.
    ///
    /// `aligned`: at an address of the process that is a multiple of 2 MiB. A chunk that starts at
    /// such a multiple of its file is then mapped by entries for 2 MiB where the page cache has
    /// them, and touched by as many fewer page faults.
    pub fn window_in_free_space(
        &self,
        live: LiveMemory<'_>,
        kind: Kind,
        aligned: bool,
    ) -> Result<Option<Mapped>> {
        let mut state = self.lock_at(live)?;
        let free = match aligned {
            true => state.table.free().find_aligned(kind.length, self.base(), HUGE_PAGE_BYTES),
            false => state.table.free().find(kind.length),
        };
        let free = free.filter(|span| span.end() <= live.byte_length());
        match free {
            Some(span) => self.open(live, &mut state, span, kind, true).map(Some),
            // As for mappings: what would be refused after the growth is refused before.
            None => VmaClaim::take(VMAS_OF_A_WINDOW)
                .map(|_| None)
                .map_err(|full| Error::no_headroom("can't open a window", full)),
        }
    }

    pub(crate) fn open(
        &self,
        live: LiveMemory<'_>,
        state: &mut State,
        span: PageSpan,
        kind: Kind,
        from_free: bool,
    ) -> Result<Mapped> {
        let what = || format!("can't open a window of {} bytes", span.length().get());
        let owned = pages_of(live, span)?;
        let vmas =
            VmaClaim::take(VMAS_OF_A_WINDOW).map_err(|full| Error::no_headroom(what(), full))?;
        let guarded = fault::RangeSpec {
            span: owned.span(),
            memory_offset: Some(span.start()),
            is_window: true,
            access: kind.access,
            counts: Arc::default(),
            unprotected: self.unprotected(),
            proof: self.proof(state),
        };
        // SAFETY: the target is a part of a living memory. It shows zeros before
        // `resume` is called; a slide pauses the registration, and says by `set_shown` what is
        // there when it resumes it. A dead memory's pages can't be touched any more.
        let registration = unsafe { Registration::new(guarded, nothing()) };
        let window = Window { kind, shown: PageAligned::ZERO };
        window.fill_tail(owned).map_err(|sys| {
            if sys.removed {
                state.laid = None;
            }
            Error::from_sys(Code::MapFailed, what(), sys)
        })?;
        let id = next_id();
        let entry = Entry {
            span,
            access: kind.access,
            id,
            from_free,
            region_offset: PageAligned::ZERO,
            inode: 0,
            file_offset: PageAligned::ZERO,
        };
        registration.resume();
        state.table.insert(entry, true, Held { registration, _vmas: vmas, window: Some(window) });
        Ok(Mapped { start: span.start(), id })
    }

    /// Makes a window show these pages of a region, or nothing. False: the window is not there any
    /// more.
    ///
    /// If the kernel refuses, the window shows what it did, or less of it, or nothing; never parts
    /// of two regions.
    pub fn slide(
        &self,
        live: LiveMemory<'_>,
        mapped: Mapped,
        pages: Option<(&RegionPages<'_>, Access)>,
    ) -> Result<bool> {
        let mut state = self.lock_to_slide(live, mapped.start)?;
        let Some((entry, held)) = state.table.get_mut(mapped.start, mapped.id) else {
            return Ok(false);
        };
        if held.registration.counts().is_faulted() {
            // lib/fault/faults.js says more.
            return Err(Error::new(Code::Faulted, "the window has faulted"));
        }
        let slid = self.slide_held(live, entry, held, pages);
        // Whatever was written to it, and a snapshot may have kept, is gone.
        held.registration.mark_changed();
        slid.map(|()| true)
    }

    pub(crate) fn slide_held(
        &self,
        live: LiveMemory<'_>,
        entry: &mut Entry,
        held: &mut Held,
        pages: Option<(&RegionPages<'_>, Access)>,
    ) -> Result<()> {
        let Some(window) = held.window.as_mut() else {
            return Err(Error::new(Code::Internal, "a mapping is no window"));
        };
        let target = pages_of(live, entry.span)?;
        if let Some((pages, access)) = pages {
            check_slide(pages, access, window.kind)?;
        }
        let what = || match pages {
            Some((pages, _)) => {
                format!("can't slide a window to region \"{}\"", pages.region().name())
            }
            None => "can't empty a window".to_owned(),
        };
        held.registration.pause();
        let slid = window.slide(target, pages);
        match (&slid, pages) {
            (Ok(()), Some((pages, access))) => {
                entry.access = access;
                entry.inode = pages.inode();
                entry.file_offset = pages.file_offset();
                entry.region_offset = pages.region_offset();
                held.registration.set_shown(pages.shown());
            }
            // Nothing: it was asked for, or the kernel had no memory to put back what it removed.
            (Ok(()), None) | (Err(SysError { removed: true, .. }), _)
                if window.shown == PageAligned::ZERO =>
            {
                entry.inode = 0;
                entry.file_offset = PageAligned::ZERO;
                entry.region_offset = PageAligned::ZERO;
                held.registration.set_shown(nothing());
            }
            // As it was, perhaps less of it.
            _ => {}
        }
        held.registration.resume();
        slid.map_err(|sys| Error::from_sys(Code::MapFailed, what(), sys))
    }

    /// The faults that a mapping or window had so far, and in which file it shows pages now.
    /// `None`: it is not there any more.
    pub fn counts(&self, mapped: Mapped) -> Option<(Arc<Counts>, u64)> {
        let state = self.lock();
        let (entry, held) = state.table.get(mapped.start, mapped.id)?;
        Some((Arc::clone(held.registration.counts()), entry.inode))
    }
}

fn check_slide(pages: &RegionPages<'_>, access: Access, kind: Kind) -> Result<()> {
    if pages.length() > kind.length {
        return Err(Error::new(Code::Internal, "a slide shows more than the window holds"));
    }
    if !kind.access.allows(access) {
        let message = "access allows more than the window was opened with; open the window with it";
        return Err(Error::new(Code::InvalidValue, message));
    }
    if access.writes_through() && !pages.region().is_writable() {
        let message = format!(
            "can't slide to region \"{}\" with access 'shared': it is sealed, or its file was opened for reading only; use 'readonly' or 'private'",
            pages.region().name()
        );
        return Err(Error::new(Code::RegionReadonly, message));
    }
    Ok(())
}

fn nothing() -> Shown<'static> {
    static NO_NAME: LazyLock<Arc<str>> = LazyLock::new(|| Arc::from(""));
    Shown {
        inode: 0,
        file_offset: PageAligned::ZERO,
        region_offset: PageAligned::ZERO,
        region_name: &NO_NAME,
    }
}
