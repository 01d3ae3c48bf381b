//! Lists and sums whose size depends on the module. If there is no memory for a list, the caller
//! gets an error and the process goes on. The other files of this room allocate through here.

use crate::error::{ModuleError, Result};
use crate::sys::inject;
use nix::errno::Errno;
use std::ops::Range;

/// Reserves room for so many more items.
pub(super) fn reserve<T>(list: &mut Vec<T>, more: usize) -> Result<()> {
    inject::trip("malloc").map_err(|sys| ModuleError::NoMemory { errno: sys.errno })?;
    list.try_reserve(more).map_err(|_| ModuleError::NoMemory { errno: Errno::ENOMEM }.into())
}

/// Appends an item.
pub(super) fn push<T>(list: &mut Vec<T>, item: T) -> Result<()> {
    if list.len() == list.capacity() {
        reserve(list, 1)?;
    }
    list.push(item);
    Ok(())
}

/// Checks that `times` as many bytes can be allocated, and frees them again. Libraries end the
/// process if they find no memory, so call this before they read or write `byte_length` bytes.
pub(super) fn room_for(byte_length: usize, times: usize) -> Result<()> {
    let byte_length = byte_length.checked_mul(times).expect("a module has less than 2^31 bytes");
    reserve(&mut Vec::<u8>::new(), byte_length)
}

/// Adds one. Each thing that is counted takes a byte of the module, which has less than 2^31.
pub(super) fn count(number: &mut u32) {
    *number = plus(*number, 1);
}

/// The sum of two counts or indices of a module's things. Each thing takes a byte of the module, so
/// either is less than 2^31.
pub(super) fn plus(number: u32, more: u32) -> u32 {
    number.checked_add(more).expect("there are no more things than bytes")
}

/// The sum of lengths of things that are in memory.
pub(super) fn sum<const N: usize>(lengths: [usize; N]) -> usize {
    lengths
        .into_iter()
        .try_fold(0, usize::checked_add)
        .expect("what is in memory has no more bytes than there are addresses")
}

/// A part of the module, by offsets from wasmparser.
pub(super) fn slice<'a>(bytes: &'a [u8], range: &Range<u64>) -> Result<&'a [u8]> {
    let start = usize::try_from(range.start).ok();
    let end = usize::try_from(range.end).ok();
    start
        .zip(end)
        .and_then(|(start, end)| bytes.get(start..end))
        .ok_or(ModuleError::CutSection.into())
}
