//! Names in rewritten modules. They are public, and users keep modules that have them in files, so
//! they may not change.

/// The custom section that holds the report.
pub const SECTION: &str = "wasm-hostmap";
/// The start of the name of each added export.
pub const PREFIX: &str = "hostmap:";
/// The module name that the host's functions are imported from, unless the module uses it already.
pub(super) const IMPORT_MODULE: &str = "hostmap";
