//! Zeros that took the place of a paged region's pages: where they are, and when they go.

#![allow(clippy::arithmetic_side_effects)] // Tests may let arithmetic panic.

mod support;

use support::paging::{byte_at, check, chunk_bytes, modes, pager_of, provide, spec};
use support::{Reserved, no_hole, page_bytes, pages, read, serial, write};
use wasm_hostmap::access::Access;
use wasm_hostmap::fault;
use wasm_hostmap::memory::window_state::{Tail, WindowSpec};
use wasm_hostmap::memory::{Mapped, Memory};
use wasm_hostmap::paging::{Provided, Spec};
use wasm_hostmap::region::Region;
use wasm_hostmap::sys::limits;
use wasm_hostmap::sys::page::PageAligned;
use wasm_hostmap::sys::process_map;
use wasm_hostmap::sys::vma_budget::VmaClaim;
use wasm_hostmap::window;

/// A region whose touches fail soon, since nobody provides. Its provider's end of the socket stays
/// open as long as the test runs.
fn slow(chunks: u64, mode: bool, timeout_milliseconds: u32) -> Region {
    let spec = Spec { timeout_milliseconds, ..spec(chunks * chunk_bytes(), mode) };
    let (region, socket) = Region::paged("slow", spec).unwrap();
    std::mem::forget(socket);
    region
}

fn map(reserved: &Reserved, memory: &Memory, region: &Region, access: Access) -> Mapped {
    let pages = region.pages(PageAligned::ZERO, region.byte_length()).unwrap();
    memory.map_at(reserved.place(), 16 * page_bytes(), &pages, access, false).unwrap()
}

#[test]
fn zeros_of_touches_that_took_too_long_go_when_the_chunk_comes() {
    let _alone = serial();
    for mode in modes() {
        for access in [Access::Readonly, Access::Private] {
            let region = slow(4, mode, 5);
            let pager = pager_of(&region);
            let reserved = Reserved::new(256);
            let memory = Memory::attach(reserved.place()).unwrap();
            let mapped = map(&reserved, &memory, &region, access);
            let at = reserved.base() + 16 * page_bytes();
            let second = at + page_bytes();
            assert_eq!((read(at), read(second + 7)), (0, 0));
            if access == Access::Private {
                write(second + 7, 9);
            }
            assert_eq!(memory.counts(mapped).unwrap().0.faults(), 2);
            assert_eq!(provide(&pager, 0), Provided::Done);
            check(at, 0, page_bytes(), 1);
            check(at + 2 * page_bytes(), 2 * page_bytes(), 2 * page_bytes(), 1);
            // What was written to is the program's.
            match access {
                Access::Private => assert_eq!((read(second), read(second + 7)), (0, 9)),
                _ => check(second, page_bytes(), page_bytes(), 1),
            }
            assert_eq!(memory.counts(mapped).unwrap().0.faults(), 2);
            no_hole(&reserved);
        }
    }
}

#[test]
fn a_chunk_that_comes_when_a_touch_gives_up_is_seen() {
    let _alone = serial();
    for mode in modes() {
        let region = slow(1, mode, 1);
        let pager = pager_of(&region);
        let view = region.view(0, region.byte_length()).unwrap();
        let at = view.address();
        for round in 0..400_u64 {
            std::thread::scope(|scope| {
                for page in 0..2 {
                    scope.spawn(move || {
                        let found = read(at + page * page_bytes());
                        assert!(found == 0 || found == byte_at(page * page_bytes()));
                    });
                }
                std::thread::sleep(std::time::Duration::from_micros(700 + round * 3));
                assert_eq!(provide(&pager, 0), Provided::Done);
            });
            check(at, 0, chunk_bytes(), 1024);
            assert!(fault::evict(&pager, 0).unwrap());
        }
    }
}

#[test]
fn what_a_window_does_not_show_stays_its_tail() {
    let _alone = serial();
    for mode in modes() {
        for (access, tail) in [
            (Access::Readonly, Tail::Zeros),
            (Access::Readonly, Tail::Inaccessible),
            (Access::Private, Tail::Zeros),
        ] {
            let region = slow(8, mode, 5);
            let pager = pager_of(&region);
            let reserved = Reserved::new(256);
            let memory = Memory::attach(reserved.place()).unwrap();
            let place = reserved.place();
            let spec = WindowSpec { length: pages(12), access, tail };
            let window = window::open_at(&memory, place, 16 * page_bytes(), spec).unwrap();
            let at = reserved.base() + 16 * page_bytes();
            // A chunk and a page of the next one.
            let shown = region.pages(PageAligned::ZERO, 5 * page_bytes()).unwrap();
            assert!(window::slide(&memory, place, window, Some((&shown, access))).unwrap());
            assert_eq!(read(at + 4 * page_bytes()), 0);
            pager.fail(1).unwrap();
            assert_eq!(provide(&pager, 1), Provided::Done);
            check(at + 4 * page_bytes(), 4 * page_bytes(), page_bytes(), 1);
            for page in 5..12 {
                let vma = process_map::at_or_after(at + page * page_bytes()).unwrap().unwrap();
                assert_eq!(vma.is_inaccessible(), tail == Tail::Inaccessible, "{page}");
                if tail == Tail::Zeros {
                    assert_eq!(read(at + page * page_bytes() + 1), 0, "{page}");
                }
            }
            no_hole(&reserved);
        }
    }
}

#[test]
fn zeros_that_come_and_go_claim_no_more_mappings_than_there_are() {
    let _alone = serial();
    let used = || VmaClaim::take(1 << 40).unwrap_err().used;
    for mode in modes() {
        let region = slow(3, mode, 1);
        let pager = pager_of(&region);
        let view = region.view(0, region.byte_length()).unwrap();
        let before = used();
        for _ in 0..150 {
            for page in [4, 6] {
                assert_eq!(read(view.address() + page * page_bytes()), 0);
            }
            pager.fail(1).unwrap();
            assert_eq!(provide(&pager, 1), Provided::Done);
            check(view.address() + chunk_bytes(), chunk_bytes(), chunk_bytes(), 1024);
            assert!(fault::evict(&pager, 1).unwrap());
        }
        assert!(used() < before + 100, "{before} {}", used());
    }
}

#[test]
fn touches_that_fail_leave_room_for_other_mappings() {
    let _alone = serial();
    for mode in modes() {
        for access in [Access::Readonly, Access::Private] {
            let region = slow(20_000, mode, 1);
            pager_of(&region).close();
            let view = region.kept_view(0, region.byte_length(), access).unwrap();
            // Reading the map as text takes the longer the more there is.
            let step = if process_map::is_text() { 400_u64 } else { 2 };
            // None beside another.
            for page in (0..80_000 / step).map(|at| at * step) {
                assert_eq!(read(view.address() + page * page_bytes()), 0, "{page}");
            }
            let mut vmas = 0;
            process_map::for_each(|_| vmas += 1).unwrap();
            assert!(vmas < limits::max_map_count() / 10 * 9, "{mode} {access:?}: {vmas}");
            if mode || access == Access::Readonly {
                assert!(VmaClaim::take(10).is_ok());
                assert_eq!(region.counts().faults(), 80_000 / step);
            }
        }
    }
}

#[test]
fn without_room_for_more_mappings_a_touch_that_fails_makes_none() {
    let _alone = serial();
    let count = || {
        let mut vmas = 0;
        process_map::for_each(|_| vmas += 1).unwrap();
        vmas
    };
    for mode in modes() {
        let region = slow(100, mode, 1);
        pager_of(&region).close();
        let view = region.kept_view(0, region.byte_length(), Access::Private).unwrap();
        let mut claims = Vec::new();
        for size in [10_000, 1000, 100, 10, 1] {
            while let Ok(claim) = VmaClaim::take(size) {
                claims.push(claim);
            }
        }
        let before = count();
        for page in (0..400).step_by(2) {
            assert_eq!(read(view.address() + page * page_bytes()), 0, "{page}");
        }
        assert!(count() < before + 30, "{mode}: {before} {}", count());
    }
}

#[cfg(feature = "inject")]
#[test]
fn where_the_page_of_zeros_is_refused_others_take_its_place() {
    use wasm_hostmap::sys::inject;
    let _alone = serial();
    if !modes().contains(&true) {
        return;
    }
    let this = Some(std::thread::current().id());
    for errno in [libc::ENOENT, libc::EAGAIN, libc::EPERM] {
        let region = slow(2, true, 1);
        let view = region.view(0, region.byte_length()).unwrap();
        inject::arm("uffdio_zeropage", 0, errno, this);
        assert_eq!(read(view.address() + chunk_bytes()), 0);
        // Kernels that can't be asked for a VMA do without.
        let _ = inject::disarm(this);
        assert_eq!((region.counts().faults(), pager_of(&region).counted().failed), (1, 1));
        assert_eq!(provide(&pager_of(&region), 1), Provided::Done);
        check(view.address() + chunk_bytes(), chunk_bytes(), chunk_bytes(), 64);
    }
}
