//! Host pages and Wasm pages, and the types that keep them and bytes apart.
//!
//! Calls: sysconf, once.

use std::sync::OnceLock;

/// Bytes of a WebAssembly page.
pub const WASM_PAGE_BYTES: u64 = 65_536;

/// Bytes of a page of this kernel's: 4 KiB on x64, 4, 16 or 64 KiB on arm64. A power of two.
pub fn host_page_bytes() -> u64 {
    static BYTES: OnceLock<u64> = OnceLock::new();
    *BYTES.get_or_init(|| {
        let bytes = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten();
        let bytes = bytes.and_then(|bytes| u64::try_from(bytes).ok());
        let bytes = bytes.expect("every Linux tells its page size");
        assert!(
            bytes.is_power_of_two() && bytes <= WASM_PAGE_BYTES,
            "a Wasm page holds whole host pages"
        );
        bytes
    })
}

/// A byte count, offset or address that is a multiple of the host page size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PageAligned(u64);

impl PageAligned {
    pub const ZERO: Self = Self(0);

    /// `None` if it is no multiple of the host page size.
    pub fn new(bytes: u64) -> Option<Self> {
        (bytes & host_page_mask() == 0).then_some(Self(bytes))
    }

    /// `None` on overflow.
    pub fn round_up(bytes: u64) -> Option<Self> {
        bytes.checked_add(host_page_mask()).map(Self::round_down)
    }

    pub fn round_down(bytes: u64) -> Self {
        Self(bytes & !host_page_mask())
    }

    pub fn get(self) -> u64 {
        self.0
    }

    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }
}

fn host_page_mask() -> u64 {
    // A page size is at least 1, so nothing wraps.
    host_page_bytes().wrapping_sub(1)
}

/// What one entry of a page table maps at most where host pages are 4 KiB: a huge page of x64 and
/// arm64. Elsewhere it is a number like others, good for nothing and bad for nothing.
pub const HUGE_PAGE_BYTES: u64 = 2 << 20;

/// A non-empty range of whole host pages: offsets into a linear memory, or addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageSpan {
    start: PageAligned,
    end: PageAligned,
}

impl PageSpan {
    /// `None` if it would be empty or overflow.
    pub fn new(start: PageAligned, length: PageAligned) -> Option<Self> {
        let end = start.checked_add(length)?;
        (start < end).then_some(Self { start, end })
    }

    /// `None` if it would be empty.
    pub fn between(start: PageAligned, end: PageAligned) -> Option<Self> {
        (start < end).then_some(Self { start, end })
    }

    pub fn start(self) -> PageAligned {
        self.start
    }

    pub fn end(self) -> PageAligned {
        self.end
    }

    pub fn length(self) -> PageAligned {
        self.end.checked_sub(self.start).expect("a span starts before it ends")
    }

    /// Its first pages, at most so many bytes of them, and at least one page.
    pub fn first(self, bytes: u64) -> Self {
        let length = PageAligned::round_down(bytes)
            .max(PageAligned::new(host_page_bytes()).expect("a page is a whole page"));
        // On overflow it is more than there is.
        let end = self.start.checked_add(length).map_or(self.end, |end| end.min(self.end));
        Self { start: self.start, end }
    }

    /// The page that holds an address. `None` on overflow.
    pub fn page_at(address: u64) -> Option<Self> {
        Self::new(PageAligned::round_down(address), PageAligned::new(host_page_bytes())?)
    }

    /// The part of it that is in another one. `None`: nothing.
    pub fn within(self, other: Self) -> Option<Self> {
        Self::between(self.start.max(other.start), self.end.min(other.end))
    }

    pub fn overlaps(self, other: Self) -> bool {
        self.start < other.end && other.start < self.end
    }

    /// The same range as addresses, for a linear memory that starts at `base`. `None` on overflow.
    pub fn at_base(self, base: PageAligned) -> Option<Self> {
        Some(Self { start: base.checked_add(self.start)?, end: base.checked_add(self.end)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alignment_is_a_property_of_the_type() {
        let page = host_page_bytes();
        assert_eq!(PageAligned::new(1), None);
        assert_eq!(PageAligned::new(page).map(PageAligned::get), Some(page));
        assert_eq!(PageAligned::round_up(1).map(PageAligned::get), Some(page));
        assert_eq!(PageAligned::round_up(0), Some(PageAligned::ZERO));
        assert_eq!(PageAligned::round_up(u64::MAX), None);
        assert_eq!(PageAligned::round_down(page.wrapping_add(1)).get(), page);
    }

    #[test]
    fn a_span_is_never_empty_and_never_wraps() {
        let page = PageAligned::round_up(1).unwrap();
        let last = PageAligned::round_down(u64::MAX);
        assert_eq!(PageSpan::new(PageAligned::ZERO, PageAligned::ZERO), None);
        assert_eq!(PageSpan::new(last, page), None);
        assert_eq!(PageSpan::between(page, page), None);
        assert_eq!(PageSpan::new(page, page).unwrap().length(), page);
        let four = PageSpan::between(page, PageAligned::new(page.get() * 5).unwrap()).unwrap();
        assert_eq!(four.first(0).length(), page);
        assert_eq!(four.first(page.get() * 2 + 1).length().get(), page.get() * 2);
        assert_eq!(four.first(u64::MAX), four);
    }
}
