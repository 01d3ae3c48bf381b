//! The limit: what handing a region to a linear memory costs in bare system calls.
//!
//! A reservation is laid out as V8 lays out a linear memory, and a memfd of the same size is mapped into it and
//! replaced by zeros again, round after round:
//!
//! ```text
//!  reservation, 10 GiB, PROT_NONE
//!  | linear memory, read-write                      |            inaccessible           |
//!  | 64 KiB |  memfd <-> zeros, byte_length | 64 KiB |
//!           ^ the two mmap calls of a round
//! ```
//!
//! The first and last Wasm page stay anonymous, so that a round splits and joins VMAs as a real mapping inside a
//! memory does. No page is touched.
//!
//! `bare` makes those two calls and no other. `advised` also makes the calls of `madvise` that wasm-hostmap makes with
//! them: V8 keeps linear memories from being forked, so unmapped pages must be too, or their areas would not merge; and
//! mappings that can be written stay out of core dumps. What is slower than `advised` is not the kernel's time.
//!
//! A sample is a batch's time divided by its rounds, by the same plan as in bench/lib/measure.mjs.
//! Usage: see `USAGE`; prints `{"nsPerRound":[...]}`.

use std::{env, io, os::fd::RawFd, process::ExitCode, ptr, time::Instant};

use libc::{
    MADV_DONTDUMP, MADV_DONTFORK, MAP_ANONYMOUS, MAP_FAILED, MAP_FIXED, MAP_NORESERVE, MAP_PRIVATE,
    MAP_SHARED, PROT_NONE, PROT_READ, PROT_WRITE, c_int, c_void,
};

const USAGE: &str =
    "usage: bare|advised readonly|private|shared BYTE_LENGTH WARMUP_BATCHES BATCHES ROUNDS_PER_BATCH";
const WASM_PAGE: usize = 64 << 10;
const RESERVATION: usize = 10 << 30;

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    match run(&args) {
        Ok(samples) => {
            let list: Vec<String> = samples.iter().map(|ns| format!("{ns:.1}")).collect();
            println!("{{\"nsPerRound\":[{}]}}", list.join(","));
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

/// Nanoseconds per round, one sample for each batch.
fn run(args: &[String]) -> Result<Vec<f64>, String> {
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
    let numbers: Vec<usize> = numbers.iter().map_while(|text| text.parse().ok()).collect();
    let &[byte_length, warmup_batches, batches, rounds_per_batch] = numbers.as_slice() else {
        return Err(USAGE.into());
    };

    let linear_length = byte_length + 2 * WASM_PAGE;
    let base = linear_memory(linear_length)?;
    if advised {
        advise(base, linear_length, MADV_DONTFORK)?;
    }
    let target = base.wrapping_byte_add(WASM_PAGE);
    let fd = memfd(byte_length)?;
    let mut samples = Vec::with_capacity(batches);
    for batch in 0..warmup_batches + batches {
        let start = Instant::now();
        for _ in 0..rounds_per_batch {
            // SAFETY: the range lies inside the linear memory, and nothing refers to what is in it.
            unsafe {
                map_over(target, byte_length, protection, sharing, fd)?;
                if advised && protection & PROT_WRITE != 0 {
                    advise(target, byte_length, MADV_DONTDUMP)?;
                }
                let zeros = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
                map_over(target, byte_length, PROT_READ | PROT_WRITE, zeros, -1)?;
                if advised {
                    advise(target, byte_length, MADV_DONTFORK)?;
                }
            }
        }
        if batch >= warmup_batches {
            samples.push(start.elapsed().as_nanos() as f64 / rounds_per_batch as f64);
        }
    }
    Ok(samples)
}

/// The base of a reservation whose first `byte_length` bytes are readable and writable.
fn linear_memory(byte_length: usize) -> Result<*mut c_void, String> {
    if byte_length > RESERVATION {
        return Err(format!("{byte_length} bytes don't fit into the reservation"));
    }
    let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    // SAFETY: without MAP_FIXED the kernel chooses an address where nothing is mapped.
    let base = unsafe { libc::mmap(ptr::null_mut(), RESERVATION, PROT_NONE, flags, -1, 0) };
    if base == MAP_FAILED {
        return Err(last_error("mmap"));
    }
    // SAFETY: the range lies in the reservation, which is ours.
    if unsafe { libc::mprotect(base, byte_length, PROT_READ | PROT_WRITE) } != 0 {
        return Err(last_error("mprotect"));
    }
    Ok(base)
}

/// A memfd that has no page yet: the calls that are timed never touch one.
fn memfd(byte_length: usize) -> Result<RawFd, String> {
    // SAFETY: the name is a C string.
    let fd = unsafe { libc::memfd_create(c"bench".as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        return Err(last_error("memfd_create"));
    }
    let file_length = libc::off_t::try_from(byte_length).map_err(|error| error.to_string())?;
    // SAFETY: a call without pointers.
    if unsafe { libc::ftruncate(fd, file_length) } != 0 {
        return Err(last_error("ftruncate"));
    }
    Ok(fd)
}

/// Replaces a range by a mapping of `fd`, or of zeros.
///
/// # Safety
/// The range must be mapped, and nothing may refer to what is in it.
unsafe fn map_over(
    at: *mut c_void,
    byte_length: usize,
    protection: c_int,
    flags: c_int,
    fd: RawFd,
) -> Result<(), String> {
    // SAFETY: the caller's promise.
    let mapped = unsafe { libc::mmap(at, byte_length, protection, flags | MAP_FIXED, fd, 0) };
    if mapped == at { Ok(()) } else { Err(last_error("mmap")) }
}

/// `advice` must be of the kind that changes no contents.
fn advise(at: *mut c_void, byte_length: usize, advice: c_int) -> Result<(), String> {
    // SAFETY: contents and access stay as they are.
    if unsafe { libc::madvise(at, byte_length, advice) } == 0 { Ok(()) } else { Err(last_error("madvise")) }
}

fn last_error(call: &str) -> String {
    format!("{call}: {}", io::Error::last_os_error())
}
