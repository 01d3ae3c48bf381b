//! Failure injection for tests of lib/. Empty without the feature.

#![cfg(feature = "inject")]

use crate::sys::inject;
use napi_derive::napi;

/// Makes a system call of this name fail with this errno, after `calls_before` that succeed, on any thread.
#[napi]
pub fn inject_failure(syscall: String, calls_before: u32, errno: i32) {
    inject::arm(&syscall, calls_before, errno, None);
}

/// Forgets failures that did not go off; true if there were any.
#[napi]
pub fn forget_failures() -> bool {
    inject::disarm(None)
}
