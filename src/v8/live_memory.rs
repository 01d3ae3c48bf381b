//! A linear memory that is alive while a call lasts: what makes replacing its pages sound.
//!
//! Everything of the crate that changes a memory takes a [`LiveMemory`]. Only an `unsafe`
//! constructor makes one, and only js/ calls it, with what V8 answers in the same call. Nothing
//! here calls the kernel, and nothing here keeps a memory alive.

// It declares the promise that a memory is alive, and makes its pages of it.
#![allow(unsafe_code)]

use crate::sys::owned_span::OwnedSpan;
use crate::sys::page::{PageAligned, PageSpan, WASM_PAGE_BYTES};
use std::marker::PhantomData;

/// Where a buffer begins and how long it is, in the form that a linear memory has. It promises
/// nothing about what is there: good for questions to the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryExtent {
    base: PageAligned,
    byte_length: PageAligned,
    end: PageAligned,
}

/// A buffer that does not start at a page, or is not made of Wasm pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotWasmMemory;

impl MemoryExtent {
    pub fn new(base: u64, byte_length: u64) -> Result<Self, NotWasmMemory> {
        let extent = |base, byte_length| {
            let (base, byte_length) = (PageAligned::new(base)?, PageAligned::new(byte_length)?);
            Some(Self { base, byte_length, end: base.checked_add(byte_length)? })
        };
        extent(base, byte_length)
            .filter(|_| base != 0 && byte_length.is_multiple_of(WASM_PAGE_BYTES))
            .ok_or(NotWasmMemory)
    }

    pub fn base(self) -> PageAligned {
        self.base
    }

    pub fn byte_length(self) -> PageAligned {
        self.byte_length
    }

    /// The first address behind it.
    pub fn end(self) -> PageAligned {
        self.end
    }
}

/// A linear memory that lives while `'call` lasts.
///
/// Safe code can't make one. This is what a safe caller could do if it could: put other pages
/// under a slice that Rust reads.
///
/// ```compile_fail,E0133
/// use wasm_hostmap::memory::Memory;
/// use wasm_hostmap::v8::live_memory::{LiveMemory, MemoryExtent};
///
/// let bytes = vec![7_u8; 1 << 20];
/// let base = (bytes.as_ptr() as u64).next_multiple_of(65_536);
/// let extent = MemoryExtent::new(base, 65_536).unwrap();
/// let memory = LiveMemory::new(extent); // error[E0133]: call to unsafe function
/// Memory::attach(memory).unwrap();
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LiveMemory<'call> {
    extent: MemoryExtent,
    call: PhantomData<&'call ()>,
}

impl<'call> LiveMemory<'call> {
    /// # Safety
    /// While `'call` lasts, the extent is the accessible part of a `WebAssembly.Memory`, or its
    /// beginning; somebody holds that memory; and no Rust reference points into it.
    pub unsafe fn new(extent: MemoryExtent) -> Self {
        Self { extent, call: PhantomData }
    }

    pub fn extent(self) -> MemoryExtent {
        self.extent
    }

    pub fn base(self) -> PageAligned {
        self.extent.base
    }

    pub fn byte_length(self) -> PageAligned {
        self.extent.byte_length
    }

    /// Pages of it, by offsets from its start. `None`: they don't end within its length.
    pub fn pages(self, offsets: PageSpan) -> Option<OwnedSpan<'call>> {
        self.pages_at(offsets.at_base(self.extent.base)?)
    }

    /// The same by addresses.
    pub fn pages_at(self, addresses: PageSpan) -> Option<OwnedSpan<'call>> {
        let is_inside = self.extent.base <= addresses.start() && addresses.end() <= self.extent.end;
        // SAFETY: by the contract of `new` these are pages of a memory that lives while `'call`
        // lasts, without Rust references. What is in a linear memory is its owner's to choose: V8
        // expects of its pages that they can be accessed, and has a handler for those that can't.
        is_inside.then(|| unsafe { OwnedSpan::assume(addresses) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::page::host_page_bytes;

    #[test]
    fn an_extent_starts_at_a_page_and_has_whole_wasm_pages() {
        assert_eq!(MemoryExtent::new(0, WASM_PAGE_BYTES), Err(NotWasmMemory));
        assert_eq!(MemoryExtent::new(1 << 40 | 8, WASM_PAGE_BYTES), Err(NotWasmMemory));
        assert_eq!(MemoryExtent::new(1 << 40, WASM_PAGE_BYTES + 1), Err(NotWasmMemory));
        assert_eq!(MemoryExtent::new(!(WASM_PAGE_BYTES - 1), 1 << 30), Err(NotWasmMemory));
        let extent = MemoryExtent::new(1 << 40, WASM_PAGE_BYTES).unwrap();
        assert_eq!(extent.end().get(), (1 << 40) + WASM_PAGE_BYTES);
    }

    #[test]
    fn pages_past_the_length_are_not_to_be_had() {
        let extent = MemoryExtent::new(1 << 40, WASM_PAGE_BYTES).unwrap();
        // SAFETY: nothing is done with its pages.
        let memory = unsafe { LiveMemory::new(extent) };
        let page = PageAligned::new(host_page_bytes()).unwrap();
        let at = |bytes: u64| PageAligned::new(bytes).unwrap();
        let last = PageSpan::new(at(WASM_PAGE_BYTES - page.get()), page).unwrap();
        assert_eq!(memory.pages(last).unwrap().span().end(), extent.end());
        let over = PageSpan::new(at(WASM_PAGE_BYTES), page).unwrap();
        assert_eq!(memory.pages(over), None);
        let below = PageSpan::new(at((1 << 40) - page.get()), page).unwrap();
        assert_eq!(memory.pages_at(below), None);
        assert_eq!(memory.pages_at(last), None, "an offset is no address");
    }
}
