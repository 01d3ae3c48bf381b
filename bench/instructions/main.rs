//! What the core does many times over, alone: `measure.mjs` counts the instructions.
//!
//! `instructions CASE ROUNDS [FILE]`

#![allow(clippy::arithmetic_side_effects)] // A number of rounds, as in tests.

#[path = "../../tests/support/mod.rs"]
mod support;

use std::sync::Arc;
use support::{PAGE, Reserved, page_bytes, pages};
use wasm_hostmap::access::Access;
use wasm_hostmap::fault;
use wasm_hostmap::memory::Memory;
use wasm_hostmap::memory::window_state::{Tail, WindowSpec};
use wasm_hostmap::module::{expose_state, instrument_growth};
use wasm_hostmap::region::Region;
use wasm_hostmap::region::thp::PageKind;
use wasm_hostmap::snapshot::capture::{Afterwards, capture};
use wasm_hostmap::snapshot::complete::complete;
use wasm_hostmap::snapshot::metadata::About;
use wasm_hostmap::snapshot::restore::restore;
use wasm_hostmap::snapshot::{Settings, Snapshot};
use wasm_hostmap::sys::page::PageAligned;
use wasm_hostmap::window;

const MEMORY_PAGES: u64 = 1024;
const DIRTY_PAGES: u64 = 100;
const SETTINGS: Settings = Settings { keep_resident_bytes: 1 << 20, huge_pages: false };

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["restore-clean", rounds] => restores(count(rounds), 0),
        ["restore-dirty", rounds] => restores(count(rounds), DIRTY_PAGES),
        ["map", rounds] => maps(count(rounds)),
        ["slide", rounds] => slides(count(rounds)),
        ["stray", rounds] => strays(count(rounds)),
        ["growth", rounds, file] => {
            modules(count(rounds), file, |bytes| instrument_growth(bytes).unwrap().bytes.len());
        }
        ["expose", rounds, file] => {
            modules(count(rounds), file, |bytes| expose_state(bytes).unwrap().bytes.len());
        }
        _ => panic!("usage: instructions CASE ROUNDS [FILE]"),
    }
}

fn count(rounds: &str) -> u64 {
    rounds.parse().expect("a number of rounds")
}

fn region() -> Region {
    let bytes = vec![7; usize::try_from(64 * page_bytes()).unwrap()];
    Region::copy_from(bytes.as_ptr() as u64, bytes.len() as u64, "region", PageKind::Ordinary)
        .unwrap()
}

fn snapshot(memory: &Memory, reserved: &Reserved) -> Snapshot {
    let place = reserved.place();
    let taken = capture(memory, place, "snapshot", &[], SETTINGS, Afterwards::Shares).unwrap();
    complete(&taken, About::default(), None).unwrap();
    taken
}

fn restores(rounds: u64, dirty: u64) {
    let reserved = Reserved::new(MEMORY_PAGES);
    let memory = Memory::attach(reserved.place()).unwrap();
    for page in 0..MEMORY_PAGES / 2 {
        reserved.write(page * page_bytes(), 1);
    }
    let taken = snapshot(&memory, &reserved);
    for _ in 0..rounds {
        for page in 0..dirty {
            reserved.write(page * 4 * page_bytes(), 2);
        }
        restore(&memory, reserved.place(), &taken).unwrap();
    }
}

fn maps(rounds: u64) {
    let region = Arc::new(region());
    let reserved = Reserved::new(MEMORY_PAGES);
    let memory = Memory::attach(reserved.place()).unwrap();
    let shown = region.pages(PageAligned::ZERO, region.byte_length()).unwrap();
    for _ in 0..rounds {
        let mapped = memory
            .map_at(reserved.place(), 16 * page_bytes(), &shown, Access::Readonly, false)
            .unwrap();
        memory.unmap(reserved.place(), mapped).unwrap();
    }
}

/// As `maps`, with a write to a page that is read-only.
fn strays(rounds: u64) {
    support::default_action();
    fault::ensure().unwrap();
    let region = Arc::new(region());
    let reserved = Reserved::new(MEMORY_PAGES);
    let memory = Memory::attach(reserved.place()).unwrap();
    let shown = region.pages(PageAligned::ZERO, region.byte_length()).unwrap();
    for _ in 0..rounds {
        let mapped = memory
            .map_at(reserved.place(), 16 * page_bytes(), &shown, Access::Readonly, false)
            .unwrap();
        reserved.write(17 * page_bytes(), 2);
        memory.unmap(reserved.place(), mapped).unwrap();
    }
}

fn slides(rounds: u64) {
    let region = region();
    let reserved = Reserved::new(MEMORY_PAGES);
    let memory = Memory::attach(reserved.place()).unwrap();
    let spec = WindowSpec { length: pages(8), access: Access::Readonly, tail: Tail::Zeros };
    let shown_at = 16 * page_bytes();
    let window = window::open_at(&memory, reserved.place(), shown_at, spec).unwrap();
    for round in 0..rounds {
        let start = PageAligned::new(round % 32 * PAGE.get()).unwrap();
        let shown = region.pages(start, 8 * page_bytes()).unwrap();
        let chunk = Some((&shown, Access::Readonly));
        assert!(window::slide(&memory, reserved.place(), window, chunk).unwrap());
    }
}

fn modules(rounds: u64, file: &str, rewrite: impl Fn(&[u8]) -> usize) {
    let bytes = std::fs::read(file).expect("the module");
    for _ in 0..rounds {
        assert!(rewrite(&bytes) > bytes.len());
    }
}
