//! What is wrong with a window, or with what it is to show.

use super::Refused;
use super::causes::causes;

causes! {
    pub enum WindowError {
        #[error("the window has faulted")]
        Faulted => Faulted,

        #[error("access allows more than the window was opened with; open the window with it")]
        AccessTooWide => InvalidValue,

        #[error(
            "can't slide to region \"{region}\" with access 'shared': it is sealed, or its file was opened for reading only; use 'readonly' or 'private'"
        )]
        RegionReadonly { region: String } => RegionReadonly,

        #[error("can't open a window: {refused}")]
        NoRoom { refused: Refused } => MapFailed unless refused,

        #[error("can't open a window of {byte_length} bytes: {refused}")]
        NotOpened { byte_length: u64, refused: Refused } => MapFailed unless refused,

        #[error("can't slide a window to region \"{region}\": {refused}")]
        NotSlid { region: String, refused: Refused } => MapFailed unless refused,

        #[error("can't empty a window: {refused}")]
        NotEmptied { refused: Refused } => MapFailed unless refused,
    }
}
