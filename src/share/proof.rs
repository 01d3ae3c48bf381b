//! Proofs: sealed memfds that say what a receiver must find. Making, checking and claiming them.

use super::token::{MAGIC_BYTES, Nonce, Terms};
use crate::error::{Error, Result, ShareError};
use crate::sys::checked_fd::{CheckedFd, Description};
use crate::sys::file::{self, Status};
use crate::sys::memfd::{self, Seals};
use crate::sys::{SysError, SysResult};
use nix::errno::Errno;
use std::os::fd::{AsFd, OwnedFd};

pub(super) const PROOF_NAME: &str = "wasm-hostmap share";

pub(super) fn refused(terms: &Terms, sys: SysError) -> Error {
    ShareError::Refused { name: terms.name.clone(), refused: sys.into() }.into()
}

/// `number`: of the file's descriptor.
pub(super) fn make_proof(terms: &Terms, number: i32) -> SysResult<CheckedFd> {
    let proof = memfd::create_growing(PROOF_NAME)?;
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.extend(terms.encode());
    file::write_all(&proof, 0, &bytes)?;
    memfd::seal_size(&proof)?;
    memfd::seal_write(&proof)?;
    CheckedFd::new(proof, Description::Ours)
}

/// What no two tokens share: the nonce, behind the mark of all proofs.
const HEAD_BYTES: usize = MAGIC_BYTES + size_of::<Nonce>();

/// What a proof says: the number of the file's descriptor, if it is the proof of these terms.
pub(super) fn check_proof(proof: &OwnedFd, terms: &Terms) -> Result<i32> {
    let failed = |sys| refused(terms, sys);
    if !memfd::is_memfd(proof.as_fd())
        || !memfd::seals(proof.as_fd()).is_some_and(Seals::forbid_changes)
    {
        return Err(ShareError::Unknown { name: terms.name.clone() }.into());
    }
    let expected = terms.encode();
    // A name has 250 bytes at most.
    let mut bytes = [0; 512];
    let length = file::read_up_to(proof, 0, &mut bytes).map_err(failed)?;
    let Some((number, found)) =
        bytes.get(..length).and_then(|bytes| bytes.split_first_chunk::<4>())
    else {
        return Err(ShareError::Unknown { name: terms.name.clone() }.into());
    };
    if found.get(..HEAD_BYTES) != expected.get(..HEAD_BYTES) {
        return Err(ShareError::Unknown { name: terms.name.clone() }.into());
    }
    if found != expected {
        return Err(ShareError::Altered { name: terms.name.clone() }.into());
    }
    Ok(i32::from_le_bytes(*number))
}

/// Whether a file is what the terms say.
pub(super) fn check_file(fd: impl AsFd, terms: &Terms) -> Result<()> {
    let status = file::status(fd).map_err(|sys| refused(terms, sys))?;
    if !is_same(status, terms) {
        return Err(ShareError::Altered { name: terms.name.clone() }.into());
    }
    // A token is a caller's, so these numbers may be anything.
    let end = terms.byte_offset.checked_add(terms.byte_length);
    if end.is_none_or(|end| status.byte_length < end) {
        return Err(ShareError::Shrunk { name: terms.name.clone() }.into());
    }
    Ok(())
}

pub(super) fn is_same(status: Status, terms: &Terms) -> bool {
    (status.device, status.inode) == (terms.device, terms.inode)
}

/// Claims an offer, or ends a standing one. False: somebody has before.
pub(super) fn claim(proof: impl AsFd) -> SysResult<bool> {
    match memfd::seal_seals(proof) {
        Err(sys) if sys.errno == Errno::EPERM => Ok(false),
        done => done.map(|()| true),
    }
}

pub(super) fn is_claimed(proof: impl AsFd) -> bool {
    memfd::seals(proof.as_fd()).is_some_and(Seals::are_final)
}
