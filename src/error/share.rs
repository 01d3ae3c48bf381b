//! Why a token can't be made or received.

use super::Refused;
use super::causes::causes;

causes! {
    pub enum ShareError {
        #[error("the token for \"{name}\" was ended by unshare; share it again")]
        Closed { name: String } => ShareClosed,

        #[error("the token for \"{name}\" was received before; a token is for one receiver: share it again")]
        Used { name: String } => ShareUsed,

        #[error("the token for \"{name}\" is not as share() gave it: pass it on as it is, and receive it once")]
        Altered { name: String } => ShareInvalid,

        #[error("nothing is known of the token for \"{name}\": it was made up, or is long over")]
        Unknown { name: String } => ShareInvalid,

        #[error("can't receive \"{name}\": its file ends before what was shared does; open it again, and share that")]
        Shrunk { name: String } => FileShrunk,

        #[error("what the token for \"{name}\" stood for is gone: process {pid} has ended, or closed it; receive tokens while their sharer runs")]
        Gone { name: String, pid: u32 } => ShareClosed,

        #[error("can't receive \"{name}\" from process {pid}: it is of another user, or the system lets nobody look into it; share between processes of one user, or a file with HostRegion.open")]
        Denied { name: String, pid: u32 } => ShareDenied,

        #[error("can't share \"{name}\": {most} tokens and names of this process are open; end tokens that nobody takes with unshare, and close publications")]
        TooMany { name: String, most: usize } => TooManyShares,

        #[error("can't share \"{name}\": other processes would reach its provider by a socket, and this process can't have one")]
        NoSocket { name: String } => ShareDenied,

        #[error("can't receive \"{name}\" from process {pid}: it can't be reached by its socket, or has no descriptors left; both processes must be in one network namespace")]
        Unreachable { name: String, pid: u32 } => ShareDenied,

        #[error("can't share or receive \"{name}\": {refused}")]
        Refused { name: String, refused: Refused } => OpenFailed unless refused,

        #[error("the token's {what} is not as share() gave it; pass it on as it is")]
        PartAltered { what: &'static str } => ShareInvalid,
    }
}
