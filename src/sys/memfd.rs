//! Anonymous files (memfds) and their seals.
//!
//! Calls: memfd_create, fcntl(F_ADD_SEALS, F_GET_SEALS), ftruncate,
//! fallocate(FALLOC_FL_PUNCH_HOLE). Not for handlers.

use super::optional::Feature;
use super::page::PageAligned;
use super::{SysError, SysResult, file, inject};
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, FcntlArg, SealFlag, fallocate, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// MFD_NOEXEC_SEAL, of linux/memfd.h. What is in ours is never run, and systems that want this said
/// refuse others (EACCES where `vm.memfd_noexec` is 2).
const NOT_EXECUTABLE: MFdFlags = MFdFlags::from_bits_retain(8);

/// Memfds that say so, from kernel 6.3 on.
static NOEXEC: Feature =
    Feature::new("memfd_noexec", || create_with("probe", NOT_EXECUTABLE).map(drop));

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
    let create = |flags| create_with(name, flags);
    NOEXEC.tried(|| create(NOT_EXECUTABLE)).unwrap_or_else(|| create(MFdFlags::empty()))
}

fn create_with(name: &str, flags: MFdFlags) -> SysResult<OwnedFd> {
    let flags = flags | MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    memfd_create(name, flags).map_err(|errno| SysError::new("memfd_create", errno))
}

/// An empty memfd that stays so: every page that is mapped of it raises SIGBUS, whatever its
/// protection becomes.
pub fn create_empty(name: &str) -> SysResult<OwnedFd> {
    create(name, 0)
}

/// Takes whole pages out of a memfd: their memory is given back, and they are holes.
pub fn punch_hole(fd: impl AsFd, start: PageAligned, length: PageAligned) -> SysResult<()> {
    inject::trip("fallocate")?;
    let offset = |bytes: PageAligned| {
        i64::try_from(bytes.get()).map_err(|_| SysError::new("fallocate", Errno::EOVERFLOW))
    };
    let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    loop {
        match fallocate(&fd, flags, offset(start)?, offset(length)?) {
            Err(Errno::EINTR) => {}
            done => return done.map_err(|errno| SysError::new("fallocate", errno)),
        }
    }
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

/// How often the kernel is asked for a seal against writing.
const MOST_TRIES: u32 = 8;

/// Forbids every write from now on, in all processes. EBUSY while there is a writable shared
/// mapping, EPERM where seals can't be added.
///
/// EBUSY also means that somebody holds a page, who could write it. That may be the kernel, which
/// moves or lists pages: it waits 0.15 s itself, which on a busy machine is too short. So it is
/// asked again; where there is a mapping, it answers at once.
pub fn seal_write(fd: impl AsFd) -> SysResult<()> {
    for _ in 1..MOST_TRIES {
        match add_seals(&fd, SealFlag::F_SEAL_WRITE) {
            Err(SysError { errno: Errno::EBUSY, .. }) => {}
            other => return other,
        }
    }
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

    #[cfg(feature = "inject")]
    #[test]
    fn a_memfd_can_not_be_made_executable_where_the_kernel_knows_that() {
        use crate::sys::optional::ABSENT_ERRNOS;
        use nix::sys::stat::{Mode, fchmod};
        let this = Some(std::thread::current().id());
        let executable = |fd: &OwnedFd| fchmod(fd, Mode::from_bits_truncate(0o700));
        // Kernels before 6.3 know nothing of it.
        let before = executable(&create("t", 4096).unwrap());
        assert!(matches!(before, Ok(()) | Err(Errno::EPERM)), "{before:?}");
        for errno in ABSENT_ERRNOS {
            inject::arm("memfd_noexec", 0, errno as i32, this);
            assert_eq!(executable(&create("t", 4096).unwrap()), Ok(()), "{errno}");
            assert!(!inject::disarm(this), "it went off");
        }
        assert_eq!(executable(&create("t", 4096).unwrap()), before, "it is asked again");
    }

    #[test]
    fn a_write_seal_holds() {
        let fd = create("t", 4096).unwrap();
        seal_write(&fd).unwrap();
        assert_eq!(nix::unistd::write(&fd, b"x"), Err(Errno::EPERM));
    }

    #[cfg(feature = "inject")]
    #[test]
    fn a_write_seal_is_asked_for_again_while_a_page_is_held() {
        let this = Some(std::thread::current().id());
        let fd = create("t", 4096).unwrap();
        for _ in 1..MOST_TRIES {
            inject::arm("fcntl", 0, libc::EBUSY, this);
        }
        seal_write(&fd).unwrap();
        assert!(!inject::disarm(this), "all went off");
        assert_eq!(nix::unistd::write(&fd, b"x"), Err(Errno::EPERM));
    }
}
