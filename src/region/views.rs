//! The views of a region: making them, and sealing the region under them.

use super::host_region::Region;
use super::view::{AtClose, View, unwritable};
use super::view_list;
use crate::access::Access;
use crate::error::{RegionError, Result};
use crate::sys::memfd::{self, Seals};
use crate::sys::mmap::Sharing;
use crate::sys::page::PageAligned;
use crate::sys::{SysError, SysResult, alloc, difference, process_map, sum};
use nix::errno::Errno;
use std::sync::{Arc, Weak};

impl Region {
    /// A range of the region for JavaScript, at any byte offset: what is written goes to the region
    /// if it is writable. Closing the region releases it.
    pub fn view(&self, byte_offset: u64, byte_length: u64) -> Result<Arc<View>> {
        self.show(byte_offset, byte_length, None, AtClose::Release)
    }

    /// A range of the region that its holder keeps when the region is closed.
    pub fn kept_view(
        &self,
        byte_offset: u64,
        byte_length: u64,
        access: Access,
    ) -> Result<Arc<View>> {
        self.show(byte_offset, byte_length, Some(access), AtClose::Keep)
    }

    /// Whether a view may have it.
    pub fn check_access(&self, access: Access) -> Result<()> {
        if access.writes_through() && !self.is_writable() {
            return Err(RegionError::NotViewedWritable { name: self.name().to_owned() }.into());
        }
        Ok(())
    }

    /// Without an access: the most that the region allows and that changes no page in secret.
    fn show(
        &self,
        byte_offset: u64,
        byte_length: u64,
        access: Option<Access>,
        at_close: AtClose,
    ) -> Result<Arc<View>> {
        let region_bytes = self.byte_length();
        // The offset is the caller's: past the region's end there is nothing to view.
        let most = region_bytes.saturating_sub(byte_offset);
        if byte_length == 0 || byte_length > most {
            return Err(RegionError::ViewRange { byte_offset, byte_length, region_bytes }.into());
        }
        let start = PageAligned::round_down(byte_offset);
        let skew = difference(byte_offset, start.get());
        let pages = self.pages(start, sum(skew, byte_length))?;
        pages.check_file_size()?;
        // A seal that is being set must see this view, so the list is locked before the kernel is
        // asked for seals.
        let mut views = self.views.lock();
        let access = match access {
            Some(access) => access,
            None if self.is_writable() => Access::Shared,
            None => Access::Readonly,
        };
        self.check_access(access)?;
        view_list::reserve_one(&mut views)?;
        let (shown, counts) = (pages.shown(), self.views.counts());
        let how = (access, at_close);
        let view = View::new(pages.file_pages(), shown, counts, skew, byte_length, how)?;
        let view = Arc::new(view);
        views.push(Arc::downgrade(&view));
        Ok(view)
    }

    /// Forbids writing, for everybody and for good. Views become read-only first: the kernel
    /// refuses the seal while a writable shared mapping exists.
    pub fn seal(&self) -> Result<()> {
        self.check_not_paged("seal")?;
        if self.is_sealed() {
            return Ok(());
        }
        let views = self.views.lock();
        let views = views.iter().filter_map(Weak::upgrade);
        // Views that were read-only from the start stay so, whatever happens.
        let shared = alloc::collected(views.filter(|view| view.is_shared()))?;
        // Under this seal, views that were made read-only can't be turned back. So look first for
        // what would make the next one fail.
        let is_one_way = self.file.seals().is_some_and(Seals::spare_old_writers);
        if is_one_way && !shared.is_empty() {
            let is_shared = self.is_shared_beside(&shared).map_err(|sys| self.not_sealed(sys))?;
            if is_shared {
                return Err(RegionError::MappedWritable { name: self.name().to_owned() }.into());
            }
        }
        let sealed = self
            .turn_views(&shared, unwritable())
            .and_then(|()| memfd::seal_write(self.file.get()?));
        let Err(sys) = sealed else { return Ok(()) };
        // As it was before the call. A view that can't be turned back stays read-only: the process
        // lives.
        let _ = self.turn_views(&shared, Sharing::Shared);
        Err(self.not_sealed(sys).into())
    }

    fn not_sealed(&self, sys: SysError) -> RegionError {
        let name = self.name().to_owned();
        match sys.errno {
            Errno::EBUSY => RegionError::MappedWritable { name },
            Errno::EPERM | Errno::EINVAL if self.is_memory() => {
                RegionError::MemfdNotSealable { name }
            }
            Errno::EPERM | Errno::EINVAL => RegionError::FileNotSealable { name },
            _ => RegionError::NotSealed { name, refused: sys.into() },
        }
    }

    /// Whether this process has shared mappings of its file other than these views.
    fn is_shared_beside(&self, views: &[Arc<View>]) -> SysResult<bool> {
        let mut found = false;
        process_map::for_each(|vma| {
            if vma.shared && vma.inode == self.inode() {
                // Views side by side may be one VMA.
                let end_of_view_at = |at: u64| {
                    let mut spans = views.iter().map(|view| view.span());
                    spans
                        .find(|span| span.start().get() <= at && at < span.end().get())
                        .map(|span| span.end().get())
                };
                let mut at = vma.start;
                while at < vma.end
                    && let Some(end) = end_of_view_at(at)
                {
                    at = end;
                }
                found |= at < vma.end;
            }
        })?;
        Ok(found)
    }

    fn turn_views(&self, views: &[Arc<View>], sharing: Sharing) -> SysResult<()> {
        let is_shared = sharing == Sharing::Shared;
        for view in views.iter().filter(|view| view.is_shared() != is_shared) {
            view.turn(self.file.as_pages(view.file_offset(), sharing)?, is_shared)?;
        }
        Ok(())
    }
}
