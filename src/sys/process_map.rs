//! What lies where in this process, by the kernel's own account.
//!
//! One address is looked up with the ioctl PROCMAP_QUERY (kernel 6.11), which costs the same however many mappings
//! the process has; older kernels read `/proc/self/maps` from the start.

use super::{SysError, SysResult, inject};
use nix::errno::Errno;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// One line of the process's map: a virtual memory area.
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
    pub fn is_inaccessible(&self) -> bool {
        !self.readable && !self.writable && !self.executable
    }
}

static QUERY_WORKS: AtomicBool = AtomicBool::new(true);

/// The area that holds an address, or the next one above it. `None`: there is none.
pub fn at_or_after(address: u64) -> SysResult<Option<Vma>> {
    if QUERY_WORKS.load(Ordering::Relaxed) {
        match query(address) {
            Err(SysError { errno: Errno::ENOTTY | Errno::EINVAL, .. }) => {
                QUERY_WORKS.store(false, Ordering::Relaxed)
            }
            answer => return answer,
        }
    }
    scan(address)
}

fn scan(address: u64) -> SysResult<Option<Vma>> {
    let mut found = None;
    for_each(|vma| {
        if found.is_none() && vma.end > address {
            found = Some(*vma);
        }
    })?;
    Ok(found)
}

/// Looks at every area, in order of address. Cost: grows with their number, about 1 us each.
pub fn for_each(mut look: impl FnMut(&Vma)) -> SysResult<()> {
    let mut lines = BufReader::with_capacity(1 << 16, open_map()?);
    let mut line = Vec::with_capacity(256);
    loop {
        line.clear();
        let read = lines.read_until(b'\n', &mut line).map_err(|error| SysError::from_io("read", &error))?;
        if read == 0 {
            return Ok(());
        }
        let vma = parse_line(&String::from_utf8_lossy(&line)).ok_or(SysError::new("read", Errno::EBADMSG))?;
        look(&vma);
    }
}

/// `start-end perms offset major:minor inode path`, see proc_pid_maps(5).
fn parse_line(line: &str) -> Option<Vma> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let mut access = fields.next()?.bytes();
    let readable = access.next()? == b'r';
    let writable = access.next()? == b'w';
    let executable = access.next()? == b'x';
    let shared = access.next()? == b's';
    let file_offset = u64::from_str_radix(fields.next()?, 16).ok()?;
    let _device = fields.next()?;
    let inode = fields.next()?.parse().ok()?;
    Some(Vma {
        start: u64::from_str_radix(start, 16).ok()?,
        end: u64::from_str_radix(end, 16).ok()?,
        readable,
        writable,
        executable,
        shared,
        // The stack and other special areas show an offset that means nothing.
        file_offset: if inode == 0 { 0 } else { file_offset },
        inode,
    })
}

fn open_map() -> SysResult<File> {
    inject::trip("open")?;
    File::open("/proc/self/maps").map_err(|error| SysError::from_io("open", &error))
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

/// Kept open: it stands for this process's memory as long as the process lives.
fn kept_map() -> Option<&'static File> {
    static MAP: OnceLock<Option<File>> = OnceLock::new();
    MAP.get_or_init(|| open_map().ok()).as_ref()
}

fn query(address: u64) -> SysResult<Option<Vma>> {
    let map = kept_map().ok_or(SysError::new("open", Errno::ENOTTY))?;
    query_by(map.as_raw_fd(), address)
}

fn query_by(map: RawFd, address: u64) -> SysResult<Option<Vma>> {
    inject::trip("ioctl")?;
    let mut query = ProcmapQuery {
        size: PROCMAP_QUERY_BYTES,
        query_flags: COVERING_OR_NEXT_VMA,
        query_addr: address,
        ..ProcmapQuery::default()
    };
    // SAFETY: the kernel writes into `query` alone, whose size it was told; no name or build id is asked for.
    match unsafe { procmap_query(map, &raw mut query) } {
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

/// Opens the file that [`holding_in_handler`] asks, so that it need not.
pub fn prepare_for_handler() {
    kept_map();
    // Finds out whether the query works.
    let _ = at_or_after(0);
}

/// The area that holds an address, asked in a signal handler: no lock, no allocation. `None`: there is none, or the
/// kernel would not tell.
pub fn holding_in_handler(address: u64) -> Option<Vma> {
    let holds = |vma: &Vma| vma.start <= address && address < vma.end;
    let look = |map: RawFd| {
        if QUERY_WORKS.load(Ordering::Relaxed)
            && let Ok(found) = query_by(map, address)
        {
            return Some(found);
        }
        // An older kernel, or no map: then this fails too.
        scan_raw(map, address).map(Some)
    };
    if let Some(map) = kept_map()
        && let Some(found) = look(map.as_raw_fd())
    {
        return found.filter(holds);
    }
    // Somebody closed a descriptor that was not theirs.
    let map = super::file::open_in_handler(c"/proc/self/maps").ok()?;
    look(map.as_raw_fd())?.filter(holds)
}

/// Reads the map by system calls alone, for the area that holds an address or the next one above it. Cost: a millisecond
/// for ten thousand areas.
fn scan_raw(map: RawFd, address: u64) -> Option<Vma> {
    // All of a line but the path, which may be of any length.
    const HEAD: usize = 160;
    let mut head = [0_u8; HEAD];
    let mut length = 0;
    let mut buffer = [0_u8; 1024];
    let mut offset = 0_i64;
    loop {
        // SAFETY: the kernel writes at most the buffer's length into it.
        let read = unsafe { libc::pread(map, buffer.as_mut_ptr().cast(), buffer.len(), offset) };
        let read = usize::try_from(read).ok().filter(|read| *read > 0)?;
        offset = offset.checked_add(i64::try_from(read).ok()?)?;
        for byte in buffer.iter().take(read) {
            if *byte != b'\n' {
                if let Some(slot) = head.get_mut(length) {
                    *slot = *byte;
                    length = length.saturating_add(1);
                }
                continue;
            }
            let line = head.get(..length)?;
            // The path may be cut inside a character; what comes before is ASCII.
            let valid = std::str::from_utf8(line).map_or_else(|error| error.valid_up_to(), str::len);
            let vma = parse_line(std::str::from_utf8(line.get(..valid)?).ok()?)?;
            if vma.end > address {
                return Some(vma);
            }
            length = 0;
        }
    }
}

/// Whether every byte of `[start, end)` is mapped and inaccessible. Areas that touch and have the same access are
/// one area to the kernel, so the edges of areas say nothing: the range is walked.
pub fn is_inaccessible(start: u64, end: u64) -> SysResult<bool> {
    Ok(inaccessible_until(start, end)? >= end)
}

/// Up to where, from `start` on and not further than `end`, every byte is mapped and inaccessible.
pub fn inaccessible_until(start: u64, end: u64) -> SysResult<u64> {
    let mut at = start;
    while at < end {
        match at_or_after(at)? {
            Some(vma) if vma.start <= at && vma.is_inaccessible() => at = vma.end,
            _ => break,
        }
    }
    Ok(at.min(end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::mmap::{Mmap, Pages, Sharing};
    use crate::sys::page::PageAligned;
    use std::os::fd::AsFd;

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
        let by_handler = Ok(holding_in_handler(map.address() + 5));
        let by_raw_scan = Ok(scan_raw(kept_map().unwrap().as_raw_fd(), map.address() + 5));
        for found in [query(map.address()), scan(map.address()), by_handler, by_raw_scan] {
            let found = match found {
                // Kernels before 6.11.
                Err(SysError { errno: Errno::ENOTTY, .. }) => continue,
                found => found.unwrap().unwrap(),
            };
            assert_eq!((found.start, found.end), (map.address(), map.address() + (1 << 17)));
            assert_eq!((found.inode, found.file_offset), (status.inode, 1 << 16));
            assert!(found.readable && !found.writable && !found.executable && !found.shared);
        }
    }

    #[test]
    fn paths_of_any_bytes_and_lengths_are_read_past() {
        assert_eq!(
            parse_line("00400000-00452000 r-xp 00000000 08:02 173521 /usr/bin/x").unwrap().inode,
            173_521
        );
        assert!(parse_line("7ffc0-7ffd0 ---p 00000000 00:00 0").unwrap().is_inaccessible());
        assert!(parse_line("nonsense").is_none());
        let mut count = 0;
        for_each(|_| count += 1).unwrap();
        assert!(count > 10);
    }
}
