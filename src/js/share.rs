//! Tokens of regions and snapshots, of which lib/region/share.js makes plain objects. `region.rs`
//! and `snapshot.rs` receive what they offer.

use super::{from_count, to_count};
use crate::error::{Error, ShareError};
use crate::share::{self, ShareAccess, Shareable, Terms, Token};
use napi_derive::napi;

/// A [`Token`]. What has 64 bits is text: device and inode in decimal digits, the nonce in
/// hexadecimal ones.
#[napi(object)]
pub struct NativeToken {
    pub pid: u32,
    pub proof: i32,
    pub socket: String,
    pub nonce: String,
    pub readonly: bool,
    pub device: String,
    pub inode: String,
    pub byte_offset: f64,
    pub byte_length: f64,
    pub name: String,
    /// Of a region whose bytes come from a provider; left out for others.
    pub paged: Option<bool>,
}

impl From<Token> for NativeToken {
    fn from(token: Token) -> Self {
        let Token { terms, pid, proof, socket } = token;
        Self {
            pid,
            proof,
            socket,
            nonce: format!("{:032x}", u128::from_be_bytes(terms.nonce)),
            readonly: terms.access == ShareAccess::Readonly,
            device: terms.device.to_string(),
            inode: terms.inode.to_string(),
            byte_offset: from_count(terms.byte_offset),
            byte_length: from_count(terms.byte_length),
            name: terms.name,
            paged: (terms.kind == Shareable::PagedRegion).then_some(true),
        }
    }
}

fn invalid(what: &'static str) -> Error {
    ShareError::PartAltered { what }.into()
}

pub(super) fn nonce(text: &str) -> Result<share::Nonce, Error> {
    let number = u128::from_str_radix(text, 16).map_err(|_| invalid("nonce"))?;
    Ok(number.to_be_bytes())
}

impl NativeToken {
    pub(super) fn parse(self, kind: Shareable) -> Result<Token, Error> {
        let number = |text: &str, what| text.parse().map_err(|_| invalid(what));
        let terms = Terms {
            nonce: nonce(&self.nonce)?,
            kind: match (kind, self.paged) {
                (Shareable::Region, Some(true)) => Shareable::PagedRegion,
                (kind, _) => kind,
            },
            receivers: share::Receivers::One,
            access: if self.readonly { ShareAccess::Readonly } else { ShareAccess::Shared },
            device: number(&self.device, "device")?,
            inode: number(&self.inode, "inode")?,
            byte_offset: to_count(self.byte_offset).map_err(|_| invalid("byteOffset"))?,
            byte_length: to_count(self.byte_length).map_err(|_| invalid("byteLength"))?,
            name: self.name,
        };
        Ok(Token { terms, pid: self.pid, proof: self.proof, socket: self.socket })
    }
}

/// Whether this call ended an offer.
#[napi(catch_unwind)]
pub fn end_share(text: String) -> napi::Result<bool> {
    Ok(share::end(nonce(&text)?))
}

/// How many tokens wait for a receiver.
#[napi(catch_unwind)]
pub fn waiting_shares() -> f64 {
    from_count(share::waiting())
}
