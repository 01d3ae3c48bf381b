//! Leaves a file in the place of threads that do not answer: `leave.rs` for memories that are in
//! use. See `watch.rs`.
//!
//! A thread may be writing such a memory. So its pages are made read-only while they are copied,
//! with the fault guard's gate closed: a write waits there until the copy is in place. A system
//! call that writes them meanwhile fails with EFAULT.
//!
//! The memory may be dead, and V8 unmap it in any moment. So the pages are replaced in two parts.
//! V8 unmaps a memory as a whole: a part that is still there afterwards proves that the other one
//! was. Where it is not, the process ends, since something else may have been replaced.

// It replaces pages of memories that other threads use.
#![allow(unsafe_code)]

use super::leave::{forget_left, moved, pages_of};
use super::own::{VmaPart, own_pages, own_parts, vmas_in};
use crate::error::{Result, SnapshotError};
use crate::fault::Registration;
use crate::memory::leased::{FileCopy, LeasedFile};
use crate::memory::{self, State};
use crate::sys::mmap::{self, Advice, Mmap};
use crate::sys::owned_span::OwnedSpan;
use crate::sys::page::{PageAligned, PageSpan, host_page_bytes};
use crate::sys::pagemap::Which;
use crate::sys::{SysError, SysResult, file, memfd, process, process_map};
use nix::errno::Errno;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr;

/// How much of the written pages is copied at once.
const STEP_BYTES: u64 = 1 << 20;

/// Makes all memories leave a file that has a copy.
pub(super) fn detach(file: &LeasedFile) -> Result<()> {
    let failed = |sys: SysError| SnapshotError::FileNotLeft { refused: sys.into() };
    let Some(copy) = file.copy() else {
        return Err(failed(SysError::new("memfd_create", Errno::ENOMEM)).into());
    };
    let through = memfd::create_growing("snapshot-pages").map_err(failed)?;
    memory::for_each_showing(file, |base, state| {
        detach_one(file, copy, &through, base, state)?;
        forget_left(state);
        Ok(())
    })
}

/// Under the memory's lock, so that its thread is in no call that changes its mappings.
fn detach_one(
    file: &LeasedFile,
    copy: &FileCopy,
    through: &OwnedFd,
    base: PageAligned,
    state: &State,
) -> Result<()> {
    let failed = |sys: SysError| SnapshotError::FileNotLeft { refused: sys.into() };
    let shown = state.files.iter().rfind(|shown| ptr::eq(&raw const *shown.file, file));
    let Some(guard) = shown.map(|shown| &shown.guard) else { return Ok(()) };
    for part in own_parts(&state.table, guard.span().length())? {
        let part = part.at_base(base).expect("a memory ends below 2^47");
        for vma in vmas_in(part).map_err(failed)? {
            if vma.file.is_some_and(|at| at.inode == file.inode) {
                move_away(guard, vma, copy, through).map_err(failed)?;
            }
        }
    }
    Ok(())
}

fn move_away(
    guard: &Registration,
    vma: VmaPart,
    copy: &FileCopy,
    through: &OwnedFd,
) -> SysResult<()> {
    if !guard.is_guarded() {
        // A write to protected pages would end the process.
        return Err(SysError::new("sigaction", Errno::ENOSYS));
    }
    // SAFETY: these are pages of a linear memory, into which no Rust reference ever points. It was
    // there a moment ago, and the head of this file says what is done where it is not any more.
    let target = unsafe { OwnedSpan::assume(vma.span) };
    guard.pause();
    let done = mmap::protect_readonly(target)
        .and_then(|()| copied(vma, copy, through))
        .and_then(|made| put(vma, copy, made));
    if done.is_err() {
        writable_again(vma);
    }
    guard.resume();
    done
}

/// What still shows the file.
fn writable_again(vma: VmaPart) {
    for part in parts_of(vma.span) {
        if !shows(part.start(), vma.file.map(|at| at.inode)) {
            continue;
        }
        // SAFETY: as in `move_away`.
        let part = unsafe { OwnedSpan::assume(part) };
        // Nothing else can be done about pages that nobody could write.
        if mmap::unprotect_private(part).is_err() {
            process::end("wasm-hostmap: pages of a memory can't be made writable again");
        }
    }
}

/// All but the last page, and that.
fn parts_of(span: PageSpan) -> impl Iterator<Item = PageSpan> {
    let page = PageAligned::new(host_page_bytes());
    let cut = page.and_then(|page| span.end().checked_sub(page)).unwrap_or(span.start());
    [PageSpan::between(span.start(), cut), PageSpan::between(cut, span.end())].into_iter().flatten()
}

/// The copy's pages, with what was written to these.
fn copied(vma: VmaPart, copy: &FileCopy, through: &OwnedFd) -> SysResult<Vec<(PageSpan, Mmap)>> {
    let offset = vma.file.map_or(0, |at| at.offset);
    let mut made = Vec::new();
    for part in parts_of(vma.span) {
        let skew = part.start().get().wrapping_sub(vma.span.start().get());
        let pages = Mmap::new(part.length(), pages_of(copy, offset.wrapping_add(skew))?)?;
        if copy.is_whole {
            for own in own_pages(part, Which::OwnOfFile)? {
                copy_written(own, moved(own, part, &pages), through)?;
            }
        }
        made.push((part, pages));
    }
    // Its thread has just grown it, which makes all of a memory writable.
    let first = PageSpan::page_at(vma.span.start().get()).expect("it is a page");
    if vmas_in(vma.span)?.len() != 1 || mmap::is_writable(first) {
        return Err(SysError::new("mprotect", Errno::EAGAIN));
    }
    Ok(made)
}

/// Through a file: where a page is gone meanwhile, the kernel says so, and no signal comes.
fn copy_written(from: PageSpan, to: PageSpan, through: &OwnedFd) -> SysResult<()> {
    let mut left = Some((from, to));
    while let Some((from, to)) = left {
        let (step, target) = (from.first(STEP_BYTES), to.first(STEP_BYTES));
        file::write_all_from(through.as_fd(), 0, step.start().get(), step.length().get())?;
        // SAFETY: a part of a mapping that was just made, which nobody else knows of.
        file::read_all_to(through.as_fd(), 0, unsafe { OwnedSpan::assume(target) })?;
        left = PageSpan::between(step.end(), from.end())
            .zip(PageSpan::between(target.end(), to.end()));
    }
    Ok(())
}

fn put(vma: VmaPart, copy: &FileCopy, made: Vec<(PageSpan, Mmap)>) -> SysResult<()> {
    let spans: Vec<PageSpan> = made.iter().map(|(span, _)| *span).collect();
    for (index, (span, pages)) in made.into_iter().enumerate() {
        // SAFETY: as in `move_away`.
        let target = unsafe { OwnedSpan::assume(span) };
        mmap::replace_by_own(target, pages)?;
        let _ = mmap::advise(target, Advice::DontFork);
        for (other, span) in spans.iter().enumerate().filter(|(other, _)| *other != index) {
            let before = if other < index { Some(copy.inode) } else { vma.file.map(|at| at.inode) };
            let is_there = shows(span.start(), before);
            // Where all of it is gone, it went afterwards.
            if !is_there && shows(target.span().start(), Some(copy.inode)) {
                process::end("wasm-hostmap: a memory ended while it left the file of a snapshot");
            }
        }
    }
    Ok(())
}

/// Whether a file's page is there.
fn shows(at: PageAligned, inode: Option<u64>) -> bool {
    let vma = process_map::at_or_after(at.get());
    matches!(vma, Ok(Some(vma)) if vma.start <= at.get() && Some(vma.inode) == inode)
}
