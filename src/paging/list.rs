//! All pagers of the process, and who holds them.
//!
//! The list has a share of each pager. Regions and guarded ranges hold it: when the last of them
//! lets go, nobody can touch the region any more, and the pager is closed. It is freed when no
//! handler uses it either. New uses begin inside the gate of a range that holds it, and a range
//! lets go after its gate was closed for good: so once there are no holders, the users only become
//! fewer.

use super::pager::{Pager, Sent};
use super::spec::Spec;
use crate::error::Result;
use crate::sys::alloc;
use crate::sys::checked_fd::CheckedFd;
use crate::sys::lock::{Guard, Level, Lock};
use crate::sys::thread;
use std::ops::Deref;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

static PAGERS: Lock<Vec<Made>> = Lock::new(Level::Pagers, Vec::new());

struct Made {
    pager: Arc<Pager>,
    /// The thread that has made it.
    by: usize,
}

fn pagers() -> Guard<'static, Vec<Made>> {
    PAGERS.lock()
}

/// A pager by its number. `None`: nobody holds it any more.
///
/// Frees what handlers used when its last holder let go: they can't do it.
pub fn find(id: u64) -> Option<Arc<Pager>> {
    sweep(None);
    let is_held =
        |made: &&Made| made.pager.id() == id && made.pager.holders.load(Ordering::Acquire) > 0;
    pagers().iter().find(is_held).map(|made| Arc::clone(&made.pager))
}

/// Closes the pagers that this thread has made, or all of the process, even if they are still held:
/// a mapping may outlive its region.
pub fn close_made(by: By) {
    let this = thread::address();
    // Handlers don't take the lock, so nobody who is woken waits for it.
    pagers().iter().filter(|made| by == By::All || made.by == this).for_each(|it| it.pager.close());
}

/// Whose pagers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    ThisThread,
    All,
}

/// Keeps a pager: for a region, or a range that shows it. Not for handlers.
#[derive(Debug)]
pub struct Hold(Arc<Pager>);

impl Hold {
    /// With the end of the socket that is the provider's.
    pub fn new(spec: Spec, name: &Arc<str>, memfd: &Arc<CheckedFd>) -> Result<(Self, OwnedFd)> {
        sweep(None);
        let (pager, receiver) = Pager::new(spec, name, memfd)?;
        Ok((Self::of(pager)?, receiver))
    }

    /// Of a region that another process has sent.
    pub fn received(
        name: &Arc<str>,
        memfd: &Arc<CheckedFd>,
        byte_length: u64,
        sent: Sent,
        by_userfault: bool,
    ) -> Result<Self> {
        sweep(None);
        Self::of(Pager::received(name, memfd, byte_length, sent, by_userfault)?)
    }

    fn of(pager: Pager) -> Result<Self> {
        let pager = Arc::new(pager);
        let made = Made { pager: Arc::clone(&pager), by: thread::address() };
        alloc::push(&mut *pagers(), made)?;
        pager.holders.fetch_add(1, Ordering::AcqRel);
        Ok(Self(pager))
    }
}

impl Clone for Hold {
    fn clone(&self) -> Self {
        self.0.holders.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(&self.0))
    }
}

impl Deref for Hold {
    type Target = Pager;

    fn deref(&self) -> &Pager {
        &self.0
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if self.0.holders.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.close();
            sweep(Some(&self.0));
        }
    }
}

/// Frees what nobody holds and no handler uses. `own`: a pager of which the caller has a share, and
/// will drop it.
fn sweep(own: Option<&Arc<Pager>>) {
    let mut freed = Vec::new();
    let mut all = pagers();
    all.retain(|Made { pager, .. }| {
        if pager.holders.load(Ordering::Acquire) > 0 || pager.users.load(Ordering::Acquire) > 0 {
            return true;
        }
        let shares = if own.is_some_and(|own| Arc::ptr_eq(own, pager)) { 2 } else { 1 };
        // More: a call has found it by its number, and the next sweep takes it.
        if Arc::strong_count(pager) > shares || freed.try_reserve(1).is_err() {
            return true;
        }
        freed.push(Arc::clone(pager));
        false
    });
    drop(all);
}
