//! Files: opening and examining them, reading and writing them at an offset, and copying their
//! bytes inside the kernel.
//!
//! Calls: open, fstat, stat, fstatfs, readlink, fcntl, lseek, pread, pwrite, sendfile,
//! copy_file_range, fallocate, posix_fadvise, ftruncate, fsync, rename, unlink. Not for handlers,
//! but for [`open_in_handler`].

// It borrows and owns descriptors by number.
#![allow(unsafe_code)]

use super::optional::says_absent;
use super::owned_span::OwnedSpan;
use super::{SysError, SysResult, alloc, inject, to_u64, to_usize};
use nix::errno::Errno;
use nix::fcntl::{
    FcntlArg, OFlag, PosixFadviseAdvice, copy_file_range, fcntl, open, posix_fadvise,
};
use nix::sys::sendfile::sendfile;
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::sys::uio::pread;
use nix::unistd::{Whence, fsync, ftruncate, lseek};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;

/// What `fstat` says of a file.
#[derive(Debug, Clone, Copy)]
pub struct Status {
    pub kind: FileKind,
    pub byte_length: u64,
    pub device: u64,
    pub inode: u64,
    /// Bytes that its pages or blocks take: less than its length if it is sparse.
    pub allocated_bytes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    Regular,
    Directory,
    Pipe,
    Socket,
    Device,
    Other,
}

/// Opens a file, close-on-exec. O_NONBLOCK lets a pipe without a writer be refused later instead of
/// waited for; on regular files it has no effect (open(2)).
pub fn open_file(path: &Path, writable: bool) -> SysResult<OwnedFd> {
    inject::trip("open")?;
    let access = if writable { OFlag::O_RDWR } else { OFlag::O_RDONLY };
    let flags = access | OFlag::O_CLOEXEC | OFlag::O_NOCTTY | OFlag::O_NONBLOCK;
    open(path, flags, Mode::empty()).map_err(|errno| SysError::new("open", errno))
}

/// A path as messages show it: it may be relative to a folder that the reader doesn't know. `..`
/// stays, since it may follow a symbolic link.
pub fn absolute(path: &Path) -> std::path::PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// For messages: by the time they are read it may be otherwise.
pub fn exists(path: &Path) -> bool {
    path.exists()
}

/// For messages, as [`exists`].
pub fn is_link(path: &Path) -> bool {
    path.is_symlink()
}

/// Opens a file for reading, in a signal handler: one system call.
pub fn open_in_handler(path: &std::ffi::CStr) -> SysResult<OwnedFd> {
    use std::os::fd::FromRawFd;
    inject::trip("open")?;
    // SAFETY: the path is a C string.
    let fd = unsafe { libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) };
    if fd < 0 {
        return Err(SysError::new("open", Errno::last()));
    }
    // SAFETY: the kernel has just made this descriptor, so this is its only owner.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Lets pages of the page cache go that nobody has mapped and that are not dirty. Advice: the
/// kernel may keep them.
pub fn drop_cached(fd: impl AsFd, start: u64, length: u64) -> SysResult<()> {
    // To the kernel, 0 means all up to the file's end.
    if length == 0 {
        return Ok(());
    }
    inject::trip("fadvise64")?;
    let (Ok(start), Ok(length)) = (i64::try_from(start), i64::try_from(length)) else {
        return Ok(());
    };
    posix_fadvise(fd, start, length, PosixFadviseAdvice::POSIX_FADV_DONTNEED)
        .map_err(|errno| SysError::new("fadvise64", errno))
}

/// Duplicates a descriptor of the caller's, close-on-exec.
pub fn duplicate(fd: RawFd) -> SysResult<OwnedFd> {
    inject::trip("fcntl")?;
    if fd < 0 {
        return Err(SysError::new("fcntl", Errno::EBADF));
    }
    // SAFETY: borrowed for this one call; the kernel answers EBADF if no such descriptor is open.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    borrowed.try_clone_to_owned().map_err(|error| SysError::from_io("fcntl", &error))
}

pub fn status(fd: impl AsFd) -> SysResult<Status> {
    inject::trip("fstat")?;
    Ok(to_status(&fstat(fd).map_err(|errno| SysError::new("fstat", errno))?))
}

/// The same of what a path leads to, which is not opened.
pub fn status_of(path: &str) -> SysResult<Status> {
    inject::trip("stat")?;
    Ok(to_status(&nix::sys::stat::stat(path).map_err(|errno| SysError::new("stat", errno))?))
}

/// What the kernel says a link leads to.
pub fn link_target(path: &str) -> SysResult<String> {
    inject::trip("readlink")?;
    let target = std::fs::read_link(path).map_err(|error| SysError::from_io("readlink", &error))?;
    Ok(target.to_string_lossy().into_owned())
}

/// Opens what a process has open, by a path in /proc.
pub fn open_proc(path: &str, writable: bool) -> SysResult<OwnedFd> {
    open_file(Path::new(path), writable)
}

// A device is another type on each target.
#[allow(clippy::useless_conversion, clippy::unnecessary_fallible_conversions)]
pub(super) fn to_device(device: libc::dev_t) -> u64 {
    u64::from(device)
}

pub(super) fn to_status(stat: &nix::sys::stat::FileStat) -> Status {
    let format = SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits());
    let kind = match format {
        SFlag::S_IFREG => FileKind::Regular,
        SFlag::S_IFDIR => FileKind::Directory,
        SFlag::S_IFIFO => FileKind::Pipe,
        SFlag::S_IFSOCK => FileKind::Socket,
        SFlag::S_IFCHR | SFlag::S_IFBLK => FileKind::Device,
        _ => FileKind::Other,
    };
    // A file system in user space may answer any number. What is negative is no length, and what
    // doesn't fit is more than any memory has.
    Status {
        kind,
        byte_length: u64::try_from(stat.st_size).unwrap_or(0),
        device: to_device(stat.st_dev),
        inode: stat.st_ino,
        allocated_bytes: u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512),
    }
}

/// Whether the descriptor was opened for reading, and for writing too.
pub fn access(fd: impl AsFd) -> SysResult<(bool, bool)> {
    inject::trip("fcntl")?;
    let flags = fcntl(fd, FcntlArg::F_GETFL).map_err(|errno| SysError::new("fcntl", errno))?;
    let mode = OFlag::from_bits_truncate(flags) & OFlag::O_ACCMODE;
    // A descriptor that only names a file can do neither.
    let names_only = OFlag::from_bits_retain(flags).contains(OFlag::O_PATH);
    Ok((mode != OFlag::O_WRONLY && !names_only, mode == OFlag::O_RDWR && !names_only))
}

/// Whether whatever is written to it goes behind its end, at any offset (O_APPEND).
pub fn appends(fd: impl AsFd) -> SysResult<bool> {
    inject::trip("fcntl")?;
    let flags = fcntl(fd, FcntlArg::F_GETFL).map_err(|errno| SysError::new("fcntl", errno))?;
    Ok(OFlag::from_bits_retain(flags).contains(OFlag::O_APPEND))
}

/// Whether its pages are huge ones of the system's pool (hugetlbfs, MFD_HUGETLB). The kernel rounds
/// a mapping of such a file up to whole huge pages, whatever length was asked for.
pub fn is_hugetlb(fd: impl AsFd) -> SysResult<bool> {
    inject::trip("fstatfs")?;
    let found = nix::sys::statfs::fstatfs(fd).map_err(|errno| SysError::new("fstatfs", errno))?;
    Ok(found.filesystem_type() == nix::sys::statfs::HUGETLBFS_MAGIC)
}

/// Whether it is on an overlay, which keeps the file's bytes in a file of another file system.
pub fn is_overlay(fd: impl AsFd) -> SysResult<bool> {
    inject::trip("fstatfs")?;
    let found = nix::sys::statfs::fstatfs(fd).map_err(|errno| SysError::new("fstatfs", errno))?;
    Ok(found.filesystem_type() == nix::sys::statfs::OVERLAYFS_SUPER_MAGIC)
}

/// The path that the kernel knows a descriptor by; memfds start with `/memfd:`.
pub fn path_of(fd: impl AsFd) -> Option<std::path::PathBuf> {
    std::fs::read_link(format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())).ok()
}

/// The next range of `[from, end)` that holds data, so that holes need not be copied. `None`: only
/// a hole is left. A file system that knows no holes calls the whole rest data (lseek(2)).
///
/// Looks at all pages up to the next hole: for a start alone there is [`first_data`].
pub fn next_data(fd: impl AsFd, from: u64, end: u64) -> SysResult<Option<(u64, u64)>> {
    let Some(start) = first_data(&fd, from, end)? else { return Ok(None) };
    let stop = seek(&fd, start, Whence::SeekHole, end)?.unwrap_or(end);
    Ok(Some((start, stop.min(end))))
}

/// Where in `[from, end)` the first data is.
pub fn first_data(fd: impl AsFd, from: u64, end: u64) -> SysResult<Option<u64>> {
    if from >= end {
        return Ok(None);
    }
    Ok(seek(fd, from, Whence::SeekData, from)?.filter(|start| *start < end))
}

/// `None`: there is none. `otherwise`: where a file system knows no holes.
fn seek(fd: impl AsFd, at: u64, whence: Whence, otherwise: u64) -> SysResult<Option<u64>> {
    let offset = i64::try_from(at).map_err(|_| SysError::new("lseek", Errno::EOVERFLOW))?;
    let found = inject::trip("lseek").map_err(|sys| sys.errno);
    match found.and_then(|()| lseek(fd.as_fd(), offset, whence)) {
        Ok(found) => match u64::try_from(found) {
            Ok(found) => Ok(Some(found)),
            Err(_) => Err(SysError::new("lseek", Errno::EOVERFLOW)),
        },
        Err(Errno::ENXIO) => Ok(None),
        Err(errno) if says_absent(errno) => Ok(Some(otherwise)),
        Err(errno) => Err(SysError::new("lseek", errno)),
    }
}

/// How bytes are copied between two files; the first that is not refused.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CopyWay {
    #[default]
    Ranged,
    Sent,
    Buffered,
}

/// What [`copy`] copies at once by itself.
const BUFFER_BYTES: usize = 256 << 10;

/// Copies up to `length` bytes between two files inside the kernel, at offsets of their own, and
/// says how many it did: 0 at the end of the source.
///
/// `copy_file_range` where both are on one file system that can share blocks, else `sendfile`; by
/// a buffer where a sandbox or a file system knows neither. `way` remembers what was refused.
pub fn copy(
    from: BorrowedFd<'_>,
    from_offset: u64,
    to: BorrowedFd<'_>,
    to_offset: u64,
    length: u64,
    way: &mut CopyWay,
) -> SysResult<u64> {
    let signed =
        |bytes: u64| i64::try_from(bytes).map_err(|_| SysError::new("sendfile", Errno::EOVERFLOW));
    let length = to_usize(length);
    while *way == CopyWay::Ranged {
        let (mut source, mut target) = (signed(from_offset)?, signed(to_offset)?);
        let copied = inject::trip("copy_file_range")
            .map_err(|sys| sys.errno)
            .and_then(|()| copy_file_range(from, Some(&mut source), to, Some(&mut target), length));
        match copied {
            // Some file systems claim the end too early (procfs, old FUSE): let sendfile have the
            // last word.
            Ok(0) => *way = CopyWay::Sent,
            Ok(copied) => return Ok(super::to_u64(copied)),
            Err(Errno::EINTR) => {}
            // Two file systems, or two that know nothing of it.
            Err(errno) if errno == Errno::EXDEV || says_absent(errno) => *way = CopyWay::Sent,
            Err(errno) => return Err(SysError::new("copy_file_range", errno)),
        }
    }
    while *way == CopyWay::Sent {
        let mut source = signed(from_offset)?;
        let move_to = |position, whence| {
            lseek(to, position, whence).map_err(|errno| SysError::new("lseek", errno))
        };
        // The position of a descriptor that is kept tells that it is ours (`checked_fd`), so it is
        // put back.
        let before = move_to(0, Whence::SeekCur)?;
        move_to(signed(to_offset)?, Whence::SeekSet)?;
        let sent = inject::trip("sendfile").map_err(|sys| sys.errno);
        let sent = sent.and_then(|()| sendfile(to, from, Some(&mut source), length));
        move_to(before, Whence::SeekSet)?;
        match sent {
            Ok(copied) => return Ok(super::to_u64(copied)),
            Err(Errno::EINTR) => {}
            // The target's file system may refuse every write, too: the copy will tell.
            Err(errno) if says_absent(errno) => *way = CopyWay::Buffered,
            Err(errno) => return Err(SysError::new("sendfile", errno)),
        }
    }
    let mut buffer = alloc::zeroed(length.min(BUFFER_BYTES))?;
    let read = read_up_to(from, from_offset, &mut buffer)?;
    write_all(to, to_offset, buffer.get(..read).expect("it reads no more than there is room"))?;
    Ok(to_u64(read))
}

/// Writes `length` bytes of the process at `source` to a file at `offset`.
///
/// The bytes may change meanwhile, or be no memory at all (then the answer is EFAULT): the kernel
/// reads them, not Rust, so the caller promises nothing.
pub fn write_all_from(fd: BorrowedFd<'_>, offset: u64, source: u64, length: u64) -> SysResult<()> {
    until_done("pwrite", offset, length, Errno::ENOSPC, |done, rest, at| {
        // Wraps where the caller gave no range of memory, which the kernel finds.
        let from = to_usize(source.wrapping_add(done)) as *const libc::c_void;
        // SAFETY: the kernel checks the address itself; nothing is read by Rust.
        unsafe { libc::pwrite(fd.as_raw_fd(), from, rest, at) }
    })
}

/// Writes bytes to a file at `offset`.
pub fn write_all(fd: impl AsFd, offset: u64, bytes: &[u8]) -> SysResult<()> {
    write_all_from(fd.as_fd(), offset, to_u64(bytes.as_ptr() as usize), to_u64(bytes.len()))
}

/// Reads until `bytes` is full or the file ends, and says how many there were.
pub fn read_up_to(fd: impl AsFd, offset: u64, bytes: &mut [u8]) -> SysResult<usize> {
    let mut done = 0_usize;
    while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
        inject::trip("pread")?;
        let at = offset.checked_add(to_u64(done)).and_then(|at| i64::try_from(at).ok());
        match pread(&fd, rest, at.ok_or(SysError::new("pread", Errno::EOVERFLOW))?) {
            Ok(0) => break,
            // At most the length of the buffer.
            Ok(read) => done = done.wrapping_add(read),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(SysError::new("pread", errno)),
        }
    }
    Ok(done)
}

/// Reads a file from `offset` on into pages of the process, all of them. EFAULT where such a page
/// can't be had, a file's that got shorter, say: the kernel writes them, so that it is no signal.
pub fn read_all_to(fd: BorrowedFd<'_>, offset: u64, target: OwnedSpan<'_>) -> SysResult<()> {
    let target = target.span();
    until_done("pread", offset, target.length().get(), Errno::EIO, |done, rest, at| {
        let to = target.start().get().checked_add(done).expect("it is in the span");
        let to = to_usize(to) as *mut libc::c_void;
        // SAFETY: `done + rest` bytes are the owned span, of which Rust has no references; where a
        // page is missing the kernel gives EFAULT.
        unsafe { libc::pread(fd.as_raw_fd(), to, rest, at) }
    })
}

/// Calls what moves so many bytes from or to an offset in a file, until all of them are moved.
/// `call` is told how many are, how many are left, and where in the file these begin; what it gives
/// is the kernel's answer. `at_none`: the error where it moves none.
fn until_done(
    syscall: &'static str,
    offset: u64,
    length: u64,
    at_none: Errno,
    call: impl Fn(u64, usize, i64) -> isize,
) -> SysResult<()> {
    let mut done = 0_u64;
    while done < length {
        inject::trip(syscall)?;
        let rest = length.checked_sub(done).expect("the kernel moves no more than was asked for");
        let rest = to_usize(rest);
        let at = offset.checked_add(done).and_then(|at| i64::try_from(at).ok());
        let at = at.ok_or(SysError::new(syscall, Errno::EOVERFLOW))?;
        match u64::try_from(call(done, rest, at)) {
            Ok(0) => return Err(SysError::new(syscall, at_none)),
            Ok(moved) => done = done.checked_add(moved).expect("at most the length"),
            Err(_) => match Errno::last() {
                Errno::EINTR => {}
                errno => return Err(SysError::new(syscall, errno)),
            },
        }
    }
    Ok(())
}

/// The regular file that a path names, or where one can be made: what is put there takes its place,
/// and links stay links. The kernel follows them, by its rules (`fs.protected_symlinks`). `None`:
/// something is there that is no regular file.
pub fn resolve_links(path: &Path) -> SysResult<Option<std::path::PathBuf>> {
    inject::trip("open")?;
    let found = match open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()) {
        Ok(found) => found,
        Err(Errno::ENOENT) if !is_link(path) => return Ok(Some(path.to_owned())),
        Err(errno) => return Err(SysError::new("open", errno)),
    };
    if status(&found)?.kind != FileKind::Regular {
        return Ok(None);
    }
    if !is_link(path) {
        return Ok(Some(path.to_owned()));
    }
    path_of(&found).map(Some).ok_or(SysError::new("readlink", Errno::ENOENT))
}

/// A new file that only this user can read and write. EEXIST if there is one.
pub fn create_new(path: &Path) -> SysResult<OwnedFd> {
    inject::trip("open")?;
    let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
    open(path, flags, Mode::S_IRUSR | Mode::S_IWUSR).map_err(|errno| SysError::new("open", errno))
}

pub fn set_length(fd: impl AsFd, byte_length: u64) -> SysResult<()> {
    inject::trip("ftruncate")?;
    let length =
        i64::try_from(byte_length).map_err(|_| SysError::new("ftruncate", Errno::EFBIG))?;
    ftruncate(fd, length).map_err(|errno| SysError::new("ftruncate", errno))
}

/// Waits until a file's bytes are on the disk.
pub fn sync(fd: impl AsFd) -> SysResult<()> {
    inject::trip("fsync")?;
    fsync(fd).map_err(|errno| SysError::new("fsync", errno))
}

/// Gives a file another name, in place of the file that had it: one step, and nobody ever sees half
/// of it.
pub fn rename(from: &Path, to: &Path) -> SysResult<()> {
    inject::trip("rename")?;
    std::fs::rename(from, to).map_err(|error| SysError::from_io("rename", &error))
}

/// Removes a file, if it can be.
pub fn remove(path: &Path) {
    let _ = std::fs::remove_file(path);
}
