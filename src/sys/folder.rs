//! Folders by descriptor: what is in one is examined, opened, made, renamed and removed without a
//! path that somebody could change in between. And locks on files and folders, which the kernel
//! lets go when their last descriptor is closed: when their holder ends, too.
//!
//! Calls: open, openat, mkdir, fstat, fstatat, fchmod, renameat, unlinkat, getdents64, flock. Not
//! for handlers.

// It calls the C library about locks.
#![allow(unsafe_code)]

use super::file::{self, FileKind};
use super::{SysError, SysResult, alloc, inject};
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat, renameat};
use nix::sys::stat::{FileStat, Mode, fchmod, fstat, fstatat};
use nix::unistd::{UnlinkatFlags, mkdir, unlinkat};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

/// What the kernel says of a folder, or of what is in one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// A symbolic link is [`FileKind::Other`].
    pub kind: FileKind,
    pub user: u32,
    /// Permissions, as `chmod` takes them.
    pub mode: u32,
    pub byte_length: u64,
    pub device: u64,
    pub inode: u64,
}

impl Entry {
    fn new(stat: &FileStat) -> Self {
        let status = file::to_status(stat);
        Self {
            kind: status.kind,
            user: stat.st_uid,
            mode: stat.st_mode & 0o7777,
            byte_length: status.byte_length,
            device: status.device,
            inode: status.inode,
        }
    }

    pub fn is_same_file(self, other: Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }
}

const FOLDER: OFlag = OFlag::O_DIRECTORY.union(OFlag::O_CLOEXEC);

/// Makes a folder that this user alone can enter. False: something of this name was there.
pub fn make(path: &Path) -> SysResult<bool> {
    inject::trip("mkdir")?;
    match mkdir(path, Mode::S_IRWXU) {
        Ok(()) => Ok(true),
        Err(Errno::EEXIST) => Ok(false),
        Err(errno) => Err(SysError::new("mkdir", errno)),
    }
}

/// Opens a folder. ELOOP or ENOTDIR where the path's last part is no folder, but a link, say.
pub fn open_folder(path: &Path) -> SysResult<OwnedFd> {
    inject::trip("open")?;
    open(path, FOLDER | OFlag::O_NOFOLLOW, Mode::empty())
        .map_err(|errno| SysError::new("open", errno))
}

/// Whose a folder is that can't be opened.
pub fn owner_of(path: &Path) -> Option<u32> {
    nix::sys::stat::lstat(path).ok().map(|stat| stat.st_uid)
}

/// Another descriptor of the same folder, with locks and a position of its own.
pub fn open_again(folder: impl AsFd) -> SysResult<OwnedFd> {
    inject::trip("openat")?;
    openat(folder, ".", FOLDER, Mode::empty()).map_err(|errno| SysError::new("openat", errno))
}

/// The folder that a folder is in, to be examined. The root is in itself.
pub fn open_parent(folder: impl AsFd) -> SysResult<OwnedFd> {
    inject::trip("openat")?;
    openat(folder, "..", FOLDER | OFlag::O_PATH, Mode::empty())
        .map_err(|errno| SysError::new("openat", errno))
}

pub fn examine(fd: impl AsFd) -> SysResult<Entry> {
    inject::trip("fstat")?;
    fstat(fd).map(|stat| Entry::new(&stat)).map_err(|errno| SysError::new("fstat", errno))
}

/// What a folder has under a name, links not followed and nothing opened. `None`: nothing.
pub fn entry(folder: impl AsFd, name: &str) -> SysResult<Option<Entry>> {
    inject::trip("fstatat")?;
    match fstatat(folder, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(Entry::new(&stat))),
        Err(Errno::ENOENT) => Ok(None),
        Err(errno) => Err(SysError::new("fstatat", errno)),
    }
}

/// Opens what a folder has under a name, for reading. It may be another thing than was examined;
/// a link is refused, and no other kind is waited for.
pub fn open_entry(folder: impl AsFd, name: &str) -> SysResult<OwnedFd> {
    inject::trip("openat")?;
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    openat(folder, name, flags | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(|errno| SysError::new("openat", errno))
}

/// A new file in a folder, of this mode whatever the process's mask is. EEXIST if there is one.
pub fn create_entry(folder: impl AsFd, name: &str, mode: u32) -> SysResult<OwnedFd> {
    inject::trip("openat")?;
    let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
    let fd = openat(&folder, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)
        .map_err(|errno| SysError::new("openat", errno))?;
    let changed = inject::trip("fchmod").and_then(|()| {
        fchmod(&fd, Mode::from_bits_truncate(mode)).map_err(|errno| SysError::new("fchmod", errno))
    });
    if let Err(sys) = changed {
        remove_entry(folder, name);
        return Err(sys);
    }
    Ok(fd)
}

/// Gives a file another name of the same folder, in place of the file that had it: one step.
pub fn rename_entry(folder: impl AsFd, from: &str, to: &str) -> SysResult<()> {
    inject::trip("renameat")?;
    renameat(&folder, from, &folder, to).map_err(|errno| SysError::new("renameat", errno))
}

/// Removes a file of a folder, if it can be.
pub fn remove_entry(folder: impl AsFd, name: &str) {
    if inject::trip("unlinkat").is_ok() {
        let _ = unlinkat(folder, name, UnlinkatFlags::NoRemoveDir);
    }
}

/// The names of what is in a folder, but those that are no text.
pub fn names(folder: impl AsFd) -> SysResult<Vec<String>> {
    inject::trip("getdents64")?;
    let failed = |errno| SysError::new("getdents64", errno);
    // With a position of its own.
    let mut dir = Dir::from_fd(open_again(folder)?).map_err(failed)?;
    let mut names = Vec::new();
    for entry in dir.iter() {
        let entry = entry.map_err(failed)?;
        if let Ok(name) = entry.file_name().to_str() {
            alloc::push(&mut names, alloc::text(name)?)?;
        }
    }
    Ok(names)
}

/// Who may have a lock beside one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lock {
    Nobody,
    /// Others who ask for the same.
    Others,
}

/// Takes a lock, without waiting. False: somebody has one that forbids it. The open file
/// description has it: it ends with its last descriptor.
pub fn lock(fd: impl AsFd, beside: Lock) -> SysResult<bool> {
    inject::trip("flock")?;
    let kind = match beside {
        Lock::Nobody => libc::LOCK_EX,
        Lock::Others => libc::LOCK_SH,
    };
    loop {
        // SAFETY: it takes numbers, and touches no memory.
        if unsafe { libc::flock(fd.as_fd().as_raw_fd(), kind | libc::LOCK_NB) } == 0 {
            return Ok(true);
        }
        match Errno::last() {
            Errno::EINTR => {}
            Errno::EWOULDBLOCK => return Ok(false),
            errno => return Err(SysError::new("flock", errno)),
        }
    }
}
