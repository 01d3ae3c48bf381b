//! The crate: hostmap.rs, which may as well be dropped into another crate.

#![no_std]

#[path = "hostmap.rs"]
pub mod hostmap;

pub use hostmap::*;
