//! Regions whose bytes come from a provider, without Node: a thread plays the provider.

#![allow(clippy::arithmetic_side_effects)] // Tests may let arithmetic panic.

mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use support::paging::{
    Provider, always, byte_at, check, chunk_bytes, modes, paged, pager_of, provide, spec,
};
use support::{Reserved, page_bytes, serial};
use wasm_hostmap::access::Access;
use wasm_hostmap::error::Code;
use wasm_hostmap::fault;
use wasm_hostmap::memory::{Mapped, Memory};
use wasm_hostmap::paging::{self, Provided, Spec, State};
use wasm_hostmap::region::{Region, View};
use wasm_hostmap::sys::page::PageAligned;

fn view_of(region: &Region) -> Arc<View> {
    region.view(0, region.byte_length()).unwrap()
}

struct Mapping {
    reserved: Reserved,
    memory: Memory,
    mapped: Mapped,
    at: u64,
}

impl Mapping {
    fn new(region: &Region, access: Access) -> Self {
        let reserved = Reserved::new(256);
        let memory = Memory::attach(reserved.place()).unwrap();
        let pages = region.pages(PageAligned::ZERO, region.byte_length()).unwrap();
        let at = 16 * page_bytes();
        let mapped = memory.map_at(reserved.place(), at, &pages, access, true).unwrap();
        let at = reserved.base() + at;
        Self { reserved, memory, mapped, at }
    }
}

#[test]
fn what_is_touched_is_brought_in_and_nothing_else() {
    let _alone = serial();
    for mode in modes() {
        let length = 10 * chunk_bytes() + page_bytes() + 100;
        let (region, socket) = paged(length, mode);
        let provider = Provider::start(&region, socket, always());
        let view = view_of(&region);
        assert_eq!(
            support::read(view.address() + 3 * chunk_bytes() + 7),
            byte_at(3 * chunk_bytes() + 7)
        );
        assert_eq!(provider.asked(), [3]);
        check(view.address() + 3 * chunk_bytes(), 3 * chunk_bytes(), chunk_bytes(), 1);
        assert_eq!(provider.asked(), [3], "a page that is there costs nothing");
        // The last chunk is a page and 100 bytes.
        let end = 10 * chunk_bytes();
        check(view.address() + end, end, page_bytes() + 100, 1);
        assert_eq!(support::read(view.address() + length), 0, "the rest of the last page");
        let counted = provider.pager.counted();
        assert_eq!((counted.present, counted.provided, counted.failed), (2, 2, 0));
        assert_eq!(provider.pager.is_userfault(), mode);
        assert!(region.held_bytes() <= 7 * page_bytes());
        check(view.address(), 0, length, 1);
        assert_eq!(region.counts().faults(), 0);
    }
}

#[test]
fn mappings_and_views_of_one_region_wait_for_the_same_chunks() {
    let _alone = serial();
    for mode in modes() {
        for access in [Access::Readonly, Access::Private] {
            let (region, socket) = paged(20 * chunk_bytes(), mode);
            let provider = Provider::start(&region, socket, always());
            let mut mapping = Mapping::new(&region, access);
            assert_eq!(provider.asked(), [], "populate brings nothing in");
            check(mapping.at, 0, 2 * chunk_bytes(), 64);
            // As V8 grows.
            mapping.reserved.grow(512);
            check(mapping.at, 0, 5 * chunk_bytes(), 64);
            let view = view_of(&region);
            check(view.address(), 0, region.byte_length(), 64);
            check(mapping.at, 0, region.byte_length(), 64);
            assert_eq!(provider.asked().len(), 20);
            if access == Access::Private {
                support::write(mapping.at + 5, 0);
                assert_eq!(support::read(mapping.at + 5), 0);
                assert_eq!(support::read(view.address() + 5), byte_at(5));
            }
            let counts = mapping.memory.unmap(mapping.reserved.place(), mapping.mapped).unwrap();
            assert_eq!(counts.unwrap().faults(), 0);
            assert_eq!(support::read(mapping.at), 0);
            support::no_hole(&mapping.reserved);
        }
    }
}

#[test]
fn a_write_to_a_private_mapping_brings_its_chunk_in_first() {
    let _alone = serial();
    for mode in modes() {
        let (region, socket) = paged(4 * chunk_bytes(), mode);
        let _provider = Provider::start(&region, socket, always());
        let mapping = Mapping::new(&region, Access::Private);
        support::write(mapping.at + chunk_bytes() + 1, 0);
        assert_eq!(support::read(mapping.at + chunk_bytes()), byte_at(chunk_bytes()));
        assert_eq!(support::read(mapping.at + chunk_bytes() + 1), 0);
        // A stray write to a missing chunk of a read-only one.
        let mapping = Mapping::new(&region, Access::Readonly);
        support::write(mapping.at + 2 * chunk_bytes() + 1, 0);
        assert_eq!(support::read(mapping.at + 2 * chunk_bytes()), byte_at(2 * chunk_bytes()));
        assert_eq!(support::read(mapping.at + 2 * chunk_bytes() + 1), 0);
        let view = view_of(&region);
        check(view.address(), 0, region.byte_length(), 1);
    }
}

#[test]
fn a_hundred_threads_that_touch_one_chunk_ask_once() {
    let _alone = serial();
    for mode in modes() {
        let (region, socket) = paged(2 * chunk_bytes(), mode);
        let view = view_of(&region);
        let start = Barrier::new(101);
        std::thread::scope(|scope| {
            for at in 0..100 {
                let (start, view) = (&start, &view);
                scope.spawn(move || {
                    start.wait();
                    let offset = at * page_bytes() / 32;
                    assert_eq!(support::read(view.address() + offset), byte_at(offset));
                });
            }
            start.wait();
            let provider = Provider::start(&region, socket, always());
            while provider.asked().is_empty() {
                std::thread::yield_now();
            }
            view_of(&region);
            check(view.address(), 0, chunk_bytes(), 1);
            assert_eq!(provider.asked(), [0]);
        });
    }
}

#[test]
fn a_failure_is_zeros_that_are_counted_and_the_chunk_can_be_asked_for_again() {
    let _alone = serial();
    for mode in modes() {
        let (region, socket) = paged(4 * chunk_bytes(), mode);
        let fails = Arc::new(AtomicBool::new(true));
        let decides = Arc::clone(&fails);
        let provider =
            Provider::start(&region, socket, Box::new(move |_| !decides.load(Ordering::SeqCst)));
        let view = view_of(&region);
        assert_eq!(support::read(view.address() + 5), 0);
        assert_eq!(region.counts().faults(), 1);
        assert_eq!(support::read(view.address() + 6), 0, "no touch that faults");
        assert_eq!(region.counts().faults(), 1);
        assert_eq!(provider.pager.state(0), Some(State::Missing));
        fails.store(false, Ordering::SeqCst);
        let other = page_bytes() + 5;
        assert_eq!(support::read(view.address() + other), byte_at(other));
        assert_eq!(provider.asked(), [0, 0]);
        // The zeros of before are gone once its thread has handled them.
        let asked = provider.pager.counted().provided;
        assert_eq!(asked, 1);
        drop(provider);
        check(view.address(), 0, chunk_bytes(), 1);
        assert_eq!(region.counts().faults(), 1);
    }
}

#[test]
fn a_touch_that_waits_for_too_long_fails() {
    let _alone = serial();
    for mode in modes() {
        let spec = Spec { timeout_milliseconds: 30, ..spec(chunk_bytes(), mode) };
        let (region, _socket) = Region::paged("slow", spec).unwrap();
        let view = view_of(&region);
        assert_eq!(support::read(view.address()), 0);
        assert_eq!(pager_of(&region).counted().timed_out, 1);
        assert_eq!(region.counts().faults(), 1);
    }
}

#[test]
fn closing_ends_all_waits_and_what_is_present_stays() {
    let _alone = serial();
    for mode in modes() {
        let (region, socket) = paged(100 * chunk_bytes(), mode);
        let view = view_of(&region);
        let pager = pager_of(&region);
        assert_eq!(provide(&pager, 99), Provided::Done);
        std::thread::scope(|scope| {
            for chunk in 0..20 {
                let view = &view;
                scope.spawn(move || {
                    assert_eq!(support::read(view.address() + chunk * chunk_bytes()), 0);
                });
            }
            while pager.counted().waits < 20 {
                std::thread::yield_now();
            }
            pager.close();
        });
        assert_eq!(region.counts().faults(), 20);
        assert_eq!(support::read(view.address() + 50 * chunk_bytes()), 0);
        assert!(pager.counted().refused >= 1);
        check(view.address() + 99 * chunk_bytes(), 99 * chunk_bytes(), chunk_bytes(), 1);
        assert_eq!(provide(&pager, 50), Provided::Closed);
        drop(socket);
    }
}

extern "C" fn nothing(_: libc::c_int) {}

#[test]
fn a_thread_that_waits_handles_other_signals_and_goes_on_waiting() {
    let _alone = serial();
    // SAFETY: the handler does nothing.
    unsafe { libc::signal(libc::SIGUSR1, nothing as *const () as usize) };
    for mode in modes() {
        let (region, socket) = paged(chunk_bytes(), mode);
        let view = view_of(&region);
        let pager = pager_of(&region);
        std::thread::scope(|scope| {
            let (told, thread) = std::sync::mpsc::channel();
            let address = view.address();
            let waits = scope.spawn(move || {
                // As `pthread_self` gives it.
                told.send(wasm_hostmap::sys::thread::address()).unwrap();
                support::read(address)
            });
            let thread = thread.recv().unwrap() as libc::pthread_t;
            while pager.counted().waits == 0 {
                std::thread::yield_now();
            }
            for _ in 0..100 {
                // SAFETY: the thread was not joined, so its descriptor is there.
                assert_eq!(unsafe { libc::pthread_kill(thread, libc::SIGUSR1) }, 0);
                std::thread::yield_now();
            }
            assert!(!waits.is_finished());
            provide(&pager, 0);
            assert_eq!(waits.join().unwrap(), byte_at(0));
        });
        drop(socket);
    }
}

#[test]
fn more_chunks_than_the_socket_takes_are_asked_for_all_the_same() {
    let _alone = serial();
    for mode in modes() {
        let (region, socket) = paged(600 * chunk_bytes(), mode);
        let view = view_of(&region);
        let pager = pager_of(&region);
        std::thread::scope(|scope| {
            for chunk in 0..600 {
                let at = chunk * chunk_bytes();
                let address = view.address() + at;
                let touch = move || assert_eq!(support::read(address), byte_at(at));
                let small = std::thread::Builder::new().stack_size(128 << 10);
                small.spawn_scoped(scope, touch).unwrap();
            }
            while pager.counted().waits < 600 {
                std::thread::yield_now();
            }
            let _provider = Provider::start(&region, socket, always());
            while pager.counted().present < 600 {
                std::thread::yield_now();
            }
        });
        assert_eq!(pager.counted().failed, 0);
    }
}

#[test]
fn a_provider_that_is_gone_ends_the_waits() {
    let _alone = serial();
    for mode in modes() {
        let (region, socket) = paged(2 * chunk_bytes(), mode);
        let view = view_of(&region);
        drop(socket);
        assert_eq!(support::read(view.address()), 0);
        assert!(pager_of(&region).is_closed());
    }
}

#[test]
fn the_providers_own_thread_never_waits() {
    let _alone = serial();
    for mode in modes() {
        let (region, _socket) = paged(2 * chunk_bytes(), mode);
        let pager = pager_of(&region);
        pager.serve().unwrap();
        assert_eq!(pager.serve().unwrap_err().code(), Code::Internal, "a second one");
        let view = view_of(&region);
        assert_eq!(support::read(view.address()), 0);
        assert_eq!(pager.counted().refused, 1);
    }
}

#[test]
fn the_pager_goes_when_nobody_can_touch_the_region() {
    let _alone = serial();
    for mode in modes() {
        let (region, socket) = paged(2 * chunk_bytes(), mode);
        let provider = Provider::start(&region, socket, always());
        let id = provider.pager.id();
        let mapping = Mapping::new(&region, Access::Readonly);
        let view = region.kept_view(0, 10, Access::Readonly).unwrap();
        drop(region);
        assert!(!provider.pager.is_closed(), "a mapping is left");
        check(mapping.at, 0, chunk_bytes(), 1);
        mapping.memory.unmap(mapping.reserved.place(), mapping.mapped).unwrap();
        assert!(paging::find(id).is_some(), "a view is left");
        drop(view);
        assert!(paging::find(id).is_none() && provider.pager.is_closed());
    }
}

#[test]
fn what_would_see_holes_as_zeros_is_refused() {
    let _alone = serial();
    for mode in modes() {
        let (region, _socket) = paged(2 * chunk_bytes(), mode);
        let refused = [
            region.duplicate_fd().map(drop),
            region.seal(),
            region.write(0, 4096, 1),
            region.share(wasm_hostmap::share::ShareAccess::Readonly, true).map(drop),
        ];
        for refused in refused {
            assert_eq!(refused.unwrap_err().code(), Code::RegionPaged);
        }
        assert!(!region.is_writable());
        assert!(region.kept_view(0, 10, Access::Shared).is_err());
        let sharing = wasm_hostmap::sys::mmap::Sharing::ReadOnly;
        assert!(region.mirror(sharing, true).is_none());
        let pages = region.pages(PageAligned::ZERO, 10).unwrap();
        assert!(pages.as_pages(sharing).is_err());
        assert_eq!(region.huge_pages().0, 0);
        assert_eq!(region.held_bytes(), 0, "none of it made a page");
    }
}

#[test]
fn arguments_are_checked() {
    let _alone = serial();
    let code = |spec| Region::paged("bad", spec).unwrap_err().code();
    let good = spec(10, false);
    for chunk_bytes in [0, 1, page_bytes() + 1] {
        assert_eq!(code(Spec { chunk_bytes, ..good }), Code::OutOfRange);
    }
    assert_eq!(code(Spec { byte_length: 0, ..good }), Code::OutOfRange);
    let byte_length = 1 << 60;
    assert_eq!(code(Spec { byte_length, ..good }), Code::OutOfRange);
    let (region, _socket) = Region::paged("good", good).unwrap();
    let pager = pager_of(&region);
    let bytes = [1_u8; 20];
    let at = bytes.as_ptr() as u64;
    assert_eq!(fault::provide(&pager, 0, at, 9).unwrap_err().code(), Code::OutOfRange);
    assert_eq!(fault::provide(&pager, 1, at, 10).unwrap_err().code(), Code::OutOfRange);
    assert_eq!(fault::provide(&pager, 0, 4096, 10).unwrap_err().code(), Code::WriteFailed);
    for chunk in [1, u64::MAX] {
        assert!(pager.fail(chunk).is_err() && pager.request(chunk).is_err());
        assert!(pager.pin(0, chunk).is_err() && pager.states(chunk, 1).is_err());
        assert!(fault::evict(&pager, chunk).is_err() && pager.state(chunk).is_none());
    }
    assert!(pager.states(0, 2).is_err() && pager.states(0, u64::MAX).is_err());
    assert_eq!(pager.states(0, 1).unwrap(), [0]);
    assert_eq!(pager.request(0).unwrap(), State::Missing);
    assert_eq!(pager.request(0).unwrap(), State::Requested);
    assert_eq!(fault::provide(&pager, 0, at, 10).unwrap(), Provided::Done);
    assert_eq!(fault::provide(&pager, 0, at, 10).unwrap(), Provided::Before);
    pager.fail(0).unwrap();
    assert_eq!(pager.state(0), Some(State::Present));
}

#[test]
fn a_region_of_a_tebibyte_takes_what_is_touched() {
    let _alone = serial();
    for mode in modes() {
        let spec = Spec { chunk_bytes: 64 << 10, ..spec(1 << 40, mode) };
        let (region, socket) = Region::paged("large", spec).unwrap();
        let _provider = Provider::start(&region, socket, always());
        let view = view_of(&region);
        for at in [0, 1 << 39, (1 << 40) - 1] {
            assert_eq!(support::read(view.address() + at), byte_at(at));
        }
        assert_eq!(region.held_bytes(), 3 * (64 << 10));
    }
}

#[test]
fn what_a_handler_used_at_the_end_is_freed_by_a_later_call() {
    let _alone = serial();
    let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    for mode in modes() {
        drop(paged(chunk_bytes(), mode));
        let before = open();
        let (region, socket) = paged(chunk_bytes(), mode);
        let waiting = pager_of(&region).begin_wait(0).unwrap();
        drop((region, socket));
        assert!(open() > before, "the handler still uses it");
        drop(waiting);
        assert!(paging::find(0).is_none());
        assert_eq!(open(), before);
    }
}
