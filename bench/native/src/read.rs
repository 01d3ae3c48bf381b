//! The limit of reading: the loops of bench/lib/sum.mjs and bench/lib/random.mjs, compiled
//! natively, over a mapping of the same file. Huge pages are mapped as such, because the address
//! and the offset in the file are multiples of 2 MiB.
//!
//! The compiler must not use wider vectors than the module: see sum.rs.

use crate::sum;
use crate::system::{MappedFile, parse};
use std::fs::File;
use std::time::Instant;

pub const USAGE: &str = "read PATH BYTE_LENGTH untouched|touched simd|scalar ROUNDS\n       \
     read PATH BYTE_LENGTH untouched|touched random|chain READS ROUNDS";

/// Nanoseconds of each round, the first one of pages that were never touched through this mapping
/// unless `touched` did, and what was added up in the last one, modulo 2^64.
pub fn run(args: &[String]) -> Result<(Vec<u128>, u64), String> {
    let [path, byte_length, state, program, numbers @ ..] = args else {
        return Err(USAGE.into());
    };
    let byte_length: usize = parse(byte_length)?;
    if byte_length == 0 || !byte_length.is_multiple_of(64) {
        return Err("BYTE_LENGTH must be a multiple of 64".into());
    }
    let file = File::open(path).map_err(|error| format!("{path}: {error}"))?;
    let mapped = MappedFile::at_huge_page(&file, byte_length)?;
    match state.as_str() {
        "untouched" => {}
        "touched" => mapped.touch(),
        _ => return Err(USAGE.into()),
    }
    let bytes = mapped.bytes();
    match (program.as_str(), numbers) {
        ("simd", [rounds]) => Ok(time(parse(rounds)?, || sum::simd(bytes))),
        ("scalar", [rounds]) => Ok(time(parse(rounds)?, || sum::scalar(bytes))),
        ("random", [reads, rounds]) => {
            let reads = parse(reads)?;
            Ok(time(parse(rounds)?, || random::<false>(bytes, reads)))
        }
        ("chain", [reads, rounds]) => {
            let reads = parse(reads)?;
            Ok(time(parse(rounds)?, || random::<true>(bytes, reads)))
        }
        _ => Err(USAGE.into()),
    }
}

fn time(rounds: usize, mut round: impl FnMut() -> u64) -> (Vec<u128>, u64) {
    let mut sum = 0;
    let ns = (0..rounds)
        .map(|_| {
            let start = Instant::now();
            sum = round();
            start.elapsed().as_nanos()
        })
        .collect();
    (ns, sum)
}

/// The sum of words at places that xorshift64 chooses. In a chain each place depends on the word
/// before.
fn random<const CHAIN: bool>(bytes: &[u8], reads: u32) -> u64 {
    let words: *const u64 = bytes.as_ptr().cast();
    let count = (bytes.len() / size_of::<u64>()) as u64;
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
    let (mut sum, mut word) = (0_u64, 0_u64);
    for _ in 0..reads {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let chosen = if CHAIN { state ^ word } else { state } >> 32;
        // Less than `count`, which is at most 2^32.
        let index = ((chosen * count) >> 32) as usize;
        // SAFETY: `index` is less than the number of words, and a mapping is aligned.
        word = unsafe { words.add(index).read_volatile() };
        sum = sum.wrapping_add(word);
    }
    sum
}
