//! Offering a region to other threads and processes. What an offer is: see `share/`.

use super::host_region::Region;
use crate::error::{RegionError, Result};
use crate::paging::{self, Hold};
use crate::share::{self, MakeMore, Receivers, ShareAccess, Shareable, Token};
use crate::sys::memfd::{self, Seals};
use nix::errno::Errno;

/// A receiver's wish: see [`paging::admit`]. Whatever else he says, he has userfaultfd.
pub(super) const WITHOUT_USERFAULTFD: u8 = b'w';

impl Region {
    /// For one receiver. `enforce`: from now on the kernel lets nobody write who can't yet.
    pub fn share(&self, access: ShareAccess, enforce: bool) -> Result<Token> {
        self.offer(Receivers::One, access, enforce)
    }

    /// The same for any number of receivers, until the offer is ended.
    pub fn offer_to_any(&self, access: ShareAccess, enforce: bool) -> Result<Token> {
        self.offer(Receivers::Any, access, enforce)
    }

    fn offer(&self, to: Receivers, access: ShareAccess, enforce: bool) -> Result<Token> {
        if access == ShareAccess::Shared && !self.is_writable() {
            return Err(RegionError::ShareNotWritable { name: self.name().to_owned() }.into());
        }
        if let Some(pager) = self.pager() {
            return self.offer_paged(pager, to, enforce);
        }
        if enforce {
            self.forbid_new_writers()?;
        }
        let (offset, length) = (self.file_offset().get(), self.byte_length());
        let what = (Shareable::Region, to);
        share::offer(self.shared_fd(), what, access, offset, length, self.name())
    }

    /// Those who receive it ask the provider of this process.
    fn offer_paged(&self, pager: &Hold, to: Receivers, enforce: bool) -> Result<Token> {
        if enforce {
            // Its provider has to write.
            self.check_not_paged("enforce access to")?;
        }
        if pager.is_received() {
            self.check_not_paged("share a received")?;
        }
        let pager = pager.clone();
        let more = move |wish: u8| paging::admit(&pager, wish == WITHOUT_USERFAULTFD);
        let what = (Shareable::PagedRegion, to);
        let part = (self.file_offset().get(), self.byte_length());
        let more: Box<MakeMore> = Box::new(more);
        let readonly = ShareAccess::Readonly;
        share::offer_with(self.shared_fd(), what, readonly, part, self.name(), Some(more))
    }

    fn forbid_new_writers(&self) -> Result<(), RegionError> {
        let name = || self.name().to_owned();
        let refused = |sys| RegionError::NotEnforced { name: name(), refused: Into::into(sys) };
        let fd = self.file.get().map_err(refused)?;
        if memfd::seals(fd).is_some_and(Seals::forbid_new_writers) {
            return Ok(());
        }
        memfd::seal_future_write(fd).map_err(|sys| match sys.errno {
            Errno::EPERM | Errno::EINVAL => RegionError::NotEnforceable { name: name() },
            _ => refused(sys),
        })
    }
}
