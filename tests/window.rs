//! Windows, held against a model, on reservations made as V8 makes them; with failures injected,
//! and with threads that look on. No Node involved.

#![allow(clippy::arithmetic_side_effects)] // Tests may let arithmetic panic.

mod support;

use std::os::unix::process::ExitStatusExt;
use std::sync::atomic::{AtomicBool, Ordering};
use support::{Reserved, Temp, no_hole, page_bytes, pages, serial, vma_of, vmas_of};
use wasm_hostmap::access::Access;
use wasm_hostmap::error::Code;
use wasm_hostmap::fault::{self, Cause, Outcome};
use wasm_hostmap::memory::window_state::{Tail, WindowSpec};
use wasm_hostmap::memory::{Mapped, Memory};
use wasm_hostmap::region::Region;
use wasm_hostmap::region::thp::PageKind;
use wasm_hostmap::sys::mmap::{Mmap, Pages, Sharing};
use wasm_hostmap::sys::page::{PageAligned, PageSpan};
use wasm_hostmap::sys::process_map::Vma;
use wasm_hostmap::sys::vma_budget::VmaClaim;
use wasm_hostmap::window;

fn kind(count: u64, access: Access, rest: Tail) -> WindowSpec {
    WindowSpec { length: pages(count), access, tail: rest }
}

/// The first and the last byte of each page of a region that `fill` fills.
fn fill_of(region: u8, page: u64) -> u8 {
    region * 64 + u8::try_from(page).unwrap() + 1
}

fn bytes(region: u8, count: u64) -> Vec<u8> {
    (0..count * page_bytes()).map(|at| fill_of(region, at / page_bytes())).collect()
}

fn memfd(number: u8, count: u64) -> Region {
    let bytes = bytes(number, count);
    Region::copy_from(bytes.as_ptr() as u64, bytes.len() as u64, "test", PageKind::Ordinary)
        .unwrap()
}

/// What a test has at hand: a memory with a window in it at page 3.
struct One {
    reserved: Reserved,
    memory: Memory,
    window: Mapped,
}

impl One {
    fn new(spec: WindowSpec) -> Self {
        let reserved = Reserved::new(128);
        let memory = Memory::attach(reserved.place()).unwrap();
        let window = window::open_at(&memory, reserved.place(), 3 * page_bytes(), spec).unwrap();
        Self { reserved, memory, window }
    }

    fn slide(&self, region: &Region, page: u64, count: u64, access: Access) -> Result<(), Code> {
        let byte_length = (region.byte_length() - page * page_bytes()).min(count * page_bytes());
        let shown = region.pages(pages(page), byte_length).unwrap();
        match window::slide(
            &self.memory,
            self.reserved.place(),
            self.window,
            Some((&shown, access)),
        ) {
            Ok(there) => assert!(there),
            Err(error) => return Err(error.code()),
        }
        Ok(())
    }

    fn empty(&self) {
        assert!(window::slide(&self.memory, self.reserved.place(), self.window, None).unwrap());
    }

    /// The first byte of a page of the window.
    fn read(&self, page: u64) -> u8 {
        self.reserved.read((3 + page) * page_bytes())
    }

    fn write(&self, page: u64, value: u8) {
        self.reserved.write((3 + page) * page_bytes(), value);
    }

    fn vma(&self, page: u64) -> Vma {
        vma_of(self.reserved.base() + (3 + page) * page_bytes())
    }

    fn faults(&self) -> (u64, u64) {
        let (counts, _) = self.memory.counts(self.window).unwrap();
        (counts.stray_writes(), counts.faults())
    }
}

#[test]
fn a_window_shows_one_part_after_the_other_and_its_rest() {
    let _serial = serial();
    let file = Temp::new("shows", &bytes(1, 10));
    for region in [memfd(1, 10), file.open()] {
        for rest in [Tail::Inaccessible, Tail::Zeros] {
            let it = One::new(kind(4, Access::Readonly, rest));
            let is_tail = |page| {
                let vma = it.vma(page);
                match rest {
                    Tail::Inaccessible => vma.is_inaccessible(),
                    Tail::Zeros => vma.readable && !vma.writable && it.read(page) == 0,
                }
            };
            assert!((0..4).all(is_tail), "it is opened empty");
            it.slide(&region, 5, 4, Access::Readonly).unwrap();
            assert_eq!(
                [0, 1, 2, 3].map(|page| it.read(page)),
                [5, 6, 7, 8].map(|page| fill_of(1, page))
            );
            it.slide(&region, 8, 4, Access::Readonly).unwrap();
            assert_eq!([0, 1].map(|page| it.read(page)), [8, 9].map(|page| fill_of(1, page)));
            assert!((2..4).all(is_tail));
            assert_eq!(it.memory.entries().unwrap()[0].1, Some(pages(2)));
            it.empty();
            assert!((0..4).all(is_tail));
            assert_eq!(it.faults(), (0, 0));
            no_hole(&it.reserved);
        }
    }
}

#[test]
fn slides_take_no_vmas_and_a_region_one_mirror_at_most() {
    let _serial = serial();
    let file = Temp::new("vmas", &bytes(0, 16));
    for region in [memfd(0, 16), file.open()] {
        let it = One::new(kind(4, Access::Private, Tail::Inaccessible));
        for first in 0..3 {
            it.slide(&region, first, 4, Access::Private).unwrap();
        }
        let (here, everywhere) = (it.reserved.vma_count(), vmas_of(&region));
        for round in 0..200 {
            it.slide(&region, round % 12, 4, Access::Private).unwrap();
        }
        assert_eq!((it.reserved.vma_count(), vmas_of(&region)), (here, everywhere));
        assert!(everywhere <= 2);
        it.memory.unmap(it.reserved.place(), it.window).unwrap().unwrap();
        drop(region);
    }
}

#[test]
fn what_a_slide_may_not() {
    let _serial = serial();
    let (region, sealed) = (memfd(0, 8), memfd(1, 8));
    sealed.seal().unwrap();
    let file = Temp::new("may-not", &bytes(2, 8));
    let readonly_file = file.open();
    let it = One::new(kind(4, Access::Shared, Tail::Zeros));
    it.slide(&region, 2, 2, Access::Shared).unwrap();
    for other in [&sealed, &readonly_file] {
        assert_eq!(it.slide(other, 0, 4, Access::Shared), Err(Code::RegionReadonly));
    }
    assert_eq!(it.slide(&region, 0, 5, Access::Shared), Err(Code::Internal), "more than it holds");
    assert_eq!(
        (it.read(0), it.read(1), it.read(2)),
        (fill_of(0, 2), fill_of(0, 3), 0),
        "it shows what it did"
    );
    for (most, asked) in [
        (Access::Readonly, Access::Private),
        (Access::Readonly, Access::Shared),
        (Access::Private, Access::Shared),
    ] {
        let it = One::new(kind(4, most, Tail::Zeros));
        assert_eq!(it.slide(&region, 0, 4, asked), Err(Code::InvalidValue));
    }
    it.memory.unmap(it.reserved.place(), it.window).unwrap().unwrap();
    let pages = region.pages(PageAligned::ZERO, 1).unwrap();
    assert!(
        !window::slide(
            &it.memory,
            it.reserved.place(),
            it.window,
            Some((&pages, Access::Readonly))
        )
        .unwrap()
    );
    assert!(!window::slide(&it.memory, it.reserved.place(), it.window, None).unwrap());
}

#[test]
fn a_mapping_is_no_window() {
    let _serial = serial();
    let reserved = Reserved::new(16);
    let memory = Memory::attach(reserved.place()).unwrap();
    let region = memfd(0, 2);
    let whole = region.pages(PageAligned::ZERO, region.byte_length()).unwrap();
    let mapped = memory.map_at(reserved.place(), 0, &whole, Access::Readonly, false).unwrap();
    assert_eq!(
        window::slide(&memory, reserved.place(), mapped, None).unwrap_err().code(),
        Code::Internal
    );
    assert_eq!(reserved.read(0), fill_of(0, 0));
    let error =
        window::open_at(&memory, reserved.place(), 0, kind(1, Access::Readonly, Tail::Zeros))
            .unwrap_err();
    assert_eq!(error.code(), Code::Overlap);
}

#[test]
fn a_dead_memory_s_empty_window_is_not_the_next_memory_s() {
    let _serial = serial();
    for rest in [Tail::Inaccessible, Tail::Zeros] {
        let reserved = Reserved::new(16);
        let first = Memory::attach(reserved.place()).unwrap();
        // At the start, where a VMA of V8's starts as well.
        window::open_at(&first, reserved.place(), 0, kind(4, Access::Readonly, rest)).unwrap();
        assert_eq!(Memory::attach(reserved.place()).unwrap().entries().unwrap().len(), 1);
        reserved.renew();
        let second = Memory::attach(reserved.place()).unwrap();
        assert_eq!(second.entries().unwrap().len(), 0);
        window::open_at(&second, reserved.place(), 0, kind(4, Access::Readonly, rest)).unwrap();
        drop(first);
        assert_eq!(Memory::attach(reserved.place()).unwrap().entries().unwrap().len(), 1);
    }
}

#[test]
fn a_window_that_is_found_again_shows_what_it_did() {
    let _serial = serial();
    let region = memfd(0, 8);
    let it = One::new(kind(4, Access::Readonly, Tail::Inaccessible));
    for is_shown in [false, true, true] {
        if is_shown {
            it.slide(&region, 3, 2, Access::Readonly).unwrap();
        }
        drop(Memory::attach(it.reserved.place()).unwrap());
        let again = Memory::attach(it.reserved.place()).unwrap();
        assert_eq!(again.entries(), it.memory.entries());
        assert_eq!(again.entries().unwrap()[0].1, Some(pages(if is_shown { 2 } else { 0 })));
    }
}

#[test]
fn growing_opens_windows_and_the_next_call_closes_them() {
    let _serial = serial();
    let region = memfd(0, 8);
    for rest in [Tail::Inaccessible, Tail::Zeros] {
        let it = One::new(kind(4, Access::Readonly, rest));
        it.slide(&region, 0, 2, Access::Readonly).unwrap();
        let mut reserved = it.reserved;
        reserved.grow(16);
        assert!((3..7).all(|page| reserved.is_writable(page * page_bytes())), "as V8 grows");
        reserved.write(3 * page_bytes(), 99);
        reserved.write(5 * page_bytes(), 99);
        it.memory.sync(reserved.place()).unwrap();
        assert!((3..7).all(|page| !reserved.is_writable(page * page_bytes())));
        let shown = vma_of(reserved.base() + 3 * page_bytes());
        let hidden = vma_of(reserved.base() + 5 * page_bytes());
        assert!(shown.readable && hidden.readable == (rest == Tail::Zeros));
        if rest == Tail::Zeros {
            assert_eq!(
                reserved.read(5 * page_bytes()),
                0,
                "what was written where nothing may be is forgotten"
            );
        }
        let view = region.view(0, 1).unwrap();
        assert_eq!(support::read(view.address()), fill_of(0, 0), "the region is as it was");
    }
}

#[test]
fn what_was_written_to_a_rest_stays_until_the_next_slide_whatever_else_happens() {
    let _serial = serial();
    let region = memfd(0, 8);
    let it = One::new(kind(4, Access::Private, Tail::Zeros));
    it.slide(&region, 0, 2, Access::Readonly).unwrap();
    it.write(3, 99);
    // A stray write, which the next call takes note of.
    it.write(1, 98);
    it.memory.sync(it.reserved.place()).unwrap();
    assert_eq!((it.read(3), it.faults()), (99, (1, 0)));
    let mut reserved = it.reserved;
    reserved.grow(16);
    it.memory.sync(reserved.place()).unwrap();
    assert_eq!(reserved.read(6 * page_bytes()), 99);
    window::slide(&it.memory, reserved.place(), it.window, None).unwrap();
    assert_eq!(reserved.read(6 * page_bytes()), 0);
    drop(fault::take_reports());
}

#[test]
fn a_native_access_past_the_end_finds_zeros_until_the_next_call() {
    let _serial = serial();
    let region = memfd(0, 8);
    let it = One::new(kind(4, Access::Readonly, Tail::Inaccessible));
    it.slide(&region, 6, 4, Access::Readonly).unwrap();
    assert_eq!((it.read(1), it.read(3), it.read(2)), (fill_of(0, 7), 0, 0));
    assert_eq!(it.faults(), (0, 1), "the rest is opened once");
    it.write(2, 9);
    assert_eq!(it.read(2), 9);
    let last = it.memory.counts(it.window).unwrap().0.last().unwrap();
    assert_eq!((last.cause, last.outcome, last.write), (Cause::PastEnd, Outcome::Zeros, false));
    assert_eq!(last.region_offset, 9 * page_bytes());
    let reports = fault::take_reports();
    assert!(reports.len() == 1 && reports[0].past_end && !reports[0].missing_page);
    it.memory.sync(it.reserved.place()).unwrap();
    assert!(it.vma(2).is_inaccessible() && it.vma(3).is_inaccessible());
    it.write(2, 9);
    assert_eq!(it.faults(), (0, 2));
    it.slide(&region, 0, 4, Access::Readonly).unwrap();
    assert_eq!(it.read(2), fill_of(0, 2));
    drop(fault::take_reports());
}

#[test]
fn a_file_that_is_cut_under_a_window_is_zeros_until_the_next_slide() {
    let _serial = serial();
    let file = Temp::new("cut", &bytes(0, 8));
    let region = file.open();
    for access in [Access::Readonly, Access::Private] {
        let it = One::new(kind(4, access, Tail::Inaccessible));
        it.slide(&region, 4, 4, access).unwrap();
        file.set_bytes(5 * page_bytes());
        assert_eq!([0, 1, 3].map(|page| it.read(page)), [fill_of(0, 4), 0, 0]);
        assert_eq!(it.faults(), (0, 2));
        it.slide(&region, 6, 2, access).unwrap();
        assert_eq!(it.read(0), 0, "a slide asks for nothing");
        std::fs::write(&file.0, bytes(0, 8)).unwrap();
        assert_eq!(it.read(0), 0, "zeros are there");
        it.slide(&region, 4, 4, access).unwrap();
        assert_eq!([0, 1, 3].map(|page| it.read(page)), [4, 5, 7].map(|page| fill_of(0, page)));
        assert_eq!(it.faults(), (0, 3));
        no_hole(&it.reserved);
    }
    drop(fault::take_reports());
}

#[test]
fn a_region_can_be_sealed_once_no_window_shows_it_shared() {
    let _serial = serial();
    let region = memfd(0, 8);
    let it = One::new(kind(4, Access::Shared, Tail::Zeros));
    it.slide(&region, 0, 4, Access::Shared).unwrap();
    it.write(0, 99);
    assert_eq!(region.seal().unwrap_err().code(), Code::RegionBusy);
    it.slide(&region, 4, 4, Access::Shared).unwrap();
    it.slide(&region, 0, 4, Access::Private).unwrap();
    it.write(0, 98);
    region.seal().unwrap();
    assert_eq!(it.slide(&region, 0, 4, Access::Shared), Err(Code::RegionReadonly));
    assert_eq!(it.read(0), 98);
    it.slide(&region, 0, 4, Access::Readonly).unwrap();
    assert_eq!(it.read(0), 99);

    let region = memfd(0, 8);
    it.slide(&region, 0, 4, Access::Shared).unwrap();
    it.memory.unmap(it.reserved.place(), it.window).unwrap().unwrap();
    region.seal().unwrap();
}

#[test]
fn vmas_come_back_when_windows_and_regions_go() {
    let _serial = serial();
    let file = Temp::new("back", &bytes(0, 64));
    let reserved = Reserved::new(128);
    let memory = Memory::attach(reserved.place()).unwrap();
    // All that there are but 200: one that does not come back shows.
    let full = VmaClaim::take(u64::MAX >> 8).unwrap_err();
    let most = full.limit - full.left_to_others - (full.used - (u64::MAX >> 8));
    let _taken = VmaClaim::take(most - 200).unwrap();
    let kept = file.open();
    for round in 0..300 {
        let region = if round % 2 == 0 { memfd(1, 64) } else { file.open() };
        let at = round % 32 * page_bytes();
        let access = support::access(u8::try_from(round % 3).unwrap() % 2);
        let window =
            window::open_at(&memory, reserved.place(), at, kind(64, access, Tail::Inaccessible))
                .unwrap();
        for region in [&kept, &region] {
            let shown = region.pages(PageAligned::ZERO, region.byte_length() / 2).unwrap();
            assert!(
                window::slide(&memory, reserved.place(), window, Some((&shown, access))).unwrap()
            );
            // Pages that are changed one by one take VMAs of their own.
            for page in 0..8 {
                reserved.write(at + page * 3 * page_bytes(), 9);
            }
        }
        assert!(memory.unmap(reserved.place(), window).unwrap().is_some());
    }
    drop(fault::take_reports());
}

#[test]
fn a_used_up_mirror_is_replaced_and_the_old_one_goes() {
    let _serial = serial();
    if !support::has_mirrors() {
        return;
    }
    // Holes: bringing them in costs nothing but the look.
    let region = Region::allocate(1 << 30, "holes", PageKind::Ordinary).unwrap();
    let mark = region.view(5 * page_bytes(), 1).unwrap();
    support::write(mark.address(), 77);
    drop(mark);
    let it = One::new(kind(4, Access::Readonly, Tail::Inaccessible));
    let first = region.mirror(Sharing::ReadOnly, true).unwrap();
    let whole = PageSpan::new(PageAligned::ZERO, PageAligned::new(1 << 30).unwrap()).unwrap();
    for _ in 0..32 {
        it.slide(&region, 4, 4, Access::Readonly).unwrap();
        let now = region.mirror(Sharing::ReadOnly, false).unwrap();
        assert!(std::sync::Arc::ptr_eq(&first, &now));
        first.bring_in(whole, true);
    }
    assert_eq!(region.held_bytes(), page_bytes(), "holes stay holes");
    it.slide(&region, 4, 4, Access::Readonly).unwrap();
    assert_eq!([0, 1].map(|page| it.read(page)), [0, 77]);
    let second = region.mirror(Sharing::ReadOnly, false).unwrap();
    assert!(!std::sync::Arc::ptr_eq(&first, &second));
    assert_eq!(vmas_of(&region), 3, "two mirrors and a window");
    drop(first);
    assert_eq!(vmas_of(&region), 2);
    drop((second, region));
    it.slide(&memfd(0, 4), 0, 4, Access::Readonly).unwrap();
}

/// The kernel maps a huge page by one entry, which can't be moved in part or to where it does not
/// fit. It drops such an entry, and the pages must be there all the same.
#[test]
fn parts_of_huge_pages_are_shown_wherever_they_start() {
    const HUGE: u64 = 2 << 20;
    let _serial = serial();
    if !support::has_mirrors() {
        return;
    }
    let in_huge = HUGE / page_bytes();
    let fill = |page: u64| u8::try_from(1 + page % 251).unwrap();
    let total = 4 * in_huge;
    let bytes: Vec<u8> = (0..4 * HUGE).map(|at| fill(at / page_bytes())).collect();
    let in_memory =
        Region::copy_from(bytes.as_ptr() as u64, 4 * HUGE, "huge", PageKind::Gathered).unwrap();
    // Many file systems cache what is written at once in huge pages.
    let file = Temp::new("huge", &bytes);
    // Where the system has none, these are slides as any other.
    for (region, access, skew) in [&in_memory, &file.open()].into_iter().flat_map(|region| {
        [Access::Readonly, Access::Private]
            .into_iter()
            .flat_map(move |access| [(region, access, 0), (region, access, page_bytes())])
    }) {
        let mirror = region.mirror(access.sharing(), true).unwrap();
        let reserved = Reserved::new(4 * in_huge);
        let memory = Memory::attach(reserved.place()).unwrap();
        let at = reserved.base().next_multiple_of(HUGE) - reserved.base() + skew;
        let spec = kind(2 * in_huge, access, Tail::Inaccessible);
        let window = window::open_at(&memory, reserved.place(), at, spec).unwrap();
        let whole = PageSpan::new(PageAligned::ZERO, pages(total)).unwrap();
        let mut vmas = None;
        for first in [0, 1, in_huge - 1, in_huge, in_huge + 3, 2 * in_huge] {
            for count in [1, in_huge - 1, in_huge, in_huge + 1, 2 * in_huge] {
                mirror.bring_in(whole, region.is_memory());
                let shown = region.pages(pages(first), count * page_bytes()).unwrap();
                let slid = window::slide(&memory, reserved.place(), window, Some((&shown, access)));
                assert!(slid.unwrap());
                for page in 0..count {
                    let byte = reserved.read(at + page * page_bytes() + 9);
                    assert_eq!(byte, fill(first + page), "{first} {count} {page}");
                }
                if access == Access::Private {
                    reserved.write(at + (count - 1) * page_bytes() + 9, 0);
                }
                no_hole(&reserved);
                let now = vmas_of(region);
                assert_eq!(*vmas.get_or_insert(now), now, "the mirror is in one piece");
            }
        }
    }
}

#[test]
fn mirrors_together_take_a_part_of_the_address_space_and_slides_do_without_the_rest() {
    let _serial = serial();
    if !support::has_mirrors() {
        return;
    }
    let space_bytes = wasm_hostmap::sys::limits::address_space().unwrap().total_bytes;
    // A quarter, and each a part of it.
    let large = || Region::allocate(space_bytes / 6, "large", PageKind::Ordinary).unwrap();
    let (first, second) = (large(), large());
    let middle = space_bytes / 12 / page_bytes();
    let mark = second.view(middle * page_bytes(), 1).unwrap();
    support::write(mark.address(), 77);
    assert!(first.mirror(Sharing::ReadOnly, true).is_some());
    assert!(second.mirror(Sharing::ReadOnly, true).is_none());
    let it = One::new(kind(4, Access::Readonly, Tail::Inaccessible));
    it.slide(&second, middle, 4, Access::Readonly).unwrap();
    assert_eq!(it.read(0), 77);
    drop(first);
    assert!(second.mirror(Sharing::ReadOnly, true).is_some(), "there is room again");
}

/// Counts in a way that looks random and is the same each time.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

#[test]
fn threads_that_read_and_write_a_window_while_it_slides_find_bytes_of_a_region_or_their_own() {
    let _serial = serial();
    // Pages of region n hold n. What threads write is 9.
    let page = usize::try_from(page_bytes()).unwrap();
    let files = [1_u8, 2].map(|fill| Temp::new(&format!("threads-{fill}"), &vec![fill; 16 * page]));
    let in_memory = [3_u8, 4].map(|fill| {
        let bytes = vec![fill; 16 * page];
        Region::copy_from(bytes.as_ptr() as u64, bytes.len() as u64, "test", PageKind::Ordinary)
            .unwrap()
    });
    in_memory[1].seal().unwrap();
    let regions = [&files[0].open(), &files[1].open(), &in_memory[0], &in_memory[1]];
    for (access, rest) in [
        (Access::Readonly, Tail::Inaccessible),
        (Access::Private, Tail::Inaccessible),
        (Access::Private, Tail::Zeros),
    ] {
        let it = One::new(kind(8, access, rest));
        let start = it.reserved.base() + 3 * page_bytes();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for seed in 1..3_u64 {
                let done = &done;
                scope.spawn(move || {
                    let mut numbers = Numbers(seed);
                    while !done.load(Ordering::Relaxed) {
                        let address = start + numbers.below(8 * page_bytes());
                        match numbers.below(4) {
                            0 => support::write(address, 9),
                            _ => assert!(matches!(support::read(address), 0..=4 | 9)),
                        }
                    }
                });
            }
            let mut numbers = Numbers(7);
            for round in 0..1000 {
                let first = numbers.below(16);
                let count = (1 + numbers.below(8)).min(16 - first);
                match round % 5 {
                    4 => it.empty(),
                    nth => it
                        .slide(regions[usize::try_from(nth).unwrap()], first, count, access)
                        .unwrap(),
                }
            }
            done.store(true, Ordering::Relaxed);
        });
        for (region, fill) in regions.iter().zip(1..) {
            let view = region.view(0, region.byte_length()).unwrap();
            for page in 0..16 {
                assert_eq!(support::read(view.address() + page * page_bytes() + 5), fill);
            }
            it.slide(region, 0, 8, access).unwrap();
            assert!(
                (0..8).all(|page| it.read(page) == fill),
                "nothing of what was shown before is left"
            );
        }
        no_hole(&it.reserved);
    }
    drop(fault::take_reports());
}

#[test]
fn threads_that_read_while_a_window_opens_slides_and_closes_in_one_place() {
    let _serial = serial();
    let file = Temp::new("place", &bytes(0, 4));
    let regions = [memfd(0, 4), file.open()];
    let reserved = Reserved::new(16);
    let memory = Memory::attach(reserved.place()).unwrap();
    let base = reserved.base();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 0..2_u64 {
            let done = &done;
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    let byte = support::read(base + thread * page_bytes() + thread);
                    assert!(byte == 0 || byte == 9 || byte == fill_of(0, thread));
                    support::write(base + 3 * page_bytes() + thread, 9);
                }
            });
        }
        for round in 0..1000 {
            let rest = if round % 2 == 0 { Tail::Inaccessible } else { Tail::Zeros };
            let window =
                window::open_at(&memory, reserved.place(), 0, kind(4, Access::Readonly, rest))
                    .unwrap();
            for count in [2, 4, 1] {
                let region = &regions[usize::try_from((round + count) % 2).unwrap()];
                let shown = region.pages(PageAligned::ZERO, count * page_bytes()).unwrap();
                assert!(
                    window::slide(
                        &memory,
                        reserved.place(),
                        window,
                        Some((&shown, Access::Readonly))
                    )
                    .unwrap()
                );
            }
            memory.unmap(reserved.place(), window).unwrap().unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
    for region in &regions {
        let view = region.view(3 * page_bytes(), 1).unwrap();
        assert_eq!(support::read(view.address()), fill_of(0, 3));
    }
    no_hole(&reserved);
    drop(fault::take_reports());
}

#[test]
fn windows_of_several_threads_share_a_mirror() {
    let _serial = serial();
    if !support::has_mirrors() {
        return;
    }
    let file = Temp::new("share", &bytes(0, 60));
    for region in [&memfd(0, 60), &file.open()] {
        let mirror = region.mirror(Sharing::ReadOnly, true).unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            // One that brings in and lets go, as reading ahead does.
            let ahead = scope.spawn(|| {
                let mut numbers = Numbers(1);
                while !done.load(Ordering::Relaxed) {
                    let first = numbers.below(60);
                    let range =
                        PageSpan::new(pages(first), pages(1 + numbers.below(60 - first))).unwrap();
                    if numbers.below(2) == 0 {
                        mirror.bring_in(range, region.is_memory());
                    } else {
                        mirror.leave(range);
                    }
                }
            });
            let sliders: Vec<_> = (2..5)
                .map(|seed| {
                    scope.spawn(move || {
                        let mut numbers = Numbers(seed);
                        let it = One::new(kind(8, Access::Readonly, Tail::Inaccessible));
                        for _ in 0..2000 {
                            let first = numbers.below(60);
                            let count = (1 + numbers.below(8)).min(60 - first);
                            it.slide(region, first, count, Access::Readonly).unwrap();
                            for page in 0..count {
                                assert_eq!(it.read(page), fill_of(0, first + page));
                            }
                        }
                        no_hole(&it.reserved);
                    })
                })
                .collect();
            for slider in sliders {
                slider.join().unwrap();
            }
            done.store(true, Ordering::Relaxed);
            ahead.join().unwrap();
        });
        assert_eq!(vmas_of(region), 1, "the mirror alone, in one piece");
    }
}

/// The exit code of one of the tests below, or the signal that ended it.
fn outcome_of(test: &str) -> Result<i32, i32> {
    let status = support::run_ignored(test).status;
    status.code().ok_or_else(|| status.signal().unwrap())
}

#[test]
fn what_is_where_an_empty_window_was_is_not_ours() {
    assert_eq!(outcome_of("crash_where_an_empty_window_was"), Err(libc::SIGSEGV));
}

#[test]
#[ignore = "ends the process"]
fn crash_where_an_empty_window_was() {
    let _serial = serial();
    let reserved = Reserved::new(16);
    let memory = Memory::attach(reserved.place()).unwrap();
    window::open_at(&memory, reserved.place(), 0, kind(4, Access::Readonly, Tail::Zeros)).unwrap();
    // The memory dies, and its pages are somebody's who wants them read-only.
    reserved.renew();
    let first = std::ptr::NonNull::new(reserved.base() as *mut std::ffi::c_void).unwrap();
    // SAFETY: pages of the reservation.
    unsafe {
        nix::sys::mman::mprotect(
            first,
            4 * usize::try_from(page_bytes()).unwrap(),
            nix::sys::mman::ProtFlags::PROT_READ,
        )
    }
    .unwrap();
    reserved.write(0, 9);
}

#[test]
fn limits_on_what_a_process_may_map_leave_no_hole() {
    for test in ["limit_on_data", "limit_on_address_space"] {
        assert_eq!(outcome_of(test), Ok(0), "{test}");
    }
}

/// Slides until the limit is in the way, and a while longer.
fn slide_under_limit(resource: nix::sys::resource::Resource, line: &str) {
    let _serial = serial();
    let file = Temp::new(line, &[1]);
    file.set_bytes(64 << 20);
    let it = One::new(kind(64, Access::Private, Tail::Inaccessible));
    let (_, hard) = nix::sys::resource::getrlimit(resource).unwrap();
    let used_bytes = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|found| found.starts_with(line)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
    };
    let limit = |bytes| nix::sys::resource::setrlimit(resource, bytes, hard).unwrap();
    // There is room for a mirror, and for little besides.
    let most = used_bytes() + (66 << 20);
    let region = file.open();
    let mut fill = Vec::new();
    let mut refused = 0;
    for round in 0..200 {
        // So that what is shown next needs more room than what it replaces gives back. It takes no
        // room itself.
        it.empty();
        limit(most);
        fill.extend(Mmap::new(PageAligned::new(512 << 10).unwrap(), Pages::Zeros).ok());
        let slid = it.slide(&region, round * 64, 64, Access::Private);
        // A test that fails needs memory to say so.
        limit(hard);
        no_hole(&it.reserved);
        match slid {
            Ok(()) => assert_eq!(it.read(0), u8::from(round == 0)),
            Err(_) => refused += 1,
        }
    }
    assert!((1..200).contains(&refused), "{refused}");
}

#[test]
#[ignore = "limits the process"]
fn limit_on_data() {
    slide_under_limit(nix::sys::resource::Resource::RLIMIT_DATA, "VmData:");
}

#[test]
#[ignore = "limits the process"]
fn limit_on_address_space() {
    slide_under_limit(nix::sys::resource::Resource::RLIMIT_AS, "VmSize:");
}

#[cfg(feature = "inject")]
mod injected {
    use super::*;
    use wasm_hostmap::sys::inject;

    fn arm(call: &str, calls_before: u32) {
        inject::arm(call, calls_before, libc::ENOMEM, Some(std::thread::current().id()));
    }

    #[test]
    fn without_mirrors_files_are_slid_over_all_the_same() {
        let _serial = serial();
        let file = Temp::new("no-mirrors", &bytes(0, 16));
        let region = file.open();
        let it = One::new(kind(4, Access::Readonly, Tail::Inaccessible));
        // The trial with one page.
        arm("mremap", 0);
        assert!(region.mirror(Sharing::ReadOnly, true).is_none());
        assert!(!support::forget());
        for page in 0..4 {
            it.slide(&region, page, 4, Access::Readonly).unwrap();
            assert_eq!(it.read(3), fill_of(0, page + 3));
            assert_eq!(vmas_of(&region), 1, "it is not tried again");
        }
        arm("mremap", 0);
        assert_eq!(it.slide(&region, 9, 4, Access::Readonly), Err(Code::OutOfMemory));
        assert!(!support::forget());
        assert_eq!(it.read(3), fill_of(0, 6));
        no_hole(&it.reserved);
    }

    /// What a kernel without memory leaves: the old pages are gone when it gives up.
    #[test]
    fn where_pages_were_lost_a_window_shows_nothing_or_the_beginning_of_what_it_did() {
        let _serial = serial();
        let file = Temp::new("lost", &bytes(0, 16));
        let mut lost = 0;
        for region in [&memfd(0, 16), &file.open()] {
            for rest in [Tail::Inaccessible, Tail::Zeros] {
                for (holes, count) in [(1, 2), (1, 3), (1, 4), (2, 2), (2, 3), (2, 4)] {
                    let it = One::new(kind(4, Access::Private, rest));
                    it.slide(region, 0, 3, Access::Private).unwrap();
                    (0..holes).for_each(|_| arm("hole", 0));
                    let slid = it.slide(region, 8, count, Access::Private);
                    support::forget();
                    no_hole(&it.reserved);
                    let shown = it.memory.entries().unwrap()[0].1.unwrap().get() / page_bytes();
                    if slid.is_err() {
                        lost += 1;
                        assert!(shown <= 3.min(count));
                        assert!((0..shown).all(|page| it.read(page) == fill_of(0, page)));
                    } else {
                        assert!((0..count).all(|page| it.read(page) == fill_of(0, 8 + page)));
                    }
                    for page in shown..4 {
                        assert!(it.vma(page).is_inaccessible() || it.read(page) == 0);
                    }
                    it.slide(region, 4, 4, Access::Readonly).unwrap();
                    assert_eq!(
                        [0, 3].map(|page| it.read(page)),
                        [4, 7].map(|page| fill_of(0, page))
                    );
                    it.empty();
                    it.memory.unmap(it.reserved.place(), it.window).unwrap().unwrap();
                    assert_eq!(it.read(0), 0);
                    no_hole(&it.reserved);
                }
            }
        }
        assert!(lost > 8);
    }
}
