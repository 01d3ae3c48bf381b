//! Regions whose bytes come from a provider, a chunk at a time: see `paging`.
//!
//! Nobody but the pager gets a descriptor of the memfd that could write to it, or read what is not
//! there.

use super::host_region::Region;
use super::offer::WITHOUT_USERFAULTFD;
use crate::error::{PagingError, Result, ShareError};
use crate::fault;
use crate::paging::{Hold, Sent, Spec};
use crate::share::{self, Token};
use crate::sys::userfault;
use std::os::fd::OwnedFd;

impl Region {
    /// A region of holes, and the end of a socket on which the numbers of the chunks arrive that
    /// somebody touches. Views and mappings of it are readonly or private.
    pub fn paged(name: &str, spec: Spec) -> Result<(Self, OwnedFd)> {
        fault::ensure().map_err(|why| PagingError::NoGuard { why })?;
        let mut region = Self::empty(spec.byte_length, name)?;
        region.forbid_writing_here();
        let (pager, requests) = Hold::new(spec, region.shared_name(), region.shared_fd())?;
        region.pager = Some(pager);
        Ok((region, requests))
    }

    /// A region that its owner pages in. `by_userfault`: `None` takes userfaultfd where it can be
    /// had.
    pub fn receive_paged(token: &Token, by_userfault: Option<bool>) -> Result<Self> {
        fault::ensure().map_err(|why| PagingError::NoGuard { why })?;
        // Once the owner was told, it is not asked for again.
        let has_userfault = match by_userfault {
            Some(false) => false,
            asked => match userfault::prepare() {
                Ok(()) => true,
                Err(sys) if asked.is_some() => {
                    return Err(PagingError::NotMade { refused: sys.into() }.into());
                }
                Err(_) => false,
            },
        };
        let wish = if has_userfault { 0 } else { WITHOUT_USERFAULTFD };
        let sent = <[OwnedFd; 4]>::try_from(share::receive_with(token, wish)?);
        let [fd, words, touches, calls] =
            sent.map_err(|_| ShareError::Unknown { name: token.terms.name.clone() })?;
        let mut region = Self::received(fd, &token.terms)?;
        region.forbid_writing_here();
        let sent = Sent { words, touches, calls };
        let (name, fd) = (region.shared_name(), region.shared_fd());
        let pager = Hold::received(name, fd, region.byte_length(), sent, has_userfault)?;
        region.pager = Some(pager);
        Ok(region)
    }
}
