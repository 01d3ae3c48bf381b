//! What a pager is made of.

/// Chunks of a region at most: their words take 4 bytes each of address space.
pub(super) const MOST_CHUNKS: u64 = 1 << 32;

#[derive(Debug, Clone, Copy)]
pub struct Spec {
    pub byte_length: u64,
    /// A multiple of the host page.
    pub chunk_bytes: u64,
    /// How long a touch waits at most.
    pub timeout_milliseconds: u32,
    /// `None`: userfaultfd where it can be had.
    pub by_userfault: Option<bool>,
}
