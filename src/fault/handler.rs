//! From a signal to a page: what happens when an access to a guarded range faults.
//!
//! ```text
//!  1  sys::signal   The kernel calls our handler, which tells what kind of fault it is, at which address.
//!  2  on_fault      V8's probe? Then V8 takes it (v8::trap).
//!  3  range::find   Which range is registered for the address? If none, or the page is not its
//!                   own: does the memory show a snapshot's file there?
//!  4  gate          Is its owner, or another handler, changing its pages? Then the access is done again.
//!  5  by_proof      Where the process's map is text: can single system calls decide?
//!  6  process_map   Which VMA is there now, and are its pages those that we put there?
//!  7  stray         SIGSEGV: V8 traps, or the page becomes copy-on-write.
//!     missing       SIGBUS: V8 traps, or zeros take the page's place.
//!     paged         SIGBUS of a paged region: the chunk is shown, or the thread waits.
//!  8  outcome       The fault is counted, and reported once for each mapping.
//!  9  stale         Not ours: has another thread removed what the access met? Then it is done again.
//! 10  sys::signal   Else the fault goes to the handler that was there before.
//! ```
//!
//! # What may run here
//!
//! A handler may interrupt any instruction of any thread, one that holds the allocator's lock
//! included. Everything that [`on_fault`] reaches keeps these rules:
//!
//! - It takes no lock. The registry is read without one (`registry`), a closed gate sends the
//!   access back (`gate`), and readers of the process's map claim a descriptor by a flag or open
//!   their own (`sys::process_map`).
//! - It waits for nobody, but for a chunk of a paged region (below).
//! - It allocates nothing. Buffers are on the stack, at most 5 KiB (`v8::trap`), or static.
//! - It does not panic, which would end the process. Arithmetic is checked, and bails out to "not
//!   ours", or wraps with a reason; table slots are masked (`stale`).
//! - It calls nothing but async-signal-safe functions and raw system calls; `sys` says in each file
//!   which functions handlers may call. `sys::signal` saves and restores errno.
//! - What it needs is opened, and lazy values are computed, before the handler is installed
//!   (`install`).
//!
//! # Where it waits
//!
//! A touch of a chunk that is not there waits until a provider's thread has filled it, or for as
//! long as the region's owner allows (`paging::Waiting`). It waits in [`on_fault`] alone: outside
//! of the gate, through which chunks are evicted and ranges unmapped, and outside of the registry,
//! whose readers keep old versions alive. The pager is counted as used before the gate is left.
//!
//! What a thread holds while it waits, the provider must do without:
//! - The provider's own thread does not wait, nor does any thread once the provider is gone.
//! - Our native calls touch no page of a paged region under a lock, but where a snapshot writes
//!   pages of a private mapping. It holds the lock of that memory alone, and a provider needs none
//!   of a memory. To fill a chunk takes the pager's lock, which nobody holds who touches pages: the
//!   kernel reads the source, and gives EFAULT. To evict one goes through gates, which are closed
//!   for a few system calls. Buffers over such a region are not adopted.
//! - Threads of libuv's pool don't wait while the provider needs one of them and none is left: the
//!   provider's thread notices that (lib/paging/pool-watch.js).
//! - What other code holds is not known. So every wait ends after a time, and the touch fails.
//!
//! Other signals are handled while it waits, and it goes on waiting.
//!
//! Builds with the feature `inject` break the first rule: `inject::trip` takes a lock. They are for
//! tests, which inject failures into faults of their own thread.

use super::outcome::Verdict;
use super::range::{self, GuardedRange};
use super::{by_proof, missing, paged, stale, stray};
use crate::paging::{Ended, Waiting};
use crate::sys::fault_info::{Fault, FaultKind, Signal};
use crate::sys::{process_map, thread};
use crate::v8::trap;

/// True: the thread may go on. False: the fault is somebody else's.
pub(super) fn on_fault(fault: &Fault) -> bool {
    // The probe's fault is on an address of V8's guard, which may not be accessed at all: that is a
    // fault of protection, too.
    if fault.kind == FaultKind::Other {
        return false;
    }
    if fault.signal == Signal::Segv && trap::probe(fault) {
        return true;
    }
    let (found, verdict) = match by_range(fault, None) {
        // Here, where nothing is held that others wait for.
        (_, Verdict::Wait(waiting)) => match waiting.wait() {
            Ended::Present => return true,
            Ended::Failed => in_vain(fault, &waiting),
        },
        other => other,
    };
    match verdict {
        Verdict::Handled => true,
        // It shows another chunk by now, where it waited for one.
        Verdict::Again | Verdict::Wait(_) => {
            // Here, where nothing is held that others wait for.
            thread::yield_now();
            true
        }
        Verdict::NotOurs => stale::is_stale(fault, found),
    }
}

/// How often a touch that has failed tries to come in, before its chunk is asked for anew.
const MOST_LOOKS: usize = 1000;

/// A touch that has waited in vain: it fails, unless its range shows something else by now.
fn in_vain(fault: &Fault, waiting: &Waiting) -> (u64, Verdict) {
    for _ in 0..MOST_LOOKS {
        match by_range(fault, Some(waiting)) {
            (_, Verdict::Again) => thread::yield_now(),
            other => return other,
        }
    }
    (0, Verdict::Again)
}

/// By all that is registered for the address.
/// `waited`: what this fault has waited for, in vain.
fn by_range(fault: &Fault, waited: Option<&Waiting>) -> (u64, Verdict) {
    let look = |range: &GuardedRange| enter(range, fault, waited);
    let (found, verdict) = range::find(fault.address, look);
    match verdict {
        Verdict::NotOurs => (found, range::find_image(fault.address, look)),
        verdict => (found, verdict),
    }
}

fn enter(range: &GuardedRange, fault: &Fault, waited: Option<&Waiting>) -> Verdict {
    range.gate.enter(|| handle(range, fault, waited)).unwrap_or(Verdict::Again)
}

fn handle(range: &GuardedRange, fault: &Fault, waited: Option<&Waiting>) -> Verdict {
    if process_map::is_text_in_handler()
        && let Some(is_handled) = by_proof::handle(range, fault)
    {
        return handled(is_handled);
    }
    let vma = process_map::holding_in_handler(fault.address)
        .filter(|vma| range.is_ours(vma, fault.address));
    let Some(vma) = vma else { return Verdict::NotOurs };
    match (fault.signal, range.pager()) {
        (Signal::Segv, _) => handled(stray::handle(range, fault, &vma)),
        (Signal::Bus, Some(pager)) if fault.kind == FaultKind::Unavailable => {
            paged::handle(range, pager, fault, &vma, waited)
        }
        (Signal::Bus, _) => handled(missing::handle(range, fault, &vma)),
    }
}

fn handled(is_handled: bool) -> Verdict {
    if is_handled { Verdict::Handled } else { Verdict::NotOurs }
}
