//! Telling a program what handlers have done to its mappings: once for each event of a mapping, on
//! the thread that made it.
//!
//! A handler only sets bits and wakes a thread, or leaves a mark for its own ([`raise`]). All else
//! here is not for handlers.

use super::counts::{Cause, LastFault};
use super::range::{self, GuardedRange};
use super::turns;
use crate::access::Access;
use crate::sys::lock::{Level, Lock};
use crate::sys::page::PageAligned;
use crate::sys::thread as sys_thread;
use crate::sys::wake::Wake;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, ThreadId};

/// Called when there is something to report.
pub static REPORTS: Wake = Wake::new();

/// How many events of guarded ranges were not reported yet.
static UNREPORTED: AtomicU64 = AtomicU64::new(0);

/// What is worth a report: bits of `GuardedRange::happened`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Event {
    StrayWrite = 1,
    MissingPage = 2,
    PastEnd = 4,
}

/// What a program is told of a mapping or view.
#[derive(Debug, Clone)]
pub struct Report {
    pub stray_write: bool,
    pub missing_page: bool,
    pub past_end: bool,
    pub is_window: bool,
    /// It was a memory that shows the snapshot of this name.
    pub is_image: bool,
    pub region_name: Arc<str>,
    /// `None`: it was a view.
    pub memory_offset: Option<u64>,
    pub byte_length: u64,
    pub access: Access,
    /// The last fault, if it belongs to the events of this report.
    pub last: Option<LastFault>,
    owner: ThreadId,
}

/// Says that something happened to a range. Safe in a handler.
pub(super) fn raise(range: &GuardedRange, event: Event) {
    if range.happened.fetch_or(event as u8, Ordering::AcqRel) & event as u8 == 0 {
        UNREPORTED.fetch_add(1, Ordering::AcqRel);
        // Where the owner itself has the fault, and its loop will look, nobody has to be woken.
        if range.owner_address != sys_thread::address() || !turns::leave_mark() {
            REPORTS.call();
        }
    }
}

/// Whether something happened that was not reported.
pub(super) fn has_unreported(range: &GuardedRange) -> bool {
    let happened = range.happened.load(Ordering::Acquire);
    happened & !range.reported.load(Ordering::Acquire) != 0
}

/// What happened and was not reported; it counts as reported then.
fn take_report(range: &GuardedRange) -> Option<Report> {
    let happened = range.happened.load(Ordering::Acquire);
    let new = happened & !range.reported.fetch_or(happened, Ordering::AcqRel);
    UNREPORTED.fetch_sub(u64::from(new.count_ones()), Ordering::AcqRel);
    let has = |event: Event| new & event as u8 != 0;
    (new != 0).then(|| Report {
        stray_write: has(Event::StrayWrite),
        missing_page: has(Event::MissingPage),
        past_end: has(Event::PastEnd),
        region_name: range.shown.take_name(),
        is_window: range.spec.is_window,
        is_image: range.spec.is_image,
        memory_offset: range.spec.memory_offset.map(PageAligned::get),
        byte_length: range.spec.span.length().get(),
        access: range.spec.access,
        last: range.spec.counts.last().filter(|last| {
            // Something else may have come after it.
            let event = match last.cause {
                Cause::Readonly => Event::StrayWrite,
                Cause::Unavailable | Cause::BrokenMemory => Event::MissingPage,
                Cause::PastEnd => Event::PastEnd,
            };
            new == event as u8
        }),
        owner: range.owner,
    })
}

/// Threads whose programs listen. What happened to the mappings of all others is told to any of
/// them.
static LISTENERS: Lock<Vec<ThreadId>> = Lock::new(Level::FaultListeners, Vec::new());

/// Whether this thread's program listens from now on.
pub fn listen(listening: bool) {
    let this = thread::current().id();
    let mut listeners = LISTENERS.lock();
    listeners.retain(|thread| *thread != this);
    if listening {
        listeners.push(this);
    }
}

/// Reports of ranges that are no longer guarded.
static LEFT: Lock<Vec<Report>> = Lock::new(Level::FaultsLeft, Vec::new());

const MOST_LEFT: usize = 1000;

/// Keeps what was not reported of a range that is no longer guarded.
pub(super) fn keep_last(range: &GuardedRange) {
    if let Some(report) = take_report(range) {
        let mut left = LEFT.lock();
        // Where nobody listens, they would never be taken.
        if left.len() < MOST_LEFT && left.try_reserve(1).is_ok() {
            left.push(report);
        }
    }
}

/// What happened to ranges of this thread, or of a thread that does not listen. Cost: a look at
/// each guarded range.
pub fn take_reports() -> Vec<Report> {
    let this = thread::current().id();
    let listeners = LISTENERS.lock().clone();
    let is_mine = |owner: ThreadId| owner == this || !listeners.contains(&owner);
    let mut reports: Vec<Report> = {
        let mut left = LEFT.lock();
        left.extract_if(.., |report| is_mine(report.owner)).collect()
    };
    if UNREPORTED.load(Ordering::Acquire) > 0 {
        range::for_each(|range| {
            // What there is no room for stays unreported until the next time.
            if is_mine(range.owner) && reports.try_reserve(1).is_ok() {
                reports.extend(take_report(range));
            }
        });
    }
    reports
}
