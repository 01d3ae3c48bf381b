//! Processes, their users and their environment.
//!
//! Calls: getpid (through std), geteuid, stat on /proc/PID; reads of /proc/PID/stat.

use super::{SysError, SysResult, inject};
use std::ffi::OsString;

/// This process's number.
pub fn id() -> u32 {
    std::process::id()
}

/// A variable of this process's environment.
pub fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

/// Ends the process where it can't go on safely, and says why.
pub fn end(why: &str) -> ! {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{why}");
    std::process::abort();
}

/// The user whose rights this process has.
pub fn user() -> u32 {
    nix::unistd::geteuid().as_raw()
}

/// The user of a process.
pub fn user_of(process: u32) -> SysResult<u32> {
    inject::trip("stat")?;
    let stat = nix::sys::stat::stat(format!("/proc/{process}").as_str());
    stat.map(|stat| stat.st_uid).map_err(|errno| SysError::new("stat", errno))
}

/// Whether a process runs no code any more, though it is still there: the kernel takes seconds to
/// take back many GiB, and what the process had open stays meanwhile. False where nobody can tell.
pub fn is_ending(process: u32) -> bool {
    /// From include/linux/sched.h: proc(5) has the flags as a decimal number.
    const PF_EXITING: u64 = 4;
    /// Counted from what follows the process's name, which may have any bytes in it.
    const FLAGS: usize = 6;
    let Ok(stat) = std::fs::read(format!("/proc/{process}/stat")) else { return false };
    let tail = stat.rsplit(|byte| *byte == b')').next();
    let fields = tail.and_then(|tail| std::str::from_utf8(tail).ok());
    let flags = fields.and_then(|fields| fields.split_whitespace().nth(FLAGS));
    flags.and_then(|flags| flags.parse::<u64>().ok()).is_some_and(|flags| flags & PF_EXITING != 0)
}
