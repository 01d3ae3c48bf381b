//! Processes, their users and their environment.
//!
//! Calls: getpid (through std), geteuid, stat on /proc/PID.

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
