//! What lies where in this process, by the kernel's own account.
//!
//! One address is looked up with the ioctl PROCMAP_QUERY (kernel 6.11), which costs the same
//! however many VMAs the process has. Where it is not there, `/proc/self/maps` is read as text.
//!
//! # How the text is read without tearing
//!
//! The kernel keeps in each open file description where a reader is: the address of the next VMA,
//! and what of the last line was not fetched yet. Who reads on at the offset where that reader left
//! off gets whole lines, whatever has changed meanwhile. At any other offset the kernel counts
//! bytes from the start through a map that may be another one by now (`traverse` in fs/seq_file.c),
//! and lines tear. So a description belongs to one reader from its first read to its last: there is
//! a pool of them, each claimed by a flag, and where all are taken one is opened.

use super::kept::KeptFile;
use super::page_query;
use super::{SysError, SysResult, inject};
use nix::errno::Errno;
use std::cell::UnsafeCell;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

/// One line of the process's map: a virtual memory VMA.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Vma {
    pub start: u64,
    pub end: u64,
    pub readable: bool,
    pub writable: bool,
    pub executable: bool,
    /// Writes go to the file, and to everybody who maps it.
    pub shared: bool,
    /// Where in its file it starts, in bytes. 0 for anonymous memory.
    pub file_offset: u64,
    /// 0 for anonymous memory.
    pub inode: u64,
}

impl Vma {
    /// Where in its file an address is. `None`: below the VMA, or on overflow.
    pub fn offset_of(&self, address: u64) -> Option<u64> {
        address.checked_sub(self.start)?.checked_add(self.file_offset)
    }

    pub fn is_inaccessible(&self) -> bool {
        !self.readable && !self.writable && !self.executable
    }
}

/// For tests: set in the environment to `text`, the map is read as on kernels before 6.11. Read
/// once.
const SWITCH: &str = "WASM_HOSTMAP_PROCESS_MAP";

/// How the kernel is asked; a [`Way`].
static WAY: AtomicU8 = AtomicU8::new(Way::Query as u8);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Way {
    /// Where that fails, by text all the same.
    Query,
    Text,
}

fn way() -> Way {
    if WAY.load(Ordering::Relaxed) == Way::Text as u8 { Way::Text } else { Way::Query }
}

/// The same for whoever may look at the environment: not for handlers.
fn way_found() -> Way {
    static FORCED: OnceLock<()> = OnceLock::new();
    FORCED.get_or_init(|| {
        if std::env::var_os(SWITCH).is_some_and(|value| value == "text") {
            WAY.store(Way::Text as u8, Ordering::Relaxed);
        }
    });
    way()
}

/// Whether one address costs as much as the whole map. Not before anything was asked.
pub fn is_text() -> bool {
    way_found() == Way::Text
}

/// The same in a handler.
pub fn is_text_in_handler() -> bool {
    way() == Way::Text
}

/// The VMA that holds an address, or the next one above it. `None`: there is none.
pub fn at_or_after(address: u64) -> SysResult<Option<Vma>> {
    if way_found() == Way::Query {
        if !MAP.is_ready() {
            // Where there is no descriptor left, the text can't be opened either.
            let _ = MAP.prepare();
        }
        if let Some(answer) = query(address) {
            return answer;
        }
    }
    let mut found = None;
    prepared();
    read_text(|vma| {
        if vma.end > address {
            found = Some(*vma);
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    })?;
    Ok(found)
}

/// Looks at every VMA, in order of address. Cost: grows with their number, about 0.2 us each.
pub fn for_each(mut look: impl FnMut(&Vma)) -> SysResult<()> {
    prepared();
    read_text(|vma| {
        look(vma);
        ControlFlow::Continue(())
    })
}

/// Looks at the VMAs from the one that holds an address on, or the next one above it, for as long
/// as `look` wants more.
pub fn for_each_from(address: u64, mut look: impl FnMut(&Vma) -> ControlFlow<()>) -> SysResult<()> {
    if way_found() == Way::Text {
        prepared();
        return read_text(
            |vma| if vma.end > address { look(vma) } else { ControlFlow::Continue(()) },
        );
    }
    let mut at = address;
    while let Some(vma) = at_or_after(at)? {
        if look(&vma).is_break() {
            break;
        }
        at = vma.end;
    }
    Ok(())
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

/// `struct procmap_query` of linux/fs.h.
#[repr(C)]
#[derive(Default)]
struct ProcmapQuery {
    size: u64,
    query_flags: u64,
    query_addr: u64,
    vma_start: u64,
    vma_end: u64,
    vma_flags: u64,
    vma_page_size: u64,
    vma_offset: u64,
    inode: u64,
    dev_major: u32,
    dev_minor: u32,
    vma_name_size: u32,
    build_id_size: u32,
    vma_name_addr: u64,
    build_id_addr: u64,
}

const PROCMAP_QUERY_BYTES: u64 = 104;
const _: () = assert!(size_of::<ProcmapQuery>() == 104);
const COVERING_OR_NEXT_VMA: u64 = 0x10;
const VMA_READABLE: u64 = 0x01;
const VMA_WRITABLE: u64 = 0x02;
const VMA_EXECUTABLE: u64 = 0x04;
const VMA_SHARED: u64 = 0x08;

nix::ioctl_readwrite!(procmap_query, b'f', 17, ProcmapQuery);

const PATH: &std::ffi::CStr = c"/proc/self/maps";

/// For queries, which don't depend on where a reader is: one for all threads. It stands for this
/// process's memory as long as the process lives.
static MAP: KeptFile = KeptFile::new(PATH);

/// `None`: the kernel can't be asked this way, now or ever. Safe in a handler.
fn query(address: u64) -> Option<SysResult<Option<Vma>>> {
    let answer = match MAP.unchecked().map(|map| query_by(map, address)) {
        // Somebody closed a descriptor that was not theirs, and its number may be another file's;
        // or there never was one.
        None | Some(Err(SysError { errno: Errno::EBADF | Errno::ENOTTY | Errno::EINVAL, .. }))
            if !MAP.is_same() =>
        {
            MAP.with(|map| query_by(map, address)).ok()?
        }
        answer => answer?,
    };
    match answer {
        // The kernel is older than the call, an emulator does not know it, or a sandbox forbids it.
        Err(SysError {
            errno:
                Errno::ENOTTY
                | Errno::EINVAL
                | Errno::ENOSYS
                | Errno::EOPNOTSUPP
                | Errno::EPERM
                | Errno::EACCES
                | Errno::EBADF,
            ..
        }) => {
            WAY.store(Way::Text as u8, Ordering::Relaxed);
            None
        }
        answer => Some(answer),
    }
}

fn query_by(map: BorrowedFd<'_>, address: u64) -> SysResult<Option<Vma>> {
    inject::trip("ioctl")?;
    let mut query = ProcmapQuery {
        size: PROCMAP_QUERY_BYTES,
        query_flags: COVERING_OR_NEXT_VMA,
        query_addr: address,
        ..ProcmapQuery::default()
    };
    // SAFETY: the kernel writes into `query` alone, whose size it was told; no name or build id is
    // asked for.
    match unsafe { procmap_query(map.as_raw_fd(), &raw mut query) } {
        Ok(_) => Ok(Some(Vma {
            start: query.vma_start,
            end: query.vma_end,
            readable: query.vma_flags & VMA_READABLE != 0,
            writable: query.vma_flags & VMA_WRITABLE != 0,
            executable: query.vma_flags & VMA_EXECUTABLE != 0,
            shared: query.vma_flags & VMA_SHARED != 0,
            file_offset: if query.inode == 0 { 0 } else { query.vma_offset },
            inode: query.inode,
        })),
        Err(Errno::ENOENT) => Ok(None),
        Err(errno) => Err(SysError::new("ioctl", errno)),
    }
}

/// Whether [`prepare_for_handler`] has nothing to do. No system call.
pub fn is_prepared_for_handler() -> bool {
    match way() {
        Way::Query => MAP.is_ready(),
        Way::Text => {
            page_query::is_prepared_for_handler()
                && READERS.iter().all(|reader| reader.map.is_ready())
        }
    }
}

/// Opens what [`holding_in_handler`] asks, so that it need not. An error: the process has no
/// descriptor left now.
pub fn prepare_for_handler() -> SysResult<()> {
    // Finds out which way works.
    at_or_after(0)?;
    match way() {
        Way::Query => MAP.prepare(),
        Way::Text => {
            page_query::prepare_for_handler();
            READERS.iter().try_for_each(|reader| reader.map.prepare())
        }
    }
}

/// The VMA that holds an address, asked in a signal handler: no lock, no allocation. `None`: there
/// is none, or the kernel would not tell.
pub fn holding_in_handler(address: u64) -> Option<Vma> {
    let holds = |vma: &Vma| vma.start <= address && address < vma.end;
    if way() == Way::Query
        && let Some(Ok(found)) = query(address)
    {
        return found.filter(holds);
    }
    let mut found = None;
    read_text(|vma| {
        if vma.end > address {
            found = Some(*vma);
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    })
    .ok()?;
    found.filter(holds)
}

/// So many threads read the text at once before one of them has to open it.
const POOL: usize = 8;

/// The kernel gives at most a page's worth of lines with each call.
const READ_BYTES: usize = 4096;

/// A description of the map, and room for what is read of it.
#[derive(Debug)]
struct Reader {
    map: KeptFile,
    is_claimed: AtomicBool,
    /// For whoever has set `is_claimed`, until it clears it.
    buffer: UnsafeCell<[u8; READ_BYTES]>,
}

// SAFETY: `buffer` is touched by one thread at a time: the one that has claimed the reader. (Which
// interrupts itself by no handler that would wait: a handler that finds it claimed takes another
// reader.)
unsafe impl Sync for Reader {}

static READERS: [Reader; POOL] = [const {
    Reader {
        map: KeptFile::new(PATH),
        is_claimed: AtomicBool::new(false),
        buffer: UnsafeCell::new([0; READ_BYTES]),
    }
}; POOL];

/// Has a description of the text kept, where many will be read. Without one each reading opens it.
fn prepared() {
    if way() == Way::Text
        && let Some(reader) =
            READERS.iter().find(|reader| !reader.is_claimed.load(Ordering::Relaxed))
        && !reader.map.is_ready()
    {
        let _ = reader.map.prepare();
    }
}

/// Shows the VMAs in order of address, for as long as `look` wants more. Safe in a handler, if
/// `look` is. `look` must not panic.
fn read_text(look: impl FnMut(&Vma) -> ControlFlow<()>) -> SysResult<()> {
    inject::trip("open_map")?;
    let claim = |reader: &&Reader| !reader.is_claimed.swap(true, Ordering::Acquire);
    if let Some(reader) = READERS.iter().find(claim) {
        // SAFETY: this thread has just claimed it, and nobody else touches it until the flag is
        // cleared.
        let buffer = unsafe { &mut *reader.buffer.get() };
        let done = reader.map.with(|map| read_lines(map, buffer, look));
        reader.is_claimed.store(false, Ordering::Release);
        return done?;
    }
    let map = super::file::open_in_handler(PATH)?;
    // Handlers have little stack.
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
        // SAFETY: the kernel writes at most the buffer's length into it.
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
        offset = offset.saturating_add(i64::try_from(read).unwrap_or(i64::MAX));
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
                length = length.saturating_add(copied);
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

/// Whether every byte of `[start, end)` is mapped and inaccessible. VMAs that touch and have the
/// same access are one to the kernel, so their edges say nothing: the range is walked.
pub fn is_inaccessible(start: u64, end: u64) -> SysResult<bool> {
    Ok(inaccessible_until(start, end)? >= end)
}

/// Up to where, from `start` on and not further than `end`, every byte is mapped and inaccessible.
pub fn inaccessible_until(start: u64, end: u64) -> SysResult<u64> {
    let mut at = start;
    if at < end {
        for_each_from(start, |vma| {
            if vma.start > at || !vma.is_inaccessible() {
                return ControlFlow::Break(());
            }
            at = vma.end;
            if at < end { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
    }
    Ok(at.min(end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::mmap::{Mmap, Pages, Sharing};
    use crate::sys::page::PageAligned;

    fn by_text(address: u64) -> SysResult<Option<Vma>> {
        let mut found = None;
        read_text(|vma| {
            if found.is_none() && vma.end > address {
                found = Some(*vma);
            }
            ControlFlow::Continue(())
        })?;
        Ok(found)
    }

    /// By a description that all others share, in small steps.
    fn by_small_reads(address: u64) -> Option<Vma> {
        let map = std::fs::File::open("/proc/self/maps").unwrap();
        let mut found = None;
        read_lines(map.as_fd(), &mut [0; 7], |vma| {
            if vma.end > address {
                found = Some(*vma);
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        })
        .unwrap();
        found
    }

    #[test]
    fn the_query_and_the_text_agree() {
        let fd = crate::sys::memfd::create("agree", 1 << 20).unwrap();
        let offset = PageAligned::new(1 << 16).unwrap();
        let length = PageAligned::new(1 << 17).unwrap();
        let map = Mmap::new(
            length,
            Pages::File { fd: fd.as_fd(), offset, sharing: Sharing::ReadOnly, is_memfd: true },
        )
        .unwrap();
        let status = crate::sys::file::status(&fd).unwrap();
        prepare_for_handler().unwrap();
        let at = map.address() + 5;
        // Kernels before 6.11 know no query.
        let by_query = query(at).unwrap_or_else(|| by_text(at)).unwrap();
        for found in [by_query, by_text(at).unwrap(), by_small_reads(at), holding_in_handler(at)] {
            let found = found.unwrap();
            assert_eq!((found.start, found.end), (map.address(), map.address() + (1 << 17)));
            assert_eq!((found.inode, found.file_offset), (status.inode, 1 << 16));
            assert!(found.readable && !found.writable && !found.executable && !found.shared);
        }
    }

    #[test]
    fn paths_of_any_bytes_and_lengths_are_read_past() {
        assert_eq!(
            parse_line(b"00400000-00452000 r-xp 00000000 08:02 173521 /usr/bin/x").unwrap().inode,
            173_521
        );
        assert!(parse_line(b"7ffc0-7ffd0 ---p 00000000 00:00 0").unwrap().is_inaccessible());
        for torn in
            ["nonsense", "-7ffd0 ---p 00000000 00:00 0", "7ffc0-7ffd0 ---p 0000", "7ffc0-7ffd0"]
        {
            assert!(parse_line(torn.as_bytes()).is_none(), "{torn}");
        }
        let mut count = 0;
        for_each(|_| count += 1).unwrap();
        assert!(count > 10);
    }

    #[test]
    fn readers_of_the_text_at_once_see_no_torn_line_while_the_map_changes() {
        let page = PageAligned::round_up(1).unwrap();
        let fd = crate::sys::memfd::create("constant", 1 << 20).unwrap();
        let file = |sharing| Pages::File {
            fd: fd.as_fd(),
            offset: PageAligned::ZERO,
            sharing,
            is_memfd: true,
        };
        let constant = Mmap::new(page, file(Sharing::ReadOnly)).unwrap();
        let inode = crate::sys::file::status(&fd).unwrap().inode;
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let maps: Vec<Mmap> =
                        (0..40).map(|_| Mmap::new(page, Pages::Zeros).unwrap()).collect();
                    let others: Vec<Mmap> =
                        (0..40).map(|_| Mmap::new(page, file(Sharing::Shared)).unwrap()).collect();
                    drop((maps, others));
                }
            });
            // More than the pool has.
            let readers: Vec<_> = (0..POOL + 2)
                .map(|_| {
                    scope.spawn(|| {
                        for _ in 0..300 {
                            let found = by_text(constant.address()).unwrap().unwrap();
                            assert_eq!((found.start, found.inode), (constant.address(), inode));
                            assert!(found.readable && !found.writable && !found.shared);
                        }
                    })
                })
                .collect();
            for reader in readers {
                reader.join().unwrap();
            }
            done.store(true, Ordering::Relaxed);
        });
    }
}
