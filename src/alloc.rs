//! Memory whose size input decides: asked for in a way that can be refused.
//!
//! An allocation that fails ends the process, unless it is made by `try_reserve`. So vectors, strings and buffers that a file, a
//! caller or the process's map makes large come from here, and `clippy.toml` refuses the ways around it.

use crate::error::{Code, Error};
use crate::sys::SysError;
use nix::errno::Errno;
use std::collections::TryReserveError;

/// The process has no memory for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused;

impl From<TryReserveError> for Refused {
    fn from(_: TryReserveError) -> Self {
        Self
    }
}

impl From<Refused> for SysError {
    fn from(_: Refused) -> Self {
        Self::new("malloc", Errno::ENOMEM)
    }
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        let message = "the process has no memory for what this call must keep; free some, or raise the limit";
        Self { sys: Some(refused.into()), ..Self::new(Code::OutOfMemory, message) }
    }
}

/// An empty vector with room for so many.
pub fn with_room<T>(count: usize) -> Result<Vec<T>, Refused> {
    let mut vec = Vec::new();
    vec.try_reserve_exact(count)?;
    Ok(vec)
}

/// So many zero bytes.
pub fn zeroed(length: usize) -> Result<Vec<u8>, Refused> {
    let mut bytes = with_room(length)?;
    // Within its capacity.
    bytes.resize(length, 0);
    Ok(bytes)
}

/// A copy of a slice.
pub fn copied<T: Clone>(items: &[T]) -> Result<Vec<T>, Refused> {
    let mut vec = with_room(items.len())?;
    // Within its capacity.
    vec.extend_from_slice(items);
    Ok(vec)
}

/// A copy of a text.
pub fn text(text: &str) -> Result<String, Refused> {
    let mut owned = String::new();
    owned.try_reserve_exact(text.len())?;
    owned.push_str(text);
    Ok(owned)
}

/// What an iterator gives.
pub fn collected<T>(items: impl IntoIterator<Item = T>) -> Result<Vec<T>, Refused> {
    let items = items.into_iter();
    let mut vec = with_room(items.size_hint().0)?;
    for item in items {
        push(&mut vec, item)?;
    }
    Ok(vec)
}

/// [`Vec::push`].
pub fn push<T>(vec: &mut Vec<T>, item: T) -> Result<(), Refused> {
    vec.try_reserve(1)?;
    vec.push(item);
    Ok(())
}
