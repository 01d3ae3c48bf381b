//! What comes before the words of a region: what other processes must know of it. Its owner writes
//! it; the kernel lets nobody else.

use super::spec::{MOST_CHUNKS, Spec};
use crate::sys::checked_fd::CheckedFd;
use crate::sys::page::PageAligned;
use crate::sys::words::Words;
use crate::sys::{SysError, SysResult, file, memfd as sys_memfd, process, to_usize};
use nix::errno::Errno;
use std::os::fd::{AsFd, OwnedFd};

/// 1: no chunk comes any more.
pub(super) const CLOSED: usize = 1;
/// The thread whose touches fail at once; 0: none yet.
pub(super) const SERVER: usize = 2;
/// How many chunks are there.
pub(super) const PRESENT: usize = 3;
/// 1: touches by threads without JavaScript fail at once, in the owner's process.
pub(super) const REFUSES_POOL: usize = 12;
const MARK: usize = 4;
const DEVICE: usize = 5;
const INODE: usize = 6;
const BYTE_LENGTH: usize = 7;
const CHUNK_BYTES: usize = 8;
const TIMEOUT: usize = 9;
const BY_USERFAULT: usize = 10;
const PID: usize = 11;

/// With a version.
const MARKED: u64 = u64::from_le_bytes(*b"hostmap1");

/// Whether a thread serves what this process has opened, by its number.
pub(super) fn is_of_this_process(words: &Words) -> bool {
    words.number(PID) == u64::from(process::id())
}

/// `memfd`: what the words are of.
pub(super) fn write(words: &Words, spec: &Spec, is_userfault: bool, memfd: &CheckedFd) {
    words.set_number(MARK, MARKED);
    words.set_number(DEVICE, memfd.device());
    words.set_number(INODE, memfd.inode());
    words.set_number(BYTE_LENGTH, spec.byte_length);
    words.set_number(CHUNK_BYTES, spec.chunk_bytes);
    words.set_number(TIMEOUT, spec.timeout_milliseconds.into());
    words.set_number(BY_USERFAULT, is_userfault.into());
    words.set_number(PID, process::id().into());
}

/// The words of another process, and what they say of the region that `memfd` has. `by_userfault`
/// is whether its owner fills chunks that way.
pub(super) fn read(fd: &OwnedFd, byte_length: u64, memfd: &CheckedFd) -> SysResult<(Words, Spec)> {
    let other = SysError::new("mmap", Errno::EBADMSG);
    // Before anything is read: a read of another kind of file can take for ever.
    if !sys_memfd::is_memfd(fd.as_fd()) {
        return Err(other);
    }
    let mut number = [0; 8];
    let at = to_usize(8).wrapping_mul(CHUNK_BYTES);
    file::read_up_to(fd, crate::sys::to_u64(at), &mut number)?;
    let chunk_bytes = u64::from_le_bytes(number);
    let is_one = PageAligned::new(chunk_bytes).is_some_and(|bytes| bytes.get() > 0);
    let count = byte_length.checked_div(chunk_bytes).filter(|_| is_one).ok_or(other)?;
    let count = count.wrapping_add(u64::from(!byte_length.is_multiple_of(chunk_bytes)));
    if count > MOST_CHUNKS {
        return Err(other);
    }
    let words = Words::open(fd.as_fd(), count)?;
    let is_it = words.number(MARK) == MARKED
        && words.number(DEVICE) == memfd.device()
        && words.number(INODE) == memfd.inode()
        && words.number(BYTE_LENGTH) == byte_length
        && words.number(CHUNK_BYTES) == chunk_bytes;
    let timeout_milliseconds = u32::try_from(words.number(TIMEOUT)).map_err(|_| other)?;
    if !is_it {
        return Err(other);
    }
    let by_userfault = Some(words.number(BY_USERFAULT) != 0);
    Ok((words, Spec { byte_length, chunk_bytes, timeout_milliseconds, by_userfault }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::checked_fd::Description;

    /// Of a pipe nothing can be read at an offset, which would be another error.
    #[test]
    fn words_that_are_no_memfd_are_refused_before_they_are_read() {
        let (read_end, _write_end) = nix::unistd::pipe().unwrap();
        let memfd = sys_memfd::create("head", 1 << 16).unwrap();
        let memfd = CheckedFd::new(memfd, Description::Ours).unwrap();
        let refused = read(&read_end, 1 << 16, &memfd).err().unwrap();
        assert_eq!(refused.errno, Errno::EBADMSG);
    }
}
