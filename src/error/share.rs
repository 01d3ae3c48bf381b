//! Why a token can't be made or received.

use super::causes::causes;

causes! {
    pub enum ShareError {
        #[error("the token for \"{name}\" was ended by unshare; share it again")]
        Closed { name: String } => ShareClosed,
    }
}
