//! Offering a file, and ending an offer that nobody has received.

use super::proof::{make_proof, refused};
use super::server::socket_name;
use super::table::{End, MakeMore, More, Offer, offers};
use super::token::{Nonce, Receivers, ShareAccess, Shareable, Terms, Token};
use crate::error::{Code, Result, ShareError};
use crate::sys::checked_fd::{CheckedFd, Description};
use crate::sys::{SysError, process, random, to_u64};
use std::os::fd::AsRawFd;

/// Offers that a process has open at most. Each takes two descriptors.
pub const MOST_OFFERS: usize = 1024;

/// Offers a file. `access` is no more than the descriptor allows.
pub fn offer(
    fd: &CheckedFd,
    (kind, receivers): (Shareable, Receivers),
    access: ShareAccess,
    byte_offset: u64,
    byte_length: u64,
    name: &str,
) -> Result<Token> {
    offer_with(fd, (kind, receivers), access, (byte_offset, byte_length), name, None)
}

/// Offers a file and more, which only this process can make: receivers ask its socket for it.
pub fn offer_with(
    fd: &CheckedFd,
    (kind, receivers): (Shareable, Receivers),
    access: ShareAccess,
    (byte_offset, byte_length): (u64, u64),
    name: &str,
    more: Option<Box<MakeMore>>,
) -> Result<Token> {
    let failed = |sys: SysError| ShareError::Refused { name: name.to_owned(), refused: sys.into() };
    let nonce: Nonce = random::bytes().map_err(failed)?;
    let file = match access {
        ShareAccess::Readonly => fd.reopen_readonly(),
        ShareAccess::Shared => fd.duplicate(),
    };
    let file = CheckedFd::new(file.map_err(failed)?, Description::Shared).map_err(failed)?;
    let name = name.to_owned();
    let (device, inode) = (file.device(), file.inode());
    let terms =
        Terms { nonce, kind, receivers, access, device, inode, byte_offset, byte_length, name };
    let failed = |sys| refused(&terms, sys);
    let number = file.get().map_err(failed)?.as_raw_fd();
    let proof = make_proof(&terms, number).map_err(failed)?;
    let proof_number = proof.get().map_err(failed)?.as_raw_fd();

    let mut offers = offers();
    let offers = offers.get();
    if offers.open.len() >= MOST_OFFERS {
        offers.sweep();
    }
    if offers.open.len() >= MOST_OFFERS {
        return Err(ShareError::TooMany { name: terms.name, most: MOST_OFFERS }.into());
    }
    let socket = socket_name(offers);
    if more.is_some() && socket.is_empty() {
        return Err(ShareError::NoSocket { name: terms.name }.into());
    }
    let more = more.map(More);
    offers.open.insert(nonce, Offer { proof, file, terms: terms.clone(), more });
    Ok(Token { terms, pid: process::id(), proof: proof_number, socket })
}

/// Ends an offer of this process: a standing one, or one that nobody has received. False: there is
/// none.
pub fn end(nonce: Nonce) -> bool {
    let mut offers = offers();
    let offers = offers.get();
    // Claimed, so that nobody does who has opened the proof and the file by now. One that can't be
    // is lost to all.
    let is_used = |offer: &Offer| offer.claim().is_err_and(|error| error.code() == Code::ShareUsed);
    let was_open = offers.open.get(&nonce).is_some_and(|offer| !is_used(offer));
    let end = if was_open { End::Closed } else { End::Used };
    offers.end(nonce, end).is_some() && was_open
}

/// How many tokens wait for a receiver.
pub fn waiting() -> u64 {
    let mut offers = offers();
    let offers = offers.get();
    offers.sweep();
    to_u64(offers.open.values().filter(|offer| !offer.is_standing()).count())
}
