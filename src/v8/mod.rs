//! All that the crate knows of V8: which of its memories are alive and where, what it reserves,
//! where it will put a reservation, how it is asked to turn a fault into a trap, what it declines,
//! and when it collects garbage.

pub mod array_bytes;
pub mod collections;
pub mod current;
pub mod declined;
pub mod live_memory;
pub mod placement;
pub mod reservation;
pub mod trap;
