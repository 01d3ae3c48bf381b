//! Regions whose bytes come from a provider, a chunk at a time: see `paging`.
//!
//! Nobody but the pager gets a descriptor of the memfd that could write to it, or read what is not
//! there.

use super::host_region::Region;
use crate::error::{PagingError, Result};
use crate::fault;
use crate::paging::{Hold, Spec};
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
}
