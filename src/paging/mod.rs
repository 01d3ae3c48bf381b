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
//! spec      what a pager is made of
//! word      a chunk's state and failures, in 32 bits
//! head      what comes before the words, for other processes
//! way       mapping pages that raise SIGBUS, and filling chunks
//! counts    what happened, in numbers
//! work      what one thread at a time may change
//! pager     all that is known of one region's chunks
//! chunks    what the provider's thread does with them
//! waiting   what a handler does
//! list      all pagers, and who holds them
//! receivers other processes that have the region
//! ```
//!
//! **In another process** a region has a pager of its own, which reads the owner's words and sends
//! numbers to the owner's provider. The kernel lets it write neither words nor chunks through what
//! it is given. It has userfaultfd or not, as the owner may; without it, nothing is taken out while
//! it has the region, since nobody could take that out of its mappings first. When the owner ends,
//! its end of the socket is closed, which those who wait look for.

mod chunks;
mod counts;
mod head;
mod list;
mod pager;
mod receivers;
mod spec;
mod waiting;
mod way;
mod word;
mod work;

pub use chunks::{Eviction, Provided};
pub use counts::Counted;
pub use list::{By, Hold, close_made, find};
pub use pager::{Pager, Sent};
pub use receivers::{Newcomer, admit};
pub use spec::Spec;
pub use waiting::{Ended, Waiting, pool_waits};
pub use word::State;
