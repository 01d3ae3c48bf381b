//! Anonymous files (memfds) and their seals.
//!
//! Calls: memfd_create, fcntl(F_ADD_SEALS, F_GET_SEALS), ftruncate. Not for handlers.

use super::{SysError, SysResult, file, inject};
use memfd::{Memfd, MemfdOptions};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A memfd of this size, all zeros: close-on-exec, sealed against shrinking, so that no mapping of
/// it can ever fault for want of a page behind it, and against growing.
pub fn create(name: &str, byte_length: u64) -> SysResult<OwnedFd> {
    let fd = create_growing(name)?;
    file::set_length(&fd, byte_length)?;
    seal_size(&fd)?;
    Ok(fd)
}

/// An empty memfd whose size is not sealed yet, close-on-exec.
pub fn create_growing(name: &str) -> SysResult<OwnedFd> {
    inject::trip("memfd_create")?;
    let options = MemfdOptions::default().allow_sealing(true).close_on_exec(true);
    let memfd: Memfd = options.create(name).map_err(|error| match error {
        memfd::Error::Create(error) => SysError::from_io("memfd_create", &error),
        _ => SysError::new("memfd_create", Errno::EINVAL),
    })?;
    Ok(memfd.into_file().into())
}

/// Forbids shrinking and growing from now on.
pub fn seal_size(fd: impl AsFd) -> SysResult<()> {
    add_seals(fd, SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW)
}

/// Whether this is a memfd: it has seals, and no name in any directory. The kernel's path for it
/// can't be forged by a file's name, which does not end so while it has one.
pub fn is_memfd(fd: BorrowedFd<'_>) -> bool {
    let named = |path: std::path::PathBuf| {
        let bytes = path.into_os_string().into_encoded_bytes();
        bytes.starts_with(b"/memfd:") && bytes.ends_with(b" (deleted)")
    };
    seals(fd).is_some() && super::file::path_of(fd).is_some_and(named)
}

/// What nobody can do to a memfd any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seals(SealFlag);

impl Default for Seals {
    /// None.
    fn default() -> Self {
        Self(SealFlag::empty())
    }
}

impl Seals {
    pub fn forbid_shrinking(self) -> bool {
        self.0.contains(SealFlag::F_SEAL_SHRINK)
    }

    /// No bytes can be written, by anybody.
    pub fn forbid_writing(self) -> bool {
        self.0.contains(SealFlag::F_SEAL_WRITE)
    }

    /// Nobody can write but through writable mappings that were there before.
    pub fn spare_old_writers(self) -> bool {
        self.0.contains(SealFlag::F_SEAL_FUTURE_WRITE)
    }

    /// No writable mapping can be made, and no `write` succeeds.
    pub fn forbid_new_writers(self) -> bool {
        self.0.intersects(SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_FUTURE_WRITE)
    }

    /// Neither its bytes nor its size can change.
    pub fn forbid_changes(self) -> bool {
        let changes = SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW;
        self.0.contains(changes)
    }

    /// No seal can be added.
    pub fn are_final(self) -> bool {
        self.0.contains(SealFlag::F_SEAL_SEAL)
    }
}

/// The seals of a file. `None`: it can't have any, as files on a disk.
pub fn seals(fd: BorrowedFd<'_>) -> Option<Seals> {
    fcntl(fd, FcntlArg::F_GET_SEALS).ok().map(SealFlag::from_bits_retain).map(Seals)
}

/// Forbids every write from now on, in all processes. EBUSY while there is a writable shared
/// mapping, EPERM where seals can't be added.
pub fn seal_write(fd: impl AsFd) -> SysResult<()> {
    add_seals(fd, SealFlag::F_SEAL_WRITE)
}

/// Forbids writing by everybody who has no writable mapping yet (kernel 5.1 and later).
pub fn seal_future_write(fd: impl AsFd) -> SysResult<()> {
    add_seals(fd, SealFlag::F_SEAL_FUTURE_WRITE)
}

/// Forbids adding seals. EPERM if that is forbidden already.
pub fn seal_seals(fd: impl AsFd) -> SysResult<()> {
    add_seals(fd, SealFlag::F_SEAL_SEAL)
}

fn add_seals(fd: impl AsFd, seals: SealFlag) -> SysResult<()> {
    inject::trip("fcntl")?;
    fcntl(fd, FcntlArg::F_ADD_SEALS(seals)).map(drop).map_err(|errno| SysError::new("fcntl", errno))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::fcntl::FdFlag;
    use std::fs::File;

    #[test]
    fn a_memfd_keeps_its_size_and_is_closed_on_exec() {
        let fd = create("t", 10_000).unwrap();
        let seals = seals(fd.as_fd()).unwrap();
        assert!(seals.forbid_shrinking());
        assert!(!seals.forbid_writing());
        let file = File::from(fd);
        assert!(file.set_len(5).is_err());
        assert!(file.set_len(20_000).is_err());
        let flags = FdFlag::from_bits_retain(fcntl(&file, FcntlArg::F_GETFD).unwrap());
        assert!(flags.contains(FdFlag::FD_CLOEXEC));
    }

    #[test]
    fn a_write_seal_holds() {
        let fd = create("t", 4096).unwrap();
        seal_write(&fd).unwrap();
        assert_eq!(nix::unistd::write(&fd, b"x"), Err(Errno::EPERM));
    }
}
