//! Host regions: bytes that the host owns, behind a file descriptor, so that the kernel can map the
//! same pages at many addresses.
//!
//! ```text
//!  memfd  |bbbbbbbbbbbbbbbbbbbbbbbb|            sealed: it never shrinks or grows
//!  file   |........[bbbbbbbbbbbbbb]......|      a region may be a part of a file
//!                  ^ file_offset   ^ file_offset + byte_length
//! ```
//!
//! A region is the descriptor and no mapping. Mappings in memories, and views for JavaScript, are
//! made from it and outlive it: the kernel keeps the pages as long as they are mapped.
//!
//! Bottom up; a file uses those above it in this list:
//!
//! - `backing`: the descriptor, and whole pages of what it refers to
//! - `path`: opening a regular file by its path; parts of files
//! - `thp`: huge pages for memfds
//! - `mirror`: all pages of a region mapped once, so that slides are one call
//! - `view`: a mapping for an `ArrayBuffer`
//! - `view_list`: the views of a region that somebody may hold
//! - `host_region`: the region itself, its state and its questions
//! - `pages`: whole pages of a region, to be mapped
//! - `views`: the views of a region, and its seal
//! - `write`: bytes of the process into a region
//! - `allocate`, `open`, `load`, `fill`: how regions are made
//! - `paged`: regions whose bytes come from a provider
//! - `offer`: sharing a region
//!
//! Nothing here touches a linear memory: that is `memory/`.

mod allocate;
mod backing;
mod fill;
mod host_region;
mod load;
pub mod mirror;
mod offer;
mod open;
mod paged;
mod pages;
mod path;
pub mod thp;
mod view;
mod view_list;
mod views;
mod write;

pub use backing::{Backing, keep_out_of_dumps};
pub use fill::Filling;
pub use host_region::Region;
pub use load::{LoadProgress, load};
pub(crate) use open::try_to_map;
pub use pages::RegionPages;
pub use path::Part;
pub(crate) use path::{not_opened, open_regular};
pub use view::{AtClose, View};
pub use view_list::{Held, ViewList};
