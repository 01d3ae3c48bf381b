//! Changes the pages of a memory so that they show an image, or zeros. `restore.rs` says which.
//!
//! All of it is done to pages of a [`LiveMemory`], in which no thread is: nobody sees pages half
//! done.

// It writes the pages of a memory.
#![allow(unsafe_code)]

use super::Snapshot;
use super::image::ZEROS;
use super::own::vmas_in;
use crate::access::Access;
use crate::error::{Error, Result, SnapshotError};
use crate::fault;
use crate::memory::State;
use crate::memory::image::OwnPart;
use crate::memory::window_state::Window;
use crate::sys::mmap::{self, Advice, Pages, Sharing};
use crate::sys::owned_span::OwnedSpan;
use crate::sys::page::{PageSpan, host_page_bytes};
use crate::sys::pagemap::{self, Which};
use crate::sys::{SysError, SysResult, contents, difference, file, sum, to_usize};
use crate::totals;
use crate::v8::live_memory::LiveMemory;

use nix::errno::Errno;

/// One restore.
pub(super) struct PutBack<'a> {
    live: LiveMemory<'a>,
    /// `None`: zeros.
    pub(super) snapshot: Option<&'a Snapshot>,
    /// Pages that may still be copied. Those beyond are dropped.
    left_pages: u64,
    /// Whether pages that were only read are dropped too.
    drops_all: bool,
    /// For the process's totals.
    copied_pages: u64,
    has_dropped: bool,
}

impl<'a> PutBack<'a> {
    pub(super) fn new(
        live: LiveMemory<'a>,
        snapshot: Option<&'a Snapshot>,
        keep_resident_bytes: u64,
    ) -> Self {
        let left_pages =
            keep_resident_bytes.checked_div(host_page_bytes()).expect("a page has bytes");
        Self { live, snapshot, left_pages, drops_all: false, copied_pages: 0, has_dropped: false }
    }

    pub(super) fn image_id(&self) -> u64 {
        self.snapshot.map_or(ZEROS, |snapshot| snapshot.id)
    }

    /// From here on, drops all pages and copies none.
    pub(super) fn drop_all(&mut self) {
        self.left_pages = 0;
        self.drops_all = true;
    }

    /// For an error half-way.
    pub(super) fn incomplete(&self, sys: SysError) -> Error {
        incomplete(sys, self.snapshot)
    }

    /// Puts back what was written to own pages that show the image already.
    pub(super) fn clean(&mut self, part: OwnPart) -> SysResult<()> {
        let OwnPart { span: target, is_piece } = part;
        let mut put = Ok(());
        let mut left = self.left_pages;
        let which = if is_piece { Which::OwnOfFile } else { Which::Own };
        let walked = pagemap::scan(target, which, left, |run| {
            if put.is_ok() {
                put = match (run.is_swapped, is_piece) {
                    // Reading a page in to write over it would be a waste.
                    (true, _) => self.drop_pages(run.span),
                    (false, true) => self.copy_from_image(run.span),
                    (false, false) => self.clear(run.span),
                };
            }
            left = difference(left, run.pages());
        });
        self.copied_pages = sum(self.copied_pages, difference(self.left_pages, left));
        self.left_pages = left;
        put?;
        let unknown = PageSpan::between(walked.unwrap_or(target.start()), target.end());
        self.has_dropped |= unknown.is_some();
        unknown.map_or(Ok(()), |unknown| self.drop_pages(unknown))
    }

    /// Adds what was done to the process's totals.
    pub(super) fn count(&self) {
        totals::add(totals::COPIED_PAGES, self.copied_pages);
        totals::add(totals::DROPPING_RESTORES, u64::from(self.has_dropped));
    }

    fn drop_pages(&self, target: PageSpan) -> SysResult<()> {
        mmap::discard(self.owned(target)?).or_else(|_| self.show(target, |_| {}))
    }

    /// Makes own pages show the image, whatever they showed, and tells of each part that does.
    pub(super) fn show(&self, target: PageSpan, mut see: impl FnMut(OwnPart)) -> SysResult<()> {
        self.for_parts(target, self.pieces(), |span, is_piece| {
            match self.snapshot.filter(|_| is_piece) {
                Some(snapshot) => {
                    let pages = snapshot.pages(self.offsets(span), Sharing::CopyOnWrite)?;
                    let owned = self.owned(span)?;
                    mmap::replace(owned, pages)?;
                    // V8's own pages are marked so too.
                    let _ = mmap::advise(owned, Advice::DontFork);
                }
                None => self.show_zeros(span)?,
            }
            see(OwnPart { span, is_piece });
            Ok(())
        })
    }

    /// Writes what the snapshot has over pages that are the process's own.
    fn copy_from_image(&self, target: PageSpan) -> SysResult<()> {
        let source = self.snapshot.and_then(Snapshot::copy_source);
        let Some(from) = source.and_then(|source| source.address_of(self.offsets(target))) else {
            // There was no address space for the source.
            return self.drop_pages(target);
        };
        let target = self.owned(target)?;
        // SAFETY: `target` is a part of a living memory, into which no Rust reference points.
        // These pages were written since they were mapped, so they can be; and the lock of the
        // memory's table, which the caller has, keeps other restores out. The source is mapped as
        // long as the snapshot lives, which is longer than this, nobody can write it, and it has
        // as many bytes.
        unsafe { contents::copy(from, target.span()) };
        match source {
            Some(source) if !source.is_whole() => Err(SysError::new("read", Errno::ESTALE)),
            _ => Ok(()),
        }
    }

    /// Writes zeros over pages that are the process's own.
    fn clear(&self, target: PageSpan) -> SysResult<()> {
        let target = self.owned(target)?;
        // SAFETY: `target` is a part of a living memory, into which no Rust reference points.
        // These pages were written since they were mapped, so they can be; and the lock of the
        // memory's table, which the caller has, keeps other restores out.
        unsafe { contents::clear(target.span()) };
        Ok(())
    }

    /// A private mapping that shows its region: what was written is put back, to what had been
    /// written when the snapshot was taken.
    pub(super) fn clean_private(&self, target: PageSpan) -> SysResult<()> {
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

    /// A private mapping that was just mapped: what had been written when the snapshot was taken is
    /// written again.
    pub(super) fn write_kept(&self, target: PageSpan) -> SysResult<()> {
        self.for_parts(target, self.written(), |part, was_written| {
            if was_written { self.write_from_file(part) } else { Ok(()) }
        })
    }

    pub(super) fn write_from_file(&self, target: PageSpan) -> SysResult<()> {
        let snapshot = self.snapshot.expect("pages that were written are a snapshot's");
        let offset = snapshot.file_offset(self.offsets(target).start());
        let fd = snapshot.backing.fd()?.get()?;
        let owned = self.owned(target)?;
        match file::read_all_to(fd, offset.get(), owned) {
            // The kernel does not wait for a provider. A thread does, in the fault handler.
            Err(SysError { errno: Errno::EFAULT, .. })
                if fault::shows_paged(target.start().get()) =>
            {
                let starts = target.start().get()..target.end().get();
                let pages = starts.step_by(to_usize(host_page_bytes()));
                for page in pages.filter_map(PageSpan::page_at) {
                    // SAFETY: a page of the living memory's that can be read, into which no Rust
                    // reference points. What its bytes are makes no difference.
                    unsafe { contents::is_zero(page) };
                }
                file::read_all_to(fd, offset.get(), owned)
            }
            written => written,
        }
    }

    /// For a reset: what was written to private mappings, or to others by stray writes, is dropped.
    pub(super) fn drop_written(&self, state: &mut State) -> Result<()> {
        for (entry, held) in state.table.held() {
            let target = entry.span.at_base(self.live.base());
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
                // These pages are private copies.
                let dropped = self.owned(written).and_then(mmap::discard);
                dropped.map_err(|sys| incomplete(sys, None))?;
            }
        }
        Ok(())
    }

    fn pieces(&self) -> &'a [PageSpan] {
        self.snapshot.map_or(&[], |snapshot| &snapshot.extents.pieces)
    }

    fn written(&self) -> &'a [PageSpan] {
        self.snapshot.map_or(&[], |snapshot| &snapshot.extents.written)
    }

    /// As offsets in the memory.
    pub(super) fn offsets(&self, target: PageSpan) -> PageSpan {
        let start =
            target.start().checked_sub(self.live.base()).expect("it is a part of the memory");
        PageSpan::new(start, target.length()).expect("an offset is below its address")
    }

    /// Cuts a range where the spans of a list, offsets in order, begin and end.
    fn for_parts(
        &self,
        target: PageSpan,
        spans: &[PageSpan],
        mut see: impl FnMut(PageSpan, bool) -> SysResult<()>,
    ) -> SysResult<()> {
        let range = self.offsets(target);
        let first = spans.partition_point(|span| span.end() <= range.start());
        let inside = spans.iter().skip(first).map_while(|span| span.within(range));
        let mut at = range.start();
        let mut see_part = |part: Option<PageSpan>, is_inside| match part {
            Some(part) => {
                see(part.at_base(self.live.base()).expect("it is a part of the target"), is_inside)
            }
            None => Ok(()),
        };
        for span in inside {
            see_part(PageSpan::between(at, span.start()), false)?;
            see_part(Some(span), true)?;
            at = span.end();
        }
        see_part(PageSpan::between(at, range.end()), false)
    }

    /// Makes own pages zeros. Anonymous pages are dropped; others show an earlier image.
    fn show_zeros(&self, target: PageSpan) -> SysResult<()> {
        for vma in vmas_in(target)? {
            let owned = self.owned(vma.span)?;
            let is_dropped = vma.file.is_none() && mmap::discard(owned).is_ok();
            if !is_dropped {
                mmap::replace(owned, Pages::Zeros)?;
                let _ = mmap::advise(owned, Advice::DontFork);
            }
        }
        Ok(())
    }

    /// Refuses pages past the end that the caller knows of: another thread may have grown a shared
    /// memory since, and mapped there.
    pub(super) fn owned(&self, target: PageSpan) -> SysResult<OwnedSpan<'a>> {
        self.live.pages_at(target).ok_or(SysError::new("mmap", Errno::EFAULT))
    }
}

fn incomplete(sys: SysError, snapshot: Option<&Snapshot>) -> Error {
    let refused = sys.into();
    match snapshot {
        Some(snapshot) if !snapshot.backing.is_whole() => {
            SnapshotError::FileLost { name: snapshot.name.as_ref().to_owned() }.into()
        }
        Some(snapshot) => {
            SnapshotError::HalfRestored { name: snapshot.name.as_ref().to_owned(), refused }.into()
        }
        None => SnapshotError::HalfReset { refused }.into(),
    }
}
