//! The right to replace, protect and drop pages.
//!
//! Changing the pages behind an address changes every byte that Rust may be reading there. So no
//! function of this folder does it to an address that somebody made up: it takes an [`OwnedSpan`],
//! and the promise that makes the change sound was given when that was made. Nothing here calls
//! the kernel.

// It declares the promise that pages may be changed.
#![allow(unsafe_code)]

use super::page::PageSpan;
use std::marker::PhantomData;

/// Pages that may be replaced, protected and dropped while `'a` lasts: no Rust reference points
/// into them, and only their owner decides what is there.
///
/// A copy is no second owner. It permits system calls, which the kernel puts in some order, and no
/// access from Rust.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnedSpan<'a> {
    span: PageSpan,
    owner: PhantomData<&'a ()>,
}

impl OwnedSpan<'_> {
    /// # Safety
    /// While the result is used, the address range is mapped on behalf of the caller, who may put
    /// any pages there, and no Rust reference points into it.
    pub unsafe fn assume(span: PageSpan) -> Self {
        Self { span, owner: PhantomData }
    }

    /// The addresses.
    pub fn span(self) -> PageSpan {
        self.span
    }

    /// A part of it. `None`: it has pages outside.
    pub fn part(self, part: PageSpan) -> Option<Self> {
        (part.within(self.span) == Some(part)).then_some(Self { span: part, ..self })
    }

    /// Its first pages: see [`PageSpan::first`].
    pub fn first(self, bytes: u64) -> Self {
        Self { span: self.span.first(bytes), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::mmap::{Mmap, Pages};
    use crate::sys::page::{PageAligned, host_page_bytes};

    #[test]
    fn a_part_never_has_more_pages_than_the_whole() {
        let page = host_page_bytes();
        let whole = Mmap::new(PageAligned::new(4 * page).unwrap(), Pages::Zeros).unwrap();
        let owned = whole.owned();
        let span = |from: u64, to: u64| {
            let at = |pages: u64| PageAligned::new(whole.address() + pages * page).unwrap();
            PageSpan::between(at(from), at(to)).unwrap()
        };
        assert_eq!(owned.part(span(1, 3)).map(OwnedSpan::span), Some(span(1, 3)));
        assert_eq!(owned.part(span(0, 4)).map(OwnedSpan::span), Some(span(0, 4)));
        assert_eq!(owned.part(span(3, 5)), None);
        assert_eq!(owned.first(2 * page).span(), span(0, 2));
    }
}
