//! Where the bytes of an array are, as V8 tells it in the same call; and the one place where a
//! living memory is made of that. Nothing here keeps an address for a later call.

// It asks Node-API about values, and promises that a memory is alive.
#![allow(unsafe_code)]

use super::internal;
use crate::error::Error;
use crate::sys::alloc;
use crate::v8::array_bytes::{ArrayBytes, Holders, KeptAllocation};
use crate::v8::live_memory::{LiveMemory, MemoryExtent};
use napi::bindgen_prelude::{JsValue, Unknown};
use napi::{Env, sys};
use std::marker::PhantomData;

/// The bytes of a Uint8Array, by V8's answer of this call.
pub(super) struct Bytes<'call> {
    /// 0 if the buffer is detached.
    pub(super) address: u64,
    pub(super) byte_length: u64,
    call: PhantomData<&'call ()>,
}

impl<'call> Bytes<'call> {
    /// Works over SharedArrayBuffers on every Node version, which `napi_get_arraybuffer_info` does
    /// not. `None`: the value is no Uint8Array.
    ///
    /// # Safety
    /// `env` and `array` are those of a call of Node-API's that lasts for `'call`.
    pub(super) unsafe fn of(env: sys::napi_env, array: sys::napi_value) -> Option<Self> {
        let (mut kind, mut length, mut data) = (0, 0_usize, std::ptr::null_mut());
        // SAFETY: the caller has both from Node-API, which refuses what is no typed array. Each
        // result has a place or is not asked for.
        let status = unsafe {
            sys::napi_get_typedarray_info(
                env,
                array,
                &raw mut kind,
                &raw mut length,
                &raw mut data,
                std::ptr::null_mut(),
                std::ptr::null_mut(),
            )
        };
        let is_right = status == sys::Status::napi_ok && kind == sys::TypedarrayType::uint8_array;
        let (address, byte_length) =
            (crate::sys::to_u64(data as usize), crate::sys::to_u64(length));
        is_right.then_some(Self { address, byte_length, call: PhantomData })
    }

    /// A copy of them. No reference to an array's bytes is ever made: other threads may write them,
    /// and they may be a mapping of a file that others change.
    pub(super) fn copy(&self) -> Result<Vec<u8>, alloc::Refused> {
        let length = crate::sys::to_usize(self.byte_length);
        let mut copy = alloc::with_room(length)?;
        if length > 0 {
            // SAFETY: V8 has told in this call that so many bytes are there, so the address is not
            // null; there is room for as many, and all of them are written before they count.
            unsafe {
                let from = crate::sys::to_usize(self.address) as *const u8;
                std::ptr::copy_nonoverlapping(from, copy.as_mut_ptr(), length);
                copy.set_len(length);
            }
        }
        Ok(copy)
    }

    /// Where they would be as a memory. They need not be one's.
    pub(super) fn extent(&self) -> Result<MemoryExtent, Error> {
        Ok(MemoryExtent::new(self.address, self.byte_length)?)
    }

    /// The bytes as those of the buffer that the array is over, for a call that moves or copies
    /// them. `None`: there are none.
    ///
    /// `holders`: lib/ says [`Holders::One`] of a buffer that Node.js would transfer to another
    /// thread: V8 can detach it, nothing has marked it as one to stay, and it is neither shared nor
    /// resizable. V8 has one buffer for each allocation. What native code of others still does with
    /// the address, it does with memory that stays mapped.
    ///
    /// The rest is as for [`Self::live_memory`]: V8 has told both numbers in this call, the array
    /// holds its buffer, and no Rust slice of it is made in such a call.
    pub(super) fn array_bytes(&self, holders: Holders) -> Option<ArrayBytes<'call>> {
        // SAFETY: as above.
        unsafe { ArrayBytes::new(self.address, self.byte_length, holders) }
    }

    /// The memory whose buffer the array is over.
    ///
    /// This is the promise on which the whole core rests:
    ///
    /// - *It is a memory.* lib/ alone reaches the functions that come here (users never see the
    ///   binding), and it makes the array itself: of the buffer of a `WebAssembly.Memory`, or of a
    ///   buffer around which the process's map showed a memory's guards. It starts at the buffer's
    ///   first byte.
    /// - *It is alive.* The array is a live handle of this call's scope. It holds its buffer, and a
    ///   buffer keeps its memory alive (Node 20 to 26).
    /// - *It is as long as V8 says.* Both numbers are V8's answer about this array in this call; a
    ///   detached buffer has address 0 and is refused. JavaScript of this thread does not run
    ///   before the call is over, and a memory that other threads see grows, but neither shrinks
    ///   nor moves.
    /// - *No Rust reference points into it.* The bytes of an array are copied or left to the kernel
    ///   (`copy`, `address`). Where napi-rs makes a slice of an array, lib/ passes none over a
    ///   memory.
    pub(super) fn live_memory(&self) -> Result<LiveMemory<'call>, Error> {
        let extent = self.extent()?;
        // SAFETY: the four points above.
        Ok(unsafe { LiveMemory::new(extent) })
    }
}

/// The allocation of a buffer that was adopted, and detached since. `_call`: a value of the call
/// that goes on.
///
/// lib/ says so only of one that it has in a message of its own that nobody has received: what is
/// in a message is freed no earlier than the message, and that is there as long as its port, which
/// lib/ has just found open. Its buffer was one of [`Holders::One`]. No JavaScript of this thread
/// runs before the call is over, and no other thread can receive it.
pub(super) fn kept_allocation<'call>(_call: &Unknown<'call>) -> KeptAllocation<'call> {
    // SAFETY: as above.
    unsafe { KeptAllocation::assume() }
}

/// The bytes of an argument that must be a Uint8Array.
pub(super) fn bytes_of<'call>(env: Env, array: Unknown<'call>) -> Result<Bytes<'call>, Error> {
    // SAFETY: napi-rs has both from the call that is going on, and binds the handle's lifetime to
    // its scope.
    unsafe { Bytes::of(env.raw(), array.raw()) }
        .ok_or_else(|| internal("a Uint8Array was expected"))
}

/// The memory that an argument is an array over.
pub(super) fn live_memory<'call>(
    env: Env,
    array: Unknown<'call>,
) -> Result<LiveMemory<'call>, Error> {
    bytes_of(env, array)?.live_memory()
}
