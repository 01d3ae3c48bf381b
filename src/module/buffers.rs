//! Lists and numbers whose size a module decides. Memory for them is an error where there is none,
//! and never the end of the process. Nothing else in this room reserves memory.

use crate::error::{ModuleError, Result};
use crate::sys::inject;
use nix::errno::Errno;
use std::ops::Range;

/// Room for so many more items: what a module asks for may be more than there is.
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

/// What libraries allocate while they read or write so many bytes can't fail but by ending the
/// process. So room for `times` as much is taken here once, and given back.
pub(super) fn room_for(byte_length: usize, times: usize) -> Result<()> {
    let byte_length = byte_length.checked_mul(times).expect("a module has less than 2^31 bytes");
    reserve(&mut Vec::<u8>::new(), byte_length)
}

/// Counts one more. Whatever is counted takes a byte of the module, which has less than 2^31.
pub(super) fn count(number: &mut u32) {
    *number = plus(*number, 1);
}

/// The sum of two counts or indices of a module's things. Each thing takes a byte of the module, so
/// either is less than 2^31.
pub(super) fn plus(number: u32, more: u32) -> u32 {
    number.checked_add(more).expect("there are no more things than bytes")
}

/// The sum of lengths, each of something that is in memory or follows from a module that is.
pub(super) fn sum<const N: usize>(lengths: [usize; N]) -> usize {
    lengths
        .into_iter()
        .try_fold(0, usize::checked_add)
        .expect("what is in memory has no more bytes than there are addresses")
}

/// A part of the module, by offsets that its reader gave.
pub(super) fn slice<'a>(bytes: &'a [u8], range: &Range<u64>) -> Result<&'a [u8]> {
    let start = usize::try_from(range.start).ok();
    let end = usize::try_from(range.end).ok();
    start
        .zip(end)
        .and_then(|(start, end)| bytes.get(start..end))
        .ok_or(ModuleError::CutSection.into())
}
