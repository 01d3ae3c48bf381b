//! The bytes of an image on their way: from a descriptor, a step at a time, to a checksum, a file
//! or a code. Holes stay holes. `store.rs` says what is copied where.

use super::format::{self, Checksum, Header};
use crate::error::{Error, Flaw, Result, check_cancelled};
use crate::sys::page::{PageAligned, PageSpan, host_page_bytes};
use crate::sys::{SysError, SysResult, alloc, file, to_usize};
use std::os::fd::BorrowedFd;
use std::sync::atomic::AtomicBool;

/// How much is read, summed and written at once.
pub(super) const STEP_BYTES: u64 = 1 << 20;

/// Goes through the data of an image, a step at a time.
pub(super) struct Steps<'a> {
    fd: BorrowedFd<'a>,
    header: &'a Header,
    extents: std::slice::Iter<'a, PageSpan>,
    current: Option<PageSpan>,
    at: PageAligned,
}

impl<'a> Steps<'a> {
    /// `extents` in order. Begins at `at`, an offset in the memory.
    pub(super) fn new(
        fd: BorrowedFd<'a>,
        header: &'a Header,
        extents: &'a [PageSpan],
        at: PageAligned,
    ) -> Self {
        Self { fd, header, extents: extents.iter(), current: None, at }
    }

    /// The next step, as offsets in the memory.
    pub(super) fn next(&mut self) -> SysResult<Option<PageSpan>> {
        loop {
            let left = self
                .current
                .and_then(|span| PageSpan::between(self.at.max(span.start()), span.end()));
            let Some(left) = left else {
                self.current = self.extents.next().copied();
                if self.current.is_none() {
                    return Ok(None);
                }
                continue;
            };
            // Holes are not read: a large one takes long.
            let (from, to) =
                (self.header.offset_of(left.start()), self.header.offset_of(left.end()));
            let data = file::first_data(self.fd, from, to)?;
            let start = data
                .and_then(|data| data.checked_sub(self.header.data_offset.get()))
                .map(PageAligned::round_down);
            let Some(data) =
                start.and_then(|start| PageSpan::between(start.max(left.start()), left.end()))
            else {
                self.at = left.end();
                continue;
            };
            let step = data.first(STEP_BYTES);
            self.at = step.end();
            return Ok(Some(step));
        }
    }
}

/// Copies an image to the same offsets of another file, without its zeros, or reads it only.
pub(super) struct ImageCopy<'a> {
    pub(super) from: BorrowedFd<'a>,
    pub(super) to: Option<BorrowedFd<'a>>,
    pub(super) header: &'a Header,
    pub(super) extents: &'a [PageSpan],
}

impl ImageCopy<'_> {
    /// Adds what it copies to the checksum.
    pub(super) fn run(
        &self,
        checksum: &mut Checksum,
        cancelled: &AtomicBool,
        read_failed: &dyn Fn(SysError) -> Error,
        write_failed: &dyn Fn(SysError) -> Error,
    ) -> Result<()> {
        let mut buffer = alloc::zeroed(to_usize(STEP_BYTES))?;
        let mut steps = Steps::new(self.from, self.header, self.extents, PageAligned::ZERO);
        while let Some(step) = steps.next().map_err(read_failed)? {
            check_cancelled(cancelled)?;
            let offset = self.header.offset_of(step.start());
            let bytes = buffer.get_mut(..to_usize(step.length().get())).expect("a step fits in it");
            if file::read_up_to(self.from, offset, bytes).map_err(read_failed)? < bytes.len() {
                return Err(Flaw::CutOffMeanwhile.into());
            }
            for (number, page) in format::pages_of(step.start(), bytes) {
                checksum.write(&number);
                checksum.write(page);
            }
            if let Some(to) = self.to {
                write_data(to, offset, bytes).map_err(write_failed)?;
            }
        }
        check_cancelled(cancelled)
    }
}

/// Writes the pages that are not all zeros.
fn write_data(to: BorrowedFd<'_>, offset: u64, bytes: &[u8]) -> SysResult<()> {
    let page_bytes = host_page_bytes();
    let offsets = (offset..).step_by(to_usize(page_bytes));
    for (page, at) in bytes.chunks(to_usize(page_bytes)).zip(offsets) {
        if page.iter().any(|byte| *byte != 0) {
            file::write_all(to, at, page)?;
        }
    }
    Ok(())
}
