//! Waking a thread from a signal handler: a counter that a thread waits for.
//!
//! Calls: futex. [`Wake::call`] is safe in handlers.

// The kernel is given the address of a word.
#![allow(unsafe_code)]

use std::sync::atomic::{AtomicU32, Ordering};

/// Counts calls. A handler may call it, a thread may wait for the next one.
#[derive(Debug, Default)]
pub struct Wake(AtomicU32);

impl Wake {
    pub const fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Wakes the threads that wait. One system call.
    pub fn call(&self) {
        self.0.fetch_add(1, Ordering::Release);
        // SAFETY: FUTEX_WAKE takes the address of the counter, which `self` holds, and no timeout
        // or second word.
        unsafe {
            libc::syscall(
                libc::SYS_futex,
                self.0.as_ptr(),
                libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG,
                i32::MAX,
            );
        }
    }

    /// The address of the counter, for the kernel. Good for as long as this is borrowed.
    pub fn address(&self) -> u64 {
        super::to_u64(self.0.as_ptr().addr())
    }

    pub fn calls(&self) -> u32 {
        self.0.load(Ordering::Acquire)
    }

    /// Waits until there were other than `seen` calls.
    pub fn wait_beyond(&self, seen: u32) -> u32 {
        loop {
            let calls = self.calls();
            if calls != seen {
                return calls;
            }
            // SAFETY: FUTEX_WAIT reads the counter, which `self` holds, and a null timeout means
            // none. The loop reads the counter again, whatever the call returns.
            unsafe {
                libc::syscall(
                    libc::SYS_futex,
                    self.0.as_ptr(),
                    libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG,
                    seen,
                    std::ptr::null::<libc::timespec>(),
                );
            }
        }
    }
}
