//! What the pages of a memory that are no mapping's show, where a restore put them there.
//!
//! Data only: snapshot/ fills it in and asks it. It is here since it lives and ends with what is
//! known of a memory.

use super::leased::LeasedFile;
use crate::sys::page::{PageAligned, PageSpan};
use crate::sys::vma_budget::VmaClaim;
use std::sync::Arc;

/// Where a snapshot's image is not all zeros. A later snapshot of a memory that shows it asks here,
/// since reading its holes would fill them.
#[derive(Debug)]
pub(crate) struct Content {
    /// Of the snapshot's memfd or file.
    pub(crate) inode: u64,
    /// The file, of an opened snapshot.
    pub(crate) file: Option<Arc<LeasedFile>>,
    /// Where in the memfd the image begins.
    pub(crate) data_offset: PageAligned,
    /// Offsets in the memory, in order.
    pub(crate) data: Vec<PageSpan>,
}

impl Content {
    /// How many bytes are not zeros, in whole pages.
    pub(crate) fn data_bytes(&self) -> u64 {
        self.data.iter().map(|span| span.length().get()).sum()
    }

    /// Whether a VMA of this inode shows it.
    pub(crate) fn is_of(&self, inode: u64) -> bool {
        inode == self.inode || self.file.as_ref().is_some_and(|file| file.is(inode))
    }
}

/// What a memory's own pages show, but for those that were written since.
#[derive(Debug)]
pub(crate) struct ShownImage {
    /// Which snapshot's image; 0: zeros.
    pub(crate) id: u64,
    /// The version of the mapping table when `own` was right.
    pub(crate) table_version: u64,
    pub(crate) byte_length: PageAligned,
    /// What is no mapping, as addresses.
    pub(crate) own: Vec<OwnPart>,
    /// Restores since all pages were last dropped or looked at, and after how many that is done.
    pub(crate) restores: u32,
    pub(crate) patience: u32,
    pub(crate) _vmas: VmaClaim,
}

/// A part of a memory's own pages.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OwnPart {
    pub(crate) span: PageSpan,
    /// Whether it is a piece of an image. If not, it shows zeros.
    pub(crate) is_piece: bool,
}
