//! Reads regions of any size through a window of wasm-hostmap, chunk by chunk, in the module's own
//! memory.
//!
//! Use it as a crate, or copy this file and write `mod hostmap;` at the root of your crate. Needs
//! neither `std` nor `alloc`.
//!
//! ```no_run
//! use hostmap::{Plain, Records, hostmap_source};
//!
//! #[repr(C)]
//! #[derive(Clone, Copy)]
//! struct Order {
//!     customer: u32,
//!     cents: u32,
//! }
//!
//! // SAFETY: it consists of integers.
//! unsafe impl Plain for Order {}
//!
//! // The host passes `{ orders: source.imports }`.
//! hostmap_source!(Orders, "orders");
//!
//! #[unsafe(no_mangle)]
//! extern "C" fn cents_of(customer: u32) -> u64 {
//!     // SAFETY: the only value, and only it slides its window.
//!     let mut orders = unsafe { Orders::new() };
//!     let mut records = Records::<_, Order>::new(&mut orders);
//!     let mut sum = 0;
//!     while let Some(block) = records.next() {
//!         sum += block.iter().filter(|o| o.customer == customer).map(|o| u64::from(o.cents)).sum::<u64>();
//!     }
//!     sum
//! }
//! ```
//!
//! What a call returns is borrowed from the iterator, so it can't outlive the next call,
//! which shows other bytes there:
//!
//! ```compile_fail,E0499
//! # use hostmap::{Chunks, Source};
//! fn keeps<S: Source>(chunks: &mut Chunks<S>) -> (&[u8], &[u8]) {
//!     let first = chunks.next().unwrap();
//!     let second = chunks.next().unwrap();
//!     (first, second)
//! }
//! ```
//!
//! Records that straddle chunks are whole: their first bytes are shown again in front of the next
//! chunk. If the window can't hold a record, the host throws an error through
//! the module.
//!
//! Windows for Rust can have at most 2 GiB, the limit of slices.

// A crate may use only a part of it.
#![allow(dead_code)]

use core::marker::PhantomData;
use core::mem::{align_of, size_of};
use core::ptr::NonNull;
use core::slice;

/// The host's functions. Each source has its own window, so a module can read several at
/// once.
///
/// # Safety
///
/// After `next` gave n > 0, n readable bytes are at `pointer`, and nothing changes them before
/// the next call of `next`. After it gave 0, the bytes from before are still there.
pub unsafe trait Source {
    /// Shows the next chunk, with the last `keep` shown bytes in front of it (`None`: the host's
    /// option `overlap`). Returns how many bytes are shown; 0 at the end.
    fn next(&mut self, keep: Option<usize>) -> usize;

    /// Returns the address of the first shown byte, which equals the byte's offset in the region
    /// modulo the host's page size.
    fn pointer(&self) -> *const u8;
}

/// Declares a type for the source that the host passes as the import module of this name:
/// `hostmap_source!(pub Orders, "orders")`.
///
/// Its only function is `const unsafe fn new()`. The caller promises that no other value of the
/// type exists at that time, that only this source moves its window, and that nobody changes what
/// it shows while the module reads it.
#[macro_export]
macro_rules! hostmap_source {
    ($(#[$attribute:meta])* $visibility:vis $name:ident, $module:literal) => {
        $(#[$attribute])*
        $visibility struct $name(());

        const _: () = {
            // One function of the host, imported twice: without the argument, the host's default
            // applies.
            #[allow(clashing_extern_declarations)]
            #[link(wasm_import_module = $module)]
            unsafe extern "C" {
                #[link_name = "next"]
                safe fn next_keeping(keep: usize) -> usize;
                #[link_name = "next"]
                safe fn next_overlapping() -> usize;
                #[link_name = "pointer"]
                safe fn pointer() -> usize;
            }

            impl $name {
                /// # Safety
                ///
                /// No other value of this type exists, and nobody else moves the window or changes
                /// what it shows.
                $visibility const unsafe fn new() -> Self {
                    Self(())
                }
            }

            // SAFETY: what the window shows stays until it slides, and only this source slides it,
            // as the caller of `new` promised.
            unsafe impl $crate::hostmap::Source for $name {
                fn next(&mut self, keep: Option<usize>) -> usize {
                    keep.map_or_else(|| next_overlapping(), |keep| next_keeping(keep))
                }

                fn pointer(&self) -> *const u8 {
                    // Nothing in the module allocated these bytes.
                    core::ptr::with_exposed_provenance(pointer())
                }
            }
        };
    };
}

/// A type for which all bytes are valid: integers, floats, and arrays and `repr(C)` structs of
/// them; no references, no `bool`, no enum.
///
/// # Safety
///
/// All bytes are valid values of the type, and it has no interior mutability.
pub unsafe trait Plain: Copy + 'static {}

macro_rules! plain {
    ($($number:ty)*) => { $(
        // SAFETY: all bytes are valid numbers.
        unsafe impl Plain for $number {}
    )* };
}
plain!(u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize f32 f64);

// SAFETY: its elements are plain, and an array has no padding.
unsafe impl<T: Plain, const N: usize> Plain for [T; N] {}

/// What a source currently shows.
#[derive(Clone, Copy)]
struct Shown {
    first: NonNull<u8>,
    length: usize,
}

impl Shown {
    const NOTHING: Self = Self { first: NonNull::dangling(), length: 0 };

    fn next<S: Source>(source: &mut S, keep: Option<usize>) -> Option<Self> {
        let length = source.next(keep);
        if length == 0 {
            return None;
        }
        assert!(isize::try_from(length).is_ok(), "a window for Rust has 2 GiB at most");
        let first =
            NonNull::new(source.pointer().cast_mut()).expect("a window is never at address 0");
        Some(Self { first, length })
    }

    /// The bytes from this offset on, which is not past the end.
    fn skip(self, offset: usize) -> Self {
        debug_assert!(offset <= self.length);
        // SAFETY: inside what is shown, or at its end.
        Self { first: unsafe { self.first.add(offset) }, length: self.length - offset }
    }

    /// # Safety
    ///
    /// During this lifetime, nobody asks the source for the next chunk.
    unsafe fn bytes<'a>(self) -> &'a [u8] {
        // SAFETY: `Source` promises that these bytes are readable and stay until then.
        unsafe { slice::from_raw_parts(self.first.as_ptr(), self.length) }
    }
}

/// Chunks as the host divides them.
pub struct Chunks<'s, S> {
    source: &'s mut S,
}

// `next` lends from `self`, which `Iterator` can't express.
#[allow(clippy::should_implement_trait)]
impl<'s, S: Source> Chunks<'s, S> {
    pub fn new(source: &'s mut S) -> Self {
        Self { source }
    }

    /// The next chunk; `None` at the end.
    pub fn next(&mut self) -> Option<&[u8]> {
        // SAFETY: the slice borrows `self`, and only `self` has the source.
        Shown::next(self.source, None).map(|shown| unsafe { shown.bytes() })
    }

    /// The next chunk, with the last `keep` bytes of this one in front of it; `None` at the end.
    pub fn next_keeping(&mut self, keep: usize) -> Option<&[u8]> {
        // SAFETY: the slice borrows `self`, and only `self` has the source.
        Shown::next(self.source, Some(keep)).map(|shown| unsafe { shown.bytes() })
    }
}

/// Records of a fixed size, in blocks of whole ones.
pub struct Records<'s, S, T> {
    source: &'s mut S,
    left_over: Shown,
    record: PhantomData<fn() -> T>,
}

#[allow(clippy::should_implement_trait)]
impl<'s, S: Source, T: Plain> Records<'s, S, T> {
    pub fn new(source: &'s mut S) -> Self {
        const { assert!(size_of::<T>() > 0, "a record has at least one byte") }
        Self { source, left_over: Shown::NOTHING, record: PhantomData }
    }

    /// The next block, of at least one record; `None` at the end.
    ///
    /// # Panics
    ///
    /// If the records are not aligned. They are aligned as in the region: if the source starts at a
    /// multiple of T's alignment, so does each. Otherwise make T `repr(C, packed)`.
    pub fn next(&mut self) -> Option<&[T]> {
        loop {
            let shown = Shown::next(self.source, Some(self.left_over.length))?;
            let count = shown.length / size_of::<T>();
            self.left_over = shown.skip(count * size_of::<T>());
            // If a chunk is shorter than a record, keep all of it and ask
            // for more.
            if count == 0 {
                continue;
            }
            let first = shown.first.cast::<T>();
            assert!(
                first.is_aligned(),
                "the records are not aligned: start the source at a multiple of {}",
                align_of::<T>()
            );
            // SAFETY: this many whole records are shown, all bytes are valid, they are aligned,
            // and the slice borrows `self`, which alone has the source.
            return Some(unsafe { slice::from_raw_parts(first.as_ptr(), count) });
        }
    }

    /// The incomplete record after the block. At the end: what is too short for a record.
    pub fn left_over(&self) -> &[u8] {
        // SAFETY: shown until the next call of `next`, which needs `&mut self`.
        unsafe { self.left_over.bytes() }
    }
}

/// Records that end at a delimiter, one by one.
pub struct Text<'s, S, F> {
    source: &'s mut S,
    /// Shown but not returned yet.
    ahead: Shown,
    /// How many bytes of it are known not to be delimiters.
    scanned: usize,
    skip_empty: bool,
    unterminated: bool,
    delimits: F,
}

impl<'s, S: Source> Text<'s, S, ()> {
    /// Records that end at each `delimiter`, such as `b'\n'`. Empty records count. Bytes after the
    /// last delimiter are a record too.
    pub fn lines(source: &'s mut S, delimiter: u8) -> Text<'s, S, impl FnMut(u8) -> bool> {
        Text::new(source, false, move |byte| byte == delimiter)
    }

    /// Words: the longest runs of bytes for which `in_word` returns true. Called for each byte.
    pub fn words(
        source: &'s mut S,
        mut in_word: impl FnMut(u8) -> bool,
    ) -> Text<'s, S, impl FnMut(u8) -> bool> {
        Text::new(source, true, move |byte| !in_word(byte))
    }
}

#[allow(clippy::should_implement_trait)]
impl<'s, S: Source, F: FnMut(u8) -> bool> Text<'s, S, F> {
    fn new(source: &'s mut S, skip_empty: bool, delimits: F) -> Self {
        Self {
            source,
            ahead: Shown::NOTHING,
            scanned: 0,
            skip_empty,
            unterminated: false,
            delimits,
        }
    }

    /// The next record, without its delimiter; `None` at the end.
    pub fn next(&mut self) -> Option<&[u8]> {
        loop {
            // SAFETY: not used after the source is asked for the next chunk.
            let ahead = unsafe { self.ahead.bytes() };
            // Empty if the host went back and shows less: the text is then divided in the wrong
            // place, which is harmless.
            let unseen = ahead.get(self.scanned..).unwrap_or_default();
            if let Some(run) = unseen.iter().position(|&byte| (self.delimits)(byte)) {
                let length = self.scanned + run;
                let record = Shown { length, ..self.ahead };
                self.ahead = self.ahead.skip(length + 1);
                self.scanned = 0;
                if length == 0 && self.skip_empty {
                    continue;
                }
                // SAFETY: the slice borrows `self`, and only `self` has the source.
                return Some(unsafe { record.bytes() });
            }
            self.scanned = ahead.len();
            match Shown::next(self.source, Some(ahead.len())) {
                Some(shown) => self.ahead = shown,
                None => break,
            }
        }
        let record = self.ahead;
        self.ahead = Shown::NOTHING;
        self.scanned = 0;
        if record.length == 0 {
            return None;
        }
        self.unterminated = true;
        // SAFETY: after the end, the last bytes stay.
        Some(unsafe { record.bytes() })
    }

    /// Whether the last record lacks its delimiter. Valid at the end.
    pub fn unterminated(&self) -> bool {
        self.unterminated
    }
}
