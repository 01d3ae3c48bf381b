//! Puts the bytes of a JavaScript array buffer into a memory by moving its pages there, and moves
//! them back.
//!
//! ```text
//!   buffer     |....bbbb|bbbbbbbb|bbbbbbbb|bb......|        |....bbbb|00000000|00000000|bb......|
//!                 copied    moved    moved   copied    =>
//!   memory     |mmmmmmmm|mmmmmmmm|mmmmmmmm|mmmmmmmm|        |0000bbbb|bbbbbbbb|bbbbbbbb|bb000000|
//! ```
//!
//! The buffer's allocation stays mapped, its moved pages as zeros that take no memory: code that
//! has its address reads, writes and frees valid memory. The caller keeps it, so that the pages can
//! go back.
//!
//! The first page of what is adopted is a page of /dev/zero's, as windows have them, with copied
//! bytes: by it the process's map tells the memory from another one that came to the same base
//! (`presence.rs`). So the first page is never moved. The pages are the memory's private ones then:
//! nothing of them can be protected or missing, and they are registered with the fault guard as all
//! mappings are, for nothing to be reported.
//!
//! When the handle on the memory goes (its thread has ended, or nobody has the memory or the buffer
//! there any more), the pages stay as they are and become the memory's own: other threads may have
//! their address, and nobody could give them back.
//!
//! # The order of steps
//!
//! Each step that may fail comes before those that can't, and is undone by ones that can't fail:
//! the head becomes zeros (the bytes that were there are put back), the pages are moved (in one
//! call, or not at all), and the rest is copied. What the memory had there is lost only where the
//! kernel has no memory for its own tables, as with every other replacement.

// It reads and writes bytes of memories and buffers by address.
#![allow(unsafe_code)]

use super::handle::Memory;
use super::place::{check_overlap, pages_of, span_at};
use super::state::{AdoptedFrom, Held, Mapped, State, next_mapping_id};
use super::table::Entry;
use crate::access::Access;
use crate::error::{Error, MemoryError, PagingError, Result};
use crate::fault::{self, Shown};
use crate::region::thp;
use crate::sys::mmap::{self, Advice, Pages, Sharing, Unmovable};
use crate::sys::owned_span::OwnedSpan;
use crate::sys::page::{HUGE_PAGE_BYTES, PageAligned, PageSpan, host_page_bytes};
use crate::sys::vma_budget::VmaClaim;
use crate::sys::{SysError, SysResult, alloc, contents, difference, sum, to_u64, to_usize};
use crate::v8::array_bytes::{ArrayBytes, KeptAllocation};
use crate::v8::live_memory::LiveMemory;
use nix::errno::Errno;

/// VMAs that it takes at most: the first page, the moved ones, the last page, and what they cut off
/// their surroundings in the memory.
const VMAS_OF_AN_ADOPTION: u64 = 4;

/// Below so many bytes of whole pages, copying them costs less than moving them, and moves would
/// leave the allocator's heap in pieces.
pub const LEAST_MOVED_BYTES: u64 = 64 << 10;

/// Where an adopted buffer is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// At an offset, or anywhere in so many bytes from there on, where more than its pages are.
    At { at: u64, room_bytes: u64 },
    /// In what the memory grew by for mappings. `congruent`: only where whole page tables can be
    /// moved.
    FreeSpace { congruent: bool },
}

/// Where the bytes of an adopted buffer go back to.
#[derive(Debug, Clone, Copy)]
pub enum Back<'call> {
    /// To where they came from.
    Origin(KeptAllocation<'call>),
    /// Into a buffer of the same length, which may be that one.
    Buffer(ArrayBytes<'call>),
}

/// What may be done with its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Means {
    Move,
    Copy,
    MoveOrCopy,
}

impl Means {
    fn may_copy(self) -> bool {
        self != Self::Move
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Adoption {
    Done(Adopted),
    /// There is not enough free space, and the memory must grow.
    NoSpace,
    NotMovable(Unmovable),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Adopted {
    pub mapped: Mapped,
    pub copied_bytes: u64,
    /// Why all of it was copied, where that was not asked for.
    pub why_copied: Option<Unmovable>,
}

impl Memory {
    /// Puts the bytes of a buffer into the memory.
    ///
    /// Cost: moving takes one `mmap`, one `mremap`, an `madvise` and the queries of
    /// [`mmap::check_movable`]. Where buffer and place are equal modulo 2 MiB the kernel moves
    /// tables of 512 pages, and else page by page.
    pub fn adopt(
        &self,
        live: LiveMemory<'_>,
        source: ArrayBytes<'_>,
        place: Place,
        means: Means,
    ) -> Result<Adoption> {
        let whole = PageSpan::between(live.base(), live.extent().end());
        if whole.is_some_and(|whole| source.overlaps(whole)) {
            return Err(MemoryError::AdoptsItself.into());
        }
        if fault::shows_paged(source.address()) {
            return Err(PagingError::Shown.into());
        }
        let inner = match means {
            Means::Copy => Err(None),
            Means::Move | Means::MoveOrCopy => movable(source).map_err(Some),
        };
        if let (Err(Some(why)), Means::Move) = (inner, means) {
            return Ok(Adoption::NotMovable(why));
        }
        let mut state = self.lock_at(live)?;
        let length = source.pages().length();
        let span = match place {
            Place::At { at, room_bytes } => {
                let shift = if inner.is_ok() { self.shift(source, at, room_bytes) } else { 0 };
                span_at(live, sum(at, shift), length)?
            }
            Place::FreeSpace { congruent } => {
                let free = state.table.free();
                let free = match congruent {
                    true => thp::base_for(self.base(), source.pages().start())
                        .and_then(|base| free.find_aligned(length, base, HUGE_PAGE_BYTES)),
                    false => free.find(length),
                };
                let Some(span) = free.filter(|span| span.end() <= live.byte_length()) else {
                    // The caller grows the memory now, which can't be undone.
                    claim(source)?;
                    return Ok(Adoption::NoSpace);
                };
                span
            }
        };
        check_overlap(&state.table, span)?;
        self.put(live, &mut state, span, source, inner, means).map(Adoption::Done)
    }

    /// How far behind `at` a place is that is equal to the buffer's modulo 2 MiB; 0 where there is
    /// no room for that.
    fn shift(&self, source: ArrayBytes<'_>, at: u64, room_bytes: u64) -> u64 {
        let within = |address: u64| address % HUGE_PAGE_BYTES;
        let here = within(sum(within(self.base().get()), within(at)));
        let there = within(source.pages().start().get());
        let shift = within(difference(sum(there, HUGE_PAGE_BYTES), here));
        let needed = source.pages().length().get().checked_add(shift);
        if needed.is_some_and(|needed| needed <= room_bytes) { shift } else { 0 }
    }

    /// `span` is inside the memory, and overlaps no mapping.
    fn put(
        &self,
        live: LiveMemory<'_>,
        state: &mut State,
        span: PageSpan,
        source: ArrayBytes<'_>,
        inner: Result<OwnedSpan<'_>, Option<Unmovable>>,
        means: Means,
    ) -> Result<Adopted> {
        let target = pages_of(live, span)?;
        let vmas = claim(source)?;
        let registration = self.register(state, target, Access::Private, false, Shown::nothing());
        let all = source.byte_length();
        let copied = |why| copy_in(target, source).map(|()| (all, why));
        let done = match inner {
            Err(why) => copied(why),
            Ok(inner) => match move_in(target, source, inner) {
                Ok(()) => Ok((difference(all, inner.span().length().get()), None)),
                Err(_) if means.may_copy() => copied(Some(Unmovable::Refused)),
                Err(sys) => Err(sys),
            },
        };
        let (copied_bytes, why_copied) = done.map_err(|sys| {
            // Some of its pages may be others now, or zeros.
            state.image = None;
            not_adopted(source, sys.into())
        })?;
        registration.resume();
        // As the pages around it: VMAs merge only if they don't differ.
        let _ = mmap::advise(target, Advice::DontFork);
        let id = next_mapping_id();
        let entry = Entry {
            span,
            access: Access::Private,
            id,
            from_free: state.table.free().contains(span),
            region_offset: PageAligned::ZERO,
            inode: 0,
            file_offset: PageAligned::ZERO,
        };
        let adopted = AdoptedFrom {
            address: source.address(),
            byte_length: all,
            is_moved: copied_bytes < all,
            owner: self.id,
        };
        let held =
            Held { registration, _vmas: vmas, window: None, adopted: Some(adopted), ahead: None };
        state.table.insert(entry, false, held);
        Ok(Adopted { mapped: Mapped { start: span.start(), id }, copied_bytes, why_copied })
    }

    /// Gives the bytes back: moves the pages to where they came from, or copies them into another
    /// buffer of the same length, and unmaps. How many bytes were copied; `None`: it is not there
    /// any more.
    ///
    /// Nothing has changed where it fails, but for the bytes of `back`.
    pub fn release(
        &self,
        live: LiveMemory<'_>,
        mapped: Mapped,
        back: Back<'_>,
        may_copy: bool,
    ) -> Result<Option<u64>> {
        let mut state = self.lock_unprotected(live)?;
        let Some((entry, held)) = state.table.get(mapped.start, mapped.id) else {
            return Ok(None);
        };
        let from = held.adopted.ok_or(Error::Defect("it is no adopted buffer"))?;
        let into = match back {
            Back::Origin(kept) if from.is_moved => kept.bytes(from.address, from.byte_length),
            Back::Origin(_) => None,
            Back::Buffer(into) => Some(into),
        };
        let into = into.ok_or(Error::Defect("what was copied has no place to go back to"))?;
        if into.byte_length() != from.byte_length {
            return Err(Error::Defect("the buffer has another length than the adopted one"));
        }
        let target = pages_of(live, entry.span)?;
        let skew = difference(from.address, PageAligned::round_down(from.address).get());
        let bytes_at = sum(target.span().start().get(), skew);
        let inner = into.inner().filter(|_| from.is_moved && from.address == into.address());
        let moved = inner.map(|inner| move_out(target, into, inner));
        let is_moved = matches!(moved, Some(Ok(())));
        if let Some(Err(sys)) = moved
            && !may_copy
        {
            let byte_length = from.byte_length;
            return Err(MemoryError::NotReleased { byte_length, refused: sys.into() }.into());
        }
        let copied_bytes = match inner.filter(|_| is_moved) {
            Some(inner) => difference(from.byte_length, inner.span().length().get()),
            None => {
                // SAFETY: the mapping is there and readable, since the memory lives; the buffer
                // has as many bytes, all its own, by the contract of `ArrayBytes`.
                unsafe { contents::copy_bytes(bytes_at, into.address(), from.byte_length) };
                from.byte_length
            }
        };
        let unmapped = self.unmap_by(&mut state, live, mapped, |target| {
            let replaced = mmap::replace(target, Pages::Zeros);
            // The pages are gone, so this must not fail. They are zeros of their own then.
            if is_moved { replaced.or_else(|_| clear_edges(target, into)) } else { replaced }
        });
        unmapped.map(|_| Some(copied_bytes))
    }
}

fn claim(source: ArrayBytes<'_>) -> Result<VmaClaim> {
    VmaClaim::take(VMAS_OF_AN_ADOPTION).map_err(|full| not_adopted(source, full.into()))
}

fn not_adopted(source: ArrayBytes<'_>, refused: crate::error::Refused) -> Error {
    MemoryError::NotAdopted { byte_length: source.byte_length(), refused }.into()
}

/// The pages of a buffer that can be moved, and are worth it.
fn movable(source: ArrayBytes<'_>) -> Result<OwnedSpan<'_>, Unmovable> {
    let inner = source.inner().ok_or(Unmovable::Small)?;
    if inner.span().length().get() < LEAST_MOVED_BYTES {
        return Err(Unmovable::Small);
    }
    mmap::check_movable(inner.span()).map(|()| inner)
}

/// Where in `target` the inner pages of a buffer are.
fn inner_of<'a>(
    target: OwnedSpan<'a>,
    source: ArrayBytes<'_>,
    inner: OwnedSpan<'_>,
) -> SysResult<OwnedSpan<'a>> {
    inner
        .span()
        .start()
        .checked_sub(source.pages().start())
        .and_then(|offset| target.span().start().checked_add(offset))
        .and_then(|start| PageSpan::new(start, inner.span().length()))
        .and_then(|place| target.part(place))
        .ok_or(SysError::new("mremap", Errno::EFAULT))
}

/// The bytes of a buffer that are in no inner page: where each part begins, and its length.
fn edges(source: ArrayBytes<'_>, inner: OwnedSpan<'_>) -> [(u64, u64); 2] {
    let (start, end) = (inner.span().start().get(), inner.span().end().get());
    let source_end = sum(source.address(), source.byte_length());
    [
        (0, difference(start, source.address())),
        (difference(end, source.address()), difference(source_end, end)),
    ]
}

/// Moves the inner pages, and copies the rest. The rest of the first and the last page is zeros.
fn move_in(target: OwnedSpan<'_>, source: ArrayBytes<'_>, inner: OwnedSpan<'_>) -> SysResult<()> {
    let over = inner_of(target, source, inner)?;
    let head = target.first(host_page_bytes());
    let (head_at, page) = (head.span().start().get(), host_page_bytes());
    let mut before = alloc::zeroed(to_usize(page))?;
    let kept_at = to_u64(before.as_mut_ptr() as usize);
    // SAFETY: a page of the living memory is read into as many bytes of our own.
    unsafe { contents::copy_bytes(head_at, kept_at, page) };
    // SAFETY: the page is zeros, private and writable, and held these bytes before.
    let put_back = || unsafe { contents::copy_bytes(kept_at, head_at, page) };
    let plugged = |sys: &SysError| {
        if sys.removed {
            put_back();
        }
    };
    fault::show_past_end(head, Sharing::CopyOnWrite).inspect_err(plugged)?;
    mmap::move_owned(inner, over).inspect_err(|_| put_back())?;
    let bytes_at = sum(target.span().start().get(), source.skew());
    for (offset, length) in edges(source, inner) {
        // SAFETY: bytes of the buffer that were not moved, by the contract of `ArrayBytes`; and
        // their places in pages of the living memory that are private and writable.
        unsafe {
            contents::copy_bytes(sum(source.address(), offset), sum(bytes_at, offset), length);
        };
    }
    let end = sum(bytes_at, source.byte_length());
    // SAFETY: the rest of the last page, which is the memory's.
    unsafe { contents::clear_bytes(end, difference(target.span().end().get(), end)) };
    Ok(())
}

/// Copies all bytes, into pages of zeros.
fn copy_in(target: OwnedSpan<'_>, source: ArrayBytes<'_>) -> SysResult<()> {
    fault::show_past_end(target, Sharing::CopyOnWrite)?;
    let bytes_at = sum(target.span().start().get(), source.skew());
    // SAFETY: the buffer's bytes can be read, by the contract of `ArrayBytes`. As many from its
    // skew on fit into its pages' length of the memory, which are writable zeros now.
    unsafe { contents::copy_bytes(source.address(), bytes_at, source.byte_length()) };
    Ok(())
}

/// Moves the inner pages back, and copies the rest.
fn move_out(target: OwnedSpan<'_>, into: ArrayBytes<'_>, inner: OwnedSpan<'_>) -> SysResult<()> {
    let from = inner_of(target, into, inner)?;
    // A limit may have come since, or somebody have locked all pages.
    mmap::check_movable(from.span()).map_err(|why| {
        let errno = if why == Unmovable::Limited { Errno::ENOMEM } else { Errno::EINVAL };
        SysError::new("mremap", errno)
    })?;
    mmap::move_owned(from, inner)?;
    // As the rest of the buffer's allocation.
    let _ = mmap::advise(inner, Advice::DoFork);
    let bytes_at = sum(target.span().start().get(), into.skew());
    for (offset, length) in edges(into, inner) {
        // SAFETY: the places where `move_in` put them, and those where they came from, which are
        // the buffer's own.
        unsafe { contents::copy_bytes(sum(bytes_at, offset), sum(into.address(), offset), length) };
    }
    Ok(())
}

/// Makes the pages zeros that were not moved.
fn clear_edges(target: OwnedSpan<'_>, into: ArrayBytes<'_>) -> SysResult<()> {
    let Some(inner) = into.inner() else { return Ok(()) };
    let inner = inner_of(target, into, inner)?.span();
    let (start, end) = (target.span().start().get(), target.span().end().get());
    for (at, until) in [(start, inner.start().get()), (inner.end().get(), end)] {
        // SAFETY: pages of the living memory, private and writable.
        unsafe { contents::clear_bytes(at, difference(until, at)) };
    }
    Ok(())
}
