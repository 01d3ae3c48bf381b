//! What is wrong with a snapshot, its file, or the memory that it is restored to.

use super::causes::causes;

causes! {
    pub enum SnapshotError {
        #[error("the snapshot was closed")]
        Closed => SnapshotClosed,
    }
}
