//! Slides windows: what they show changes in one step, or not at all.

use crate::access::Access;
use crate::error::{Error, Result, WindowError};
use crate::fault::Shown;
use crate::memory::place::pages_of;
use crate::memory::table::Entry;
use crate::memory::window_state::{Window, WindowSpec};
use crate::memory::{Held, Mapped, Memory};
use crate::region::{RegionPages, keep_out_of_dumps};
use crate::sys::mmap;
use crate::sys::owned_span::OwnedSpan;
use crate::sys::page::PageAligned;
use crate::sys::{SysError, SysResult};
use crate::v8::live_memory::LiveMemory;

/// Pages of a region, and how they are to be shown.
pub type Chunk<'a> = (&'a RegionPages<'a>, Access);

/// Makes a window show these pages of a region, or nothing. False: the window is not there any
/// more.
///
/// If the kernel refuses, the window shows what it did, or less of it, or nothing; never parts of
/// two regions.
pub fn slide(
    memory: &Memory,
    live: LiveMemory<'_>,
    mapped: Mapped,
    chunk: Option<Chunk<'_>>,
) -> Result<bool> {
    let mut state = memory.lock_to_slide(live, mapped.start)?;
    let Some((entry, held)) = state.table.get_mut(mapped.start, mapped.id) else {
        return Ok(false);
    };
    if held.registration.counts().is_faulted() {
        // lib/memory/entry.js says more.
        return Err(WindowError::Faulted.into());
    }
    let slid = slide_held(live, entry, held, chunk);
    // A snapshot may have kept what was written to it: that is gone.
    held.registration.mark_changed();
    slid.map(|()| true)
}

/// The same for a window of the table.
pub(crate) fn slide_held(
    live: LiveMemory<'_>,
    entry: &mut Entry,
    held: &mut Held,
    chunk: Option<Chunk<'_>>,
) -> Result<()> {
    let window = held.window.as_mut().ok_or(Error::Defect("a mapping is no window"))?;
    let target = pages_of(live, entry.span)?;
    if let Some((pages, access)) = chunk {
        check(pages, access, window.spec())?;
    }
    held.registration.pause();
    let slid = show(window, target, chunk);
    match (&slid, chunk) {
        (Ok(()), Some((pages, access))) => {
            entry.access = access;
            entry.inode = pages.inode();
            entry.file_offset = pages.file_offset();
            entry.region_offset = pages.region_offset();
            held.registration.set_shown(pages.shown());
        }
        // Nothing: it was asked for, or the kernel had no memory to put back what it removed.
        (Ok(()), None) | (Err(SysError { removed: true, .. }), _)
            if window.shown() == PageAligned::ZERO =>
        {
            entry.inode = 0;
            entry.file_offset = PageAligned::ZERO;
            entry.region_offset = PageAligned::ZERO;
            held.registration.set_shown(Shown::nothing());
        }
        // As it was, perhaps less of it.
        _ => held.registration.show_less(window.shown()),
    }
    held.registration.resume();
    slid.map_err(|sys| not_slid(chunk, sys))
}

/// Shows a chunk at the window's start, and its tail behind. If it fails the window shows what it
/// did, or less of it, or nothing.
fn show(window: &mut Window, target: OwnedSpan<'_>, chunk: Option<Chunk<'_>>) -> SysResult<()> {
    let before = window.shown();
    let shown = chunk.map_or(PageAligned::ZERO, |(pages, _)| pages.length());
    window.set_shown(shown.min(before));
    if shown < before || window.tail_is_writable() {
        // Before anything else, so that the window never shows parts of two regions.
        if let Err(sys) = window.fill_tail(target) {
            if sys.removed {
                // What is there now can be written. Where this fails too, it stays.
                let _ = window.fill_tail(target);
            } else {
                window.set_shown(before);
            }
            return Err(sys);
        }
    }
    if let Some((pages, access)) = chunk
        && let Err(sys) = put(target.first(pages.length().get()), pages, access)
    {
        if sys.removed {
            window.set_shown(PageAligned::ZERO);
            // Where this fails too, anonymous zeros are there.
            let _ = window.fill_tail(target);
        }
        return Err(sys);
    }
    window.set_shown(shown);
    Ok(())
}

/// Puts a region's pages in place of others.
fn put(target: OwnedSpan<'_>, pages: &RegionPages<'_>, access: Access) -> SysResult<()> {
    let sharing = access.sharing();
    let region = pages.region();
    let mut removed = false;
    let mirror = region.mirror(sharing, !pages.is_one_step(sharing));
    if let Some(mirror) = mirror.filter(|_| mmap::can_move_now(sharing)) {
        match mirror.move_to(target, pages.region_offset()) {
            Ok(()) => return Ok(()),
            Err(sys) => removed = sys.removed,
        }
    }
    pages
        .put(target, sharing)
        .map_err(|sys| SysError { removed: sys.removed || removed, ..sys })?;
    // A private file mapping is dumped only if it was written.
    if access.is_writable() {
        keep_out_of_dumps(target.span());
    }
    Ok(())
}

/// Refuses what a window can't show.
fn check(pages: &RegionPages<'_>, access: Access, spec: WindowSpec) -> Result<()> {
    if pages.length() > spec.length {
        return Err(Error::Defect("a slide shows more than the window holds"));
    }
    if !spec.access.allows(access) {
        return Err(WindowError::AccessTooWide.into());
    }
    if access.writes_through() && !pages.region().is_writable() {
        let region = pages.region().name().to_owned();
        return Err(WindowError::RegionReadonly { region }.into());
    }
    Ok(())
}

fn not_slid(chunk: Option<Chunk<'_>>, sys: SysError) -> Error {
    let refused = sys.into();
    match chunk {
        Some((pages, _)) => {
            let region = pages.region().name().to_owned();
            WindowError::NotSlid { region, refused }.into()
        }
        None => WindowError::NotEmptied { refused }.into(),
    }
}
