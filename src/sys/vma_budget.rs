//! Headroom: how many more VMAs the process may have.
//!
//! The kernel lets a process have `vm.max_map_count` VMAs, 65,530 by default. At the limit it is V8
//! or an allocator that gets no memory and ends the process, long before one of our calls is the
//! one that fails. So we refuse new VMAs while plenty are left for everybody else.
//!
//! Ours are counted as they come and go. All others are counted by reading the process's map, once
//! for every 512 that we add, so that a call costs no more than an atomic addition. The map of a
//! process with many VMAs takes long to read, so counting takes at most one sixteenth of the time,
//! as long as what we add is little beside what is left.
//!
//! Calls: none of its own. [`take_in_handler`] and [`give_back`] are safe in handlers.

use super::{clock, limits, process_map};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// VMAs that a mapping takes at most: itself, and the part that it cuts off its surroundings.
pub const VMAS_OF_A_MAPPING: u64 = 2;

/// VMAs that a linear memory takes at most: the guard below it, itself, and the guard above.
pub const VMAS_OF_A_MEMORY: u64 = 3;

/// How many of our VMAs may come before all others are counted again.
const COUNTED_FOR: u64 = 512;

/// One in so many of those that are left may come while counting rests. So even if others take all
/// that is left meanwhile, ours are less than the eighth that is V8's.
const SHARE_WHILE_RESTING: u64 = 8;

/// Counting rests for so many times what it took.
const RESTS_FOR: u64 = 15;

/// And no longer than this, in nanoseconds: the process may have been stopped while it counted.
const MOST_REST: u64 = 1_000_000_000;

/// Wraps below 0 where zeros have merged with those of mappings that are gone: what was claimed for
/// them was given back twice. See [`counted`].
static OURS: AtomicU64 = AtomicU64::new(0);
static OTHERS: AtomicU64 = AtomicU64::new(0);
static COUNT_AT: CountAt = CountAt::new();
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
        if COUNT_AT.is_due(ours, clock::tick) {
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
    let begun = clock::tick();
    let mut all = 0_u64;
    // If the map can't be read, nothing is known to be in the way.
    let _ = process_map::for_each(|_| all = all.wrapping_add(1));
    // Ours may have merged with their neighbours, so that we count more than there are. Then this
    // is too small by the difference, and at least 0.
    OTHERS.store(all.saturating_sub(ours), Ordering::Relaxed);
    let most = limit().saturating_sub(left_to_others());
    COUNT_AT.set(ours, most.saturating_sub(ours.max(all)), begun, clock::tick());
}

/// When `OTHERS` is to be counted again: by `OURS`, and by the clock of [`clock::tick`], whose
/// numbers are nanoseconds. The three may be of two counts that other threads made.
#[derive(Debug)]
struct CountAt {
    /// From so many on, once counting has rested.
    few: AtomicU64,
    /// From so many on in any case.
    many: AtomicU64,
    rested: AtomicU64,
}

impl CountAt {
    const fn new() -> Self {
        Self { few: AtomicU64::new(0), many: AtomicU64::new(0), rested: AtomicU64::new(0) }
    }

    fn is_due(&self, ours: u64, tick: impl FnOnce() -> u64) -> bool {
        let few = self.few.load(Ordering::Relaxed);
        // Where ours have become fewer, others may have taken their place, and would not be seen
        // before ours are as many again.
        let are_fewer = ours < few.saturating_sub(2 * COUNTED_FOR);
        (ours >= few || are_fewer)
            && (ours >= self.many.load(Ordering::Relaxed)
                || tick() >= self.rested.load(Ordering::Relaxed))
    }

    /// Takes note of a count.
    fn set(&self, ours: u64, left: u64, begun: u64, done: u64) {
        let after = |more: u64| ours.checked_add(more).expect("fewer VMAs than numbers");
        self.few.store(after(COUNTED_FOR), Ordering::Relaxed);
        self.many.store(after(COUNTED_FOR.max(left / SHARE_WHILE_RESTING)), Ordering::Relaxed);
        let rest = done.saturating_sub(begun).saturating_mul(RESTS_FOR).min(MOST_REST);
        self.rested.store(done.saturating_add(rest), Ordering::Relaxed);
    }
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

    #[test]
    fn counting_rests_unless_much_of_what_is_left_was_taken() {
        let at = CountAt::new();
        assert!(at.is_due(2, || 0), "nothing was ever counted");
        at.set(1_000, 40_000, 100, 200);
        let rested = 200 + 15 * 100;
        assert!(!at.is_due(1_511, || panic!("few ask for the time")));
        assert!(!at.is_due(1_512, || rested - 1));
        assert!(at.is_due(1_512, || rested));
        assert!(!at.is_due(5_999, || rested - 1));
        assert!(at.is_due(6_000, || 0), "an eighth of what was left");

        // 512 fewer than were counted.
        assert!(!at.is_due(488, || panic!("few ask for the time")));
        assert!(!at.is_due(487, || rested - 1));
        assert!(at.is_due(487, || rested), "others may have come in their place");

        // Where little is left, or the clock tells nothing, as often as ever.
        at.set(1_000, 4_095, 100, 200);
        assert!(at.is_due(1_512, || 0));
        at.set(1_000, 40_000, 0, 0);
        assert!(at.is_due(1_512, || 0));
    }

    #[test]
    fn all_that_may_be_taken_is_counted_a_few_dozen_times() {
        let (at, most) = (CountAt::new(), 57_339);
        let mut counts = 0;
        for ours in (0..=most).step_by(2) {
            // As if it never had rested.
            if at.is_due(ours, || 0) {
                counts += 1;
                at.set(ours, most - ours, 1, u64::MAX);
            }
        }
        assert!((8..32).contains(&counts), "{counts} times");
    }
}
