//! Everything that calls the kernel or the C library. A port to another system is a port of this
//! folder: each file has one family of calls, and names them at its head.
//!
//! Addresses of pages
//! - `page`: host pages and Wasm pages, and the types that keep pages and bytes apart
//! - `owned_span`: the right to replace, protect and drop pages
//! - `mmap`: mapping pages, and replacing them without ever leaving a hole (mmap, mremap, madvise)
//! - `placeholder`: address space that is taken and not used (mmap)
//! - `contents`: the bytes of a memory (no call)
//! - `vma`: one VMA, as data
//! - `process_map`: what is mapped where; chooses between
//!   - `procmap_query`: one VMA, by ioctl(PROCMAP_QUERY)
//!   - `maps_text`: all VMAs, by reading /proc/self/maps
//! - `pagemap`: which pages are the process's own, by ioctl(PAGEMAP_SCAN) and /proc/self/pagemap
//! - `page_query`: what single calls tell of one page, in a handler
//! - `mark`: proof that a reservation is still the one that it was (/proc/self/mem)
//! - `userfault`: missing pages of memfds that raise SIGBUS (userfaultfd)
//! - `vma_budget`: how many more VMAs the process may have
//! - `limits`: what the machine and the process allow (getrlimit, /proc/sys)
//! - `probe`: which optional calls this kernel has
//!
//! Files and descriptors
//! - `file`: opening, examining, copying, reading and writing files
//! - `folder`: folders by descriptor, what is in them, and locks that end with who holds them
//! - `memfd`: anonymous files and their seals
//! - `checked_fd`: descriptors that are kept, and safe from a double close elsewhere
//! - `kept`: descriptors that are kept for signal handlers
//! - `lease`: leases on files, and waiting until one is wanted
//! - `socket`: Unix sockets, and descriptors that travel through them
//!
//! Threads, signals and the process
//! - `signal`: the handler for SIGSEGV and SIGBUS
//! - `fault_info`: what the kernel tells it, for each processor
//! - `thread`: starting threads, and making way for others
//! - `wake`: waking a thread from a signal handler (futex)
//! - `futex`: waiting for a word of a region, and waking who waits for it
//! - `words`: words that threads and handlers share, and waiting for them (futex)
//! - `requests`: numbers from handlers to a thread (socketpair)
//! - `process`: processes and users
//! - `loaded`: programs and libraries of this process (dlsym, dl_iterate_phdr)
//! - `clock`, `random`: time that is cheap to ask for; numbers that nobody can guess
//!
//! Below all
//! - `alloc`: allocation that can be refused
//! - `optional`: which errors say that a call does not exist here
//! - `error`: a refused system call; `width`: the kernel's `size_t`
//! - `lock`: locks, and their order
//! - `inject`: makes any of these calls fail, for tests

pub mod alloc;
pub mod checked_fd;
pub mod clock;
pub mod contents;
pub mod fault_info;
pub mod file;
pub mod folder;
pub mod futex;
pub mod inject;
pub mod kept;
pub mod lease;
pub mod limits;
pub mod loaded;
pub mod lock;
mod maps_text;
pub mod mark;
pub mod memfd;
pub mod mmap;
pub mod optional;
pub mod owned_span;
pub mod page;
pub mod page_query;
pub mod pagemap;
pub mod placeholder;
pub mod probe;
pub mod process;
pub mod process_map;
mod procmap_query;
pub mod random;
pub mod requests;
pub mod signal;
pub mod socket;
pub mod thread;
pub mod userfault;
mod vma;
pub mod vma_budget;
pub mod wake;
pub mod words;

mod error;
mod width;

pub use error::{SysError, SysResult};
pub(crate) use width::{difference, sum, to_u64, to_usize};

#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
compile_error!("wasm-hostmap supports Linux on x64 and arm64 only");
