#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| drop(wasm_hostmap_fuzz::snapshot(bytes)));
