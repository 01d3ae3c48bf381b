//! Functions that are called so often that the way through napi-rs shows: about 150 ns a call of borrow scopes and conversions
//! (measured on 3.16), a tenth of the system call that they are for. They speak Node-API themselves, with numbers only.

use super::internal;
use crate::error::Error;
use napi::bindgen_prelude::{JsObjectValue, Object, ToNapiValue};
use napi::{Env, JsError, sys};
use napi_derive::napi;
use std::ffi::CStr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

/// The numbers that a call was given.
type Numbers<const N: usize> = [f64; N];

/// What a call gives back.
enum Answer {
    /// `undefined`.
    Nothing,
    False,
    Number(f64),
    Numbers(Vec<f64>),
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

impl From<Option<Vec<f64>>> for Answer {
    fn from(numbers: Option<Vec<f64>>) -> Self {
        numbers.map_or(Self::Nothing, Self::Numbers)
    }
}

#[napi(module_exports)]
pub fn register(mut exports: Object<'_>, env: Env) -> napi::Result<()> {
    super::copies::keep(env, &exports)?;
    define(&mut exports, env, c"mapAt", map_at)?;
    define(&mut exports, env, c"unmap", unmap)?;
    define(&mut exports, env, c"slide", slide)?;
    define(&mut exports, env, c"restore", restore)?;
    define(&mut exports, env, c"reset", reset)
}

fn define(exports: &mut Object<'_>, env: Env, name: &CStr, callback: Callback) -> napi::Result<()> {
    let mut function = ptr::null_mut();
    // SAFETY: the name is a C string, and the callback lives as long as the addon, which is never unloaded.
    let status = unsafe {
        sys::napi_create_function(
            env.raw(),
            name.as_ptr(),
            isize::try_from(name.count_bytes()).unwrap_or(0),
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

/// See `memory::map_at`.
///
/// # Safety
/// Called by Node-API alone.
unsafe extern "C" fn map_at(env: sys::napi_env, info: sys::napi_callback_info) -> sys::napi_value {
    // SAFETY: what Node-API has called with.
    unsafe { call(env, info, super::memory::map_at) }
}

/// See `memory::unmap`.
///
/// # Safety
/// Called by Node-API alone.
unsafe extern "C" fn unmap(env: sys::napi_env, info: sys::napi_callback_info) -> sys::napi_value {
    // SAFETY: what Node-API has called with.
    unsafe { call(env, info, super::memory::unmap) }
}

/// See `window::slide`.
///
/// # Safety
/// Called by Node-API alone.
unsafe extern "C" fn slide(env: sys::napi_env, info: sys::napi_callback_info) -> sys::napi_value {
    // SAFETY: what Node-API has called with.
    unsafe { call(env, info, super::window::slide) }
}

/// See `snapshot::restore`.
///
/// # Safety
/// Called by Node-API alone.
unsafe extern "C" fn restore(env: sys::napi_env, info: sys::napi_callback_info) -> sys::napi_value {
    // SAFETY: what Node-API has called with.
    unsafe { call(env, info, super::snapshot::restore) }
}

/// See `snapshot::reset`.
///
/// # Safety
/// Called by Node-API alone.
unsafe extern "C" fn reset(env: sys::napi_env, info: sys::napi_callback_info) -> sys::napi_value {
    // SAFETY: what Node-API has called with.
    unsafe { call(env, info, super::snapshot::reset) }
}

/// Calls `work` with the numbers of this call, and gives its answer; what fails is thrown, and no panic gets out.
///
/// # Safety
/// `env` and `info` are those of a call of Node-API's that has not returned.
unsafe fn call<const N: usize, A: Into<Answer>>(
    env: sys::napi_env,
    info: sys::napi_callback_info,
    work: fn(Numbers<N>) -> Result<A, Error>,
) -> sys::napi_value {
    // SAFETY: the caller's promise.
    let numbers = unsafe { numbers(env, info) };
    let answer = catch_unwind(AssertUnwindSafe(|| work(numbers?)))
        .unwrap_or_else(|_| Err(internal("a panic; the process goes on")))
        .map_err(napi::Error::from)
        .and_then(|answer| {
            // SAFETY: as above.
            unsafe { to_value(env, answer.into()) }
        });
    answer.unwrap_or_else(|error| {
        // SAFETY: as above.
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
        // SAFETY: the caller's promise.
        Answer::False => unsafe { sys::napi_get_boolean(env, false, &raw mut value) },
        // SAFETY: as above.
        Answer::Number(number) => unsafe { sys::napi_create_double(env, number, &raw mut value) },
        // SAFETY: as above.
        Answer::Numbers(numbers) => return unsafe { Vec::to_napi_value(env, numbers) },
    };
    napi::check_status!(status)?;
    Ok(value)
}

/// # Safety
/// As [`call`].
unsafe fn numbers<const N: usize>(
    env: sys::napi_env,
    info: sys::napi_callback_info,
) -> Result<Numbers<N>, Error> {
    let mut count = N;
    let mut values = [ptr::null_mut(); N];
    // SAFETY: the caller's promise; there is room for `count` values.
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
    let mut numbers = [0.0; N];
    let mut is_right = status == sys::Status::napi_ok;
    for (value, number) in values.into_iter().zip(&mut numbers) {
        // SAFETY: a value of this call. Missing ones are `undefined`, and no numbers.
        is_right &= unsafe { sys::napi_get_value_double(env, value, number) } == sys::Status::napi_ok;
    }
    if is_right { Ok(numbers) } else { Err(internal("numbers were expected")) }
}
