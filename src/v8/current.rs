//! Whether a thread runs JavaScript: V8 keeps for each thread which isolate it is in.
//!
//! A thread of libuv's pool is in none. V8 exports `v8::Isolate::TryGetCurrent`, which reads a word
//! of the thread's own storage: handlers may call it where that storage was there when the process
//! started, as that of Node's program and of what it is linked with.

#![allow(unsafe_code)] // Calls V8's function.

use crate::sys::loaded;
use std::ffi::c_void;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, Ordering};

const NAME: &std::ffi::CStr = c"_ZN2v87Isolate13TryGetCurrentEv";

/// V8's function, or null.
///
/// # Safety
/// Nothing but what [`NAME`] names is stored here. V8 declares it as `Isolate*()`.
static FUNCTION: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());

/// Looks for V8's function. False: there is none. Not for handlers.
pub fn prepare() -> bool {
    if FUNCTION.load(Ordering::Acquire).is_null() {
        let found = loaded::symbol(NAME).map_or(ptr::null_mut(), NonNull::as_ptr);
        FUNCTION.store(found, Ordering::Release);
    }
    !FUNCTION.load(Ordering::Acquire).is_null()
}

/// Whether this thread is known to run no JavaScript. Safe in handlers.
pub fn is_without_script() -> bool {
    let function = FUNCTION.load(Ordering::Acquire);
    if function.is_null() {
        return false;
    }
    // SAFETY: by the Safety section of the static, it is a function of this type. It takes nothing,
    // and reads a word of this thread's.
    let current = unsafe {
        let try_get_current: extern "C" fn() -> *mut c_void = std::mem::transmute(function);
        try_get_current()
    };
    current.is_null()
}
