//! The two conversions between the kernel's `size_t` and the `u64` that the crate calculates with,
//! and its sums of bytes. The conversions are lossless: the crate compiles for 64-bit targets only.
//! The sums are of numbers that were checked before: only a defect makes them overflow, so they
//! panic; in debug builds at their caller, whose places would take kilobytes of a package. Not for
//! signal handlers, and not for numbers that a caller chose.

/// A 64-bit count as the kernel's `size_t`.
pub fn to_usize(bytes: u64) -> usize {
    usize::try_from(bytes).expect("usize has 64 bits")
}

/// A `size_t` as a 64-bit count.
pub fn to_u64(bytes: usize) -> u64 {
    u64::try_from(bytes).expect("usize has at most 64 bits")
}

/// A sum of offsets or lengths of one file or address space.
#[cfg_attr(debug_assertions, track_caller)]
pub fn sum(one: u64, other: u64) -> u64 {
    one.checked_add(other).expect("checked offsets and lengths end below 2^64")
}

/// How much larger the first one is. It is never smaller.
#[cfg_attr(debug_assertions, track_caller)]
pub fn difference(larger: u64, smaller: u64) -> u64 {
    larger.checked_sub(smaller).expect("what is taken away is a part of the whole")
}
