//! Loading: a memfd with a copy of a file's bytes, made inside the kernel. Blocks the thread, and
//! can be cancelled from another one.

use super::host_region::Region;
use super::path::{Part, file_name, open_regular};
use super::thp::{self, HugePageMaker, PageKind};
use crate::error::{Attempt, FileError, Result, check_cancelled};
use crate::sys::file::CopyWay;
use crate::sys::page::HUGE_PAGE_BYTES;
use crate::sys::{SysResult, difference, file, sum};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// How far a load is, and whether it is still wanted. Shared with the thread that waits for it.
#[derive(Debug, Default)]
pub struct LoadProgress {
    pub loaded_bytes: AtomicU64,
    pub total_bytes: AtomicU64,
    pub cancelled: AtomicBool,
}

/// Bytes copied between two looks at `cancelled`: a few milliseconds' worth.
const STEP_BYTES: u64 = thp::STEP_BYTES;

/// A memfd with a copy of a file's bytes. The file's holes stay holes.
pub fn load(
    path: &Path,
    part: Part,
    name: Option<&str>,
    kind: PageKind,
    progress: &LoadProgress,
) -> Result<Region> {
    let attempt = Attempt::load(path);
    let not_read = |sys| FileError::NotRead { attempt: attempt.clone(), refused: Into::into(sys) };
    let check_cancelled = || check_cancelled(&progress.cancelled);
    check_cancelled()?;
    let fd = open_regular(path, false)?;
    let status = file::status(&fd).map_err(|sys| {
        let (attempt, refused) = (attempt.clone(), sys.into());
        FileError::NotOpened { attempt, refused, hint: None }
    })?;
    let byte_length = part.length_in(status.byte_length, &attempt)?;
    let name = name.map_or_else(|| file_name(path), str::to_owned);
    let mut copy = Copy::new(byte_length, &name, kind)?;
    progress.total_bytes.store(byte_length, Ordering::Release);

    let shrunk = |at, end| FileError::ShrunkMeanwhile { attempt: attempt.clone(), at, end };
    let end = sum(part.byte_offset, byte_length);
    let in_region = |at| difference(at, part.byte_offset);
    let mut at = part.byte_offset;
    while let Some((start, stop)) = file::next_data(&fd, at, end).map_err(not_read)? {
        at = start;
        while at < stop {
            check_cancelled()?;
            let step = difference(stop, at).min(STEP_BYTES);
            copy.prepare(in_region(at), step, in_region(stop));
            let copied = copy.copy(fd.as_fd(), at, in_region(at), step).map_err(not_read)?;
            if copied == 0 {
                return Err(shrunk(at, end).into());
            }
            at = sum(at, copied);
            progress.loaded_bytes.store(in_region(at), Ordering::Release);
        }
    }
    check_cancelled()?;
    let now = file::status(&fd).map_err(not_read)?.byte_length;
    if now < end {
        return Err(shrunk(now, end).into());
    }
    progress.loaded_bytes.store(byte_length, Ordering::Release);
    Ok(copy.finish())
}

/// A region that is being filled from a file.
struct Copy {
    region: Region,
    maker: Option<HugePageMaker>,
    /// See [`file::copy`].
    way: CopyWay,
}

impl Copy {
    fn new(byte_length: u64, name: &str, kind: PageKind) -> Result<Self> {
        let region = Region::empty(byte_length, name)?;
        let maker = region.huge_page_maker(kind == PageKind::Gathered);
        Ok(Self { region, maker, way: CopyWay::default() })
    }

    /// Before `length` bytes are copied to an offset; data goes on until `stop`.
    fn prepare(&mut self, to: u64, length: u64, stop: u64) {
        // Blocks that begin in this step and hold nothing but data.
        let end = sum(to, length).next_multiple_of(HUGE_PAGE_BYTES);
        self.region.prepare(self.maker.as_mut(), to, end.min(stop));
    }

    fn copy(
        &mut self,
        from: BorrowedFd<'_>,
        from_offset: u64,
        to: u64,
        length: u64,
    ) -> SysResult<u64> {
        file::copy(from, from_offset, self.region.file.get()?, to, length, &mut self.way)
    }

    fn finish(self) -> Region {
        self.region.set_huge(self.maker.as_ref());
        self.region
    }
}
