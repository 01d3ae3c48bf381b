//! In a sandbox that refuses system calls: what is optional is done without, and the rest is an
//! error with a code. Each in a process of its own.

#![allow(clippy::arithmetic_side_effects)] // Tests may let arithmetic panic.

mod support;

use std::time::{Duration, Instant};
use support::paging::{Provider, always, check, chunk_bytes};
use support::{PAGE, Reserved, Temp, forbid, page_bytes, run_ignored};
use wasm_hostmap::access::Access;
use wasm_hostmap::error::Code;
use wasm_hostmap::fault;
use wasm_hostmap::memory::Memory;
use wasm_hostmap::paging::Spec;
use wasm_hostmap::region::thp::PageKind;
use wasm_hostmap::region::{LoadProgress, Part, Region, load};
use wasm_hostmap::sys::futex::{Ended, Word};
use wasm_hostmap::sys::mmap::{Mmap, Pages, Sharing};
use wasm_hostmap::sys::page::PageAligned;
use wasm_hostmap::sys::wake::Wake;
use wasm_hostmap::sys::{memfd, process_map};

/// Older container profiles, newer ones, and security modules.
const ERRNOS: [(&str, i32); 3] =
    [("eperm", libc::EPERM), ("enosys", libc::ENOSYS), ("eacces", libc::EACCES)];

fn passes(test: &str) {
    for (name, _) in ERRNOS {
        let ran = run_ignored(&format!("{test}_{name}"));
        assert!(ran.status.success(), "{test}_{name}: {}", String::from_utf8_lossy(&ran.stderr));
    }
}

#[test]
fn what_is_optional_is_done_without() {
    passes("alone_without_what_is_optional");
}

#[test]
fn what_is_needed_is_an_error_with_a_code() {
    passes("alone_without_memfds");
}

/// `ioctl`: PROCMAP_QUERY and PAGEMAP_SCAN.
fn without_what_is_optional(errno: i32) {
    support::default_action();
    let calls = [
        libc::SYS_ioctl,
        libc::SYS_futex_waitv,
        libc::SYS_copy_file_range,
        libc::SYS_sendfile,
        libc::SYS_userfaultfd,
        libc::SYS_mincore,
        libc::SYS_fadvise64,
        libc::SYS_sched_setscheduler,
    ];
    forbid(&calls, errno);
    let bytes = vec![7; usize::try_from(4 * page_bytes()).unwrap()];
    let file = Temp::new("forbidden", &bytes);
    let progress = LoadProgress::default();
    let loaded = load(&file.0, Part::default(), None, PageKind::Gathered, &progress).unwrap();
    let reserved = Reserved::new(16);
    let memory = Memory::attach(reserved.place()).unwrap();
    for (page, region) in [(3, &loaded), (8, &file.open())] {
        let shown = region.pages(PageAligned::ZERO, region.byte_length()).unwrap();
        let at = page * PAGE.get();
        memory.map_at(reserved.place(), at, &shown, Access::Readonly, true).unwrap();
        assert_eq!(reserved.read(at + 5), 7);
        // A stray write, by the text of the map.
        reserved.write(at + 5, 9);
        assert_eq!(reserved.read(at + 5), 9);
        assert_eq!(support::read(region.view(5, 1).unwrap().address()), 7);
    }
    // Without userfaultfd, and by the text of the map.
    let spec = Spec { by_userfault: None, ..support::paging::spec(8 * chunk_bytes(), false) };
    let (paged, socket) = Region::paged("paged", spec).unwrap();
    let provider = Provider::start(&paged, socket, always());
    let view = paged.view(0, paged.byte_length()).unwrap();
    for _ in 0..2 {
        check(view.address(), 0, paged.byte_length(), 64);
        (0..8).for_each(|chunk| assert!(fault::evict(&provider.pager, chunk).unwrap()));
    }
    assert!(!provider.pager.is_userfault());
    assert!(process_map::is_text());
    assert_eq!(fault::take_reports().len(), 2);
    let fd = memfd::create("word", page_bytes()).unwrap();
    let pages = Pages::File {
        fd: std::os::fd::AsFd::as_fd(&fd),
        offset: PageAligned::ZERO,
        sharing: Sharing::Shared,
        is_memfd: true,
    };
    let word = Word::new(Mmap::new(*PAGE, pages).unwrap(), 0).unwrap();
    let soon = Instant::now().checked_add(Duration::from_millis(5));
    assert_eq!(word.wait(0, soon, &Wake::new()), Ok(Ended::TimedOut));
}

fn without_memfds(errno: i32) {
    support::default_action();
    forbid(&[libc::SYS_memfd_create], errno);
    let file = Temp::new("forbidden", &[7; 100]);
    let refused = Region::allocate(1, "t", PageKind::Ordinary).unwrap_err();
    assert_eq!(refused.code(), Code::OutOfMemory);
    assert_eq!(refused.sys().map(|sys| sys.errno as i32), Some(errno));
    assert!(refused.to_string().contains("seccomp"), "{refused}");
    let progress = LoadProgress::default();
    load(&file.0, Part::default(), None, PageKind::Ordinary, &progress).unwrap_err();
    // Files need none.
    assert_eq!(support::read(file.open().view(5, 1).unwrap().address()), 7);
}

#[test]
#[ignore = "forbids the process system calls"]
fn alone_without_what_is_optional_eperm() {
    without_what_is_optional(libc::EPERM);
}

#[test]
#[ignore = "forbids the process system calls"]
fn alone_without_what_is_optional_enosys() {
    without_what_is_optional(libc::ENOSYS);
}

#[test]
#[ignore = "forbids the process system calls"]
fn alone_without_what_is_optional_eacces() {
    without_what_is_optional(libc::EACCES);
}

#[test]
#[ignore = "forbids the process system calls"]
fn alone_without_memfds_eperm() {
    without_memfds(libc::EPERM);
}

#[test]
#[ignore = "forbids the process system calls"]
fn alone_without_memfds_enosys() {
    without_memfds(libc::ENOSYS);
}

#[test]
#[ignore = "forbids the process system calls"]
fn alone_without_memfds_eacces() {
    without_memfds(libc::EACCES);
}
