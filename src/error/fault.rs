//! What keeps the fault guard from being installed.

use super::Refused;
use super::causes::causes;

causes! {
    pub enum FaultError {
        #[error("can't install the fault guard: {refused}")]
        Install { refused: Refused } => MapFailed unless refused,
    }
}
