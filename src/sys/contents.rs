//! Reading and writing the bytes of a linear memory's pages. Wasm and JavaScript see the same
//! bytes, so no reference to them is ever made.
//!
//! Makes no system call.

// It reads and writes the bytes of memories by address.
#![allow(unsafe_code)]

use super::page::{PageAligned, PageSpan};
use super::to_usize;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

/// Whether all bytes are zero.
///
/// # Safety
/// The pages can be read.
pub unsafe fn is_zero(span: PageSpan) -> bool {
    const WORD_BYTES: usize = 8;
    let words = (span.start().get()..span.end().get()).step_by(WORD_BYTES);
    words.into_iter().all(|at| {
        // SAFETY: inside the span, which starts at a page. Another thread may be writing there:
        // nothing is torn.
        let word = unsafe { AtomicU64::from_ptr(to_usize(at) as *mut u64) };
        word.load(Ordering::Relaxed) == 0
    })
}

/// Copies pages.
///
/// # Safety
/// The pages at `from` can be read, those of `to` written, and no thread is in `to`.
pub unsafe fn copy(from: PageAligned, to: PageSpan) {
    let (from, target) = (to_usize(from.get()) as *const u8, to_usize(to.start().get()) as *mut u8);
    // SAFETY: the caller promises that these bytes can be read and those written, with no thread in
    // `to`. They don't overlap: one is our own mapping, the other a linear memory.
    unsafe { ptr::copy_nonoverlapping(from, target, to_usize(to.length().get())) };
}

/// Makes all bytes zero.
///
/// # Safety
/// The pages can be written, and no thread is in them.
pub unsafe fn clear(span: PageSpan) {
    // SAFETY: the caller promises that the bytes can be written, and that no thread is in them.
    unsafe {
        ptr::write_bytes(to_usize(span.start().get()) as *mut u8, 0, to_usize(span.length().get()));
    }
}

/// Copies bytes between a memory and a buffer.
///
/// # Safety
/// So many bytes can be read at `from`, and written at `to`, and they don't overlap.
pub unsafe fn copy_bytes(from: u64, to: u64, byte_length: u64) {
    // SAFETY: as the caller promises.
    unsafe {
        let (from, to) = (to_usize(from) as *const u8, to_usize(to) as *mut u8);
        ptr::copy_nonoverlapping(from, to, to_usize(byte_length));
    }
}

/// Makes bytes zero.
///
/// # Safety
/// So many bytes can be written there.
pub unsafe fn clear_bytes(at: u64, byte_length: u64) {
    // SAFETY: as the caller promises.
    unsafe { ptr::write_bytes(to_usize(at) as *mut u8, 0, to_usize(byte_length)) };
}
