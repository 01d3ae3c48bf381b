//! The protection of pages.
//!
//! Calls: mprotect.

// It changes the protection of pages.
#![allow(unsafe_code)]

use super::mapping::pointer;
use super::pages::Sharing;
use crate::sys::owned_span::OwnedSpan;
use crate::sys::page::PageSpan;
use crate::sys::{SysError, SysResult, inject, process_map, to_usize};
use nix::sys::mman::{ProtFlags, mprotect};

/// Makes pages read-only.
pub fn protect_readonly(span: OwnedSpan<'_>) -> SysResult<()> {
    inject::trip("mprotect")?;
    let span = span.span();
    // SAFETY: of an owned span, no Rust reference expects that it can be written.
    unsafe {
        mprotect(pointer(span.start().get())?, to_usize(span.length().get()), ProtFlags::PROT_READ)
    }
    .map_err(|errno| SysError::new("mprotect", errno))
}

/// Makes private pages writable: what is written goes to copies. Not for shared ones, whose writes
/// would go to the file.
pub fn unprotect_private(span: OwnedSpan<'_>) -> SysResult<()> {
    inject::trip("mprotect")?;
    let span = span.span();
    let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    // SAFETY: no Rust reference points into an owned span, so none to bytes that would have to stay
    // as they are.
    unsafe { mprotect(pointer(span.start().get())?, to_usize(span.length().get()), access) }
        .map_err(|errno| SysError::new("mprotect", errno))
}

/// Gives private pages of a file that were inaccessible the protection of a way to see them. Not
/// for shared ones.
pub fn protect_as(span: OwnedSpan<'_>, sharing: Sharing) -> SysResult<()> {
    inject::trip("mprotect")?;
    let span = span.span();
    // SAFETY: no Rust reference points into an owned span, so none to bytes that would have to stay
    // as they are.
    unsafe {
        mprotect(pointer(span.start().get())?, to_usize(span.length().get()), sharing.protection())
    }
    .map_err(|errno| SysError::new("mprotect", errno))
}

/// Whether a page can be written, by the process's map. Where that is text it costs more the more
/// VMAs there are, but any call that tries it out makes a copy of the page, which can't be dropped
/// again without losing what another thread writes to it meanwhile.
pub fn is_writable(page: PageSpan) -> bool {
    let vma = process_map::at_or_after(page.start().get());
    !matches!(vma, Ok(Some(vma)) if vma.start <= page.start().get() && !vma.writable)
}
