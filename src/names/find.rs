//! Finding what was published.

use super::folder::Folder;
use super::look::Look;
use crate::error::{Error, NameError, NameFlaw, Result, ShareError};
use crate::share::{Nonce, ShareAccess, Token};
use crate::sys::{alloc, process, thread};
use std::path::Path;
use std::time::{Duration, Instant};

/// What is under a name.
#[derive(Debug)]
pub struct Found<T> {
    pub made: T,
    /// Tells it from all other publications.
    pub nonce: Nonce,
}

/// What a list says of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub name: String,
    pub pid: u32,
    pub access: ShareAccess,
    pub byte_length: u64,
}

/// How long, and in which steps, one waits for what can't be had to be replaced: its publisher may
/// have taken it back after the file was read. By the clock: a publisher that is stopped, and
/// reached by its socket alone, takes two seconds of each try.
const PATIENCE: Duration = Duration::from_millis(200);
const STEP: Duration = Duration::from_millis(2);

/// How many replacements one finder may miss by a hair.
const MOST_TRIES: u32 = 10_000;

/// Receives what is published under a name. `None`: it is the one that the caller has.
pub fn find<T>(
    path: &Path,
    name: &str,
    known: Option<Nonce>,
    receive: &dyn Fn(&Token) -> Result<T>,
) -> Result<Option<Found<T>>> {
    let not_found =
        |others| NameError::NotFound { name: name.to_owned(), folder: path.to_owned(), others };
    let invalid =
        |flaw| NameError::Invalid { name: name.to_owned(), folder: path.to_owned(), flaw };
    let Some(folder) = Folder::open(path)? else { return Err(not_found(Vec::new()).into()) };
    let nothing = || -> Result<Error> {
        let others = listed(&folder)?.into_iter().map(|listed| listed.name);
        Ok(not_found(others.filter(|other| other != name).collect()).into())
    };
    let mut since: Option<(Nonce, Instant)> = None;
    let mut is_swept = false;
    for _ in 0..MOST_TRIES {
        let token = match folder.look(name)? {
            Look::Live(token) => token,
            Look::Flawed(flaw) => return Err(invalid(flaw).into()),
            Look::Absent | Look::Stale | Look::Ending if is_swept => return Err(nothing()?),
            Look::Absent | Look::Stale | Look::Ending => {
                is_swept = true;
                folder.sweep_if_free();
                continue;
            }
        };
        let nonce = token.terms.nonce;
        if known == Some(nonce) {
            return Ok(None);
        }
        let error = match receive(&token) {
            Ok(made) => return Ok(Some(Found { made, nonce })),
            Err(error) => error,
        };
        let Error::Share(why) = &error else { return Err(error) };
        let pid = token.pid;
        // If it stays so. It may have been replaced, or its publisher has ended; and then its
        // number may be another user's process already.
        let in_the_end: Error = match why {
            ShareError::Altered { .. } => return Err(invalid(NameFlaw::Altered).into()),
            ShareError::Unknown { .. } => invalid(NameFlaw::Altered).into(),
            // It has the lock, and no descriptor any more. Its last pages may take seconds.
            ShareError::Gone { .. } if process::is_ending(pid) => {
                if since.is_some_and(|(of, _)| of == nonce) {
                    return Err(nothing()?);
                }
                error
            }
            ShareError::Gone { .. } | ShareError::Closed { .. } | ShareError::Used { .. } => {
                NameError::Unreachable { name: name.to_owned(), pid }.into()
            }
            ShareError::Denied { .. } => error,
            _ => return Err(error),
        };
        match since {
            Some((of, at)) if of == nonce => {
                if at.elapsed() >= PATIENCE {
                    return Err(in_the_end);
                }
                thread::sleep(STEP);
            }
            _ => since = Some((nonce, Instant::now())),
        }
    }
    Err(not_found(Vec::new()).into())
}

fn listed(folder: &Folder) -> Result<Vec<Listed>> {
    let mut all = Vec::new();
    for name in folder.names()? {
        if let Look::Live(Token { terms, pid, .. }) = folder.look(&name)? {
            let (access, byte_length) = (terms.access, terms.byte_length);
            alloc::push(&mut all, Listed { name, pid, access, byte_length })?;
        }
    }
    Ok(all)
}

/// All that is published in a folder, by name.
pub fn list(path: &Path) -> Result<Vec<Listed>> {
    let Some(folder) = Folder::open(path)? else { return Ok(Vec::new()) };
    folder.sweep_if_free();
    listed(&folder)
}

/// Makes the folder, if there is none, for one who wants to be told of changes in it.
pub fn prepare(path: &Path) -> Result<()> {
    Folder::open_or_make(path).map(drop)
}
