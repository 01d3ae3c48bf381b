//! Handing regions and snapshots to other threads and processes.
//!
//! ```text
//!  sharer                                          receiver
//!  offer { proof, file }  ---- token: pid, nonce, number of the proof, ... ---->
//!
//!  same process           the table of offers, by nonce
//!  other process          /proc/PID/fd: the proof, then the file
//!                         or a Unix socket: the sharer sends both (SCM_RIGHTS)
//! ```
//!
//! A token is data, and gives nothing by itself. It refers to an *offer*, which keeps a descriptor
//! of its own open until it is claimed or ended. Numbers of descriptors are reused, so a number
//! proves nothing. The *proof* does: a sealed memfd whose contents are the
//! nonce of the token and all that the receiver must find (device, inode, size, access, the number
//! of the file's descriptor). An offer closes its proof first. So a proof that is still there after
//! the file was opened by its number says that the number was the offer's.
//!
//! An offer is claimed once, by adding F_SEAL_SEAL to the proof: the kernel lets nobody add a seal
//! after that, in any process. A *standing* offer is for any number of receivers: nobody claims it,
//! and the same seal says that it was ended.
//!
//! What has *more* than a file, which only its process can make, is received by the socket alone.
//!
//! Bottom up: `token` and `answer` are data; `proof` makes and checks proofs; `table` has this
//! process's offers; `server` answers receivers; `offer` and `receive` are for others. Nothing here
//! knows what a region or a snapshot is.

mod answer;
mod offer;
mod proof;
mod receive;
mod server;
mod table;
mod token;

pub use offer::{MOST_OFFERS, end, offer, offer_with, waiting};
pub use receive::{Make, receive, receive_with};
pub use table::MakeMore;
pub use token::{Nonce, Receivers, ShareAccess, Shareable, Terms, Token};

#[cfg(test)]
mod tests {
    use super::proof::claim;
    use super::receive::receive_by_proc;
    use super::*;
    use crate::error::{Code, Error};
    use crate::sys::checked_fd::{CheckedFd, Description};
    use crate::sys::{file, memfd};
    use std::os::fd::OwnedFd;

    fn offered_to(receivers: Receivers) -> Token {
        let fd = CheckedFd::new(memfd::create("shared", 100).unwrap(), Description::Ours).unwrap();
        let what = (Shareable::Region, receivers);
        offer(&fd, what, ShareAccess::Shared, 0, 100, "shared").unwrap()
    }

    fn offered() -> Token {
        offered_to(Receivers::One)
    }

    #[test]
    fn what_was_ended_can_not_be_claimed_by_one_who_has_opened_it_before() {
        let token = offered();
        let proof = file::open_proc(&format!("/proc/self/fd/{}", token.proof), true).unwrap();
        assert!(end(token.terms.nonce));
        assert_eq!(claim(&proof), Ok(false));
        assert!(!end(token.terms.nonce));
    }

    #[test]
    fn what_was_claimed_by_its_proof_is_not_ended() {
        let token = offered();
        let proof = file::open_proc(&format!("/proc/self/fd/{}", token.proof), true).unwrap();
        assert_eq!(claim(&proof), Ok(true));
        assert!(!end(token.terms.nonce));
    }

    #[test]
    fn a_standing_offer_has_any_number_of_receivers_until_it_is_ended() {
        let token = offered_to(Receivers::Any);
        let waiting_before = waiting();
        for _ in 0..3 {
            let here = receive(&token, &Ok).unwrap();
            let there = receive_by_proc(&token, &Ok).unwrap().unwrap();
            let inode = |fd: &OwnedFd| file::status(fd).unwrap().inode;
            assert_eq!([inode(&here), inode(&there)], [token.terms.inode; 2]);
        }
        assert_eq!(waiting(), waiting_before, "it does not wait for a receiver");
        let of_one = Terms { receivers: Receivers::One, ..token.terms.clone() };
        let altered = receive(&Token { terms: of_one, ..token.clone() }, &Ok);
        assert_eq!(altered.unwrap_err().code(), Code::ShareInvalid);
        // One who has the proof by then sees that it was ended.
        let proof = file::open_proc(&format!("/proc/self/fd/{}", token.proof), true).unwrap();
        assert!(end(token.terms.nonce));
        assert_eq!(claim(&proof), Ok(false));
        assert!(!end(token.terms.nonce));
        assert_eq!(receive(&token, &Ok).unwrap_err().code(), Code::ShareClosed);
        assert_eq!(receive_by_proc(&token, &Ok).unwrap_err().code(), Code::ShareClosed);
    }

    #[test]
    fn a_token_of_which_nothing_could_be_made_is_as_good_as_before() {
        let fails = |_| Err::<OwnedFd, _>(Error::Aborted);
        for here in [true, false] {
            let mut token = offered();
            if !here {
                // As another process receives it.
                token.socket.clear();
            }
            let receive = |make: Make<'_, OwnedFd>| {
                if here { receive(&token, make) } else { receive_by_proc(&token, make).unwrap() }
            };
            assert_eq!(receive(&fails).unwrap_err().code(), Code::Aborted);
            let fd = receive(&Ok).unwrap();
            assert_eq!(file::status(&fd).unwrap().inode, token.terms.inode);
            end(token.terms.nonce);
        }
    }
}
