//! What handing a region to a linear memory costs in bare system calls.
//!
//! A reservation is laid out as V8 lays out a linear memory, and a memfd of the same size is mapped
//! into it and replaced by zeros again, round after round:
//!
//! ```text
//!  reservation, 10 GiB or more, PROT_NONE
//!  | linear memory, read-write                      |            inaccessible           |
//!  | 64 KiB |  memfd <-> zeros, byte_length | 64 KiB |
//!           ^ the two mmap calls of a round
//! ```
//!
//! The first and last Wasm page stay anonymous, so that a round splits and joins VMAs as a real
//! mapping inside a memory does. No page is touched.
//!
//! `bare` makes those two calls and no other. `advised` also makes the calls of `madvise` that
//! wasm-hostmap makes with them: V8 keeps linear memories from being forked, so unmapped pages must
//! be too, or their VMAs would not merge; and mappings that can be written stay out of core dumps.
//! What is slower than `advised` is not the kernel's time.
//!
//! A sample is a batch's time divided by its rounds, by the same plan as in bench/lib/measure.mjs.

use crate::plan::Plan;
use crate::system::{WASM_PAGE, advise, linear_memory, map_over, memfd, parse};
use libc::{
    MADV_DONTDUMP, MADV_DONTFORK, MAP_ANONYMOUS, MAP_NORESERVE, MAP_PRIVATE, MAP_SHARED, PROT_READ,
    PROT_WRITE,
};
use std::os::fd::AsRawFd;

pub const USAGE: &str =
    "bare|advised readonly|private|shared BYTE_LENGTH WARMUP_BATCHES BATCHES ROUNDS_PER_BATCH";

/// Nanoseconds per round, one sample for each batch.
pub fn run(args: &[String]) -> Result<Vec<f64>, String> {
    let [calls, access, numbers @ ..] = args else {
        return Err(USAGE.into());
    };
    let advised = match calls.as_str() {
        "bare" => false,
        "advised" => true,
        _ => return Err(USAGE.into()),
    };
    // As the accesses of these names do it. `readonly` is a private mapping too: V8's `grow` makes
    // its pages writable, and a store must not reach the region then.
    let (protection, sharing) = match access.as_str() {
        "readonly" => (PROT_READ, MAP_PRIVATE),
        "private" => (PROT_READ | PROT_WRITE, MAP_PRIVATE),
        "shared" => (PROT_READ | PROT_WRITE, MAP_SHARED),
        _ => return Err(USAGE.into()),
    };
    let [byte_length, plan @ ..] = numbers else {
        return Err(USAGE.into());
    };
    let byte_length: usize = parse(byte_length)?;
    let plan = Plan::parse(plan)?;

    let linear_length = byte_length + 2 * WASM_PAGE;
    let base = linear_memory(linear_length)?;
    if advised {
        // SAFETY: the advice changes no contents.
        unsafe { advise(base, linear_length, MADV_DONTFORK)? };
    }
    let target = base.wrapping_byte_add(WASM_PAGE);
    let file = memfd(byte_length)?;
    let fd = file.as_raw_fd();
    plan.time(|_| {
        // SAFETY: the range is inside the linear memory, and nothing refers to what is in it.
        unsafe {
            map_over(target, byte_length, protection, sharing, fd, 0)?;
            if advised && protection & PROT_WRITE != 0 {
                advise(target, byte_length, MADV_DONTDUMP)?;
            }
            let zeros = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
            map_over(target, byte_length, PROT_READ | PROT_WRITE, zeros, -1, 0)?;
            if advised {
                advise(target, byte_length, MADV_DONTFORK)?;
            }
        }
        Ok(())
    })
}
