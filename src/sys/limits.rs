//! What the machine and the process allow: limits and counts.
//!
//! What a refusal means is decided elsewhere (`diagnose`). Not for handlers.
//!
//! Calls: getrlimit; reads of /proc/sys/vm, /proc/meminfo, /proc/self/status and the process's map.

// The kernel writes a limit to an address.
#![allow(unsafe_code)]

use super::{SysError, SysResult, alloc, process_map};
use nix::sys::resource::{Resource, getrlimit};
use std::fs;

/// Ranges of the address space that nothing takes.
#[derive(Debug, Clone, Default)]
pub struct AddressSpace {
    pub total_bytes: u64,
    pub free_bytes: u64,
    pub largest_free_bytes: u64,
    /// Size of each gap, in order of address.
    gaps: Vec<u64>,
    /// How many VMAs the process has.
    pub vma_count: u64,
    /// Bytes that are mapped and inaccessible: reservations and guards.
    pub inaccessible_bytes: u64,
    /// Bytes mapped in all; what RLIMIT_AS limits.
    pub mapped_bytes: u64,
}

impl AddressSpace {
    /// How many ranges of this size still fit.
    pub fn room_for(&self, bytes: u64) -> u64 {
        // At most the address space, even for a size of one byte.
        self.gaps.iter().filter_map(|gap| gap.checked_div(bytes)).sum()
    }
}

/// Lowest address that mmap gives by default: `vm.mmap_min_addr`.
const LOWEST: u64 = 65_536;

/// Measures the whole process. Cost: grows with the number of VMAs.
#[allow(clippy::arithmetic_side_effects)] // Each step says why.
pub fn address_space() -> SysResult<AddressSpace> {
    let mut space = AddressSpace::default();
    let mut at = LOWEST;
    let mut kept = Ok(());
    process_map::for_each(|vma| {
        // The vsyscall page of x64 is in the kernel's half.
        if vma.start >> 63 != 0 {
            return;
        }
        // The kernel lists VMAs in order, but the first may be below LOWEST.
        let gap = vma.start.saturating_sub(at);
        if gap > 0 && kept.is_ok() {
            kept = alloc::push(&mut space.gaps, gap);
        }
        at = vma.end.max(at);
        // Sums of disjoint ranges below 2^63.
        let bytes = vma.end - vma.start;
        space.vma_count += 1;
        space.mapped_bytes += bytes;
        if vma.is_inaccessible() {
            space.inaccessible_bytes += bytes;
        }
    })?;
    // The stack is near the top, so the top is the next power of two: 2^47 on x64, 2^39 to 2^52 on
    // arm64.
    space.total_bytes = at.next_power_of_two();
    kept?;
    alloc::push(&mut space.gaps, space.total_bytes - at)?;
    space.free_bytes = space.gaps.iter().sum();
    space.largest_free_bytes = space.gaps.iter().copied().max().expect("one was just added");
    Ok(space)
}

/// RLIMIT_AS in bytes, if there is one.
pub fn rlimit_address_space() -> SysResult<Option<u64>> {
    rlimit(Resource::RLIMIT_AS)
}

/// RLIMIT_DATA in bytes, if there is one. It bounds private writable mappings.
pub fn rlimit_data() -> SysResult<Option<u64>> {
    rlimit(Resource::RLIMIT_DATA)
}

/// Whether address space is bounded at this moment, or, if `private_data`, private writable memory.
/// For hot paths: this system call takes less than half of the time of `prlimit64`, which
/// `getrlimit` of glibc is.
pub fn is_bounded_now(private_data: bool) -> bool {
    let is_bounded = |resource: libc::c_long| {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: the kernel writes one rlimit.
        let asked = unsafe { libc::syscall(libc::SYS_getrlimit, resource, &raw mut limit) };
        asked != 0 || limit.rlim_cur != libc::RLIM_INFINITY
    };
    is_bounded(libc::RLIMIT_AS.into()) || private_data && is_bounded(libc::RLIMIT_DATA.into())
}

fn rlimit(resource: Resource) -> SysResult<Option<u64>> {
    let (soft, _hard) = getrlimit(resource).map_err(|errno| SysError::new("getrlimit", errno))?;
    Ok((soft != nix::sys::resource::RLIM_INFINITY).then_some(soft))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overcommit {
    Heuristic,
    Always,
    Never,
}

/// `vm.overcommit_memory`, see proc_sys_vm(5). A kernel that doesn't tell is taken for the default.
pub fn overcommit() -> Overcommit {
    match read_number("/proc/sys/vm/overcommit_memory") {
        Some(1) => Overcommit::Always,
        Some(2) => Overcommit::Never,
        _ => Overcommit::Heuristic,
    }
}

/// Bytes that the process has locked (mlock(2)). `None`: it can't be read.
pub fn locked_bytes() -> Option<u64> {
    status_bytes("VmLck:")
}

/// What RLIMIT_DATA counts, and that limit, in bytes. `None`: there is none, or nothing tells.
pub fn data_limit() -> Option<(u64, u64)> {
    let limit_bytes = rlimit_data().ok()??;
    Some((status_bytes("VmData:")?, limit_bytes))
}

fn status_bytes(key: &str) -> Option<u64> {
    kib_in(&fs::read_to_string("/proc/self/status").ok()?, key)?.checked_mul(1024)
}

fn kib_in(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with(key))?;
    line.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// Bytes that may still be committed where overcommit is off.
pub fn commit_left_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    // More may be committed than the limit allows, where overcommit was on before.
    let left = kib_in(&text, "CommitLimit:")?.saturating_sub(kib_in(&text, "Committed_AS:")?);
    left.checked_mul(1024)
}

/// `vm.max_map_count`: how many VMAs a process may have. Where it can't be read, the kernel's
/// default.
pub fn max_map_count() -> u64 {
    read_max_map_count().unwrap_or(65_530)
}

pub fn read_max_map_count() -> Option<u64> {
    read_number("/proc/sys/vm/max_map_count")
}

fn read_number(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_space_adds_up() {
        let space = address_space().unwrap();
        let counted = space.free_bytes + space.mapped_bytes + LOWEST;
        assert_eq!(counted, space.total_bytes);
        assert!(space.largest_free_bytes <= space.free_bytes);
        assert!(space.room_for(1 << 30) >= space.room_for(1 << 40));
        assert!(max_map_count() > space.vma_count);
    }
}
