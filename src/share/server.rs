//! The socket of this process, by which receivers that can't look into /proc get what is offered.

use super::answer::Answer;
use super::proof::check_file;
use super::table::{End, Offers, offers};
use super::token::MAGIC_BYTES;
use crate::sys::checked_fd::{CheckedFd, Description};
use crate::sys::{SysError, SysResult, process, random, socket, thread};
use nix::errno::Errno;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

/// The name of this process's socket, which is made for its first offer. Empty where there can't be
/// one.
pub(super) fn socket_name(offers: &mut Offers) -> String {
    if let Some(name) = &offers.socket {
        return name.clone();
    }
    let made = || {
        let random: [u8; 8] = random::bytes()?;
        let name = format!("wasm-hostmap.{}.{:016x}", process::id(), u64::from_le_bytes(random));
        let listener = CheckedFd::new(socket::listen(&name)?, Description::Ours)?;
        thread::spawn("hostmap-share", move || listen(&listener))?;
        Ok::<_, SysError>(name)
    };
    let name = made().unwrap_or_default();
    offers.socket = Some(name.clone()).filter(|name| !name.is_empty());
    name
}

/// Answers receivers, for good.
fn listen(listener: &CheckedFd) {
    // Its number is looked at before each wait: connections to somebody else's socket are not for
    // us.
    while let Ok(fd) = listener.get() {
        match socket::accept(fd) {
            Ok(stream) => {
                let _ = std::panic::catch_unwind(|| answer(&stream));
            }
            Err(sys) if matches!(sys.errno, Errno::EINTR | Errno::ECONNABORTED) => {}
            // No descriptor left, say: others may give some back.
            Err(_) => thread::sleep(Duration::from_millis(50)),
        }
    }
    offers().get().socket = None;
}

fn answer(stream: &std::os::unix::net::UnixStream) -> SysResult<()> {
    if socket::peer_uid(stream)? != process::user() {
        return Ok(());
    }
    let mut asked = [0; 512];
    let (length, _) = socket::receive(stream, &mut asked)?;
    let asked = asked.get(..length).unwrap_or_default();
    let nonce = asked.get(MAGIC_BYTES..).and_then(|tail| tail.first_chunk());
    let Some(nonce) = nonce.copied() else { return Ok(()) };
    let mut offers = offers();
    let offers = offers.get();
    let Some(offer) = offers.open.get(&nonce) else {
        let answer = match offers.ended.get(&nonce) {
            Some(End::Used) => Answer::Used,
            Some(End::Closed) => Answer::Closed,
            None => Answer::Unknown,
        };
        return socket::send(stream, &[answer.to_byte()], &[]);
    };
    // Who wants more than the file says a byte about it.
    let (asked, wish) = match (&offer.more, asked.split_last()) {
        (Some(_), Some((wish, terms))) => (terms, *wish),
        _ => (asked, 0),
    };
    if offer.terms.encode() != asked {
        return socket::send(stream, &[Answer::Altered.to_byte()], &[]);
    }
    if check_file(offer.file.get()?, &offer.terms).is_err() {
        return socket::send(stream, &[Answer::Shrunk.to_byte()], &[]);
    }
    let more = match offer.more.as_ref().map(|more| (more.0)(wish)) {
        None => Vec::new(),
        Some(Ok(Some(more))) => more,
        Some(Ok(None)) => return socket::send(stream, &[Answer::Closed.to_byte()], &[]),
        Some(Err(_)) => return socket::send(stream, &[Answer::Failed.to_byte()], &[]),
    };
    let send = |proof: BorrowedFd<'_>, file: BorrowedFd<'_>| {
        let all = [proof, file].into_iter().chain(more.iter().map(AsFd::as_fd));
        socket::send(stream, &[Answer::Here.to_byte()], &all.collect::<Vec<_>>())
    };
    if offer.is_standing() {
        // Descriptions of their own: what a receiver does to them does nothing to the offer.
        let (proof, file) = (offer.proof.reopen_readonly()?, offer.file.duplicate()?);
        return send(proof.as_fd(), file.as_fd());
    }
    if offer.claim().is_err() {
        offers.end(nonce, End::Used);
        return socket::send(stream, &[Answer::Used.to_byte()], &[]);
    }
    let Some(offer) = offers.end(nonce, End::Used) else { return Ok(()) };
    send(offer.proof.get()?, offer.file.get()?)
}
