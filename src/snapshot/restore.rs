//! Putting a memory back.

// It writes the pages of a memory.
#![allow(unsafe_code)]

use super::capture::{own_stretches, vmas_in};
use super::{KeptMapping, Snapshot};
use crate::access::Access;
use crate::error::{Code, Error, Result};
use crate::memory::table::{Entry, MappingTable};
use crate::memory::{Held, Mapped, Memory, State, check_mappable};
use crate::region::{RegionPages, keep_out_of_dumps};
use crate::sys::mmap::{self, Advice, Pages, Sharing};
use crate::sys::owned_span::OwnedSpan;
use crate::sys::page::{PageAligned, PageSpan, host_page_bytes};
use crate::sys::pagemap::{self, Which};
use crate::sys::vma_budget::VmaClaim;
use crate::sys::{SysResult, contents, file};
use crate::v8::live_memory::LiveMemory;
use crate::window::Window;
use std::sync::Arc;

/// What a memory's own pages show, but for those that were written since.
#[derive(Debug)]
pub(crate) struct Laid {
    /// Which snapshot; 0: zeros.
    id: u64,
    /// Of the mapping table when `own` was right.
    table_version: u64,
    byte_length: PageAligned,
    /// What is no mapping, as addresses, and whether it shows the snapshot's file.
    own: Vec<(PageSpan, bool)>,
    /// Restores since all pages were last dropped or looked at, and after how many that is done.
    restores: u32,
    patience: u32,
    _vmas: VmaClaim,
}

/// Pages that a memory has only read stay in its page tables, and each costs every restore 11 ns.
/// Nothing tells whether they will be read again, which would cost a page fault for 16 of them,
/// about as much as 17 restores. So from so many on they are dropped after so many restores; and
/// where they come back, after twice as many the next time.
const MANY_SMALL_PAGES: u64 = 1024;
const FIRST_PATIENCE: u32 = 32;
const MOST_PATIENCE: u32 = 1 << 16;

/// The id of no snapshot.
const ZEROS: u64 = 0;

/// VmaClaim that a piece takes at most: itself, and what it cuts off its surroundings.
const VMAS_OF_A_PIECE: u64 = 2;

impl Memory {
    /// Puts the memory back, if it shows this snapshot already and has the same mappings: cost
    /// grows with what was written since. False, and nothing is done, if not: see [`Memory::lay`].
    ///
    /// The caller holds the memory, and no thread is in it.
    pub fn restore(&self, place: LiveMemory<'_>, snapshot: &Snapshot) -> Result<bool> {
        self.clean(place, Some(snapshot), snapshot.settings.keep_resident_bytes)
    }

    /// Makes the memory's own pages zeros, if they show zeros but for what was written. False, and
    /// nothing is done, if not. As [`Memory::restore`].
    pub fn reset(&self, place: LiveMemory<'_>, keep_resident_bytes: u64) -> Result<bool> {
        self.clean(place, None, keep_resident_bytes)
    }

    /// Makes a memory show a snapshot, whatever it showed before, or zeros. Gives the mappings that
    /// were made, by their place among the snapshot's.
    ///
    /// Fails before it changes anything, unless the kernel refuses it memory or a mapping; then the
    /// memory holds some of both. The caller holds the memory, which is as large as the snapshot at
    /// least, and no thread is in it.
    pub fn lay(
        &self,
        place: LiveMemory<'_>,
        snapshot: Option<&Snapshot>,
        keep_resident_bytes: u64,
    ) -> Result<Vec<(usize, Mapped)>> {
        let mut state = self.lock_at(place)?;
        let put_back = PutBack::new(place, snapshot, keep_resident_bytes);
        let mut made = Vec::new();
        let mut vmas = VmaClaim::none();
        if let Some(snapshot) = snapshot {
            if snapshot.byte_length > place.byte_length() {
                return Err(Error::new(Code::Internal, "the memory is smaller than the snapshot"));
            }
            check_mappings(&state.table, snapshot.mappings())?;
            check_files(snapshot)?;
            for kept in snapshot
                .mappings()
                .iter()
                .filter(|kept| state.table.overlapping(kept.span).is_none())
            {
                let Some(pages) = kept.region_pages()? else { continue };
                check_mappable(&pages, kept.access)?;
            }
            let pieces = crate::sys::to_u64(snapshot.kept.pieces.len());
            vmas = VmaClaim::take(pieces.saturating_mul(VMAS_OF_A_PIECE))
                .map_err(|full| Error::no_head_room("can't restore a snapshot", full))?;
        }
        state.laid = None;
        let laid = self.lay_all(place, &mut state, &put_back, &mut made);
        let own = laid.inspect_err(|_| {
            // Nobody would know of them.
            for (_, mapped) in &made {
                let _ = self.unmap_in(&mut state, place, *mapped);
            }
        })?;
        state.laid = Some(Laid {
            id: snapshot.map_or(ZEROS, |snapshot| snapshot.id),
            table_version: state.table.version(),
            byte_length: place.byte_length(),
            own,
            restores: 0,
            patience: FIRST_PATIENCE,
            _vmas: vmas,
        });
        if let Some(snapshot) = snapshot {
            // What is free in the memory that it was taken of; beyond, as it was.
            state.table.set_free_below(snapshot.byte_length, &snapshot.kept.free);
            state.content = Some(Arc::clone(&snapshot.content));
        }
        Ok(made)
    }

    /// Gives what is no mapping.
    fn lay_all(
        &self,
        place: LiveMemory<'_>,
        state: &mut State,
        put_back: &PutBack<'_>,
        made: &mut Vec<(usize, Mapped)>,
    ) -> Result<Vec<(PageSpan, bool)>> {
        let kept = put_back.snapshot.map_or(&[][..], Snapshot::mappings);
        for (index, kept) in kept.iter().enumerate() {
            if state.table.overlapping(kept.span).is_none() {
                let pages = kept.region_pages()?;
                let mapped = match (kept.window, &pages) {
                    (Some(kind), _) => self.open(place, state, kept.span, kind, kept.from_free)?,
                    (None, Some(pages)) => {
                        self.put(place, state, kept.span, pages, kept.access, kept.from_free)?
                    }
                    (None, None) => {
                        return Err(Error::new(Code::Internal, "a kept mapping shows no region"));
                    }
                };
                made.push((index, mapped));
            }
            if let Some((entry, held)) = state.table.at_mut(kept.span.start()) {
                // Nothing is known of its pages; of a new one, that nothing is written yet.
                held.registration.mark_changed();
                self.clean_mapping(place, entry, held, kept, put_back)?;
            }
        }
        let mut own = Vec::new();
        for stretch in own_stretches(&state.table, place.byte_length())? {
            let target = self.addresses(stretch)?;
            let laid = put_back.lay(target).and_then(|()| {
                put_back.for_parts(target, put_back.pieces(), |part, is_piece| {
                    own.push((part, is_piece));
                    Ok(())
                })
            });
            laid.map_err(|sys| incomplete(sys, put_back.snapshot))?;
        }
        if put_back.snapshot.is_none() {
            put_back.drop_written(state)?;
        }
        Ok(own)
    }

    fn clean(
        &self,
        place: LiveMemory<'_>,
        snapshot: Option<&Snapshot>,
        keep_resident_bytes: u64,
    ) -> Result<bool> {
        let mut state = self.lock_at(place)?;
        let (id, version) = (snapshot.map_or(ZEROS, |snapshot| snapshot.id), state.table.version());
        // A length that differs is one that nothing has proven, and a memory that grew may have
        // been moved, and back.
        let is_known = |laid: &mut Laid| {
            laid.id == id
                && laid.table_version == version
                && laid.byte_length == place.byte_length()
        };
        let Some(mut laid) = state.laid.take_if(is_known) else {
            return Ok(false);
        };
        if let Err(error) = snapshot.map_or(Ok(()), check_files) {
            state.laid = Some(laid);
            return Err(error);
        }
        let mut put_back = PutBack::new(place, snapshot, keep_resident_bytes);
        let kept = snapshot.map_or(&[][..], Snapshot::mappings);
        if self.is_worth_dropping(&mut laid, kept)? {
            put_back.left_pages = 0;
            put_back.drops_all = true;
        }
        match snapshot {
            Some(_) => {
                for kept in kept {
                    let Some((entry, held)) = state.table.at_mut(kept.span.start()) else {
                        return Err(Error::new(Code::Internal, "a mapping is gone"));
                    };
                    self.clean_mapping(place, entry, held, kept, &put_back)?;
                }
            }
            None => put_back.drop_written(&mut state)?,
        }
        for (part, is_piece) in &laid.own {
            put_back.clean(*part, *is_piece).map_err(|sys| incomplete(sys, snapshot))?;
        }
        state.laid = Some(laid);
        Ok(true)
    }

    /// Whether clean pages have been in the way long enough.
    fn is_worth_dropping(&self, laid: &mut Laid, kept: &[KeptMapping]) -> Result<bool> {
        laid.restores = laid.restores.saturating_add(1);
        if laid.restores < laid.patience {
            return Ok(false);
        }
        laid.restores = 0;
        let mut left = MANY_SMALL_PAGES;
        let private = kept.iter().filter(|kept| kept.access.is_copy_on_write());
        let private =
            private.filter_map(KeptMapping::shown_part).map(|shown| self.addresses(shown));
        for target in laid.own.iter().map(|(part, _)| Ok(*part)).chain(private) {
            // Where the kernel can't tell, all is dropped in any case.
            let _ = pagemap::scan(target?, Which::SmallClean, left, |run| {
                left = left.saturating_sub(run.pages());
            });
        }
        if left == 0 {
            laid.patience = laid.patience.saturating_mul(2).min(MOST_PATIENCE);
        }
        Ok(left == 0)
    }

    /// Makes a mapping or window show what it did.
    fn clean_mapping(
        &self,
        place: LiveMemory<'_>,
        entry: &mut Entry,
        held: &mut Held,
        kept: &KeptMapping,
        put_back: &PutBack<'_>,
    ) -> Result<()> {
        let failed = |sys| incomplete(sys, put_back.snapshot);
        let target = self.addresses(kept.span)?;
        let pages = kept.region_pages()?;
        if let Some(window) = &held.window {
            let shows = pages
                .as_ref()
                .map(|pages| (pages.inode(), pages.file_offset(), pages.length(), kept.access));
            let showed = (window.shown() > PageAligned::ZERO)
                .then(|| (entry.inode, entry.file_offset, window.shown(), entry.access));
            if shows != showed || held.registration.is_changed() || window.tail_is_writable() {
                self.slide_kept(place, entry, held, kept)?;
                return put_back.write_kept(target).map_err(failed);
            }
        } else if held.registration.is_changed() {
            let Some(pages) = pages else { return Ok(()) };
            held.registration.pause();
            let file = pages.as_pages(kept.access.sharing());
            let replaced = file.and_then(|file| mmap::replace(put_back.owned(target)?, file));
            if replaced.is_ok() {
                held.registration.set_shown(pages.shown());
            }
            held.registration.resume();
            replaced.map_err(failed)?;
            if kept.access.is_writable() {
                keep_out_of_dumps(target);
            }
            return put_back.write_kept(target).map_err(failed);
        }
        match kept.shown_part().filter(|_| kept.access.is_copy_on_write()) {
            Some(shown) => put_back.clean_private(self.addresses(shown)?).map_err(failed),
            None => Ok(()),
        }
    }

    fn slide_kept(
        &self,
        place: LiveMemory<'_>,
        entry: &mut Entry,
        held: &mut Held,
        kept: &KeptMapping,
    ) -> Result<()> {
        let pages = kept.region_pages()?;
        self.slide_held(place, entry, held, pages.as_ref().map(|pages| (pages, kept.access)))
    }
}

impl KeptMapping {
    fn region_pages(&self) -> Result<Option<RegionPages<'_>>> {
        self.shown.as_ref().map(super::KeptRegion::pages).transpose()
    }

    /// Whether this is the mapping that stands there.
    fn is(&self, entry: &Entry, held: &Held) -> Result<bool> {
        if self.span != entry.span {
            return Ok(false);
        }
        if let Some(window) = &held.window {
            return Ok(self.window == Some(window.kind()));
        }
        let pages = self.region_pages()?;
        let is_same = |pages: RegionPages<'_>| {
            pages.inode() == entry.inode
                && pages.file_offset() == entry.file_offset
                && self.access == entry.access
        };
        Ok(self.window.is_none() && pages.is_some_and(is_same))
    }
}

/// Refuses a memory with a mapping that the snapshot has not, or not there.
fn check_mappings(table: &MappingTable<Held>, kept: &[KeptMapping]) -> Result<()> {
    for (entry, held) in table.held() {
        let same = kept.binary_search_by_key(&entry.span.start(), |kept| kept.span.start());
        let same = same.ok().and_then(|index| kept.get(index));
        if !same.map(|kept| kept.is(entry, held)).transpose()?.unwrap_or(false) {
            let (start, end) = (entry.span.start().get(), entry.span.end().get());
            let message = format!(
                "the memory has a mapping at [{start}, {end}) which the snapshot has not, or not so; unmap it first"
            );
            return Err(Error::new(Code::Overlap, message));
        }
    }
    Ok(())
}

/// Refuses a snapshot with written pages of files that are too short for them by now.
fn check_files(snapshot: &Snapshot) -> Result<()> {
    let written = &snapshot.kept.written;
    let mappings = snapshot.mappings();
    let mut at = 0;
    while let Some(span) = written.get(at) {
        let index = mappings.partition_point(|kept| kept.span.end() <= span.start());
        let Some(kept) = mappings.get(index) else { return Ok(()) };
        kept.region_pages()?.map_or(Ok(()), |pages| pages.check_file_size())?;
        at = written
            .partition_point(|span| span.start() < kept.span.end())
            .max(at.saturating_add(1));
    }
    Ok(())
}

fn incomplete(sys: crate::sys::SysError, snapshot: Option<&Snapshot>) -> Error {
    let what = snapshot.map_or("can't reset the memory".to_owned(), |snapshot| {
        format!("can't restore snapshot \"{}\"", snapshot.name)
    });
    let what =
        format!("{what}; the memory holds a part of it now: try again, or use another memory");
    Error::from_sys(Code::MapFailed, what, sys)
}

/// One restore of a living memory, in which no thread is. Spans are addresses in it.
struct PutBack<'a> {
    live: LiveMemory<'a>,
    base: PageAligned,
    snapshot: Option<&'a Snapshot>,
    /// Pages that may still be copied; the rest is dropped.
    left_pages: u64,
    /// Whether what was only read is dropped, too.
    drops_all: bool,
}

impl<'a> PutBack<'a> {
    fn new(live: LiveMemory<'a>, snapshot: Option<&'a Snapshot>, keep_resident_bytes: u64) -> Self {
        let left_pages = keep_resident_bytes.checked_div(host_page_bytes()).unwrap_or(0);
        Self { live, base: live.base(), snapshot, left_pages, drops_all: false }
    }

    /// Own pages of the memory that show the snapshot already: what was written is put back.
    fn clean(&mut self, target: PageSpan, is_piece: bool) -> SysResult<()> {
        let mut put = Ok(());
        let mut left = self.left_pages;
        let which = if is_piece { Which::OwnOfFile } else { Which::Own };
        let walked = pagemap::scan(target, which, left, |run| {
            if put.is_ok() {
                put = match (run.is_swapped, is_piece) {
                    // Reading a page in to write over it would be a waste.
                    (true, _) => self.drop_pages(run.span),
                    (false, true) => self.copy_from_image(run.span),
                    (false, false) => {
                        self.owned(run.span).map(|own| {
                            // SAFETY: written pages inside the memory, which lives; the caller of
                            // `restore` keeps threads out of it.
                            unsafe { contents::clear(own.span()) };
                        })
                    }
                };
            }
            left = left.saturating_sub(run.pages());
        });
        self.left_pages = left;
        put?;
        let unknown = PageSpan::between(walked.unwrap_or(target.start()), target.end());
        unknown.map_or(Ok(()), |unknown| self.drop_pages(unknown))
    }

    fn drop_pages(&self, target: PageSpan) -> SysResult<()> {
        mmap::discard(self.owned(target)?).or_else(|_| self.lay(target))
    }

    /// Makes pages show the snapshot, whatever they showed.
    fn lay(&self, target: PageSpan) -> SysResult<()> {
        self.for_parts(target, self.pieces(), |part, is_piece| {
            match self.snapshot.filter(|_| is_piece) {
                Some(snapshot) => {
                    let pages = snapshot.pages(self.offsets(part)?, Sharing::CopyOnWrite)?;
                    mmap::replace(self.owned(part)?, pages)?;
                    // As V8 marks its own.
                    let _ = mmap::advise(part, Advice::DontFork);
                    Ok(())
                }
                None => self.lay_zeros(part),
            }
        })
    }

    /// Writes what the snapshot has over pages that are the process's own.
    fn copy_from_image(&self, target: PageSpan) -> SysResult<()> {
        let from = self.snapshot.and_then(Snapshot::image).zip(self.offsets(target).ok());
        match from.and_then(|(image, offsets)| image.of(offsets)) {
            Some(from) => {
                // SAFETY: written pages of the memory, which lives and is below its length; the caller
                // of `restore` keeps threads out of it. The image is a mapping of a sealed memfd,
                // which is as long as the snapshot.
                unsafe { contents::copy(from, self.owned(target)?.span()) };
                Ok(())
            }
            // There was no address space for an image.
            None => self.drop_pages(target),
        }
    }

    /// A private mapping that shows its region: what was written is put back, to what had been
    /// written when the snapshot was taken.
    fn clean_private(&self, target: PageSpan) -> SysResult<()> {
        let mut put = Ok(());
        let is_known = !self.drops_all
            && pagemap::scan(target, Which::OwnOfFile, u64::MAX, |run| {
                if put.is_ok() {
                    put = self.drop_private(run.span);
                }
            })
            .is_ok();
        put?;
        if !is_known {
            self.drop_private(target)?;
        }
        // All of them: the kernel drops pages of a file that got shorter, written ones too.
        self.write_kept(target)
    }

    fn drop_private(&self, target: PageSpan) -> SysResult<()> {
        self.for_parts(target, self.written(), |part, was_written| {
            if was_written {
                return Ok(());
            }
            mmap::discard(self.owned(part)?)
        })
    }

    /// A private mapping that was just laid: what had been written when the snapshot was taken is
    /// written again.
    fn write_kept(&self, target: PageSpan) -> SysResult<()> {
        self.for_parts(target, self.written(), |part, was_written| {
            if was_written { self.write_from_file(part) } else { Ok(()) }
        })
    }

    fn write_from_file(&self, target: PageSpan) -> SysResult<()> {
        let overflow = crate::sys::SysError::new("pread", nix::errno::Errno::EOVERFLOW);
        let snapshot = self.snapshot.ok_or(overflow)?;
        let offset =
            snapshot.data_offset.checked_add(self.offsets(target)?.start()).ok_or(overflow)?;
        let fd = snapshot.fd.get()?;
        file::read_all_to(fd, offset.get(), self.owned(target)?)
    }

    /// For a reset: what was written to private mappings, or to others by stray writes, is dropped.
    fn drop_written(&self, state: &mut State) -> Result<()> {
        for (entry, held) in state.table.held() {
            let target = entry.span.at_base(self.base);
            let (shown, rest) = match (&held.window, target) {
                (Some(window), Some(target)) => {
                    (window.shown_part(target), window.tail_part(target))
                }
                (None, target) => (target, None),
                (Some(_), None) => (None, None),
            };
            let rest = rest.filter(|_| held.window.as_ref().is_some_and(Window::tail_is_writable));
            let may_be_written = match entry.access {
                Access::Private => true,
                Access::Readonly => held.registration.is_changed(),
                Access::Shared => false,
            };
            for written in shown.filter(|_| may_be_written).into_iter().chain(rest) {
                // These are private.
                self.owned(written).and_then(mmap::discard).map_err(|sys| incomplete(sys, None))?;
            }
        }
        Ok(())
    }

    /// Pages of the memory, by their addresses.
    fn owned(&self, target: PageSpan) -> SysResult<OwnedSpan<'a>> {
        let outside = crate::sys::SysError::new("mmap", nix::errno::Errno::EFAULT);
        self.live.pages_at(target).ok_or(outside)
    }

    fn pieces(&self) -> &'a [PageSpan] {
        self.snapshot.map_or(&[], |snapshot| &snapshot.kept.pieces)
    }

    fn written(&self) -> &'a [PageSpan] {
        self.snapshot.map_or(&[], |snapshot| &snapshot.kept.written)
    }

    fn offsets(&self, target: PageSpan) -> SysResult<PageSpan> {
        let below = crate::sys::SysError::new("mmap", nix::errno::Errno::EFAULT);
        let start = target.start().checked_sub(self.base).ok_or(below)?;
        PageSpan::new(start, target.length()).ok_or(below)
    }

    /// Cuts a range where the spans of a list, offsets in order, begin and end.
    fn for_parts(
        &self,
        target: PageSpan,
        spans: &[PageSpan],
        mut see: impl FnMut(PageSpan, bool) -> SysResult<()>,
    ) -> SysResult<()> {
        let range = self.offsets(target)?;
        let first = spans.partition_point(|span| span.end() <= range.start());
        let inside = spans.iter().skip(first).map_while(|span| span.within(range));
        let mut at = range.start();
        let mut see_part = |part: Option<PageSpan>, is_inside| match part
            .and_then(|part| part.at_base(self.base))
        {
            Some(part) => see(part, is_inside),
            None => Ok(()),
        };
        for span in inside {
            see_part(PageSpan::between(at, span.start()), false)?;
            see_part(Some(span), true)?;
            at = span.end();
        }
        see_part(PageSpan::between(at, range.end()), false)
    }

    /// Zeros in pages of a memory's own. Anonymous ones are dropped; others show an earlier
    /// snapshot.
    fn lay_zeros(&self, target: PageSpan) -> SysResult<()> {
        for area in vmas_in(target)? {
            let owned = self.owned(area.span)?;
            let dropped = area.file.is_none() && mmap::discard(owned).is_ok();
            if !dropped {
                mmap::replace(owned, Pages::Zeros)?;
                let _ = mmap::advise(area.span, Advice::DontFork);
            }
        }
        Ok(())
    }
}
