//! How many faults a mapping, or all views of a region, had, and what the last one was.
//!
//! Handlers write these and any thread reads them, so everything is an atomic word. Nothing here
//! may allocate, lock or panic.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What a fault was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastFault {
    /// The byte of the region.
    pub region_offset: u64,
    /// The byte of the mapping or view, counted from its first whole page.
    pub skew: u64,
    pub write: bool,
    pub cause: Cause,
    pub outcome: Outcome,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// A write to a read-only page.
    Readonly,
    /// The contents can't be had.
    Unavailable,
    /// The memory itself is broken.
    BrokenMemory,
    /// Past what a window shows.
    PastEnd,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// V8 turned the fault into a `WebAssembly.RuntimeError`.
    Trap,
    /// The page became copy-on-write, and the access was done again.
    PrivatePage,
    /// The page became zeros, and the access was done again.
    Zeros,
}

impl LastFault {
    // One word, so that several threads may write it without a lock: 1, write, cause, outcome,
    // offset.
    const OFFSET_BITS: u32 = 56;

    fn pack(self) -> u64 {
        let cause = match self.cause {
            Cause::Readonly => 0,
            Cause::Unavailable => 1,
            Cause::BrokenMemory => 2,
            Cause::PastEnd => 3,
        };
        let outcome = match self.outcome {
            Outcome::Trap => 0,
            Outcome::PrivatePage => 1,
            Outcome::Zeros => 2,
        };
        let head = (1_u64 << 7) | (u64::from(self.write) << 6) | (cause << 3) | outcome;
        head << Self::OFFSET_BITS | self.region_offset & ((1 << Self::OFFSET_BITS) - 1)
    }

    fn unpack(word: u64, skew: u64) -> Option<Self> {
        let head = word >> Self::OFFSET_BITS;
        (head != 0).then_some(Self {
            region_offset: word & ((1 << Self::OFFSET_BITS) - 1),
            skew,
            write: head & (1 << 6) != 0,
            cause: match head >> 3 & 0b111 {
                0 => Cause::Readonly,
                1 => Cause::Unavailable,
                2 => Cause::BrokenMemory,
                _ => Cause::PastEnd,
            },
            outcome: match head & 0b111 {
                0 => Outcome::Trap,
                1 => Outcome::PrivatePage,
                _ => Outcome::Zeros,
            },
        })
    }
}

#[derive(Debug, Default)]
pub struct Counts {
    stray_writes: AtomicU64,
    faults: AtomicU64,
    last: AtomicU64,
    /// `LastFault::skew` of the last one. Two threads that fault at once may leave it the other's.
    last_skew: AtomicU64,
    last_inode: AtomicU64,
    /// How many of `faults` somebody has acknowledged.
    acknowledged: AtomicU64,
    /// Whether unacknowledged faults make calls fail: see [`Self::is_faulted`].
    strict: AtomicBool,
}

impl Counts {
    /// Writes that landed on a private page.
    pub fn stray_writes(&self) -> u64 {
        self.stray_writes.load(Ordering::Acquire)
    }

    /// Accesses to pages whose contents could not be had.
    pub fn faults(&self) -> u64 {
        self.faults.load(Ordering::Acquire)
    }

    /// How many of [`Self::faults`] nobody has acknowledged.
    pub fn unacknowledged(&self) -> u64 {
        // Read in this order, the count of faults is never the smaller one: it only grows, and was
        // read before it was acknowledged.
        let acknowledged = self.acknowledged.load(Ordering::Acquire);
        self.faults().checked_sub(acknowledged).expect("only faults that were are acknowledged")
    }

    /// Acknowledges all faults, and returns how many were new.
    pub fn acknowledge(&self) -> u64 {
        let faults = self.faults();
        let before = self.acknowledged.fetch_max(faults, Ordering::AcqRel);
        // Another thread may have acknowledged more of them in between: then none was new.
        faults.saturating_sub(before)
    }

    /// From now on, calls on the mapping must fail while there are unacknowledged faults.
    pub fn make_strict(&self) {
        self.strict.store(true, Ordering::Release);
    }

    pub fn is_strict(&self) -> bool {
        self.strict.load(Ordering::Acquire)
    }

    /// Whether such calls must fail now.
    pub fn is_faulted(&self) -> bool {
        self.strict.load(Ordering::Acquire) && self.unacknowledged() > 0
    }

    /// The file that the last fault was in.
    pub fn last_inode(&self) -> u64 {
        self.last_inode.load(Ordering::Relaxed)
    }

    pub fn last(&self) -> Option<LastFault> {
        LastFault::unpack(self.last.load(Ordering::Acquire), self.last_skew.load(Ordering::Relaxed))
    }

    pub(super) fn add_stray_write(&self) {
        self.stray_writes.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn add_faults(&self, count: u64) {
        self.faults.fetch_add(count, Ordering::AcqRel);
    }

    pub(super) fn set_last(&self, fault: LastFault, inode: u64) {
        self.last_skew.store(fault.skew, Ordering::Relaxed);
        self.last_inode.store(inode, Ordering::Relaxed);
        self.last.store(fault.pack(), Ordering::Release);
    }
}
