//! A pass: a module that reads one page after the other, and what is mapped ahead of it.
//!
//! The kernel maps 64 KiB in each page fault of a read (`fault_around_bytes`). A pass over pages
//! that are in memory waits for such faults for longer than for the memory. Another thread can take
//! them, if it knows where the module is. Nothing tells when a page that is mapped is read, so each
//! stride begins with a *probe*, which is left alone: once it is mapped, the module was there.
//!
//! ```text
//!   read by the module      probe                   probe
//!  |########################|.|#####################|.|#####################|.......
//!                           ^ `probe`  <-- `lead` -->                       ^ `ahead_to`
//! ```
//!
//! Pure bookkeeping, in addresses: the page tables are a trait.

use crate::sys::{difference, sum};

/// What one page fault maps, and so what a probe takes.
pub(super) const AROUND_BYTES: u64 = 64 << 10;

/// From a probe to the next: a fault for each. What a page table holds where pages have 4 KiB, and
/// what one entry of the next table may map.
pub(super) const STRIDE_BYTES: u64 = 2 << 20;

/// How far it goes ahead at most: some milliseconds of the fastest modules.
const MOST_AHEAD_BYTES: u64 = 32 * STRIDE_BYTES;

/// Which part of the way ahead it leaves to a module that has caught up. The two would meet at each
/// page, and wait for each other, if it began right before it.
const HEAD_START: u64 = 8;

/// The page tables of a mapping.
pub(super) trait PageTables {
    /// Whether the page at an address is mapped.
    fn is_mapped(&self, at: u64) -> bool;
    /// Maps what is between two addresses; false if the mapping is gone.
    fn bring_in(&self, start: u64, end: u64) -> bool;
}

/// Strides are what one entry of a page table may map.
fn stride_end(at: u64) -> u64 {
    sum(at, 1).next_multiple_of(STRIDE_BYTES)
}

#[derive(Debug)]
pub(super) struct Pass {
    /// Where the next probe is; at most `ahead_to`.
    probe: u64,
    /// Strides up to here were mapped, but for their probes.
    ahead_to: u64,
    start: u64,
    is_over: bool,
}

impl Pass {
    /// Of a module that has read from `start` to `read_to`, at least.
    pub fn new(start: u64, read_to: u64) -> Self {
        // A page that was read, so that the first step goes on.
        Self { probe: difference(read_to, 1), ahead_to: read_to, start, is_over: false }
    }

    /// How far ahead: up to what the module has read so far, since it may end anywhere.
    fn lead_bytes(&self) -> u64 {
        difference(self.probe, self.start).clamp(STRIDE_BYTES, MOST_AHEAD_BYTES)
    }

    /// What the module has read, and what was mapped ahead of it.
    pub fn range(&self) -> std::ops::Range<u64> {
        self.start..self.ahead_to
    }

    /// Whether nothing more is to be done: all is mapped, or the mapping is gone.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// Goes on, up to the mapping's end, if the module has gone on since the last step. False: it
    /// has not.
    pub fn step(&mut self, end: u64, tables: &impl PageTables) -> bool {
        let mut has_moved = false;
        while self.probe < end && tables.is_mapped(self.probe) {
            has_moved = true;
            if self.probe < self.ahead_to {
                self.probe = stride_end(self.probe).min(self.ahead_to);
            } else {
                self.overtaken(end, tables);
            }
        }
        if has_moved {
            self.go_ahead(end, tables);
        }
        self.is_over |= self.probe >= end || self.ahead_to >= end;
        has_moved
    }

    fn go_ahead(&mut self, end: u64, tables: &impl PageTables) {
        while self.ahead_to < sum(self.probe, self.lead_bytes()).min(end) {
            if tables.is_mapped(self.ahead_to) {
                self.overtaken(end, tables);
                continue;
            }
            if self.ahead_to == self.probe {
                let head_start = self.lead_bytes() / HEAD_START;
                self.ahead_to = stride_end(sum(self.probe, head_start)).min(end);
                continue;
            }
            let next = stride_end(self.ahead_to).min(end);
            let from = sum(self.ahead_to, AROUND_BYTES);
            if from < next && !self.bring_in(from, next, tables) {
                self.is_over = true;
            }
            self.ahead_to = next;
            if self.is_over {
                return;
            }
        }
    }

    /// False: there is nothing to be done here. Where one entry maps all of a stride, its probe
    /// tells nothing, and a page fault maps as much as we could.
    fn bring_in(&self, start: u64, end: u64, tables: &impl PageTables) -> bool {
        let first = sum(start, AROUND_BYTES).min(end);
        tables.bring_in(start, first)
            && !tables.is_mapped(self.ahead_to)
            && (first == end || tables.bring_in(first, end))
    }

    /// The module was here first: looks for where it is. What is between two pages that it has
    /// read it has read, too.
    fn overtaken(&mut self, end: u64, tables: &impl PageTables) {
        let mut read = self.ahead_to;
        let mut far = AROUND_BYTES;
        let is_read = |at: u64| at < end && tables.is_mapped(at);
        while is_read(sum(read, far)) {
            read = sum(read, far);
            far = sum(far, far);
        }
        while far > AROUND_BYTES {
            far /= 2;
            if is_read(sum(read, far)) {
                read = sum(read, far);
            }
        }
        self.ahead_to = sum(read, AROUND_BYTES).min(end);
        self.probe = self.ahead_to;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::to_usize;
    use proptest::prelude::*;
    use std::cell::RefCell;
    use std::collections::BTreeSet;

    const START: u64 = 5 * AROUND_BYTES;

    /// Which groups of 64 KiB are mapped, and by whom.
    #[derive(Default)]
    struct Model {
        mapped: RefCell<BTreeSet<u64>>,
        brought_in: RefCell<BTreeSet<u64>>,
        /// Whether the pages have 2 MiB.
        is_huge: bool,
        is_gone: bool,
        /// Groups that are mapped meanwhile by a module that goes on.
        racing: RefCell<Vec<u64>>,
    }

    impl Model {
        fn touch(&self, at: u64) {
            let size = if self.is_huge { STRIDE_BYTES } else { AROUND_BYTES };
            let from = at - at % size;
            self.mapped.borrow_mut().extend((from..from + size).step_by(to_usize(AROUND_BYTES)));
        }
    }

    impl PageTables for Model {
        fn is_mapped(&self, at: u64) -> bool {
            if let Some(at) = self.racing.borrow_mut().pop() {
                self.touch(at);
            }
            self.mapped.borrow().contains(&(at - at % AROUND_BYTES))
        }

        fn bring_in(&self, start: u64, end: u64) -> bool {
            for at in (start..end).step_by(to_usize(AROUND_BYTES)) {
                if !self.mapped.borrow().contains(&(at - at % AROUND_BYTES)) {
                    self.brought_in.borrow_mut().insert(at - at % AROUND_BYTES);
                }
                self.touch(at);
            }
            !self.is_gone
        }
    }

    /// A pass of a module that has read these groups from the mapping's start on.
    fn begin(model: &Model, groups: u64) -> Pass {
        for group in 0..groups {
            model.touch(START + group * AROUND_BYTES);
        }
        Pass::new(START, START + groups * AROUND_BYTES)
    }

    #[test]
    fn most_of_a_pass_is_mapped_ahead_of_it() {
        let (model, groups) = (Model::default(), 16_000);
        let end = START + groups * AROUND_BYTES;
        let mut pass = begin(&model, 16);
        let mut faults = 0;
        for group in 16..groups {
            let at = START + group * AROUND_BYTES;
            if !model.mapped.borrow().contains(&at) {
                faults += 1;
                model.touch(at);
            }
            if group % 16 == 0 {
                pass.step(end, &model);
            }
        }
        assert!(pass.is_over());
        assert!(faults < groups / 16, "{faults}");
    }

    #[test]
    fn it_ends_with_the_mapping() {
        let model = Model { is_gone: true, ..Model::default() };
        let mut pass = begin(&model, 16);
        assert!(pass.step(START + 4000 * AROUND_BYTES, &model));
        assert!(pass.is_over());
        assert!(model.brought_in.borrow().len() <= 1);
    }

    #[test]
    fn pages_that_need_no_help_get_none() {
        let model = Model { is_huge: true, ..Model::default() };
        let mut pass = begin(&model, 16);
        let end = START + 4000 * AROUND_BYTES;
        while !pass.is_over() {
            if !pass.step(end, &model) {
                break;
            }
        }
        assert!(model.brought_in.borrow().len() <= 1, "{:?}", model.brought_in);
    }

    proptest! {
        /// Whatever a module reads, and while it goes on: nothing is brought in past the mapping's
        /// end, nor farther ahead than the module has come.
        #[test]
        fn no_more_is_brought_in_than_was_read(
            length in 17_u64..3000,
            moves in prop::collection::vec((0_u64..200, any::<bool>()), 1..60),
        ) {
            let model = Model::default();
            let end = START + length * AROUND_BYTES;
            let mut pass = begin(&model, 16);
            let mut read = 16;
            for (more, races) in moves {
                let next = (read + more).min(length);
                let groups = (read..next).map(|group| START + group * AROUND_BYTES);
                if races {
                    model.racing.borrow_mut().extend(groups.rev());
                } else {
                    groups.for_each(|at| model.touch(at));
                }
                read = next;
                pass.step(end, &model);
                for at in std::mem::take(&mut *model.racing.borrow_mut()) {
                    model.touch(at);
                }
                let furthest = model.brought_in.borrow().last().copied().unwrap_or(START);
                let come = read * AROUND_BYTES;
                // A probe is up to a stride ahead of the module, and strides are whole.
                let lead = come.clamp(STRIDE_BYTES, MOST_AHEAD_BYTES) + 3 * STRIDE_BYTES;
                prop_assert!(furthest < end);
                prop_assert!(furthest <= START + come + lead, "{furthest} {come} {lead}");
            }
        }

        /// A module that stops is not followed.
        #[test]
        fn who_stops_is_left_alone(groups in 16_u64..2000, steps in 1_usize..20) {
            let model = Model::default();
            let end = START + 4000 * AROUND_BYTES;
            let mut pass = begin(&model, groups);
            pass.step(end, &model);
            let before = model.mapped.borrow().len();
            for _ in 0..steps {
                prop_assert!(!pass.step(end, &model));
            }
            prop_assert_eq!(model.mapped.borrow().len(), before);
        }
    }
}
