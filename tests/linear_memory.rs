//! Mapping into linear memories, held against a model, on reservations made as V8 makes them. No
//! Node involved.

#![allow(clippy::arithmetic_side_effects)] // Tests may let arithmetic panic.

mod support;

use proptest::prelude::*;
use support::{PAGE, Reserved, page_bytes};
use wasm_hostmap::access::Access;
use wasm_hostmap::error::Code;
use wasm_hostmap::memory::{Mapped, Memory};
use wasm_hostmap::region::Region;
use wasm_hostmap::region::thp::PageKind;
use wasm_hostmap::sys::page::PageAligned;
use wasm_hostmap::v8::reservation::{MapBefore, is_guarded};

fn region(pages: u64, fill: u8) -> Region {
    let bytes = vec![fill; usize::try_from(pages * page_bytes()).unwrap()];
    Region::copy_from(bytes.as_ptr() as u64, bytes.len() as u64, "test", PageKind::Ordinary)
        .unwrap()
}

#[test]
fn a_mapping_shows_the_region_and_unmapping_leaves_zeros_that_merge() {
    let _serial = support::serial();
    let reserved = Reserved::new(16);
    let memory = Memory::attach(reserved.place()).unwrap();
    let region = region(2, 7);
    let vmas = reserved.vma_count();
    for access in [Access::Readonly, Access::Private, Access::Shared] {
        let pages = region.pages(PageAligned::ZERO, region.byte_length()).unwrap();
        let mapped =
            memory.map_at(reserved.place(), 3 * PAGE.get(), &pages, access, false).unwrap();
        assert_eq!(reserved.read(3 * page_bytes()), 7);
        assert_eq!(reserved.read(5 * page_bytes() - 1), 7);
        assert_eq!(reserved.read(3 * page_bytes() - 1), 0);
        assert!(memory.unmap(reserved.place(), mapped).unwrap().is_some());
        assert!(
            memory.unmap(reserved.place(), mapped).unwrap().is_none(),
            "the second time there is nothing"
        );
        assert_eq!(reserved.read(3 * page_bytes()), 0);
        reserved.write(3 * page_bytes(), 9);
        reserved.write(3 * page_bytes(), 0);
        assert_eq!(reserved.vma_count(), vmas, "the pages merge with their neighbours again");
    }
}

#[test]
fn nothing_is_mapped_outside_the_memory() {
    let _serial = support::serial();
    let reserved = Reserved::new(16);
    let memory = Memory::attach(reserved.place()).unwrap();
    let region = region(4, 1);
    let pages = region.pages(PageAligned::ZERO, region.byte_length()).unwrap();
    let length = 16 * page_bytes();
    for at in [
        length,
        length - page_bytes(),
        length - 3 * page_bytes(),
        !(page_bytes() - 1),
        1,
        page_bytes() + 8,
    ] {
        let error =
            memory.map_at(reserved.place(), at, &pages, Access::Readonly, false).unwrap_err();
        assert_eq!(error.code(), Code::OutOfRange, "at {at}");
    }
    assert!(reserved.is_guarded());
    memory
        .map_at(reserved.place(), length - 4 * page_bytes(), &pages, Access::Readonly, false)
        .unwrap();
    assert!(reserved.is_guarded());
}

#[test]
fn growing_opens_readonly_mappings_and_the_next_call_protects_them_again() {
    let _serial = support::serial();
    let mut reserved = Reserved::new(16);
    let memory = Memory::attach(reserved.place()).unwrap();
    let region = region(1, 5);
    let pages = region.pages(PageAligned::ZERO, region.byte_length()).unwrap();
    let mapped = memory.map_at(reserved.place(), 0, &pages, Access::Readonly, false).unwrap();
    assert!(!reserved.is_writable(0));
    reserved.grow(16);
    assert!(reserved.is_writable(0), "as V8 grows: mprotect over the whole memory");
    reserved.write(0, 6);
    let view = region.view(0, 1).unwrap();
    assert_eq!(support::read(view.address()), 5, "the region is as it was");
    memory.sync(reserved.place()).unwrap();
    assert!(!reserved.is_writable(0));
    reserved.grow(0);
    assert!(reserved.is_writable(0), "a growth that failed half-way may leave it so");
    memory.sync(reserved.place()).unwrap();
    assert!(!reserved.is_writable(0));
    memory.unmap(reserved.place(), mapped).unwrap();
    assert!(reserved.is_writable(0));
}

#[test]
fn a_base_that_comes_back_starts_clean() {
    let _serial = support::serial();
    let reserved = Reserved::new(16);
    let region = region(1, 5);
    let pages = region.pages(PageAligned::ZERO, region.byte_length()).unwrap();
    let first = Memory::attach(reserved.place()).unwrap();
    first.map_at(reserved.place(), 0, &pages, Access::Readonly, false).unwrap();
    first.add_free_space(reserved.place(), 8 * page_bytes(), 16 * page_bytes()).unwrap();
    let again = Memory::attach(reserved.place()).unwrap();
    assert_eq!(
        again.entries().unwrap().len(),
        1,
        "another handle on the same memory sees its mappings"
    );

    // The memory dies and another one gets its address before any handle is dropped.
    reserved.renew();
    let second = Memory::attach(reserved.place()).unwrap();
    assert_eq!(second.entries().unwrap().len(), 0);
    assert_eq!(
        second.map_in_free_space(reserved.place(), &pages, Access::Readonly, false, false).unwrap(),
        None
    );
    second.map_at(reserved.place(), 0, &pages, Access::Readonly, false).unwrap();
    drop((first, again));
    assert_eq!(
        Memory::attach(reserved.place()).unwrap().entries().unwrap().len(),
        1,
        "the dead memory's handles took nothing along"
    );
    assert_eq!(reserved.read(0), 5);
}

#[test]
fn a_place_that_another_thread_gave_back_needs_no_growth() {
    let _serial = support::serial();
    let reserved = Reserved::new(1600);
    let memory = Memory::attach(reserved.place()).unwrap();
    let region = region(1, 5);
    let pages = region.pages(PageAligned::ZERO, region.byte_length()).unwrap();
    let growth = || {
        memory.growth_for_congruent(reserved.place(), pages.length(), pages.file_offset()).unwrap()
    };
    assert!(growth() > 0, "nothing is free");
    // As if it was given back after the caller had found no place.
    memory.add_free_space(reserved.place(), 64 * page_bytes(), 1600 * page_bytes()).unwrap();
    assert_eq!(growth(), 0);
}

#[test]
fn a_mapping_outlives_its_handles_as_long_as_its_memory_lives() {
    let _serial = support::serial();
    let reserved = Reserved::new(16);
    let region = region(1, 5);
    let pages = region.pages(PageAligned::ZERO, region.byte_length()).unwrap();
    let memory = Memory::attach(reserved.place()).unwrap();
    memory.map_at(reserved.place(), 0, &pages, Access::Readonly, false).unwrap();
    drop(memory);
    let memory = Memory::attach(reserved.place()).unwrap();
    let error = memory.map_at(reserved.place(), 0, &pages, Access::Readonly, false).unwrap_err();
    assert_eq!(error.code(), Code::Overlap);
}

#[test]
fn a_memory_that_moved_is_noticed() {
    let _serial = support::serial();
    let (here, there) = (Reserved::new(16), Reserved::new(16));
    let memory = Memory::attach(here.place()).unwrap();
    let region = region(1, 5);
    let pages = region.pages(PageAligned::ZERO, region.byte_length()).unwrap();
    let mapped = memory.map_at(here.place(), 0, &pages, Access::Readonly, false).unwrap();
    assert_eq!(memory.unmap(there.place(), mapped).unwrap_err().code(), Code::MemoryMoved);
    assert_eq!(memory.sync(there.place()).unwrap_err().code(), Code::MemoryMoved);
    assert_eq!(here.read(0), 5);
}

#[test]
fn reservations_are_measured_and_guards_are_checked_by_address() {
    let _serial = support::serial();
    let before = MapBefore::take().unwrap();
    let reserved = Reserved::new(16);
    let found = before.reservation_of(reserved.extent()).unwrap();
    assert_eq!(found, reserved.reservation());
    assert!(is_guarded(reserved.extent(), found).unwrap());
    reserved.open_guard();
    assert!(!is_guarded(reserved.extent(), found).unwrap());
}

#[derive(Debug, Clone)]
enum Step {
    MapAt { region: usize, at: u64, access: u8 },
    MapFree { region: usize, access: u8 },
    Unmap { nth: usize },
    Write { at: u64, value: u8 },
    Grow,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0..3_usize, 0..64_u64, 0..3_u8).prop_map(|(region, at, access)| Step::MapAt {
            region,
            at,
            access
        }),
        (0..3_usize, 0..3_u8).prop_map(|(region, access)| Step::MapFree { region, access }),
        (0..8_usize).prop_map(|nth| Step::Unmap { nth }),
        (0..64_u64, 1..=255_u8).prop_map(|(at, value)| Step::Write { at, value }),
        Just(Step::Grow),
    ];
    // A failure is injected before each step: which call, and whether at all.
    proptest::collection::vec(step, 1..40)
}

/// What is in a page of the model.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Page {
    Own(u8),
    Region {
        region: usize,
        page: usize,
        access: u8,
    },
    /// A copy that a private mapping made.
    Copy {
        value: u8,
        region: usize,
        page: usize,
    },
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Contents, errors and the process's map agree with a model after each step. With the feature
    /// `inject`, system calls fail now and then, and then nothing may have changed.
    #[test]
    fn memories_agree_with_a_model(steps in steps(), failures in proptest::collection::vec(0..12_usize, 40)) {
        let _serial = support::serial();
        let mut reserved = Reserved::new(16);
        let memory = Memory::attach(reserved.place()).unwrap();
        let sizes = [1_u64, 3, 8];
        let regions: Vec<Region> = sizes.iter().zip(1..).map(|(pages, fill)| region(*pages, fill)).collect();
        let mut data: Vec<Vec<u8>> = sizes.iter().zip(1..).map(|(pages, fill)| vec![fill; usize::try_from(*pages).unwrap()]).collect();
        let mut model = vec![Page::Own(0); 16];
        let mut live: Vec<(Mapped, usize, usize)> = Vec::new();

        for (step, failure) in steps.into_iter().zip(failures) {
            let injected = support::inject(failure);
            let place = reserved.place();
            match step {
                Step::MapAt { region, at, access } => {
                    let size = usize::try_from(sizes[region]).unwrap();
                    let first = usize::try_from(at).unwrap();
                    let pages = regions[region].pages(PageAligned::ZERO, regions[region].byte_length()).unwrap();
                    let outcome = memory.map_at(place, at * page_bytes(), &pages, support::access(access), false);
                    let taken = live.iter().any(|(_, start, size_of)| *start < first + size && first < start + size_of);
                    match outcome {
                        Ok(mapped) => {
                            prop_assert!(first + size <= model.len() && !taken);
                            for page in 0..size {
                                model[first + page] = Page::Region { region, page, access };
                            }
                            live.push((mapped, first, size));
                        }
                        Err(error) if first + size > model.len() => prop_assert_eq!(error.code(), Code::OutOfRange),
                        Err(error) if taken => prop_assert_eq!(error.code(), Code::Overlap),
                        Err(error) => prop_assert!(injected && error.sys().is_some(), "{}", error),
                    }
                }
                Step::MapFree { region, access } => {
                    let size = usize::try_from(sizes[region]).unwrap();
                    let pages = regions[region].pages(PageAligned::ZERO, regions[region].byte_length()).unwrap();
                    match memory.map_in_free_space(place, &pages, support::access(access), false, false) {
                        Ok(Some(mapped)) => {
                            let first = usize::try_from(mapped.start.get() / page_bytes()).unwrap();
                            for page in 0..size {
                                model[first + page] = Page::Region { region, page, access };
                            }
                            live.push((mapped, first, size));
                        }
                        Ok(None) => {
                            let before = model.len();
                            reserved.grow(16);
                            model.resize(before + 16, Page::Own(0));
                            let (start, end) = (before as u64 * page_bytes(), model.len() as u64 * page_bytes());
                            memory.add_free_space(reserved.place(), start, end).unwrap();
                        }
                        Err(error) => prop_assert!(injected && error.sys().is_some(), "{}", error),
                    }
                }
                Step::Unmap { nth } if !live.is_empty() => {
                    let (mapped, first, size) = live[nth % live.len()];
                    match memory.unmap(place, mapped) {
                        Ok(there) => {
                            prop_assert!(there.is_some());
                            model[first..first + size].fill(Page::Own(0));
                            live.remove(nth % live.len());
                        }
                        Err(error) => prop_assert!(injected && error.sys().is_some(), "{}", error),
                    }
                }
                Step::Unmap { .. } => {}
                Step::Write { at, value } => {
                    let at = usize::try_from(at).unwrap() % model.len();
                    let address = at as u64 * page_bytes();
                    match model[at] {
                        Page::Region { access: 0, .. } => prop_assert!(!reserved.is_writable(address)),
                        page => {
                            reserved.write(address, value);
                            match page {
                                Page::Own(_) => model[at] = Page::Own(value),
                                Page::Region { region, page, access: 2 } => data[region][page] = value,
                                Page::Region { region, page, .. } | Page::Copy { region, page, .. } => {
                                    model[at] = Page::Copy { value, region, page };
                                }
                            }
                        }
                    }
                }
                Step::Grow if model.len() < 128 => {
                    support::forget();
                    reserved.grow(16);
                    model.resize(model.len() + 16, Page::Own(0));
                    memory.sync(reserved.place()).unwrap();
                }
                Step::Grow => {}
            }
            support::forget();
            // A protection that failed is tried again at the next call.
            memory.sync(reserved.place()).unwrap();
            for (at, page) in model.iter().enumerate() {
                let seen = reserved.read(at as u64 * page_bytes());
                match *page {
                    Page::Own(value) | Page::Copy { value, .. } => prop_assert_eq!(seen, value, "page {}", at),
                    Page::Region { region, page, .. } => prop_assert_eq!(seen, data[region][page], "page {}", at),
                }
            }
            for (region, pages) in regions.iter().zip(&data) {
                let view = region.view(0, region.byte_length()).unwrap();
                for (page, value) in pages.iter().enumerate() {
                    prop_assert_eq!(support::read(view.address() + page as u64 * page_bytes()), *value);
                }
            }
            prop_assert_eq!(memory.entries().unwrap().len(), live.len());
            prop_assert!(reserved.is_guarded());
        }
    }
}
