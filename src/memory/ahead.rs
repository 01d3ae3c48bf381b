//! Mapping pages of large mappings just before a module reads them for the first time.
//!
//! Where a module reads one page after the other, our thread takes its page faults, as
//! `pass.rs` describes. Modules that read here and there are left alone: nothing is mapped for them
//! that they don't read.
//!
//! Nothing tells when a mapping is read. So the thread looks, and must cost nothing where nothing
//! is read: it sleeps by the process's own processor time, of which an idle process takes none, and
//! looks at page tables only if there were page faults since. Where looking takes long, since much
//! is mapped, it looks less often.
//!
//! It maps what is at an address, whatever that is by then. Of a mapping that is gone it may map up
//! to 64 KiB of what has come instead, which changes no contents.

use super::pass::{AROUND_BYTES, PageTables, Pass};
use crate::sys::lock::{self, Guard, Level, Lock};
use crate::sys::mmap::{self, Hint};
use crate::sys::page::{PageAligned, PageSpan};
use crate::sys::pagemap::{self, Which};
use crate::sys::{clock, process, sum, thread, to_usize};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar};
use std::time::Duration;

/// Below, a pass is over before it would be noticed.
pub(super) const LEAST_BYTES: u64 = 16 << 20;

/// So many bytes side by side are a pass: those who read here and there don't touch sixteen groups
/// of pages in a row.
const RUN_BYTES: u64 = 16 * AROUND_BYTES;

/// Passes over one mapping.
const MOST_PASSES: usize = 8;

/// Mappings, of a process. The newest count.
const MOST_WATCHED: usize = 64;

/// What one look takes in: some ten microseconds.
const LOOK_PAGES: u64 = 1024;

/// While a module goes on. After a look in vain, twice as long, so many times.
const MOVING_SLEEP: Duration = Duration::from_micros(100);
const MOST_DOUBLED: u32 = 5;
/// After so many without a mapping it waits for one, which has to wake it then: a good part of the
/// time of a `map`.
const MOST_IDLE: u32 = 256;
/// Of processor time. The kernel counts in ticks: 1 to 10 ms.
const QUIET_SLEEP: Duration = Duration::from_millis(1);
/// How many times as long as a look in vain has taken it sleeps, at least.
const MOVING_REST: u64 = 4;
const QUIET_REST: u64 = 32;

/// Held with a mapping that is watched.
#[derive(Debug)]
pub(crate) struct Ahead(Arc<Watched>);

#[derive(Debug)]
struct Watched {
    span: PageSpan,
    is_gone: AtomicBool,
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.0.is_gone.store(true, Ordering::Relaxed);
    }
}

impl Watched {
    fn is_gone(&self) -> bool {
        self.is_gone.load(Ordering::Relaxed)
    }
}

struct Queue {
    state: Lock<Pushed>,
    pushed: Condvar,
}

/// What the thread was not told yet.
struct Pushed {
    mappings: Vec<Arc<Watched>>,
    has_thread: bool,
    is_waiting: bool,
}

static QUEUE: Queue = Queue {
    state: Lock::new(
        Level::MappedAhead,
        Pushed { mappings: Vec::new(), has_thread: false, is_waiting: false },
    ),
    pushed: Condvar::new(),
};

/// Maps pages of a mapping ahead of who reads them in order, as long as the result lives.
pub(super) fn watch(span: PageSpan) -> Ahead {
    let watched = Arc::new(Watched { span, is_gone: AtomicBool::new(false) });
    QUEUE.push(Arc::clone(&watched));
    Ahead(watched)
}

impl Queue {
    fn state(&self) -> Guard<'_, Pushed> {
        self.state.lock()
    }

    fn push(&'static self, watched: Arc<Watched>) {
        let mut state = self.state();
        if !state.has_thread {
            // Without one, and without memory, faults are taken as they come.
            state.has_thread = thread::spawn("hostmap-ahead", || self.run()).is_ok();
        }
        if state.mappings.len() >= MOST_WATCHED {
            state.mappings.retain(|watched| !watched.is_gone());
            if state.mappings.len() >= MOST_WATCHED {
                state.mappings.remove(0);
            }
        }
        if state.has_thread && state.mappings.try_reserve(1).is_ok() {
            state.mappings.push(watched);
            if state.is_waiting {
                drop(state);
                self.pushed.notify_one();
            }
        }
    }

    fn run(&self) {
        let mut all: Vec<Watch> = Vec::new();
        let mut faults = 0;
        let mut looks = 0_u32;
        loop {
            all.retain(|watch| !watch.is_over());
            let mut state = self.state();
            if all.is_empty() && looks > MOST_IDLE {
                while state.mappings.is_empty() {
                    state.is_waiting = true;
                    state = lock::wait(&self.pushed, state);
                }
                state.is_waiting = false;
            }
            if !state.mappings.is_empty() {
                if looks > MOST_DOUBLED {
                    // Else those who map all the time would keep it awake.
                    looks = 0;
                }
                all.extend(state.mappings.drain(..).map(Watch::new));
                let too_many = all.len().saturating_sub(MOST_WATCHED);
                all.drain(..too_many);
            }
            drop(state);
            let now = process::minor_faults();
            let began = clock::thread_time();
            if now != faults {
                let has_moved = all.iter_mut().fold(false, |moved, watch| watch.step() | moved);
                // Its own are no news.
                faults = process::minor_faults();
                if has_moved {
                    looks = 0;
                    faults = 0;
                    continue;
                }
            }
            let took = clock::thread_time().saturating_sub(began);
            let rest = |times| Duration::from_nanos(took.saturating_mul(times));
            if looks > MOST_DOUBLED {
                clock::sleep_by_process_time(rest(QUIET_REST).max(QUIET_SLEEP));
            } else {
                let sleep = MOVING_SLEEP.saturating_mul(1 << looks);
                thread::sleep(rest(MOVING_REST).max(sleep));
            }
            looks = looks.saturating_add(1);
        }
    }
}

/// What the thread knows of a mapping.
struct Watch {
    watched: Arc<Watched>,
    passes: Vec<Pass>,
    /// Where it looks next for another pass.
    cursor: u64,
    /// Where the kernel doesn't tell what is mapped (before 6.7).
    is_blind: bool,
}

impl Watch {
    fn new(watched: Arc<Watched>) -> Self {
        let cursor = watched.span.start().get();
        Self { watched, passes: Vec::new(), cursor, is_blind: false }
    }

    fn is_over(&self) -> bool {
        let span = self.watched.span;
        let is_through = |pass: &Pass| {
            pass.is_over()
                && pass.range().start <= sum(span.start().get(), AROUND_BYTES)
                && pass.range().end >= span.end().get()
        };
        self.is_blind
            || self.watched.is_gone()
            || self.passes.iter().any(is_through)
            || self.passes.len() >= MOST_PASSES && self.passes.iter().all(Pass::is_over)
    }

    /// Whether a module has gone on.
    fn step(&mut self) -> bool {
        let Self { watched, passes, .. } = self;
        let end = watched.span.end().get();
        let moving = passes.iter_mut().filter(|pass| !pass.is_over());
        let has_moved = moving.fold(false, |moved, pass| pass.step(end, &**watched) | moved);
        has_moved || self.passes.len() < MOST_PASSES && self.look()
    }

    /// Looks for a pass that is not known.
    fn look(&mut self) -> bool {
        let span = self.watched.span;
        let ranges = || self.passes.iter().map(Pass::range);
        let mut at = self.cursor;
        while let Some(known) = ranges().find(|range| range.contains(&at)) {
            at = known.end;
        }
        let next = ranges().map(|range| range.start).filter(|start| *start > at).min();
        let to = next.map_or(span.end(), PageAligned::round_down);
        let part = PageSpan::between(PageAligned::round_down(at), to);
        self.cursor = span.start().get();
        let Some(part) = part.and_then(|part| part.within(span)) else { return false };
        let mut found = None;
        // Small pages of all kinds, so that the end of the look comes soon among any.
        let walked = pagemap::scan(part, Which::Small, LOOK_PAGES, |run| {
            let is_read = run.is_file && !run.is_swapped;
            if found.is_none() && is_read && run.span.length().get() >= RUN_BYTES {
                found = Some(run.span);
            }
        });
        match walked {
            Ok(walked) if walked < span.end() => self.cursor = walked.get(),
            Ok(_) => {}
            Err(_) => self.is_blind = true,
        }
        let Some(run) = found.map(|run| (run.start().get(), run.end().get())) else { return false };
        let span_end = span.end().get();
        // One that went on behind what needs no help.
        let over = self.passes.extract_if(.., |pass| pass.is_over() && pass.range().end <= run.0);
        let start = over.map(|pass| pass.range().start).min().unwrap_or(run.0);
        if self.passes.try_reserve(1).is_err() {
            return false;
        }
        let mut pass = Pass::new(start, run.1);
        pass.step(span_end, &*self.watched);
        self.passes.push(pass);
        true
    }
}

impl PageTables for Watched {
    fn is_mapped(&self, at: u64) -> bool {
        // By the descriptor that is kept open: none comes and goes on this thread.
        let mut found = false;
        let page = PageSpan::page_at(at);
        let scanned = page.map(|page| pagemap::scan(page, Which::OfFile, 1, |_| found = true));
        found && scanned.is_some_and(|scanned| scanned.is_ok())
    }

    fn bring_in(&self, start: u64, end: u64) -> bool {
        // The kernel maps what is around it.
        let mut pages = (start..end).step_by(to_usize(AROUND_BYTES)).map_while(PageSpan::page_at);
        pages.all(|page| !self.is_gone() && mmap::hint(page, Hint::PopulateRead).is_ok())
    }
}
