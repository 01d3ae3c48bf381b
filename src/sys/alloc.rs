//! Fallible allocation, for memory whose size depends on input.
//!
//! Rust ends the process when an allocation fails, unless `try_reserve` made it. Vectors, strings
//! and buffers that a file, a caller or the process's map can make large are therefore allocated
//! here. `clippy.toml` refuses the infallible alternatives.
//!
//! Calls: the allocator, through `Vec::try_reserve`.

// It marks memory as filled that it has filled.
#![allow(unsafe_code)]

use std::collections::TryReserveError;

/// The process has no memory for the allocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused;

impl From<TryReserveError> for Refused {
    fn from(_: TryReserveError) -> Self {
        Self
    }
}

/// An empty vector with room for so many.
pub fn with_room<T>(count: usize) -> Result<Vec<T>, Refused> {
    let mut vec = Vec::new();
    vec.try_reserve_exact(count)?;
    Ok(vec)
}

/// So many zero bytes.
pub fn zeroed(length: usize) -> Result<Vec<u8>, Refused> {
    let mut bytes = with_room(length)?;
    // Within its capacity.
    bytes.resize(length, 0);
    Ok(bytes)
}

/// A copy of a slice.
pub fn copied<T: Clone>(items: &[T]) -> Result<Vec<T>, Refused> {
    let mut vec = with_room(items.len())?;
    // Within its capacity.
    vec.extend_from_slice(items);
    Ok(vec)
}

/// A copy of a text.
pub fn text(text: &str) -> Result<String, Refused> {
    let mut owned = String::new();
    owned.try_reserve_exact(text.len())?;
    owned.push_str(text);
    Ok(owned)
}

/// What an iterator gives.
pub fn collected<T>(items: impl IntoIterator<Item = T>) -> Result<Vec<T>, Refused> {
    let items = items.into_iter();
    let mut vec = with_room(items.size_hint().0)?;
    for item in items {
        push(&mut vec, item)?;
    }
    Ok(vec)
}

/// [`Vec::push`].
pub fn push<T>(vec: &mut Vec<T>, item: T) -> Result<(), Refused> {
    vec.try_reserve(1)?;
    vec.push(item);
    Ok(())
}

/// Lets allocations fail, for tests.
#[cfg(feature = "inject")]
pub use failing::{arm, disarm};

#[cfg(feature = "inject")]
mod failing {
    use std::alloc::{GlobalAlloc, Layout, System};
    use std::ptr;
    use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

    struct Failing;

    #[global_allocator]
    static ALLOCATOR: Failing = Failing;

    /// Which allocations count: those of so many bytes and more.
    static LEAST_BYTES: AtomicUsize = AtomicUsize::new(usize::MAX);
    /// How many of them still succeed; one that finds 0 fails, once.
    static LEFT: AtomicI64 = AtomicI64::new(-1);

    /// Makes the allocation fail that comes after `before` others of at least so many bytes, on any
    /// thread.
    pub fn arm(least_bytes: usize, before: u32) {
        LEFT.store(before.into(), Ordering::SeqCst);
        LEAST_BYTES.store(least_bytes, Ordering::SeqCst);
    }

    /// True if one has failed since.
    pub fn disarm() -> bool {
        LEAST_BYTES.store(usize::MAX, Ordering::SeqCst);
        LEFT.swap(-1, Ordering::SeqCst) < 0
    }

    fn fails(bytes: usize) -> bool {
        bytes >= LEAST_BYTES.load(Ordering::Relaxed) && LEFT.fetch_sub(1, Ordering::SeqCst) == 0
    }

    // SAFETY: all but the refusals, which may happen at any time, is the system's allocator.
    unsafe impl GlobalAlloc for Failing {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            if fails(layout.size()) {
                return ptr::null_mut();
            }
            // SAFETY: GlobalAlloc promises a layout that is not empty, which is all that System
            // asks.
            unsafe { System.alloc(layout) }
        }

        unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
            if fails(layout.size()) {
                return ptr::null_mut();
            }
            // SAFETY: GlobalAlloc promises a layout that is not empty, which is all that System
            // asks.
            unsafe { System.alloc_zeroed(layout) }
        }

        unsafe fn realloc(&self, block: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
            if fails(bytes) {
                return ptr::null_mut();
            }
            // SAFETY: the caller keeps what GlobalAlloc asks of it; a refusal left the block as it
            // is.
            unsafe { System.realloc(block, layout, bytes) }
        }

        unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
            // SAFETY: the block came from the system's allocator, as all do.
            unsafe { System.dealloc(block, layout) }
        }
    }
}
