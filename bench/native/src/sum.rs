//! The limit of streaming: the sum of a file's 64-bit integers, from one mapping of the whole file.
//!
//! The loops are those of bench/lib/stream.mjs: 64 bytes in a round, in four vectors of 128 bits,
//! or 32 bytes in four integers. The compiler must not make wider vectors of them, so this is built
//! for the baseline of the processor family, and the scalar loop's loads are volatile, which keeps
//! it from making vectors at all.

use crate::system::{MappedFile, parse};
use std::fs::File;
use std::thread;
use std::time::Instant;

pub const USAGE: &str = "sum PATH BYTE_LENGTH simd|scalar THREADS";

/// The nanoseconds of one pass, mapping and unmapping included, and the sum, modulo 2^64.
pub fn run(args: &[String]) -> Result<(u128, u64), String> {
    let [path, byte_length, instructions, threads] = args else {
        return Err(USAGE.into());
    };
    let byte_length: usize = parse(byte_length)?;
    let threads: usize = parse(threads)?;
    let add: fn(&[u8]) -> u64 = match instructions.as_str() {
        "simd" => simd,
        "scalar" => scalar,
        _ => return Err(USAGE.into()),
    };
    if threads == 0 || !byte_length.is_multiple_of(64 * threads) {
        return Err("BYTE_LENGTH must be a multiple of 64 for each thread".into());
    }
    let file = File::open(path).map_err(|error| format!("{path}: {error}"))?;

    let start = Instant::now();
    let mapped = MappedFile::new(&file, byte_length)?;
    let total = if threads == 1 {
        add(mapped.bytes())
    } else {
        let parts = mapped.bytes().chunks_exact(byte_length / threads);
        thread::scope(|scope| {
            let running: Vec<_> = parts.map(|part| scope.spawn(move || add(part))).collect();
            running
                .into_iter()
                .map(|thread| thread.join().expect("adding does not panic"))
                .fold(0, u64::wrapping_add)
        })
    };
    drop(mapped);
    Ok((start.elapsed().as_nanos(), total))
}

/// With four vectors of 128 bits. `bytes` is aligned to 64, and as long as a multiple of it.
pub fn simd(bytes: &[u8]) -> u64 {
    vectors::sum(bytes)
}

/// With four integers of 64 bits.
pub fn scalar(bytes: &[u8]) -> u64 {
    let mut sums = [0_u64; 4];
    for round in bytes.chunks_exact(32) {
        let words: *const u64 = round.as_ptr().cast();
        for (index, sum) in sums.iter_mut().enumerate() {
            // SAFETY: four integers are in 32 bytes, and a mapping's rounds are aligned to 32.
            *sum = sum.wrapping_add(unsafe { words.add(index).read_volatile() });
        }
    }
    sums.into_iter().fold(0, u64::wrapping_add)
}

#[cfg(target_arch = "x86_64")]
mod vectors {
    use std::arch::x86_64::{
        __m128i, _mm_add_epi64, _mm_load_si128, _mm_setzero_si128, _mm_storeu_si128,
    };

    pub fn sum(bytes: &[u8]) -> u64 {
        // SAFETY: SSE2 is in every x86-64. Four vectors are in 64 bytes, and a mapping's rounds are
        // aligned to 64.
        unsafe {
            let mut sums = [_mm_setzero_si128(); 4];
            for round in bytes.chunks_exact(64) {
                let vectors: *const __m128i = round.as_ptr().cast();
                for (index, sum) in sums.iter_mut().enumerate() {
                    *sum = _mm_add_epi64(*sum, _mm_load_si128(vectors.add(index)));
                }
            }
            let all =
                _mm_add_epi64(_mm_add_epi64(sums[0], sums[1]), _mm_add_epi64(sums[2], sums[3]));
            let mut lanes = [0_u64; 2];
            _mm_storeu_si128(lanes.as_mut_ptr().cast(), all);
            lanes[0].wrapping_add(lanes[1])
        }
    }
}

#[cfg(target_arch = "aarch64")]
mod vectors {
    use std::arch::aarch64::{vaddq_u64, vaddvq_u64, vdupq_n_u64, vld1q_u64};

    pub fn sum(bytes: &[u8]) -> u64 {
        // SAFETY: NEON is in every AArch64 that Linux runs on. Four vectors are in 64 bytes, and a
        // mapping's rounds are aligned to 64.
        unsafe {
            let mut sums = [vdupq_n_u64(0); 4];
            for round in bytes.chunks_exact(64) {
                let words: *const u64 = round.as_ptr().cast();
                for (index, sum) in sums.iter_mut().enumerate() {
                    *sum = vaddq_u64(*sum, vld1q_u64(words.add(2 * index)));
                }
            }
            vaddvq_u64(vaddq_u64(vaddq_u64(sums[0], sums[1]), vaddq_u64(sums[2], sums[3])))
        }
    }
}
