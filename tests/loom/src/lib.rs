//! The registries of src/fault under every order of events that the C11 memory model allows, by
//! loom: `RUSTFLAGS="--cfg loom" cargo test --release --manifest-path tests/loom/Cargo.toml`

#![cfg(all(test, loom))]
#![allow(dead_code)]

#[path = "../../../src/fault/registry.rs"]
mod registry;
#[path = "../../../src/fault/shards.rs"]
mod shards;
mod sys;

use loom::cell::UnsafeCell;
use loom::thread;
use registry::Registry;
use shards::Shards;
use std::sync::Arc;

/// Loom's cell tells when a value is freed while a reader looks at it.
struct Watched {
    id: u64,
    cell: UnsafeCell<u64>,
}

impl Watched {
    fn new(id: u64) -> Arc<Self> {
        Arc::new(Self { id, cell: UnsafeCell::new(id) })
    }

    fn read(&self) -> u64 {
        // SAFETY: what this test is about: nobody writes (drops) it meanwhile, else loom fails.
        self.cell.with(|value| unsafe { *value })
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // SAFETY: as above.
        self.cell.with_mut(|value| unsafe { *value = u64::MAX });
    }
}

#[test]
fn what_a_reader_sees_is_whole_and_not_freed() {
    loom::model(|| {
        let registry = loom::sync::Arc::new(Registry::new());
        let first = Watched::new(1);
        registry.insert(10..20, Arc::clone(&first));
        let reader = {
            let registry = loom::sync::Arc::clone(&registry);
            thread::spawn(move || registry.find(15, |value| (value.id, value.read())))
        };
        registry.remove(10, &first);
        drop(first);
        registry.insert(10..20, Watched::new(2));
        match reader.join().unwrap() {
            None | Some((1, 1) | (2, 2)) => {}
            other => panic!("a reader saw {other:?}"),
        }
        assert_eq!(registry.find(15, |value| value.id), Some(2));
    });
}

#[test]
fn two_readers_and_a_writer_that_replaces() {
    loom::model(|| {
        let registry = loom::sync::Arc::new(Registry::new());
        registry.insert(10..20, Watched::new(1));
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let registry = loom::sync::Arc::clone(&registry);
                thread::spawn(move || registry.find(15, |value| (value.id, value.read())))
            })
            .collect();
        registry.insert(15..30, Watched::new(2));
        for reader in readers {
            let seen = reader.join().unwrap();
            assert!(
                matches!(seen, Some((1, 1) | (2, 2))),
                "at every moment one of them is there: {seen:?}"
            );
        }
        assert_eq!(registry.find(12, |value| value.id), None);
    });
}

#[test]
fn two_writers_and_a_reader() {
    loom::model(|| {
        let registry = loom::sync::Arc::new(Registry::new());
        let writer = {
            let registry = loom::sync::Arc::clone(&registry);
            thread::spawn(move || registry.insert(10..20, Watched::new(1)))
        };
        let reader = {
            let registry = loom::sync::Arc::clone(&registry);
            thread::spawn(move || registry.find(35, |value| (value.id, value.read())))
        };
        registry.insert(30..40, Watched::new(2));
        writer.join().unwrap();
        let seen = reader.join().unwrap();
        assert!(matches!(seen, None | Some((2, 2))));
        assert_eq!(registry.find(15, |value| value.id), Some(1));
        assert_eq!(registry.find(35, |value| value.id), Some(2));
    });
}

/// The first and the second stretch of the addresses. Each has a registry of its own.
const STRETCH: u64 = 1 << 32;

#[test]
fn a_range_of_two_registries_is_listed_whenever_it_is_found() {
    loom::model(|| {
        let shards = loom::sync::Arc::new(Shards::new());
        let value = Watched::new(1);
        let reader = {
            let shards = loom::sync::Arc::clone(&shards);
            thread::spawn(move || {
                let found = shards.find(STRETCH + 1, Watched::read);
                let mut listed = Vec::new();
                shards.for_each(|_| 0, |value: &Arc<Watched>| listed.push(value.read()));
                (found, listed)
            })
        };
        shards.insert(&(0..2 * STRETCH), &value);
        match reader.join().unwrap() {
            (Some(1), listed) => assert_eq!(listed, [1]),
            (None, listed) => assert!(listed.is_empty() || listed == [1]),
            other => panic!("a reader saw {other:?}"),
        }
    });
}

#[test]
fn a_range_that_is_not_listed_any_more_is_found_nowhere() {
    loom::model(|| {
        let shards = loom::sync::Arc::new(Shards::new());
        let value = Watched::new(1);
        shards.insert(&(0..2 * STRETCH), &value);
        let reader = {
            let shards = loom::sync::Arc::clone(&shards);
            thread::spawn(move || {
                let mut listed = Vec::new();
                shards.for_each(|_| 0, |value: &Arc<Watched>| listed.push(value.read()));
                (listed, shards.find(STRETCH + 1, Watched::read))
            })
        };
        shards.remove(&(0..2 * STRETCH), &value);
        drop(value);
        match reader.join().unwrap() {
            (listed, None) => assert!(listed.is_empty() || listed == [1]),
            (listed, found) => assert_eq!((listed, found), (vec![1], Some(1))),
        }
    });
}

#[test]
fn who_has_a_registry_stops_neither_writers_of_another_nor_readers() {
    loom::model(|| {
        let shards = loom::sync::Arc::new(Shards::new());
        let (one, other) = (Watched::new(1), Watched::new(2));
        shards.insert(&(0..10), &one);
        shards.locked(0, || {
            let shards = loom::sync::Arc::clone(&shards);
            let worker = thread::spawn(move || {
                let range = STRETCH..STRETCH + 10;
                shards.insert(&range, &other);
                let found =
                    (shards.find(5, Watched::read), shards.find(STRETCH + 5, Watched::read));
                let mut count = 0;
                shards.for_each(|value| (value.id - 1) * STRETCH, |_| count += 1);
                shards.remove(&range, &other);
                (found, count)
            });
            // It ends while the lock is held, or loom finds that nobody can go on.
            assert_eq!(worker.join().unwrap(), ((Some(1), Some(2)), 2));
        });
    });
}
