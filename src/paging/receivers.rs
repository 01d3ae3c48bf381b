//! Who else has a region: other processes, and other threads of this one. The provider's thread has
//! two connections to each.
//!
//! ```text
//!  receiver                                        owner
//!  words  <---- reads ----------------------------  words
//!  touches ---- numbers of chunks, 8 bytes each -->  the provider's thread
//!  calls  <---- lib/paging asks and answers ------>  the same
//! ```
//!
//! Its end of `touches` is open as long as it may show chunks, however it ends.

use super::list::Hold;
use super::pager::Pager;
use super::work::Receiver;
use crate::sys::requests::{self, Sent};
use crate::sys::{SysError, SysResult, alloc, thread};
use nix::errno::Errno;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Receivers of a region at most. Each takes two descriptors.
const MOST_RECEIVERS: usize = 1024;

/// How often the provider's thread, when it is behind, is told of a receiver.
const MOST_TRIES: u32 = 500;

/// Makes somebody a receiver. Gives what he is to get: the words, and his ends. `None`: the region
/// was closed. `pins`: he has no userfaultfd. From then on nothing is taken out.
pub fn admit(hold: &Hold, pins: bool) -> SysResult<Option<Vec<OwnedFd>>> {
    static NEXT_ID: AtomicU64 = AtomicU64::new(1);
    let Some(words) = hold.words_for_others()? else { return Ok(None) };
    let (our_touches, touches) = requests::ends()?;
    let (our_calls, calls) = requests::ends()?;
    let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
    let ends = Some((our_touches, our_calls));
    let keeps = Box::new(hold.clone());
    let receiver = Receiver { id, pins: pins || !hold.is_userfault(), ends, _keeps: keeps };
    let mut work = hold.work();
    if work.receivers.len() >= MOST_RECEIVERS {
        return Err(SysError::new("socketpair", Errno::EMFILE));
    }
    if hold.is_closed() {
        return Ok(None);
    }
    alloc::push(&mut work.receivers, receiver)?;
    drop(work);
    for _ in 0..MOST_TRIES {
        match hold.requests.send(requests::RECEIVED) {
            Sent::Done => return Ok(Some(vec![words, touches, calls])),
            Sent::Full => thread::sleep(Duration::from_millis(1)),
            Sent::Gone => break,
        }
    }
    hold.dismiss(id);
    Ok(None)
}

/// A receiver that the provider's thread has not met yet.
#[derive(Debug)]
pub struct Newcomer {
    pub id: u64,
    pub touches: OwnedFd,
    pub calls: OwnedFd,
}

impl Pager {
    /// Receivers that have come since. Their descriptors are the caller's.
    pub fn newcomers(&self) -> Vec<Newcomer> {
        let mut work = self.work();
        let newcomers = work.receivers.iter_mut().filter_map(|receiver| {
            let (touches, calls) = receiver.ends.take()?;
            Some(Newcomer { id: receiver.id, touches, calls })
        });
        newcomers.collect()
    }

    /// A receiver has ended: what it showed may be taken out.
    pub fn dismiss(&self, id: u64) {
        let mut work = self.work();
        let at = work.receivers.iter().position(|receiver| receiver.id == id);
        let gone = at.map(|at| work.receivers.swap_remove(at));
        drop(work);
        // It may be the last who holds this.
        drop(gone);
    }

    /// Closes it for good: nobody serves receivers any more, and what they show stays as it is. Not
    /// for handlers.
    pub fn end(&self) {
        self.close();
        let gone = std::mem::take(&mut self.work().receivers);
        drop(gone);
    }
}
