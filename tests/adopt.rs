//! Buffers that are adopted by linear memories, and given back: contents, places, what may not be
//! moved, and what is left where the kernel refuses. No Node involved.

#![allow(clippy::arithmetic_side_effects)] // Tests may let arithmetic panic.

mod support;

use support::{Numbers, Reserved, page_bytes, read, write};
use wasm_hostmap::error::Code;
use wasm_hostmap::memory::Memory;
use wasm_hostmap::memory::adopt::{Adopted, Adoption, Back, LEAST_MOVED_BYTES, Means, Place};
use wasm_hostmap::sys::mmap::{Mmap, Pages, Unmovable, protect_readonly};
use wasm_hostmap::sys::page::{PageAligned, PageSpan};
use wasm_hostmap::v8::array_bytes::{ArrayBytes, Holders, KeptAllocation};

/// A buffer in an allocation of its own, as malloc makes a large one: it begins inside a page, and
/// other bytes are before and after it.
struct Buffer {
    allocation: Mmap,
    skew: u64,
    byte_length: u64,
}

impl Buffer {
    fn new(skew: u64, byte_length: u64) -> Self {
        let length = PageAligned::round_up(skew + byte_length + 8).unwrap();
        let allocation = Mmap::new(length, Pages::Zeros).unwrap();
        let buffer = Self { allocation, skew, byte_length };
        for at in 0..length.get() {
            let inside = at >= skew && at < skew + byte_length;
            let value = if inside { content(at - skew) } else { 0xEE };
            write(buffer.allocation.address() + at, value);
        }
        buffer
    }

    fn address(&self) -> u64 {
        self.allocation.address() + self.skew
    }

    fn bytes(&self) -> ArrayBytes<'_> {
        // SAFETY: the allocation is this test's, which reads and writes it by address.
        unsafe { ArrayBytes::new(self.address(), self.byte_length, Holders::One) }.unwrap()
    }

    fn back(&self) -> Back<'_> {
        Back::Buffer(self.bytes())
    }

    /// As what V8 keeps of a buffer that was detached.
    #[allow(clippy::unused_self)] // It must live as long.
    fn origin(&self) -> Back<'_> {
        // SAFETY: the allocation is this test's, and it adopts no other buffer meanwhile.
        Back::Origin(unsafe { KeptAllocation::assume() })
    }

    /// Whether it has these contents, and what is around it is as it was.
    fn has(&self, content: impl Fn(u64) -> u8) -> bool {
        let around = (0..self.skew)
            .chain(self.skew + self.byte_length..self.allocation.span().length().get());
        (0..self.byte_length).all(|at| read(self.address() + at) == content(at))
            && around.into_iter().all(|at| read(self.allocation.address() + at) == 0xEE)
    }
}

#[allow(clippy::cast_possible_truncation)]
fn content(at: u64) -> u8 {
    (at / 7 + at / 4096 + 1) as u8
}

fn adopt(memory: &Memory, reserved: &Reserved, buffer: &Buffer, at: u64, means: Means) -> Adoption {
    let place = Place::At { at, room_bytes: 0 };
    memory.adopt(reserved.place(), buffer.bytes(), place, means).unwrap()
}

fn done(adoption: Adoption) -> Adopted {
    let Adoption::Done(adopted) = adoption else { panic!("{adoption:?}") };
    adopted
}

/// Whether the memory has the buffer's bytes at a page, and zeros around them in its pages.
fn shows(reserved: &Reserved, buffer: &Buffer, start: u64) -> bool {
    let length = buffer.bytes().pages().length().get();
    (0..length).all(|at| {
        let inside = at >= buffer.skew && at < buffer.skew + buffer.byte_length;
        reserved.read(start + at) == if inside { content(at - buffer.skew) } else { 0 }
    })
}

const LARGE: u64 = 3 * LEAST_MOVED_BYTES;

#[test]
fn pages_are_moved_there_and_back_and_leave_zeros_at_both_ends() {
    let _serial = support::serial();
    let reserved = Reserved::new(128);
    let memory = Memory::attach(reserved.place()).unwrap();
    let vmas = reserved.vma_count();
    let buffer = Buffer::new(16, LARGE);
    for turn in 0..4 {
        let back = || if turn % 2 == 0 { buffer.back() } else { buffer.origin() };
        reserved.write(4 * page_bytes() + 3, 9);
        let adopted = done(adopt(&memory, &reserved, &buffer, 4 * page_bytes(), Means::Move));
        assert_eq!(adopted.mapped.start.get(), 4 * page_bytes());
        let whole = LARGE / page_bytes() - 1;
        assert_eq!(adopted.copied_bytes, LARGE - whole * page_bytes());
        assert!(shows(&reserved, &buffer, 4 * page_bytes()));
        assert_eq!(read(buffer.address() + 2 * page_bytes()), 0, "where they were are zeros");
        write(buffer.address() + 2 * page_bytes(), 5);

        reserved.write(4 * page_bytes() + 16 + LARGE / 2, 77);
        let copied = memory.release(reserved.place(), adopted.mapped, back(), false);
        assert_eq!(copied.unwrap(), Some(adopted.copied_bytes));
        assert!(buffer.has(|at| if at == LARGE / 2 { 77 } else { content(at) }));
        write(buffer.address() + LARGE / 2, content(LARGE / 2));
        assert!((0..LARGE + page_bytes()).all(|at| reserved.read(4 * page_bytes() + at) == 0));
        let again = memory.release(reserved.place(), adopted.mapped, back(), false);
        assert_eq!(again.unwrap(), None, "the second time there is nothing");
        assert_eq!(reserved.vma_count(), vmas, "the pages merge with their neighbours again");
        assert!(reserved.is_guarded());
    }
}

#[test]
fn random_lengths_and_offsets_keep_their_bytes_by_every_means() {
    let _serial = support::serial();
    let reserved = Reserved::new(256);
    let memory = Memory::attach(reserved.place()).unwrap();
    let mut numbers = Numbers(7);
    for step in 0..60 {
        let buffer =
            Buffer::new(numbers.below(page_bytes()), 1 + numbers.below(100 * page_bytes()));
        let at = numbers.below(100) * page_bytes();
        let means = [Means::Move, Means::Copy, Means::MoveOrCopy][step % 3];
        let adopted = match adopt(&memory, &reserved, &buffer, at, means) {
            Adoption::NotMovable(why) => {
                assert_eq!((why, means), (Unmovable::Small, Means::Move));
                continue;
            }
            adoption => done(adoption),
        };
        assert!(shows(&reserved, &buffer, at));
        // Into another buffer now and then.
        let other = (step % 5 == 0).then(|| Buffer::new(buffer.skew, buffer.byte_length));
        let into = other.as_ref().unwrap_or(&buffer);
        memory.release(reserved.place(), adopted.mapped, into.back(), false).unwrap().unwrap();
        assert!(into.has(content));
        assert!((0..into.byte_length).all(|byte| reserved.read(at + byte) == 0));
    }
    assert!(reserved.is_guarded());
}

#[test]
fn what_was_copied_has_no_place_to_go_back_to_but_a_buffer() {
    let _serial = support::serial();
    let reserved = Reserved::new(128);
    let memory = Memory::attach(reserved.place()).unwrap();
    let buffer = Buffer::new(16, LARGE);
    let adopted = done(adopt(&memory, &reserved, &buffer, 0, Means::Copy));
    let release = |back| memory.release(reserved.place(), adopted.mapped, back, true);
    assert_eq!(release(buffer.origin()).unwrap_err().code(), Code::Internal);
    assert_eq!(release(buffer.back()).unwrap(), Some(LARGE));
    assert!(buffer.has(content));
}

#[test]
fn in_a_larger_room_the_place_is_equal_to_the_buffers_modulo_two_mib() {
    const HUGE: u64 = 2 << 20;
    let _serial = support::serial();
    let reserved = Reserved::new(2048);
    let memory = Memory::attach(reserved.place()).unwrap();
    let buffer = Buffer::new(16, HUGE);
    let length = buffer.bytes().pages().length().get();
    for room_bytes in [length + HUGE, length] {
        let place = Place::At { at: page_bytes(), room_bytes };
        let adopted = memory.adopt(reserved.place(), buffer.bytes(), place, Means::Move).unwrap();
        let start = done(adopted).mapped.start.get();
        match room_bytes == length {
            true => assert_eq!(start, page_bytes()),
            false => assert_eq!(
                (reserved.base() + start) % HUGE,
                buffer.bytes().pages().start().get() % HUGE
            ),
        }
        assert!(start >= page_bytes() && start + length <= page_bytes() + room_bytes);
        assert!(shows(&reserved, &buffer, start));
        memory.release(reserved.place(), done(adopted).mapped, buffer.back(), false).unwrap();
    }
}

#[test]
fn what_is_no_plain_memory_in_one_piece_is_not_moved_but_may_be_copied() {
    let _serial = support::serial();
    let reserved = Reserved::new(128);
    let memory = Memory::attach(reserved.place()).unwrap();
    let at = 2 * page_bytes();
    let small = Buffer::new(16, LEAST_MOVED_BYTES);
    let split = Buffer::new(16, LARGE);
    let page = PageAligned::new(split.allocation.address() + 9 * page_bytes()).unwrap();
    let page = PageSpan::new(page, PageAligned::round_up(1).unwrap()).unwrap();
    protect_readonly(split.allocation.owned().part(page).unwrap()).unwrap();
    let readonly = Buffer::new(16, LARGE);
    protect_readonly(readonly.allocation.owned()).unwrap();
    for (buffer, why) in
        [(&small, Unmovable::Small), (&split, Unmovable::Split), (&readonly, Unmovable::Mapped)]
    {
        assert_eq!(adopt(&memory, &reserved, buffer, at, Means::Move), Adoption::NotMovable(why));
        let copied = done(adopt(&memory, &reserved, buffer, at, Means::MoveOrCopy));
        assert_eq!(copied.copied_bytes, buffer.byte_length);
        assert_eq!(copied.why_copied, Some(why));
        assert!(shows(&reserved, buffer, at));
        assert!(buffer.has(content));
        assert!(memory.unmap(reserved.place(), copied.mapped).unwrap().is_some());
    }
}

#[test]
fn locked_pages_are_copied_and_the_kernels_count_of_them_stays() {
    let _serial = support::serial();
    let reserved = Reserved::new(128);
    let memory = Memory::attach(reserved.place()).unwrap();
    let buffer = Buffer::new(16, LARGE);
    let locked = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        status.lines().find(|line| line.starts_with("VmLck:")).unwrap().to_owned()
    };
    // SAFETY: it changes no byte.
    let lock = unsafe {
        libc::mlock(buffer.allocation.address() as *const _, usize::try_from(LARGE).unwrap())
    };
    if lock != 0 {
        eprintln!("this process may lock no pages");
        return;
    }
    let before = locked();
    let adopted = done(adopt(&memory, &reserved, &buffer, page_bytes(), Means::MoveOrCopy));
    assert_eq!(adopted.why_copied, Some(Unmovable::Locked));
    assert!(shows(&reserved, &buffer, page_bytes()));
    memory.release(reserved.place(), adopted.mapped, buffer.back(), false).unwrap();
    assert!(buffer.has(content));
    assert_eq!(locked(), before);
    // What others have locked is nothing to this one.
    let other = Buffer::new(16, LARGE);
    let adopted = done(adopt(&memory, &reserved, &other, page_bytes(), Means::Move));
    assert!(shows(&reserved, &other, page_bytes()));
    memory.release(reserved.place(), adopted.mapped, other.back(), false).unwrap();
    assert_eq!(locked(), before);
}

#[test]
fn a_place_that_is_taken_or_outside_or_the_memorys_own_bytes_are_refused() {
    let _serial = support::serial();
    let reserved = Reserved::new(64);
    let memory = Memory::attach(reserved.place()).unwrap();
    let buffer = Buffer::new(16, 10);
    let adopted = done(adopt(&memory, &reserved, &buffer, 0, Means::Copy));
    let refused = |at, source| {
        let place = Place::At { at, room_bytes: 0 };
        memory.adopt(reserved.place(), source, place, Means::Copy).unwrap_err().code()
    };
    assert_eq!(refused(0, buffer.bytes()), Code::Overlap);
    assert_eq!(refused(1, buffer.bytes()), Code::OutOfRange);
    assert_eq!(refused(64 * page_bytes(), buffer.bytes()), Code::OutOfRange);
    assert_eq!(refused(u64::MAX - 4095, buffer.bytes()), Code::OutOfRange);
    // SAFETY: nothing is done with them.
    let own = unsafe { ArrayBytes::new(reserved.base() + 5, 99, Holders::Any) }.unwrap();
    assert_eq!(refused(page_bytes(), own), Code::InvalidValue);
    assert!(memory.unmap(reserved.place(), adopted.mapped).unwrap().is_some());
    let nothing = Place::FreeSpace { congruent: false };
    let adopted = memory.adopt(reserved.place(), buffer.bytes(), nothing, Means::Copy).unwrap();
    assert_eq!(adopted, Adoption::NoSpace, "the memory must grow");
}

#[test]
fn a_memory_that_comes_to_the_base_of_a_dead_one_has_no_adopted_buffer() {
    let _serial = support::serial();
    let reserved = Reserved::new(128);
    let memory = Memory::attach(reserved.place()).unwrap();
    let buffer = Buffer::new(16, LARGE);
    done(adopt(&memory, &reserved, &buffer, 0, Means::Move));
    assert!(memory.is_still_at(reserved.place()));
    reserved.renew();
    let next = Memory::attach(reserved.place()).unwrap();
    assert!(next.entries().unwrap().is_empty());
}

#[test]
fn what_nobody_can_give_back_any_more_is_the_memorys_own() {
    let _serial = support::serial();
    let reserved = Reserved::new(512);
    let attach = || Memory::attach(reserved.place()).unwrap();
    let (kept, gone) = (attach(), attach());
    let buffers: [Buffer; 3] = std::array::from_fn(|_| Buffer::new(16, LARGE));
    let [left, other, next] = &buffers;
    let (at, far) = (4 * page_bytes(), 256 * page_bytes());
    let start = done(adopt(&gone, &reserved, left, at, Means::Move)).mapped.start;
    let still = done(adopt(&kept, &reserved, other, far, Means::Move)).mapped;
    drop(gone);
    let entries = kept.entries().unwrap();
    assert_eq!(entries.iter().map(|(entry, _)| entry.id).collect::<Vec<_>>(), [still.id]);
    assert!(shows(&reserved, left, start.get()));
    // Its place can be taken.
    let taken = done(adopt(&kept, &reserved, next, at, Means::Move)).mapped;
    for (mapped, buffer) in [(taken, next), (still, other)] {
        assert!(kept.release(reserved.place(), mapped, buffer.back(), false).unwrap().is_some());
        assert!(buffer.has(content));
    }
}

#[cfg(feature = "inject")]
mod injected {
    use super::*;
    use wasm_hostmap::sys::inject;

    fn failing<R>(call: &str, work: impl FnOnce() -> R) -> R {
        let here = Some(std::thread::current().id());
        inject::arm(call, 0, libc::ENOMEM, here);
        let result = work();
        assert!(!inject::disarm(here), "{call} was not made");
        result
    }

    #[test]
    fn a_failing_call_leaves_buffer_and_memory_as_they_were() {
        let _serial = support::serial();
        let reserved = Reserved::new(128);
        let memory = Memory::attach(reserved.place()).unwrap();
        let buffer = Buffer::new(16, LARGE);
        let at = 2 * page_bytes();
        // A first time, which prepares what is kept.
        let adopted = done(adopt(&memory, &reserved, &buffer, at, Means::Move));
        memory.release(reserved.place(), adopted.mapped, buffer.back(), false).unwrap();
        let all = at + LARGE + 2 * page_bytes();
        for byte in (0..all).step_by(3) {
            reserved.write(byte, 0xAB);
        }
        let place = Place::At { at, room_bytes: 0 };
        for call in ["mmap", "mremap_owned"] {
            let refused = failing(call, || {
                memory.adopt(reserved.place(), buffer.bytes(), place, Means::Move).unwrap_err()
            });
            assert_eq!(refused.code(), Code::OutOfMemory, "{call}");
            assert!(memory.entries().unwrap().is_empty());
            assert!(buffer.has(content), "{call}");
            for byte in 0..all {
                let was = if byte % 3 == 0 { 0xAB } else { 0 };
                assert_eq!(reserved.read(byte), was, "{call}");
            }
        }
        // Where the kernel has removed the memory's pages, those are lost, and zeros are there.
        let refused = failing("hole", || {
            memory.adopt(reserved.place(), buffer.bytes(), place, Means::Move).unwrap_err()
        });
        assert_eq!(refused.code(), Code::OutOfMemory);
        assert!(buffer.has(content));
        assert!(reserved.is_guarded());
        // What may be copied is copied.
        for call in ["mremap_owned", "hole"] {
            let copied =
                failing(call, || done(adopt(&memory, &reserved, &buffer, at, Means::MoveOrCopy)));
            assert_eq!(copied.copied_bytes, LARGE);
            assert!(shows(&reserved, &buffer, at), "{call}");
            assert!(buffer.has(content));
            memory.release(reserved.place(), copied.mapped, buffer.back(), false).unwrap();
        }
        // Advice that is refused costs nothing.
        let adopted =
            failing("madvise", || done(adopt(&memory, &reserved, &buffer, at, Means::Move)));
        assert!(shows(&reserved, &buffer, at));
        memory.release(reserved.place(), adopted.mapped, buffer.back(), false).unwrap();
        assert!(buffer.has(content));
    }

    #[test]
    fn a_release_that_fails_leaves_all_in_the_memory_or_copies() {
        let _serial = support::serial();
        let reserved = Reserved::new(128);
        let memory = Memory::attach(reserved.place()).unwrap();
        let buffer = Buffer::new(16, LARGE);
        let at = 2 * page_bytes();
        let mut adopted = done(adopt(&memory, &reserved, &buffer, at, Means::Move));
        for call in ["mremap_owned", "hole"] {
            let refused = failing(call, || {
                memory.release(reserved.place(), adopted.mapped, buffer.back(), false).unwrap_err()
            });
            assert_eq!(refused.code(), Code::OutOfMemory);
            assert!(shows(&reserved, &buffer, at), "{call}");
            assert_eq!(memory.entries().unwrap().len(), 1);
        }
        for (call, may_copy, copied) in [
            ("mremap_owned", true, LARGE),
            ("hole", true, LARGE),
            // The pages have gone by then: they are zeros without it.
            ("mmap", false, adopted.copied_bytes),
            ("madvise", false, adopted.copied_bytes),
        ] {
            let released = failing(call, || {
                memory.release(reserved.place(), adopted.mapped, buffer.back(), may_copy).unwrap()
            });
            assert_eq!(released, Some(copied), "{call}");
            assert!(buffer.has(content), "{call}");
            assert!((0..LARGE + page_bytes()).all(|byte| reserved.read(at + byte) == 0), "{call}");
            assert!(memory.entries().unwrap().is_empty());
            adopted = done(adopt(&memory, &reserved, &buffer, at, Means::Move));
        }
        assert!(reserved.is_guarded());
    }
}
