//! Numbers that nobody can guess, from the kernel.
//!
//! Calls: getrandom.

// The kernel writes to an address.
#![allow(unsafe_code)]

use super::{SysError, SysResult, inject};
use nix::errno::Errno;

/// So many random bytes (at most 256, which the kernel gives in one piece).
pub fn bytes<const N: usize>() -> SysResult<[u8; N]> {
    const { assert!(N <= 256) };
    inject::trip("getrandom")?;
    let mut bytes = [0; N];
    loop {
        // SAFETY: the kernel writes at most as many bytes as it is told, and the array has them.
        let given = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), N, 0) };
        match (usize::try_from(given), Errno::last()) {
            (Ok(given), _) if given == N => return Ok(bytes),
            (Err(_), Errno::EINTR) | (Ok(_), _) => {}
            (Err(_), errno) => return Err(SysError::new("getrandom", errno)),
        }
    }
}
