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

        #[error("can't look for the memory's mappings in the process's own map: {refused}")]
        MappingsUnseen { refused: Refused } => MemoryRefused unless refused,

        #[error(
            "V8 has moved the memory to another place when it grew, and its mappings are lost: their bytes are copies now; map again"
        )]
        Moved => MemoryMoved,

        /// `as_wasm_pages`: how many bytes so many Wasm pages are, if that would be in the memory.
        #[error(
            "at is {at}; it must be a multiple of the host page size, {page}: the next is {next}{}",
            in_bytes(*at, *as_wasm_pages)
        )]
        AtNotAtPage { at: u64, page: u64, next: u64, as_wasm_pages: Option<u64> } => OutOfRange,

        #[error(
            "at is {at} and {length} bytes of whole pages are to be mapped; they must end at or below the memory's byteLength, {byte_length}: grow it first, or leave `at` out"
        )]
        PastEnd { at: u64, length: u64, byte_length: u64 } => OutOfRange,

        #[error(
            "[{start}, {end}) overlaps the mapping at [{other_start}, {other_end}); unmap that first, or map elsewhere"
        )]
        Overlap { start: u64, end: u64, other_start: u64, other_end: u64 } => Overlap,

        #[error(
            "can't map region \"{region}\" with access 'shared': it is sealed, or its file was opened for reading only; use 'readonly' or 'private'"
        )]
        RegionReadonly { region: String } => RegionReadonly,

        #[error("can't map {byte_length} bytes of region \"{region}\": {refused}")]
        NotMapped { byte_length: u64, region: String, refused: Refused } => MapFailed unless refused,

        #[error("can't map region \"{region}\": {refused}")]
        RegionNotMapped { region: String, refused: Refused } => MapFailed unless refused,

        #[error("buffer is the memory's own; pass one whose bytes are elsewhere")]
        AdoptsItself => InvalidValue,

        #[error("can't adopt a buffer of {byte_length} bytes: {refused}")]
        NotAdopted { byte_length: u64, refused: Refused } => MapFailed unless refused,

        #[error("can't move the {byte_length} bytes of an adopted buffer back; they are still in the memory: {refused}")]
        NotReleased { byte_length: u64, refused: Refused } => MapFailed unless refused,

        #[error("can't unmap {byte_length} bytes: {refused}")]
        NotUnmapped { byte_length: u64, refused: Refused } => MapFailed unless refused,

        #[error("can't bring in pages of a mapping: {refused}")]
        NotBroughtIn { refused: Refused } => ReadFailed unless refused,

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

fn in_bytes(at: u64, as_wasm_pages: Option<u64>) -> String {
    as_wasm_pages
        .map_or(String::new(), |bytes| format!(" (it is in bytes: {at} Wasm pages are {bytes})"))
}
