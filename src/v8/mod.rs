//! What we know of V8, and nothing else does: where it will put a reservation, and how it is asked to
//! turn a fault into a trap.

pub mod placement;
pub mod trap;
