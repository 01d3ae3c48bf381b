//! Giving an offer a name, and taking it back.

use super::file;
use super::folder::{Folder, lock};
use super::look::{Look, TEMPORARY, file_of};
use crate::error::{NameError, Result};
use crate::share::{self, Nonce, Token};
use crate::sys::checked_fd::{CheckedFd, Description};
use crate::sys::file::write_all;
use crate::sys::folder::{self, Entry, Lock};
use crate::sys::{SysError, SysResult, lock, process, random};
use nix::errno::Errno;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

/// This user's alone. The sticky bit tells what cleans up temporary folders to leave it (XDG base
/// directory specification).
const MODE: u32 = 0o1600;

/// Who ends waits less: a file that stays is removed by the next who looks.
const PATIENCE_AT_END: Duration = Duration::from_millis(250);

/// A name as long as it is kept: until it is dropped, or the process ends.
#[derive(Debug)]
pub struct Publication {
    folder: CheckedFd,
    /// Has the lock that says that the name is there.
    file: CheckedFd,
    found: Entry,
    file_name: String,
    nonce: Nonce,
}

/// When somebody who ended could not have the lock. Who ends right after that does not wait again:
/// a process with many names ends as soon as one with a few.
static GAVE_UP: lock::Lock<Option<Instant>> = lock::Lock::new(lock::Level::Names, None);
const RIGHT_AFTER: Duration = Duration::from_secs(1);

/// Gives a standing offer a name. `offer` makes it last, since it may forbid writing for good: then
/// nothing can be refused any more but to write a few bytes, and to rename a file.
/// `replace`: in place of whatever has the name. Those who look for it find what was there or this,
/// at any time.
pub fn publish(
    path: &Path,
    name: &str,
    replace: bool,
    offer: &dyn Fn() -> Result<Token>,
) -> Result<Publication> {
    let folder = Folder::open_or_make(path)?;
    let refused = |sys| folder.refused(sys);
    let kept = folder::open_again(&folder.fd).map_err(refused)?;
    // A folder's position is not ours to set.
    let kept = CheckedFd::new(kept, Description::Shared).map_err(refused)?;

    let locked = folder.lock()?;
    folder.sweep(&locked);
    match folder.look(name)? {
        Look::Live(other) if !replace => {
            return Err(NameError::Taken { name: name.to_owned(), pid: other.pid }.into());
        }
        Look::Flawed(flaw) if !replace => {
            let (name, folder) = (name.to_owned(), folder.path);
            return Err(NameError::Invalid { name, folder, flaw }.into());
        }
        _ => {}
    }
    let random = u64::from_le_bytes(random::bytes().map_err(refused)?);
    let temporary = format!("{TEMPORARY}{random:016x}");
    let made = make_file(&folder, &temporary).map_err(|sys| refused(sys).into()).and_then(|file| {
        let token = offer()?;
        let nonce = token.terms.nonce;
        let found = put(&folder, (&temporary, name), &file, &token);
        let found = found.inspect_err(|_| {
            share::end(nonce);
        })?;
        Ok(Publication { folder: kept, file, found, file_name: file_of(name), nonce })
    });
    made.inspect_err(|_| folder::remove_entry(&folder.fd, &temporary))
}

/// A file with its lock, under a name that nobody looks for.
fn make_file(folder: &Folder, name: &str) -> SysResult<CheckedFd> {
    let file = folder::create_entry(&folder.fd, name, MODE)?;
    if !folder::lock(&file, Lock::Nobody)? {
        return Err(SysError::new("flock", Errno::EWOULDBLOCK));
    }
    CheckedFd::new(file, Description::Ours)
}

/// Fills the file of a name, and puts it into its place.
fn put(
    folder: &Folder,
    (temporary, name): (&str, &str),
    file: &CheckedFd,
    token: &Token,
) -> Result<Entry> {
    // 0 is no process's.
    let started = process::life_of(token.pid).map_or(0, |life| life.started);
    let bytes = file::write(name, token, started)?;
    let done = || {
        let fd = file.get()?;
        write_all(fd, 0, &bytes)?;
        let found = folder::examine(fd)?;
        folder::rename_entry(&folder.fd, temporary, &file_of(name))?;
        Ok(found)
    };
    Ok(done().map_err(|sys| folder.refused(sys))?)
}

impl Publication {
    /// Whether those who look for the name find this one: nobody has replaced it.
    pub fn is_current(&self) -> bool {
        self.try_is_current().unwrap_or(false)
    }

    fn try_is_current(&self) -> SysResult<bool> {
        // Without the descriptor there is no lock.
        self.file.get()?;
        let there = folder::entry(self.folder.get()?, &self.file_name)?;
        Ok(there.is_some_and(|there| there.is_same_file(self.found)))
    }

    fn remove(&self) -> SysResult<()> {
        let folder = self.folder.get()?;
        let mut gave_up = GAVE_UP.lock();
        let waits = gave_up.is_none_or(|at| at.elapsed() > RIGHT_AFTER);
        let patience = if waits { PATIENCE_AT_END } else { Duration::ZERO };
        let locked = lock(folder.as_fd(), patience)?;
        if locked.is_none() && waits {
            *gave_up = Some(Instant::now());
        }
        drop(gave_up);
        if locked.is_some() && self.try_is_current()? {
            folder::remove_entry(folder, &self.file_name);
        }
        Ok(())
    }
}

impl Drop for Publication {
    fn drop(&mut self) {
        // A file that is left is stale without its lock, which goes with its descriptor.
        let _ = self.remove();
        // After the file: one who has read it by then looks again.
        share::end(self.nonce);
    }
}
