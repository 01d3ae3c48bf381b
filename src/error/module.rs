//! What is wrong with a module's bytes, or keeps it from being rewritten.

use super::causes::causes;

causes! {
    pub enum ModuleError {
        #[error("the bytes are no WebAssembly module that can be read: {what}, at byte {at}")]
        Unreadable { what: String, at: u64 } => InvalidValue,

        #[error("the bytes are no WebAssembly module that can be read: it is a component; pass one of its core modules")]
        Component => InvalidValue,

        #[error("the bytes are no WebAssembly module that can be read: it has {count} {things}, and no engine takes more than {limit}")]
        TooMany { things: &'static str, count: u32, limit: u32 } => InvalidValue,

        #[error("the bytes are no WebAssembly module that can be read: a section ends past its end")]
        CutSection => InvalidValue,

        #[error("a section of the rewritten module would have more than 4 GiB")]
        SectionTooLong => InvalidValue,

        #[error("the module was exposed by another version of wasm-hostmap: its report has version {found}, and this package reads version {known}; pass the bytes that the module was made from")]
        ReportVersion { found: u8, known: u8 } => UnsuitableModule,

        #[error("the module hides more than {most} mutable globals and tables, and each would become an export: more than V8 takes; pass a module that keeps its state in memory")]
        HidesTooMuch { most: u32 } => UnsuitableModule,

        #[error("growth can't be watched in the module: some of its code can't be read, and may grow memories")]
        UnreadCode => UnsuitableModule,

        #[error("growth can't be watched in the module: some of its types can't be read")]
        UnreadTypes => UnsuitableModule,

        #[error("growth can't be watched in the module: its code grows more memories than any process could have")]
        GrowsTooMany => UnsuitableModule,

        #[error("growth can't be watched in the module: its code grows memory {index}, which it doesn't have")]
        GrowsNone { index: u32 } => UnsuitableModule,

        #[error("growth can't be watched in the module: it has too many functions")]
        TooManyFunctions => UnsuitableModule,

        #[error("growth can't be watched in the module: its code was not the same when it was read again")]
        ReadTwice => UnsuitableModule,

        #[error("growth can't be watched in the module: {why}")]
        NotRewritten { why: String } => UnsuitableModule,

        #[error("there is no memory for what is known of the module ({errno:?}); free memory, or raise the limit")]
        NoMemory { errno: nix::errno::Errno } => OutOfMemory,

        #[error("there is no memory for a copy of the module's {byte_length} bytes")]
        NoMemoryForCopy { byte_length: usize } => OutOfMemory,
    }
}
