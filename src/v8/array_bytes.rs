//! The bytes of an array buffer of JavaScript's while a call lasts: where they are, and which of
//! their pages hold nothing else.
//!
//! Only an `unsafe` constructor makes one, and only js/ calls it, with what V8 answers in the same
//! call. Nothing here calls the kernel, and nothing here keeps a buffer alive.

// It declares the promise that the bytes are a living buffer's, and that its pages may be moved.
#![allow(unsafe_code)]

use crate::sys::owned_span::OwnedSpan;
use crate::sys::page::{PageAligned, PageSpan};
use crate::sys::{difference, sum};
use std::marker::PhantomData;

/// Who has the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holders {
    /// One buffer of this thread alone: its pages can be moved.
    One,
    /// Perhaps others: other threads, a memory, native code that will read or write them again.
    Any,
}

/// ```text
///        page     page     page     page     page
///   |....bbbb|bbbbbbbb|bbbbbbbb|bbbbbbbb|bb......|     b: the buffer's bytes
///    <-->                                              skew
///            |<------- inner pages ----->|             what can be moved
/// ```
///
/// The first page is never an inner one, even if the buffer begins where it does: it is always
/// copied.
#[derive(Debug, Clone, Copy)]
pub struct ArrayBytes<'call> {
    address: u64,
    byte_length: u64,
    pages: PageSpan,
    holders: Holders,
    call: PhantomData<&'call ()>,
}

impl<'call> ArrayBytes<'call> {
    /// `None`: there are no bytes.
    ///
    /// # Safety
    /// While `'call` lasts, somebody holds a buffer of so many bytes at the address, they can be
    /// read, and no Rust reference points into them. With [`Holders::One`], they can be written as
    /// well, and no other buffer or memory has any of them: pages that hold only these bytes may be
    /// replaced by others.
    pub unsafe fn new(address: u64, byte_length: u64, holders: Holders) -> Option<Self> {
        let end = address.checked_add(byte_length)?;
        let pages =
            PageSpan::between(PageAligned::round_down(address), PageAligned::round_up(end)?);
        let pages = pages.filter(|_| address != 0 && byte_length > 0)?;
        Some(Self { address, byte_length, pages, holders, call: PhantomData })
    }

    pub fn address(self) -> u64 {
        self.address
    }

    pub fn byte_length(self) -> u64 {
        self.byte_length
    }

    /// All pages that have some of the bytes.
    pub fn pages(self) -> PageSpan {
        self.pages
    }

    /// How far into the first page the first byte is.
    pub fn skew(self) -> u64 {
        difference(self.address, self.pages.start().get())
    }

    /// Whether any of these addresses are among the bytes' pages.
    pub fn overlaps(self, addresses: PageSpan) -> bool {
        self.pages.overlaps(addresses)
    }

    /// The pages after the first one that hold these bytes and no others, if they may be moved.
    pub fn inner(self) -> Option<OwnedSpan<'call>> {
        let start = PageSpan::page_at(self.address)?.end();
        let end = PageAligned::round_down(sum(self.address, self.byte_length));
        let inner = PageSpan::between(start, end).filter(|_| self.holders == Holders::One);
        // SAFETY: by the contract of `new` no other bytes are there, nobody else reaches them, and
        // no Rust reference points to them while `'call` lasts.
        inner.map(|inner| unsafe { OwnedSpan::assume(inner) })
    }
}

/// The promise that the allocation of a buffer that was detached is kept: there is no buffer of it
/// any more, and it stays until there is one again.
#[derive(Debug, Clone, Copy)]
pub struct KeptAllocation<'call>(PhantomData<&'call ()>);

impl<'call> KeptAllocation<'call> {
    /// # Safety
    /// While `'call` lasts, all bytes that [`Self::bytes`] is asked for are those of one detached
    /// buffer, whose allocation is kept. They can be read and written, no Rust reference points
    /// into them, and no buffer or memory has any of them.
    pub unsafe fn assume() -> Self {
        Self(PhantomData)
    }

    pub fn bytes(self, address: u64, byte_length: u64) -> Option<ArrayBytes<'call>> {
        // SAFETY: by the contract of `assume`.
        unsafe { ArrayBytes::new(address, byte_length, Holders::One) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::page::host_page_bytes;

    fn inner(skew: u64, byte_length: u64) -> Option<(u64, u64)> {
        let base = 1 << 40;
        // SAFETY: nothing is done with its pages.
        let bytes = unsafe { ArrayBytes::new(base + skew, byte_length, Holders::One) }.unwrap();
        assert_eq!(bytes.skew(), skew);
        let span = bytes.inner()?.span();
        let page = |at: PageAligned| (at.get() - base) / host_page_bytes();
        Some((page(span.start()), page(span.end())))
    }

    #[test]
    fn inner_pages_hold_nothing_else_and_leave_out_the_first() {
        let page = host_page_bytes();
        assert_eq!(inner(16, page), None);
        assert_eq!(inner(16, 2 * page - 17), None);
        assert_eq!(inner(16, 2 * page - 16), Some((1, 2)));
        assert_eq!(inner(0, 3 * page), Some((1, 3)));
        assert_eq!(inner(0, 3 * page + 1), Some((1, 3)));
        assert_eq!(inner(page - 1, 3 * page), Some((1, 3)));
    }

    #[test]
    fn what_others_have_is_never_moved_and_nothing_is_no_buffer() {
        let page = host_page_bytes();
        let new = |address, byte_length, holders| {
            // SAFETY: nothing is done with its pages.
            unsafe { ArrayBytes::new(address, byte_length, holders) }
        };
        assert!(new(1 << 40, 9 * page, Holders::Any).unwrap().inner().is_none());
        assert!(new(1 << 40, 0, Holders::One).is_none());
        assert!(new(0, page, Holders::One).is_none());
        assert!(new(u64::MAX, page, Holders::One).is_none());
    }
}
