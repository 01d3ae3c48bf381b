//! What is wrong with a region, a view of it, or the file behind it.

use super::causes::causes;

causes! {
    pub enum RegionError {
        #[error("region \"{name}\" was closed")]
        Closed { name: String } => RegionClosed,
    }
}
