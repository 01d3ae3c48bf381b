//! Puts the pages of a sealed copy in the place of those of a file that somebody wants to write:
//! see `watch.rs`. What the memory shows does not change. Of a file that has lost bytes there is no
//! copy: then no page is there, which the fault guard tells who accesses it.

// It reads the pages of a memory.
#![allow(unsafe_code)]

use super::own::{own_pages, own_parts, vmas_in};
use crate::error::{Result, SnapshotError};
use crate::fault::Shown;
use crate::memory::leased::FileCopy;
use crate::memory::{Memory, ShownFile, State};
use crate::sys::mmap::{self, Advice, Mmap, Pages, Sharing};
use crate::sys::owned_span::OwnedSpan;
use crate::sys::page::{PageAligned, PageSpan};
use crate::sys::pagemap::Which;
use crate::sys::{SysError, SysResult, contents};
use crate::v8::live_memory::LiveMemory;
use nix::errno::Errno;

/// Of all files that have a copy. The caller holds the memory, and no thread is in it.
pub fn leave(memory: &Memory, live: LiveMemory<'_>) -> Result<()> {
    let mut state = memory.lock_at(live)?;
    if state.files.iter().all(|shown| shown.file.copy().is_none()) {
        return Ok(());
    }
    let failed = |sys: SysError| SnapshotError::FileNotLeft { refused: sys.into() };
    for part in own_parts(&state.table, live.byte_length())? {
        for vma in vmas_in(memory.addresses(part)).map_err(failed)? {
            let Some(at) = vma.file else { continue };
            let shown = state.files.iter().find(|shown| shown.file.inode == at.inode);
            let Some(copy) = shown.and_then(|shown| shown.file.copy()) else { continue };
            let owned = live.pages_at(vma.span).ok_or(SysError::new("mmap", Errno::EFAULT));
            owned.and_then(|owned| replace(owned, copy, at.offset)).map_err(failed)?;
        }
    }
    forget_left(&mut state);
    Ok(())
}

/// No page of these files that have a copy is shown any more.
pub(super) fn forget_left(state: &mut State) {
    state.files.retain(|ShownFile { file, guard }| match file.copy() {
        None => true,
        Some(copy) if copy.is_whole => false,
        Some(copy) => {
            guard.pause();
            guard.set_shown(Shown { inode: copy.inode, ..guard.shown(&file.name) });
            // The next restore is to map all of it.
            guard.mark_changed();
            guard.resume();
            true
        }
    });
}

/// Replaces pages of a file by those of its copy, and keeps what was written to them.
fn replace(target: OwnedSpan<'_>, copy: &FileCopy, offset: u64) -> SysResult<()> {
    let span = target.span();
    let made = Mmap::new(span.length(), pages_of(copy, offset)?)?;
    if copy.is_whole {
        for own in own_pages(span, Which::OwnOfFile)? {
            // SAFETY: `own` is a part of a living memory, in which no thread is, so it can be read.
            // `to` is as long a part of the mapping that was just made, which nobody else knows of.
            unsafe { contents::copy(own.start(), moved(own, span, &made)) };
        }
    }
    mmap::replace_by_own(target, made)?;
    // V8's own pages are marked so too.
    let _ = mmap::advise(target, Advice::DontFork);
    Ok(())
}

/// The pages of a copy at an offset of the file.
pub(super) fn pages_of(copy: &FileCopy, offset: u64) -> SysResult<Pages<'_>> {
    let offset = PageAligned::new(offset).ok_or(SysError::new("mmap", Errno::EINVAL))?;
    Ok(Pages::File { fd: copy.fd.get()?, offset, sharing: Sharing::CopyOnWrite, is_memfd: true })
}

/// Where a part of a span is in a mapping of its length.
pub(super) fn moved(part: PageSpan, span: PageSpan, made: &Mmap) -> PageSpan {
    let skew = part.start().checked_sub(span.start()).expect("it is a part of the span");
    let to = made.span().start().checked_add(skew);
    to.and_then(|to| PageSpan::new(to, part.length())).expect("it is a part of what was made")
}
