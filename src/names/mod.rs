//! Regions that processes of one user find by a name, without knowing each other.
//!
//! ```text
//!  publisher                                        finder
//!  a standing offer (see `share`)
//!  FOLDER/NAME.region: its token,   <---- reads ---- the token; then receives the offer
//!    locked as long as it lives
//! ```
//!
//! **The folder** is the user's alone: of this user, mode 0700, no link. It is opened once, and all
//! else goes by its descriptor. So nobody else can put a name there, or see one.
//!
//! **A name is there as long as its file is locked** (`flock`). The kernel lets go of the lock when
//! the publisher's descriptor is closed, however its process ends. No number of a process is
//! believed: those come again. But freeing its memory may take a process that is killed seconds,
//! and it has the lock until then. So one that the kernel says is ending, and that started when the
//! file says, counts as gone. A file without a lock is what a dead publisher left. Who
//! publishes, lists, or looks for a name in vain removes it.
//!
//! **A file is never seen half written, nor without its lock:** it is written and locked under
//! another name, and renamed. So a finder needs no lock; and one who tries a lock of it disturbs
//! nobody, since no lock on a file is taken after it has its name.
//!
//! **Who changes names has the folder's lock.** So what is removed is what was looked at, of two
//! publishers one is first, and a temporary file that is there is a dead publisher's. A publisher
//! that can't have it when it ends leaves its file, without a lock.
//!
//! **The token proves nothing**, as all tokens: what was altered, copied or kept leads to the offer
//! that it is for, or nowhere. Its offer ends after the file is gone, so one who comes between the
//! two reads the folder again.
//!
//! Bottom up: `file` is what is written; `folder` has the folder and its lock; `look` says what is
//! under a name; `publish` and `find` are for others.

mod file;
mod find;
mod folder;
mod look;
mod publish;

pub use find::{Found, Listed, find, list, prepare};
pub use publish::{Publication, publish};

#[cfg(test)]
mod tests;
