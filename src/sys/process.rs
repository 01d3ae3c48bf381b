//! Processes, their users and their environment.
//!
//! Calls: getpid (through std), geteuid, getrusage, stat on /proc/PID, open and read of
//! /proc/PID/stat.

use super::{SysError, SysResult, inject};
use nix::errno::Errno;
use std::ffi::OsString;

/// This process's number.
pub fn id() -> u32 {
    std::process::id()
}

/// How many page faults all threads of the process have taken that read nothing from a disk.
pub fn minor_faults() -> i64 {
    nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF)
        .map_or(0, |usage| usage.minor_page_faults())
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

/// What the kernel says of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    /// When it started, in ticks since the system did. Its number and this are no other's.
    pub started: u64,
    /// Whether it has begun to end. It runs no code of its own any more, but freeing its memory and
    /// closing its descriptors may take it seconds.
    pub is_ending: bool,
}

pub fn life_of(process: u32) -> SysResult<Life> {
    inject::trip("open_stat")?;
    let text = std::fs::read(format!("/proc/{process}/stat"))
        .map_err(|error| SysError::from_io("open", &error))?;
    parse(&text).ok_or(SysError::new("read", Errno::EPROTO))
}

/// PF_EXITING, of linux/sched.h.
const ENDING: u64 = 4;

fn parse(stat: &[u8]) -> Option<Life> {
    // The name, in parentheses, may have any characters.
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let tail = std::str::from_utf8(stat.get(end..)?.get(1..)?).ok()?;
    let mut fields = tail.split_ascii_whitespace();
    let state = fields.next()?;
    // The 9th and the 22nd of proc(5).
    let flags: u64 = fields.nth(5)?.parse().ok()?;
    let started = fields.nth(12)?.parse().ok()?;
    Some(Life { started, is_ending: matches!(state, "Z" | "X" | "x") || flags & ENDING != 0 })
}

/// Whether a process runs no code any more, though it is still there. False where nobody can tell.
pub fn is_ending(process: u32) -> bool {
    life_of(process).is_ok_and(|life| life.is_ending)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_runs_until_it_begins_to_end() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let running = life_of(child.id()).unwrap();
        assert!(!running.is_ending);
        assert!(running.started >= life_of(id()).unwrap().started);
        child.kill().unwrap();
        // Nobody has waited for it.
        let ended = || life_of(child.id()).unwrap() == Life { is_ending: true, ..running };
        while !ended() {
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert!(life_of(child.id()).is_err());
    }

    #[test]
    fn a_name_with_parentheses_and_spaces_hides_nothing() {
        let rest = "S 1 2 3 0 -1 4194564 8 9 10 11 12 13 14 15 20 0 1 0 777 1 2";
        let life = parse(format!("12 (a) Z ( ) {rest}").as_bytes());
        assert_eq!(life, Some(Life { started: 777, is_ending: true }));
        let rest = rest.replace("4194564", "4194560");
        let life = parse(format!("12 (node) {rest}").as_bytes());
        assert_eq!(life, Some(Life { started: 777, is_ending: false }));
        assert_eq!(parse(b"12 (node) S 1"), None);
    }
}
