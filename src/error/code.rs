//! The codes of errors: stable, and documented in index.d.ts. A code is never reworded or used for
//! something else.

macro_rules! codes {
    ($($variant:ident = $text:literal,)*) => {
        /// What went wrong, as a stable code.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Code { $($variant,)* }

        impl Code {
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

codes! {
    OutOfRange = "ERR_OUT_OF_RANGE",
    InvalidValue = "ERR_INVALID_ARG_VALUE",
    Aborted = "ABORT_ERR",
    RegionClosed = "ERR_HOSTMAP_REGION_CLOSED",
    RegionReadonly = "ERR_HOSTMAP_REGION_READONLY",
    RegionBusy = "ERR_HOSTMAP_REGION_BUSY",
    RegionPaged = "ERR_HOSTMAP_REGION_PAGED",
    NotAFile = "ERR_HOSTMAP_NOT_A_FILE",
    EmptyFile = "ERR_HOSTMAP_EMPTY_FILE",
    DescriptorLost = "ERR_HOSTMAP_DESCRIPTOR_LOST",
    ShareInvalid = "ERR_HOSTMAP_SHARE_INVALID",
    ShareUsed = "ERR_HOSTMAP_SHARE_USED",
    ShareClosed = "ERR_HOSTMAP_SHARE_CLOSED",
    ShareDenied = "ERR_HOSTMAP_SHARE_DENIED",
    TooManyShares = "ERR_HOSTMAP_TOO_MANY_SHARES",
    NameNotFound = "ERR_HOSTMAP_NAME_NOT_FOUND",
    NameTaken = "ERR_HOSTMAP_NAME_TAKEN",
    NameInvalid = "ERR_HOSTMAP_NAME_INVALID",
    FolderUnsafe = "ERR_HOSTMAP_FOLDER_UNSAFE",
    FolderBusy = "ERR_HOSTMAP_FOLDER_BUSY",
    FileShrunk = "ERR_HOSTMAP_FILE_SHRUNK",
    OpenFailed = "ERR_HOSTMAP_OPEN_FAILED",
    ReadFailed = "ERR_HOSTMAP_READ_FAILED",
    WriteFailed = "ERR_HOSTMAP_WRITE_FAILED",
    OutOfMemory = "ERR_HOSTMAP_OUT_OF_MEMORY",
    TooManyFiles = "ERR_HOSTMAP_TOO_MANY_FILES",
    MapFailed = "ERR_HOSTMAP_MAP_FAILED",
    MapCount = "ERR_HOSTMAP_MAP_COUNT",
    AddressSpace = "ERR_HOSTMAP_ADDRESS_SPACE",
    RlimitAddressSpace = "ERR_HOSTMAP_RLIMIT_AS",
    RlimitData = "ERR_HOSTMAP_RLIMIT_DATA",
    Overcommit = "ERR_HOSTMAP_OVERCOMMIT",
    MemoryRefused = "ERR_HOSTMAP_MEMORY_REFUSED",
    NotWasmMemory = "ERR_HOSTMAP_NOT_WASM_MEMORY",
    MemoryMoved = "ERR_HOSTMAP_MEMORY_MOVED",
    Overlap = "ERR_HOSTMAP_OVERLAP",
    Faulted = "ERR_HOSTMAP_FAULTED",
    SnapshotClosed = "ERR_HOSTMAP_SNAPSHOT_CLOSED",
    SnapshotMismatch = "ERR_HOSTMAP_SNAPSHOT_MISMATCH",
    SnapshotInvalid = "ERR_HOSTMAP_SNAPSHOT_INVALID",
    SnapshotUnguarded = "ERR_HOSTMAP_SNAPSHOT_UNGUARDED",
    UnsuitableModule = "ERR_HOSTMAP_UNSUITABLE_MODULE",
    NoExternalBuffers = "ERR_HOSTMAP_NO_EXTERNAL_BUFFERS",
    TwoVersions = "ERR_HOSTMAP_TWO_VERSIONS",
    Internal = "ERR_HOSTMAP_INTERNAL",
}
