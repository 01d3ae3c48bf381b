//! Writes random valid modules (wasm-smith) to a file, one behind another, each with its length
//! before it (32 bits, little endian). What module a number gives does not depend on how many are
//! asked for.
//!
//! `cargo run -- FILE SEED COUNT`

use arbitrary::Unstructured;
use std::error::Error;
use std::io::Write;
use wasm_smith::{Config, Module};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [file, seed, count] = arguments.as_slice() else { return Err("FILE SEED COUNT".into()) };
    let (seed, count): (u64, u64) = (seed.parse()?, count.parse()?);
    let mut out = std::io::BufWriter::new(std::fs::File::create(file)?);
    for index in 0..count {
        let bytes = module(seed.wrapping_add(index))?;
        out.write_all(&u32::try_from(bytes.len())?.to_le_bytes())?;
        out.write_all(&bytes)?;
    }
    out.flush()?;
    Ok(())
}

fn module(number: u64) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut random = SplitMix(number);
    loop {
        // Small ones more often.
        let words = 50 << random.below(8);
        let data: Vec<u8> =
            std::iter::repeat_with(|| random.next().to_le_bytes()).take(words).flatten().collect();
        match Module::new(config(&mut random), &mut Unstructured::new(&data)) {
            Ok(module) => return Ok(module.to_bytes()),
            // What is asked for can't be made of these numbers.
            Err(arbitrary::Error::IncorrectFormat | arbitrary::Error::NotEnoughData) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Each newer proposal is there in some modules only, so that old V8s take many of them.
fn config(random: &mut SplitMix) -> Config {
    let mut often = |one_in: u64| random.below(one_in) == 0;
    let modern = often(2);
    Config {
        max_imports: if often(2) { 0 } else { 20 },
        min_memories: u32::from(!often(5)),
        max_memories: if modern && often(4) { 4 } else { 1 },
        max_tables: if often(2) { 1 } else { 4 },
        gc_enabled: modern && often(2),
        exceptions_enabled: modern && often(2),
        memory64_enabled: modern && often(2),
        tail_call_enabled: modern,
        relaxed_simd_enabled: modern,
        simd_enabled: often(2),
        threads_enabled: often(3),
        export_everything: often(4),
        generate_custom_sections: often(2),
        min_uleb_size: if often(3) { 5 } else { 1 },
        max_instructions: if often(3) { 2000 } else { 100 },
        // Of proposals that no V8 takes yet.
        wide_arithmetic_enabled: false,
        compact_imports_enabled: false,
        // A start function may run for ever.
        allow_start_export: false,
        max_memory32_bytes: 16 << 20,
        max_memory64_bytes: 16 << 20,
        max_table_elements: 10_000,
        ..Config::default()
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
}
