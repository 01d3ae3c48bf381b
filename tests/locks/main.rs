//! Eight threads that map, unmap, fault, slide and restore at once, each in its own memory: which
//! locks they take, and what they would wait for.
//!
//! `npm run test:locks` prints the table. It counts, and measures no time: which locks are taken,
//! and that nobody waits, does not depend on the machine. How often threads would wait for a single
//! registry does a little: a slide asks the kernel once in a tick of its clock, which is a step.

#![cfg(feature = "locks")]
#![allow(clippy::arithmetic_side_effects, clippy::cast_possible_truncation)] // As in all tests.

mod replay;
mod row;
#[path = "../support/mod.rs"]
mod support;

use replay::replay;
use row::Row;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Barrier;
use support::{PAGE, Temp, page_bytes, pages, serial, write};
use wasm_hostmap::access::Access;
use wasm_hostmap::fault;
use wasm_hostmap::memory::window_state::{Tail, WindowSpec};
use wasm_hostmap::memory::{Mapped, Memory, Populate};
use wasm_hostmap::region::Region;
use wasm_hostmap::region::thp::PageKind;
use wasm_hostmap::snapshot::capture::{Afterwards, capture};
use wasm_hostmap::snapshot::complete::complete;
use wasm_hostmap::snapshot::metadata::About;
use wasm_hostmap::snapshot::restore::restore;
use wasm_hostmap::snapshot::{Settings, Snapshot};
use wasm_hostmap::sys::lock::{self, Event, Level};
use wasm_hostmap::sys::page::PageAligned;
use wasm_hostmap::v8::live_memory::LiveMemory;
use wasm_hostmap::window;

const THREADS: usize = 8;
const ROUNDS: usize = 20;
const REGION_PAGES: u64 = 32;
const WINDOW_PAGES: u64 = 8;
const LARGE_BYTES: u64 = 16 << 20;
const SETTINGS: Settings = Settings { keep_resident_bytes: 1 << 20, huge_pages: false };

/// A thread's own: a memory with mappings and windows, and one that goes back to a snapshot.
struct Worker<'a> {
    live: LiveMemory<'a>,
    memory: Memory,
    region: Region,
    file: Region,
    /// Holes, which nobody touches.
    large: Region,
    _file: Temp,
    slid: Mapped,
    slid_file: Mapped,
    mapped: Option<Mapped>,
    restored: LiveMemory<'a>,
    restored_memory: Memory,
    snapshot: Snapshot,
    /// Nobody's yet.
    free: LiveMemory<'a>,
    wrapped: Option<Memory>,
    round: u64,
}

fn bytes() -> Vec<u8> {
    vec![7; (REGION_PAGES * page_bytes()) as usize]
}

impl<'a> Worker<'a> {
    fn new(row: &'a Row, thread: usize) -> Self {
        let [live, restored, free] = [0, 1, 2].map(|at| row.live(3 * thread + at));
        let memory = Memory::attach(live).unwrap();
        let copied = bytes();
        let (address, length) = (copied.as_ptr() as u64, copied.len() as u64);
        let region = Region::copy_from(address, length, "own", PageKind::Ordinary).unwrap();
        let file = Temp::new(&format!("locks-{thread}"), &bytes());
        let spec =
            WindowSpec { length: pages(WINDOW_PAGES), access: Access::Readonly, tail: Tail::Zeros };
        let window =
            |at| window::open_at(&memory, live, at * page_bytes(), spec).expect("there is room");
        let restored_memory = Memory::attach(restored).unwrap();
        for page in 0..64 {
            write(restored.base().get() + page * page_bytes(), 1);
        }
        let taken =
            capture(&restored_memory, restored, "own", &[], SETTINGS, Afterwards::Shares).unwrap();
        complete(&taken, About::default(), None).unwrap();
        Self {
            slid: window(16),
            slid_file: window(32),
            mapped: None,
            file: file.open(),
            large: Region::allocate(LARGE_BYTES, "large", PageKind::Ordinary).unwrap(),
            _file: file,
            free,
            wrapped: None,
            round: 0,
            snapshot: taken,
            live,
            memory,
            region,
            restored,
            restored_memory,
        }
    }

    fn slide(&self, window: Mapped, region: &Region) {
        let start = PageAligned::new(self.round % 16 * PAGE.get()).unwrap();
        let shown = region.pages(start, WINDOW_PAGES * page_bytes()).unwrap();
        assert!(
            window::slide(&self.memory, self.live, window, Some((&shown, Access::Readonly)))
                .unwrap()
        );
    }
}

/// What is counted, by its name.
type Call = (&'static str, fn(&mut Worker<'_>));

/// In this order, over and over.
const CALLS: [Call; 14] = [
    ("map", |it| {
        let shown = it.region.pages(PageAligned::ZERO, it.region.byte_length()).unwrap();
        let mapped =
            it.memory.map_at(it.live, 64 * page_bytes(), &shown, Access::Readonly, false).unwrap();
        it.mapped = Some(mapped);
    }),
    ("unmap", |it| {
        it.memory.unmap(it.live, it.mapped.take().unwrap()).unwrap().unwrap();
    }),
    ("slide, memfd", |it| it.slide(it.slid, &it.region)),
    ("slide, file", |it| it.slide(it.slid_file, &it.file)),
    ("restore, clean", |it| drop(restore(&it.restored_memory, it.restored, &it.snapshot).unwrap())),
    ("restore, 32 dirty pages", |it| {
        for page in 0..32 {
            write(it.restored.base().get() + page * page_bytes(), 2);
        }
        restore(&it.restored_memory, it.restored, &it.snapshot).unwrap();
    }),
    ("map", |it| CALLS[0].1(it)),
    ("stray write", |it| write(it.live.base().get() + 65 * page_bytes(), 1)),
    ("unmap, after a fault that was not reported", |it| {
        let counts = it.memory.unmap(it.live, it.mapped.take().unwrap()).unwrap().unwrap();
        assert_eq!(counts.stray_writes(), 1);
    }),
    ("take the reports of faults", |it| {
        let reports = fault::take_reports();
        assert_eq!(reports.len(), 1, "one's own");
        it.round += 1;
    }),
    ("map 16 MiB, and its pages ahead of a module", |it| {
        let shown = it.large.pages(PageAligned::ZERO, LARGE_BYTES).unwrap();
        let at = row::MEMORY_BYTES - LARGE_BYTES;
        it.mapped =
            Some(it.memory.map_at(it.live, at, &shown, Access::Readonly, Populate::Ahead).unwrap());
    }),
    ("unmap", |it| CALLS[1].1(it)),
    ("wrap a memory", |it| it.wrapped = Some(Memory::attach(it.free).unwrap())),
    ("let go of a memory", |it| drop(it.wrapped.take().unwrap())),
];

/// How many locks of a level one of them takes, and by how many threads each is ever taken.
type Taken = (Level, usize, usize);

const TAKEN: [(&str, &[Taken]); 12] = [
    ("map", &[(Level::Memory, 1, 1), (Level::FaultRegistry, 1, 1)]),
    ("unmap", &[(Level::Memory, 1, 1), (Level::FaultRegistry, 1, 1)]),
    ("slide, memfd", &[(Level::Memory, 1, 1), (Level::Mirror, 1, 1), (Level::RangeName, 1, 1)]),
    ("slide, file", &[(Level::Memory, 1, 1), (Level::Mirror, 1, 1), (Level::RangeName, 1, 1)]),
    ("restore, clean", &[(Level::Memory, 1, 1)]),
    ("restore, 32 dirty pages", &[(Level::Memory, 1, 1)]),
    ("stray write", &[]),
    (
        "unmap, after a fault that was not reported",
        &[
            (Level::Memory, 1, 1),
            (Level::FaultRegistry, 1, 1),
            (Level::RangeName, 1, 1),
            (Level::RangeNameBefore, 1, 1),
            (Level::FaultsLeft, 1, THREADS),
        ],
    ),
    (
        "take the reports of faults",
        &[(Level::FaultListeners, 1, THREADS), (Level::FaultsLeft, 1, THREADS)],
    ),
    (
        "map 16 MiB, and its pages ahead of a module",
        &[(Level::Memory, 1, 1), (Level::MappedAhead, 1, THREADS), (Level::FaultRegistry, 1, 1)],
    ),
    ("wrap a memory", &[(Level::Memories, 1, THREADS), (Level::Memory, 1, 1)]),
    ("let go of a memory", &[(Level::Memories, 1, THREADS), (Level::Memory, 1, 1)]),
];

fn taken(name: &str) -> &'static [Taken] {
    TAKEN.iter().find(|(of, _)| *of == name).unwrap().1
}

/// What threads share: who is told of faults, of what, which mappings a thread goes ahead of, and
/// which memories there are.
const SHARED: [Level; 4] =
    [Level::FaultListeners, Level::FaultsLeft, Level::MappedAhead, Level::Memories];

/// A lock by its level and its number.
type Which = (Level, u64);

/// What a thread did: of each call, in order.
type Trace = Vec<(&'static str, Vec<Event>)>;

fn traced<R>(trace: &mut Trace, name: &'static str, call: impl FnOnce() -> R) -> R {
    lock::start();
    let done = call();
    trace.push((name, lock::take()));
    done
}

/// All threads at once. Each has done everything before it is counted.
fn run(row: &Row) -> Vec<Trace> {
    let together = Barrier::new(THREADS);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let together = &together;
                scope.spawn(move || {
                    fault::listen(true);
                    let mut worker = Worker::new(row, thread);
                    for (_, call) in CALLS {
                        call(&mut worker);
                    }
                    together.wait();
                    let mut trace = Trace::new();
                    for _ in 0..ROUNDS {
                        for (name, call) in CALLS {
                            traced(&mut trace, name, || call(&mut worker));
                        }
                    }
                    together.wait();
                    fault::listen(false);
                    trace
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// Which threads take each lock.
fn takers(traces: &[Trace]) -> HashMap<Which, BTreeSet<usize>> {
    let mut takers: HashMap<Which, BTreeSet<usize>> = HashMap::new();
    for (thread, trace) in traces.iter().enumerate() {
        for event in trace.iter().flat_map(|(_, events)| events) {
            if let Event::Takes { level, lock } = *event {
                takers.entry((level, lock)).or_default().insert(thread);
            }
        }
    }
    takers
}

/// The locks of a call: of each level how many, and how many threads take the one that most take.
fn counted(events: &[Event], takers: &HashMap<Which, BTreeSet<usize>>) -> Vec<Taken> {
    let mut counts: BTreeMap<Level, (usize, usize)> = BTreeMap::new();
    for event in events {
        if let Event::Takes { level, lock } = *event {
            let (count, threads) = counts.entry(level).or_default();
            *count += 1;
            *threads = (*threads).max(takers[&(level, lock)].len());
        }
    }
    counts.into_iter().map(|(level, (count, threads))| (level, count, threads)).collect()
}

/// The system calls that are made under each lock.
fn calls_under(events: &[Event]) -> BTreeMap<Which, Vec<&'static str>> {
    let mut held: Vec<Which> = Vec::new();
    let mut calls: BTreeMap<Which, Vec<&'static str>> = BTreeMap::new();
    for event in events {
        match *event {
            Event::Takes { level, lock } => held.push((level, lock)),
            Event::Frees { level, lock } => held.retain(|which| *which != (level, lock)),
            // A question of tests alone: whether a call is to leave a hole.
            Event::Calls("hole") => {}
            Event::Calls(name) => {
                for which in &held {
                    calls.entry(*which).or_default().push(name);
                }
            }
        }
    }
    calls
}

fn print(trace: &Trace, takers: &HashMap<Which, BTreeSet<usize>>) {
    println!("{THREADS} threads, each with memories of its own. Locks that a call takes:\n");
    let mut printed = BTreeSet::new();
    for (name, events) in trace {
        if !printed.insert(name) {
            continue;
        }
        println!("{name}");
        let under = calls_under(events);
        for (level, count, threads) in counted(events, takers) {
            let calls: Vec<&str> = under
                .iter()
                .filter(|((of, _), _)| *of == level)
                .flat_map(|(_, calls)| calls.iter().copied())
                .collect();
            let calls = if calls.is_empty() { "nothing".into() } else { calls.join(", ") };
            let level = format!("{level:?}");
            println!(
                "  {count} {level:<15} taken by {threads} of {THREADS} threads; meanwhile: {calls}"
            );
        }
    }
}

#[test]
fn no_lock_is_shared_but_where_a_fault_is_told_and_none_of_these_during_a_system_call() {
    let _serial = serial();
    let row = Row::new(3 * THREADS);
    let traces = run(&row);
    let takers = takers(&traces);
    print(&traces[0], &takers);

    for (name, events) in traces.iter().flatten() {
        assert_eq!(counted(events, &takers), taken(name), "{name}: {events:?}");
        for (which, calls) in calls_under(events) {
            assert_eq!(takers[&which].len(), 1, "{name}: {which:?} is held during {calls:?}");
        }
    }

    let of = |is_counted: &dyn Fn(&str) -> bool| -> Vec<Vec<Event>> {
        let events = |trace: &Trace| {
            trace
                .iter()
                .filter(|(name, _)| is_counted(name))
                .flat_map(|(_, events)| events.clone())
                .collect()
        };
        traces.iter().map(events).collect()
    };
    let hot = of(&|name| taken(name).iter().all(|(_, _, threads)| *threads == 1));
    let all = of(&|_| true);
    let own = |level, lock| (level, lock);
    // As before there were 64 of them.
    let one_registry = |level, lock| (level, if level == Level::FaultRegistry { 0 } else { lock });
    let (mut turns, mut waits) = ([0; 2], [0; 2]);
    for seed in 0..200 {
        let in_vain = replay(&hot, seed, own).waits;
        assert!(in_vain.is_empty(), "seed {seed}: {in_vain:?}");
        let replayed = replay(&all, seed, own);
        let mut levels = replayed.waits.keys();
        assert!(levels.all(|level| SHARED.contains(level)), "seed {seed}: {replayed:?}");
        let one = replay(&hot, seed, one_registry);
        turns = [turns[0] + replayed.turns(), turns[1] + one.turns()];
        waits = [waits[0] + replayed.all_waits(), waits[1] + one.all_waits()];
    }
    println!(
        "\nOn {THREADS} processors, in 200 orders of their steps, turns that are spent waiting:\n  \
         0 of what maps, unmaps, slides, faults and restores\n  \
         {} in 1000 of all of the above\n  \
         {} in 1000 of what maps, unmaps, slides, faults and restores, if there were one registry",
        waits[0] * 1000 / turns[0],
        waits[1] * 1000 / turns[1]
    );
    assert!(waits[1] > 0, "else it would not show what is shared");
}
