//! Why a region can't be published or found by a name.

use super::Refused;
use super::causes::causes;
use std::fmt;
use std::path::PathBuf;

/// Why a folder is not used for names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FolderFlaw {
    /// A link, a file ...
    NoFolder,
    OfUser {
        owner: u32,
        user: u32,
    },
    Enterable {
        mode: u32,
    },
    Replaceable,
}

impl fmt::Display for FolderFlaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoFolder => f.write_str("it is a link, or no folder"),
            Self::OfUser { owner, user } => {
                write!(f, "it belongs to user {owner}, and this is user {user}")
            }
            Self::Enterable { mode } => {
                write!(f, "others may enter it (mode 0{mode:o}); chmod 0700 ends that")
            }
            Self::Replaceable => f.write_str(
                "anybody may rename a folder that it is in; chmod +t on that one ends that",
            ),
        }
    }
}

/// What is wrong with what a folder has under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameFlaw {
    NoFile,
    OtherUser,
    Writable,
    Altered,
    OtherVersion,
}

impl fmt::Display for NameFlaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoFile => "no regular file",
            Self::OtherUser => "another user's file",
            Self::Writable => "a file that others may open",
            Self::Altered => "not as publish() wrote it",
            Self::OtherVersion => {
                "of another version of wasm-hostmap; use the same in all processes"
            }
        })
    }
}

/// Names that a message has at most.
const MOST_NAMES: usize = 8;

fn there_are(others: &[String]) -> String {
    if others.is_empty() {
        return "nothing is published there".into();
    }
    let shown = others.iter().take(MOST_NAMES).map(|name| format!("\"{name}\""));
    let shown = shown.collect::<Vec<_>>().join(", ");
    match others.len().saturating_sub(MOST_NAMES) {
        0 if others.len() == 1 => format!("there is {shown}"),
        0 => format!("there are {shown}"),
        more => format!("there are {shown}, and {more} more"),
    }
}

/// What helps where the folder is why. Other causes say themselves what does.
fn elsewhere(refused: &Refused) -> &'static str {
    match refused.code() {
        None => ". options.directory gives another folder, whose parent exists",
        Some(_) => "",
    }
}

causes! {
    pub enum NameError {
        #[error("no region is published as \"{name}\" in {}: {}; publish it first, and keep the process that does running", .folder.display(), there_are(.others))]
        NotFound { name: String, folder: PathBuf, others: Vec<String> } => NameNotFound,

        #[error("process {pid} has published a region as \"{name}\"; choose another name, or pass replace: true to take it over")]
        Taken { name: String, pid: u32 } => NameTaken,

        #[error("what {} has for \"{name}\" is {flaw}; publish with replace: true, or remove the file \"{name}.region\"", .folder.display())]
        Invalid { name: String, folder: PathBuf, flaw: NameFlaw } => NameInvalid,

        #[error("process {pid} has published \"{name}\", but can't be reached from here: it is in another container, or the system lets nobody look into it; share a file with HostRegion.open")]
        Unreachable { name: String, pid: u32 } => ShareDenied,

        #[error("names can't be kept in {}: {flaw}. Give another folder by options.directory: one that only the user of this process can enter", .folder.display())]
        UnsafeFolder { folder: PathBuf, flaw: FolderFlaw } => FolderUnsafe,

        #[error("another process has held the lock on {} for {seconds} s; end that one, or use another folder (options.directory)", .folder.display())]
        Busy { folder: PathBuf, seconds: u64 } => FolderBusy,

        #[error("names can't be kept in {}: {refused}{}", .folder.display(), elsewhere(.refused))]
        Refused { folder: PathBuf, refused: Refused } => OpenFailed unless refused,

        #[error("what \"{name}\" stands for does not fit into its file")]
        TooLong { name: String } => Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::SysError;
    use nix::errno::Errno;

    #[test]
    fn another_folder_is_the_remedy_where_the_folder_is_why() {
        let says_so = |errno| {
            let refused = SysError::new("open", errno).into();
            let error = NameError::Refused { folder: "/names".into(), refused };
            error.to_string().contains("options.directory")
        };
        assert!(says_so(Errno::ENOENT) && says_so(Errno::EROFS));
        assert!(!says_so(Errno::EMFILE));
    }
}
