//! Receiving: in the sharer's process by the table of offers, else by /proc, else by its socket.

use super::answer::Answer;
use super::proof::{PROOF_NAME, check_file, check_proof, claim, is_claimed, is_same, refused};
use super::table::{End, offers};
use super::token::{Receivers, ShareAccess, Terms, Token};
use crate::error::{Code, Error, Result, ShareError};
use crate::sys::{SysError, file, process, socket};
use nix::errno::Errno;
use std::cell::Cell;
use std::os::fd::OwnedFd;

/// Makes something of a descriptor that was received. What fails there leaves the token as good as
/// it was, but where only the socket leads to the file: then the offer is claimed by then.
pub type Make<'a, T> = &'a dyn Fn(OwnedFd) -> Result<T>;

/// Takes what a token offers.
pub fn receive<T>(token: &Token, make: Make<'_, T>) -> Result<T> {
    let made = Cell::new(None);
    // What follows is there once, and not for each type that is made.
    receive_and(token, &|fd| {
        made.set(Some(make(fd)?));
        Ok(())
    })?;
    Ok(made.take().expect("what was received was made something of"))
}

fn receive_and(token: &Token, make: Make<'_, ()>) -> Result<()> {
    if token.pid == process::id()
        && let Some(received) = receive_here(&token.terms, make)
    {
        return received;
    }
    let by_proc = match receive_by_proc(token, make) {
        // It has closed its descriptors, but its socket: that would keep us until it is gone.
        Err(error) if error.code() == Code::ShareClosed && process::is_ending(token.pid) => {
            return Err(error);
        }
        // The sharer knows better than its descriptors how an offer ended, and may send what can't
        // be opened.
        Err(error)
            if !matches!(error.code(), Code::ShareUsed | Code::FileShrunk)
                && !token.socket.is_empty() =>
        {
            error
        }
        received => return received?,
    };
    match receive_by_socket(token, None) {
        Some(received) => match <[OwnedFd; 1]>::try_from(received?) {
            Ok([file]) => make(file),
            Err(_) => Err(ShareError::Unknown { name: token.terms.name.clone() }.into()),
        },
        None => Err(by_proc),
    }
}

/// Takes what a token offers that has more than a file, of its owner: the file, then the rest.
/// `wish`: what the owner is to know for it. The offer is claimed by then, whatever is made of it.
pub fn receive_with(token: &Token, wish: u8) -> Result<Vec<OwnedFd>> {
    let Token { terms, pid, .. } = token;
    match receive_by_socket(token, Some(wish)) {
        Some(received) => received,
        None => Err(match process::user_of(*pid) {
            Ok(user) if user != process::user() => denied(token),
            Ok(_) if !process::is_ending(*pid) => {
                ShareError::Unreachable { name: terms.name.clone(), pid: *pid }.into()
            }
            _ => gone(token),
        }),
    }
}

/// `None`: nothing is known of it here.
fn receive_here<T>(terms: &Terms, make: Make<'_, T>) -> Option<Result<T>> {
    let mut offers = offers();
    let offers = offers.get();
    let Some(offer) = offers.open.get(&terms.nonce) else {
        return Some(match offers.ended.get(&terms.nonce)? {
            End::Used => Err(ShareError::Used { name: terms.name.clone() }.into()),
            End::Closed => Err(ShareError::Closed { name: terms.name.clone() }.into()),
        });
    };
    if offer.terms != *terms {
        return Some(Err(ShareError::Altered { name: terms.name.clone() }.into()));
    }
    let take = || {
        // What may fail comes first: a token that was not received can be received again.
        let fd = offer.file.duplicate().map_err(|sys| refused(terms, sys))?;
        check_file(&fd, terms)?;
        let made = make(fd)?;
        if !offer.is_standing() {
            offer.claim()?;
        }
        Ok(made)
    };
    let received = take();
    if offer.is_standing() {
        return Some(received);
    }
    if received.as_ref().map_or_else(|error: &Error| error.code() == Code::ShareUsed, |_| true) {
        offers.end(terms.nonce, End::Used);
    }
    Some(received)
}

/// The inner error is that of `make`.
pub(super) fn receive_by_proc<T>(token: &Token, make: Make<'_, T>) -> Result<Result<T>> {
    let Token { terms, pid, proof, .. } = token;
    let is_standing = terms.receivers == Receivers::Any;
    let name = || terms.name.clone();
    let of = |number: i32| format!("/proc/{pid}/fd/{number}");
    let refused = |sys: SysError| match sys.errno {
        Errno::ENOENT | Errno::ESRCH => gone(token),
        Errno::EACCES | Errno::EPERM => denied(token),
        _ => refused(terms, sys),
    };
    let owner = process::user_of(*pid).map_err(refused)?;
    if owner != process::user() {
        return Err(denied(token));
    }
    // Ask before opening it: the number may be another file's, and opening that do something.
    let path = file::link_target(&of(*proof)).map_err(refused)?;
    if path != format!("/memfd:{PROOF_NAME} (deleted)") {
        return Err(gone(token));
    }
    // Only one who claims an offer needs to write.
    let proof_fd = file::open_proc(&of(*proof), !is_standing).map_err(refused)?;
    let number = check_proof(&proof_fd, terms)?;
    if is_claimed(&proof_fd) {
        return Err(if is_standing {
            ShareError::Closed { name: name() }.into()
        } else {
            ShareError::Used { name: name() }.into()
        });
    }
    if !is_same(file::status_of(&of(number)).map_err(refused)?, terms) {
        return Err(gone(token));
    }
    let fd = file::open_proc(&of(number), terms.access == ShareAccess::Shared).map_err(refused)?;
    // It is closed before the file is, so that it says whether the number was still the offer's.
    let still = file::status_of(&of(*proof)).map_err(refused)?;
    let proven = file::status(&proof_fd).map_err(refused)?;
    if (still.device, still.inode) != (proven.device, proven.inode) {
        return Err(gone(token));
    }
    check_file(&fd, terms)?;
    let made = match make(fd) {
        Ok(made) => made,
        failed => return Ok(failed),
    };
    if is_standing {
        return Ok(Ok(made));
    }
    if !claim(&proof_fd).map_err(refused)? {
        return Err(ShareError::Used { name: name() }.into());
    }
    // So that the sharer closes its own. It would notice later.
    if let Ok(stream) = socket::connect(&token.socket) {
        let _ = socket::send(&stream, &terms.encode(), &[]);
    }
    Ok(Ok(made))
}

fn gone(token: &Token) -> Error {
    ShareError::Gone { name: token.terms.name.clone(), pid: token.pid }.into()
}

fn denied(token: &Token) -> Error {
    ShareError::Denied { name: token.terms.name.clone(), pid: token.pid }.into()
}

/// The file, and what comes with it. `None`: nobody listens. `wish`: of what has more than a file.
fn receive_by_socket(token: &Token, wish: Option<u8>) -> Option<Result<Vec<OwnedFd>>> {
    let terms = &token.terms;
    let stream = socket::connect(&token.socket).ok()?;
    if socket::peer_uid(&stream).ok()? != process::user() {
        return Some(Err(denied(token)));
    }
    let mut asked = terms.encode();
    asked.extend(wish);
    socket::send(&stream, &asked, &[]).ok()?;
    let mut answer = [0; 1];
    let (length, fds) = socket::receive(&stream, &mut answer).ok()?;
    // One who is of another user for the sharer gets no answer.
    if length == 0 {
        return Some(Err(denied(token)));
    }
    let name = terms.name.clone();
    let answer = Answer::from_byte(answer[0]).unwrap_or(Answer::Unknown);
    let mut fds = fds.into_iter();
    let why_not = match (answer, fds.next(), fds.next()) {
        (Answer::Here, Some(proof), Some(fd)) => {
            let checked = check_proof(&proof, terms).and_then(|_| check_file(&fd, terms));
            return Some(checked.map(|()| [fd].into_iter().chain(fds).collect()));
        }
        (Answer::Used, ..) => ShareError::Used { name },
        (Answer::Closed, ..) => ShareError::Closed { name },
        (Answer::Altered, ..) => ShareError::Altered { name },
        (Answer::Shrunk, ..) => ShareError::Shrunk { name },
        (Answer::Failed, ..) => ShareError::Unreachable { name, pid: token.pid },
        (Answer::Unknown | Answer::Here, ..) => ShareError::Unknown { name },
    };
    Some(Err(why_not.into()))
}
