//! What a folder has under a name, and what dead publishers left there.

use super::file;
use super::folder::{Folder, Locked, OF_OTHERS, lock};
use crate::error::{NameFlaw, Result};
use crate::share::Token;
use crate::sys::file::{FileKind, read_up_to};
use crate::sys::folder::{self, Lock};
use crate::sys::{process, to_u64};
use nix::errno::Errno;
use std::os::fd::AsFd;
use std::time::Duration;

const ENDING: &str = ".region";
/// Files that have no name yet. No name begins with a dot.
pub(super) const TEMPORARY: &str = ".new-";

/// How often a file is looked at that is another one each time.
const MOST_TRIES: usize = 1000;

#[derive(Debug)]
pub(super) enum Look {
    Absent,
    /// Its publisher has ended.
    Stale,
    /// Its publisher is about to end, and has the lock as long as that takes.
    Ending,
    Flawed(NameFlaw),
    Live(Token),
}

pub(super) fn file_of(name: &str) -> String {
    format!("{name}{ENDING}")
}

impl Folder {
    pub(super) fn look(&self, name: &str) -> Result<Look> {
        let file_name = file_of(name);
        for _ in 0..MOST_TRIES {
            if let Some(look) = self.look_once(&file_name)? {
                return Ok(look);
            }
        }
        Ok(Look::Flawed(NameFlaw::Altered))
    }

    /// `None`: it was another file when it was opened.
    fn look_once(&self, file_name: &str) -> Result<Option<Look>> {
        let refused = |sys| self.refused(sys);
        let Some(found) = folder::entry(&self.fd, file_name).map_err(refused)? else {
            return Ok(Some(Look::Absent));
        };
        // First: opening something of another kind may do something.
        if found.kind != FileKind::Regular {
            return Ok(Some(Look::Flawed(NameFlaw::NoFile)));
        }
        if found.user != process::user() {
            return Ok(Some(Look::Flawed(NameFlaw::OtherUser)));
        }
        if found.mode & OF_OTHERS != 0 {
            return Ok(Some(Look::Flawed(NameFlaw::Writable)));
        }
        let file = match folder::open_entry(&self.fd, file_name) {
            Ok(file) => file,
            Err(sys) if matches!(sys.errno, Errno::ENOENT | Errno::ELOOP) => return Ok(None),
            // Of a mode that nobody can read.
            Err(sys) if sys.errno == Errno::EACCES => {
                return Ok(Some(Look::Flawed(NameFlaw::Altered)));
            }
            Err(sys) => return Err(refused(sys).into()),
        };
        if folder::examine(&file).map_err(refused)? != found {
            return Ok(None);
        }
        if folder::lock(&file, Lock::Others).map_err(refused)? {
            return Ok(Some(Look::Stale));
        }
        if found.byte_length > to_u64(file::MOST_BYTES) {
            return Ok(Some(Look::Flawed(NameFlaw::Altered)));
        }
        let mut bytes = [0; file::MOST_BYTES];
        let length = read_up_to(&file, 0, &mut bytes).map_err(refused)?;
        Ok(Some(match file::read(bytes.get(..length).unwrap_or_default()) {
            Ok((token, started)) => {
                let is_ending = process::life_of(token.pid)
                    .is_ok_and(|life| life.is_ending && life.started == started);
                if is_ending { Look::Ending } else { Look::Live(token) }
            }
            Err(flaw) => Look::Flawed(flaw),
        }))
    }

    /// All names that have a file.
    pub(super) fn names(&self) -> Result<Vec<String>> {
        let files = folder::names(&self.fd).map_err(|sys| self.refused(sys))?;
        let name = |file: String| file.strip_suffix(ENDING).map(str::to_owned);
        let mut names: Vec<String> =
            files.into_iter().filter(|file| !file.starts_with('.')).filter_map(name).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// The same for one who can leave it to others: who changes names now does it, too.
    pub(super) fn sweep_if_free(&self) {
        if let Ok(Some(locked)) = lock(self.fd.as_fd(), Duration::ZERO) {
            self.sweep(&locked);
        }
    }

    /// Removes what dead publishers left. What can't be looked at is left for the next one.
    pub(super) fn sweep(&self, _locked: &Locked) {
        for file in folder::names(&self.fd).unwrap_or_default() {
            let is_left = if file.starts_with(TEMPORARY) {
                // Who makes one has the lock until it is renamed.
                folder::entry(&self.fd, &file)
                    .is_ok_and(|found| found.is_some_and(|found| found.kind == FileKind::Regular))
            } else {
                file.ends_with(ENDING) && matches!(self.look_once(&file), Ok(Some(Look::Stale)))
            };
            if is_left {
                folder::remove_entry(&self.fd, &file);
            }
        }
    }
}
