//! Pages that are mapped just before a module reads them: which, when, and what is left alone. The
//! bookkeeping is tested in `memory/pass.rs`.

#![allow(clippy::arithmetic_side_effects)] // Tests may let arithmetic panic.

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};
use support::{Reserved, page_bytes};
use wasm_hostmap::access::Access;
use wasm_hostmap::memory::{Mapped, Memory, Populate};
use wasm_hostmap::region::Region;
use wasm_hostmap::region::thp::PageKind;
use wasm_hostmap::snapshot::Settings;
use wasm_hostmap::snapshot::capture::{Afterwards, MappedRegion, capture};
use wasm_hostmap::snapshot::complete::complete;
use wasm_hostmap::snapshot::metadata::About;
use wasm_hostmap::snapshot::restore::restore;
use wasm_hostmap::sys::page::PageAligned;
use wasm_hostmap::sys::page_query::is_mapped_file_page;

const MIB: u64 = 1 << 20;
const LENGTH: u64 = 64 * MIB;

fn page() -> usize {
    usize::try_from(page_bytes()).unwrap()
}

struct Setting {
    reserved: Reserved,
    memory: Memory,
    region: Arc<Region>,
}

impl Setting {
    fn new() -> Self {
        let reserved = Reserved::new(2 * LENGTH / page_bytes());
        let memory = Memory::attach(reserved.place()).unwrap();
        let bytes: Vec<u8> = (0..LENGTH).map(|at| u8::try_from(at / MIB + 1).unwrap()).collect();
        let region = Region::copy_from(bytes.as_ptr() as u64, LENGTH, "read", PageKind::Ordinary);
        Self { reserved, memory, region: Arc::new(region.unwrap()) }
    }

    fn map(&self, at: u64, access: Access, populate: Populate) -> Mapped {
        let pages = self.region.pages(PageAligned::ZERO, LENGTH).unwrap();
        self.memory.map_at(self.reserved.place(), at, &pages, access, populate).unwrap()
    }

    fn unmap(&self, mapped: Mapped) {
        assert!(self.memory.unmap(self.reserved.place(), mapped).unwrap().is_some());
    }

    /// Reads a byte of each page, as a module would.
    fn read(&self, at: u64, byte_length: u64) {
        for offset in (0..byte_length).step_by(page()) {
            assert_eq!(u64::from(self.reserved.read(at + offset)), offset / MIB + 1);
        }
    }

    fn mapped_bytes(&self, at: u64) -> u64 {
        let base = self.reserved.place().base().get();
        let pages = (0..LENGTH).step_by(page());
        pages.filter(|offset| is_mapped_file_page(base + at + offset)).count() as u64 * page_bytes()
    }

    /// Whether more than so many bytes of a mapping are mapped, now or soon.
    fn is_ahead(&self, at: u64, bytes: u64) -> bool {
        let deadline = Instant::now() + Duration::from_secs(20);
        while Instant::now() < deadline {
            // Takes processor time, by which the thread counts.
            if self.mapped_bytes(at) > bytes {
                return true;
            }
        }
        false
    }
}

/// Kernels before 6.7 don't tell what is mapped where.
fn can_look() -> bool {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = kernel.split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or(0));
    (numbers.next(), numbers.next()) >= (Some(6), Some(7))
}

#[test]
fn what_is_read_in_order_is_mapped_ahead_and_nothing_else_is() {
    let _serial = support::serial();
    let it = Setting::new();
    for access in [Access::Readonly, Access::Private, Access::Shared] {
        let first = it.map(0, access, Populate::AsTouched);
        let second = it.map(LENGTH, access, Populate::Ahead);
        it.read(0, 8 * MIB);
        // Here and there.
        for at in (0..LENGTH).step_by(4 << 20) {
            it.reserved.read(LENGTH + at);
        }
        let touched = it.mapped_bytes(LENGTH);
        assert!(touched <= 16 * 64 * 1024, "{touched}");
        it.read(0, LENGTH / 2);
        assert_eq!(it.mapped_bytes(LENGTH), touched, "nothing is mapped that is not near a read");

        it.read(LENGTH, 8 * MIB);
        if can_look() {
            assert!(it.is_ahead(LENGTH, 10 * MIB), "{access:?}: nothing was mapped ahead");
            // As much as was read, and the strides that this begins and ends in.
            assert!(it.mapped_bytes(LENGTH) < 24 * MIB, "{access:?}");
        }
        it.read(LENGTH, LENGTH);
        assert_eq!(it.mapped_bytes(0), LENGTH / 2, "{access:?}: as touched");
        it.unmap(first);
        it.unmap(second);
    }
}

#[test]
fn a_pass_behind_what_was_written_is_found() {
    let _serial = support::serial();
    let it = Setting::new();
    let mapped = it.map(0, Access::Private, Populate::Ahead);
    for at in (0..16 * MIB).step_by(page()) {
        it.reserved.write(at, 0);
    }
    // Slowly, so that the thread looks a few times.
    let is_ahead = (16..48).any(|mib| {
        for at in (mib * MIB..(mib + 1) * MIB).step_by(page()) {
            assert_eq!(u64::from(it.reserved.read(at)), mib + 1);
        }
        it.mapped_bytes(0) > (mib + 1 - 16) * MIB
    });
    assert!(is_ahead || !can_look(), "nothing was mapped ahead");
    it.unmap(mapped);
}

#[test]
fn a_restored_mapping_is_mapped_ahead_if_it_was_before() {
    let _serial = support::serial();
    let it = Setting::new();
    let place = it.reserved.place();
    for populate in [Populate::AsTouched, Populate::Ahead] {
        let mapped = it.map(0, Access::Readonly, populate);
        let shown = [MappedRegion {
            start: mapped.start,
            region: Some(Arc::clone(&it.region)),
            byte_length: LENGTH,
            skip: 0,
            strict: false,
        }];
        let settings = Settings { keep_resident_bytes: 0, huge_pages: false };
        let shared = Afterwards::Shares;
        let snapshot = capture(&it.memory, place, "ahead", &shown, settings, shared).unwrap();
        complete(&snapshot, About::default(), None).unwrap();
        it.unmap(mapped);
        let restored = restore(&it.memory, place, &snapshot).unwrap();
        it.read(0, 8 * MIB);
        let ahead = populate == Populate::Ahead;
        if can_look() && ahead {
            assert!(it.is_ahead(0, 10 * MIB), "nothing was mapped ahead");
        }
        if !ahead {
            std::thread::sleep(Duration::from_millis(20));
            assert_eq!(it.mapped_bytes(0), 8 * MIB);
        }
        for made in restored {
            it.unmap(made.mapped);
        }
    }
}

#[test]
fn what_comes_and_goes_meanwhile_shows_its_own_bytes() {
    let _serial = support::serial();
    let it = Setting::new();
    let bytes = [7_u8; 4];
    let small = Region::copy_from(bytes.as_ptr() as u64, 4, "small", PageKind::Ordinary).unwrap();
    let small = small.pages(PageAligned::ZERO, 4).unwrap();
    for round in 1..40 {
        let mapped = it.map(0, Access::Readonly, Populate::Ahead);
        it.read(0, (round % 5 + 1) * 2 * MIB);
        it.unmap(mapped);
        // In place of what may be mapped ahead now: the memory's own pages, and another region's.
        assert_eq!(it.reserved.read(8 * MIB + round), 0);
        let place = it.reserved.place();
        let other = it.memory.map_at(place, 4 * MIB, &small, Access::Readonly, false).unwrap();
        assert_eq!(it.reserved.read(4 * MIB), 7);
        it.unmap(other);
    }
}
