//! What not every kernel has, and not every sandbox lets through: one rule for what says so.
//!
//! An old kernel, an emulator (qemu-user, gVisor) and a filter of system calls (a container's
//! seccomp profile) refuse the same call with different errors. A caller that has another way asks
//! here whether an error means that there is no such call, and takes the other way.
//!
//! Calls nothing but what it is given. Safe in handlers where that is.

use super::{SysError, SysResult, inject};
use nix::errno::Errno;
use std::sync::atomic::{AtomicU8, Ordering};

/// Whether this error of a call says that there is no such call here, or that it may not be made.
/// Some calls use one of these for bad arguments, too; the other way then refuses them itself, and
/// what is to be remembered is asked for with good ones: [`Feature`].
///
/// - ENOSYS: older kernels, qemu-user, the profiles of newer containers
/// - EPERM, EACCES: the profiles of older containers, security modules
/// - ENOTTY: an `ioctl` that the file doesn't know; gVisor
/// - EINVAL: advice and flags from after the kernel
/// - EOPNOTSUPP: file systems
pub fn says_absent(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::ENOSYS
            | Errno::EPERM
            | Errno::EACCES
            | Errno::ENOTTY
            | Errno::EINVAL
            | Errno::EOPNOTSUPP
    )
}

const UNTRIED: u8 = 0;
const WORKS: u8 = 1;
const ABSENT: u8 = 2;

/// A call that may be absent, and whether it is.
#[derive(Debug)]
pub struct Feature {
    /// Tests make it fail by this name.
    name: &'static str,
    /// Makes the call with arguments that no kernel which has it refuses, and changes nothing. An
    /// error that does not say that it is absent leaves the question open.
    probe: fn() -> SysResult<()>,
    state: AtomicU8,
}

impl Feature {
    pub const fn new(name: &'static str, probe: fn() -> SysResult<()>) -> Self {
        Self { name, probe, state: AtomicU8::new(UNTRIED) }
    }

    /// Makes the call, unless it is known to be absent. `None`: it is, or it refuses these
    /// arguments, and the other way is to be taken.
    ///
    /// That it is absent is remembered if it never worked, and the probe is refused, too: else one
    /// bad range, if it is the first, would end the use of a call for good. Where it has worked,
    /// the error may be about the arguments, or a filter has come since: then it is made again
    /// next time.
    pub fn tried<T>(&self, call: impl FnOnce() -> SysResult<T>) -> Option<SysResult<T>> {
        let state = self.state.load(Ordering::Relaxed);
        let injected = inject::trip(self.name);
        if state == ABSENT && injected.is_ok() {
            return None;
        }
        match injected.and_then(|()| call()) {
            Err(SysError { errno, .. }) if says_absent(errno) => {
                if state == UNTRIED {
                    self.ask();
                }
                None
            }
            done => {
                if done.is_ok() && state == UNTRIED {
                    self.state.store(WORKS, Ordering::Relaxed);
                }
                Some(done)
            }
        }
    }

    fn ask(&self) {
        let found = match (self.probe)() {
            Ok(()) => WORKS,
            Err(SysError { errno, .. }) if says_absent(errno) => ABSENT,
            Err(_) => return,
        };
        // Another thread may have found that it works.
        let _ = self.state.compare_exchange(UNTRIED, found, Ordering::Relaxed, Ordering::Relaxed);
    }

    #[cfg(test)]
    pub fn is_known_absent(&self) -> bool {
        self.state.load(Ordering::Relaxed) == ABSENT
    }
}

#[cfg(test)]
pub(super) const ABSENT_ERRNOS: [Errno; 6] =
    [Errno::ENOSYS, Errno::EPERM, Errno::EACCES, Errno::ENOTTY, Errno::EINVAL, Errno::EOPNOTSUPP];

#[cfg(test)]
mod tests {
    use super::*;

    fn absent() -> SysResult<()> {
        Err(SysError::new("probe", Errno::ENOSYS))
    }

    fn busy() -> SysResult<()> {
        Err(SysError::new("probe", Errno::EMFILE))
    }

    #[test]
    fn what_never_worked_is_not_tried_again() {
        for errno in ABSENT_ERRNOS {
            let feature = Feature::new("test", absent);
            let refused = || Err::<(), _>(SysError::new("ioctl", errno));
            assert_eq!(feature.tried(refused), None);
            assert_eq!(feature.tried(|| -> SysResult<()> { panic!("it is made again") }), None);
        }
    }

    #[test]
    fn one_that_refuses_arguments_is_tried_again() {
        let probes: [fn() -> SysResult<()>; 2] = [|| Ok(()), busy];
        for probe in probes {
            for errno in ABSENT_ERRNOS {
                let feature = Feature::new("test", probe);
                let refused = || Err::<u32, _>(SysError::new("madvise", errno));
                assert_eq!(feature.tried(refused), None);
                assert_eq!(feature.tried(refused), None);
                assert_eq!(feature.tried(|| Ok(1)), Some(Ok(1)));
            }
        }
    }

    #[test]
    fn what_worked_is_tried_again() {
        let feature = Feature::new("test", absent);
        assert_eq!(feature.tried(|| Ok(1)), Some(Ok(1)));
        for errno in ABSENT_ERRNOS {
            let refused = || Err::<u32, _>(SysError::new("madvise", errno));
            assert_eq!(feature.tried(refused), None);
            assert_eq!(feature.tried(|| Ok(2)), Some(Ok(2)));
        }
    }

    #[test]
    fn other_errors_are_the_callers() {
        let feature = Feature::new("test", absent);
        for errno in [Errno::ENOMEM, Errno::EFAULT, Errno::EIO, Errno::EINTR] {
            let failed = SysError::new("madvise", errno);
            assert_eq!(feature.tried(|| Err::<(), _>(failed)), Some(Err(failed)));
        }
        assert_eq!(feature.tried(|| Ok(())), Some(Ok(())));
    }
}
