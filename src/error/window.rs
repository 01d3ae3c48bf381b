//! What is wrong with a window, or with what it is to show.

use super::causes::causes;

causes! {
    pub enum WindowError {
        #[error("the window has faulted")]
        Faulted => Faulted,
    }
}
