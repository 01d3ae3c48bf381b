//! Headroom: how many more VMAs the process may have.
//!
//! The kernel lets a process have `vm.max_map_count` VMAs, 65,530 by default. At the limit it is V8
//! or an allocator that gets no memory and ends the process, long before one of our calls is the
//! one that fails. So we refuse new VMAs while plenty are left for everybody else.
//!
//! Ours are counted as they come and go. All others are counted by reading the process's map, once
//! for every 512 that we add, so that a call costs no more than an atomic addition.
//!
//! Calls: none of its own. [`take_in_handler`] and [`give_back`] are safe in handlers.

use super::{limits, process_map};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// VMAs that a mapping takes at most: itself, and the part that it cuts off its surroundings.
pub const VMAS_OF_A_MAPPING: u64 = 2;

/// VMAs that a linear memory takes at most: the guard below it, itself, and the guard above.
pub const VMAS_OF_A_MEMORY: u64 = 3;

/// How many of our VMAs may come before all others are counted again.
const COUNTED_FOR: u64 = 512;

/// Wraps below 0 where zeros have merged with those of mappings that are gone: what was claimed for
/// them was given back twice. See [`counted`].
static OURS: AtomicU64 = AtomicU64::new(0);
static OTHERS: AtomicU64 = AtomicU64::new(0);
/// `OURS` when `OTHERS` is to be counted again.
static COUNT_AT: AtomicU64 = AtomicU64::new(0);
/// How many VMAs there may be for a signal handler to make more: `limit` less what is left to
/// others.
static MOST_IN_HANDLER: AtomicU64 = AtomicU64::new(0);

/// `vm.max_map_count`. Read until it could be: a process without descriptors can't, and is told the
/// kernel's default until then.
fn limit() -> u64 {
    static LIMIT: OnceLock<u64> = OnceLock::new();
    if let Some(limit) = LIMIT.get() {
        return *limit;
    }
    match limits::read_max_map_count() {
        Some(limit) => *LIMIT.get_or_init(|| limit),
        None => limits::max_map_count(),
    }
}

/// VMAs that are left to V8, to allocators and to other libraries: one in eight.
fn left_to_others() -> u64 {
    limit() >> 3
}

/// The process has too many VMAs for another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoHeadroom {
    pub used: u64,
    pub limit: u64,
    pub left_to_others: u64,
}

/// VMAs that were taken. Given back when dropped.
#[derive(Debug)]
pub struct VmaClaim(u64);

impl VmaClaim {
    pub fn none() -> Self {
        Self(0)
    }

    /// Takes `count` VMAs, before the system call that makes them.
    pub fn take(count: u64) -> Result<Self, NoHeadroom> {
        let before = OURS.fetch_add(count, Ordering::Relaxed);
        let taken = Self(count);
        let ours = counted(before.wrapping_add(count));
        if ours >= COUNT_AT.load(Ordering::Relaxed) {
            count_others(counted(before));
        }
        let most = limit().checked_sub(left_to_others()).expect("an eighth is not more");
        MOST_IN_HANDLER.store(most, Ordering::Relaxed);
        let others = || OTHERS.load(Ordering::Relaxed);
        let used = || ours.checked_add(others()).expect("fewer VMAs than numbers");
        if used() <= most {
            return Ok(taken);
        }
        // Others may have become fewer since they were counted.
        count_others(counted(before));
        if used() <= most {
            return Ok(taken);
        }
        Err(NoHeadroom { used: used(), limit: limit(), left_to_others: left_to_others() })
    }
}

/// Takes `count` VMAs in a signal handler, by what was counted last: counting takes too long there.
/// If it returns true, the VMAs must be given back by [`give_back`].
pub fn take_in_handler(count: u64) -> bool {
    let before = OURS.fetch_add(count, Ordering::Relaxed);
    let ours = counted(before.wrapping_add(count));
    let used = ours.checked_add(OTHERS.load(Ordering::Relaxed));
    // Not `limit()`, which might have to be read first: before any mapping was made it is 0, and
    // all is refused.
    let most = MOST_IN_HANDLER.load(Ordering::Relaxed);
    let taken = used.is_some_and(|used| used <= most);
    if !taken {
        give_back(count);
    }
    taken
}

/// How many VMAs a value of [`OURS`] is: none where it is below 0.
fn counted(ours: u64) -> u64 {
    ours.cast_signed().max(0).cast_unsigned()
}

pub fn give_back(count: u64) {
    OURS.fetch_sub(count, Ordering::Relaxed);
}

impl Drop for VmaClaim {
    fn drop(&mut self) {
        give_back(self.0);
    }
}

fn count_others(ours: u64) {
    let mut all = 0_u64;
    // If the map can't be read, nothing is known to be in the way.
    let _ = process_map::for_each(|_| all = all.wrapping_add(1));
    // Ours may have merged with their neighbours, so that we count more than there are. Then this
    // is too small by the difference, and at least 0.
    OTHERS.store(all.saturating_sub(ours), Ordering::Relaxed);
    let count_at = ours.checked_add(COUNTED_FOR).expect("fewer VMAs than numbers");
    COUNT_AT.store(count_at, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vmas_are_refused_while_others_have_plenty_left_and_come_back() {
        let most = limit() - left_to_others();
        let refused = VmaClaim::take(most).unwrap_err();
        assert!(refused.used > most && refused.limit == limit());
        let some = VmaClaim::take(100).unwrap();
        drop(some);
        assert!(VmaClaim::take(100).is_ok(), "what was refused is not counted");

        // As when zeros are given back for more mappings than there are any more.
        let many = 1 << 40;
        give_back(many);
        assert!(VmaClaim::take(2).is_ok() && take_in_handler(2));
        OURS.fetch_add(many - 2, Ordering::Relaxed);
    }
}
