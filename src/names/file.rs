//! What the file of a name holds: its token.

use crate::error::{NameError, NameFlaw, Result};
use crate::share::{Nonce, Receivers, ShareAccess, Shareable, Terms, Token};
use crate::wire::{self, Text};
use serde::{Deserialize, Serialize};

/// Bytes of a file at most: a few numbers, a region's name and a socket's.
pub(super) const MOST_BYTES: usize = 1024;

/// With a version: what follows is of no interest where that is another.
const HEAD: &[u8] = b"wasm-hostmap name ";
const VERSION: &[u8] = b"1\n";

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    nonce: Text<32>,
    is_writable: bool,
    /// Only where it is so: a version that knows nothing of it refuses the file.
    #[serde(default, skip_serializing_if = "is_false")]
    is_paged: bool,
    device: u64,
    inode: u64,
    byte_offset: u64,
    byte_length: u64,
    region: Text<250>,
    pid: u32,
    /// When that process started.
    started: u64,
    proof: u32,
    socket: Text<107>,
}

// As serde asks.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_false(value: &bool) -> bool {
    !*value
}

fn hex(nonce: Nonce) -> String {
    format!("{:032x}", u128::from_be_bytes(nonce))
}

/// `started`: when this process did.
pub(super) fn write(name: &str, token: &Token, started: u64) -> Result<Vec<u8>> {
    let too_long = || NameError::TooLong { name: name.to_owned() };
    let Token { terms, pid, proof, socket } = token.clone();
    let written = Written {
        nonce: Text::new(hex(terms.nonce)).ok_or_else(too_long)?,
        is_writable: terms.access == ShareAccess::Shared,
        is_paged: terms.kind == Shareable::PagedRegion,
        device: terms.device,
        inode: terms.inode,
        byte_offset: terms.byte_offset,
        byte_length: terms.byte_length,
        region: Text::new(terms.name).ok_or_else(too_long)?,
        pid,
        started,
        proof: proof.unsigned_abs(),
        socket: Text::new(socket).ok_or_else(too_long)?,
    };
    let mut bytes = [HEAD, VERSION].concat();
    let room = MOST_BYTES.saturating_sub(bytes.len());
    let body = wire::encode(&written, crate::sys::to_u64(room))?.ok_or_else(too_long)?;
    bytes.extend(body);
    Ok(bytes)
}

/// The token, and when its process started.
pub(super) fn read(bytes: &[u8]) -> Result<(Token, u64), NameFlaw> {
    let tail = bytes.strip_prefix(HEAD).ok_or(NameFlaw::Altered)?;
    let body = tail.strip_prefix(VERSION).ok_or_else(|| {
        // A number, as all versions have.
        match tail.split(|byte| *byte == b'\n').next() {
            Some(number) if !number.is_empty() && number.iter().all(u8::is_ascii_digit) => {
                NameFlaw::OtherVersion
            }
            _ => NameFlaw::Altered,
        }
    })?;
    let written: Written = wire::decode(body).map_err(|_| NameFlaw::Altered)?;
    // As publish() takes them: with a NUL, a name would end early in messages.
    let is_text = !written.region.contains('\0') && !written.socket.contains('\0');
    if written.byte_length == 0 || written.pid == 0 || !is_text {
        return Err(NameFlaw::Altered);
    }
    let nonce = u128::from_str_radix(&written.nonce, 16).map_err(|_| NameFlaw::Altered)?;
    let terms = Terms {
        nonce: nonce.to_be_bytes(),
        kind: if written.is_paged { Shareable::PagedRegion } else { Shareable::Region },
        receivers: Receivers::Any,
        access: if written.is_writable { ShareAccess::Shared } else { ShareAccess::Readonly },
        device: written.device,
        inode: written.inode,
        byte_offset: written.byte_offset,
        byte_length: written.byte_length,
        name: written.region.into_string(),
    };
    let proof = i32::try_from(written.proof).map_err(|_| NameFlaw::Altered)?;
    let socket = written.socket.into_string();
    Ok((Token { terms, pid: written.pid, proof, socket }, written.started))
}
