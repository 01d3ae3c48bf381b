//! What is wrong with a region whose bytes come from a provider.

use super::Refused;
use super::causes::causes;

causes! {
    pub enum PagingError {
        #[error("chunkBytes is {chunk_bytes}; it must be a multiple of the host page size, {page}, and more than 0")]
        ChunkBytes { chunk_bytes: u64, page: u64 } => OutOfRange,

        #[error("chunkBytes is {chunk_bytes} and byteLength {byte_length}, which makes {count} chunks; there may be 2^32, so use larger ones")]
        TooManyChunks { chunk_bytes: u64, byte_length: u64, count: u64 } => OutOfRange,

        #[error("a paged region needs the fault guard, and there is none: {why}")]
        NoGuard { why: &'static str } => MapFailed,

        #[error("can't make a paged region: {refused}")]
        NotMade { refused: Refused } => OutOfMemory unless refused,

        #[error("chunk {chunk} is not there; the region has {count}")]
        NoChunk { chunk: u64, count: u64 } => OutOfRange,

        #[error("the provider gave {length} bytes for chunk {chunk}, which has {expected}")]
        ChunkLength { chunk: u64, length: u64, expected: u64 } => OutOfRange,

        #[error("can't fill chunk {chunk} of region \"{name}\": {refused}")]
        NotFilled { chunk: u64, name: String, refused: Refused } => WriteFailed unless refused,

        #[error("can't take chunk {chunk} out of memory: {refused}")]
        NotEvicted { chunk: u64, refused: Refused } => WriteFailed unless refused,

        #[error("region \"{name}\" has a provider already")]
        Served { name: String } => Internal,

        #[error("region \"{name}\" was received: its provider is in the process that made it")]
        Elsewhere { name: String } => Internal,

        #[error("the region was closed")]
        Closed => RegionClosed,

        #[error("can't {what} region \"{name}\": its bytes come from a provider, a chunk at a time; copy what you need into a region of its own")]
        Refused { what: &'static str, name: String } => RegionPaged,

        #[error("the buffer shows a paged region, whose bytes may not be here; copy them into a buffer of its own first")]
        Shown => RegionPaged,
    }
}
