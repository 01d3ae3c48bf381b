//! One native part for a process, whatever loads it.
//!
//! Two copies of this library, from two installs of the package say, would each have a mapping
//! table and a signal handler, and neither would know what the other put into a memory. So each
//! copy carries an ELF note that says which build it is and where its entry is. A copy that is
//! loaded asks for the notes: the first in the dynamic linker's order serves all, in every thread,
//! and no file is needed for it. lib/platform/binding.js takes that one's exports instead of its
//! own.
//!
//! The linker adds libraries one at a time and never takes ours away (`-z nodelete`). So threads
//! that race agree on which is the first, and a copy that was refused is still there to be seen.

// It calls another copy of the addon by its address.
#![allow(unsafe_code)]

use super::internal;
use crate::error::Error;
use crate::sys::loaded::{Note, notes_of};
use napi::bindgen_prelude::{JsValue, Object, Unknown};
use napi::{Env, sys};
use napi_derive::napi;
use std::cell::Cell;
use std::ffi::CStr;
use std::ops::ControlFlow;
use std::{mem, ptr};

const OWNER: &CStr = c"wasm-hostmap";
/// The layout of the note, and the meaning of the entry. Neither may ever change.
const KIND: u32 = 1;
/// Version and build, as `0.1.0 0123456789abcdef`.
const IDENTITY: &str = concat!(env!("CARGO_PKG_VERSION"), " ", env!("HOSTMAP_BUILD"));

std::arch::global_asm!(
    ".pushsection .note.wasm_hostmap,\"a\",%note",
    ".balign 4",
    ".long 2f - 1f",
    ".long 4f - 3f",
    ".long {kind}",
    "1: .asciz \"wasm-hostmap\"",
    "2: .balign 4",
    // A distance and no address: the note is read-only, and the linker has nothing to fill in.
    "3: .quad {entry} - 3b",
    concat!(".ascii \"", env!("CARGO_PKG_VERSION"), " ", env!("HOSTMAP_BUILD"), "\""),
    "4: .balign 4",
    ".popsection",
    kind = const KIND,
    entry = sym entry,
);

type Entry = unsafe extern "C" fn(sys::napi_env, sys::napi_value) -> sys::napi_value;

/// A copy of this library in this process.
struct Copy {
    path: String,
    identity: String,
    entry: Entry,
}

/// All copies, the first that was loaded first.
fn copies() -> Vec<Copy> {
    let mut copies = Vec::new();
    notes_of(OWNER, KIND, &mut |Note { path, bytes }| {
        let Some((distance, identity)) = bytes.split_first_chunk::<{ size_of::<isize>() }>() else {
            return ControlFlow::Continue(());
        };
        // The distance of the entry from the note.
        let address =
            (bytes.as_ptr() as usize).wrapping_add_signed(isize::from_ne_bytes(*distance));
        // SAFETY: a note of this package: its distance leads to the entry of its library, and a
        // library that has such a note is never unloaded.
        let entry = unsafe { mem::transmute::<usize, Entry>(address) };
        copies.push(Copy { path, identity: String::from_utf8_lossy(identity).into_owned(), entry });
        ControlFlow::Continue(())
    });
    copies
}

thread_local! {
    /// This copy's exports in this thread, as long as the environment that they were made for is
    /// there.
    static EXPORTS: Cell<sys::napi_ref> = const { Cell::new(ptr::null_mut()) };
}

/// Keeps the exports that a thread has got, so that all copies in it share one set of classes.
pub(super) fn keep(env: Env, exports: &Object<'_>) -> napi::Result<()> {
    if EXPORTS.get().is_null() {
        let mut reference = ptr::null_mut();
        // SAFETY: `exports` is a live handle of this call's scope.
        let status =
            unsafe { sys::napi_create_reference(env.raw(), exports.raw(), 1, &raw mut reference) };
        napi::check_status!(status)?;
        EXPORTS.set(reference);
        env.add_env_cleanup_hook((), |()| EXPORTS.set(ptr::null_mut()))?;
    }
    Ok(())
}

/// This copy's exports in this thread; made in `exports` if there are none. What other copies call.
///
/// # Safety
/// `env` is an environment of this thread, in a call from JavaScript, and `exports` an object of
/// it.
unsafe extern "C" fn entry(env: sys::napi_env, exports: sys::napi_value) -> sys::napi_value {
    let reference = EXPORTS.get();
    if reference.is_null() {
        // SAFETY: the caller's promise, which is Node's own to this function.
        return unsafe { napi::bindgen_prelude::napi_register_module_v1(env, exports) };
    }
    let mut kept = ptr::null_mut();
    // SAFETY: the reference is one of this thread, and its environment has not ended.
    let status = unsafe { sys::napi_get_reference_value(env, reference, &raw mut kept) };
    if status == sys::Status::napi_ok { kept } else { ptr::null_mut() }
}

#[napi(object)]
pub struct NativeCopy {
    /// As the dynamic linker was given it. The file may be gone.
    pub path: String,
    /// `VERSION BUILD`.
    pub identity: String,
    pub is_own: bool,
}

/// The copies of this library in this process, the first that was loaded first.
#[napi(catch_unwind)]
pub fn loaded_copies() -> Vec<NativeCopy> {
    let to_native = |copy: Copy| NativeCopy {
        is_own: ptr::fn_addr_eq(copy.entry, entry as Entry),
        path: copy.path,
        identity: copy.identity,
    };
    copies().into_iter().map(to_native).collect()
}

/// The exports of the copy that was loaded first, which must be of the same build.
#[napi(catch_unwind, ts_return_type = "object")]
pub fn exports_of_first(env: Env) -> napi::Result<Unknown<'static>> {
    let first =
        copies().into_iter().next().ok_or_else(|| internal("no copy of this library is loaded"))?;
    let is_own = ptr::fn_addr_eq(first.entry, entry as Entry);
    if !is_own && first.identity != IDENTITY {
        return Err(Error::TwoVersions.into());
    }
    let exports = Object::new(&env)?;
    // SAFETY: a call from JavaScript in this environment; and the same build means the same entry.
    let value = unsafe { (first.entry)(env.raw(), exports.raw()) };
    if value.is_null() {
        return Err(internal("the copy that was loaded first gives no exports").into());
    }
    // SAFETY: a value of this call's scope.
    Ok(unsafe { Unknown::from_raw_unchecked(env.raw(), value) })
}
