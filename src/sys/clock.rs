//! Time that is cheap to ask for.
//!
//! Calls: clock_gettime, which the vDSO answers without a system call; clock_nanosleep.

// The kernel writes a time to an address.
#![allow(unsafe_code)]

use std::time::Duration;

/// Which tick of its clock the kernel is in: one takes 1 to 10 ms. Costs a few nanoseconds, and no
/// system call where the kernel has a vDSO. 0: it does not tell.
pub fn tick() -> u64 {
    nanoseconds(libc::CLOCK_MONOTONIC_COARSE)
}

/// Nanoseconds of processor time that the calling thread has taken.
pub fn thread_time() -> u64 {
    nanoseconds(libc::CLOCK_THREAD_CPUTIME_ID)
}

fn nanoseconds(clock: libc::clockid_t) -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes one timespec, and `now` is one.
    if unsafe { libc::clock_gettime(clock, &raw mut now) } != 0 {
        return 0;
    }
    // Never negative. What overflows still differs from tick to tick.
    let (seconds, nanoseconds) = (now.tv_sec.cast_unsigned(), now.tv_nsec.cast_unsigned());
    seconds.wrapping_mul(1_000_000_000).wrapping_add(nanoseconds)
}

/// Sleeps until the process has taken so much more processor time, in all threads: an idle process
/// wakes nobody. Where there is no such sleep, by the time of day, and longer.
pub fn sleep_by_process_time(duration: Duration) {
    let time = libc::timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(duration.subsec_nanos()),
    };
    // SAFETY: the call reads one timespec, and `time` is one; what is left is not asked for.
    let slept = unsafe {
        libc::clock_nanosleep(
            libc::CLOCK_PROCESS_CPUTIME_ID,
            0,
            &raw const time,
            std::ptr::null_mut(),
        )
    };
    if slept != 0 && slept != libc::EINTR {
        std::thread::sleep(Duration::from_millis(50));
    }
}
