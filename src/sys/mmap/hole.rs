//! Zeros for a hole: what is left to do where the kernel has removed pages and then failed.
//!
//! Calls: mmap, msync, and munmap for tests.

// It maps over a hole in the address space.
#![allow(unsafe_code)]

use super::mapping::pointer;
use crate::sys::owned_span::OwnedSpan;
use crate::sys::{SysResult, thread, to_usize};
use nix::errno::Errno;

/// How often the kernel is asked for a VMA before the process is given up.
const PLUG_ATTEMPTS: usize = 10_000;

/// After a failure: zeros in a span of the caller's, if its pages were removed; whether they were.
/// Safe in a signal handler.
///
/// Nobody else can be in the hole but by an `mmap` that came between the two calls, and had the
/// memory that ours had not.
pub(super) fn plug(span: OwnedSpan<'_>) -> bool {
    let span = span.span();
    let (Ok(start), length) = (pointer(span.start().get()), to_usize(span.length().get())) else {
        return false;
    };
    // SAFETY: MS_ASYNC changes nothing, since Linux 2.6.19 (msync(2)). It fails with ENOMEM where
    // pages are not mapped.
    let is_whole = || unsafe { libc::msync(start.as_ptr(), length, libc::MS_ASYNC) } == 0;
    let flags =
        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED_NOREPLACE;
    for _ in 0..PLUG_ATTEMPTS {
        if is_whole() {
            return false;
        }
        // SAFETY: MAP_FIXED_NOREPLACE maps only where nothing is mapped, so no reference can point
        // there; and what is mapped is where the owner of the span wants pages.
        let at = unsafe {
            libc::mmap(start.as_ptr(), length, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0)
        };
        if at == start.as_ptr() {
            return true;
        }
        if at != libc::MAP_FAILED || Errno::last() == Errno::EEXIST {
            // Somebody is in it. (Or the kernel, from before 4.17, does not know the flag.)
            break;
        }
        // No memory: others may give some back.
        thread::yield_now();
    }
    let message = b"wasm-hostmap: a hole in a WebAssembly memory's reservation can't be closed\n";
    // SAFETY: a message of so many bytes. Nothing can be done if it can't be written.
    unsafe { libc::write(libc::STDERR_FILENO, message.as_ptr().cast(), message.len()) };
    std::process::abort();
}

/// As a kernel without memory: the old pages are gone, and nothing is in their place. For tests.
#[cfg_attr(not(feature = "inject"), allow(unused_variables, clippy::unnecessary_wraps))]
pub(super) fn trip_with_hole(span: OwnedSpan<'_>) -> SysResult<()> {
    #[cfg(feature = "inject")]
    if let Err(failure) = crate::sys::inject::trip("hole") {
        let span = span.span();
        // SAFETY: the owner of the span is about to replace these pages: nobody needs them, and no
        // Rust reference points into them.
        let unmapped = unsafe {
            nix::sys::mman::munmap(pointer(span.start().get())?, to_usize(span.length().get()))
        };
        return unmapped
            .and(Err(failure.errno))
            .map_err(|errno| crate::sys::SysError::new("mremap", errno));
    }
    Ok(())
}
