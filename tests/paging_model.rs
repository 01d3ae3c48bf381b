//! Random touches of several threads in several mappings, while a provider fails now and then and
//! chunks are evicted: what is read is right, or was counted. With failures injected, too.

#![allow(clippy::arithmetic_side_effects)] // Tests may let arithmetic panic.

mod support;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use support::paging::{Provider, byte_at, chunk_bytes, modes, paged};
use support::{Numbers, Reserved, page_bytes, read, serial};
use wasm_hostmap::access::Access;
use wasm_hostmap::fault;
use wasm_hostmap::memory::{Mapped, Memory};
use wasm_hostmap::region::Region;
use wasm_hostmap::sys::page::PageAligned;

const CHUNKS: u64 = 64;

/// How long a run takes: `HOSTMAP_PAGING_SECONDS`, or a moment.
fn duration() -> Duration {
    let asked = std::env::var("HOSTMAP_PAGING_SECONDS").ok();
    let asked = asked.and_then(|seconds| seconds.parse().ok());
    asked.map_or(Duration::from_millis(1500), Duration::from_secs)
}

fn map(reserved: &Reserved, memory: &Memory, region: &Region, access: Access) -> Mapped {
    let pages = region.pages(PageAligned::ZERO, region.byte_length()).unwrap();
    memory.map_at(reserved.place(), 16 * page_bytes(), &pages, access, false).unwrap()
}

#[test]
fn what_is_read_is_right_or_counted() {
    let _alone = serial();
    for mode in modes() {
        let byte_length = CHUNKS * chunk_bytes() - 1000;
        let (region, socket) = paged(byte_length, mode);
        let asked = AtomicU64::new(0);
        let fails = move |_| asked.fetch_add(1, Ordering::Relaxed) % 50 != 49;
        let provider = Provider::start(&region, socket, Box::new(fails));
        let reserved = [Reserved::new(512), Reserved::new(512)];
        let memories = reserved.each_ref().map(|it| Memory::attach(it.place()).unwrap());
        let mappings = [
            map(&reserved[0], &memories[0], &region, Access::Readonly),
            map(&reserved[1], &memories[1], &region, Access::Private),
        ];
        let view = region.view(0, byte_length).unwrap();
        let bases = [
            reserved[0].base() + 16 * page_bytes(),
            reserved[1].base() + 16 * page_bytes(),
            view.address(),
        ];
        let is_over = AtomicBool::new(false);
        let (zeros, reads) = (AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for seed in 0..4 {
                let (is_over, zeros, reads) = (&is_over, &zeros, &reads);
                scope.spawn(move || {
                    let mut numbers = Numbers(seed);
                    while !is_over.load(Ordering::Relaxed) {
                        let at = numbers.below(byte_length);
                        let which = usize::try_from(numbers.below(3)).unwrap();
                        let found = read(bases[which] + at);
                        if found == 0 {
                            zeros.fetch_add(1, Ordering::Relaxed);
                        } else {
                            assert_eq!(found, byte_at(at), "{at} of {which}");
                        }
                        reads.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            let evictor = &provider.pager;
            let until = Instant::now() + duration();
            let mut numbers = Numbers(99);
            // On a machine that is busy, for as long as it takes.
            let is_enough =
                || reads.load(Ordering::Relaxed) > 1000 && evictor.counted().evicted > 100;
            while Instant::now() < until || !is_enough() {
                fault::evict(evictor, numbers.below(CHUNKS)).unwrap();
            }
            is_over.store(true, Ordering::Relaxed);
        });
        let counted = provider.pager.counted();
        let faults = region.counts().faults()
            + memories
                .iter()
                .zip(mappings)
                .map(|(memory, mapped)| memory.counts(mapped).unwrap().0.faults())
                .sum::<u64>();
        assert_eq!(faults, counted.failed);
        assert!(faults > 0 || zeros.load(Ordering::Relaxed) == 0);
        assert_eq!(counted.timed_out, 0);
    }
}

#[cfg(feature = "inject")]
mod injected {
    use super::*;
    use std::thread;
    use support::paging::{always, check, pager_of, spec};
    use wasm_hostmap::paging::State;
    use wasm_hostmap::sys::inject;

    const ERRNOS: [i32; 3] = [libc::ENOMEM, libc::EINVAL, libc::EMFILE];

    /// Makes each call that `work` makes fail once, on this thread. `look` sees what came of it,
    /// and tells whether it has succeeded.
    fn each<R>(calls: &[&str], mut work: impl FnMut() -> R, mut look: impl FnMut(R) -> bool) {
        let this = Some(thread::current().id());
        for call in calls {
            let mut went_off = 0;
            for before in 0..20 {
                let mut is_over = false;
                for errno in ERRNOS {
                    inject::arm(call, before, errno, this);
                    let done = work();
                    is_over = inject::disarm(this);
                    let succeeded = look(done);
                    assert!(succeeded || !is_over, "{call} {before}: it failed by itself");
                    went_off += u32::from(!is_over);
                }
                if is_over {
                    break;
                }
            }
            assert!(went_off > 0, "{call} is never made");
        }
    }

    #[test]
    fn a_region_that_can_not_be_made_leaves_nothing() {
        let _alone = serial();
        for mode in modes() {
            let all = ["memfd_create", "fcntl", "mmap", "socketpair", "lseek_checked"];
            let more: &[&str] = if mode { &["userfaultfd", "uffdio_register"] } else { &[] };
            let before = open_descriptors();
            let make = || Region::paged("refused", spec(chunk_bytes(), mode)).is_ok();
            each(&[&all, more].concat(), make, |made| made);
            // The userfaultfd is kept.
            assert!(open_descriptors() <= before + 2);
        }
    }

    fn open_descriptors() -> usize {
        std::fs::read_dir("/proc/self/fd").unwrap().count()
    }

    #[test]
    fn where_userfaultfd_is_refused_the_empty_file_is_taken() {
        let _alone = serial();
        let this = Some(thread::current().id());
        for call in ["userfaultfd", "uffdio_register"] {
            for errno in [libc::EPERM, libc::ENOSYS, libc::EINVAL, libc::ENOMEM] {
                inject::arm(call, 0, errno, this);
                let automatic =
                    wasm_hostmap::paging::Spec { by_userfault: None, ..spec(chunk_bytes(), false) };
                let (region, socket) = Region::paged("automatic", automatic).unwrap();
                assert!(!inject::disarm(this) && !pager_of(&region).is_userfault());
                let _provider = Provider::start(&region, socket, always());
                check(region.view(0, chunk_bytes()).unwrap().address(), 0, chunk_bytes(), 1);
            }
        }
    }

    #[test]
    fn what_can_not_be_mapped_leaves_zeros_or_what_was_there() {
        let _alone = serial();
        for mode in modes() {
            let (region, socket) = paged(4 * chunk_bytes(), mode);
            let _provider = Provider::start(&region, socket, always());
            let calls: &[&str] = match mode {
                true => &["mmap", "uffdio_register", "mprotect", "lseek_checked"],
                false => &["mmap", "lseek_checked"],
            };
            let view = || region.view(0, region.byte_length());
            each(calls, view, |view| {
                if let Ok(view) = &view {
                    check(view.address(), 0, region.byte_length(), 64);
                }
                view.is_ok()
            });
            let map = || {
                let reserved = Reserved::new(256);
                let memory = Memory::attach(reserved.place()).unwrap();
                let pages = region.pages(PageAligned::ZERO, region.byte_length()).unwrap();
                let at = 16 * page_bytes();
                let mapped = memory.map_at(reserved.place(), at, &pages, Access::Readonly, true);
                (mapped.is_ok(), reserved, memory)
            };
            each(calls, map, |(is_mapped, reserved, _memory)| {
                let at = reserved.base() + 16 * page_bytes();
                if is_mapped {
                    check(at, 0, region.byte_length(), 64);
                } else {
                    for page in (0..16).map(|page| at + page * page_bytes()) {
                        assert_eq!(read(page), 0);
                        support::write(page, 1);
                    }
                }
                support::no_hole(&reserved);
                is_mapped
            });
        }
    }

    #[test]
    fn a_chunk_that_can_not_be_filled_is_not_there() {
        let _alone = serial();
        for mode in modes() {
            let (region, _socket) = paged(2 * chunk_bytes() + 10, mode);
            let pager = pager_of(&region);
            let calls: &[&str] = match mode {
                true => &["uffdio_copy"],
                false => &["pwrite"],
            };
            let view = region.view(0, region.byte_length()).unwrap();
            for chunk in 0..3 {
                let provide = || support::paging::try_to_provide(&pager, chunk);
                each(calls, provide, |provided| {
                    let is_present = pager.state(chunk) == Some(State::Present);
                    assert_eq!(provided.is_ok(), is_present);
                    let (start, length) = pager.bytes_of(chunk).unwrap();
                    if is_present {
                        check(view.address() + start.get(), start.get(), length, 1);
                        assert!(fault::evict(&pager, chunk).unwrap());
                    }
                    if mode {
                        assert_eq!(region.held_bytes(), 0);
                    }
                    is_present
                });
            }
        }
    }

    #[test]
    fn a_chunk_that_can_not_be_evicted_is_whole_or_missing() {
        let _alone = serial();
        for mode in modes() {
            let (region, socket) = paged(2 * chunk_bytes(), mode);
            let provider = Provider::start(&region, socket, always());
            let view = region.kept_view(0, region.byte_length(), Access::Private).unwrap();
            let calls: &[&str] = match mode {
                true => &["fallocate", "lseek_checked"],
                false => &["fallocate", "lseek_checked", "mmap", "mprotect"],
            };
            let touch = || check(view.address(), 0, region.byte_length(), 64);
            touch();
            let evict = || fault::evict(&provider.pager, 1);
            each(calls, evict, |evicted| {
                touch();
                // Where its pages could not be taken out, they are right, and it counts as missing.
                support::paging::provide(&provider.pager, 1);
                touch();
                evicted == Ok(true)
            });
            assert_eq!(provider.pager.counted().failed, 0);
        }
    }

    #[test]
    fn a_chunk_that_can_not_be_shown_fails_and_is_counted() {
        let _alone = serial();
        let (region, _socket) = paged(60 * chunk_bytes(), false);
        let pager = pager_of(&region);
        let view = region.view(0, region.byte_length()).unwrap();
        let chunk = std::cell::Cell::new(0);
        let provided = || support::paging::provide(&pager, chunk.get());
        let counted = || region.counts().faults();
        provided();
        let mut before = 0;
        let touch = || read(view.address() + chunk.get() * chunk_bytes());
        each(&["mmap", "lseek_checked"], touch, |found| {
            let failed = counted() - before;
            assert_eq!(found == 0, failed > 0);
            before = counted();
            chunk.set(chunk.get() + 2);
            provided();
            failed == 0
        });
    }
}
