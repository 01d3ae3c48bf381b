//! Windows: mappings of a fixed address that slide over regions of any size.
//!
//! ```text
//!  region  |..........[bbbbbbbbbbbb]......................|     300 GB
//!                      |          |  slide
//!  stage   |..........[bbbbbbbbbbbb]......................|     the whole region, mapped once, where nobody touches it
//!                      |  mremap  |  one system call
//!  memory  | heap ... [bbbbbbbbbbbb|rest] ...                   the window: always at the same address
//! ```
//!
//! A file's pages can't be mapped over others by one `mmap` without the danger of a hole (see `sys::mmap`). So a window keeps
//! a *stage*: a mapping of the whole region at an address that nobody uses, which takes address space and nothing else. A
//! slide moves a range of it over the window by one `mremap`, with all that was brought in there already: whoever touches the next
//! chunk in the stage, on another thread, spares the module the page faults.
//!
//! What the window does not show, past a region's end or when it is empty, is its *rest*: zeros, or inaccessible.

use crate::error::{Code, Error, Result};
use crate::fault::{self, Counts, Registration, Source};
use crate::mapping::{Access, Entry};
use crate::memory::{Held, Mapped, Memory, Place, State, check_overlap, next_id, span_at};
use crate::region::{RegionPages, keep_out_of_dumps};
use crate::sys::SysResult;
use crate::sys::areas::Areas;
use crate::sys::mmap::{self, Mmap, Sharing};
use crate::sys::page::{PageAligned, PageSpan};
use nix::errno::Errno;
use std::sync::Arc;

/// Areas that a window takes at most: what it shows, its rest, what it cuts off its surroundings, and its stage.
const AREAS_OF_A_WINDOW: u64 = 4;

/// What is where no region is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// Zeros that can be written.
    Zeros,
    /// Inaccessible: loads and stores trap.
    Inaccessible,
}

/// What a window is to be.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    pub length: PageAligned,
    /// The most that a slide may ask for.
    pub access: Access,
    pub rest: Rest,
}

/// A window, as its memory's table keeps it.
#[derive(Debug)]
pub(crate) struct Window {
    kind: Kind,
    /// How much of it shows a region, from its start.
    shown: PageAligned,
    stage: Option<Stage>,
}

/// A region's pages, ready to be moved.
#[derive(Debug)]
struct Stage {
    region: u64,
    sharing: Sharing,
    whole: Mmap,
}

impl Window {
    /// What of it is to be read-only, and what inaccessible.
    pub(crate) fn protection(
        &self,
        target: PageSpan,
        access: Access,
    ) -> (Option<PageSpan>, Option<PageSpan>) {
        let (shown, rest) = self.parts(target);
        (shown.filter(|_| access == Access::Readonly), rest.filter(|_| self.kind.rest == Rest::Inaccessible))
    }

    fn parts(&self, target: PageSpan) -> (Option<PageSpan>, Option<PageSpan>) {
        let middle = target.start().checked_add(self.shown).unwrap_or(target.end());
        (PageSpan::between(target.start(), middle), PageSpan::between(middle, target.end()))
    }

    /// Puts pages at the start of the window.
    ///
    /// # Safety
    /// As [`mmap::replace`].
    unsafe fn show(&mut self, target: PageSpan, pages: &RegionPages<'_>, sharing: Sharing) -> SysResult<()> {
        let is_staged = |stage: &Stage| stage.region == pages.region().id() && stage.sharing == sharing;
        if !self.stage.as_ref().is_some_and(is_staged) {
            self.stage = Stage::new(pages, sharing);
        }
        if let Some(stage) = &self.stage
            && let Some(from) = PageSpan::new(pages.region_offset(), pages.length())
                .and_then(|span| span.at_base(stage.whole.span().start()))
        {
            // SAFETY: the caller's promise.
            match unsafe { mmap::move_from(&stage.whole, from, target) } {
                // An older kernel.
                Err(sys) if sys.errno == Errno::EINVAL => self.stage = None,
                moved => return moved,
            }
        }
        // SAFETY: the caller's promise.
        unsafe { mmap::replace(target, pages.as_pages(sharing)) }
    }
}

impl Stage {
    /// `None`: there is no address space for it; then pages are mapped one slide at a time.
    fn new(pages: &RegionPages<'_>, sharing: Sharing) -> Option<Self> {
        let whole = pages.whole().ok()?;
        let mmap = Mmap::new(whole.length(), whole.as_pages(sharing)).ok()?;
        // A forked process has no use for it, and moved pages must not differ from V8's in this.
        let _ = mmap::advise(mmap.span(), mmap::Advice::DontFork);
        keep_out_of_dumps(mmap.span());
        Some(Self { region: pages.region().id(), sharing, whole: mmap })
    }
}

impl Memory {
    /// Opens a window at an offset into the memory. It shows nothing yet.
    pub fn window_at(&self, place: Place, at: u64, kind: Kind) -> Result<Mapped> {
        let span = span_at(place, at, kind.length)?;
        let mut state = self.lock_at(place)?;
        check_overlap(&state.table, span)?;
        let from_free = state.table.free().contains(span);
        self.open(&mut state, span, kind, from_free)
    }

    /// Opens a window in space past the memory's original end that is ours. `None`: there is not enough, the memory must
    /// grow.
    pub fn window_in_free_space(&self, place: Place, kind: Kind) -> Result<Option<Mapped>> {
        let mut state = self.lock_at(place)?;
        let free = state.table.free().find(kind.length).filter(|span| span.end() <= place.byte_length());
        match free {
            Some(span) => self.open(&mut state, span, kind, true).map(Some),
            // As for mappings: what would be refused after the growth is refused before.
            None => Areas::take(AREAS_OF_A_WINDOW)
                .map(|_| None)
                .map_err(|full| Error::no_head_room("can't open a window", full)),
        }
    }

    fn open(&self, state: &mut State, span: PageSpan, kind: Kind, from_free: bool) -> Result<Mapped> {
        let what = || format!("can't open a window of {} bytes", span.length().get());
        let target = self.addresses(span)?;
        let areas = Areas::take(AREAS_OF_A_WINDOW).map_err(|full| Error::no_head_room(what(), full))?;
        let registration = Registration::new(fault::Target {
            span: target,
            memory_offset: Some(span.start()),
            source: nothing(),
            access: kind.access,
            counts: Arc::default(),
            laid_bare: self.laid_bare(),
        });
        // SAFETY: inside the memory, which the caller holds, over no mapping.
        unsafe { fault::lay_rest(target, kind.rest == Rest::Zeros) }
            .map_err(|sys| Error::from_sys(Code::MapFailed, what(), sys))?;
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
        let window = Window { kind, shown: PageAligned::ZERO, stage: None };
        state.table.insert(entry, Held { registration, _areas: areas, window: Some(window) });
        Ok(Mapped { start: span.start(), id })
    }

    /// Makes a window show these pages of a region, or nothing. False: the window is not there any more.
    ///
    /// If the kernel refuses after a part was done, which only a lack of memory can cause, the window shows nothing.
    pub fn slide(
        &self,
        place: Place,
        mapped: Mapped,
        pages: Option<(&RegionPages<'_>, Access)>,
    ) -> Result<bool> {
        let mut state = self.lock_at(place)?;
        let Some((entry, held)) = state.table.get_mut(mapped.start, mapped.id) else {
            return Ok(false);
        };
        let Some(window) = held.window.as_mut() else {
            return Err(Error::new(Code::Internal, "a mapping is no window"));
        };
        if entry.span.end() > place.byte_length() {
            return Err(Error::new(Code::Internal, "the memory is smaller than a window in it"));
        }
        let target = self.addresses(entry.span)?;
        let shown = match pages {
            Some((pages, access)) => {
                check_slide(pages, access, window.kind)?;
                pages.length()
            }
            None => PageAligned::ZERO,
        };
        let what = || match pages {
            Some((pages, _)) => format!("can't slide a window to region \"{}\"", pages.region().name()),
            None => "can't empty a window".to_owned(),
        };
        held.registration.pause();
        // SAFETY: the window's own pages, in a memory that the caller holds.
        let slid = unsafe { window.slide(target, shown, pages) };
        match (&slid, pages) {
            (Ok(()), Some((pages, access))) => {
                entry.access = access;
                entry.inode = pages.inode();
                entry.file_offset = pages.file_offset();
                entry.region_offset = pages.region_offset();
                held.registration.set_source(pages.source());
            }
            (Err(_), _) if window.shown > PageAligned::ZERO => {}
            _ => {
                entry.inode = 0;
                held.registration.set_source(nothing());
            }
        }
        held.registration.resume();
        slid.map(|()| true).map_err(|sys| Error::from_sys(Code::MapFailed, what(), sys))
    }

    /// The faults that a mapping or window had so far. `None`: it is not there any more.
    pub fn counts(&self, mapped: Mapped) -> Option<Arc<Counts>> {
        let state = self.lock();
        let (_, held) = state.table.get(mapped.start, mapped.id)?;
        Some(Arc::clone(held.registration.counts()))
    }
}

impl Window {
    /// Shows so much at the window's start, and its rest behind.
    ///
    /// # Safety
    /// As [`mmap::replace`].
    unsafe fn slide(
        &mut self,
        target: PageSpan,
        shown: PageAligned,
        pages: Option<(&RegionPages<'_>, Access)>,
    ) -> SysResult<()> {
        let before = self.shown;
        if let Some((pages, access)) = pages {
            let span = target.first(shown.get());
            // SAFETY: the caller's promise. Nothing has changed if it fails.
            unsafe { self.show(span, pages, access.sharing())? };
            if access == Access::Private {
                keep_out_of_dumps(span);
            }
        }
        self.shown = shown;
        let (_, rest) = self.parts(target);
        // What was shown before and is not any more.
        let stale = rest.filter(|_| shown < before);
        // SAFETY: the caller's promise.
        let laid =
            stale.map_or(Ok(()), |span| unsafe { fault::lay_rest(span, self.kind.rest == Rest::Zeros) });
        if let Err(sys) = laid {
            // Better nothing than a part of each.
            self.shown = PageAligned::ZERO;
            // SAFETY: the caller's promise. One area, of pages that are there: if this fails too, old bytes stay readable.
            let _ = unsafe { fault::lay_rest(target, self.kind.rest == Rest::Zeros) };
            return Err(sys);
        }
        Ok(())
    }
}

fn check_slide(pages: &RegionPages<'_>, access: Access, kind: Kind) -> Result<()> {
    if pages.length() > kind.length {
        return Err(Error::new(Code::Internal, "a slide shows more than the window holds"));
    }
    let allowed = match (kind.access, access) {
        (most, asked) if most == asked => true,
        (Access::Shared, _) | (_, Access::Readonly) => true,
        _ => false,
    };
    if !allowed {
        let message = "access allows more than the window was opened with; open the window with it";
        return Err(Error::new(Code::InvalidValue, message));
    }
    if access == Access::Shared && !pages.region().is_writable() {
        let message = format!(
            "can't slide to region \"{}\" with access 'shared': it is sealed, or its file was opened for reading only; use 'readonly' or 'private'",
            pages.region().name()
        );
        return Err(Error::new(Code::RegionReadonly, message));
    }
    Ok(())
}

fn nothing() -> Source {
    Source {
        inode: 0,
        file_offset: PageAligned::ZERO,
        region_offset: PageAligned::ZERO,
        region_name: Arc::from(""),
    }
}
