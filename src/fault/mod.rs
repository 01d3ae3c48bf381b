//! The fault guard: what happens when an access to one of our mappings faults.
//!
//! A *stray write* hits a read-only page (SIGSEGV). A *missing page* is one whose contents can't be
//! had (SIGBUS): its file was made shorter, the disk failed, or there is no memory. Without a
//! handler each ends the process. With ours:
//!
//! ```text
//!  the thread was in                            what happens
//!  Wasm, a load or store that V8 can trap       V8 makes it a RuntimeError, which the caller can catch
//!  Wasm otherwise (memory.fill, atomics, ...)   the page is changed, and the access is done again:
//!  JavaScript, C++ of V8 or Node                  stray write    it becomes copy-on-write; the region stays as it is
//!                                                 missing page   zeros take its place
//! ```
//!
//! The program does not notice the second way, so it is counted, and reported once for each
//! mapping. A mapping that lost its protection gets it back at the next call into the library.
//! Every other fault goes to the handler that was there before, so a real crash crashes as it did.
//!
//! # What a handler may believe
//!
//! The registry says what we mapped at an address, and may be out of date: V8 unmaps a memory that
//! dies before anybody tells us, and something else may be at the address by now. So before a page
//! is changed the kernel is asked what is there, or the range has a [`Proof`]. While its owner
//! changes pages, [`Registration::pause`] keeps handlers out. And a fault may be out of date
//! itself, since another thread may have unmapped what was there: then the access is done again
//! (`stale`).
//!
//! # Where to start
//!
//! `handler` tells the way of a fault, from the signal to the page, and the rules for everything
//! that runs in a signal handler. `registration` is what the rest of the crate calls. Bottom up:
//!
//! ```text
//! registry            address ranges, readable in a handler
//! shards              registries side by side, each with a lock of its own
//! shown_pager         who brings in the pages that a range shows
//! gate                a range's owner, or one handler at a time
//! counts, zeros       what is counted; pages of zeros
//! range               a guarded range, and all of them
//! totals              the faults of the whole process
//! report, stale       telling the program; faults on what is no longer there
//! turns               threads that look for reports by themselves
//! outcome, changes    how a fault ends; the changes to pages
//! stray, missing      SIGSEGV and SIGBUS, by the process's map
//! paged               SIGBUS of what a provider brings in
//! by_proof            both, without the map
//! handler, install    the way of a fault
//! registration        the owner's side
//! provided            the provider's side
//! ```

mod by_proof;
mod changes;
mod counts;
mod gate;
mod handler;
mod install;
mod missing;
mod outcome;
mod paged;
mod provided;
mod range;
mod registration;
mod registry;
mod report;
mod shards;
mod shown_pager;
mod stale;
mod stray;
pub mod totals;
pub mod turns;
mod zeros;

pub use counts::{Cause, Counts, LastFault, Outcome};
pub use install::ensure;
pub use provided::{evict, provide, show, shows_paged};
pub use range::{Proof, RangeSpec, Shown};
pub use registration::Registration;
pub use report::{REPORTS, Report, listen, take_reports};
pub use zeros::{is_zeros, show_past_end};
