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
//! A token is data and stands for nothing by itself. What it stands for is an *offer*, which keeps
//! a descriptor of its own open until the offer is claimed or ended. Numbers of descriptors are
//! reused, so a number proves nothing. The *proof* does: a sealed memfd whose contents are the
//! nonce of the token and all that the receiver must find (device, inode, size, access, the number
//! of the file's descriptor). An offer closes its proof first. So a proof that is still there after
//! the file was opened by its number says that the number was the offer's.
//!
//! An offer is claimed once. The process that adds F_SEAL_SEAL to the proof has claimed it: the
//! kernel lets nobody add a seal after that, in any process.

use crate::error::{Code, Error, Result};
use crate::sys::checked_fd::{CheckedFd, Description};
use crate::sys::file::{self, Status};
use crate::sys::memfd::Seals;
use crate::sys::{SysError, SysResult, memfd, process, random, socket, thread, to_u64};
use nix::errno::Errno;
use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Offers that a process has open at most. Each takes two descriptors.
pub const MOST_OFFERS: usize = 1024;

/// Offers that are over and of which it is known how they ended.
const MOST_ENDED: usize = 4096;

const PROOF_NAME: &str = "wasm-hostmap share";
const MAGIC: [u8; 8] = *b"hostmap1";

pub type Nonce = [u8; 16];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shareable {
    Region,
    Snapshot,
}

/// What the receiver may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShareAccess {
    Readonly,
    Shared,
}

/// What is offered. The same in the token and in the proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    pub nonce: Nonce,
    pub kind: Shareable,
    pub access: ShareAccess,
    pub device: u64,
    pub inode: u64,
    pub byte_offset: u64,
    pub byte_length: u64,
    pub name: String,
}

/// How another process gets what a token stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    pub terms: Terms,
    pub pid: u32,
    /// The number of the proof in that process.
    pub proof: i32,
    /// The abstract name of a socket of that process; empty if it has none.
    pub socket: String,
}

impl Terms {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(MAGIC);
        bytes.extend(self.nonce);
        bytes.push(match self.kind {
            Shareable::Region => 0,
            Shareable::Snapshot => 1,
        });
        bytes.push(match self.access {
            ShareAccess::Readonly => 0,
            ShareAccess::Shared => 1,
        });
        for number in [self.device, self.inode, self.byte_offset, self.byte_length] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(self.name.as_bytes());
        bytes
    }
}

/// An offer of this process. The proof is closed first: see the head of this file.
#[derive(Debug)]
struct Offer {
    proof: CheckedFd,
    file: CheckedFd,
    terms: Terms,
}

impl Offer {
    fn claim(&self) -> Result<()> {
        let proof = self.proof.get().map_err(|sys| refused(&self.terms.name, sys))?;
        match claim(proof).map_err(|sys| refused(&self.terms.name, sys))? {
            true => Ok(()),
            false => Err(used(&self.terms.name)),
        }
    }

    fn is_claimed(&self) -> bool {
        self.proof.get().is_ok_and(is_claimed)
    }
}

#[derive(Debug, Clone, Copy)]
enum End {
    Used,
    Closed,
}

#[derive(Default)]
struct Offers {
    open: HashMap<Nonce, Offer>,
    ended: HashMap<Nonce, End>,
    order: VecDeque<Nonce>,
    /// The socket's name, while somebody listens.
    socket: Option<String>,
}

static OFFERS: Mutex<Option<Offers>> = Mutex::new(None);

/// The offers of this process.
struct Locked(MutexGuard<'static, Option<Offers>>);

fn offers() -> Locked {
    Locked(OFFERS.lock().unwrap_or_else(PoisonError::into_inner))
}

impl Locked {
    fn get(&mut self) -> &mut Offers {
        self.0.get_or_insert_default()
    }
}

impl Offers {
    fn end(&mut self, nonce: Nonce, end: End) -> Option<Offer> {
        let offer = self.open.remove(&nonce)?;
        if self.order.len() >= MOST_ENDED
            && let Some(oldest) = self.order.pop_front()
        {
            self.ended.remove(&oldest);
        }
        self.order.push_back(nonce);
        self.ended.insert(nonce, end);
        Some(offer)
    }

    /// Ends offers that other processes have claimed without a word.
    fn sweep(&mut self) {
        let claimed =
            self.open.iter().filter(|(_, offer)| offer.is_claimed()).map(|(nonce, _)| *nonce);
        for nonce in claimed.collect::<Vec<_>>() {
            self.end(nonce, End::Used);
        }
    }
}

fn claim(proof: impl AsFd) -> SysResult<bool> {
    match memfd::seal_seals(proof) {
        Err(sys) if sys.errno == Errno::EPERM => Ok(false),
        done => done.map(|()| true),
    }
}

fn is_claimed(proof: impl AsFd) -> bool {
    memfd::seals(proof.as_fd()).is_some_and(Seals::are_final)
}

fn used(name: &str) -> Error {
    let message = format!(
        "the token for \"{name}\" was received before; a token is for one receiver: share it again"
    );
    Error::new(Code::ShareUsed, message)
}

fn closed(name: &str) -> Error {
    let message = format!("the token for \"{name}\" was ended by unshare; share it again");
    Error::new(Code::ShareClosed, message)
}

fn altered(name: &str) -> Error {
    let message = format!(
        "the token for \"{name}\" is not as share() gave it: pass it on as it is, and receive it once"
    );
    Error::new(Code::ShareInvalid, message)
}

fn shrunk(name: &str) -> Error {
    let message = format!(
        "can't receive \"{name}\": its file ends before what was shared does; open it again, and share that"
    );
    Error::new(Code::FileShrunk, message)
}

fn unknown(name: &str) -> Error {
    let message =
        format!("nothing is known of the token for \"{name}\": it was made up, or is long over");
    Error::new(Code::ShareInvalid, message)
}

fn refused(name: &str, sys: SysError) -> Error {
    Error::from_sys(Code::OpenFailed, format!("can't share or receive \"{name}\""), sys)
}

/// Offers a file. `access` is no more than the descriptor allows.
pub fn offer(
    fd: &CheckedFd,
    kind: Shareable,
    access: ShareAccess,
    byte_offset: u64,
    byte_length: u64,
    name: &str,
) -> Result<Token> {
    let failed = |sys| refused(name, sys);
    let nonce: Nonce = random::bytes().map_err(failed)?;
    let file = match access {
        ShareAccess::Readonly => fd.reopen_readonly(),
        ShareAccess::Shared => fd.duplicate(),
    };
    let file = CheckedFd::new(file.map_err(failed)?, Description::Shared).map_err(failed)?;
    let name = name.to_owned();
    let (device, inode) = (file.device(), file.inode());
    let terms = Terms { nonce, kind, access, device, inode, byte_offset, byte_length, name };
    let failed = |sys| refused(&terms.name, sys);
    let number = file.get().map_err(failed)?.as_raw_fd();
    let proof = make_proof(&terms, number).map_err(failed)?;
    let proof_number = proof.get().map_err(failed)?.as_raw_fd();

    let mut offers = offers();
    let offers = offers.get();
    if offers.open.len() >= MOST_OFFERS {
        offers.sweep();
    }
    if offers.open.len() >= MOST_OFFERS {
        let message = format!(
            "can't share \"{}\": {MOST_OFFERS} tokens of this process are waiting for a receiver; end those that nobody takes with unshare",
            terms.name
        );
        return Err(Error::new(Code::TooManyShares, message));
    }
    let socket = socket_name(offers);
    offers.open.insert(nonce, Offer { proof, file, terms: terms.clone() });
    Ok(Token { terms, pid: process::id(), proof: proof_number, socket })
}

fn make_proof(terms: &Terms, number: i32) -> SysResult<CheckedFd> {
    let proof = memfd::create_growing(PROOF_NAME)?;
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.extend(terms.encode());
    file::write_all(&proof, 0, &bytes)?;
    memfd::seal_size(&proof)?;
    memfd::seal_write(&proof)?;
    CheckedFd::new(proof, Description::Ours)
}

/// What a proof says: the number of the file's descriptor, if it is the proof of these terms.
fn check_proof(proof: &OwnedFd, terms: &Terms) -> Result<i32> {
    let failed = |sys| refused(&terms.name, sys);
    if !memfd::is_memfd(proof.as_fd())
        || !memfd::seals(proof.as_fd()).is_some_and(Seals::forbid_changes)
    {
        return Err(unknown(&terms.name));
    }
    let expected = terms.encode();
    // A name has 250 bytes at most.
    let mut bytes = [0; 512];
    let length = file::read_up_to(proof, 0, &mut bytes).map_err(failed)?;
    let Some((number, found)) =
        bytes.get(..length).and_then(|bytes| bytes.split_first_chunk::<4>())
    else {
        return Err(unknown(&terms.name));
    };
    let head = MAGIC.len().saturating_add(terms.nonce.len());
    if found.get(..head) != expected.get(..head) {
        return Err(unknown(&terms.name));
    }
    if found != expected {
        return Err(altered(&terms.name));
    }
    Ok(i32::from_le_bytes(*number))
}

/// Whether a file is what the terms say.
fn check_file(fd: impl AsFd, terms: &Terms) -> Result<()> {
    let status = file::status(fd).map_err(|sys| refused(&terms.name, sys))?;
    if !is_same(status, terms) {
        return Err(altered(&terms.name));
    }
    if status.byte_length < terms.byte_offset.saturating_add(terms.byte_length) {
        return Err(shrunk(&terms.name));
    }
    Ok(())
}

fn is_same(status: Status, terms: &Terms) -> bool {
    (status.device, status.inode) == (terms.device, terms.inode)
}

/// Makes something of a descriptor that was received. What fails there leaves the token as good as
/// it was, but where only the socket leads to the file: then the offer is claimed by then.
type Make<'a, T> = &'a dyn Fn(OwnedFd) -> Result<T>;

/// Takes what a token stands for.
pub fn receive<T>(token: &Token, make: Make<'_, T>) -> Result<T> {
    if token.pid == process::id()
        && let Some(received) = receive_here(&token.terms, make)
    {
        return received;
    }
    let by_proc = match receive_by_proc(token, make) {
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
    match receive_by_socket(token) {
        Some(received) => make(received?),
        None => Err(by_proc),
    }
}

/// `None`: nothing is known of it here.
fn receive_here<T>(terms: &Terms, make: Make<'_, T>) -> Option<Result<T>> {
    let mut offers = offers();
    let offers = offers.get();
    let Some(offer) = offers.open.get(&terms.nonce) else {
        return Some(match offers.ended.get(&terms.nonce)? {
            End::Used => Err(used(&terms.name)),
            End::Closed => Err(closed(&terms.name)),
        });
    };
    if offer.terms != *terms {
        return Some(Err(altered(&terms.name)));
    }
    let take = || {
        // What may fail comes first: a token that was not received can be received again.
        let fd = offer.file.duplicate().map_err(|sys| refused(&terms.name, sys))?;
        check_file(&fd, terms)?;
        let made = make(fd)?;
        offer.claim()?;
        Ok(made)
    };
    let received = take();
    if received.as_ref().map_or_else(|error: &Error| error.code() == Code::ShareUsed, |_| true) {
        offers.end(terms.nonce, End::Used);
    }
    Some(received)
}

/// The inner error is that of `make`.
fn receive_by_proc<T>(token: &Token, make: Make<'_, T>) -> Result<Result<T>> {
    let Token { terms, pid, proof, .. } = token;
    let name = &terms.name;
    let of = |number: i32| format!("/proc/{pid}/fd/{number}");
    let refused = |sys: SysError| match sys.errno {
        Errno::ENOENT | Errno::ESRCH => gone(token),
        Errno::EACCES | Errno::EPERM => denied(token),
        _ => refused(name, sys),
    };
    let owner = process::user_of(*pid).map_err(refused)?;
    if owner != process::user() {
        return Err(denied(token));
    }
    // Asked before it is opened: opening what a reused number stands for might do something.
    let path = file::link_target(&of(*proof)).map_err(refused)?;
    if path != format!("/memfd:{PROOF_NAME} (deleted)") {
        return Err(gone(token));
    }
    let proof_fd = file::open_proc(&of(*proof), true).map_err(refused)?;
    let number = check_proof(&proof_fd, terms)?;
    if is_claimed(&proof_fd) {
        return Err(used(name));
    }
    if !is_same(file::status_of(&of(number)).map_err(refused)?, terms) {
        return Err(gone(token));
    }
    let fd = file::open_proc(&of(number), terms.access == ShareAccess::Shared).map_err(refused)?;
    check_file(&fd, terms)?;
    // It is closed before the file is.
    let still = file::status_of(&of(*proof)).map_err(refused)?;
    let proven = file::status(&proof_fd).map_err(refused)?;
    if (still.device, still.inode) != (proven.device, proven.inode) {
        return Err(gone(token));
    }
    let made = match make(fd) {
        Ok(made) => made,
        failed => return Ok(failed),
    };
    if !claim(&proof_fd).map_err(refused)? {
        return Err(used(name));
    }
    // So that the sharer closes its own. It would notice later.
    if let Ok(stream) = socket::connect(&token.socket) {
        let _ = socket::send(&stream, &terms.encode(), &[]);
    }
    Ok(Ok(made))
}

fn gone(token: &Token) -> Error {
    let message = format!(
        "what the token for \"{}\" stood for is gone: process {} has ended, or closed it; receive tokens while their sharer runs",
        token.terms.name, token.pid
    );
    Error::new(Code::ShareClosed, message)
}

fn denied(token: &Token) -> Error {
    let message = format!(
        "can't receive \"{}\" from process {}: it is of another user, or the system lets nobody look into it; share between processes of one user, or a file with HostRegion.open",
        token.terms.name, token.pid
    );
    Error::new(Code::ShareDenied, message)
}

/// What the sharer answers: one byte, and where it is the first the proof and the file.
const ANSWER_HERE: u8 = 0;
const ANSWER_USED: u8 = 1;
const ANSWER_CLOSED: u8 = 2;
const ANSWER_ALTERED: u8 = 3;
const ANSWER_UNKNOWN: u8 = 4;
const ANSWER_SHRUNK: u8 = 5;

/// `None`: nobody of this user listens.
fn receive_by_socket(token: &Token) -> Option<Result<OwnedFd>> {
    let terms = &token.terms;
    let stream = socket::connect(&token.socket).ok()?;
    if socket::peer_uid(&stream).ok()? != process::user() {
        return Some(Err(denied(token)));
    }
    socket::send(&stream, &terms.encode(), &[]).ok()?;
    let mut answer = [0; 1];
    let (length, fds) = socket::receive(&stream, &mut answer).ok()?;
    // One who is of another user for the sharer gets no answer.
    if length == 0 {
        return Some(Err(denied(token)));
    }
    Some(match (answer, <[OwnedFd; 2]>::try_from(fds)) {
        ([ANSWER_HERE], Ok([proof, fd])) => {
            check_proof(&proof, terms).and_then(|_| check_file(&fd, terms)).map(|()| fd)
        }
        ([ANSWER_USED], _) => Err(used(&terms.name)),
        ([ANSWER_CLOSED], _) => Err(closed(&terms.name)),
        ([ANSWER_ALTERED], _) => Err(altered(&terms.name)),
        ([ANSWER_SHRUNK], _) => Err(shrunk(&terms.name)),
        _ => Err(unknown(&terms.name)),
    })
}

/// Ends an offer of this process that nobody has received. False: there is none.
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
    to_u64(offers.open.len())
}

/// The name of this process's socket, which is made for its first offer. Empty where there can't be
/// one.
fn socket_name(offers: &mut Offers) -> String {
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
            Err(_) => std::thread::sleep(std::time::Duration::from_millis(50)),
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
    let nonce = asked.get(MAGIC.len()..).and_then(|rest| rest.first_chunk());
    let Some(nonce) = nonce.copied() else { return Ok(()) };
    let mut offers = offers();
    let offers = offers.get();
    let Some(offer) = offers.open.get(&nonce) else {
        let answer = match offers.ended.get(&nonce) {
            Some(End::Used) => ANSWER_USED,
            Some(End::Closed) => ANSWER_CLOSED,
            None => ANSWER_UNKNOWN,
        };
        return socket::send(stream, &[answer], &[]);
    };
    if offer.terms.encode() != asked {
        return socket::send(stream, &[ANSWER_ALTERED], &[]);
    }
    if check_file(offer.file.get()?, &offer.terms).is_err() {
        return socket::send(stream, &[ANSWER_SHRUNK], &[]);
    }
    if offer.claim().is_err() {
        offers.end(nonce, End::Used);
        return socket::send(stream, &[ANSWER_USED], &[]);
    }
    let Some(offer) = offers.end(nonce, End::Used) else { return Ok(()) };
    let (proof, file) = (offer.proof.get()?, offer.file.get()?);
    socket::send(stream, &[ANSWER_HERE], &[proof, file])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offered() -> Token {
        let fd = CheckedFd::new(memfd::create("shared", 100).unwrap(), Description::Ours).unwrap();
        offer(&fd, Shareable::Region, ShareAccess::Shared, 0, 100, "shared").unwrap()
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
    fn a_token_of_which_nothing_could_be_made_is_as_good_as_before() {
        let fails = |_| Err::<OwnedFd, _>(Error::new(Code::OutOfMemory, "none left"));
        for here in [true, false] {
            let mut token = offered();
            if !here {
                // As another process receives it.
                token.socket.clear();
            }
            let receive = |make: Make<'_, OwnedFd>| {
                if here { receive(&token, make) } else { receive_by_proc(&token, make).unwrap() }
            };
            assert_eq!(receive(&fails).unwrap_err().code(), Code::OutOfMemory);
            let fd = receive(&Ok).unwrap();
            assert_eq!(file::status(&fd).unwrap().inode, token.terms.inode);
            end(token.terms.nonce);
        }
    }
}
