//! A map from address ranges to values that a signal handler can read.
//!
//! A handler may interrupt any instruction of any thread, one that holds a lock included, so it
//! must neither wait nor allocate. So a version of the map is a tree that never changes. A writer
//! makes a new version, which shares all but one path with the old one, and puts it in the place of
//! the old one by a single store.
//!
//! ```text
//!  root --> version 8:  d'          version 7:  d        a reader that came before the store still walks version 7,
//!                      / \                     / \       which is kept until no reader is there
//!                     b'  f <-----------------|-- f
//!                    / \                      b
//!             new-> a   c <------------------/ \c
//! ```
//!
//! Readers are counted. A writer that sees none after it stored the new root may free all that was
//! retired: later readers find the new root. A writer that sees one leaves the freeing to
//! the next writer. So nobody ever waits for a reader, and a reader for nobody.
//!
//! Kept apart from the rest of the crate, so that it can be checked by loom: see tests/loom.

// A handler reads the tree without a lock.
#![allow(unsafe_code)]
// An empty tree is a tree: functions take and give all trees alike.
#![allow(clippy::ref_option, clippy::unnecessary_wraps)]

#[cfg(loom)]
use loom::sync::atomic::{AtomicPtr, AtomicUsize, Ordering, fence};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering, fence};

use crate::sys::lock::{Guard, Level, Lock};
use std::ops::Range;
use std::sync::Arc;

/// Addresses, the end excluded.
pub type Addresses = Range<u64>;

#[derive(Debug)]
struct Node<T> {
    range: Addresses,
    value: Arc<T>,
    /// Random: a node's is not less than its children's, which keeps the tree flat (a treap).
    priority: u64,
    below: Tree<T>,
    above: Tree<T>,
}

type Tree<T> = Option<Arc<Node<T>>>;

#[derive(Debug)]
struct Writer<T> {
    /// The newest version. What `Registry::root` points to.
    tree: Tree<T>,
    /// Versions and values that a reader may still see.
    retired: Vec<Tree<T>>,
    seed: u64,
}

impl<T> Writer<T> {
    const NEW: Self = Self { tree: None, retired: Vec::new(), seed: SEED };
}

#[derive(Debug)]
pub struct Registry<T> {
    /// The root of the newest version, null if it is empty.
    ///
    /// # Safety
    /// `writer` keeps what it points to, and everything that is reachable from there, until it has
    /// found `readers` to be 0 after another root was stored.
    root: AtomicPtr<Node<T>>,
    /// How many handlers are reading now.
    readers: AtomicUsize,
    writer: Lock<Writer<T>>,
}

const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

impl<T> Registry<T> {
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self {
            root: AtomicPtr::new(std::ptr::null_mut()),
            readers: AtomicUsize::new(0),
            writer: Lock::new(Level::FaultRegistry, Writer::NEW),
        }
    }

    #[cfg(loom)]
    pub fn new() -> Self {
        Self {
            root: AtomicPtr::new(std::ptr::null_mut()),
            readers: AtomicUsize::new(0),
            writer: Lock::new(Level::FaultRegistry, Writer::NEW),
        }
    }

    /// Looks up an address and lets `look` see what it belongs to. Takes no lock and allocates
    /// nothing; steps grow with the logarithm of the number of ranges. `look` must not panic.
    pub fn find<R>(&self, address: u64, look: impl FnOnce(&T) -> R) -> Option<R> {
        let mut at = self.begin();
        let mut found = None;
        // SAFETY: what `begin` has given stays until `end`.
        while let Some(node) = unsafe { at.as_ref() } {
            at = if address < node.range.start {
                pointer_to(&node.below)
            } else if address >= node.range.end {
                pointer_to(&node.above)
            } else {
                found = Some(look(&node.value));
                break;
            };
        }
        self.end();
        found
    }

    /// The root of the newest version. By the Safety section of `root`, nothing that is reachable
    /// from there is freed until [`Self::end`]: this reader is counted before it loads the root,
    /// and the fences put that before any writer's look at the count.
    fn begin(&self) -> *const Node<T> {
        self.readers.fetch_add(1, Ordering::Relaxed);
        // Orders the count before the load, as the writer's fence orders its store before it looks
        // at the count: one of the two sees the other.
        fence(Ordering::SeqCst);
        self.root.load(Ordering::Acquire).cast_const()
    }

    fn end(&self) {
        // Release: all reading comes before the writer sees the reader gone.
        self.readers.fetch_sub(1, Ordering::Release);
    }

    /// Adds a range. Ranges that it overlaps are taken out: their owners have lost the addresses.
    ///
    /// # Panics
    /// If the range is empty.
    pub fn insert(&self, range: Addresses, value: Arc<T>) {
        assert!(range.start < range.end, "a range holds at least one address");
        let mut writer = self.write();
        writer.seed = mix(writer.seed);
        let priority = writer.seed;
        let tree = if overlaps(&writer.tree, &range) {
            let (below, rest) = split(&writer.tree, range.start);
            let (_, above) = split(&rest, range.end);
            join(&without_end_above(below, range.start), &above)
        } else {
            writer.tree.clone()
        };
        let tree = put(&tree, Node { range, value, priority, below: None, above: None });
        self.publish(&mut writer, tree);
    }

    /// Takes out the range that starts here, if it is this value's.
    pub fn remove(&self, start: u64, value: &Arc<T>) {
        let mut writer = self.write();
        if starting_at(&writer.tree, start).is_some_and(|node| Arc::ptr_eq(&node.value, value)) {
            let tree = take(&writer.tree, start);
            self.publish(&mut writer, tree);
        }
    }

    /// Shows every value that is there when it begins, in order of address. Takes no lock. What
    /// writers replace meanwhile is kept until it is done, and for good if `look` panics.
    pub fn for_each(&self, mut look: impl FnMut(&Arc<T>)) {
        fn walk<T>(tree: Option<&Node<T>>, look: &mut impl FnMut(&Arc<T>)) {
            if let Some(node) = tree {
                walk(node.below.as_deref(), look);
                look(&node.value);
                walk(node.above.as_deref(), look);
            }
        }
        // SAFETY: what `begin` has given stays until `end`.
        walk(unsafe { self.begin().as_ref() }, &mut look);
        self.end();
    }

    /// Runs `work` while no other thread can write.
    #[cfg(test)]
    pub(super) fn locked(&self, work: impl FnOnce()) {
        let _writer = self.write();
        work();
    }

    fn write(&self) -> Guard<'_, Writer<T>> {
        // A version is published whole or not at all, so a panic of another writer left nothing
        // half done.
        self.writer.lock()
    }

    fn publish(&self, writer: &mut Writer<T>, tree: Tree<T>) {
        self.root.store(pointer_to(&tree).cast_mut(), Ordering::Release);
        let old = std::mem::replace(&mut writer.tree, tree);
        writer.retired.push(old);
        fence(Ordering::SeqCst);
        if self.readers.load(Ordering::Acquire) == 0 {
            writer.retired.clear();
        }
    }
}

fn pointer_to<T>(tree: &Tree<T>) -> *const Node<T> {
    tree.as_ref().map_or(std::ptr::null(), Arc::as_ptr)
}

/// Whether a range of the tree has an address of this one.
fn overlaps<T>(tree: &Tree<T>, range: &Addresses) -> bool {
    let mut at = tree;
    while let Some(node) = at {
        at = if range.end <= node.range.start {
            &node.below
        } else if range.start >= node.range.end {
            &node.above
        } else {
            return true;
        };
    }
    false
}

fn starting_at<T>(tree: &Tree<T>, start: u64) -> Option<&Node<T>> {
    let mut at = tree;
    while let Some(node) = at {
        at = match start.cmp(&node.range.start) {
            std::cmp::Ordering::Less => &node.below,
            std::cmp::Ordering::Greater => &node.above,
            std::cmp::Ordering::Equal => return Some(node),
        };
    }
    None
}

/// With one range more, which overlaps none. Copies the path to it.
fn put<T>(tree: &Tree<T>, new: Node<T>) -> Tree<T> {
    match tree {
        Some(node) if node.priority >= new.priority => {
            if new.range.start < node.range.start {
                with(node, put(&node.below, new), node.above.clone())
            } else {
                with(node, node.below.clone(), put(&node.above, new))
            }
        }
        _ => {
            let (below, above) = split(tree, new.range.start);
            Some(Arc::new(Node { below, above, ..new }))
        }
    }
}

/// Without the range that starts here. Copies the path to it.
fn take<T>(tree: &Tree<T>, start: u64) -> Tree<T> {
    let node = tree.as_ref()?;
    match start.cmp(&node.range.start) {
        std::cmp::Ordering::Less => with(node, take(&node.below, start), node.above.clone()),
        std::cmp::Ordering::Greater => with(node, node.below.clone(), take(&node.above, start)),
        std::cmp::Ordering::Equal => join(&node.below, &node.above),
    }
}

/// The ranges that start below an address, and the others. Copies the path to the cut.
fn split<T>(tree: &Tree<T>, at: u64) -> (Tree<T>, Tree<T>) {
    let Some(node) = tree else { return (None, None) };
    if node.range.start < at {
        let (below, above) = split(&node.above, at);
        (with(node, node.below.clone(), below), above)
    } else {
        let (below, above) = split(&node.below, at);
        (below, with(node, above, node.above.clone()))
    }
}

/// Everything of `below` starts below everything of `above`.
fn join<T>(below: &Tree<T>, above: &Tree<T>) -> Tree<T> {
    match (below, above) {
        (tree, None) | (None, tree) => tree.clone(),
        (Some(low), Some(high)) if low.priority >= high.priority => {
            with(low, low.below.clone(), join(&low.above, above))
        }
        (Some(_), Some(high)) => with(high, join(below, &high.below), high.above.clone()),
    }
}

/// Leaves out the last range if it ends above an address. Ranges don't overlap, so no other can.
fn without_end_above<T>(tree: Tree<T>, address: u64) -> Tree<T> {
    let mut last = None;
    let mut at = &tree;
    while let Some(node) = at {
        last = Some(node.range.clone());
        at = &node.above;
    }
    match last {
        Some(range) if range.end > address => split(&tree, range.start).0,
        _ => tree,
    }
}

fn with<T>(node: &Node<T>, below: Tree<T>, above: Tree<T>) -> Tree<T> {
    let (range, value) = (node.range.clone(), Arc::clone(&node.value));
    Some(Arc::new(Node { range, value, priority: node.priority, below, above }))
}

/// One step of splitmix64: well spread numbers, none of which has to be secret.
fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(SEED);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn at(registry: &Registry<u64>, address: u64) -> Option<u64> {
        registry.find(address, |value| *value)
    }

    fn depth(tree: &Tree<u64>) -> usize {
        tree.as_ref().map_or(0, |node| 1 + depth(&node.below).max(depth(&node.above)))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 512 }))]

        #[test]
        fn it_agrees_with_a_model_of_single_addresses(
            steps in proptest::collection::vec((0..96_u64, 1..24_u64, any::<bool>()), 1..64)
        ) {
            let registry = Registry::new();
            let mut model = [None; 128];
            let mut live: BTreeMap<u64, Arc<u64>> = BTreeMap::new();
            for (id, (start, length, insert)) in steps.into_iter().enumerate() {
                let id = id as u64;
                if insert {
                    let range = start..start + length;
                    for owner in &mut model {
                        let lost = owner.is_some_and(|(start, end, _)| start < range.end && range.start < end);
                        if lost { *owner = None }
                    }
                    model[start as usize..range.end as usize].fill(Some((start, range.end, id)));
                    live.insert(start, Arc::new(id));
                    registry.insert(range, Arc::clone(&live[&start]));
                } else if let Some(value) = live.get(&start) {
                    registry.remove(start, value);
                    for owner in &mut model {
                        if owner.is_some_and(|(from, _, id)| from == start && id == **value) { *owner = None }
                    }
                }
                for (address, owner) in model.iter().enumerate() {
                    prop_assert_eq!(at(&registry, address as u64), owner.map(|(_, _, id)| id));
                }
                let mut listed = Vec::new();
                registry.for_each(|value| listed.push(**value));
                let mut expected: Vec<u64> = model.iter().flatten().map(|(_, _, id)| *id).collect();
                expected.dedup();
                prop_assert_eq!(listed, expected);
            }
        }
    }

    #[test]
    fn a_value_that_lost_its_addresses_can_not_take_out_the_new_owner() {
        let registry = Registry::new();
        let (old, new) = (Arc::new(1), Arc::new(2));
        registry.insert(10..20, Arc::clone(&old));
        registry.insert(10..15, Arc::clone(&new));
        registry.remove(10, &old);
        assert_eq!(at(&registry, 12), Some(2));
        assert_eq!(at(&registry, 17), None);
        assert_eq!(Arc::strong_count(&old), 1, "what nobody reads any more is freed");
    }

    #[test]
    #[cfg_attr(miri, ignore = "takes too long")]
    fn ten_thousand_ranges_in_order_make_a_flat_tree() {
        let registry = Registry::new();
        for i in 0..10_000_u64 {
            registry.insert(i * 10..i * 10 + 5, Arc::new(i));
        }
        assert_eq!(at(&registry, 77_773), Some(7_777));
        assert_eq!(at(&registry, 77_776), None);
        let deep = depth(&registry.write().tree);
        assert!(deep < 60, "{deep} levels");
    }

    #[test]
    fn readers_and_writers_at_once() {
        let registry = Registry::new();
        let rounds = if cfg!(miri) { 50 } else { 20_000 };
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for i in 0..rounds {
                        if let Some(value) = at(&registry, i % 64) {
                            assert_eq!(value % 8, (i % 64) / 8);
                        }
                    }
                });
            }
            scope.spawn(|| {
                for i in 0..rounds {
                    let slot = i % 8;
                    let value = Arc::new(i / 8 * 8 + slot);
                    registry.insert(slot * 8..slot * 8 + 8, Arc::clone(&value));
                    if i % 3 == 0 {
                        registry.remove(slot * 8, &value);
                    }
                }
            });
        });
    }
}
