//! Names that the rewritten module has, and that others know it by. A name that is here is public:
//! modules that were stored have it.

/// The custom section with the report.
pub const SECTION: &str = "wasm-hostmap";
/// How the names of exports start that were added.
pub const PREFIX: &str = "hostmap:";
/// The module that the host's functions are imported from, if that is free.
pub(super) const IMPORT_MODULE: &str = "hostmap";
