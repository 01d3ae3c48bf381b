//! Everything that calls the kernel. The rest of the crate makes no system call and holds no
//! `unsafe` but where it says which pages may be replaced; a port to another kernel is a port of
//! this folder.
//!
//! - `page`: host pages, Wasm pages, and the types that keep bytes and pages apart
//! - `mmap`: mappings, and replacing the pages of an address range without ever leaving a hole
//! - `memfd`: anonymous files and their seals
//! - `checked_fd`: descriptors that are kept for long, and what protects them from a double close
//! - `owned_span`: the right to replace pages, which all that does so takes
//! - `random`: numbers that nobody can guess
//! - `pagemap`: which pages are the process's own
//! - `contents`: reading and writing the bytes of a memory
//! - `clock`: time that is cheap to ask for
//! - `file`: opening and examining files, copying inside the kernel
//! - `futex`: waiting for a word of a file, and waking who waits
//! - `kept`: descriptors that are kept for signal handlers
//! - `page_query`: what single system calls tell about one page
//! - `mark`: proof that a reservation is still the one that it was
//! - `process_map`: what lies where in this process, by the kernel's own account
//! - `notes`: what loaded libraries say of themselves
//! - `socket`: Unix sockets, and descriptors that travel through them
//! - `signal`: the handler for SIGSEGV and SIGBUS, above those that are there
//! - `wake`: waking a thread from a signal handler
//! - `vma_budget`: head room in the number of mappings
//! - `limits`: what the machine and the process allow
//! - `inject`: makes any of these calls fail, for tests

// System calls take addresses; each file says why its own are right.
#![allow(unsafe_code)]

pub mod alloc;
pub mod checked_fd;
pub mod clock;
pub mod contents;
pub mod fault_info;
pub mod file;
pub mod futex;
pub mod inject;
pub mod kept;
pub mod limits;
pub mod loaded;
mod maps_text;
pub mod mark;
pub mod memfd;
pub mod mmap;
pub mod owned_span;
pub mod page;
pub mod page_query;
pub mod pagemap;
pub mod placeholder;
pub mod process;
pub mod process_map;
mod procmap_query;
pub mod random;
pub mod signal;
pub mod socket;
pub mod thread;
mod vma;
pub mod vma_budget;
pub mod wake;

mod error;
mod width;

pub use error::{SysError, SysResult};
pub(crate) use width::{difference, sum, to_u64, to_usize};

#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
compile_error!("wasm-hostmap supports Linux on x64 and arm64 only");
