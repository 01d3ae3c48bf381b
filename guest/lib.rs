//! hostmap.rs as a crate. The file can also be copied into another crate.

#![no_std]

#[path = "hostmap.rs"]
pub mod hostmap;

pub use hostmap::*;
