//! Failure injection: a test names a system call of `sys/` and the error that it is to give.
//!
//! Every function of `sys/` that calls the kernel asks [`trip`] first. Without the feature
//! `inject`, which no published build has, `trip` is empty and costs nothing. With it, `trip` takes
//! a lock, in handlers too. With the feature `locks` alone, it is where calls are written down.

use super::SysResult;

#[cfg(not(feature = "locks"))]
#[inline]
pub fn trip(_syscall: &'static str) -> SysResult<()> {
    Ok(())
}

#[cfg(all(feature = "locks", not(feature = "inject")))]
pub fn trip(syscall: &'static str) -> SysResult<()> {
    super::lock::note_call(syscall);
    Ok(())
}

#[cfg(feature = "inject")]
pub use armed::{arm, disarm, trip};

#[cfg(feature = "inject")]
#[allow(clippy::disallowed_types)] // Not in published builds.
mod armed {
    use super::SysResult;
    use crate::sys::SysError;
    use nix::errno::Errno;
    use std::sync::Mutex;
    use std::thread::ThreadId;

    #[derive(Debug)]
    struct Armed {
        syscall: String,
        /// Calls of this name that still succeed before the one that fails.
        calls_before: u32,
        errno: Errno,
        /// Only calls of this thread count; `None`: calls of all threads.
        thread: Option<ThreadId>,
    }

    static ARMED: Mutex<Vec<Armed>> = Mutex::new(Vec::new());

    fn armed() -> std::sync::MutexGuard<'static, Vec<Armed>> {
        ARMED.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Makes the call after the next `calls_before` ones of that name fail, once.
    pub fn arm(syscall: &str, calls_before: u32, errno: i32, thread: Option<ThreadId>) {
        armed().push(Armed {
            syscall: syscall.to_owned(),
            calls_before,
            errno: Errno::from_raw(errno),
            thread,
        });
    }

    /// Forgets what was armed for this thread (or for all); true if some of it had not gone off.
    pub fn disarm(thread: Option<ThreadId>) -> bool {
        let mut list = armed();
        let before = list.len();
        list.retain(|entry| entry.thread != thread);
        before != list.len()
    }

    pub fn trip(syscall: &'static str) -> SysResult<()> {
        crate::sys::lock::note_call(syscall);
        let mut list = armed();
        let here = std::thread::current().id();
        let found = list.iter().position(|entry| {
            entry.syscall == syscall && entry.thread.is_none_or(|thread| thread == here)
        });
        let Some(index) = found else { return Ok(()) };
        match list[index].calls_before.checked_sub(1) {
            Some(left) => {
                list[index].calls_before = left;
                Ok(())
            }
            None => Err(SysError::new(syscall, list.remove(index).errno)),
        }
    }
}
