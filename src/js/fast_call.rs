//! Functions that are called so often that the way through napi-rs shows: about 150 ns a call of
//! borrow scopes and conversions (measured on 3.16), a tenth of the system call that they are for.
//! They speak Node-API themselves: a handle, a Uint8Array over the whole of the memory's buffer,
//! then numbers.
//!
//! Base and length are V8's answer about that array, asked in the same call. A memory can move even
//! though it has guards (V8 11 copies it where `mprotect` fails), so no base that was right earlier
//! is believed, and no length comes from JavaScript. The question costs some 10 ns.
//!
//! Fit for it is what takes a memory's handle, its array and at most 8 numbers ([`MOST_VALUES`]
//! less two), and is called for each request. All else goes through napi-rs. To add a function:
//! 1. Write the work in its noun's file, as `pub(super) fn(&Memory, LiveMemory<'_>, [f64; N])`.
//!    Check each number there (`to_number` and its like).
//! 2. Add `callback!(name, super::noun::name)` below, and `define(... c"name", name)` in
//!    [`register`].
//! 3. If it gives back something new, add a variant to [`Answer`], a `From` for it, and how
//!    `to_value` makes it.
//! 4. Call it from lib/ with every argument, in this order: a missing number is an error, and one
//!    too many is ignored. binding.d.ts does not know it.

// It speaks Node-API itself.
#![allow(unsafe_code)]

use super::buffer::Bytes;
use super::fault_counts::NativeFaults;
use super::internal;
use super::snapshot::NativeMadeMapping;
use crate::error::Error;
use crate::memory::Memory;
use crate::v8::live_memory::LiveMemory;
use napi::bindgen_prelude::{JsObjectValue, Object, ToNapiValue};
use napi::{Env, JsError, sys};
use napi_derive::napi;
use std::ffi::CStr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

/// The numbers that a call was given after the handle and the array.
type Numbers<const N: usize> = [f64; N];

/// The most values that a call takes.
const MOST_VALUES: usize = 10;

/// What a call gives back.
enum Answer {
    /// `undefined`.
    Nothing,
    False,
    Number(f64),
    Faults(NativeFaults),
    MadeMappings(Vec<NativeMadeMapping>),
}

impl From<()> for Answer {
    fn from((): ()) -> Self {
        Self::Nothing
    }
}

/// A restore makes a mapping seldom, and then the answer costs what objects cost.
impl From<Vec<NativeMadeMapping>> for Answer {
    fn from(made: Vec<NativeMadeMapping>) -> Self {
        if made.is_empty() { Self::Nothing } else { Self::MadeMappings(made) }
    }
}

impl From<bool> for Answer {
    fn from(done: bool) -> Self {
        if done { Self::Nothing } else { Self::False }
    }
}

impl From<f64> for Answer {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

impl From<Option<NativeFaults>> for Answer {
    fn from(faults: Option<NativeFaults>) -> Self {
        faults.map_or(Self::Nothing, Self::Faults)
    }
}

#[napi(module_exports)]
pub fn register(mut exports: Object<'_>, env: Env) -> napi::Result<()> {
    super::copies::keep(env, &exports)?;
    define(&mut exports, env, c"mapAt", map_at)?;
    define(&mut exports, env, c"unmap", unmap)?;
    define(&mut exports, env, c"slide", slide)?;
    define(&mut exports, env, c"restore", restore)?;
    define(&mut exports, env, c"reset", reset)?;
    define(&mut exports, env, c"leaveFiles", leave_files)
}

fn define(exports: &mut Object<'_>, env: Env, name: &CStr, callback: Callback) -> napi::Result<()> {
    let mut function = ptr::null_mut();
    // SAFETY: the name is a C string, and the callback lives as long as the addon, which is never
    // unloaded.
    let status = unsafe {
        sys::napi_create_function(
            env.raw(),
            name.as_ptr(),
            isize::try_from(name.count_bytes()).expect("no string is longer than isize::MAX"),
            Some(callback),
            ptr::null_mut(),
            &raw mut function,
        )
    };
    napi::check_status!(status)?;
    let function = Object::from_raw(env.raw(), function);
    exports.set_named_property(&name.to_string_lossy(), function)
}

type Callback = unsafe extern "C" fn(sys::napi_env, sys::napi_callback_info) -> sys::napi_value;

/// Defines what Node-API calls for a function of another file.
macro_rules! callback {
    ($name:ident, $work:path) => {
        /// # Safety
        /// Node-API calls it, with the environment and the arguments of a call that goes on.
        unsafe extern "C" fn $name(
            env: sys::napi_env,
            info: sys::napi_callback_info,
        ) -> sys::napi_value {
            // SAFETY: both are Node-API's of this call, which returns after `call` does.
            unsafe { call(env, info, $work) }
        }
    };
}

callback!(map_at, super::memory::map_at);
callback!(unmap, super::memory::unmap);
callback!(slide, super::window::slide);
callback!(restore, super::snapshot::restore);
callback!(reset, super::snapshot::reset);
callback!(leave_files, super::opened::leave_files);

/// Calls `work` with the memory and the numbers of this call, and gives its answer; what fails is
/// thrown, and no panic gets out.
///
/// # Safety
/// `env` and `info` are those of a call of Node-API's that has not returned.
unsafe fn call<const N: usize, A: Into<Answer>>(
    env: sys::napi_env,
    info: sys::napi_callback_info,
    work: fn(&Memory, LiveMemory<'_>, Numbers<N>) -> Result<A, Error>,
) -> sys::napi_value {
    // SAFETY: the arguments are there as long as the call has not returned.
    let given = unsafe { given(env, info) };
    let answer = catch_unwind(AssertUnwindSafe(|| {
        let Given { memory, bytes, numbers } = given?;
        let memory = super::memory::memory_of(super::to_number(memory)?)?;
        // Before anything else is said of the base: a detached buffer has none.
        memory.check_base(bytes.address)?;
        work(&memory, bytes.live_memory()?, numbers).map(Into::into)
    }))
    .unwrap_or_else(|_| Err(internal("a panic; the process goes on")));
    // SAFETY: the environment is good as long as the call has not returned.
    unsafe { give(env, answer) }
}

/// Gives an answer, or throws. Not a part of [`call`], which is there once for each function.
///
/// # Safety
/// As [`call`].
unsafe fn give(env: sys::napi_env, answer: Result<Answer, Error>) -> sys::napi_value {
    let answer = answer.map_err(napi::Error::from).and_then(|answer| {
        // SAFETY: the environment is good as long as the call has not returned.
        unsafe { to_value(env, answer) }
    });
    answer.unwrap_or_else(|error| {
        // SAFETY: the call has not returned, and nothing was thrown in it before.
        unsafe { JsError::from(error).throw_into(env) };
        ptr::null_mut()
    })
}

/// # Safety
/// As [`call`].
unsafe fn to_value(env: sys::napi_env, answer: Answer) -> napi::Result<sys::napi_value> {
    // Null is `undefined` to JavaScript.
    let mut value = ptr::null_mut();
    let status = match answer {
        Answer::Nothing => sys::Status::napi_ok,
        // SAFETY: `value` has room for the handle, which is of the call's scope.
        Answer::False => unsafe { sys::napi_get_boolean(env, false, &raw mut value) },
        // SAFETY: any number can be a value; `value` has room for its handle.
        Answer::Number(number) => unsafe { sys::napi_create_double(env, number, &raw mut value) },
        // SAFETY: it makes handles in the scope of the call that goes on in `env`.
        Answer::Faults(faults) => return unsafe { NativeFaults::to_napi_value(env, faults) },
        // SAFETY: it makes handles in the scope of the call that goes on in `env`.
        Answer::MadeMappings(made) => return unsafe { Vec::to_napi_value(env, made) },
    };
    napi::check_status!(status)?;
    Ok(value)
}

/// What a call was given.
struct Given<'call, const N: usize> {
    /// The memory's handle.
    memory: f64,
    bytes: Bytes<'call>,
    numbers: Numbers<N>,
}

/// # Safety
/// As [`call`].
unsafe fn given<'call, const N: usize>(
    env: sys::napi_env,
    info: sys::napi_callback_info,
) -> Result<Given<'call, N>, Error> {
    const { assert!(N + 2 <= MOST_VALUES) };
    let mut count = MOST_VALUES;
    let mut values = [ptr::null_mut(); MOST_VALUES];
    // SAFETY: there is room for `count` values; Node-API fills in `undefined` for missing ones.
    let status = unsafe {
        sys::napi_get_cb_info(
            env,
            info,
            &raw mut count,
            values.as_mut_ptr(),
            ptr::null_mut(),
            ptr::null_mut(),
        )
    };
    let mut is_right = status == sys::Status::napi_ok;
    let mut number = |value| {
        let mut number = 0.0;
        // SAFETY: a handle of this call, which lives as long. What is no number is refused.
        is_right &= unsafe { sys::napi_get_value_double(env, value, &raw mut number) }
            == sys::Status::napi_ok;
        number
    };
    let [memory, array, rest @ ..] = values;
    let memory = number(memory);
    let mut numbers = [0.0; N];
    for (value, place) in rest.into_iter().zip(&mut numbers) {
        *place = number(value);
    }
    // SAFETY: a handle of this call, which lives for `'call`. What is no Uint8Array is refused.
    let bytes = unsafe { Bytes::of(env, array) };
    let Some(bytes) = bytes.filter(|_| is_right) else {
        return Err(internal("a handle, a Uint8Array and numbers were expected"));
    };
    Ok(Given { memory, bytes, numbers })
}
