//! Tokens: what is offered, and how another process gets it. Data, without any operation on
//! descriptors.

pub type Nonce = [u8; 16];

/// The first bytes of encoded terms, by who may receive what is offered.
const MAGIC_OF_ONE: [u8; 8] = *b"hostmap1";
const MAGIC_OF_ANY: [u8; 8] = *b"hostmapN";

pub(super) const MAGIC_BYTES: usize = MAGIC_OF_ONE.len();

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shareable {
    Region,
    Snapshot,
    /// A region whose bytes a provider of its owner brings. Only the owner itself can hand it out.
    PagedRegion,
}

/// What the receiver may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShareAccess {
    Readonly,
    Shared,
}

/// Who may receive it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receivers {
    /// The first who does.
    One,
    /// Any number, until the offer is ended: a *standing* offer.
    Any,
}

/// What is offered. The same in the token and in the proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    pub nonce: Nonce,
    pub kind: Shareable,
    pub receivers: Receivers,
    pub access: ShareAccess,
    pub device: u64,
    pub inode: u64,
    pub byte_offset: u64,
    pub byte_length: u64,
    pub name: String,
}

/// What is offered, and how another process gets it.
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
    /// As a proof has it, and a receiver sends it.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(match self.receivers {
            Receivers::One => MAGIC_OF_ONE,
            Receivers::Any => MAGIC_OF_ANY,
        });
        bytes.extend(self.nonce);
        bytes.push(match self.kind {
            Shareable::Region => 0,
            Shareable::Snapshot => 1,
            Shareable::PagedRegion => 2,
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
