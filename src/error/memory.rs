//! What is wrong with a memory, a mapping or a place in it.

use super::Refused;
use super::causes::causes;

causes! {
    pub enum MemoryError {
        #[error("can't make a memory: {refused}")]
        NotMade { refused: Refused } => MemoryRefused unless refused,

        #[error("can't read the process's own map, /proc/self/maps: {refused}")]
        MapUnread { refused: Refused } => MemoryRefused unless refused,

        #[error("can't read the limits of the process: {refused}")]
        LimitsUnread { refused: Refused } => MapFailed unless refused,

        #[error("byteOffset is {byte_offset}; it must be a multiple of the host page size, {page}: map from {below} and add {skew} to the pointer")]
        OffsetNotAtPage { byte_offset: u64, page: u64, below: u64, skew: u64 } => OutOfRange,
        #[error(
            "the buffer is not that of a WebAssembly memory: it does not start at a page or is not made of Wasm pages"
        )]
        NotWasmMemory => NotWasmMemory,

        /// `what` says what V8 could not do: lib/ knows the memory's size.
        #[error("{what}: {refused}")]
        V8Refused { what: String, refused: Refused } => MemoryRefused unless refused,

        #[error("{what}; the cause can't be looked for: {refused}")]
        V8RefusedUnseen { what: String, refused: Refused } => MemoryRefused unless refused,
    }
}
