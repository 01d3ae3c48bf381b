//! What is wrong with a memory, a mapping or a place in it.

use super::Refused;
use super::causes::causes;

causes! {
    pub enum MemoryError {
        /// `what` says what V8 could not do: lib/ knows the memory's size.
        #[error("{what}: {refused}")]
        V8Refused { what: String, refused: Refused } => MemoryRefused unless refused,

        #[error("{what}; the cause can't be looked for: {refused}")]
        V8RefusedUnseen { what: String, refused: Refused } => MemoryRefused unless refused,
    }
}
