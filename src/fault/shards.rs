//! Registries side by side, each for addresses of its own, so that no lock is held by all threads.
//!
//! The addresses are cut into stretches of 4 GiB, and the stretches are dealt out to the registries
//! in turn. V8 keeps at least 8 GiB for a memory: memories beside each other, of eight threads say,
//! have registries of their own. A range is in the registry of each stretch that it touches, so
//! that a handler asks one. Of 64 stretches and more it is in all.
//!
//! It comes into the registry of its first stretch first, and leaves that last. So a look at all
//! ranges, by their first stretches, shows each one that a handler can find. But one that lost
//! its addresses to another is taken out where the other one is, and stays in the registries that
//! the other one is not in, as the range of a memory does that nobody has told us the death of:
//! what is at the address now decides (`range`, `by_proof`). Its owner takes it out of all.
//!
//! [`Shards::find`] is for handlers: it takes no lock, allocates nothing and does not panic. Kept
//! apart from the rest of the crate, so that it can be checked by loom: see tests/loom.

use super::registry::{Addresses, Registry};
use crate::sys::to_usize;
use std::sync::Arc;

#[cfg(not(loom))]
const COUNT: usize = 64;
#[cfg(loom)]
const COUNT: usize = 2;
const STRETCH_SHIFT: u32 = 32;

#[derive(Debug)]
pub(super) struct Shards<T>([Registry<T>; COUNT]);

impl<T> Shards<T> {
    #[cfg(not(loom))]
    pub(super) const fn new() -> Self {
        Self([const { Registry::new() }; COUNT])
    }

    #[cfg(loom)]
    pub(super) fn new() -> Self {
        Self(std::array::from_fn(|_| Registry::new()))
    }

    fn of(&self, stretch: u64) -> Option<&Registry<T>> {
        self.0.get(to_usize(stretch) % COUNT)
    }

    /// The registries of a range, that of its first stretch first, each once.
    fn all_of(&self, range: &Addresses) -> impl DoubleEndedIterator<Item = &Registry<T>> {
        let first = range.start >> STRETCH_SHIFT;
        let last = range.end.saturating_sub(1) >> STRETCH_SHIFT;
        let more = to_usize(last.saturating_sub(first)).min(COUNT - 1);
        (0..=more).filter_map(move |at| self.of(first.wrapping_add(crate::sys::to_u64(at))))
    }

    /// As [`Registry::find`].
    pub(super) fn find<R>(&self, address: u64, look: impl FnOnce(&T) -> R) -> Option<R> {
        self.of(address >> STRETCH_SHIFT)?.find(address, look)
    }

    /// As [`Registry::insert`].
    pub(super) fn insert(&self, range: &Addresses, value: &Arc<T>) {
        for registry in self.all_of(range) {
            registry.insert(range.clone(), Arc::clone(value));
        }
    }

    /// Takes out this value's range.
    pub(super) fn remove(&self, range: &Addresses, value: &Arc<T>) {
        for registry in self.all_of(range).rev() {
            registry.remove(range.start, value);
        }
    }

    /// Runs `work` while no other thread can write to the registry of an address.
    #[cfg(loom)]
    pub(super) fn locked(&self, address: u64, work: impl FnOnce()) {
        if let Some(registry) = self.of(address >> STRETCH_SHIFT) {
            registry.locked(work);
        }
    }

    /// Shows every value once. `start` tells where its range starts. Not for handlers.
    pub(super) fn for_each(&self, start: impl Fn(&T) -> u64, mut look: impl FnMut(&Arc<T>)) {
        for (at, registry) in self.0.iter().enumerate() {
            registry.for_each(|value| {
                if to_usize(start(value) >> STRETCH_SHIFT) % COUNT == at {
                    look(value);
                }
            });
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::sync::{Barrier, mpsc};

    const STRETCH: u64 = 1 << STRETCH_SHIFT;
    const PART: u64 = STRETCH / 4;

    fn listed(shards: &Shards<(u64, u64)>) -> Vec<u64> {
        let mut listed = Vec::new();
        shards.for_each(|value| value.0, |value| listed.push(value.1));
        listed.sort_unstable();
        listed
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 256 }))]

        #[test]
        fn it_agrees_with_a_model(
            steps in proptest::collection::vec((0..400_u64, 1..20_u64, any::<bool>()), 1..64)
        ) {
            let shards = Shards::new();
            let mut live: BTreeMap<u64, (Addresses, Arc<(u64, u64)>)> = BTreeMap::new();
            for (id, (start, length, wide)) in steps.into_iter().enumerate() {
                let start = start * PART;
                let end = start + if wide { length * 30 * PART } else { length * PART / 8 };
                let overlapping = live
                    .iter()
                    .find(|(_, (range, _))| range.start < end && start < range.end)
                    .map(|(at, _)| *at);
                if let Some(at) = overlapping {
                    let (range, value) = live.remove(&at).unwrap();
                    shards.remove(&range, &value);
                    prop_assert_eq!(Arc::strong_count(&value), 1, "in no registry any more");
                } else {
                    let value = Arc::new((start, id as u64));
                    shards.insert(&(start..end), &value);
                    live.insert(start, (start..end, value));
                }
                for (range, value) in live.values() {
                    for address in [range.start, range.start.midpoint(range.end), range.end - 1] {
                        prop_assert_eq!(shards.find(address, |found| *found), Some(**value));
                    }
                    let after = live.contains_key(&range.end);
                    prop_assert!(after || shards.find(range.end, |_| ()).is_none());
                }
                let mut expected: Vec<u64> = live.values().map(|(_, value)| value.1).collect();
                expected.sort_unstable();
                prop_assert_eq!(listed(&shards), expected);
            }
        }
    }

    #[test]
    fn a_range_that_lost_its_addresses_leaves_for_good_with_its_owner() {
        let shards = Shards::new();
        let (old, new) = (Arc::new((0, 1)), Arc::new((STRETCH, 2)));
        let (wide, narrow) = (0..3 * STRETCH, STRETCH..STRETCH + 4096);
        shards.insert(&wide, &old);
        shards.insert(&narrow, &new);
        assert_eq!(shards.find(STRETCH, |value| value.1), Some(2));
        assert_eq!(listed(&shards), [1, 2]);
        shards.remove(&wide, &old);
        assert_eq!(Arc::strong_count(&old), 1);
        assert_eq!(listed(&shards), [2]);
        assert_eq!(shards.find(0, |_| ()), None);
    }

    #[test]
    fn a_range_of_all_addresses_is_in_each_registry_once() {
        let shards = Shards::new();
        let value = Arc::new((0, 1));
        let all = 0..u64::MAX;
        shards.insert(&all, &value);
        assert_eq!(Arc::strong_count(&value), 1 + COUNT);
        assert_eq!(shards.find(u64::MAX - 1, |value| value.1), Some(1));
        assert_eq!(listed(&shards), [1]);
        shards.remove(&all, &value);
        assert_eq!(Arc::strong_count(&value), 1);
    }

    /// Eight memories beside each other, as V8 makes them (8 GiB apart, or 10). While the locks of
    /// seven are held, the eighth one's thread comes and goes: it waits for none of them.
    #[test]
    fn memories_beside_each_other_wait_for_no_lock_of_each_other() {
        for reservation in [8_u64 << 30, 10 << 30] {
            let shards = Shards::new();
            let base = 0x7f12_3456_0000;
            let memory = |at: u64| {
                let start = base + at * reservation;
                (start..start + (1 << 30), Arc::new((start, at)))
            };
            for at in 0..7 {
                let (range, value) = memory(at);
                shards.insert(&range, &value);
            }
            let (eighth, own) = memory(7);
            hold(&shards, &(0..7).map(|at| memory(at).0).collect::<Vec<_>>(), &mut || {
                let (done, is_done) = mpsc::channel();
                std::thread::scope(|scope| {
                    scope.spawn(|| {
                        for _ in 0..100 {
                            shards.insert(&eighth, &own);
                            assert_eq!(shards.find(eighth.start, |value| value.1), Some(7));
                            shards.remove(&eighth, &own);
                        }
                        done.send(()).unwrap();
                    });
                    // A thread that waits for a lock would wait for this one, which holds it.
                    let ended = is_done.recv_timeout(std::time::Duration::from_secs(60));
                    if ended.is_err() {
                        eprintln!("it waits for a lock of another memory");
                        std::process::abort();
                    }
                });
            });
        }
    }

    /// Runs `work` while other threads have the locks of all of these ranges' registries.
    fn hold(shards: &Shards<(u64, u64)>, ranges: &[Addresses], work: &mut dyn FnMut()) {
        let mut registries: Vec<&Registry<(u64, u64)>> = Vec::new();
        for registry in ranges.iter().flat_map(|range| shards.all_of(range)) {
            if !registries.iter().any(|held| std::ptr::eq(*held, registry)) {
                registries.push(registry);
            }
        }
        let step = Barrier::new(registries.len() + 1);
        std::thread::scope(|scope| {
            for registry in registries {
                scope.spawn(|| {
                    registry.locked(|| {
                        step.wait();
                        step.wait();
                    });
                });
            }
            step.wait();
            work();
            step.wait();
        });
    }
}
