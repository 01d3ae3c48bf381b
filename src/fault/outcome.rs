//! How the handling of a fault ends: in a trap, on a private page, or in zeros. Each way is counted
//! and reported here.
//!
//! Handlers run all of it: nothing here may allocate, lock or panic.

use super::counts::{Cause, Outcome};
use super::range::GuardedRange;
use super::report::{self, Event};
use super::totals;
use crate::paging::Waiting;
use crate::sys::fault_info::Fault;
use crate::v8::trap;
use std::sync::atomic::Ordering;

/// What is to be done about a fault.
#[derive(Debug, Default)]
pub(super) enum Verdict {
    #[default]
    NotOurs,
    /// The thread goes on: at the same instruction, or in V8's trap.
    Handled,
    /// The access is done again when another thread has done its work.
    Again,
    /// The access is done again when its chunk has come.
    Wait(Waiting),
}

/// Offers V8 the fault. True: it takes it, and the module traps.
pub(super) fn trap(range: &GuardedRange, fault: &Fault, cause: Cause) -> bool {
    if !trap::offer(fault) {
        return false;
    }
    // A trap of a stray write is counted by nobody: the module learns of it.
    if cause != Cause::Readonly {
        range.spec.counts.add_faults(1);
    }
    range.note(fault, cause, Outcome::Trap);
    totals::add(cause, Outcome::Trap);
    true
}

/// The write goes to a private page.
pub(super) fn private_page(range: &GuardedRange, fault: &Fault) {
    range.spec.counts.add_stray_write();
    range.note(fault, Cause::Readonly, Outcome::PrivatePage);
    totals::add(Cause::Readonly, Outcome::PrivatePage);
    lost_protection(range);
    report::raise(range, Event::StrayWrite);
}

/// The access goes to zeros.
pub(super) fn zeros(range: &GuardedRange, fault: &Fault, cause: Cause) {
    range.spec.counts.add_faults(1);
    range.note(fault, cause, Outcome::Zeros);
    totals::add(cause, Outcome::Zeros);
    report::raise(range, Event::MissingPage);
}

/// The access past a window's end goes to the zeros that are there, which are writable now.
pub(super) fn past_end(range: &GuardedRange, fault: &Fault) {
    range.spec.counts.add_faults(1);
    range.note(fault, Cause::PastEnd, Outcome::Zeros);
    totals::add(Cause::PastEnd, Outcome::Zeros);
    lost_protection(range);
    report::raise(range, Event::PastEnd);
}

fn lost_protection(range: &GuardedRange) {
    // After the page lost its protection: the thread that clears these protects it again. The
    // range's own first, since the memory's is looked at first.
    range.unprotected.store(true, Ordering::Release);
    range.spec.unprotected.store(true, Ordering::Release);
}
