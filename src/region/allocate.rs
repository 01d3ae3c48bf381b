//! Regions in memory: zeros, and copies of the process's own bytes.

use super::backing::{Backing, RegionFile};
use super::host_region::Region;
use super::thp::{self, PageKind};
use crate::error::{RegionError, Result};
use crate::sys::checked_fd::{CheckedFd, Description};
use crate::sys::page::PageAligned;
use crate::sys::{SysError, SysResult, difference, file, memfd, sum};
use nix::errno::Errno;
use std::sync::Arc;

/// The page arithmetic of a region must not overflow, nor the kernel's signed offsets.
pub(super) const MOST_BYTES: u64 = u64::MAX >> 2;

impl Region {
    /// A memfd of zeros. With huge pages it takes its memory at once.
    pub fn allocate(byte_length: u64, name: &str, kind: PageKind) -> Result<Self> {
        let region = Self::empty(byte_length, name)?;
        let mut maker = region.huge_page_maker(kind == PageKind::Gathered);
        region.prepare(maker.as_mut(), 0, byte_length);
        region.set_huge(maker.as_ref());
        Ok(region)
    }

    /// A memfd of zeros, to be filled.
    pub(super) fn empty(byte_length: u64, name: &str) -> Result<Self> {
        if byte_length == 0 {
            return Err(RegionError::NoBytes.into());
        }
        if byte_length > MOST_BYTES {
            return Err(RegionError::TooLong { byte_length }.into());
        }
        let make = || -> SysResult<RegionFile> {
            let fd = CheckedFd::new(memfd::create(name, byte_length)?, Description::Ours)?;
            let (inode, fd) = (fd.inode(), Arc::new(fd));
            Ok(RegionFile { fd, backing: Backing::Memfd, inode, keeps_size: true })
        };
        let file =
            make().map_err(|sys| RegionError::NotAllocated { byte_length, refused: sys.into() })?;
        Ok(Self::new(file, PageAligned::ZERO, byte_length, name, true))
    }

    /// A memfd with a copy of `byte_length` bytes at this address of the process.
    pub fn copy_from(source: u64, byte_length: u64, name: &str, kind: PageKind) -> Result<Self> {
        let region = Self::empty(byte_length, name)?;
        region.fill(source, kind).map_err(|sys| not_copied(byte_length, sys))?;
        Ok(region)
    }

    fn fill(&self, source: u64, kind: PageKind) -> Result<(), SysError> {
        let byte_length = self.byte_length();
        let mut maker = self.huge_page_maker(kind == PageKind::Gathered);
        let mut at = 0;
        while at < byte_length {
            // Blocks are filled while their zeros are still in the CPU's caches.
            let most = if maker.is_some() { thp::STEP_BYTES } else { u64::MAX };
            let step = difference(byte_length, at).min(most);
            let end = sum(at, step);
            self.prepare(maker.as_mut(), at, end);
            file::write_all_from(self.file.get()?, at, sum(source, at), step)?;
            at = end;
        }
        self.set_huge(maker.as_ref());
        Ok(())
    }
}

/// Why bytes of the process were not copied into a memfd.
pub(super) fn not_copied(byte_length: u64, sys: SysError) -> RegionError {
    match sys.errno {
        // There is nothing to be read at the address.
        Errno::EFAULT => RegionError::SourceNotRead { byte_length, sys },
        _ => RegionError::NotCopied { byte_length, refused: sys.into() },
    }
}
