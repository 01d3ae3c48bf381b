//! Being told when V8 collects garbage, for [`super::declined`].
//!
//! Node-API has no such callback. V8 has one for embedders, in its public classes: so its functions
//! are looked up by the names that C++ gives them, as the one for traps is ([`super::trap`]). They
//! are the same from V8 11 to 14, on x64 and arm64. Where one is not there (Deno, Bun) the
//! thread does not join, and V8 is asked each time.
//!
//! Not for handlers.

#![allow(unsafe_code)] // Calls V8's functions, and is called by V8.

use super::declined::{self, Known};
use crate::sys::loaded;
use std::ffi::{CStr, c_int, c_void};
use std::ptr::NonNull;

/// `static v8::Isolate* v8::Isolate::GetCurrent()`.
const CURRENT: &CStr = c"_ZN2v87Isolate10GetCurrentEv";
/// `void AddGC...Callback(GCCallbackWithData, void* data, GCType)` of an isolate, before and after.
const ADD: [&CStr; 2] = [
    c"_ZN2v87Isolate21AddGCPrologueCallbackEPFvPS0_NS_6GCTypeENS_15GCCallbackFlagsEPvES4_S2_",
    c"_ZN2v87Isolate21AddGCEpilogueCallbackEPFvPS0_NS_6GCTypeENS_15GCCallbackFlagsEPvES4_S2_",
];
/// `void RemoveGC...Callback(GCCallbackWithData, void* data)`.
const REMOVE: [&CStr; 2] = [
    c"_ZN2v87Isolate24RemoveGCPrologueCallbackEPFvPS0_NS_6GCTypeENS_15GCCallbackFlagsEPvES4_",
    c"_ZN2v87Isolate24RemoveGCEpilogueCallbackEPFvPS0_NS_6GCTypeENS_15GCCallbackFlagsEPvES4_",
];
/// All of `GCType`'s bits, those of later versions too: the kind makes no difference here.
const ALL_TYPES: c_int = 0xffff;

/// `v8::Isolate::GCCallbackWithData`.
type Callback = unsafe extern "C" fn(*mut c_void, c_int, c_int, *mut c_void);
type Current = unsafe extern "C" fn() -> *mut c_void;
type Add = unsafe extern "C" fn(*mut c_void, Callback, *mut c_void, c_int);
type Remove = unsafe extern "C" fn(*mut c_void, Callback, *mut c_void);

const CALLBACKS: [Callback; 2] = [on_begin, on_end];

/// # Safety
/// V8 calls it, with what [`join`] gave it.
unsafe extern "C" fn on_begin(_: *mut c_void, _: c_int, _: c_int, known: *mut c_void) {
    // SAFETY: `join` passed a `&'static Known`.
    unsafe { &*known.cast::<Known>() }.begin();
}

/// # Safety
/// V8 calls it, with what [`join`] gave it.
unsafe extern "C" fn on_end(_: *mut c_void, _: c_int, _: c_int, known: *mut c_void) {
    // SAFETY: `join` passed a `&'static Known`.
    unsafe { &*known.cast::<Known>() }.end();
}

/// A thread that has joined.
#[derive(Debug)]
pub struct Joined {
    isolate: NonNull<c_void>,
    known: &'static Known,
    remove: [Remove; 2],
}

/// The calling thread's faults may be remembered from now on. `None`: they can't, or may already.
///
/// # Safety
/// The thread is in a call from JavaScript, so that V8 has a current isolate, which runs on no
/// other thread. Before that isolate ends, and on this thread, the result is given to [`leave`].
pub unsafe fn join() -> Option<Joined> {
    let current = loaded::symbol(CURRENT)?;
    let find = |names: [&CStr; 2]| Some([loaded::symbol(names[0])?, loaded::symbol(names[1])?]);
    // SAFETY: V8 declares what these names stand for with these signatures: C++ names include
    // them, `this` is the first argument, and enumerations are ints (v8-isolate.h, v8-callbacks.h).
    // A function pointer has the size of a data pointer on every target of this crate.
    let (current, add, remove) = unsafe {
        (
            std::mem::transmute::<NonNull<c_void>, Current>(current),
            find(ADD)?.map(|function| std::mem::transmute::<NonNull<c_void>, Add>(function)),
            find(REMOVE)?.map(|function| std::mem::transmute::<NonNull<c_void>, Remove>(function)),
        )
    };
    // SAFETY: the caller promises that there is a current isolate.
    let isolate = NonNull::new(unsafe { current() })?;
    let known = declined::join()?;
    let data = std::ptr::from_ref(known).cast_mut().cast::<c_void>();
    for (add, callback) in add.into_iter().zip(CALLBACKS) {
        // SAFETY: the isolate is this thread's. The callbacks have V8's signature, take a `&'static
        // Known`, which they change by atomics, and call nothing of V8.
        unsafe { add(isolate.as_ptr(), callback, data, ALL_TYPES) };
    }
    // From here on, V8 tells of each collection.
    known.end();
    Some(Joined { isolate, known, remove })
}

/// Before the isolate ends.
///
/// # Safety
/// It is alive, and its thread is the calling one.
pub unsafe fn leave(joined: &Joined) {
    declined::leave();
    let data = std::ptr::from_ref(joined.known).cast_mut().cast::<c_void>();
    for (remove, callback) in joined.remove.into_iter().zip(CALLBACKS) {
        // SAFETY: the caller promises that the isolate is alive and this thread's; `join` has added
        // this callback with this data.
        unsafe { remove(joined.isolate.as_ptr(), callback, data) };
    }
}
