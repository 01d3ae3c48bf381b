//! The process's map as text: /proc/self/maps, for kernels before 6.11, and for looking at all
//! VMAs.
//!
//! # How it is read without tearing
//!
//! The kernel keeps in each open file description where a reader is: the address of the next VMA,
//! and the part of the last line that was not fetched yet. A reader that goes on at the offset
//! where it left off gets whole lines, whatever has changed meanwhile. At any other offset the
//! kernel counts bytes from the start through a map that may have changed (`traverse` in
//! fs/seq_file.c), and lines tear. So a description belongs to one reader from its first read to
//! its last. There is a pool of them, each claimed by a flag; a reader that finds all of them
//! claimed opens its own.
//!
//! Calls: open, pread. [`read`] is safe in handlers; what is not says so.

// The kernel writes text to a buffer that handlers use too.
#![allow(unsafe_code)]

use super::kept::KeptFile;
use super::vma::Vma;
use super::{SysError, SysResult, file, inject};
use nix::errno::Errno;
use std::cell::UnsafeCell;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};

const PATH: &std::ffi::CStr = c"/proc/self/maps";

/// So many threads read the text at once before one of them has to open it.
const POOL: usize = 8;

/// The kernel gives at most a page's worth of lines with each call.
const READ_BYTES: usize = 4096;

/// A description of the map, and room for what is read of it.
#[derive(Debug)]
struct Reader {
    map: KeptFile,
    is_claimed: AtomicBool,
    /// For the thread that has set `is_claimed`, until it clears it.
    buffer: UnsafeCell<[u8; READ_BYTES]>,
}

// SAFETY: `buffer` is touched by one thread at a time, the one that has claimed the reader. A
// handler that interrupts that thread finds the reader claimed and takes another one.
unsafe impl Sync for Reader {}

static READERS: [Reader; POOL] = [const {
    Reader {
        map: KeptFile::new(PATH),
        is_claimed: AtomicBool::new(false),
        buffer: UnsafeCell::new([0; READ_BYTES]),
    }
}; POOL];

/// Whether [`prepare_all`] has nothing to do. No system call.
pub(super) fn is_ready() -> bool {
    READERS.iter().all(|reader| reader.map.is_ready())
}

/// Opens a description for each reader of the pool. Not for handlers.
pub(super) fn prepare_all() -> SysResult<()> {
    READERS.iter().try_for_each(|reader| reader.map.prepare())
}

/// Opens a description for the next reader, so that it stays open. Not for handlers.
pub(super) fn prepare_one() {
    let mut readers = READERS.iter();
    if let Some(reader) = readers.find(|reader| !reader.is_claimed.load(Ordering::Relaxed))
        && !reader.map.is_ready()
    {
        // Without one, the reader opens its own.
        let _ = reader.map.prepare();
    }
}

/// Shows the VMAs in order of address, for as long as `look` wants more. Safe in a handler, if
/// `look` is. `look` must not panic.
pub(super) fn read(look: impl FnMut(&Vma) -> ControlFlow<()>) -> SysResult<()> {
    inject::trip("open_map")?;
    let claim = |reader: &&Reader| !reader.is_claimed.swap(true, Ordering::Acquire);
    if let Some(reader) = READERS.iter().find(claim) {
        // SAFETY: only the thread that set `is_claimed` touches the buffer, and this one has just
        // set it. `look` can't come back here for this reader, which it finds claimed.
        let buffer = unsafe { &mut *reader.buffer.get() };
        let done = reader.map.with(|map| read_lines(map, buffer, look));
        reader.is_claimed.store(false, Ordering::Release);
        return done?;
    }
    read_alone(look)
}

/// By a description and a buffer of its own. Handlers have little stack: nobody else pays for it.
#[inline(never)]
fn read_alone(look: impl FnMut(&Vma) -> ControlFlow<()>) -> SysResult<()> {
    let map = file::open_in_handler(PATH)?;
    read_lines(map.as_fd(), &mut [0; 1024], look)
}

/// All of a line but its path, which may be of any length, and bytes that are no text.
const HEAD: usize = 128;

/// Reads from the start on. The description must be the caller's alone.
fn read_lines(
    map: BorrowedFd<'_>,
    buffer: &mut [u8],
    mut look: impl FnMut(&Vma) -> ControlFlow<()>,
) -> SysResult<()> {
    // Of a line that began in what was read before.
    let mut head = [0_u8; HEAD];
    let mut length = 0_usize;
    let mut offset = 0_i64;
    loop {
        inject::trip("pread_map")?;
        // SAFETY: the pointer and the length are those of one slice, which is borrowed exclusively.
        let read = unsafe {
            libc::pread(map.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), offset)
        };
        let Ok(read) = usize::try_from(read) else {
            match Errno::last() {
                Errno::EINTR => continue,
                errno => return Err(SysError::new("pread", errno)),
            }
        };
        if read == 0 {
            return Ok(());
        }
        let next = i64::try_from(read).ok().and_then(|read| offset.checked_add(read));
        offset = next.ok_or(SysError::new("pread", Errno::EOVERFLOW))?;
        let mut rest = buffer.get(..read).unwrap_or_default();
        while !rest.is_empty() {
            let end = rest.iter().position(|byte| *byte == b'\n');
            let (line, next) = rest.split_at(end.unwrap_or(rest.len()));
            let is_whole = end.is_some();
            rest = next.get(1..).unwrap_or_default();
            if length > 0 || !is_whole {
                let room = head.get_mut(length..).unwrap_or_default();
                let copied = room.len().min(line.len());
                for (slot, byte) in room.iter_mut().zip(line) {
                    *slot = *byte;
                }
                // At most HEAD, since `room` is what is left of it.
                length = length.wrapping_add(copied);
            }
            if !is_whole {
                continue;
            }
            let line = if length > 0 { head.get(..length).unwrap_or_default() } else { line };
            let vma = parse_line(line).ok_or(SysError::new("pread", Errno::EBADMSG))?;
            length = 0;
            if look(&vma).is_break() {
                return Ok(());
            }
        }
    }
}

/// `start-end perms offset major:minor inode path`, see proc_pid_maps(5).
fn parse_line(line: &[u8]) -> Option<Vma> {
    let mut fields = line.split(|byte| *byte == b' ').filter(|field| !field.is_empty());
    let mut range = fields.next()?.splitn(2, |byte| *byte == b'-');
    let (start, end) = (number(range.next()?, 16)?, number(range.next()?, 16)?);
    let [readable, writable, executable, shared, ..] = *fields.next()? else { return None };
    let file_offset = number(fields.next()?, 16)?;
    let _device = fields.next()?;
    let inode = number(fields.next()?, 10)?;
    Some(Vma {
        start,
        end,
        readable: readable == b'r',
        writable: writable == b'w',
        executable: executable == b'x',
        shared: shared == b's',
        // The stack and other special VMAs show an offset that means nothing.
        file_offset: if inode == 0 { 0 } else { file_offset },
        inode,
    })
}

fn number(digits: &[u8], radix: u32) -> Option<u64> {
    let mut digits = digits.iter().peekable();
    digits.peek()?;
    digits.try_fold(0_u64, |number, digit| {
        let digit = char::from(*digit).to_digit(radix)?;
        number.checked_mul(u64::from(radix))?.checked_add(u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_any_bytes_and_lengths_are_read_past() {
        let line = b"00400000-00452000 r-xp 00000000 08:02 173521 /usr/bin/x";
        assert_eq!(parse_line(line).unwrap().inode, 173_521);
        assert!(parse_line(b"7ffc0-7ffd0 ---p 00000000 00:00 0").unwrap().is_inaccessible());
        for torn in
            ["nonsense", "-7ffd0 ---p 00000000 00:00 0", "7ffc0-7ffd0 ---p 0000", "7ffc0-7ffd0"]
        {
            assert!(parse_line(torn.as_bytes()).is_none(), "{torn}");
        }
        let mut count = 0;
        let look = |_: &Vma| {
            count += 1;
            ControlFlow::Continue(())
        };
        read(look).unwrap();
        assert!(count > 10);
    }

    #[test]
    fn steps_of_any_size_give_the_same_lines() {
        let here = u64::try_from(steps_of_any_size_give_the_same_lines as *const () as usize);
        let here = here.unwrap();
        let holding = |buffer: &mut [u8]| {
            // A description that is this test's alone.
            let map = std::fs::File::open("/proc/self/maps").unwrap();
            let mut found = None;
            read_lines(map.as_fd(), buffer, |vma| {
                if vma.end > here {
                    found = Some(*vma);
                    return ControlFlow::Break(());
                }
                ControlFlow::Continue(())
            })
            .unwrap();
            found.unwrap()
        };
        let vma = holding(&mut [0; 7]);
        assert!(vma.start <= here && vma.executable);
        assert_eq!(vma, holding(&mut [0; 4096]));
    }
}
