//! Where in a memory a mapping or window may be, and what may be mapped there. Questions only.

use super::state::Held;
use super::table::MappingTable;
use crate::access::Access;
use crate::error::{Error, MemoryError, Result};
use crate::region::RegionPages;
use crate::sys::owned_span::OwnedSpan;
use crate::sys::page::{PageAligned, PageSpan, WASM_PAGE_BYTES, host_page_bytes};
use crate::v8::live_memory::LiveMemory;

/// So many bytes at an offset of the memory. Refuses what is not inside.
pub(crate) fn span_at(live: LiveMemory<'_>, at: u64, length: PageAligned) -> Result<PageSpan> {
    let byte_length = live.byte_length();
    let Some(start) = PageAligned::new(at) else {
        let page = host_page_bytes();
        let next = PageAligned::round_up(at).map_or(0, PageAligned::get);
        // The caller thought of Wasm pages, perhaps.
        let as_wasm_pages =
            at.checked_mul(WASM_PAGE_BYTES).filter(|bytes| *bytes < byte_length.get());
        return Err(MemoryError::AtNotAtPage { at, page, next, as_wasm_pages }.into());
    };
    PageSpan::new(start, length).filter(|span| span.end() <= byte_length).ok_or_else(|| {
        let (length, byte_length) = (length.get(), byte_length.get());
        MemoryError::PastEnd { at, length, byte_length }.into()
    })
}

/// The pages of a span that a table has, or that [`span_at`] has checked.
pub(crate) fn pages_of(live: LiveMemory<'_>, span: PageSpan) -> Result<OwnedSpan<'_>> {
    live.pages(span).ok_or(Error::Defect("the memory is smaller than a mapping in it"))
}

pub(crate) fn check_overlap(table: &MappingTable<Held>, span: PageSpan) -> Result<()> {
    let Some(other) = table.overlapping(span) else { return Ok(()) };
    let (start, end) = (span.start().get(), span.end().get());
    let (other_start, other_end) = (other.span.start().get(), other.span.end().get());
    Err(MemoryError::Overlap { start, end, other_start, other_end }.into())
}

pub(crate) fn check_mappable(pages: &RegionPages<'_>, access: Access) -> Result<()> {
    if access.writes_through() && !pages.region().is_writable() {
        let region = pages.region().name().to_owned();
        return Err(MemoryError::RegionReadonly { region }.into());
    }
    pages.check_file_size()
}
