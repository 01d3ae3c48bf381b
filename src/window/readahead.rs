//! Reading ahead and leaving behind: what happens to a region's pages round the chunk that a module
//! works on.
//!
//! ```text
//!             passed            shown         next
//!  region ...|ppppppppppppppppp|SSSSSSSSSSSSS|aaaaaaaaaaaaaaaaaa|....
//!             let go            the window    read from the disk, and brought in, in the mirror
//! ```
//!
//! Threads of ours do it, in steps, and give way to the program's. A stream that goes on faster
//! than they do loses nothing: what it has shown meanwhile is left out.

use crate::region::Region;
use crate::region::mirror::{Grain, Mirror, Mirrors};
use crate::sys::checked_fd::CheckedFd;
use crate::sys::mmap::Sharing;
use crate::sys::page::{HUGE_PAGE_BYTES, PageAligned, PageSpan};
use crate::sys::{file, thread};
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};

/// Brought in by one call. A slide of another thread waits for it: some tens of microseconds.
const STEP_BYTES: u64 = 1 << 20;

/// How far reading from the disk is ahead of bringing in.
const DISK_BYTES: u64 = 8 << 20;

/// Left behind at once, while there is something to bring in.
const LET_GO_BYTES: u64 = 32 << 20;

/// Streams of one process rarely need more: a thread brings pages in several times as fast as a
/// module reads them.
const MOST_THREADS: usize = 4;

/// One pass over a region.
#[derive(Debug)]
pub struct Stream {
    /// Weak: a region that is closed lets go of its mirrors.
    mirrors: Option<(Weak<Mirrors>, Sharing)>,
    /// For what is let go; `None` if nothing is. Weak: closing a region closes its file.
    file: Option<Weak<CheckedFd>>,
    /// Where in its file the region starts.
    file_offset: u64,
    /// Where its chunks are shown.
    address: u64,
    holes_stay: bool,
    is_on_disk: bool,
    byte_length: u64,
    plan: Mutex<Plan>,
}

/// What is to be done, in bytes of the region.
#[derive(Debug, Default)]
struct Plan {
    /// Brought in up to here, and to be brought in up to there.
    ahead: u64,
    ahead_to: u64,
    /// Read from the disk up to here.
    disk: u64,
    /// Let go up to here, and to be let go up to there.
    behind: u64,
    behind_to: u64,
    /// The most that was ever to be brought in.
    highest: u64,
    /// Which mirror the next chunks come from.
    grain: Option<Grain>,
    /// How often it was started anew.
    restarts: u64,
    /// Whether a thread has it, or will have.
    is_queued: bool,
    is_over: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Step {
    BringIn { start: u64, end: u64, disk: Option<(u64, u64)> },
    LetGo { start: u64, end: u64 },
}

impl Plan {
    fn next(&mut self, is_on_disk: bool) -> Option<Step> {
        if self.is_over {
            // What was brought in for nothing included.
            self.ahead = self.ahead_to;
            self.behind_to = self.highest.max(self.behind_to);
        }
        // A thread that never gets done with what is ahead lets go all the same.
        let is_much = self.behind_to.saturating_sub(self.behind) >= LET_GO_BYTES;
        if self.ahead < self.ahead_to && !is_much {
            let start = self.ahead;
            let end = start.saturating_add(STEP_BYTES).min(self.ahead_to);
            self.ahead = end;
            let disk_to = end.saturating_add(DISK_BYTES).min(self.ahead_to.max(end));
            let disk_from = self.disk.max(start);
            // In larger pieces than steps: the fewer requests, the better for the disk.
            let is_due =
                is_on_disk && disk_from < disk_to && disk_from < end.saturating_add(DISK_BYTES / 2);
            let disk = is_due.then_some((disk_from, disk_to));
            if is_due {
                self.disk = disk_to;
            }
            return Some(Step::BringIn { start, end, disk });
        }
        if self.behind < self.behind_to {
            let start = std::mem::replace(&mut self.behind, self.behind_to);
            return Some(Step::LetGo { start, end: self.behind_to });
        }
        None
    }
}

impl Stream {
    /// `address`: of the process, where its chunks are shown. `leave_behind`: pages that were
    /// passed leave the page cache, unless others have them mapped.
    pub fn new(
        region: &Region,
        address: u64,
        sharing: Sharing,
        read_ahead: bool,
        leave_behind: bool,
    ) -> Self {
        // A mirror through which the region can be written would keep it from being sealed while a
        // thread is at work.
        let is_staged = |grain| region.mirror(sharing, grain, true).is_some();
        // Slides over a file make the mirrors that they need; those over a memfd take one where
        // there is one.
        let reads = read_ahead
            && sharing != Sharing::Shared
            && is_staged(Grain::of(address, region.file_offset().get(), HUGE_PAGE_BYTES, false))
            && (!region.is_memory() || is_staged(Grain::Small));
        let file =
            (leave_behind && !region.is_memory()).then(|| Arc::downgrade(region.shared_fd()));
        Self {
            address,
            file_offset: region.file_offset().get(),
            mirrors: reads.then(|| (Arc::downgrade(region.mirrors()), sharing)),
            file,
            holes_stay: region.is_memory(),
            is_on_disk: !region.is_memory(),
            byte_length: region.byte_length(),
            plan: Mutex::default(),
        }
    }

    /// Whether it has anything to do, ever.
    pub fn is_idle(&self) -> bool {
        self.mirrors.is_none() && self.file.is_none()
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The chunk that is shown now starts and ends here, and pages are wanted up to `ahead_to`.
    /// After a seek, `restart`.
    pub fn advance(self: &Arc<Self>, start: u64, end: u64, ahead_to: u64, restart: bool) {
        let mut plan = self.plan();
        if restart {
            // What was brought in before and not shown: all of it, since its pages may be anywhere
            // by now.
            let left = std::mem::take(&mut *plan);
            if left.highest > 0 {
                self.made_stages().for_each(|mirror| mirror.leave_all());
            }
            *plan = Plan {
                is_queued: left.is_queued,
                restarts: left.restarts.wrapping_add(1),
                behind: start,
                behind_to: start,
                ..Plan::default()
            };
        }
        plan.is_over = false;
        plan.ahead = plan.ahead.max(end);
        plan.disk = plan.disk.max(end);
        plan.ahead_to = ahead_to.min(self.byte_length).max(plan.ahead);
        plan.highest = plan.highest.max(plan.ahead_to);
        // The next chunk starts in its page as this one does, if as much of it is kept, and is as
        // long.
        let first = PageAligned::round_down(self.file_offset.saturating_add(start)).get();
        let length = end.saturating_add(self.file_offset).saturating_sub(first);
        plan.grain = Some(Grain::of(self.address, first, length, end >= self.byte_length));
        plan.behind_to = start.max(plan.behind);
        self.queue(plan);
    }

    /// Nothing more is to be brought in, and all is to be let go.
    pub fn end(self: &Arc<Self>) {
        let mut plan = self.plan();
        if plan.highest > 0 {
            plan.is_over = true;
            self.queue(plan);
        }
    }

    fn queue(self: &Arc<Self>, mut plan: MutexGuard<'_, Plan>) {
        if !std::mem::replace(&mut plan.is_queued, true) {
            drop(plan);
            if !QUEUE.push(Arc::clone(self)) {
                self.plan().is_queued = false;
            }
        }
    }

    /// The one that slides take from now: a mirror that is used up is replaced by another. Only
    /// slides make one, since they know the region.
    fn mirror(&self, grain: Grain) -> Option<Arc<Mirror>> {
        let (mirrors, sharing) = self.mirrors.as_ref()?;
        mirrors.upgrade()?.get(*sharing, grain)
    }

    fn made_stages(&self) -> impl Iterator<Item = Arc<Mirror>> {
        [Grain::Huge, Grain::Small].into_iter().filter_map(|grain| self.mirror(grain))
    }

    /// What of the file leaves the page cache when this range of the region was passed.
    ///
    /// The kernel passes over folios that stick out of the range it is given. So it starts as much
    /// earlier as a folio may be long: what lies there was passed before, and what is shown still
    /// is mapped and stays. At the region's end it goes on to where a folio may end.
    fn to_drop(&self, start: u64, end: u64) -> (u64, u64) {
        let start = start.saturating_sub(HUGE_PAGE_BYTES).saturating_add(self.file_offset);
        let is_last = end >= self.byte_length;
        let end = end.min(self.byte_length).saturating_add(self.file_offset);
        let folio_end = end.checked_next_multiple_of(HUGE_PAGE_BYTES).unwrap_or(end);
        (PageAligned::round_down(start).get(), if is_last { folio_end } else { end })
    }

    /// One step; false if there is none.
    fn work(&self) -> bool {
        let (step, restarts, grain, is_over) = {
            let mut plan = self.plan();
            let step = plan.next(self.is_on_disk);
            plan.is_queued = step.is_some();
            (step, plan.restarts, plan.grain, plan.is_over)
        };
        match step {
            None => return false,
            Some(Step::BringIn { start, end, disk }) => {
                if let Some(mirror) = grain.and_then(|grain| self.mirror(grain)) {
                    if let Some(span) = disk.and_then(|(start, end)| span(start, end)) {
                        mirror.read_ahead(span);
                    }
                    if let Some(span) = span(start, end) {
                        mirror.bring_in(span, self.holes_stay);
                        if self.plan().restarts != restarts {
                            mirror.leave(span);
                        }
                    }
                }
            }
            Some(Step::LetGo { start, end }) => {
                // Whole folios were brought in, which stick out.
                let from = start.saturating_sub(HUGE_PAGE_BYTES);
                let to = if is_over { end.saturating_add(HUGE_PAGE_BYTES) } else { end };
                if let Some(all) = span(from, to) {
                    self.made_stages().for_each(|mirror| mirror.leave(all));
                }
                let file = self.file.as_ref().and_then(Weak::upgrade);
                if let Some(fd) = file.as_ref().and_then(|file| file.get().ok()) {
                    let (start, end) = self.to_drop(start, end);
                    // What is dirty or mapped by others stays; nothing depends on it.
                    let _ = file::drop_cached(fd, start, end.saturating_sub(start));
                }
            }
        }
        true
    }
}

/// All pages that hold some of these bytes.
fn span(start: u64, end: u64) -> Option<PageSpan> {
    PageSpan::between(PageAligned::round_down(start), PageAligned::round_up(end)?)
}

/// Streams with something to do. Threads take one after the other, a step each.
struct Queue {
    state: Mutex<QueueState>,
    pushed: Condvar,
}

struct QueueState {
    streams: VecDeque<Arc<Stream>>,
    threads: usize,
    idle: usize,
}

static QUEUE: Queue = Queue {
    state: Mutex::new(QueueState { streams: VecDeque::new(), threads: 0, idle: 0 }),
    pushed: Condvar::new(),
};

impl Queue {
    fn state(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// False: there is no thread, and none to be had.
    fn push(&'static self, stream: Arc<Stream>) -> bool {
        let mut state = self.state();
        state.streams.push_back(stream);
        if state.idle < state.streams.len() && state.threads < MOST_THREADS {
            // Where there is none to be had, nothing is read ahead.
            if thread::spawn("hostmap-ahead", || QUEUE.run()).is_ok() {
                state.threads = state.threads.saturating_add(1);
            }
        }
        if state.threads == 0 {
            state.streams.clear();
            return false;
        }
        drop(state);
        self.pushed.notify_one();
        true
    }

    fn run(&self) {
        thread::give_way();
        loop {
            let stream = self.pop();
            if stream.work() {
                self.state().streams.push_back(stream);
            }
        }
    }

    fn pop(&self) -> Arc<Stream> {
        let mut state = self.state();
        loop {
            if let Some(stream) = state.streams.pop_front() {
                return stream;
            }
            state.idle = state.idle.saturating_add(1);
            state = self.pushed.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.idle = state.idle.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_shown_meanwhile_is_left_out() {
        let mut plan = Plan { ahead_to: 3 * STEP_BYTES, ..Plan::default() };
        let first = plan.next(false);
        assert_eq!(first, Some(Step::BringIn { start: 0, end: STEP_BYTES, disk: None }));
        plan.ahead = plan.ahead.max(2 * STEP_BYTES + 5);
        let second = plan.next(false);
        assert_eq!(
            second,
            Some(Step::BringIn { start: 2 * STEP_BYTES + 5, end: 3 * STEP_BYTES, disk: None })
        );
        assert_eq!(plan.next(false), None);
    }

    #[test]
    fn a_thread_that_is_never_done_lets_go_all_the_same_and_in_the_end_of_everything() {
        let mut plan = Plan { ahead_to: 1 << 40, highest: 1 << 40, ..Plan::default() };
        let mut let_go = 0;
        for _ in 0..1000 {
            plan.behind_to = plan.ahead;
            if let Some(Step::LetGo { start, end }) = plan.next(false) {
                assert_eq!(start, let_go);
                let_go = end;
            }
        }
        assert!(plan.ahead - let_go <= LET_GO_BYTES + STEP_BYTES);
        plan.is_over = true;
        assert_eq!(plan.next(false), Some(Step::LetGo { start: let_go, end: 1 << 40 }));
        assert_eq!(plan.next(false), None);
    }

    #[test]
    fn the_disk_is_asked_for_more_at_a_time_and_for_nothing_twice() {
        let total = 64 << 20;
        let mut plan = Plan { ahead_to: total, behind_to: 7, ..Plan::default() };
        let (mut at, mut asked, mut requests) = (0, 0, 0);
        while let Some(step) = plan.next(true) {
            match step {
                Step::BringIn { start, end, disk } => {
                    assert_eq!(start, at);
                    at = end;
                    if let Some((from, to)) = disk {
                        assert_eq!(from, asked);
                        asked = to;
                        requests += 1;
                    }
                    assert!(asked >= end);
                }
                Step::LetGo { start, end } => assert_eq!((start, end, at), (0, 7, total)),
            }
        }
        assert_eq!((at, asked), (total, total));
        assert!(requests <= total / (DISK_BYTES / 2) + 1);
    }
}
