//! A memory's own pages: those that are no mapping's. Where they are, which of them the process has
//! written, and which VMAs hold them.
//!
//! Asks the kernel, and changes nothing.

use crate::error::{Result, SnapshotError};
use crate::memory::Held;
use crate::memory::table::MappingTable;
use crate::sys::alloc::{self, Refused};
use crate::sys::page::{PageAligned, PageSpan};
use crate::sys::pagemap::{self, Which};
use crate::sys::{SysResult, process_map};

/// What of a memory of this size is no mapping, as offsets.
pub(super) fn own_parts(
    table: &MappingTable<Held>,
    byte_length: PageAligned,
) -> Result<Vec<PageSpan>, Refused> {
    let mut parts = Vec::new();
    let mut at = PageAligned::ZERO;
    for entry in table.entries() {
        if let Some(part) = PageSpan::between(at, entry.span.start().min(byte_length)) {
            alloc::push(&mut parts, part)?;
        }
        at = entry.span.end();
    }
    if let Some(part) = PageSpan::between(at, byte_length) {
        alloc::push(&mut parts, part)?;
    }
    Ok(parts)
}

/// Refuses a memory with an adopted buffer: its pages are no region's, and not the memory's own.
pub(super) fn check_adopted(table: &MappingTable<Held>) -> Result<()> {
    let adopted = table.held().find(|(_, held)| held.adopted.is_some());
    adopted.map_or(Ok(()), |(entry, _)| {
        Err(SnapshotError::HasAdopted { start: entry.span.start().get() }.into())
    })
}

/// The part of a VMA that is in a range.
#[derive(Debug, Clone, Copy)]
pub(super) struct VmaPart {
    pub(super) span: PageSpan,
    /// `None` for anonymous pages.
    pub(super) file: Option<VmaFile>,
}

/// The file that a VMA maps.
#[derive(Debug, Clone, Copy)]
pub(super) struct VmaFile {
    pub(super) inode: u64,
    /// Of the span's start.
    pub(super) offset: u64,
}

/// The VMAs of the process in a range of addresses.
pub(super) fn vmas_in(target: PageSpan) -> SysResult<Vec<VmaPart>> {
    let mut parts = Vec::new();
    let mut at = target.start();
    while let Some(left) = PageSpan::between(at, target.end()) {
        let Some(vma) =
            process_map::at_or_after(at.get())?.filter(|vma| vma.start < left.end().get())
        else {
            break;
        };
        let (Some(start), Some(end)) = (PageAligned::new(vma.start), PageAligned::new(vma.end))
        else {
            break;
        };
        if let Some(span) = PageSpan::between(start, end).and_then(|vma| vma.within(left)) {
            let skew = span.start().checked_sub(start).expect("the span is a part of the VMA");
            let offset = vma.file_offset.checked_add(skew.get()).expect("no file has 2^64 bytes");
            let file = (vma.inode != 0).then_some(VmaFile { inode: vma.inode, offset });
            alloc::push(&mut parts, VmaPart { span, file })?;
        }
        at = end;
    }
    Ok(parts)
}

/// The pages of a range of addresses that are the process's own, in order.
pub(super) fn own_pages(target: PageSpan, which: Which) -> SysResult<Vec<PageSpan>> {
    let mut pages = Vec::new();
    let mut kept = Ok(());
    let scanned = pagemap::scan(target, which, u64::MAX, |run| {
        if kept.is_ok() {
            kept = alloc::push(&mut pages, run.span);
        }
    });
    if scanned.is_err() && kept.is_ok() {
        pages.clear();
        pagemap::read(target, |run| match pages.last_mut() {
            Some(last) if last.end() == run.span.start() => {
                *last = PageSpan::between(last.start(), run.span.end())
                    .expect("a run is not empty, and follows the one before");
            }
            _ if kept.is_ok() => kept = alloc::push(&mut pages, run.span),
            _ => {}
        })?;
    }
    kept?;
    Ok(pages)
}
