//! Threads: starting ours, telling threads apart, and making way for others.
//!
//! Calls: clone and nanosleep (through std), pthread_self, pthread_sigmask, sched_setscheduler,
//! sched_yield.

// It calls the C library about threads and their signals.
#![allow(unsafe_code)]

use super::{SysError, SysResult, inject};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

/// Enough for what our threads do: system calls and callbacks to Node.
const STACK_BYTES: usize = 128 << 10;

/// Starts a thread on which all signals are blocked that processes send: they are for threads that
/// expect them.
pub fn spawn<T: Send + 'static>(
    name: &str,
    run: impl FnOnce() -> T + Send + 'static,
) -> SysResult<JoinHandle<T>> {
    inject::trip("clone")?;
    // In a box, so that std's code is there once for each type of result, and not of closure.
    let run: Box<dyn FnOnce() -> T + Send> = Box::new(move || {
        block_signals();
        run()
    });
    Builder::new()
        .name(name.to_owned())
        .stack_size(STACK_BYTES)
        .spawn(run)
        .map_err(|error| SysError::from_io("clone", &error))
}

/// Faults are not blocked: a thread that has one must not run into it again and again.
fn block_signals() {
    // SAFETY: a sigset_t is plain bits, for which all-zero is a value. The calls get pointers to a
    // local, and change nothing but this thread's mask.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        for fault in [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL] {
            libc::sigdelset(&raw mut all, fault);
        }
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const all, std::ptr::null_mut());
    }
}

/// Makes the calling thread one that interrupts nobody when it wakes (sched(7)): the thread that
/// woke it goes on first.
pub fn give_way() {
    // SAFETY: SCHED_BATCH takes a parameter without a priority, which is all zeros. 0 is the
    // calling thread.
    unsafe {
        let parameter: libc::sched_param = std::mem::zeroed();
        libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const parameter);
    }
}

/// Lets another thread run. Safe in handlers.
pub fn yield_now() {
    // SAFETY: sched_yield takes no arguments and touches no memory of the process.
    unsafe { libc::sched_yield() };
}

/// Waits. Not for handlers, nor for Node's threads.
pub fn sleep(duration: Duration) {
    std::thread::sleep(duration);
}

/// An address that no other living thread has. Its distance from the thread's static thread-local
/// storage is the same in all threads: glibc and musl both keep the thread's descriptor there. Safe
/// in handlers.
pub fn address() -> usize {
    // SAFETY: pthread_self takes no arguments and always succeeds.
    let descriptor = unsafe { libc::pthread_self() };
    // A number on glibc, a pointer on musl.
    #[cfg(not(target_env = "musl"))]
    return super::to_usize(descriptor);
    #[cfg(target_env = "musl")]
    return descriptor as usize;
}
