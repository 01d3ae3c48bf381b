//! Being called each time this thread's event loop is about to wait: by a handle of libuv's.
//!
//! Node-API knows the loop, but nothing that it does. libuv's functions are part of Node.js and are
//! looked up by name. Where they are not (Deno, Bun), nothing is called. Electron has them, but
//! runs libuv's loop only when that has something to do: nobody is to ask there.

#![allow(unsafe_code)] // Calls libuv's functions, and is called by libuv and Node-API.

use crate::fault::turns::{self, Loop};
use crate::sys::loaded;
use crate::v8::declined;
use napi::{Env, sys};
use std::ffi::{c_int, c_void};
use std::ptr::{self, NonNull};

/// `uv_prepare_t` of libuv 1: 120 bytes, and what later versions may add.
const HANDLE_WORDS: usize = 64;
/// `UV_PREPARE` of `uv_handle_type`.
const PREPARE: c_int = 9;

type Called = unsafe extern "C" fn(*mut c_void);
type Size = unsafe extern "C" fn(c_int) -> usize;
type Init = unsafe extern "C" fn(*mut sys::uv_loop_s, *mut c_void) -> c_int;
type Start = unsafe extern "C" fn(*mut c_void, Called) -> c_int;
type Unref = unsafe extern "C" fn(*mut c_void);
type Close = unsafe extern "C" fn(*mut c_void, Called);

/// libuv has its address from `uv_prepare_init` on, and until it says that it is closed.
#[repr(C)]
struct Turns {
    /// First: libuv gives the address of this part.
    handle: [u64; HANDLE_WORDS],
    close: Close,
    own: &'static Loop,
    on_mark: fn(),
    hook: sys::napi_async_cleanup_hook_handle,
}

/// Calls `on_mark` before this thread's loop waits, whenever a handler of this thread has left a
/// mark ([`turns`]). Does not keep the loop alive.
pub(super) fn look_before_waits(env: Env, on_mark: fn()) {
    // As many as have these functions, and whose loop is the thread's own.
    if declined::stamp().is_some() {
        begin(env, on_mark);
    }
}

fn begin(env: Env, on_mark: fn()) -> Option<()> {
    let find = |name| loaded::symbol(name);
    // SAFETY: libuv 1 declares what these names stand for with these signatures (uv.h); a handle of
    // any type is passed by its address. A function pointer has the size of a data pointer on every
    // target of this crate.
    let (size, init, start, unref, close) = unsafe {
        (
            std::mem::transmute::<NonNull<c_void>, Size>(find(c"uv_handle_size")?),
            std::mem::transmute::<NonNull<c_void>, Init>(find(c"uv_prepare_init")?),
            std::mem::transmute::<NonNull<c_void>, Start>(find(c"uv_prepare_start")?),
            std::mem::transmute::<NonNull<c_void>, Unref>(find(c"uv_unref")?),
            std::mem::transmute::<NonNull<c_void>, Close>(find(c"uv_close")?),
        )
    };
    // SAFETY: it returns a number for any number.
    if unsafe { size(PREPARE) } > size_of::<[u64; HANDLE_WORDS]>() {
        return None;
    }
    let mut event_loop = ptr::null_mut();
    // SAFETY: the environment is the caller's, in a call from JavaScript.
    let status = unsafe { sys::napi_get_uv_event_loop(env.raw(), &raw mut event_loop) };
    if status != sys::Status::napi_ok {
        return None;
    }
    let own = turns::begin()?;
    let made = Turns { handle: [0; HANDLE_WORDS], close, own, on_mark, hook: ptr::null_mut() };
    let made = Box::into_raw(Box::new(made));
    // SAFETY: `made` stays where it is until `on_closed`. The hook's handle is written into a field
    // that nothing else has yet.
    let status = unsafe {
        let hook = &raw mut (*made).hook;
        sys::napi_add_async_cleanup_hook(env.raw(), Some(on_end), made.cast(), hook)
    };
    if status != sys::Status::napi_ok {
        own.end();
        // SAFETY: it was a box, and nobody else has its address.
        drop(unsafe { Box::from_raw(made) });
        return None;
    }
    // SAFETY: the loop is this thread's, and `made` has room for a handle of this type. libuv's
    // `uv_prepare_init` and `uv_prepare_start` with a callback can't fail. The environment's hook
    // closes the handle.
    unsafe {
        init(event_loop, made.cast());
        start(made.cast(), on_turn);
        unref(made.cast());
    }
    Some(())
}

/// # Safety
/// libuv calls it with the handle of a [`Turns`], on the loop's thread.
unsafe extern "C" fn on_turn(handle: *mut c_void) {
    // SAFETY: as promised; the handle is the first field.
    let turns = unsafe { &*handle.cast::<Turns>() };
    if turns.own.take_mark() {
        (turns.on_mark)();
    }
}

/// The environment ends, and waits until its hook is removed.
///
/// # Safety
/// Node-API calls it with the address of a [`Turns`], on the loop's thread.
unsafe extern "C" fn on_end(hook: sys::napi_async_cleanup_hook_handle, made: *mut c_void) {
    let turns = made.cast::<Turns>();
    // SAFETY: as promised; only libuv has the address as well, and calls nothing at the moment.
    let close = unsafe {
        (*turns).hook = hook;
        (*turns).own.end();
        (*turns).close
    };
    // SAFETY: the handle is open, and its memory stays until `on_closed`.
    unsafe { close(made, on_closed) };
}

/// # Safety
/// libuv calls it once, with the handle of a [`Turns`] that it is done with.
unsafe extern "C" fn on_closed(handle: *mut c_void) {
    // SAFETY: `begin` made it of a box, and this is the last that is done with it. The hook is the
    // one that `on_end` got, and is removed once.
    unsafe {
        let turns = Box::from_raw(handle.cast::<Turns>());
        sys::napi_remove_async_cleanup_hook(turns.hook);
    }
}
