#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| wasm_hostmap_fuzz::module(bytes));
