//! Regions whose bytes come from a provider: which chunks are there, and waiting for one.
//!
//! ```text
//!  memfd   |pppp|....|pppp|....|....|pp|      p: present; the rest are holes, which raise SIGBUS
//!  words   |  P |  R |  P |  M |  M | P|      one for each chunk: Present, Requested, Missing
//!
//!  the thread that touches a hole                  the provider's thread, in Node
//!    handler: Missing -> Requested
//!    sends the chunk's number through a socket --> asks the provider
//!    waits for the bell                            fills the chunk, Requested -> Present
//!    does the access again                     <-- rings the bell
//! ```
//!
//! What makes a hole raise SIGBUS is one of two ways (`way`): userfaultfd, or pages of an empty
//! file, in whose place the handler puts the memfd's as they come to be present.
//!
//! A handler waits outside of all locks and gates, so the pager must outlive the range that it was
//! found by: handlers are counted, and a pager is freed when nobody holds it and no handler is left
//! (`list`).
//!
//! Bottom up:
//!
//! ```text
//! word      a chunk's state and failures, in 32 bits
//! way       mapping pages that raise SIGBUS, and filling chunks
//! counts    what happened, in numbers
//! pager     all that is known of one region's chunks
//! waiting   what a handler does
//! list      all pagers, and who holds them
//! ```

mod counts;
mod list;
mod pager;
mod waiting;
mod way;
mod word;

pub use counts::Counted;
pub use list::{By, Hold, close_made, find};
pub use pager::{Eviction, Pager, Provided, Spec};
pub use waiting::{Ended, Waiting, pool_waits};
pub use word::State;
