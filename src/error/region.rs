//! What is wrong with a region, a view of it, or the file behind it.

use super::Refused;
use super::causes::causes;
use crate::sys::SysError;

causes! {
    pub enum RegionError {
        #[error("region \"{name}\" was closed")]
        Closed { name: String } => RegionClosed,

        /// JavaScript's handle is closed; nobody knows the name any more.
        #[error("the region was closed")]
        HandleClosed => RegionClosed,

        #[error("this runtime does not allow ArrayBuffers over external memory (Electron does not); map the region into a memory instead")]
        NoExternalBuffers => NoExternalBuffers,

        #[error("a view of {byte_length} bytes is more than this runtime's ArrayBuffers hold; take a smaller part")]
        ViewTooLong { byte_length: u64 } => OutOfRange,

        #[error("can't map a word of region \"{name}\": {refused}")]
        WordNotMapped { name: String, refused: Refused } => MapFailed unless refused,

        #[error("can't wait for, or notify, a word of region \"{name}\": {refused}")]
        WordRefused { name: String, refused: Refused } => MapFailed unless refused,

        #[error("can't wait for, or notify, a word of region \"{name}\": {sys}")]
        WordGone { name: String, sys: SysError } => FileShrunk from sys,
    }
}
