//! Linear memories, and the trick of putting host memory into them.
//!
//! # The trick
//!
//! V8 gives each WebAssembly memory a *reservation*: address space that nothing else may use, most
//! of it inaccessible. Compiled code adds a 32-bit index and a 32-bit offset to the memory's *base*
//! and checks nothing. Whatever that reaches past the memory's end is *guard*; touching it is a
//! fault, which V8's handler turns into a trap.
//!
//! ```text
//!              base                base + byte_length                       base + above_bytes
//!               v                          v                                         v
//!  |   guard    | linear memory, read-write | reserved, may grow      |    guard     |
//!  |<- below -->|   |mmmmmmmm|              |
//!                    ^ a mapping: the same addresses, other pages
//!                   |
//!  region   |.......|mmmmmmmm|.........|   a memfd or a file: pages that many memories can map
//! ```
//!
//! To the kernel an address is one thing and the page behind it another. `mmap(MAP_FIXED)` puts
//! other pages behind addresses that are in use, in one step. Compiled code, V8's bookkeeping and
//! JavaScript's views of the buffer hold addresses, not pages: from the next load on they see the
//! region's bytes. Nothing of V8 is patched, and nothing is copied.
//!
//! # What makes it safe
//!
//! 1. **Only pages of a living memory are replaced.** What changes pages takes a
//!    [`LiveMemory`](crate::v8::live_memory::LiveMemory): base and length as V8 gives them in that
//!    call, by somebody who holds the memory. Only `unsafe` code makes one, and its pages end at
//!    `byte_length`. A page beyond that could be read would be a hole in the sandbox, since nothing
//!    but the guard checks bounds.
//! 2. **A replacement is one step** (`sys::mmap::replace`). Where the kernel removes the old pages
//!    and then has no memory for the new ones, zeros fill the hole at once; where they can't, the
//!    process ends. Nothing runs on with a hole.
//! 3. **Read-only mappings are copy-on-write underneath.** V8 grows a memory with `mprotect(READ |
//!    WRITE)` over all of it, our mappings included. They lose their protection then, but the
//!    region stays as it is, and the next call protects them again (`protect.rs`).
//! 4. **Faults have an end.** `fault/` handles a write to a read-only page, or a page that its file
//!    has lost.
//! 5. **Nothing here keeps a memory alive**, and nothing touches it without a `LiveMemory`.
//!
//! # A memory that moves, and a base that comes back
//!
//! V8 may copy a memory to another place when it grows: always where it has no guards, and V8 11
//! also where `mprotect` fails. Its mappings are lost then: what is at the new place are copies,
//! and the old place may be another memory's by now. So each call compares the base that V8 gives
//! with the table's ([`Memory::check_base`]). A memory may also move away and back between two
//! calls: after a growth, the kernel is asked whether the mappings are still there
//! ([`Memory::is_still_at`]).
//!
//! A shared memory has a JavaScript object in each worker, all over one base. They share one
//! mapping table, found by the base (`registry.rs`). But V8 may give the base of a dead memory to a
//! new one before anybody told us of the death. So a table that is found is not believed before the
//! kernel was asked for its mappings (`presence.rs`): when a memory dies V8 unmaps the whole
//! reservation, our pages included, and a table whose mappings are gone is a dead memory's. Nothing
//! proves whose a table without mappings is. It holds only free space, which is forgotten.
//!
//! # Where things are
//!
//! Bottom up; no file uses one that is further down.
//!
//! ```text
//! leased, image           files and images that own pages show   } data
//! window_state            what windows show                      }
//! free_space, table      which ranges are mappings, or free     }
//! state                  all that is known of one memory, and its lock
//! presence               whether the kernel still has the mappings
//! protect                read-only mappings that lost their protection
//! place                  where a mapping may be, and what may be mapped
//! pass, ahead            what is mapped just before a module reads it
//! handle                 a handle on a memory: what operations begin with
//! prefetch, map, unmap   the operations on mappings
//! adopt                  buffers whose pages are moved in, and back
//! registry               which memory is at which base
//! survey                 what is known of all of them, to be looked at
//! ```
//!
//! `impl Memory` is in this room alone. Windows and snapshots are built on what it offers: a lock
//! ([`Memory::lock_at`]), the state that it protects, the pages of a span ([`place::pages_of`]),
//! and registration with the fault guard ([`Memory::register`]).

pub mod adopt;
mod ahead;
mod free_space;
mod handle;
pub(crate) mod image;
pub(crate) mod leased;
mod map;
mod pass;
pub(crate) mod place;
mod prefetch;
mod presence;
mod protect;
mod registry;
mod state;
pub mod survey;
pub mod table;
mod unmap;
pub mod window_state;

pub use handle::Memory;
pub use map::Populate;
pub(crate) use registry::for_each_showing;
pub use registry::may_be_linear;
pub use state::Mapped;
pub(crate) use state::{Held, ShownFile, State, next_mapping_id};
