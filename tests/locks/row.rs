//! Memories beside each other, as V8 makes them one after the other.

use super::support::{Reserved, page_bytes};
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use std::ffi::c_void;
use std::num::NonZeroUsize;
use std::ptr::NonNull;
use wasm_hostmap::v8::live_memory::{LiveMemory, MemoryExtent};

/// What V8 reserves for a memory, at least.
const RESERVATION_BYTES: usize = 8 << 30;
pub const MEMORY_BYTES: u64 = 32 << 20;

pub struct Row {
    start: NonNull<c_void>,
    count: usize,
}

// SAFETY: addresses, which each thread uses a part of.
unsafe impl Sync for Row {}

impl Row {
    pub fn new(count: usize) -> Self {
        let length = NonZeroUsize::new(count * RESERVATION_BYTES).unwrap();
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE;
        // SAFETY: a new mapping.
        let start = unsafe { mmap_anonymous(None, length, ProtFlags::PROT_NONE, flags) }.unwrap();
        let row = Self { start, count };
        for at in 0..count {
            Reserved::open(row.base(at), MEMORY_BYTES / page_bytes());
        }
        row
    }

    fn base(&self, at: usize) -> u64 {
        assert!(at < self.count);
        self.start.as_ptr() as u64 + (at * RESERVATION_BYTES) as u64
    }

    /// A memory of the row. One thread's.
    pub fn live(&self, at: usize) -> LiveMemory<'_> {
        let extent = MemoryExtent::new(self.base(at), MEMORY_BYTES).unwrap();
        // SAFETY: it is there as long as the row. The test reads and writes it by address.
        unsafe { LiveMemory::new(extent) }
    }
}

impl Drop for Row {
    fn drop(&mut self) {
        // SAFETY: the row is done with.
        unsafe { munmap(self.start, self.count * RESERVATION_BYTES) }.unwrap();
    }
}
