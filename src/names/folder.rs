//! The folder of names: whose it must be, and the lock of who changes what is in it.

use crate::error::{FolderFlaw, NameError, Result};
use crate::sys::folder::{self, Lock};
use crate::sys::{SysError, process, thread};
use nix::errno::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long somebody else may take who changes names. It takes them less than a millisecond.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
const STEP: Duration = Duration::from_millis(1);

/// Permissions of others than the owner.
pub(super) const OF_OTHERS: u32 = 0o077;

/// Folders above a folder at most: the kernel's paths are no longer.
const MOST_PARENTS: usize = 2048;

#[derive(Debug)]
pub(super) struct Folder {
    pub(super) fd: OwnedFd,
    pub(super) path: PathBuf,
}

/// The right to change what is in a folder, until it is dropped or the process ends.
#[derive(Debug)]
pub(super) struct Locked {
    _fd: OwnedFd,
}

impl Folder {
    /// Opens the folder, and makes it where there is none.
    pub(super) fn open_or_make(path: &Path) -> Result<Self> {
        folder::make(path).map_err(|sys| refused(path, sys))?;
        Self::open(path)?.ok_or_else(|| refused(path, SysError::new("open", Errno::ENOENT)).into())
    }

    /// `None`: there is none.
    pub(super) fn open(path: &Path) -> Result<Option<Self>> {
        let unsafe_for = |flaw| NameError::UnsafeFolder { folder: path.to_owned(), flaw };
        let fd = match folder::open_folder(path) {
            Ok(fd) => fd,
            Err(sys) if sys.errno == Errno::ENOENT => return Ok(None),
            Err(sys) if matches!(sys.errno, Errno::ELOOP | Errno::ENOTDIR) => {
                return Err(unsafe_for(FolderFlaw::NoFolder).into());
            }
            // Somebody else's is told as such.
            Err(sys)
                if sys.errno == Errno::EACCES
                    && let Some(owner) = folder::owner_of(path) =>
            {
                let user = process::user();
                return Err(match owner == user {
                    true => refused(path, sys),
                    false => unsafe_for(FolderFlaw::OfUser { owner, user }),
                }
                .into());
            }
            Err(sys) => return Err(refused(path, sys).into()),
        };
        let found = folder::examine(&fd).map_err(|sys| refused(path, sys))?;
        let user = process::user();
        if found.user != user {
            return Err(unsafe_for(FolderFlaw::OfUser { owner: found.user, user }).into());
        }
        if found.mode & OF_OTHERS != 0 {
            return Err(unsafe_for(FolderFlaw::Enterable { mode: found.mode & 0o777 }).into());
        }
        if is_replaceable(&fd).map_err(|sys| refused(path, sys))? {
            return Err(unsafe_for(FolderFlaw::Replaceable).into());
        }
        Ok(Some(Self { fd, path: path.to_owned() }))
    }

    pub(super) fn refused(&self, sys: SysError) -> NameError {
        refused(&self.path, sys)
    }

    pub(super) fn lock(&self) -> Result<Locked> {
        let locked = lock(self.fd.as_fd(), PATIENCE).map_err(|sys| self.refused(sys))?;
        Ok(locked.ok_or_else(|| NameError::Busy {
            folder: self.path.clone(),
            seconds: PATIENCE.as_secs(),
        })?)
    }
}

/// `None`: others have had it for so long.
pub(super) fn lock(fd: BorrowedFd<'_>, patience: Duration) -> Result<Option<Locked>, SysError> {
    // Of a description of its own: threads of one process keep each other out, too.
    let own = folder::open_again(fd)?;
    let mut waited = Duration::ZERO;
    while !folder::lock(&own, Lock::Nobody)? {
        if waited >= patience {
            return Ok(None);
        }
        thread::sleep(STEP);
        waited = waited.saturating_add(STEP);
    }
    Ok(Some(Locked { _fd: own }))
}

fn refused(path: &Path, sys: SysError) -> NameError {
    NameError::Refused { folder: path.to_owned(), refused: sys.into() }
}

/// Whether anybody may put another folder into its place: then two processes could use different
/// ones, and each would miss what the other publishes.
fn is_replaceable(fd: &OwnedFd) -> Result<bool, SysError> {
    const BY_ANYBODY: u32 = 0o002;
    const BY_OWNERS: u32 = 0o1000;
    let mut below = folder::examine(fd)?;
    let mut at = folder::open_parent(fd)?;
    for _ in 0..MOST_PARENTS {
        let found = folder::examine(&at)?;
        // The root is its own parent.
        if found.is_same_file(below) {
            return Ok(false);
        }
        if found.mode & BY_ANYBODY != 0 && found.mode & BY_OWNERS == 0 {
            return Ok(true);
        }
        below = found;
        at = folder::open_parent(&at)?;
    }
    Ok(false)
}
