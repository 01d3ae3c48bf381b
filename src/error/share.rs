//! Why a token can't be made or received.

use super::causes::causes;

causes! {
    pub enum ShareError {
        #[error("the token for \"{name}\" was ended by unshare; share it again")]
        Closed { name: String } => ShareClosed,

        #[error("the token's {what} is not as share() gave it; pass it on as it is")]
        PartAltered { what: &'static str } => ShareInvalid,
    }
}
