//! Finding what was published.

use super::folder::Folder;
use super::look::Look;
use crate::error::{Error, NameError, NameFlaw, Result, ShareError};
use crate::share::{Nonce, ShareAccess, Token};
use crate::sys::{alloc, thread};
use std::path::Path;
use std::time::Duration;

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

/// A process that ends closes its descriptors one after another, so its offer may be gone before
/// its lock is. This is how often, and in which steps, one waits for that.
const MOST_WAITS: u32 = 100;
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
    let mut waited: Option<(Nonce, u32)> = None;
    let mut is_swept = false;
    for _ in 0..MOST_TRIES {
        let token = match folder.look(name)? {
            Look::Live(token) => token,
            Look::Flawed(flaw) => return Err(invalid(flaw).into()),
            Look::Absent | Look::Stale if is_swept => {
                let others = listed(&folder)?.into_iter().map(|listed| listed.name);
                return Err(not_found(others.filter(|other| other != name).collect()).into());
            }
            Look::Absent | Look::Stale => {
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
        let (name, pid) = (name.to_owned(), token.pid);
        // If it stays so. It may have been replaced, or its publisher is about to end; and then its
        // number may be another user's process already.
        let in_the_end: Error = match why {
            ShareError::Altered { .. } => return Err(invalid(NameFlaw::Altered).into()),
            ShareError::Unknown { .. } => invalid(NameFlaw::Altered).into(),
            ShareError::Gone { .. } | ShareError::Closed { .. } | ShareError::Used { .. } => {
                NameError::Unreachable { name, pid }.into()
            }
            ShareError::Denied { .. } => error,
            _ => return Err(error),
        };
        let waits = match waited {
            Some((of, waits)) if of == nonce => waits,
            _ => 0,
        };
        if waits >= MOST_WAITS {
            return Err(in_the_end);
        }
        if waits > 0 {
            thread::sleep(STEP);
        }
        waited = Some((nonce, waits.saturating_add(1)));
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
