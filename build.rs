use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    if env::var_os("CARGO_FEATURE_ADDON").is_some() {
        napi_build::setup();
    }
    // Node unloads an addon when the last worker that used it ends. Ours has a signal handler and a
    // thread by then.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");

    // Tells builds apart, which share a process only if they are the same (src/js/copies.rs).
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src");
    println!("cargo::rustc-env=HOSTMAP_BUILD={:016x}", fingerprint());
}

/// A number for what the sources say and which features are on. The same sources give the same
/// number on any machine. FNV-1a: nobody is to be fooled here, only a mistake found.
fn fingerprint() -> u64 {
    let mut files = Vec::new();
    list(Path::new("src"), &mut files);
    files.sort();
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut add = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    };
    for file in files {
        add(file.to_string_lossy().as_bytes());
        add(&fs::read(&file).expect("a source file can be read"));
    }
    if env::var_os("CARGO_FEATURE_INJECT").is_some() {
        add(b"inject");
    }
    hash
}

fn list(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("the sources can be listed") {
        let path = entry.expect("the sources can be listed").path();
        if path.is_dir() {
            list(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}
