//! Every way by which pages of a paged region are mapped, moved, read ahead, written or taken out:
//! none shows zeros that nobody has provided.

#![allow(clippy::arithmetic_side_effects)] // Tests may let arithmetic panic.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use support::paging::{
    Provider, always, byte_at, check, chunk_bytes, modes, paged, pager_of, provide,
};
use support::{Numbers, Reserved, no_hole, page_bytes, pages, read, serial, write};
use wasm_hostmap::access::Access;
use wasm_hostmap::error::Code;
use wasm_hostmap::fault;
use wasm_hostmap::memory::adopt::{Means, Place};
use wasm_hostmap::memory::window_state::{Tail, WindowSpec};
use wasm_hostmap::memory::{Mapped, Memory};
use wasm_hostmap::paging::{Provided, State};
use wasm_hostmap::region::Region;
use wasm_hostmap::snapshot::Settings;
use wasm_hostmap::snapshot::capture::{Afterwards, MappedRegion, capture};
use wasm_hostmap::snapshot::complete::complete;
use wasm_hostmap::snapshot::metadata::About;
use wasm_hostmap::snapshot::restore::restore;
use wasm_hostmap::sys::memfd;
use wasm_hostmap::sys::mmap::Sharing;
use wasm_hostmap::sys::page::{PageAligned, PageSpan};
use wasm_hostmap::sys::vma_budget::VmaClaim;
use wasm_hostmap::v8::array_bytes::{ArrayBytes, Holders};
use wasm_hostmap::window::{self, Stream};

const AT: u64 = 16;

struct One {
    reserved: Reserved,
    memory: Memory,
}

impl One {
    fn new() -> Self {
        let reserved = Reserved::new(1024);
        let memory = Memory::attach(reserved.place()).unwrap();
        Self { reserved, memory }
    }

    fn map(&self, region: &Region, access: Access) -> Mapped {
        let shown = region.pages(PageAligned::ZERO, region.byte_length()).unwrap();
        let at = AT * page_bytes();
        self.memory.map_at(self.reserved.place(), at, &shown, access, false).unwrap()
    }

    fn window(&self, access: Access) -> Mapped {
        let spec = WindowSpec { length: pages(12), access, tail: Tail::Zeros };
        window::open_at(&self.memory, self.reserved.place(), AT * page_bytes(), spec).unwrap()
    }

    fn slide(&self, window: Mapped, region: &Region, page: u64, count: u64, access: Access) {
        let shown = region.pages(pages(page), count * page_bytes()).unwrap();
        let chunk = Some((&shown, access));
        assert!(window::slide(&self.memory, self.reserved.place(), window, chunk).unwrap());
    }

    fn at(&self) -> u64 {
        self.reserved.base() + AT * page_bytes()
    }
}

#[test]
fn an_evicted_chunk_is_asked_for_again_in_all_mappings() {
    let _alone = serial();
    for mode in modes() {
        let (region, socket) = paged(20 * chunk_bytes(), mode);
        let provider = Provider::start(&region, socket, always());
        let one = One::new();
        one.map(&region, Access::Readonly);
        let view = region.view(page_bytes(), 18 * chunk_bytes()).unwrap();
        check(view.address(), page_bytes(), 18 * chunk_bytes(), 64);
        check(one.at(), 0, 20 * chunk_bytes(), 64);
        let held = region.held_bytes();
        for chunk in 0..20 {
            assert!(fault::evict(&provider.pager, chunk).unwrap());
            assert!(!fault::evict(&provider.pager, chunk).unwrap(), "it is not there");
            assert_eq!(provider.pager.state(chunk), Some(State::Missing));
        }
        assert_eq!((held, region.held_bytes()), (20 * chunk_bytes(), 0));
        assert_eq!(provider.pager.counted().present, 0);
        check(one.at(), 0, 20 * chunk_bytes(), 64);
        check(view.address(), page_bytes(), 18 * chunk_bytes(), 64);
        assert_eq!(provider.asked().len(), 40);
        assert_eq!(region.counts().faults(), 0);
        no_hole(&one.reserved);
    }
}

#[test]
fn what_is_pinned_stays() {
    let _alone = serial();
    for mode in modes() {
        let (region, _socket) = paged(10 * chunk_bytes(), mode);
        let pager = pager_of(&region);
        (0..10).for_each(|chunk| assert_eq!(provide(&pager, chunk), Provided::Done));
        pager.pin(2, 4).unwrap();
        pager.pin(4, 5).unwrap();
        let evicts = |chunk| fault::evict(&pager, chunk).unwrap();
        assert!(evicts(1) && !evicts(2) && !evicts(4) && !evicts(5) && evicts(6));
        assert!(!pager.unpin(2, 5).unwrap(), "no such pin");
        assert!(pager.unpin(2, 4).unwrap() && !pager.unpin(2, 4).unwrap());
        assert!(evicts(2) && !evicts(4));
        assert!(pager.unpin(4, 5).unwrap() && evicts(4));
        assert_eq!(region.held_bytes(), 6 * chunk_bytes());
    }
}

#[test]
fn what_was_written_to_a_private_mapping_outlives_an_eviction() {
    let _alone = serial();
    for mode in modes() {
        let (region, socket) = paged(4 * chunk_bytes(), mode);
        let provider = Provider::start(&region, socket, always());
        let one = One::new();
        one.map(&region, Access::Private);
        write(one.at() + chunk_bytes() + 1, 0);
        check(one.at(), 0, chunk_bytes(), 64);
        // Pages of a file that nobody wrote can be taken out, of any mapping.
        assert!(fault::evict(&provider.pager, 0).unwrap());
        // Without userfaultfd, what was written keeps its chunk.
        assert_eq!(fault::evict(&provider.pager, 1).unwrap(), mode);
        assert_eq!(read(one.at() + chunk_bytes() + 1), 0);
        write(one.at() + chunk_bytes() + 2, 0);
        check(one.at(), 0, chunk_bytes(), 64);
        assert_eq!(read(one.at() + chunk_bytes()), byte_at(chunk_bytes()));
        check(one.at() + chunk_bytes() + page_bytes(), chunk_bytes() + page_bytes(), 64, 1);
        assert_eq!(provider.pager.counted().failed, 0);
    }
}

#[test]
fn windows_slide_over_paged_regions() {
    let _alone = serial();
    for mode in modes() {
        for access in [Access::Readonly, Access::Private] {
            let (region, socket) = paged(40 * chunk_bytes(), mode);
            let (other, other_socket) = paged(8 * chunk_bytes(), mode);
            let provider = Provider::start(&region, socket, always());
            let _other = Provider::start(&other, other_socket, always());
            let mut one = One::new();
            let window = one.window(access);
            let stream = Stream::new(&region, access.sharing(), true, true);
            assert!(stream.is_idle(), "nothing is read ahead or left behind");
            for _ in 0..2 {
                for page in [0, 3, 9, 100, 148, 7] {
                    one.slide(window, &region, page, 12, access);
                    check(one.at(), page * page_bytes(), 12 * page_bytes(), 64);
                    one.slide(window, &other, page % 20, 5, access);
                    check(one.at(), page % 20 * page_bytes(), 5 * page_bytes(), 64);
                    assert_eq!(read(one.at() + 5 * page_bytes()), 0, "its tail");
                }
                one.reserved.grow(16);
                for chunk in 0..40 {
                    let was_present = provider.pager.state(chunk) == Some(State::Present);
                    assert_eq!(fault::evict(&provider.pager, chunk).unwrap(), was_present);
                }
            }
            let place = one.reserved.place();
            assert!(window::slide(&one.memory, place, window, None).unwrap());
            assert_eq!(read(one.at()), 0);
            let counts = one.memory.unmap(place, window).unwrap().unwrap();
            assert_eq!(counts.faults(), 0);
            no_hole(&one.reserved);
        }
    }
}

#[test]
fn a_memory_that_has_grown_is_still_known_by_what_is_mapped() {
    let _alone = serial();
    for mode in modes() {
        let (region, _socket) = paged(20 * chunk_bytes(), mode);
        let mut one = One::new();
        one.map(&region, Access::Readonly);
        one.reserved.grow(16);
        assert!(one.memory.is_still_at(one.reserved.place()) && !one.memory.is_lost());
        one.reserved.renew();
        assert!(one.memory.is_lost());
    }
}

#[test]
fn chunks_that_come_and_go_take_no_more_mappings_than_there_are() {
    let _alone = serial();
    let (region, socket) = paged(200 * chunk_bytes(), false);
    let provider = Provider::start(&region, socket, always());
    let view = region.kept_view(0, region.byte_length(), Access::Readonly).unwrap();
    let mut numbers = Numbers(5);
    for _ in 0..10_000 {
        let chunk = numbers.below(200);
        assert_eq!(read(view.address() + chunk * chunk_bytes()), byte_at(chunk * chunk_bytes()));
        if numbers.below(3) > 0 {
            fault::evict(&provider.pager, numbers.below(200)).unwrap();
        }
    }
    // What is claimed too much would be refused by now.
    drop(VmaClaim::take(50_000).unwrap());
    assert_eq!(provider.pager.counted().failed, 0);
}

#[test]
fn a_prefetch_leaves_what_is_missing_to_the_provider() {
    let _alone = serial();
    for mode in modes() {
        let (region, _socket) = paged(20 * chunk_bytes(), mode);
        let one = One::new();
        let mapped = one.map(&region, Access::Readonly);
        let part = PageSpan::new(PageAligned::ZERO, pages(80)).unwrap();
        one.memory.prefetch(mapped, part, false, &AtomicBool::new(false)).unwrap();
        let counted = pager_of(&region).counted();
        assert_eq!((counted.faults, region.held_bytes()), (0, 0));
    }
}

#[test]
fn a_buffer_over_a_paged_region_is_not_adopted() {
    let _alone = serial();
    for mode in modes() {
        let (region, _socket) = paged(20 * chunk_bytes(), mode);
        let view = region.kept_view(10, 19 * chunk_bytes(), Access::Private).unwrap();
        let one = One::new();
        // SAFETY: the view's bytes, which nobody else has.
        let bytes = unsafe { ArrayBytes::new(view.address(), view.byte_length(), Holders::Any) };
        let place = Place::At { at: AT * page_bytes(), room_bytes: 100 * page_bytes() };
        for means in [Means::Copy, Means::MoveOrCopy] {
            let adopted = one.memory.adopt(one.reserved.place(), bytes.unwrap(), place, means);
            assert_eq!(adopted.unwrap_err().code(), Code::RegionPaged);
        }
    }
}

#[test]
fn a_restored_memory_shows_the_region_and_what_was_written() {
    let _alone = serial();
    for mode in modes() {
        for access in [Access::Readonly, Access::Private] {
            let (region, socket) = paged(20 * chunk_bytes(), mode);
            let provider = Provider::start(&region, socket, always());
            let region = Arc::new(region);
            let one = One::new();
            let mapped = one.map(&region, access);
            let written = 3 * chunk_bytes() + 5;
            if access == Access::Private {
                write(one.at() + written, 0);
            }
            let regions = [MappedRegion {
                start: mapped.start,
                region: Some(Arc::clone(&region)),
                byte_length: region.byte_length(),
                skip: 0,
                strict: false,
            }];
            let settings = Settings { keep_resident_bytes: 1 << 20, huge_pages: false };
            let place = one.reserved.place();
            let snapshot =
                capture(&one.memory, place, "paged", &regions, settings, Afterwards::Shares)
                    .unwrap();
            complete(&snapshot, About::default(), None).unwrap();
            let asked = provider.asked().len();
            assert!(asked <= 1, "a snapshot brings nothing in");
            for round in 0..3 {
                if access == Access::Private {
                    write(one.at() + written, 7);
                    write(one.at() + 9 * chunk_bytes(), 0);
                }
                if round == 1 {
                    // Mapped anew, where nothing is there.
                    one.memory.unmap(one.reserved.place(), mapped).unwrap();
                    for chunk in 0..20 {
                        fault::evict(&provider.pager, chunk).unwrap();
                    }
                }
                restore(&one.memory, one.reserved.place(), &snapshot).unwrap();
                for chunk in 0..20 {
                    let offset = chunk * chunk_bytes();
                    check(one.at() + offset, offset, 5, 1);
                }
                if access == Access::Private {
                    assert_eq!(read(one.at() + written), 0);
                }
                check(one.at() + written + 1, written + 1, 100, 1);
                assert_eq!(provider.pager.counted().failed, 0);
                if round == 1 {
                    break;
                }
            }
        }
    }
}

#[test]
fn without_room_for_more_mappings_chunks_are_shown_by_turns() {
    let _alone = serial();
    let (region, socket) = paged(100 * chunk_bytes(), false);
    let provider = Provider::start(&region, socket, always());
    let view = region.view(0, region.byte_length()).unwrap();
    for chunk in (0..60).step_by(2) {
        check(view.address() + chunk * chunk_bytes(), chunk * chunk_bytes(), chunk_bytes(), 64);
    }
    let mut claims = Vec::new();
    for count in [10_000, 1000, 100, 10, 1] {
        while let Ok(claim) = VmaClaim::take(count) {
            claims.push(claim);
        }
    }
    for round in 0..2 {
        for chunk in (1..100).step_by(2) {
            let offset = chunk * chunk_bytes();
            check(view.address() + offset, offset, chunk_bytes(), 64);
        }
        assert_eq!(region.counts().faults(), 0, "round {round}");
    }
    check(view.address(), 0, region.byte_length(), 64);
    assert_eq!(provider.pager.counted().failed, 0);
}

#[test]
fn a_thread_that_makes_pages_accessible_too_early_leaves_no_zeros() {
    let _alone = serial();
    for mode in modes() {
        let (region, socket) = paged(20 * chunk_bytes(), mode);
        let _provider = Provider::start(&region, socket, always());
        let one = One::new();
        let done = AtomicBool::new(false);
        let (base, at) = (one.reserved.base(), one.at());
        std::thread::scope(|scope| {
            // As a shared memory that another thread grows, and touches.
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    Reserved::open(base, 1024);
                    for page in 0..80 {
                        std::hint::black_box(read(at + page * page_bytes()));
                    }
                }
            });
            for _ in 0..300 {
                let mapped = one.map(&region, Access::Readonly);
                for chunk in 0..20 {
                    let offset = chunk * chunk_bytes();
                    check(one.at() + offset, offset, 3, 1);
                    fault::evict(&pager_of(&region), chunk).unwrap();
                }
                one.memory.unmap(one.reserved.place(), mapped).unwrap();
            }
            done.store(true, Ordering::Relaxed);
        });
    }
}

#[test]
fn a_page_that_is_lost_though_its_chunk_is_present_ends_in_zeros_that_are_counted() {
    let _alone = serial();
    if !modes()[0] {
        return;
    }
    let (region, _socket) = paged(2 * chunk_bytes(), true);
    let view = region.view(0, region.byte_length()).unwrap();
    provide(&pager_of(&region), 0);
    check(view.address(), 0, chunk_bytes(), 64);
    // As a disk that loses what was swapped to it.
    let fd = region.shared_fd().get().unwrap();
    memfd::punch_hole(fd, PageAligned::ZERO, pages(1)).unwrap();
    assert_eq!((read(view.address()), region.counts().faults()), (0, 1));
    check(view.address() + page_bytes(), page_bytes(), 3 * page_bytes(), 64);
}

#[test]
fn no_other_way_maps_pages_of_a_paged_region() {
    let _alone = serial();
    for mode in modes() {
        let (region, _socket) = paged(chunk_bytes(), mode);
        for sharing in [Sharing::ReadOnly, Sharing::CopyOnWrite, Sharing::Shared] {
            let pages = region.pages(PageAligned::ZERO, 1).unwrap();
            assert!(pages.as_pages(sharing).is_err() && !pages.can_be_populated());
        }
    }
}
