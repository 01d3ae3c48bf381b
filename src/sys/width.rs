//! The two conversions between the kernel's `size_t` and the `u64` that the crate calculates with.
//! Both are lossless: the crate compiles for 64-bit targets only.

/// A 64-bit count as the kernel's `size_t`.
pub fn to_usize(bytes: u64) -> usize {
    usize::try_from(bytes).expect("usize has 64 bits")
}

/// A `size_t` as a 64-bit count.
pub fn to_u64(bytes: usize) -> u64 {
    u64::try_from(bytes).expect("usize has at most 64 bits")
}
