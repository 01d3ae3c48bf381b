//! Mappings, and replacing the pages of an address range without ever leaving a hole.
//!
//! # A hole is the one thing that must not happen
//!
//! A linear memory is in a reservation of V8's: 8 to 16 GiB of address space that nothing else may
//! enter, because compiled Wasm code checks no bounds and trusts the inaccessible pages around the
//! memory. Its pages must be replaced in one step. The next mmap of any thread would fill a hole,
//! with a stack or a heap or somebody's file, and the module could reach it.
//!
//! `mmap(MAP_FIXED)` is such a step when it succeeds. What a failure leaves depends on where in the
//! kernel it happens:
//!
//! ```text
//! before the old pages are removed       nothing has changed
//! in the file's own mmap operation       a hole: the old pages are gone by then, on every kernel up to 6.18 at least
//! no memory for the kernel's own tables  a hole, with mremap too: they are allocated last
//! anywhere else, on kernels before 6.12  a hole: there, the old pages are removed first of all
//! ```
//!
//! So `mmap(MAP_FIXED)` is used where no operation of a file can fail: for zeros, and for private
//! mappings of memfds, on kernels from 6.12 on. Everything else is mapped somewhere else first,
//! where a failure harms nobody, and then moved over the old pages with `mremap(MREMAP_FIXED)`.
//! Moving pages that were never touched allocates next to nothing, and what else can fail (the
//! number of VMAs) is checked before the old pages are removed.
//!
//! What remains is a kernel that has no memory for a VMA of some hundred bytes and can kill no
//! process to get some. Then zeros fill the hole at once (`hole.rs`). Where that fails too, the
//! process ends, since a sandbox with a hole must not go on.
//!
//! # Who may replace pages
//!
//! What changes pages takes an [`OwnedSpan`](crate::sys::owned_span::OwnedSpan), and is safe
//! because of that. Nothing outside of this folder maps, unmaps or protects.
//!
//! # The files
//!
//! ```text
//! pages               what is mapped: data
//! mapping             mappings of our own, where the kernel finds room
//! hole                zeros for a hole
//! strategy, mremap    how pages are replaced on this kernel; moving pages
//! replace             replacing pages
//! movable             whether pages that others mapped can be moved
//! congruent           mappings where huge pages can be mapped as such
//! protect, advise     protection; advice, and dropping pages
//! ```

mod advise;
mod congruent;
mod hole;
mod mapping;
mod movable;
mod mremap;
mod pages;
mod protect;
mod replace;
mod strategy;

pub use advise::{
    Advice, Hint, advise, discard, hint, knows_no_collapse, probe_collapse, probe_populate,
};
pub use mapping::Mmap;
pub use movable::{Unmovable, check_movable};
pub use mremap::{can_mirror, can_move_from, can_move_now, move_from, move_owned};
pub use pages::{Pages, Sharing};
pub use protect::{is_writable, protect_as, protect_readonly, unprotect_private};
pub use replace::{replace, replace_by_own};
pub use strategy::{is_one_step, prepare_for_handler};
