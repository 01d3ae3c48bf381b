//! The fault guard without V8: faults of native code in mappings and views.

#![allow(clippy::arithmetic_side_effects)] // Tests may let arithmetic panic.

mod support;

use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use support::{PAGE, Reserved, page_bytes, serial, write};
use wasm_hostmap::access::Access;
use wasm_hostmap::fault::{self, Cause, Outcome};
use wasm_hostmap::memory::{Mapped, Memory};
use wasm_hostmap::region::thp::PageKind;
use wasm_hostmap::region::{Part, Region};
use wasm_hostmap::sys::page::PageAligned;
use wasm_hostmap::v8::reservation::prove_guard;

fn region(pages: u64, fill: u8) -> Region {
    let bytes = vec![fill; usize::try_from(pages * page_bytes()).unwrap()];
    Region::copy_from(bytes.as_ptr() as u64, bytes.len() as u64, "test", PageKind::Ordinary)
        .unwrap()
}

fn byte_of(region: &Region, offset: u64) -> u8 {
    support::read(region.view(offset, 1).unwrap().address())
}

struct Mapping {
    reserved: Reserved,
    memory: Memory,
    mapped: Mapped,
}

impl Mapping {
    fn new(region: &Region, access: Access) -> Self {
        let reserved = Reserved::new(128);
        let memory = Memory::attach(reserved.place()).unwrap();
        let reservation = reserved.reservation();
        let guard = prove_guard(reserved.extent(), reservation).unwrap().unwrap();
        let largest_bytes = reservation.above_bytes - page_bytes();
        // SAFETY: the guard is this memory's, and no test makes its last page accessible.
        unsafe { memory.set_guard(reserved.place(), guard, largest_bytes) }.unwrap();
        let pages = region.pages(PageAligned::ZERO, region.byte_length()).unwrap();
        let mapped =
            memory.map_at(reserved.place(), 3 * PAGE.get(), &pages, access, false).unwrap();
        Self { reserved, memory, mapped }
    }

    fn strays(&self) -> u64 {
        self.memory.counts(self.mapped).unwrap().0.stray_writes()
    }
}

struct TempFile(std::path::PathBuf);

impl TempFile {
    fn new(name: &str, pages: u64) -> Self {
        let path = std::env::temp_dir().join(format!("hostmap-{}-{name}", std::process::id()));
        let bytes = vec![5; usize::try_from(pages * page_bytes()).unwrap()];
        std::fs::File::create(&path).unwrap().write_all(&bytes).unwrap();
        Self(path)
    }

    fn truncate(&self, pages: u64) {
        std::fs::File::options()
            .write(true)
            .open(&self.0)
            .unwrap()
            .set_len(pages * page_bytes())
            .unwrap();
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn a_stray_write_lands_on_a_private_page() {
    let _serial = serial();
    let region = region(4, 7);
    let it = Mapping::new(&region, Access::Readonly);
    it.reserved.write(4 * page_bytes() + 1, 9);
    assert_eq!(it.reserved.read(4 * page_bytes() + 1), 9);
    assert_eq!(byte_of(&region, page_bytes() + 1), 7);
    let (counts, _) = it.memory.counts(it.mapped).unwrap();
    let last = counts.last().unwrap();
    assert_eq!(
        (counts.stray_writes(), counts.faults(), last.region_offset),
        (1, 0, page_bytes() + 1)
    );
    assert_eq!(
        (last.cause, last.outcome, last.write),
        (Cause::Readonly, Outcome::PrivatePage, true)
    );
    let reports = fault::take_reports();
    assert_eq!(reports.len(), 1);
    assert!(reports[0].stray_write && !reports[0].missing_page);
    assert!(fault::take_reports().is_empty(), "it is told once");
}

#[test]
fn zeros_that_merged_with_those_of_views_that_are_gone_refuse_no_mapping() {
    let _serial = serial();
    let file = TempFile::new("merged", 9);
    let region = Region::open(&file.0, Part::default(), false).unwrap();
    let view = |page: u64| region.view(page * page_bytes(), page_bytes()).unwrap();
    let mut views: Vec<_> = (0..9).map(view).map(Some).collect();
    file.truncate(0);
    // Side by side: each of the second half merges with two of the first.
    for start in [0, 1] {
        for view in views.iter().skip(start).step_by(2).flatten() {
            assert_eq!(support::read(view.address()), 0);
        }
    }
    for view in views.iter_mut().step_by(2) {
        *view = None;
    }
    Mapping::new(&self::region(1, 7), Access::Readonly);
    drop(views);
    fault::take_reports();
}

#[test]
fn a_base_that_came_back_is_not_the_dead_memory_s() {
    let _serial = serial();
    let region = region(4, 7);
    let it = Mapping::new(&region, Access::Readonly);
    // The memory dies, and another one gets its address before anybody says so.
    it.reserved.renew();
    it.reserved.write(4 * page_bytes(), 9);
    assert_eq!(it.strays(), 0);
    assert_eq!(it.reserved.read(4 * page_bytes()), 9);
}

#[test]
fn a_missing_page_is_zeros_until_unmap_and_what_grew_back_is_data() {
    let _serial = serial();
    let file = TempFile::new("grow", 4);
    let region = Region::open(&file.0, Part::default(), false).unwrap();
    for access in [Access::Readonly, Access::Private] {
        let it = Mapping::new(&region, access);
        file.truncate(1);
        assert_eq!(it.reserved.read(3 * page_bytes()), 5);
        assert_eq!(it.reserved.read(5 * page_bytes()), 0);
        file.truncate(4);
        std::fs::write(&file.0, vec![6; usize::try_from(4 * page_bytes()).unwrap()]).unwrap();
        assert_eq!(it.reserved.read(5 * page_bytes()), 0, "zeros are there");
        assert_eq!(it.reserved.read(6 * page_bytes()), 6, "and not there");
        let counts = it.memory.unmap(it.reserved.place(), it.mapped).unwrap().unwrap();
        assert_eq!((counts.faults(), counts.stray_writes()), (1, 0));
        std::fs::write(&file.0, vec![5; usize::try_from(4 * page_bytes()).unwrap()]).unwrap();
    }
    drop(fault::take_reports());
}

#[test]
fn threads_that_fault_at_once_while_another_one_maps_and_unmaps() {
    let _serial = serial();
    let region = region(64, 7);
    let reserved = Reserved::new(128);
    let memory = Memory::attach(reserved.place()).unwrap();
    let base = reserved.base();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for seed in 1..4_u64 {
            let done = &done;
            scope.spawn(move || {
                let mut at = seed;
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    at = at.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    write(base + (at >> 33) % 128 * page_bytes() + seed, 9);
                }
            });
        }
        for round in 0..2000_u64 {
            let pages = region.pages(PageAligned::ZERO, region.byte_length()).unwrap();
            let at = round % 64 * page_bytes();
            let mapped =
                memory.map_at(reserved.place(), at, &pages, Access::Readonly, false).unwrap();
            memory.sync(reserved.place()).unwrap();
            memory.unmap(reserved.place(), mapped).unwrap().unwrap();
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    let view = region.view(0, region.byte_length()).unwrap();
    for page in 0..64 {
        assert_eq!(support::read(view.address() + page * page_bytes() + 2), 7);
    }
    drop(fault::take_reports());
}

#[test]
fn threads_that_fault_at_once_while_another_one_maps_and_unmaps_in_the_same_place() {
    let _serial = serial();
    let region = region(1, 7);
    let reserved = Reserved::new(16);
    let memory = Memory::attach(reserved.place()).unwrap();
    let base = reserved.base();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let done = &done;
            scope.spawn(move || {
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    write(base + thread, 9);
                }
            });
        }
        for _ in 0..20_000 {
            let pages = region.pages(PageAligned::ZERO, region.byte_length()).unwrap();
            let mapped =
                memory.map_at(reserved.place(), 0, &pages, Access::Readonly, false).unwrap();
            memory.unmap(reserved.place(), mapped).unwrap().unwrap();
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert_eq!(byte_of(&region, 0), 7);
    drop(fault::take_reports());
}

#[test]
fn threads_that_miss_the_same_page_lose_nothing_that_they_write() {
    let _serial = serial();
    let file = TempFile::new("lost", 64);
    let region = Region::open(&file.0, Part::default(), false).unwrap();
    for _ in 0..20 {
        let it = Mapping::new(&region, Access::Private);
        file.truncate(0);
        let start = it.reserved.base() + 3 * page_bytes();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(move || {
                    for page in 0..64 {
                        // SAFETY: the mapping is there as long as this scope.
                        let cell = unsafe {
                            &*((start + page * page_bytes()) as *const std::sync::atomic::AtomicU64)
                        };
                        cell.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    }
                });
            }
        });
        for page in 0..64 {
            assert_eq!(support::read(start + page * page_bytes()), 4, "page {page}");
        }
        std::fs::write(&file.0, vec![0; usize::try_from(64 * page_bytes()).unwrap()]).unwrap();
    }
    drop(fault::take_reports());
}

#[test]
fn pages_that_were_written_stay_however_many_are_missing() {
    let _serial = serial();
    let file = TempFile::new("many", 600);
    let region = Region::open(&file.0, Part::default(), false).unwrap();
    let reserved = Reserved::new(704);
    let memory = Memory::attach(reserved.place()).unwrap();
    let pages = region.pages(PageAligned::ZERO, region.byte_length()).unwrap();
    memory.map_at(reserved.place(), 0, &pages, Access::Private, false).unwrap();
    file.truncate(0);
    for page in (0..600).rev() {
        reserved.write(page * page_bytes(), 9);
    }
    for page in 0..600 {
        assert_eq!(reserved.read(page * page_bytes()), 9, "page {page}");
    }
    drop(fault::take_reports());
}

#[test]
fn what_is_protected_again_takes_no_vmas() {
    let _serial = serial();
    let region = region(64, 7);
    let it = Mapping::new(&region, Access::Readonly);
    for _ in 0..1000 {
        for page in 0..32 {
            it.reserved.write((3 + 2 * page) * page_bytes(), 9);
        }
        it.memory.sync(it.reserved.place()).unwrap();
    }
    assert_eq!(it.strays(), 32_000);
    drop(Mapping::new(&region, Access::Readonly));
    drop(fault::take_reports());
}

/// The signal by which one of the tests below ends.
fn signal_of(test: &str) -> Option<i32> {
    support::run_ignored(test).status.signal()
}

#[test]
fn what_is_not_ours_crashes_as_it_did() {
    assert_eq!(signal_of("crash_null"), Some(libc::SIGSEGV));
    assert_eq!(signal_of("crash_readonly_page_of_others"), Some(libc::SIGSEGV));
    assert_eq!(signal_of("crash_dead_memory"), Some(libc::SIGSEGV));
    assert_eq!(signal_of("crash_bus_sent"), Some(libc::SIGBUS));
    assert_eq!(signal_of("crash_missing_page_of_others"), Some(libc::SIGBUS));
    assert_eq!(signal_of("crash_view_used_after_it_was_freed"), Some(libc::SIGSEGV));
}

fn crash(access: impl FnOnce(&Mapping, &Region)) {
    // Rust's own handlers would let a signal that was sent pass, too.
    let _serial = serial();
    let region = region(4, 7);
    let it = Mapping::new(&region, Access::Readonly);
    it.reserved.write(3 * page_bytes(), 9);
    assert_eq!(it.strays(), 1, "the handler is there");
    access(&it, &region);
}

#[test]
#[ignore = "ends the process"]
fn crash_null() {
    crash(|_, _| write(8, 1));
}

#[test]
#[ignore = "ends the process"]
fn crash_readonly_page_of_others() {
    crash(|_, _| write("text".as_ptr() as u64, 1));
}

#[test]
#[ignore = "ends the process"]
fn crash_dead_memory() {
    // What is there now is inaccessible, as V8 leaves it.
    crash(|it, _| {
        it.reserved.renew();
        write(it.reserved.base() + 200 * page_bytes(), 1);
    });
}

#[test]
#[ignore = "ends the process"]
fn crash_bus_sent() {
    // SAFETY: the process ends by it, which is the point.
    crash(|_, _| unsafe { assert_eq!(libc::raise(libc::SIGBUS), 0) });
}

#[test]
#[ignore = "ends the process"]
fn crash_missing_page_of_others() {
    crash(|_, _| {
        let file = TempFile::new("crash", 2);
        let open = std::fs::File::open(&file.0).unwrap();
        let length = std::num::NonZeroUsize::new(4096).unwrap();
        let (protection, flags) =
            (nix::sys::mman::ProtFlags::PROT_READ, nix::sys::mman::MapFlags::MAP_PRIVATE);
        // SAFETY: a new mapping.
        let at =
            unsafe { nix::sys::mman::mmap(None, length, protection, flags, &open, 0) }.unwrap();
        file.truncate(0);
        drop(file);
        support::read(at.as_ptr() as u64);
    });
}

#[test]
#[ignore = "ends the process"]
fn crash_view_used_after_it_was_freed() {
    crash(|_, region| {
        region.seal().unwrap();
        let view = region.view(0, region.byte_length()).unwrap();
        let address = view.address();
        write(address, 1);
        drop(view);
        write(address, 1);
    });
}

#[cfg(feature = "inject")]
mod injected {
    use super::*;
    use wasm_hostmap::sys::{inject, process_map};

    fn strays_with(failures: &[(&str, u32)]) -> (u64, u64) {
        let region = region(4, 7);
        let it = Mapping::new(&region, Access::Readonly);
        let here = Some(std::thread::current().id());
        for (call, before) in failures {
            inject::arm(call, *before, libc::ENOTTY, here);
        }
        it.reserved.write(3 * page_bytes(), 9);
        assert!(!inject::disarm(here), "all of them went off");
        let first = it.strays();
        it.reserved.write(4 * page_bytes(), 9);
        assert_eq!(byte_of(&region, 0), 7);
        drop(fault::take_reports());
        (first, it.strays())
    }

    #[test]
    fn a_page_that_can_not_be_changed_alone_is_changed_with_its_mapping() {
        let _serial = serial();
        let once = ("mprotect", 0);
        let tries: &[_] = if process_map::is_text() { &[once; 2] } else { &[once] };
        assert_eq!(strays_with(tries), (1, 1));
    }

    #[test]
    fn without_the_kernel_s_query_its_text_is_read() {
        let _serial = serial();
        // Where it is read all the same, nothing fails.
        if !process_map::is_text() {
            assert_eq!(strays_with(&[("ioctl", 0)]), (1, 2));
        }
    }

    #[test]
    fn a_write_that_can_not_be_survived_crashes() {
        assert_eq!(signal_of("injected::crash_mprotect"), Some(libc::SIGSEGV));
        assert_eq!(signal_of("injected::crash_zeros"), Some(libc::SIGBUS));
    }

    #[test]
    #[ignore = "ends the process"]
    fn crash_mprotect() {
        let _serial = serial();
        strays_with(&[("mprotect", 0); 3]);
    }

    #[test]
    #[ignore = "ends the process"]
    fn crash_zeros() {
        let _serial = serial();
        let file = TempFile::new("zeros", 4);
        let region = Region::open(&file.0, Part::default(), false).unwrap();
        let it = Mapping::new(&region, Access::Readonly);
        file.truncate(0);
        drop(file);
        for _ in 0..3 {
            inject::arm("mmap", 0, libc::ENOMEM, Some(std::thread::current().id()));
        }
        it.reserved.read(3 * page_bytes());
    }
}
