//! Whole pages of a region: what mappings, windows and views are made of.

use super::backing::FilePages;
use super::host_region::Region;
use crate::error::{RegionError, Result};
use crate::fault::Shown;
use crate::sys::mmap::{self, Pages, Sharing};
use crate::sys::owned_span::OwnedSpan;
use crate::sys::page::PageAligned;
use crate::sys::{SysError, SysResult, file, sum};
use nix::errno::Errno;

#[derive(Debug, Clone, Copy)]
pub struct RegionPages<'region> {
    region: &'region Region,
    region_offset: PageAligned,
    pages: FilePages<'region>,
    /// As asked for: the last page may have more.
    byte_length: u64,
}

impl Region {
    /// The pages that hold `[byte_offset, byte_offset + byte_length)`, which must be in the region.
    pub fn pages(&self, byte_offset: PageAligned, byte_length: u64) -> Result<RegionPages<'_>> {
        let (at, region_bytes) = (byte_offset.get(), self.byte_length());
        let most = region_bytes.checked_sub(at).filter(|most| *most > 0);
        let past_end = RegionError::PagesPastEnd { byte_offset: at, region_bytes };
        let most = most.ok_or(past_end)?;
        if byte_length == 0 || byte_length > most {
            return Err(RegionError::PagesLength { byte_length, most, byte_offset: at }.into());
        }
        let length = PageAligned::round_up(byte_length).expect("a region ends below 2^63");
        let offset = self.file_offset().checked_add(byte_offset).expect("a region ends below 2^63");
        let pages = FilePages { file: &self.file, offset, length };
        Ok(RegionPages { region: self, region_offset: byte_offset, pages, byte_length })
    }
}

impl<'region> RegionPages<'region> {
    pub fn region(&self) -> &'region Region {
        self.region
    }

    pub fn length(&self) -> PageAligned {
        self.pages.length
    }

    pub fn file_offset(&self) -> PageAligned {
        self.pages.offset
    }

    pub fn region_offset(&self) -> PageAligned {
        self.region_offset
    }

    pub fn inode(&self) -> u64 {
        self.pages.file.inode
    }

    pub(super) fn file_pages(&self) -> FilePages<'region> {
        self.pages
    }

    /// Whether one call puts them in place of others.
    pub fn is_one_step(&self, sharing: Sharing) -> bool {
        mmap::is_one_step(self.region.is_memory(), sharing)
    }

    /// What the fault guard has to know of them.
    pub fn shown(&self) -> Shown<'region> {
        Shown {
            inode: self.inode(),
            file_offset: self.file_offset(),
            region_offset: self.region_offset,
            length: self.length(),
            region_name: self.region.shared_name(),
            pager: self.region.pager(),
        }
    }

    /// EBADF where the descriptor is no longer what the region was made of. EOPNOTSUPP: a provider
    /// brings its pages in, and what is not there would be zeros.
    pub fn as_pages(&self, sharing: Sharing) -> SysResult<Pages<'region>> {
        match self.region.pager() {
            None => self.pages.as_pages(sharing),
            Some(_) => Err(SysError::new("mmap", Errno::EOPNOTSUPP)),
        }
    }

    /// Puts them in place of others. Handlers are kept off those meanwhile.
    pub fn put(&self, target: OwnedSpan<'_>, sharing: Sharing) -> SysResult<()> {
        match self.region.pager() {
            None => mmap::replace(target, self.as_pages(sharing)?),
            Some(pager) => pager.put(target, self.file_offset(), sharing),
        }
    }

    /// Whether they can be mapped: EBADF as for [`Self::as_pages`].
    pub fn check_descriptor(&self) -> SysResult<()> {
        match self.region.pager() {
            None => self.pages.file.get().map(drop),
            Some(pager) => pager.check(),
        }
    }

    /// Whether pages may be brought in before somebody touches them. Those that a provider brings
    /// in come when they are touched, or asked for.
    pub fn can_be_populated(&self) -> bool {
        self.region.pager().is_none()
    }

    /// A file may have shrunk since the region was made, unless a seal forbids it. The kernel maps
    /// pages past its end without complaint, and they fault when they are touched.
    pub fn check_file_size(&self) -> Result<()> {
        self.check_file_size_to("map")
    }

    /// The same for something else that is to be done, in words.
    pub(super) fn check_file_size_to(&self, what: &'static str) -> Result<()> {
        let name = || self.region.name().to_owned();
        if self.pages.file.keeps_size {
            return Ok(());
        }
        let refused =
            |sys| RegionError::NotExamined { what, name: name(), refused: Into::into(sys) };
        let fd = self.pages.file.get().map_err(refused)?;
        let file_bytes = file::status(fd).map_err(refused)?.byte_length;
        let end = sum(self.file_offset().get(), self.byte_length);
        if file_bytes < end {
            let path = file::path_of(fd).unwrap_or_default();
            return Err(
                RegionError::FileShrunk { what, name: name(), path, file_bytes, end }.into()
            );
        }
        Ok(())
    }
}
