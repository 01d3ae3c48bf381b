//! The limit of reading: the loops of bench/lib/sum.mjs and bench/lib/random.mjs, compiled
//! natively, over a mapping of the same file. Huge pages are mapped as such, because the address
//! and the offset in the file are multiples of 2 MiB.
//!
//! The compiler must not use wider vectors than the module: see sum.rs.

use crate::sum;
use crate::system::{MappedFile, parse};
use std::fs::File;
use std::time::Instant;

pub const USAGE: &str = "read PATH BYTE_LENGTH STATE simd|scalar ROUNDS\n       \
     read PATH BYTE_LENGTH STATE random|chain READS ROUNDS\n       \
     STATE: untouched|touched|sequential|populated|ahead-touch|ahead-pages|ahead-strides";

/// How pages get into the page table. All but `Touched` is part of the first round.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// By the first read of each.
    Untouched,
    Touched,
    /// The same as `Untouched`, with `MADV_SEQUENTIAL`.
    Sequential,
    /// All at once, by `MADV_POPULATE_READ`.
    Populated,
    /// By another thread, from the first to the last: one read of each 64 KiB, which the kernel
    /// maps as one; `MADV_POPULATE_READ` of a page of each, or of 2 MiB.
    AheadTouch,
    AheadPages,
    AheadStrides,
}

impl State {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "untouched" => Self::Untouched,
            "touched" => Self::Touched,
            "sequential" => Self::Sequential,
            "populated" => Self::Populated,
            "ahead-touch" => Self::AheadTouch,
            "ahead-pages" => Self::AheadPages,
            "ahead-strides" => Self::AheadStrides,
            _ => return None,
        })
    }

    /// What comes before the first read of this thread.
    fn prepare(self, mapped: &MappedFile) {
        match self {
            Self::Sequential => mapped.advise(0, mapped.bytes().len(), libc::MADV_SEQUENTIAL),
            Self::Populated => mapped.advise(0, mapped.bytes().len(), libc::MADV_POPULATE_READ),
            _ => {}
        }
    }

    /// What another thread does while this one reads.
    fn go_ahead(self, mapped: &MappedFile) {
        const AROUND: usize = 64 << 10;
        const STRIDE: usize = 2 << 20;
        let bytes = mapped.bytes();
        match self {
            Self::AheadTouch => {
                for byte in bytes.iter().step_by(AROUND) {
                    // SAFETY: a reference can be read.
                    unsafe { std::ptr::from_ref(byte).read_volatile() };
                }
            }
            Self::AheadPages => {
                for at in (0..bytes.len()).step_by(AROUND) {
                    mapped.advise(at, 1, libc::MADV_POPULATE_READ);
                }
            }
            Self::AheadStrides => {
                for at in (0..bytes.len()).step_by(STRIDE) {
                    mapped.advise(at, STRIDE.min(bytes.len() - at), libc::MADV_POPULATE_READ);
                }
            }
            _ => {}
        }
    }
}

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
    let state = State::parse(state).ok_or(USAGE)?;
    if state == State::Touched {
        mapped.touch();
    }
    let time = |rounds, round: &mut dyn FnMut() -> u64| {
        std::thread::scope(|scope| {
            let mut first = Some(|| {
                state.prepare(&mapped);
                scope.spawn(|| state.go_ahead(&mapped));
            });
            time(rounds, || {
                if let Some(begin) = first.take() {
                    begin();
                }
                round()
            })
        })
    };
    let bytes = mapped.bytes();
    match (program.as_str(), numbers) {
        ("simd", [rounds]) => Ok(time(parse(rounds)?, &mut || sum::simd(bytes))),
        ("scalar", [rounds]) => Ok(time(parse(rounds)?, &mut || sum::scalar(bytes))),
        ("random", [reads, rounds]) => {
            let reads = parse(reads)?;
            Ok(time(parse(rounds)?, &mut || random::<false>(bytes, reads)))
        }
        ("chain", [reads, rounds]) => {
            let reads = parse(reads)?;
            Ok(time(parse(rounds)?, &mut || random::<true>(bytes, reads)))
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
