//! Failure injection for tests of lib/. Empty without the feature.

#![cfg(feature = "inject")]

use crate::sys::alloc;
use crate::sys::inject;
use napi_derive::napi;

/// Makes a system call of this name fail with this errno, after `calls_before` that succeed, on any
/// thread.
#[napi]
pub fn inject_failure(syscall: String, calls_before: u32, errno: i32) {
    inject::arm(&syscall, calls_before, errno, None);
}

/// Forgets failures that did not go off; true if there were any.
#[napi]
pub fn forget_failures() -> bool {
    inject::disarm(None)
}

/// Makes an allocation of at least so many bytes fail, after `before` that succeed, on any thread.
#[napi]
pub fn inject_allocation_failure(least_bytes: u32, before: u32) {
    alloc::arm(least_bytes as usize, before);
}

/// Forgets it; true if it went off.
#[napi]
pub fn allocation_has_failed() -> bool {
    alloc::disarm()
}
