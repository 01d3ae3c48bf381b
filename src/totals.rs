//! What the process has done, in numbers: for `metrics()`.
//!
//! Each thread counts in a block of its own, which nobody else writes. So a count is a plain store,
//! and threads don't wait for each other's cache lines. JavaScript writes into its thread's block
//! by itself (`js/totals.rs`), so a hot call counts without a call. Blocks are never freed: that of
//! a thread that has ended goes to the next one, which counts on from there.
//!
//! Nothing here may be called by a signal handler: `fault/totals.rs` is for those.

use crate::sys::lock::{Level, Lock};
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Counts in a block. `lib/observe/counts.js` says what each of them is, but for those below.
pub const WORDS: usize = 32;

/// Host pages that restores and resets have copied back.
pub const COPIED_PAGES: usize = 0;
/// How many of those dropped written pages, too: where there were more than a restore copies.
pub const DROPPING_RESTORES: usize = 1;

/// The counts of a thread. A word has the bits of an `f64`, as JavaScript writes it.
// Two blocks are on two pairs of cache lines.
#[derive(Debug)]
#[repr(align(128))]
pub struct Block {
    words: [AtomicU64; WORDS],
    is_taken: AtomicBool,
}

static BLOCKS: Lock<Vec<&'static Block>> = Lock::new(Level::Totals, Vec::new());

thread_local! {
    /// And by how many environments of Node's it is used.
    static MINE: Cell<Option<(&'static Block, u32)>> = const { Cell::new(None) };
}

/// Of threads without a block.
static REST: Block = Block::new();

impl Block {
    const fn new() -> Self {
        Self { words: [const { AtomicU64::new(0) }; WORDS], is_taken: AtomicBool::new(false) }
    }

    /// For JavaScript, which writes numbers there.
    pub fn words(&self) -> &[AtomicU64; WORDS] {
        &self.words
    }
}

/// This thread's block, until [`give_back`] was called as often. `None`: there is no memory for
/// one.
pub fn take() -> Option<&'static Block> {
    if let Some((block, users)) = MINE.get() {
        MINE.set(Some((block, users.checked_add(1)?)));
        return Some(block);
    }
    let mut blocks = BLOCKS.lock();
    let free = blocks.iter().find(|block| !block.is_taken.load(Ordering::Relaxed)).copied();
    let block = match free {
        Some(block) => block,
        None => {
            blocks.try_reserve(1).ok()?;
            let block: &'static Block = Box::leak(Box::new(Block::new()));
            blocks.push(block);
            block
        }
    };
    block.is_taken.store(true, Ordering::Relaxed);
    MINE.set(Some((block, 1)));
    Some(block)
}

/// This thread counts no more. What it has counted stays.
pub fn give_back() {
    match MINE.get() {
        Some((block, 1)) => {
            MINE.set(None);
            // After the lock, the next thread sees all that this one has written.
            let blocks = BLOCKS.lock();
            block.is_taken.store(false, Ordering::Relaxed);
            drop(blocks);
        }
        Some((block, users)) => MINE.set(Some((block, users.saturating_sub(1)))),
        None => {}
    }
}

/// Adds to a count of this thread.
pub fn add(word: usize, count: u64) {
    if count == 0 {
        return;
    }
    // Exact up to 2^53, which no count reaches.
    #[allow(clippy::cast_precision_loss)]
    let sum = |bits: u64| (f64::from_bits(bits) + count as f64).to_bits();
    match MINE.get() {
        Some((block, _)) => {
            let word = &block.words[word];
            word.store(sum(word.load(Ordering::Relaxed)), Ordering::Relaxed);
        }
        None => {
            let _ = REST.words[word]
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |bits| Some(sum(bits)));
        }
    }
}

/// The counts of all threads, past ones too.
pub fn sums() -> [f64; WORDS] {
    let mut sums = [0.0; WORDS];
    let blocks = BLOCKS.lock();
    for block in blocks.iter().copied().chain([&REST]) {
        for (sum, word) in sums.iter_mut().zip(&block.words) {
            *sum += f64::from_bits(word.load(Ordering::Relaxed));
        }
    }
    sums
}

/// How many there are of something now, and how many bytes they have together.
#[derive(Debug)]
pub struct Gauge {
    count: AtomicU64,
    bytes: AtomicU64,
}

/// Regions that are open, or that a mapping's snapshot keeps.
pub static REGIONS: Gauge = Gauge::new();
/// Snapshots, with the pages that they keep.
pub static SNAPSHOTS: Gauge = Gauge::new();

impl Gauge {
    const fn new() -> Self {
        Self { count: AtomicU64::new(0), bytes: AtomicU64::new(0) }
    }

    /// One more, as long as what this gives lives.
    pub fn hold(&'static self, bytes: u64) -> Held {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        Held { gauge: self, bytes }
    }

    /// How many, and their bytes.
    pub fn now(&self) -> (u64, u64) {
        (self.count.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }
}

/// One of what a gauge counts.
#[derive(Debug)]
pub struct Held {
    gauge: &'static Gauge,
    bytes: u64,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.gauge.count.fetch_sub(1, Ordering::Relaxed);
        self.gauge.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    // One test: the blocks are the process's.
    #[test]
    fn what_threads_have_counted_stays_and_their_blocks_are_used_again() {
        // Whole numbers, so exact.
        let of = |word: usize| sums()[word].to_bits();
        assert_eq!(of(7), 0.0_f64.to_bits());
        let addresses: Vec<usize> = (0..3)
            .map(|_| {
                thread::spawn(|| {
                    let block = take().expect("there is memory");
                    add(7, 2);
                    // A second environment of the thread has the same block.
                    assert!(std::ptr::eq(take().expect("there is memory"), block));
                    give_back();
                    add(7, 3);
                    give_back();
                    // Without a block.
                    add(7, 5);
                    std::ptr::from_ref(block).addr()
                })
                .join()
                .expect("the thread ends")
            })
            .collect();
        assert_eq!(of(7), 30.0_f64.to_bits());
        assert!(addresses.iter().all(|address| *address == addresses[0]));
    }

    #[test]
    fn a_gauge_counts_what_is_held() {
        static GAUGE: Gauge = Gauge::new();
        let one = GAUGE.hold(10);
        let other = GAUGE.hold(5);
        assert_eq!(GAUGE.now(), (2, 15));
        drop(one);
        assert_eq!(GAUGE.now(), (1, 5));
        drop(other);
        assert_eq!(GAUGE.now(), (0, 0));
    }
}
