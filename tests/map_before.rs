//! The process's map before a memory is made: no allocation may come or go while it is read.

// Builds with injected failures have an allocator of their own.
#![cfg(not(feature = "inject"))]
// It is an allocator, and counts.
#![allow(unsafe_code)]
#![allow(clippy::arithmetic_side_effects)] // Tests may let arithmetic panic.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use wasm_hostmap::v8::reservation::MapBefore;

thread_local! {
    /// Allocations of this thread that were given back, or moved.
    static GIVEN_BACK: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

fn count() {
    let _ = GIVEN_BACK.try_with(|count| count.set(count.get() + 1));
}

// SAFETY: it hands every call to the system's allocator, and counts in a cell that needs no
// allocation.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count();
        // SAFETY: the caller's promise is the same.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is the same.
        unsafe { System.realloc(at, layout, bytes) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Under musl, what is given back while the map is read may be unmapped at once: V8 puts its memory
/// there, and the measure ends at a range that is no more.
#[test]
fn nothing_that_was_mapped_while_the_map_was_read_is_given_back() {
    // The readers are opened by the first call.
    drop(MapBefore::take().unwrap());
    let before = GIVEN_BACK.get();
    let map = MapBefore::take().unwrap();
    assert_eq!(GIVEN_BACK.get() - before, 0);
    drop(map);
    assert_eq!(GIVEN_BACK.get() - before, 1, "the allocator counts");
}
