//! Runs the fuzz targets on a stable toolchain: over each file of the corpus, and over mutations of
//! it that follow from a seed. Ends with an error at the first that panics, and writes it to
//! `artifacts/`. A file of the corpus that its target refuses is an error too: after a change of a
//! format, write the corpus anew.
//!
//! `cargo run --bin bounded -- [COUNT] [SEED]`: so many mutations for each target.

use std::error::Error;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use wasm_hostmap_fuzz::{Outcome, module, snapshot};

type Target = fn(&[u8]) -> Outcome;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let count: u64 = arguments.next().as_deref().unwrap_or("20000").parse()?;
    let seed: u64 = arguments.next().as_deref().unwrap_or("1").parse()?;
    for (name, target) in [("module", module as Target), ("snapshot", snapshot)] {
        let mut seeds = Vec::new();
        for path in corpus(name)? {
            let bytes = std::fs::read(&path)?;
            run(name, target, &bytes)?.map_err(|why| {
                let path = path.display();
                format!("{name} refuses the seed {path}: {why}; run `node fuzz/seeds.mjs`")
            })?;
            seeds.push(bytes);
        }
        let mut random = SplitMix(seed);
        for _ in 0..count {
            let mut bytes = random.of(&seeds).clone();
            for _ in 0..=random.below(4) {
                mutate(&mut bytes, &seeds, &mut random);
            }
            // Most mutations are refused.
            drop(run(name, target, &bytes)?);
        }
        println!("{name}: {} seeds and {count} mutations of them", seeds.len());
    }
    Ok(())
}

fn corpus(name: &str) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let directory = here().join("corpus").join(name);
    let mut paths: Vec<PathBuf> = std::fs::read_dir(&directory)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    paths.sort();
    if paths.is_empty() {
        Err(format!("{} is empty", directory.display()).into())
    } else {
        Ok(paths)
    }
}

fn run(name: &str, target: Target, bytes: &[u8]) -> Result<Outcome, Box<dyn Error>> {
    if let Ok(outcome) = catch_unwind(|| target(bytes)) {
        return Ok(outcome);
    }
    let directory = here().join("artifacts").join(name);
    std::fs::create_dir_all(&directory)?;
    let file = directory.join("bounded");
    std::fs::write(&file, bytes)?;
    Err(format!("{name} panicked; the bytes are in {}", file.display()).into())
}

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Changes, cuts, repeats or joins.
fn mutate(bytes: &mut Vec<u8>, seeds: &[Vec<u8>], random: &mut SplitMix) {
    let at = random.below(bytes.len() as u64 + 1) as usize;
    let end = at + random.below((bytes.len() - at) as u64 + 1) as usize;
    match random.below(7) {
        // One bit, one byte, one number that is often a limit.
        0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
        1 if at < bytes.len() => bytes[at] = random.next() as u8,
        2 if at < bytes.len() => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][random.below(5) as usize],
        3 => drop(bytes.drain(at..end.min(at + 16))),
        4 => bytes.truncate(at),
        5 => {
            let copy = bytes[at..end.min(at + 64)].to_vec();
            bytes.splice(at..at, copy);
        }
        _ => {
            let other = random.of(seeds);
            let from = random.below(other.len() as u64 + 1) as usize;
            let to = other.len().min(from + 64);
            bytes.splice(at..end.min(at + 64), other[from..to].iter().copied());
        }
    }
}

/// The generator of that name: what it gives follows from its seed.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn of<'a>(&mut self, list: &'a [Vec<u8>]) -> &'a Vec<u8> {
        &list[self.below(list.len() as u64) as usize]
    }
}
