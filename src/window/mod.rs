//! Windows: mappings of a fixed address that slide over regions of any size.
//!
//! ```text
//!  region  |..........[bbbbbbbbbbbb]......................|     300 GB
//!                      |          |  slide: one system call
//!  memory  | heap ... [bbbbbbbbbbbb|tail] ...                   the window: always at the same address
//! ```
//!
//! A slide replaces pages as a mapping does, in one step: from a [mirror](crate::region::mirror)
//! where the region has one, in place where that can't leave a hole. What the window does not show,
//! past a region's end or when it is empty, is its *tail*: zeros, or inaccessible. Only a slide
//! that shows less than the one before needs a second call, which fills the tail.
//!
//! - `open`: a window in a memory
//! - `slide`: what it shows
//! - `stream`, `plan`, `workers`: reading ahead of a stream of slides, and leaving pages behind
//!
//! What a memory must know of its windows is in `memory/window_state.rs`. Nothing here calls the
//! kernel but by `sys/`, and no window is slid without the lock of its memory.

mod open;
mod plan;
mod slide;
mod stream;
mod workers;

pub(crate) use open::open;
pub use open::{open_at, open_in_free_space};
pub(crate) use slide::slide_held;
pub use slide::{Chunk, slide};
pub use stream::Stream;
