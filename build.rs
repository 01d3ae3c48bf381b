fn main() {
    if std::env::var_os("CARGO_FEATURE_ADDON").is_some() {
        napi_build::setup();
    }
    // Node unloads an addon when the last worker that used it ends. Ours has a signal handler and a thread by then.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
}
