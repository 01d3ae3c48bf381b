//! A module with the allocator of Rust's standard library, as `wasm-bindgen` exports it.

use std::alloc::{Layout, alloc, dealloc};

fn layout(bytes: usize) -> Layout {
    Layout::from_size_align(bytes, 8).expect("the benchmark asks for less than 2 GiB")
}

#[unsafe(no_mangle)]
pub extern "C" fn malloc(bytes: usize) -> *mut u8 {
    // SAFETY: no block of the benchmark is empty.
    unsafe { alloc(layout(bytes)) }
}

/// # Safety
/// The block is one of `malloc`, of so many bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn free(block: *mut u8, bytes: usize) {
    // SAFETY: the caller's promise.
    unsafe { dealloc(block, layout(bytes)) }
}
