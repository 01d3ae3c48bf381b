//! Descriptors of regions for Node.js to read from.

use crate::error::{Error, RegionError};
use crate::region::Region;
use crate::sys::checked_fd::CheckedFd;
use napi_derive::napi;
use std::os::fd::AsRawFd;
use std::sync::Arc;

/// Keeps a region's descriptor open for Node.js to read from, though the region be closed. It lets
/// go of it when it is collected, or its thread ends.
#[napi]
pub struct NativeReader {
    name: Arc<str>,
    fd: Option<Arc<CheckedFd>>,
}

impl NativeReader {
    pub(super) fn of(region: &Region) -> Self {
        let (name, fd) = (Arc::clone(region.shared_name()), Arc::clone(region.shared_fd()));
        Self { name, fd: Some(fd) }
    }
}

#[napi]
impl NativeReader {
    /// The number, for one read at an offset. Checked each time: other code may have closed it.
    #[napi(getter, catch_unwind)]
    pub fn fd(&self) -> napi::Result<i32> {
        let fd = self.fd.as_ref().ok_or_else(|| Error::from(RegionError::HandleClosed))?;
        let fd = fd.get().map_err(|sys| {
            let name = self.name.to_string();
            Error::from(RegionError::NotRead { name, refused: sys.into() })
        })?;
        Ok(fd.as_raw_fd())
    }

    #[napi(catch_unwind)]
    pub fn close(&mut self) {
        self.fd = None;
    }
}
