//! Snapshots on reservations made as V8 makes them: what a kernel without PAGEMAP_SCAN, locked
//! pages, huge pages and pages that were reclaimed do to a restore, and with failures injected. No
//! Node involved.

#![allow(clippy::arithmetic_side_effects)] // Tests may let arithmetic panic.

mod support;

use nix::sys::mman::{MlockAllFlags, MmapAdvise, madvise, mlockall};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::os::fd::AsRawFd;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use support::{Numbers, Reserved, Temp, no_hole, page_bytes, pages, serial};
use wasm_hostmap::access::Access;
use wasm_hostmap::error::Code;
use wasm_hostmap::memory::window_state::{Tail, WindowSpec};
use wasm_hostmap::memory::{Mapped, Memory};
use wasm_hostmap::region::Region;
use wasm_hostmap::region::thp::{PageKind, WhyNot};
use wasm_hostmap::snapshot::capture::{Afterwards, MappedRegion, capture, data_in};
use wasm_hostmap::snapshot::complete::complete;
use wasm_hostmap::snapshot::format::Mac;
use wasm_hostmap::snapshot::metadata::About;
use wasm_hostmap::snapshot::restore::{reset, restore};
use wasm_hostmap::snapshot::{KeptMapping, Settings, Snapshot, open, store};
use wasm_hostmap::sys::page::{PageAligned, PageSpan};
use wasm_hostmap::sys::pagemap;
use wasm_hostmap::window;

/// A multiple of a Wasm page, with a place for 2 MiB that are aligned.
const PAGES: u64 = 1008;

const KEEP_ALL: Settings = Settings { keep_resident_bytes: 1 << 40, huge_pages: false };
const KEEP_FEW: Settings = Settings { keep_resident_bytes: 3 * 4096, huge_pages: false };
const KEEP_NONE: Settings = Settings { keep_resident_bytes: 0, huge_pages: true };

/// A memory, and what is mapped into it.
struct One {
    reserved: Reserved,
    memory: Memory,
    shown: Vec<(Mapped, Arc<Region>, u64)>,
}

impl One {
    fn new(count: u64) -> Self {
        let reserved = Reserved::new(count);
        let memory = Memory::attach(reserved.place()).unwrap();
        Self { reserved, memory, shown: Vec::new() }
    }

    fn map(&mut self, region: &Arc<Region>, page: u64, access: Access) {
        let shown = region.pages(PageAligned::ZERO, region.byte_length()).unwrap();
        let mapped = self
            .memory
            .map_at(self.reserved.place(), page * page_bytes(), &shown, access, false)
            .unwrap();
        self.shown.push((mapped, Arc::clone(region), region.byte_length()));
    }

    fn capture(&self, settings: Settings) -> Snapshot {
        self.try_capture(settings).unwrap()
    }

    fn try_capture(&self, settings: Settings) -> Result<Snapshot, Code> {
        self.try_capture_and(settings, Afterwards::Shares)
    }

    fn try_capture_and(
        &self,
        settings: Settings,
        afterwards: Afterwards,
    ) -> Result<Snapshot, Code> {
        let regions: Vec<MappedRegion> = self
            .shown
            .iter()
            .map(|(mapped, region, byte_length)| MappedRegion {
                start: mapped.start,
                // None for an empty window.
                region: (*byte_length > 0).then(|| Arc::clone(region)),
                byte_length: *byte_length,
                skip: 0,
                strict: false,
            })
            .collect();
        let place = self.reserved.place();
        let snapshot = capture(&self.memory, place, "test", &regions, settings, afterwards)
            .map_err(|error| error.code())?;
        complete(&snapshot, About::default(), None).map_err(|error| error.code())?;
        Ok(snapshot)
    }

    fn try_restore(&self, snapshot: &Snapshot) -> Result<(), Code> {
        let restored = restore(&self.memory, self.reserved.place(), snapshot);
        restored.map(drop).map_err(|error| error.code())
    }

    fn restore(&self, snapshot: &Snapshot) {
        self.try_restore(snapshot).unwrap();
    }

    fn try_reset(&self, keep: u64) -> Result<(), Code> {
        reset(&self.memory, self.reserved.place(), keep).map_err(|error| error.code())
    }

    /// How many of its pages are the process's own.
    fn own_pages(&self) -> u64 {
        let mut count = 0;
        let place = self.reserved.place();
        let span = PageSpan::new(place.base(), place.byte_length()).unwrap();
        pagemap::read(span, |run| count += run.span.length().get() / page_bytes()).unwrap();
        count
    }

    /// Its bytes.
    fn bytes(&self) -> Vec<u8> {
        let mut bytes =
            vec![0; usize::try_from(self.reserved.place().byte_length().get()).unwrap()];
        // SAFETY: all of the memory can be read; nobody writes it now.
        unsafe {
            std::ptr::copy_nonoverlapping(
                self.reserved.base() as *const u8,
                bytes.as_mut_ptr(),
                bytes.len(),
            );
        }
        bytes
    }

    /// The first byte of each of these pages, without touching others.
    fn bytes_of(&self, numbers: &[u64]) -> Vec<u8> {
        numbers.iter().map(|page| self.reserved.read(page * page_bytes())).collect()
    }

    fn write(&self, page: u64, value: u8) {
        self.reserved.write(page * page_bytes(), value);
        self.reserved.write((page + 1) * page_bytes() - 1, value);
    }

    fn advise(&self, first: u64, count: u64, advice: MmapAdvise) -> nix::Result<()> {
        let at = NonNull::new((self.reserved.base() + first * page_bytes()) as *mut _).unwrap();
        // SAFETY: pages of the memory; the advice changes no byte.
        unsafe { madvise(at, usize::try_from(count * page_bytes()).unwrap(), advice) }
    }

    fn same(&self, expected: &[u8]) {
        let bytes = self.bytes();
        if bytes == expected {
            return;
        }
        let page = usize::try_from(page_bytes()).unwrap();
        let differs = bytes
            .chunks(page)
            .zip(expected.chunks(page))
            .position(|(page, expected)| page != expected);
        panic!("page {differs:?} is not as it was, in {} bytes of {}", bytes.len(), expected.len());
    }

    fn is_zero(&self) -> bool {
        self.bytes() == vec![0; usize::try_from(self.reserved.place().byte_length().get()).unwrap()]
    }
}

/// The bytes of these pages.
fn part(pages: std::ops::Range<u64>) -> std::ops::Range<usize> {
    let at = |page: u64| usize::try_from(page * page_bytes()).unwrap();
    at(pages.start)..at(pages.end)
}

fn region(count: u64, value: u8) -> Arc<Region> {
    let bytes = vec![value; usize::try_from(count * page_bytes()).unwrap()];
    Arc::new(
        Region::copy_from(bytes.as_ptr() as u64, bytes.len() as u64, "test", PageKind::Ordinary)
            .unwrap(),
    )
}

/// Writes, restores and compares, many times over: two snapshots, a private mapping and one that is
/// shared, resets in between.
fn exercise(settings: Settings, seed: u64, mut disturb: impl FnMut(&One)) {
    let mut numbers = Numbers(seed);
    let mut it = One::new(PAGES);
    let (private, shared) = (region(8, 7), region(4, 9));
    it.map(&private, 100, Access::Private);
    it.map(&shared, 200, Access::Shared);
    for page in [0, 1, 2, 50, 101, 103, 300, 301, 700, PAGES - 1] {
        it.write(page, 5);
    }
    let first = (it.capture(settings), it.bytes());
    for _ in 0..60 {
        let page = numbers.below(PAGES);
        it.write(page, 6);
    }
    let afterwards = if seed.is_multiple_of(2) { Afterwards::Keeps } else { Afterwards::Shares };
    let second = (it.try_capture_and(settings, afterwards).unwrap(), it.bytes());
    for _ in 0..60 {
        for _ in 0..numbers.below(200) {
            // What goes to the shared region stays there.
            let page = numbers.below(PAGES);
            if !(200..204).contains(&page) {
                it.write(page, u8::try_from(numbers.below(255)).unwrap());
            }
        }
        disturb(&it);
        if numbers.below(5) == 0 {
            it.try_reset(settings.keep_resident_bytes).unwrap();
            let mut expected = vec![0; second.1.len()];
            expected[part(100..108)].fill(7);
            expected[part(200..204)].copy_from_slice(&second.1[part(200..204)]);
            it.same(&expected);
        }
        let (snapshot, bytes) = if numbers.below(3) == 0 { &first } else { &second };
        // What was written to a shared region before the second snapshot is there in both.
        let mut expected = bytes.clone();
        expected[part(200..204)].copy_from_slice(&second.1[part(200..204)]);
        it.restore(snapshot);
        it.same(&expected);
    }
    no_hole(&it.reserved);
}

#[test]
fn every_page_comes_back() {
    let _serial = serial();
    for (seed, settings) in [KEEP_ALL, KEEP_FEW, KEEP_NONE].into_iter().enumerate() {
        exercise(settings, seed as u64 + 1, |_| {});
    }
}

#[test]
fn pages_that_were_reclaimed_come_back() {
    let _serial = serial();
    for settings in [KEEP_ALL, KEEP_NONE] {
        exercise(settings, 11, |it| {
            // Without swap, pages that were written stay; those of the snapshot leave the page
            // tables.
            let _ = it.advise(0, PAGES, MmapAdvise::MADV_PAGEOUT);
            let _ = it.advise(50, 300, MmapAdvise::MADV_COLD);
        });
    }
}

#[test]
fn huge_pages_come_back() {
    let _serial = serial();
    for settings in [KEEP_ALL, KEEP_FEW, KEEP_NONE] {
        exercise(settings, 21, |it| {
            // After a reset all pages are anonymous.
            let _ = it.advise(0, PAGES, MmapAdvise::MADV_HUGEPAGE);
        });
        // Taken of a memory in huge pages, a part of which is zeros.
        let it = One::new(PAGES);
        let _ = it.advise(0, PAGES, MmapAdvise::MADV_HUGEPAGE);
        for page in (0..PAGES).filter(|page| page % 7 != 0) {
            it.write(page, 3);
        }
        let (snapshot, bytes) = (it.capture(settings), it.bytes());
        (0..PAGES).for_each(|page| it.write(page, 4));
        it.restore(&snapshot);
        it.same(&bytes);
        it.try_reset(settings.keep_resident_bytes).unwrap();
        let _ = it.advise(0, PAGES, MmapAdvise::MADV_HUGEPAGE);
        it.write(600, 4);
        it.try_reset(settings.keep_resident_bytes).unwrap();
        assert!(it.is_zero());
    }
}

#[test]
fn zeros_are_not_kept() {
    let _serial = serial();
    let it = One::new(PAGES);
    let empty = it.capture(KEEP_ALL).resident_bytes();
    // Pages that were written, with zeros, and pages that were read.
    (0..400).for_each(|page| it.write(page, 0));
    let _ = it.bytes();
    it.write(500, 1);
    let data = || data_in(&it.memory, it.reserved.place()).unwrap();
    let only = PageSpan::page_at(500 * page_bytes()).unwrap();
    assert_eq!(data(), [only]);
    let snapshot = it.capture(KEEP_ALL);
    assert_eq!(data(), [only]);
    assert!(snapshot.resident_bytes() <= empty + page_bytes(), "{}", snapshot.resident_bytes());
    it.restore(&snapshot);
    assert_eq!(it.reserved.read(500 * page_bytes()), 1);
    // Of a memory that shows a snapshot.
    assert!(it.capture(KEEP_ALL).resident_bytes() <= empty + page_bytes());
}

#[test]
fn a_memory_keeps_no_more_than_it_may() {
    let _serial = serial();
    let it = One::new(PAGES);
    (0..PAGES).for_each(|page| it.write(page, 1));
    let snapshot = it.capture(KEEP_FEW);
    it.restore(&snapshot);
    let own = One::own_pages;
    assert_eq!(own(&it), 0);
    (0..PAGES).for_each(|page| it.write(page, 2));
    assert_eq!(own(&it), PAGES);
    it.restore(&snapshot);
    assert!(own(&it) <= 3, "{}", own(&it));
    let all = it.capture(KEEP_ALL);
    it.restore(&all);
    (10..20).for_each(|page| it.write(page, 2));
    it.restore(&all);
    // Copied in place: no fault when they are written again. Where the kernel can't tell, all are
    // dropped.
    assert!([0, 10].contains(&own(&it)), "{}", own(&it));
}

#[test]
fn a_memory_shares_the_pages_of_its_snapshot_unless_it_keeps_its_own() {
    let _serial = serial();
    for settings in [KEEP_FEW, KEEP_NONE] {
        let mut it = One::new(PAGES);
        it.map(&region(8, 7), 100, Access::Private);
        (0..PAGES).filter(|page| page % 9 != 0).for_each(|page| it.write(page, 1));
        // Written, and zeros.
        it.write(9, 0);
        let bytes = it.bytes();
        let written = it.own_pages();
        let apart = it.try_capture_and(settings, Afterwards::Keeps).unwrap();
        assert_eq!(it.own_pages(), written);
        let shared = it.capture(settings);
        // What was written to the mapping.
        assert_eq!(it.own_pages(), 8);
        it.same(&bytes);
        // It shows the snapshot that it shares, and the other one holds as much.
        for snapshot in [&shared, &apart, &shared] {
            (0..PAGES).step_by(5).for_each(|page| it.write(page, 2));
            it.restore(snapshot);
            it.same(&bytes);
        }
        // What was written since is in the next one.
        it.write(300, 3);
        let bytes = it.bytes();
        let next = it.capture(settings);
        drop((shared, apart));
        it.same(&bytes);
        it.write(300, 4);
        it.restore(&next);
        it.same(&bytes);
        no_hole(&it.reserved);
    }
}

#[test]
fn many_memories_show_one_snapshot_at_once() {
    let _serial = serial();
    let origin = One::new(64);
    (0..64).step_by(3).for_each(|page| origin.write(page, 7));
    let (snapshot, bytes) = (origin.capture(KEEP_FEW), origin.bytes());
    drop(origin);
    std::thread::scope(|scope| {
        for seed in 1..4 {
            let (snapshot, bytes) = (&snapshot, &bytes);
            scope.spawn(move || {
                let mut numbers = Numbers(seed);
                for _ in 0..20 {
                    let it = One::new(64);
                    for _ in 0..10 {
                        it.restore(snapshot);
                        it.same(bytes);
                        (0..numbers.below(40)).for_each(|_| it.write(numbers.below(64), 1));
                    }
                }
            });
        }
    });
}

#[test]
fn an_address_that_comes_back_does_not_show_the_snapshot() {
    let _serial = serial();
    let it = One::new(64);
    (0..64).for_each(|page| it.write(page, 7));
    let (snapshot, bytes) = (it.capture(KEEP_ALL), it.bytes());
    it.restore(&snapshot);
    // The memory dies, and its finalizer has not run.
    it.reserved.renew();
    let again = Memory::attach(it.reserved.place()).unwrap();
    restore(&again, it.reserved.place(), &snapshot).unwrap();
    it.same(&bytes);
}

#[test]
fn windows_and_mappings_stand_where_they_did_or_are_refused() {
    let _serial = serial();
    let file = Temp::new("kept", &vec![8; usize::try_from(4 * page_bytes()).unwrap()]);
    let file = Arc::new(file.open());
    let mut it = One::new(64);
    it.map(&file, 8, Access::Readonly);
    let kind = WindowSpec { length: pages(4), access: Access::Private, tail: Tail::Zeros };
    let window = window::open_at(&it.memory, it.reserved.place(), 32 * page_bytes(), kind).unwrap();
    let shown = file.pages(pages(1), 2 * page_bytes()).unwrap();
    window::slide(&it.memory, it.reserved.place(), window, Some((&shown, Access::Private)))
        .unwrap();
    it.shown.push((window, Arc::clone(&file), 2 * page_bytes()));
    it.write(33, 6);
    let (snapshot, bytes) = (it.capture(KEEP_ALL), it.bytes());
    assert_eq!(snapshot.mappings().len(), 2);
    let place = it.reserved.place();
    for round in 0..4 {
        it.write(32, 1);
        it.write(33, 1);
        match round {
            0 => assert!(window::slide(&it.memory, place, window, None).unwrap()),
            1 => {
                let other = file.pages(pages(3), page_bytes()).unwrap();
                assert!(
                    window::slide(&it.memory, place, window, Some((&other, Access::Readonly)))
                        .unwrap()
                );
            }
            _ => {}
        }
        it.restore(&snapshot);
        it.same(&bytes);
    }
    // Another one in its place, and one in the way.
    it.memory.unmap(place, it.shown[0].0).unwrap().unwrap();
    let other = region(4, 1);
    let elsewhere = other.pages(PageAligned::ZERO, 4 * page_bytes()).unwrap();
    for page in [8, 7, 20] {
        let wrong = it
            .memory
            .map_at(place, page * page_bytes(), &elsewhere, Access::Readonly, false)
            .unwrap();
        let before = it.bytes();
        assert_eq!(it.try_restore(&snapshot), Err(Code::Overlap));
        it.same(&before);
        it.memory.unmap(place, wrong).unwrap().unwrap();
    }
    it.restore(&snapshot);
    it.same(&bytes);
    no_hole(&it.reserved);
}

#[test]
fn what_a_failed_growth_made_writable_is_put_back_and_protected() {
    let _serial = serial();
    let mut it = One::new(64);
    it.map(&region(8, 7), 16, Access::Readonly);
    let kind = WindowSpec { length: pages(4), access: Access::Private, tail: Tail::Inaccessible };
    let window = window::open_at(&it.memory, it.reserved.place(), 24 * page_bytes(), kind).unwrap();
    it.shown.push((window, region(1, 0), 0));
    let snapshot = it.capture(KEEP_ALL);
    it.restore(&snapshot);
    for reset in [false, true] {
        // V8 grows by one mprotect over all of the memory, which goes upwards and may stop
        // anywhere. SAFETY: pages of the memory.
        let made_writable = unsafe {
            let length = usize::try_from(26 * page_bytes()).unwrap();
            libc::mprotect(it.reserved.base() as *mut _, length, libc::PROT_READ | libc::PROT_WRITE)
        };
        assert_eq!(made_writable, 0);
        it.write(17, 9);
        it.write(24, 9);
        if reset {
            it.try_reset(0).unwrap();
        } else {
            it.restore(&snapshot);
        }
        assert!(
            !it.reserved.is_writable(17 * page_bytes())
                && !it.reserved.is_writable(24 * page_bytes())
        );
        assert_eq!(it.reserved.read(17 * page_bytes()), 7);
    }
}

#[test]
fn free_space_goes_back_with_the_snapshot() {
    let _serial = serial();
    let (free, heap) = (One::new(64), One::new(64));
    free.memory
        .add_free_space(free.reserved.place(), 32 * page_bytes(), 64 * page_bytes())
        .unwrap();
    (0..64).for_each(|page| heap.write(page, 1));
    let (snapshot_of_free, snapshot_of_heap) = (free.capture(KEEP_ALL), heap.capture(KEEP_ALL));
    let shown = region(4, 7);
    let shown = shown.pages(PageAligned::ZERO, 4 * page_bytes()).unwrap();
    let map = |it: &One| {
        it.memory
            .map_in_free_space(it.reserved.place(), &shown, Access::Readonly, false, false)
            .unwrap()
    };
    for _ in 0..2 {
        // Where one has free space is the other one's heap.
        free.restore(&snapshot_of_heap);
        assert_eq!(map(&free), None);
        free.same(&heap.bytes());
        heap.restore(&snapshot_of_free);
        let mapped = map(&heap).unwrap();
        assert_eq!(mapped.start, pages(32));
        heap.memory.unmap(heap.reserved.place(), mapped).unwrap().unwrap();
        free.restore(&snapshot_of_free);
        heap.restore(&snapshot_of_heap);
    }
    let file = Temp::new("free", &[]);
    store::save(&snapshot_of_free, &file.0, &Mac::default(), &AtomicBool::new(false)).unwrap();
    let loaded = store::load(&file.0, KEEP_ALL, &AtomicBool::new(false)).unwrap().snapshot;
    loaded.set_mappings(Vec::new()).unwrap();
    heap.restore(&loaded);
    assert!(map(&heap).is_some());
}

#[test]
fn a_second_snapshot_leaves_holes_of_the_first() {
    let _serial = serial();
    let it = One::new(PAGES);
    (0..PAGES).step_by(200).for_each(|page| it.write(page, 1));
    let first = it.capture(KEEP_ALL);
    it.restore(&first);
    it.write(3, 2);
    let (before, bytes) = (first.resident_bytes(), it.bytes_of(&[0, 3, 200, 400, 1000]));
    let second = it.capture(KEEP_ALL);
    assert_eq!(first.resident_bytes(), before);
    assert_eq!(second.resident_bytes(), before);
    it.write(200, 9);
    it.restore(&second);
    assert_eq!(it.bytes_of(&[0, 3, 200, 400, 1000]), bytes);
}

#[test]
fn a_snapshot_of_a_loaded_one_has_all_of_it() {
    let _serial = serial();
    let mut it = One::new(48);
    it.map(&region(16, 7), 16, Access::Private);
    (0..48).for_each(|page| it.write(page, 1 + u8::try_from(page).unwrap()));
    let (snapshot, bytes) = (it.capture(KEEP_ALL), it.bytes());
    let file = Temp::new("again", &[]);
    store::save(&snapshot, &file.0, &Mac::default(), &AtomicBool::new(false)).unwrap();
    let saved = store::load(&file.0, KEEP_ALL, &AtomicBool::new(false)).unwrap().snapshot;
    let shared =
        open::from_fd(snapshot.duplicate_fd().unwrap().as_raw_fd(), KEEP_ALL).unwrap().snapshot;
    for loaded in [saved, shared] {
        loaded.set_mappings(snapshot.mappings().to_vec()).unwrap();
        it.restore(&loaded);
        it.same(&bytes);
        it.write(40, 9);
        let (again, now) = (it.capture(KEEP_ALL), it.bytes());
        it.try_reset(0).unwrap();
        it.restore(&again);
        it.same(&now);
        it.restore(&loaded);
        it.same(&bytes);
    }
}

#[test]
fn what_another_thread_shows_is_not_kept_as_something_else() {
    let _serial = serial();
    let mut it = One::new(64);
    let (shown, stale) = (region(4, 8), region(4, 1));
    let kind = WindowSpec { length: pages(4), access: Access::Private, tail: Tail::Zeros };
    let place = it.reserved.place();
    let window = window::open_at(&it.memory, place, 32 * page_bytes(), kind).unwrap();
    let slide = |count: u64| {
        let shown = shown.pages(PageAligned::ZERO, count * page_bytes()).unwrap();
        window::slide(&it.memory, place, window, Some((&shown, Access::Private))).unwrap();
    };
    slide(4);
    // What a thread believes that has not seen the slide.
    it.shown.push((window, Arc::clone(&stale), 4 * page_bytes()));
    assert_eq!(it.try_capture(KEEP_ALL).unwrap_err(), Code::RegionClosed);
    it.shown[0].1 = Arc::clone(&shown);
    it.try_capture(KEEP_ALL).unwrap();
    it.shown[0].2 = 2 * page_bytes();
    assert_eq!(it.try_capture(KEEP_ALL).unwrap_err(), Code::RegionClosed);
    // It was emptied, and another was opened.
    window::slide(&it.memory, place, window, None).unwrap();
    assert_eq!(it.try_capture(KEEP_ALL).unwrap_err(), Code::RegionClosed);
    it.memory.unmap(place, window).unwrap();
    it.shown.clear();
    it.try_capture(KEEP_ALL).unwrap();
    window::open_at(&it.memory, place, 16 * page_bytes(), kind).unwrap();
    assert_eq!(it.try_capture(KEEP_ALL).unwrap_err(), Code::RegionClosed);
}

#[test]
fn a_reset_clears_the_rest_of_windows() {
    let _serial = serial();
    let it = One::new(64);
    let kind = WindowSpec { length: pages(4), access: Access::Private, tail: Tail::Zeros };
    let place = it.reserved.place();
    let window = window::open_at(&it.memory, place, 32 * page_bytes(), kind).unwrap();
    let shown = region(1, 8);
    let shown = shown.pages(PageAligned::ZERO, page_bytes()).unwrap();
    window::slide(&it.memory, place, window, Some((&shown, Access::Private))).unwrap();
    for _ in 0..3 {
        it.write(32, 9);
        it.write(34, 9);
        it.try_reset(1 << 20).unwrap();
        assert_eq!([32, 34].map(|page| it.reserved.read(page * page_bytes())), [8, 0]);
    }
}

#[test]
fn written_pages_outside_of_private_mappings_are_refused() {
    let _serial = serial();
    let mut it = One::new(64);
    it.map(&region(8, 7), 16, Access::Private);
    it.write(18, 2);
    let snapshot = it.capture(KEEP_ALL);
    let file = Temp::new("written", &[]);
    store::save(&snapshot, &file.0, &Mac::default(), &AtomicBool::new(false)).unwrap();
    let refusal = |change: &dyn Fn(&mut KeptMapping)| {
        let loaded = store::load(&file.0, KEEP_ALL, &AtomicBool::new(false)).unwrap().snapshot;
        let mut kept = snapshot.mappings().to_vec();
        change(&mut kept[0]);
        loaded.set_mappings(kept).err().map(|error| error.code())
    };
    assert_eq!(refusal(&|_| ()), None);
    assert_eq!(refusal(&|kept| kept.access = Access::Shared), Some(Code::SnapshotInvalid));
    assert_eq!(refusal(&|kept| kept.access = Access::Readonly), Some(Code::SnapshotInvalid));
    // In the rest of a window.
    let past_end = |kept: &mut KeptMapping| {
        kept.window = Some(WindowSpec {
            length: pages(8),
            access: Access::Private,
            tail: Tail::Inaccessible,
        });
        kept.shown.as_mut().unwrap().byte_length = 2 * page_bytes();
    };
    assert_eq!(refusal(&past_end), Some(Code::SnapshotInvalid));
}

#[test]
fn a_restore_after_a_growth_puts_all_back() {
    let _serial = serial();
    let mut it = One::new(64);
    it.write(1, 7);
    let snapshot = it.capture(KEEP_ALL);
    it.restore(&snapshot);
    it.map(&region(4, 7), 32, Access::Readonly);
    it.reserved.grow(16);
    assert!(it.reserved.is_writable(32 * page_bytes()));
    it.memory.sync(it.reserved.place()).unwrap();
    assert!(!it.reserved.is_writable(32 * page_bytes()));
    it.memory.unmap(it.reserved.place(), it.shown[0].0).unwrap();
    it.shown.clear();
    let snapshot = it.capture(KEEP_ALL);
    it.restore(&snapshot);
    // V8 moves a memory without guards when it grows, perhaps back to where it was.
    let bytes = it.bytes();
    it.reserved.renew();
    it.reserved.grow(16);
    (0..64).for_each(|page| it.write(page, bytes[part(page..page + 1)][0]));
    it.restore(&snapshot);
    assert_eq!([0, 1, 80].map(|page| it.reserved.read(page * page_bytes())), [0, 7, 0]);
}

#[test]
fn pages_that_were_only_read_are_dropped_in_the_end() {
    let _serial = serial();
    let mut it = One::new(4080);
    it.map(&region(1024, 7), 16, Access::Private);
    it.write(2048, 1);
    let (snapshot, bytes) = (it.capture(KEEP_ALL), it.bytes());
    it.restore(&snapshot);
    // All is read.
    it.same(&bytes);
    let small = |it: &One| {
        let all = PageSpan::new(it.reserved.place().base(), pages(4080)).unwrap();
        let mut count = 0;
        let scanned =
            pagemap::scan(all, pagemap::Which::SmallClean, u64::MAX, |run| count += run.pages());
        scanned.is_ok().then_some(count)
    };
    let Some(before) = small(&it) else { return };
    assert!(before > 2048, "{before} were read");
    for _ in 0..64 {
        it.restore(&snapshot);
    }
    assert!(small(&it).unwrap() < 64, "{:?} are left", small(&it));
    it.same(&bytes);
}

#[test]
fn a_save_follows_links_to_files() {
    use std::os::unix::fs::symlink;
    let _serial = serial();
    let it = One::new(16);
    it.write(3, 3);
    let snapshot = it.capture(KEEP_ALL);
    let directory = std::env::temp_dir().join(format!("hostmap-links-{}", std::process::id()));
    std::fs::create_dir(&directory).unwrap();
    let at = |name: &str| directory.join(name);
    let save = |name: &str| {
        store::save(&snapshot, &at(name), &Mac::default(), &AtomicBool::new(false))
            .map_err(|error| error.code())
    };
    std::fs::write(at("target"), "precious").unwrap();
    symlink("target", at("link")).unwrap();
    symlink(at("link"), at("link of a link")).unwrap();
    symlink("nowhere", at("dangling")).unwrap();
    symlink("loop", at("loop")).unwrap();
    assert_eq!(save("link of a link"), Ok(()));
    assert!(std::fs::read(at("target")).unwrap().starts_with(b"\x89hostmap"));
    assert!(at("link").is_symlink() && at("link of a link").is_symlink());
    assert_eq!(save("dangling"), Err(Code::OpenFailed));
    assert_eq!(save("loop"), Err(Code::OpenFailed));
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn a_load_can_be_cancelled_and_a_sealed_memfd_of_others_is_none() {
    let _serial = serial();
    let it = One::new(64);
    it.write(3, 3);
    let (snapshot, bytes) = (it.capture(KEEP_ALL), it.bytes());
    let file = Temp::new("saved", &[]);
    store::save(&snapshot, &file.0, &Mac::default(), &AtomicBool::new(false)).unwrap();
    let cancel = AtomicBool::new(true);
    assert_eq!(store::load(&file.0, KEEP_ALL, &cancel).unwrap_err().code(), Code::Aborted);
    assert_eq!(
        store::save(&snapshot, &file.0, &Mac::default(), &cancel).unwrap_err().code(),
        Code::Aborted
    );
    let loaded = store::load(&file.0, KEEP_ALL, &AtomicBool::new(false)).unwrap().snapshot;
    loaded.set_mappings(Vec::new()).unwrap();
    let other = One::new(64);
    other.restore(&loaded);
    other.same(&bytes);
    let foreign = region(4, 0);
    foreign.seal().unwrap();
    assert_eq!(
        open::from_fd(foreign.duplicate_fd().unwrap().as_raw_fd(), KEEP_ALL).unwrap_err().code(),
        Code::SnapshotInvalid
    );
    assert_eq!(open::from_fd(-1, KEEP_ALL).unwrap_err().code(), Code::OpenFailed);
}

/// Runs one of the tests below in a process of its own, for what lasts as long as the process does.
fn passes(test: &str) {
    let ran = support::run_ignored(test);
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stdout));
}

#[test]
fn restores_are_right_in_other_circumstances() {
    for test in [
        "alone_without_scan",
        "alone_without_pagemap",
        "alone_with_anothers_pagemap",
        "alone_with_locked_pages",
    ] {
        passes(test);
    }
}

#[test]
#[ignore = "forbids the process a system call"]
fn alone_without_scan() {
    support::default_action();
    forbid_scan();
    let small = Region::copy_from([1_u8; 10].as_ptr() as u64, 10, "small", PageKind::Gathered);
    assert_eq!(small.unwrap().huge_pages(), (0, Some(WhyNot::TooSmall)));
    #[cfg(feature = "inject")]
    injected::an_image_that_could_not_be_had_is_had_later();
    let it = One::new(16);
    it.write(3, 1);
    let span = PageSpan::new(it.reserved.place().base(), pages(16)).unwrap();
    assert_eq!(
        pagemap::scan(span, pagemap::Which::Own, u64::MAX, |_| {}).unwrap_err().errno,
        nix::errno::Errno::ENOTTY
    );
    every_page_comes_back();
    huge_pages_come_back();
    windows_and_mappings_stand_where_they_did_or_are_refused();
    a_memory_keeps_no_more_than_it_may();
    zeros_are_not_kept();
}

/// PAGEMAP_SCAN gives ENOTTY from now on, as before kernel 6.7.
fn forbid_scan() {
    const PAGEMAP_SCAN: u32 = 0xc060_6610;
    const LOW_WORD_OF_REQUEST: u32 = 24;
    let step = |code: u32, if_true: u8, if_false: u8, value: u32| libc::sock_filter {
        code: u16::try_from(code).unwrap(),
        jt: if_true,
        jf: if_false,
        k: value,
    };
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let equals = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let give = libc::BPF_RET | libc::BPF_K;
    let mut filter = [
        step(load, 0, 0, 0),
        step(equals, 0, 3, u32::try_from(libc::SYS_ioctl).unwrap()),
        step(load, 0, 0, LOW_WORD_OF_REQUEST),
        step(equals, 0, 1, PAGEMAP_SCAN),
        step(give, 0, 0, libc::SECCOMP_RET_ERRNO | u32::try_from(libc::ENOTTY).unwrap()),
        step(give, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: 6, filter: filter.as_mut_ptr() };
    // SAFETY: the filter outlives the call, and forbids nothing else.
    let done = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) == 0
    };
    assert!(done, "{}", std::io::Error::last_os_error());
}

/// The descriptors of the process's pagemap, which the library keeps open.
fn kept_pagemaps() -> Vec<i32> {
    let is_it = |fd: &i32| {
        std::fs::read_link(format!("/proc/self/fd/{fd}"))
            .is_ok_and(|path| path.ends_with("pagemap"))
    };
    (0..1000).filter(is_it).collect()
}

#[test]
#[ignore = "closes a descriptor of the library's"]
fn alone_without_pagemap() {
    support::default_action();
    let it = One::new(64);
    (0..64).step_by(3).for_each(|page| it.write(page, 1));
    let (snapshot, bytes) = (it.capture(KEEP_ALL), it.bytes());
    it.restore(&snapshot);
    let [pagemap] = kept_pagemaps()[..] else { panic!("one is kept") };
    // As a script may that closes descriptors by number; and then there is none left to open it by.
    // SAFETY: nothing else uses it in this process.
    assert_eq!(unsafe { libc::close(pagemap) }, 0);
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, 0, hard).unwrap();
    let span = PageSpan::new(it.reserved.place().base(), pages(64)).unwrap();
    assert!(pagemap::scan(span, pagemap::Which::Own, u64::MAX, |_| {}).is_err());
    assert!(pagemap::read(span, |_| {}).is_err());
    for page in [0, 1, 40] {
        it.write(page, 9);
        it.restore(&snapshot);
        it.same(&bytes);
    }
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
    exercise_own_pages(KEEP_ALL);
    exercise_own_pages(KEEP_NONE);
}

#[test]
#[ignore = "puts another file in the place of a descriptor of the library's"]
fn alone_with_anothers_pagemap() {
    support::default_action();
    exercise_own_pages(KEEP_ALL);
    let [pagemap] = kept_pagemaps()[..] else { panic!("one is kept") };
    let zero = std::fs::File::open("/dev/zero").unwrap();
    // SAFETY: nothing else uses it in this process.
    assert_eq!(unsafe { libc::dup2(zero.as_raw_fd(), pagemap) }, pagemap);
    exercise_own_pages(KEEP_ALL);
    exercise_own_pages(KEEP_NONE);
    let link = std::fs::read_link(format!("/proc/self/fd/{pagemap}")).unwrap();
    assert_eq!(link.to_str(), Some("/dev/zero"), "it is not the library's to close");
}

/// Without mappings: which pages of a private one were written, nobody can tell.
fn exercise_own_pages(settings: Settings) {
    let it = One::new(PAGES);
    (0..PAGES).step_by(5).for_each(|page| it.write(page, 5));
    let first = (it.capture(settings), it.bytes());
    it.write(700, 6);
    let second = (it.capture(settings), it.bytes());
    let mut numbers = Numbers(5);
    for round in 0..40 {
        (0..50).for_each(|_| it.write(numbers.below(PAGES), 8));
        let (snapshot, bytes) = if round % 3 == 0 { &first } else { &second };
        it.restore(snapshot);
        it.same(bytes);
        if round % 7 == 0 {
            it.try_reset(settings.keep_resident_bytes).unwrap();
            assert!(it.is_zero());
        }
    }
}

#[test]
#[ignore = "locks all pages of the process"]
fn alone_with_locked_pages() {
    support::default_action();
    if let Err(errno) = mlockall(MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE) {
        // Too many for this user.
        assert!([nix::errno::Errno::EPERM, nix::errno::Errno::ENOMEM].contains(&errno), "{errno}");
        return;
    }
    every_page_comes_back();
    windows_and_mappings_stand_where_they_did_or_are_refused();
    many_memories_show_one_snapshot_at_once();
}

#[cfg(feature = "inject")]
mod injected {
    use super::*;
    use wasm_hostmap::sys::inject;

    /// What a call gives when one system call fails; `None` if that was not made.
    fn failing<T>(syscall: &str, before: u32, call: impl FnOnce() -> T) -> Option<T> {
        let here = Some(std::thread::current().id());
        inject::arm(syscall, before, libc::ENOMEM, here);
        let given = call();
        (!inject::disarm(here)).then_some(given)
    }

    const CALLS: [&str; 12] = [
        "mmap",
        "hole",
        "madvise",
        "madvise_collapse",
        "madvise_discard",
        "mprotect",
        "mremap",
        "ioctl",
        "ioctl_pagemap",
        "pread_pagemap",
        "fcntl",
        "fstat",
    ];

    /// Each call of each system call fails in its turn.
    fn each(mut see: impl FnMut(&str, u32) -> bool) {
        for syscall in CALLS {
            let mut before = 0;
            while see(syscall, before) {
                before += 1;
                assert!(before < 500, "{syscall} is called without an end");
            }
        }
    }

    fn world() -> One {
        let mut it = One::new(128);
        it.map(&region(4, 7), 20, Access::Private);
        it.map(&region(4, 8), 40, Access::Readonly);
        for page in [1, 21, 60, 90] {
            it.write(page, 5);
        }
        it
    }

    #[test]
    pub(super) fn an_image_that_could_not_be_had_is_had_later() {
        let _serial = serial();
        let mut it = One::new(64);
        it.map(&region(8, 7), 16, Access::Private);
        it.write(3, 1);
        it.write(18, 2);
        let (snapshot, bytes) = (it.capture(KEEP_ALL), it.bytes());
        it.restore(&snapshot);
        let mut refused = 0;
        for _ in 0..3 {
            it.write(3, 9);
            it.write(18, 9);
            // Without it, pages are dropped instead.
            let restored = failing("mmap", 0, || it.try_restore(&snapshot));
            refused += u32::from(restored == Some(Ok(())));
            it.same(&bytes);
            it.write(3, 9);
            it.restore(&snapshot);
            it.same(&bytes);
        }
        // Where the kernel can't tell which pages were written, none is needed.
        let all = PageSpan::new(it.reserved.place().base(), pages(64)).unwrap();
        let tells = pagemap::scan(all, pagemap::Which::Own, u64::MAX, |_| {}).is_ok();
        assert_eq!(refused, u32::from(tells), "it is made once");
    }

    #[test]
    fn holes_that_zeros_filled_are_put_back() {
        let _serial = serial();
        let mut it = One::new(64);
        (0..64).for_each(|page| it.write(page, 5));
        let shown = region(8, 7);
        it.map(&shown, 32, Access::Private);
        let (snapshot, bytes) = (it.capture(KEEP_ALL), it.bytes());
        it.restore(&snapshot);
        let place = it.reserved.place();
        let pages = shown.pages(PageAligned::ZERO, shown.byte_length()).unwrap();
        let map =
            || it.memory.map_at(place, 16 * page_bytes(), &pages, Access::Readonly, false).is_err();
        assert_eq!(failing("hole", 0, map), Some(true));
        it.restore(&snapshot);
        it.same(&bytes);
        let unmap = || it.memory.unmap(place, it.shown[0].0).is_err();
        assert_eq!(failing("hole", 0, unmap), Some(true));
        it.restore(&snapshot);
        it.same(&bytes);
    }

    #[test]
    fn a_capture_that_fails_has_changed_nothing() {
        let _serial = serial();
        let it = world();
        let bytes = it.bytes();
        let mut refused = 0;
        each(|syscall, before| {
            let Some(outcome) = failing(syscall, before, || it.try_capture(KEEP_ALL)) else {
                return false;
            };
            it.same(&bytes);
            match outcome {
                Ok(snapshot) => {
                    it.write(60, 9);
                    it.restore(&snapshot);
                    it.same(&bytes);
                }
                Err(_) => refused += 1,
            }
            true
        });
        assert!(refused > 0);
    }

    #[test]
    fn pages_that_the_kernel_took_are_filled_again() {
        let _serial = serial();
        let it = One::new(PAGES);
        for page in [1, 2, 3, 400, 900] {
            it.write(page, 5);
        }
        let bytes = it.bytes();
        let mut went = 0;
        for before in 0..12 {
            let taken = failing("hole", before, || it.try_capture(KEEP_ALL));
            it.same(&bytes);
            let Some(taken) = taken else { break };
            went += 1;
            let snapshot = taken.unwrap();
            it.write(2, 6);
            it.write(500, 6);
            it.restore(&snapshot);
            it.same(&bytes);
        }
        assert!(went > 2, "{went}");
        // Not even that: the pages are lost, and the call says so.
        it.write(1, 5);
        let here = Some(std::thread::current().id());
        inject::arm("pread", 0, libc::EIO, here);
        let taken = failing("hole", 1, || it.try_capture(KEEP_ALL));
        assert_eq!(taken.unwrap().unwrap_err(), Code::MapFailed);
        no_hole(&it.reserved);
    }

    #[test]
    fn a_restore_that_fails_is_done_by_the_next() {
        let _serial = serial();
        let mut it = world();
        let (first, bytes) = (it.capture(KEEP_FEW), it.bytes());
        it.write(60, 6);
        it.write(95, 6);
        let second = it.capture(KEEP_FEW);
        let mut refused = 0;
        // From a memory that shows it already, that shows another one, that has lost its mappings.
        for start in 0..3 {
            each(|syscall, before| {
                it.restore(if start == 1 { &second } else { &first });
                (0..10).for_each(|page| it.write(10 * page, 9));
                if start == 2 {
                    for (mapped, ..) in std::mem::take(&mut it.shown) {
                        it.memory.unmap(it.reserved.place(), mapped).unwrap();
                    }
                }
                let outcome = failing(syscall, before, || it.try_restore(&first));
                it.shown = standing(&it);
                no_hole(&it.reserved);
                if outcome == Some(Ok(())) {
                    it.same(&bytes);
                }
                refused += usize::from(matches!(outcome, Some(Err(_))));
                it.restore(&first);
                it.same(&bytes);
                it.shown = standing(&it);
                assert_eq!(it.shown.len(), 2);
                outcome.is_some()
            });
        }
        assert!(refused > 0);
        it.shown.clear();
    }

    /// The mappings of the table, also those that no call was told of.
    fn standing(it: &One) -> Vec<(Mapped, Arc<Region>, u64)> {
        let region = region(1, 0);
        let entries = it.memory.entries().unwrap();
        let of = |entry: &wasm_hostmap::memory::table::Entry| Mapped {
            start: entry.span.start(),
            id: entry.id,
        };
        entries.iter().map(|(entry, _)| (of(entry), Arc::clone(&region), page_bytes())).collect()
    }

    #[test]
    fn a_reset_that_fails_is_done_by_the_next() {
        let _serial = serial();
        let it = world();
        let snapshot = it.capture(KEEP_FEW);
        let mut refused = 0;
        let expected = {
            it.try_reset(0).unwrap();
            it.bytes()
        };
        for shows_snapshot in [false, true] {
            each(|syscall, before| {
                if shows_snapshot {
                    it.restore(&snapshot);
                }
                (0..10).for_each(|page| it.write(10 * page, 9));
                let outcome = failing(syscall, before, || it.try_reset(page_bytes()));
                no_hole(&it.reserved);
                if outcome == Some(Ok(())) {
                    it.same(&expected);
                }
                refused += usize::from(matches!(outcome, Some(Err(_))));
                it.try_reset(page_bytes()).unwrap();
                it.same(&expected);
                outcome.is_some()
            });
        }
        assert!(refused > 0);
    }
}
