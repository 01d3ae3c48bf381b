//! Regions: files, memfds, views, seals and loads. No Node involved.

#![allow(clippy::arithmetic_side_effects)] // Tests may let arithmetic panic.

mod support;

use std::io::Write;
use std::os::fd::{AsRawFd, FromRawFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use support::page_bytes;
use wasm_hostmap::access::Access;
use wasm_hostmap::error::Code;
use wasm_hostmap::region::thp::PageKind;
use wasm_hostmap::region::{Backing, Held, LoadProgress, Part, Region, load};

/// A file that is removed when dropped.
struct Temp(PathBuf);

impl Temp {
    fn new(name: &str, bytes: &[u8]) -> Self {
        let path = std::env::temp_dir().join(format!("hostmap-{}-{name}", std::process::id()));
        std::fs::File::create(&path).unwrap().write_all(bytes).unwrap();
        Self(path)
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn bytes_of(region: &Region) -> Vec<u8> {
    let view = region.view(0, region.byte_length()).unwrap();
    (0..region.byte_length()).map(|at| support::read(view.address() + at)).collect()
}

#[test]
fn a_file_is_opened_or_loaded_in_whole_or_in_part() {
    let _serial = support::serial();
    let page = usize::try_from(page_bytes()).unwrap();
    let bytes: Vec<u8> = (0..3 * page + 100).map(|at| u8::try_from(at % 251).unwrap()).collect();
    let file = Temp::new("parts", &bytes);
    assert_eq!(bytes_of(&Region::open(&file.0, Part::default(), false).unwrap()), bytes);
    let part = Part { byte_offset: page_bytes(), byte_length: Some(50) };
    assert_eq!(bytes_of(&Region::open(&file.0, part, false).unwrap()), bytes[page..page + 50]);

    let progress = LoadProgress::default();
    let part = Part { byte_offset: 77, byte_length: None };
    let loaded = load(&file.0, part, None, PageKind::Ordinary, &progress).unwrap();
    assert_eq!(bytes_of(&loaded), bytes[77..]);
    assert_eq!(loaded.backing(), Backing::Memfd);
    assert_eq!(progress.loaded_bytes.load(Ordering::Relaxed), loaded.byte_length());
}

#[test]
fn holes_of_a_file_stay_holes() {
    let _serial = support::serial();
    let file = Temp::new("sparse", b"start");
    let length = 64 << 20;
    let handle = std::fs::File::options().write(true).open(&file.0).unwrap();
    handle.set_len(length).unwrap();
    nix::sys::uio::pwrite(&handle, b"end", i64::try_from(length - 3).unwrap()).unwrap();
    let loaded =
        load(&file.0, Part::default(), None, PageKind::Ordinary, &LoadProgress::default()).unwrap();
    let view = loaded.view(0, length).unwrap();
    assert_eq!(support::read(view.address()), b's');
    assert_eq!(support::read(view.address() + length - 1), b'd');
    assert!(loaded.held_bytes() < 1 << 20, "{} bytes are held", loaded.held_bytes());
}

#[test]
fn a_cancelled_load_gives_nothing() {
    let _serial = support::serial();
    let file = Temp::new("cancel", &[1; 1000]);
    let progress = LoadProgress::default();
    progress.cancelled.store(true, Ordering::Relaxed);
    assert_eq!(
        load(&file.0, Part::default(), None, PageKind::Ordinary, &progress).unwrap_err().code(),
        Code::Aborted
    );
}

#[test]
fn views_are_the_regions_bytes_until_it_is_sealed() {
    let _serial = support::serial();
    let region = Region::allocate(3 * page_bytes(), "views", PageKind::Ordinary).unwrap();
    let (one, two) = (region.view(5, 10).unwrap(), region.view(0, 100).unwrap());
    // SAFETY: the view is writable and lives.
    unsafe { std::ptr::write_volatile(one.address() as *mut u8, 42) };
    assert_eq!(support::read(two.address() + 5), 42);
    region.seal().unwrap();
    region.seal().unwrap();
    // SAFETY: a sealed region's view is copy-on-write.
    unsafe { std::ptr::write_volatile(one.address() as *mut u8, 43) };
    assert_eq!(support::read(two.address() + 5), 42);
    assert!(region.is_sealed() && !region.is_writable());
    let other =
        Region::from_fd(region.duplicate_fd().unwrap().as_raw_fd(), Part::default()).unwrap();
    assert!(!other.is_writable() && other.is_sealed());
}

#[test]
fn kept_views_outlive_their_region_until_all_are_released() {
    let _serial = support::serial();
    let region = Region::allocate(3 * page_bytes(), "kept", PageKind::Ordinary).unwrap();
    let released = region.view(0, 100).unwrap();
    // SAFETY: the view is writable and lives.
    unsafe { std::ptr::write_volatile(released.address() as *mut u8, 42) };
    let private = region.kept_view(0, 100, Access::Private).unwrap();
    let readonly = region.kept_view(1, page_bytes(), Access::Readonly).unwrap();
    let list = Arc::clone(region.views());
    let held = |released, kept, bytes| assert_eq!(list.held(), Held { released, kept, bytes });
    held(1, 2, 200 + page_bytes());

    region.seal().unwrap();
    let refused = region.kept_view(0, 1, Access::Shared).unwrap_err();
    assert_eq!(refused.code(), Code::RegionReadonly);
    drop(region);
    list.release(false);
    held(0, 2, 100 + page_bytes());
    assert_eq!(support::read(released.address()), 0);
    assert_eq!(support::read(private.address()), 42);
    // SAFETY: the view is copy-on-write and lives.
    unsafe { std::ptr::write_volatile(private.address() as *mut u8, 43) };

    drop(readonly);
    held(0, 1, 100);
    list.release(true);
    held(0, 0, 0);
    assert_eq!(support::read(private.address()), 0);
}

#[test]
fn what_is_no_file_is_refused() {
    let _serial = support::serial();
    let code = |result: Result<Region, wasm_hostmap::error::Error>| result.unwrap_err().code();
    let open = |path: &str| Region::open(path.as_ref(), Part::default(), false);
    assert_eq!(code(open("/")), Code::NotAFile);
    assert_eq!(code(open("/dev/null")), Code::NotAFile);
    assert_eq!(code(open("/no/such/file")), Code::OpenFailed);
    let empty = Temp::new("empty", b"");
    assert_eq!(code(Region::open(&empty.0, Part::default(), false)), Code::EmptyFile);
    let (reader, _writer) = nix::unistd::pipe().unwrap();
    assert_eq!(code(Region::from_fd(reader.as_raw_fd(), Part::default())), Code::NotAFile);
    assert_eq!(code(Region::from_fd(-1, Part::default())), Code::OpenFailed);
    let full = Temp::new("range", &[0; 100]);
    for (byte_offset, byte_length) in [
        (100, None),
        (101, None),
        (0, Some(101)),
        (0, Some(0)),
        (u64::MAX, None),
        (99, Some(u64::MAX)),
    ] {
        let part = Part { byte_offset, byte_length };
        assert_eq!(
            code(load(&full.0, part, None, PageKind::Ordinary, &LoadProgress::default())),
            Code::OutOfRange,
            "{part:?}"
        );
    }
    let part = Part { byte_offset: 8, byte_length: None };
    assert_eq!(code(Region::open(&full.0, part, false)), Code::OutOfRange);
}

/// The kernel rounds mappings of such a file up to whole huge pages: over a memory's guard.
#[test]
fn a_file_of_hugetlb_pages_is_refused() {
    let _serial = support::serial();
    // SAFETY: the name is a C string, and the result is a new descriptor or an error.
    let fd = unsafe { libc::memfd_create(c"hugetlb".as_ptr(), libc::MFD_HUGETLB) };
    if fd < 0 {
        return; // This kernel has no such pages.
    }
    // SAFETY: the kernel has just given it, to nobody else.
    let file = unsafe { std::fs::File::from_raw_fd(fd) };
    file.set_len(2 << 20).unwrap();
    let error = Region::from_fd(file.as_raw_fd(), Part::default()).unwrap_err();
    assert_eq!(error.code(), Code::NotAFile);
    assert!(error.to_string().contains("hugetlbfs"), "{error}");
}

#[test]
fn a_file_that_shrank_is_not_mapped() {
    let _serial = support::serial();
    let file = Temp::new("shrunk", &vec![1; usize::try_from(4 * page_bytes()).unwrap()]);
    let region = Region::open(&file.0, Part::default(), false).unwrap();
    std::fs::File::options().write(true).open(&file.0).unwrap().set_len(page_bytes()).unwrap();
    assert_eq!(region.view(0, 2 * page_bytes()).unwrap_err().code(), Code::FileShrunk);
    assert!(region.view(0, page_bytes()).is_ok());
}

#[cfg(feature = "inject")]
mod injected {
    use super::*;
    use nix::errno::Errno;
    use wasm_hostmap::sys::inject;

    fn open_fds() -> usize {
        std::fs::read_dir("/proc/self/fd").unwrap().count()
    }

    /// Runs an operation with each of its system calls failing in turn: it must fail with the
    /// kernel's errno, and leave no descriptor and no mapping.
    fn fails_cleanly<T>(
        calls: &[&str],
        operation: impl Fn() -> Result<T, wasm_hostmap::error::Error>,
    ) {
        let here = Some(std::thread::current().id());
        for call in calls {
            let mut before = 0;
            loop {
                let (fds, maps) = (open_fds(), file_vma_count());
                inject::arm(call, before, libc::EIO, here);
                let outcome = operation();
                if inject::disarm(here) {
                    assert!(before > 0, "{call} was never called");
                    break;
                }
                let error = outcome
                    .err()
                    .unwrap_or_else(|| panic!("{call}, {before} calls before, did not count"));
                assert_eq!(
                    error.sys().map(|sys| (sys.syscall, sys.errno)),
                    Some((*call, Errno::EIO))
                );
                assert_eq!((open_fds(), file_vma_count()), (fds, maps), "after {call}");
                before += 1;
            }
        }
    }

    /// How many VMAs show a file. Others come and go with the test runner's threads.
    fn file_vma_count() -> usize {
        let mut count = 0;
        wasm_hostmap::sys::process_map::for_each(|vma| count += usize::from(vma.inode != 0))
            .unwrap();
        count
    }

    #[test]
    fn a_load_goes_on_where_the_kernel_copies_nothing_and_knows_no_holes() {
        let _serial = support::serial();
        let bytes: Vec<u8> = (0..700_000_u32).map(|at| at.to_le_bytes()[1]).collect();
        let file = Temp::new("copied", &bytes);
        let here = Some(std::thread::current().id());
        let all = ["copy_file_range", "sendfile", "lseek"];
        for errno in
            [libc::ENOSYS, libc::ENOTTY, libc::EINVAL, libc::EPERM, libc::EACCES, libc::EOPNOTSUPP]
        {
            for calls in [&all[..1], &all[..2], &all[1..], &all] {
                for call in calls {
                    inject::arm(call, 0, errno, here);
                }
                let progress = LoadProgress::default();
                let loaded =
                    load(&file.0, Part::default(), None, PageKind::Ordinary, &progress).unwrap();
                // The kernel may have copied by the first of them.
                inject::disarm(here);
                assert!(bytes_of(&loaded) == bytes, "{errno} from {calls:?}");
            }
        }
    }

    #[test]
    fn every_call_of_every_operation_may_fail() {
        let _serial = support::serial();
        // What the allocator and the first look at the map take is taken now.
        drop((file_vma_count(), Region::allocate(1, "first", PageKind::Ordinary)));
        let file = Temp::new("inject", &[1; 10_000]);
        fails_cleanly(&["memfd_create", "ftruncate", "fcntl", "fstat"], || {
            Region::allocate(10_000, "t", PageKind::Ordinary)
        });
        fails_cleanly(&["pwrite"], || {
            Region::copy_from([1_u8; 10].as_ptr() as u64, 10, "t", PageKind::Ordinary)
        });
        fails_cleanly(&["open", "fstat", "fstatfs", "fcntl", "mmap"], || {
            Region::open(&file.0, Part::default(), false)
        });
        fails_cleanly(
            &["memfd_create", "open", "fstat", "lseek", "copy_file_range", "sendfile"],
            || load(&file.0, Part::default(), None, PageKind::Ordinary, &LoadProgress::default()),
        );
        let region = Region::allocate(10_000, "t", PageKind::Ordinary).unwrap();
        fails_cleanly(&["mmap"], || region.view(0, 100));
        let view = region.view(0, 100).unwrap();
        let here = Some(std::thread::current().id());
        inject::arm("fcntl", 0, libc::EIO, here);
        assert_eq!(region.seal().unwrap_err().sys().unwrap().errno, Errno::EIO);
        // SAFETY: the view is writable and lives.
        unsafe { std::ptr::write_volatile(view.address() as *mut u8, 42) };
        let second = region.view(0, 1).unwrap();
        assert_eq!(support::read(second.address()), 42, "the view is shared again");
    }
}
