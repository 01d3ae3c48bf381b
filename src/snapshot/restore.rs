//! Puts a memory back: finds out what it shows, and what is to be done. `put_back.rs` changes the
//! pages.

use super::own::{check_adopted, own_parts};
use super::put_back::PutBack;
use super::{KeptMapping, Snapshot};
use crate::error::{Error, Result, SnapshotError};
use crate::fault::Shown;
use crate::memory::image::{OwnPart, ShownImage};
use crate::memory::leased::LeasedFile;
use crate::memory::place::check_mappable;
use crate::memory::table::{Entry, MappingTable};
use crate::memory::{Held, Mapped, Memory, ShownFile, State};
use crate::region::{RegionPages, keep_out_of_dumps};
use crate::sys::alloc;
use crate::sys::difference;
use crate::sys::page::{PageAligned, PageSpan};
use crate::sys::pagemap::{self, Which};
use crate::sys::to_u64;
use crate::sys::vma_budget::{NoHeadroom, VmaClaim};
use crate::v8::live_memory::LiveMemory;
use crate::window;
use std::sync::Arc;

/// Pages that a memory has only read stay in its page tables, where each costs every restore 11 ns.
/// To drop them costs a page fault for 16 of them if they are read again, about as much as 17
/// restores, and nothing tells whether they will be. So where there are so many, they are dropped
/// after so many restores. Where they come back, it takes twice as many restores the next time.
const MANY_SMALL_PAGES: u64 = 1024;
const FIRST_PATIENCE: u32 = 32;
const MOST_PATIENCE: u32 = 1 << 16;

/// VMAs that a piece takes at most: itself, and what it cuts off its surroundings.
const VMAS_OF_A_PIECE: u64 = 2;

/// A mapping that a restore made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MadeMapping {
    /// Which of the snapshot's mappings.
    pub index: usize,
    pub mapped: Mapped,
}

/// Makes the memory show the snapshot, and gives the mappings that it made for that.
///
/// If the memory shows the snapshot already and has the same mappings, the cost grows with what was
/// written since. If not, with the number of pieces and mappings.
///
/// Fails before it changes anything, unless the kernel refuses it memory or a mapping; then the
/// memory holds a part of both states. The caller holds the memory, which is at least as large as
/// the snapshot, and no thread is in it.
pub fn restore(
    memory: &Memory,
    live: LiveMemory<'_>,
    snapshot: &Snapshot,
) -> Result<Vec<MadeMapping>> {
    let keep_resident_bytes = snapshot.settings.keep_resident_bytes;
    put_back(memory, live, Some(snapshot), keep_resident_bytes)
}

/// Makes the memory's own pages zeros, and its mappings what their regions hold. As [`restore`].
pub fn reset(memory: &Memory, live: LiveMemory<'_>, keep_resident_bytes: u64) -> Result<()> {
    put_back(memory, live, None, keep_resident_bytes).map(|made| debug_assert!(made.is_empty()))
}

fn put_back(
    memory: &Memory,
    live: LiveMemory<'_>,
    snapshot: Option<&Snapshot>,
    keep_resident_bytes: u64,
) -> Result<Vec<MadeMapping>> {
    let mut state = memory.lock_at(live)?;
    check_adopted(&state.table)?;
    let mut restore = Restore {
        memory,
        live,
        kept: snapshot.map_or(&[], Snapshot::mappings),
        pages: PutBack::new(live, snapshot, keep_resident_bytes),
    };
    match restore.shown_already(&mut state) {
        Some(image) => restore.clean(&mut state, image).map(|()| Vec::new()),
        None => restore.show(&mut state),
    }
}

/// One restore or reset.
struct Restore<'a> {
    memory: &'a Memory,
    live: LiveMemory<'a>,
    /// The snapshot's mappings.
    kept: &'a [KeptMapping],
    pages: PutBack<'a>,
}

impl Restore<'_> {
    /// Takes the state's word for what the memory shows, if that is what it is to show. Until it is
    /// put back, nothing is known.
    fn shown_already(&self, state: &mut State) -> Option<ShownImage> {
        let version = state.table.version();
        // A memory that grew has pages of which nothing is known. V8 may also have moved it, and
        // moved it back.
        let is_changed = state.files.iter().any(|shown| shown.guard.is_changed());
        state.image.take_if(|image| {
            !is_changed
                && image.id == self.pages.image_id()
                && image.table_version == version
                && image.byte_length == self.live.byte_length()
        })
    }

    /// Of a memory that shows the image: puts back what was written.
    fn clean(&mut self, state: &mut State, mut image: ShownImage) -> Result<()> {
        let checked = self.pages.snapshot.map_or(Ok(()), |snapshot| {
            snapshot.check_whole()?;
            check_files(snapshot)
        });
        if let Err(error) = checked {
            state.image = Some(image);
            return Err(error);
        }
        if self.is_worth_dropping(&mut image) {
            self.pages.drop_all();
        }
        for kept in self.kept {
            let Some((entry, held)) = state.table.at_mut(kept.span.start()) else {
                return Err(Error::Defect("a mapping is gone"));
            };
            self.put_back_mapping(entry, held, kept)?;
        }
        if self.pages.snapshot.is_none() {
            self.pages.drop_written(state)?;
        }
        for part in &image.own {
            self.pages.clean(*part).map_err(|sys| self.pages.incomplete(sys))?;
        }
        state.image = Some(image);
        self.pages.count();
        Ok(())
    }

    /// Of a memory that shows anything else: maps all of the image, and what mappings are missing.
    fn show(&self, state: &mut State) -> Result<Vec<MadeMapping>> {
        let vmas = match self.pages.snapshot {
            Some(snapshot) => self.check(state, snapshot)?,
            None => VmaClaim::none(),
        };
        state.image = None;
        let file = self.pages.snapshot.and_then(|snapshot| snapshot.backing.file());
        // Before any of its pages is mapped; and where this fails half-way, those before stay.
        if let (Some(file), Some(snapshot)) = (file, self.pages.snapshot) {
            let all = PageSpan::new(self.live.base(), self.live.byte_length());
            let all = all.and_then(|all| self.live.pages_at(all));
            let all = all.ok_or(Error::Defect("a memory has no pages"))?;
            let guard = Memory::guard_image(
                all,
                shown_by(file, snapshot.content.data_offset, self.live.byte_length()),
            );
            alloc::push(&mut state.files, ShownFile { file: Arc::clone(file), guard })?;
        }
        let mut made = Vec::new();
        let own = self.show_all(state, &mut made).inspect_err(|_| {
            // Nobody would know of them.
            for MadeMapping { mapped, .. } in &made {
                let _ = self.memory.unmap_in(state, self.live, *mapped);
            }
        })?;
        state.image = Some(shown(state, self.live, self.pages.image_id(), own, vmas));
        // The last one is the one that was just pushed.
        let left = if file.is_some() { state.files.pop() } else { None };
        state.files.clear();
        state.files.extend(left);
        if let Some(snapshot) = self.pages.snapshot {
            // Free space past the snapshot's end stays as it was.
            state.table.set_free_below(snapshot.byte_length, &snapshot.extents.free);
            state.content = Some(Arc::clone(&snapshot.content));
        } else {
            state.content = None;
        }
        Ok(made)
    }

    /// Refuses what can't be shown, before anything is changed. Gives room for the pieces' VMAs.
    fn check(&self, state: &State, snapshot: &Snapshot) -> Result<VmaClaim> {
        if snapshot.byte_length > self.live.byte_length() {
            return Err(Error::Defect("the memory is smaller than the snapshot"));
        }
        snapshot.check_whole()?;
        check_mappings(&state.table, self.kept)?;
        check_files(snapshot)?;
        for kept in self.kept {
            let Some(pages) = kept.region_pages()? else { continue };
            if state.table.overlapping(kept.span).is_none() {
                check_mappable(&pages, kept.access)?;
            }
        }
        let claim = claim_vmas(snapshot);
        Ok(claim.map_err(|full| SnapshotError::NoHeadroom { refused: full.into() })?)
    }

    /// Gives the memory's own pages. `made`: what was made so far, also where this fails.
    fn show_all(&self, state: &mut State, made: &mut Vec<MadeMapping>) -> Result<Vec<OwnPart>> {
        for (index, kept) in self.kept.iter().enumerate() {
            if state.table.overlapping(kept.span).is_none() {
                made.push(MadeMapping { index, mapped: self.make(state, kept)? });
            }
            if let Some((entry, held)) = state.table.at_mut(kept.span.start()) {
                // Nothing is known of its pages; of a new one, that nothing is written yet.
                held.registration.mark_changed();
                self.put_back_mapping(entry, held, kept)?;
            }
        }
        let mut own = Vec::new();
        for part in own_parts(&state.table, self.live.byte_length())? {
            let target = self.memory.addresses(part);
            let shown = self.pages.show(target, |part| own.push(part));
            shown.map_err(|sys| self.pages.incomplete(sys))?;
        }
        if self.pages.snapshot.is_none() {
            self.pages.drop_written(state)?;
        }
        Ok(own)
    }

    fn make(&self, state: &mut State, kept: &KeptMapping) -> Result<Mapped> {
        let mapped = match (kept.window, kept.region_pages()?) {
            (Some(kind), _) => {
                window::open(self.memory, self.live, state, kept.span, kind, kept.from_free)?
            }
            (None, Some(pages)) => self.memory.map_span(
                self.live,
                state,
                kept.span,
                &pages,
                kept.access,
                kept.populate,
                kept.from_free,
            )?,
            (None, None) => {
                return Err(Error::Defect("a kept mapping shows no region"));
            }
        };
        if kept.strict
            && let Some((_, held)) = state.table.get(mapped.start, mapped.id)
        {
            held.registration.counts().make_strict();
        }
        Ok(mapped)
    }

    /// Whether pages that were only read have been in the way long enough.
    fn is_worth_dropping(&self, image: &mut ShownImage) -> bool {
        image.restores = image.restores.checked_add(1).expect("it is below the patience");
        if image.restores < image.patience {
            return false;
        }
        image.restores = 0;
        let mut left = MANY_SMALL_PAGES;
        let private = self.kept.iter().filter(|kept| kept.access.is_copy_on_write());
        let private =
            private.filter_map(KeptMapping::shown_part).map(|shown| self.memory.addresses(shown));
        for target in image.own.iter().map(|part| part.span).chain(private) {
            // Where the kernel can't tell, all is dropped in any case.
            let _ = pagemap::scan(target, Which::SmallClean, left, |run| {
                left = difference(left, run.pages());
            });
        }
        if left == 0 {
            image.patience = image
                .patience
                .checked_mul(2)
                .expect("it is at most MOST_PATIENCE")
                .min(MOST_PATIENCE);
        }
        left == 0
    }

    /// Makes a mapping or window show what it did.
    fn put_back_mapping(
        &self,
        entry: &mut Entry,
        held: &mut Held,
        kept: &KeptMapping,
    ) -> Result<()> {
        let failed = |sys| self.pages.incomplete(sys);
        let target = self.memory.addresses(kept.span);
        let pages = kept.region_pages()?;
        if let Some(window) = &held.window {
            let pages = pages.as_ref().map(|pages| (pages, kept.access));
            let shows = pages.map(|(pages, access)| {
                (pages.inode(), pages.file_offset(), pages.length(), access)
            });
            let showed = (window.shown() > PageAligned::ZERO)
                .then(|| (entry.inode, entry.file_offset, window.shown(), entry.access));
            if shows != showed || held.registration.is_changed() || window.tail_is_writable() {
                window::slide_held(self.live, entry, held, pages)?;
                return self.pages.write_kept(target).map_err(failed);
            }
        } else if held.registration.is_changed() {
            let Some(pages) = pages else { return Ok(()) };
            held.registration.pause();
            let owned = self.pages.owned(target);
            let replaced = owned.and_then(|owned| pages.put(owned, kept.access.sharing()));
            if replaced.is_ok() {
                held.registration.set_shown(pages.shown());
            }
            held.registration.resume();
            replaced.map_err(failed)?;
            if kept.access.is_writable() {
                keep_out_of_dumps(target);
            }
            return self.pages.write_kept(target).map_err(failed);
        }
        match kept.shown_part().filter(|_| kept.access.is_copy_on_write()) {
            Some(shown) => self.pages.clean_private(self.memory.addresses(shown)).map_err(failed),
            None => Ok(()),
        }
    }
}

impl KeptMapping {
    /// Whether this is the mapping of that entry.
    fn is(&self, entry: &Entry, held: &Held) -> Result<bool> {
        if self.span != entry.span {
            return Ok(false);
        }
        if let Some(window) = &held.window {
            return Ok(self.window == Some(window.spec()));
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

/// Room for the VMAs of a snapshot's pieces.
pub(super) fn claim_vmas(snapshot: &Snapshot) -> Result<VmaClaim, NoHeadroom> {
    let pieces = to_u64(snapshot.extents.pieces.len());
    VmaClaim::take(pieces.checked_mul(VMAS_OF_A_PIECE).expect("there are few pieces"))
}

/// What a memory shows of a file where it shows it: each page at its own offset.
fn shown_by(file: &LeasedFile, data_offset: PageAligned, length: PageAligned) -> Shown<'_> {
    Shown {
        pager: None,
        inode: file.inode,
        file_offset: data_offset,
        region_offset: PageAligned::ZERO,
        length,
        region_name: &file.name,
    }
}

/// What is known of a memory that shows an image from now on. `own`: its own pages.
pub(super) fn shown(
    state: &State,
    live: LiveMemory<'_>,
    image_id: u64,
    own: Vec<OwnPart>,
    vmas: VmaClaim,
) -> ShownImage {
    ShownImage {
        id: image_id,
        table_version: state.table.version(),
        byte_length: live.byte_length(),
        own,
        restores: 0,
        patience: FIRST_PATIENCE,
        _vmas: vmas,
    }
}

/// Refuses a memory with a mapping that the snapshot has not, or not there.
fn check_mappings(table: &MappingTable<Held>, kept: &[KeptMapping]) -> Result<()> {
    for (entry, held) in table.held() {
        let same = kept.binary_search_by_key(&entry.span.start(), |kept| kept.span.start());
        let same = same.ok().and_then(|index| kept.get(index));
        if !same.map(|kept| kept.is(entry, held)).transpose()?.unwrap_or(false) {
            let (start, end) = (entry.span.start().get(), entry.span.end().get());
            return Err(SnapshotError::OtherMapping { start, end }.into());
        }
    }
    Ok(())
}

/// Refuses a snapshot with written pages of files that are too short for them by now.
fn check_files(snapshot: &Snapshot) -> Result<()> {
    let written = &snapshot.extents.written;
    let mappings = snapshot.mappings();
    let mut left = written.as_slice();
    while let [first, others @ ..] = left {
        let index = mappings.partition_point(|kept| kept.span.end() <= first.start());
        let Some(kept) = mappings.get(index) else { return Ok(()) };
        kept.region_pages()?.map_or(Ok(()), |pages| pages.check_file_size())?;
        // The others of this mapping are of the same file.
        let of_mapping = others.partition_point(|span| span.start() < kept.span.end());
        left = others.get(of_mapping..).unwrap_or_default();
    }
    Ok(())
}
