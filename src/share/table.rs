//! The offers of this process: those that are open, and how others ended.

use super::proof::{claim, is_claimed, refused};
use super::token::{Nonce, Receivers, Terms};
use crate::error::{Result, ShareError};
use crate::sys::SysResult;
use crate::sys::checked_fd::CheckedFd;
use crate::sys::lock::{Guard, Level, Lock};
use std::collections::{HashMap, VecDeque};
use std::os::fd::OwnedFd;

/// Ended offers of which it is known how they ended.
const MOST_ENDED: usize = 4096;

/// An offer of this process. The proof is dropped first: see `mod.rs`.
#[derive(Debug)]
pub(super) struct Offer {
    pub(super) proof: CheckedFd,
    pub(super) file: CheckedFd,
    pub(super) terms: Terms,
    /// What a receiver needs beside the file.
    pub(super) more: Option<More>,
}

/// Makes what one more receiver gets beside the file, of a byte that he sends. `None`: it was
/// closed. Where the receiver does not get it, it is dropped.
pub type MakeMore = dyn Fn(u8) -> SysResult<Option<Vec<OwnedFd>>> + Send + Sync;

pub(super) struct More(pub(super) Box<MakeMore>);

impl std::fmt::Debug for More {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("More")
    }
}

impl Offer {
    pub(super) fn claim(&self) -> Result<()> {
        let proof = self.proof.get().map_err(|sys| refused(&self.terms, sys))?;
        match claim(proof).map_err(|sys| refused(&self.terms, sys))? {
            true => Ok(()),
            false => Err(ShareError::Used { name: self.terms.name.clone() }.into()),
        }
    }

    pub(super) fn is_standing(&self) -> bool {
        self.terms.receivers == Receivers::Any
    }

    fn is_claimed(&self) -> bool {
        self.proof.get().is_ok_and(is_claimed)
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) enum End {
    Used,
    Closed,
}

#[derive(Default)]
pub(super) struct Offers {
    pub(super) open: HashMap<Nonce, Offer>,
    pub(super) ended: HashMap<Nonce, End>,
    order: VecDeque<Nonce>,
    /// The socket's name, while somebody listens.
    pub(super) socket: Option<String>,
}

static OFFERS: Lock<Option<Offers>> = Lock::new(Level::Offers, None);

/// The offers of this process.
pub(super) struct Locked(Guard<'static, Option<Offers>>);

pub(super) fn offers() -> Locked {
    Locked(OFFERS.lock())
}

impl Locked {
    pub(super) fn get(&mut self) -> &mut Offers {
        self.0.get_or_insert_default()
    }
}

impl Offers {
    pub(super) fn end(&mut self, nonce: Nonce, end: End) -> Option<Offer> {
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

    /// Ends offers that other processes have claimed and said nothing.
    pub(super) fn sweep(&mut self) {
        let claimed =
            self.open.iter().filter(|(_, offer)| offer.is_claimed()).map(|(nonce, _)| *nonce);
        for nonce in claimed.collect::<Vec<_>>() {
            self.end(nonce, End::Used);
        }
    }
}
