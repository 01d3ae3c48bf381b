//! Publishing and finding in folders of the tests' own.

use super::folder::Folder;
use super::*;
use crate::error::{Code, Error, RegionError, Result};
use crate::share::{self, Receivers, ShareAccess, Shareable, Token};
use crate::sys::checked_fd::{CheckedFd, Description};
use crate::sys::{SysError, file, memfd, process};
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// Removed at its end.
struct TestFolder(PathBuf);

impl TestFolder {
    fn new() -> Self {
        let random = u64::from_le_bytes(crate::sys::random::bytes().unwrap());
        Self(std::env::temp_dir().join(format!("hostmap-names-{random:016x}")))
    }

    fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).unwrap();
        let mut files: Vec<String> =
            entries.map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
        files.sort();
        files
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for TestFolder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Of so many bytes, by which it is known again.
fn offered(byte_length: u64) -> Result<Token> {
    let refused = |sys: SysError| RegionError::NotAllocated { byte_length, refused: sys.into() };
    let fd = memfd::create("named", byte_length).map_err(refused)?;
    let fd = CheckedFd::new(fd, Description::Ours).map_err(refused)?;
    let what = (Shareable::Region, Receivers::Any);
    share::offer(&fd, what, ShareAccess::Readonly, 0, byte_length, "named")
}

fn put(folder: &TestFolder, name: &str, byte_length: u64, replace: bool) -> Result<Publication> {
    publish(&folder.0, name, replace, &|| offered(byte_length))
}

fn received(path: &Path, name: &str) -> Result<OwnedFd> {
    let receive = |token: &Token| share::receive(token, &Ok);
    find(path, name, None, &receive).map(|found| found.unwrap().made)
}

fn bytes_of(folder: &TestFolder, name: &str) -> u64 {
    file::status(received(&folder.0, name).unwrap()).unwrap().byte_length
}

fn code_of<T>(result: Result<T, Error>) -> Code {
    result.map(|_| ()).unwrap_err().code()
}

#[test]
fn what_is_published_is_found_until_it_is_dropped() {
    let folder = TestFolder::new();
    let publication = put(&folder, "one", 100, false).unwrap();
    assert!(publication.is_current());
    assert_eq!(bytes_of(&folder, "one"), 100);
    assert_eq!(bytes_of(&folder, "one"), 100, "any number of times");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode(&folder.0), mode(&folder.file("one.region"))), (0o700, 0o1600));
    let listed = list(&folder.0).unwrap();
    let names: Vec<_> = listed.iter().map(|it| (it.name.as_str(), it.byte_length)).collect();
    assert_eq!(names, [("one", 100)]);
    drop(publication);
    assert_eq!(code_of(received(&folder.0, "one")), Code::NameNotFound);
    assert_eq!(folder.files(), [""; 0]);
}

#[test]
fn a_name_is_one_regions_and_can_be_replaced() {
    let folder = TestFolder::new();
    let first = put(&folder, "one", 100, false).unwrap();
    assert_eq!(code_of(put(&folder, "one", 200, false)), Code::NameTaken);
    assert_eq!(bytes_of(&folder, "one"), 100);
    let second = put(&folder, "one", 200, true).unwrap();
    assert_eq!(bytes_of(&folder, "one"), 200);
    assert!(!first.is_current() && second.is_current());
    drop(first);
    assert_eq!(bytes_of(&folder, "one"), 200, "it was not the first one's any more");
    let nonce = find(&folder.0, "one", None, &|token: &Token| share::receive(token, &Ok));
    let nonce = nonce.unwrap().unwrap().nonce;
    let again = find(&folder.0, "one", Some(nonce), &|_: &Token| -> Result<()> { unreachable!() });
    assert!(again.unwrap().is_none());
}

#[test]
fn a_file_without_its_lock_is_no_name_and_is_swept() {
    let folder = TestFolder::new();
    let publication = put(&folder, "one", 100, false).unwrap();
    // What a crash leaves: a file under its name, and one that did not get it.
    for left in ["copy.region", ".new-0123456789abcdef"] {
        fs::copy(folder.file("one.region"), folder.file(left)).unwrap();
    }
    let error = received(&folder.0, "copy").unwrap_err();
    assert_eq!(error.code(), Code::NameNotFound);
    assert!(error.to_string().contains("there is \"one\""), "{error}");
    assert_eq!(folder.files(), ["one.region"]);
    drop(publication);
}

#[test]
fn what_is_no_file_of_ours_is_refused_and_left_alone() {
    let folder = TestFolder::new();
    let publication = put(&folder, "one", 100, false).unwrap();
    symlink("one.region", folder.file("link.region")).unwrap();
    fs::create_dir(folder.file("folder.region")).unwrap();
    nix::unistd::mkfifo(&folder.file("pipe.region"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    for name in ["link", "folder", "pipe"] {
        assert_eq!(code_of(received(&folder.0, name)), Code::NameInvalid);
        assert_eq!(code_of(put(&folder, name, 100, false)), Code::NameInvalid);
    }
    assert_eq!(code_of(received(&folder.0, "other")), Code::NameNotFound);
    assert_eq!(folder.files(), ["folder.region", "link.region", "one.region", "pipe.region"]);
    for name in ["link", "pipe"] {
        let replaced = put(&folder, name, 200, true).unwrap();
        assert_eq!((bytes_of(&folder, name), bytes_of(&folder, "one")), (200, 100));
        drop(replaced);
    }
    assert_eq!(code_of(put(&folder, "folder", 100, true)), Code::OpenFailed);
    drop(publication);
    assert_eq!(folder.files(), ["folder.region"]);
}

#[test]
fn no_altered_file_gives_anything_but_what_was_published() {
    let folder = TestFolder::new();
    let publication = put(&folder, "one", 100, false).unwrap();
    let path = folder.file("one.region");
    let bytes = fs::read(&path).unwrap();
    for at in 0..bytes.len() {
        let mut altered = bytes.clone();
        altered[at] ^= 1;
        fs::write(&path, &altered).unwrap();
        match received(&folder.0, "one") {
            Ok(fd) => assert_eq!(file::status(fd).unwrap().byte_length, 100),
            Err(error) => assert!(
                matches!(error.code(), Code::NameInvalid | Code::ShareDenied | Code::FileShrunk),
                "{at}: {error}"
            ),
        }
    }
    for length in (0..bytes.len()).step_by(7) {
        fs::write(&path, &bytes[..length]).unwrap();
        assert_eq!(code_of(received(&folder.0, "one")), Code::NameInvalid);
    }
    fs::write(&path, [&bytes[..], &[0; 5000]].concat()).unwrap();
    assert_eq!(code_of(received(&folder.0, "one")), Code::NameInvalid);
    fs::write(&path, b"wasm-hostmap name 2\nwhatever").unwrap();
    let error = received(&folder.0, "one").unwrap_err();
    assert!(error.to_string().contains("another version"), "{error}");
    fs::write(&path, &bytes).unwrap();
    assert_eq!(bytes_of(&folder, "one"), 100);
    drop(publication);
}

#[test]
fn a_folder_that_others_may_enter_or_replace_is_refused() {
    let folder = TestFolder::new();
    fs::create_dir(&folder.0).unwrap();
    let set = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode));
    let codes = |path: &Path| {
        [
            code_of(publish(path, "one", false, &|| offered(1))),
            code_of(received(path, "one")),
            code_of(list(path)),
        ]
    };
    for mode in [0o701, 0o710, 0o740, 0o704, 0o777] {
        set(&folder.0, mode).unwrap();
        assert_eq!(codes(&folder.0), [Code::FolderUnsafe; 3], "{mode:o}");
    }
    set(&folder.0, 0o777).unwrap();
    let inner = folder.file("inner");
    fs::create_dir(&inner).unwrap();
    set(&inner, 0o700).unwrap();
    assert_eq!(codes(&inner), [Code::FolderUnsafe; 3]);
    set(&folder.0, 0o1777).unwrap();
    drop(publish(&inner, "one", false, &|| offered(1)).unwrap());
    symlink("inner", folder.file("link")).unwrap();
    assert_eq!(codes(&folder.file("link")), [Code::FolderUnsafe; 3]);
    fs::write(folder.file("file"), b"").unwrap();
    assert_eq!(codes(&folder.file("file")), [Code::FolderUnsafe; 3]);
    assert_eq!(code_of(received(&folder.file("none"), "one")), Code::NameNotFound);
    assert_eq!(list(&folder.file("none")), Ok(Vec::new()));
}

#[test]
fn of_those_who_publish_at_once_one_has_the_name() {
    let folder = TestFolder::new();
    let path = folder.0.as_path();
    for replace in [false, true] {
        let made = std::thread::scope(|scope| {
            let threads: Vec<_> = (1..=8)
                .map(|bytes| scope.spawn(move || publish(path, "one", replace, &|| offered(bytes))))
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        let taken = made.iter().filter(|made| made.is_err()).count();
        assert_eq!(taken, if replace { 0 } else { 7 });
        let is_current =
            |made: &&Result<Publication>| made.as_ref().is_ok_and(Publication::is_current);
        assert_eq!(made.iter().filter(is_current).count(), 1);
        assert!((1..=8).contains(&bytes_of(&folder, "one")));
        assert_eq!(folder.files(), ["one.region"]);
        drop(made);
        assert_eq!(folder.files(), [""; 0]);
    }
}

#[test]
fn who_looks_while_it_is_replaced_always_finds_one() {
    let folder = TestFolder::new();
    let mut current = put(&folder, "one", 1, false).unwrap();
    let is_done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let finder = scope.spawn(|| {
            let mut last = 0;
            while !is_done.load(std::sync::atomic::Ordering::Acquire) {
                let bytes = bytes_of(&folder, "one");
                assert!(bytes >= last, "{bytes} after {last}");
                last = bytes;
            }
        });
        for bytes in 2..300 {
            // The old one ends right after it was replaced.
            current = put(&folder, "one", bytes, true).unwrap();
        }
        is_done.store(true, std::sync::atomic::Ordering::Release);
        finder.join().unwrap();
    });
    assert!(current.is_current());
}

#[test]
fn who_can_not_have_the_lock_is_told_and_what_ends_meanwhile_is_not_found() {
    let folder = TestFolder::new();
    let publication = put(&folder, "one", 100, false).unwrap();
    let many = (0..20).map(|i| put(&folder, &i.to_string(), 100, false).unwrap());
    let many: Vec<_> = many.collect();
    let held = Folder::open(&folder.0).unwrap().unwrap();
    let locked = held.lock().unwrap();
    assert_eq!(bytes_of(&folder, "one"), 100, "a finder needs no lock");
    assert_eq!(code_of(put(&folder, "two", 100, false)), Code::FolderBusy);
    drop(publication);
    assert_eq!(code_of(received(&folder.0, "one")), Code::NameNotFound);
    // They don't wait each by itself: that would take seconds.
    drop(many);
    assert_eq!(folder.files().len(), 21);
    assert_eq!(code_of(received(&folder.0, "7")), Code::NameNotFound);
    drop(locked);
    assert_eq!(list(&folder.0), Ok(Vec::new()));
    assert_eq!(folder.files(), [""; 0]);
}

#[test]
fn who_ends_is_not_found_though_the_kernel_has_not_let_go_of_it() {
    let folder = TestFolder::new();
    // One that has closed all it had open, but for its lock and a socket that answers nobody.
    let mut ended = std::process::Command::new("true").spawn().unwrap();
    while !process::is_ending(ended.id()) {
        std::thread::yield_now();
    }
    let random = u64::from_le_bytes(crate::sys::random::bytes().unwrap());
    let socket = format!("wasm-hostmap.{}.{random:016x}", ended.id());
    let silent = UnixListener::from(crate::sys::socket::listen(&socket).unwrap());
    let forged = || Ok(Token { pid: ended.id(), socket: socket.clone(), ..offered(100)? });
    let publication = publish(&folder.0, "one", false, &forged).unwrap();
    let other = put(&folder, "two", 200, false).unwrap();
    let error = received(&folder.0, "one").unwrap_err();
    assert_eq!(error.code(), Code::NameNotFound);
    assert!(error.to_string().contains("there is \"two\""), "{error}");
    silent.set_nonblocking(true).unwrap();
    let asked = silent.accept().map(drop).map_err(|error| error.kind());
    assert_eq!(asked, Err(std::io::ErrorKind::WouldBlock), "nobody waits for an answer");
    assert!(!process::is_ending(process::id()));
    ended.wait().unwrap();
    assert!(!process::is_ending(ended.id()));
    drop((publication, other));
}

#[test]
fn a_file_that_can_not_be_read_hides_no_other() {
    let folder = TestFolder::new();
    let publication = put(&folder, "one", 100, false).unwrap();
    fs::write(folder.file("two.region"), b"").unwrap();
    fs::set_permissions(folder.file("two.region"), fs::Permissions::from_mode(0o0)).unwrap();
    // Root reads it all the same, and finds nobody's lock on it.
    let is_root = process::user() == 0;
    let expected = if is_root { Code::NameNotFound } else { Code::NameInvalid };
    assert_eq!(code_of(received(&folder.0, "two")), expected);
    assert_eq!(code_of(received(&folder.0, "three")), Code::NameNotFound);
    assert_eq!(list(&folder.0).unwrap().len(), 1);
    drop(publication);
}

#[cfg(feature = "inject")]
#[test]
fn nothing_is_offered_where_there_can_be_no_file() {
    use crate::sys::inject;
    let this = Some(std::thread::current().id());
    let folder = TestFolder::new();
    drop(put(&folder, "one", 100, false).unwrap());
    let never = || -> Result<Token> { unreachable!("it may forbid writing for good") };
    for call in ["fchmod", "getrandom"] {
        inject::arm(call, 0, libc::EDQUOT, this);
        let made = publish(&folder.0, "one", false, &never);
        inject::disarm(this);
        assert_eq!(made.unwrap_err().sys().map(|sys| sys.syscall), Some(call));
        assert_eq!(folder.files(), [""; 0]);
    }
}

#[cfg(feature = "inject")]
#[test]
fn a_failed_call_leaves_no_name_and_no_file() {
    use crate::sys::inject;
    let this = Some(std::thread::current().id());
    let folder = TestFolder::new();
    let other = put(&folder, "other", 7, false).unwrap();
    let mut seen = Vec::new();
    let calls = [
        "mkdir",
        "open",
        "openat",
        "fstat",
        "fstatat",
        "getdents64",
        "flock",
        "getrandom",
        "fchmod",
        "pwrite",
        "renameat",
        "unlinkat",
        "lseek_checked",
        "fcntl",
        "pread",
        "memfd_create",
    ];
    for call in calls {
        for before in 0.. {
            let token = std::cell::OnceCell::new();
            inject::arm(call, before, libc::EIO, this);
            let made = publish(&folder.0, "one", false, &|| {
                let made = offered(100)?;
                token.set(made.clone()).unwrap();
                Ok(made)
            });
            let found = received(&folder.0, "one");
            if let Err(error) = &made {
                assert_eq!(error.sys().map(|sys| sys.syscall), Some(call), "{error}");
            }
            drop(made);
            let went = !inject::disarm(this);
            let is_left = token.get().is_some_and(|token| share::end(token.terms.nonce));
            assert!(!is_left, "{call} {before}: its offer is left");
            if let Ok(fd) = found {
                assert_eq!(file::status(fd).unwrap().byte_length, 100);
            }
            // What was left is a dead publisher's, which the next one removes.
            drop(put(&folder, "one", 100, false).unwrap());
            assert_eq!(folder.files(), ["other.region"], "{call} {before}");
            if !went {
                break;
            }
            seen.push(call);
        }
    }
    seen.dedup();
    let never: Vec<_> = calls.iter().filter(|call| !seen.contains(call)).collect();
    assert!(never.is_empty(), "{never:?}");
    assert_eq!(bytes_of(&folder, "other"), 7);
    drop(other);
}
