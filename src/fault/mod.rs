//! The fault guard: what happens when an access to one of our mappings faults.
//!
//! # Two kinds of faults, two ways out
//!
//! A *stray write* hits a read-only page (SIGSEGV). A *missing page* is one whose contents can't be
//! had (SIGBUS): its file was made shorter, the disk failed, or there is no memory. Without a
//! handler each ends the process. With ours:
//!
//! ```text
//!  the thread was in                            the way out
//!  Wasm, a load or store that V8 can trap       V8 makes it a RuntimeError, which the caller can catch
//!  Wasm otherwise (memory.fill, atomics, ...)   the page is made one that the access may have, and it is done again:
//!  JavaScript, C++ of V8 or Node                  stray write    the page becomes copy-on-write: the region stays as it is
//!                                                 missing page   zeros are put in its place
//! ```
//!
//! The second way is silent for the program, so it is counted, and reported once for each mapping.
//! A mapping that lost its protection so gets it back at the next call into the library.
//!
//! # What the handler may believe
//!
//! It finds an address in the [`Registry`], which says what we mapped there. That may be history:
//! V8 unmaps a memory that dies before anybody tells us, and something else may lie at the address
//! by now. So before a page is changed the kernel is asked what lies there: the file, and where in
//! it, must be what we mapped ([`Guarded::is_ours`]). What we are about to put there, or take away,
//! on another thread, [`Registration::pause`] keeps handlers off: they come back to the same
//! instruction until it is done. And a fault may be history itself: if the access would succeed by
//! now, since another thread has just unmapped what was there, it is done again.
//!
//! Where the process's map is text, the kernel is asked only where nothing else will do
//! ([`Guarded::handle_by_proof`]): a system call tells whether the access would succeed by now, the
//! [`Mark`] of the memory whether it lives, and the page itself whether it is a file's. V8 may
//! always be asked. What is past that, somebody else's page in our range among it, the text
//! decides.
//!
//! Everything else is handed on to the handler that was there before, so a real crash crashes as it
//! did.
//!
//! # Huge pages of the system's pool
//!
//! They can't be protected or replaced in parts, and a copy-on-write of one wants another of the
//! pool, which may be empty. So where one of them is written, ordinary pages with a copy of it are
//! put in its place ([`Guarded::make_copy`]). What is `/dev/zero`'s for the kernel is ours to
//! protect by host pages from then on.
//!
//! # VmaClaim
//!
//! Each page that is changed cuts its VMA in three, and a module could so use up the VMAs of the
//! process by a store to every second page. So only the first few pages of a mapping are changed
//! one by one, then larger and larger blocks.

mod registry;

use crate::access::Access;
use crate::region::hugetlb;
use crate::sys::mark::Mark;
use crate::sys::mmap::{self, Mmap, Pages, Sharing};
use crate::sys::page::{PageAligned, PageSpan, host_page_bytes};
use crate::sys::page_query;
use crate::sys::process_map::{self, Vma};
use crate::sys::signal::{self, Fault, Kind, Signal};
use crate::sys::vma_budget;
use crate::sys::wake::Wake;
use crate::sys::{SysError, SysResult, file, to_u64};
use crate::v8::trap;
use nix::errno::Errno;
use registry::Registry;
use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

static REGISTRY: Registry<Guarded> = Registry::new();

/// How much happened in ranges that are guarded and was not reported.
static UNTOLD: AtomicU64 = AtomicU64::new(0);

/// Called when something is to be reported.
pub static REPORTS: Wake = Wake::new();

/// Pages of a mapping that are made copy-on-write one by one. The next so many faults do it for a
/// block of [`FIRST_BLOCK_PAGES`] each, the next for a block of twice as many, and so on.
const STRAY_PAGES: u32 = 32;
const FIRST_BLOCK_PAGES: u64 = 16;

/// VmaClaim that one changed page adds.
const VMAS_OF_A_PAGE: u64 = 2;

/// Whether any window ever had an inaccessible rest.
static INACCESSIBLE: AtomicBool = AtomicBool::new(false);

/// `/dev/zero`. Where it can't be had, a missing page is not replaced, and ends the process as it
/// did without us.
static ZEROS: OnceLock<ZeroFile> = OnceLock::new();

struct ZeroFile {
    /// Kept, so that a handler need not open it when the process has no descriptor left.
    file: std::fs::File,
    /// As the process's map shows it: by this the pages can be told from anybody's anonymous
    /// memory.
    inode: u64,
}

/// Set in the environment to `off`, it leaves the process's signals alone.
const SWITCH: &str = "WASM_HOSTMAP_FAULT_GUARD";

/// Whether the handler is there, and all that it needs is open.
static READY: AtomicBool = AtomicBool::new(false);

/// Installs the handler, once. `Err` says why there is none. What can't be had now, for want of
/// descriptors say, is tried again at the next call: until then a handler opens it for each fault.
pub fn ensure() -> Result<(), &'static str> {
    if READY.load(Ordering::Acquire) && process_map::is_prepared_for_handler() {
        return Ok(());
    }
    static IS_OFF: OnceLock<bool> = OnceLock::new();
    if *IS_OFF.get_or_init(|| {
        std::env::var_os(SWITCH).is_some_and(|value| value == "off" || value == "0")
    }) {
        return Err("it was turned off by WASM_HOSTMAP_FAULT_GUARD");
    }
    static INSTALLING: Mutex<()> = Mutex::new(());
    let _alone = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
    mmap::prepare_for_handler();
    let is_prepared = process_map::prepare_for_handler().is_ok();
    open_zeros();
    signal::install(on_fault).map_err(|_| "sigaction failed")?;
    READY.store(is_prepared && ZEROS.get().is_some(), Ordering::Release);
    Ok(())
}

/// The same for whoever can't do without copies of pages: these take `/dev/zero`.
pub fn ensure_copies() -> Result<(), &'static str> {
    ensure()?;
    ZEROS.get().map(drop).ok_or("/dev/zero can't be had")
}

/// Puts zeros in the place of pages, such as handlers put there.
///
/// # Safety
/// As [`mmap::replace`].
pub unsafe fn lay_zeros(span: PageSpan, sharing: Sharing) -> SysResult<()> {
    open_zeros();
    if sharing == Sharing::Inaccessible {
        INACCESSIBLE.store(true, Ordering::Relaxed);
    }
    replace_by_zeros(span, sharing)
}

/// Opens `/dev/zero`, unless it is open already.
fn open_zeros() {
    fn open() -> Option<ZeroFile> {
        let file = std::fs::File::open("/dev/zero").ok()?;
        let trial = Mmap::new(
            PageAligned::round_up(1)?,
            zeros(file.as_fd(), PageAligned::ZERO, Sharing::ReadOnly),
        )
        .ok()?;
        let vma = process_map::at_or_after(trial.address()).ok()??;
        (vma.start <= trial.address()).then_some(ZeroFile { file, inode: vma.inode })
    }
    if ZEROS.get().is_none()
        && let Some(file) = open()
    {
        let _ = ZEROS.set(file);
    }
}

/// Zeros for an address. Their offset is the address, so that neighbours are one VMA.
fn zeros(zero: BorrowedFd<'_>, address: PageAligned, sharing: Sharing) -> Pages<'_> {
    Pages::File { fd: zero, offset: address, sharing, is_memfd: true }
}

/// What a fault was, for whoever asks later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastFault {
    /// Which byte of the region.
    pub region_offset: u64,
    /// Which byte of the mapping or view, its first page being whole.
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
    Trap,
    PrivatePage,
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

/// Faults of a mapping, or of all views of a region. Counted by handlers, read by anybody.
#[derive(Debug, Default)]
pub struct Counts {
    stray_writes: AtomicU64,
    faults: AtomicU64,
    last: AtomicU64,
    /// Of the last one, where in the mapping. Two threads that fault at once may leave it the
    /// other's.
    last_skew: AtomicU64,
    last_inode: AtomicU64,
    /// How many of `faults` somebody has taken note of.
    acknowledged: AtomicU64,
    /// Whether none may go by without that: see [`Self::is_faulted`].
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

    /// How many of these nobody has taken note of.
    pub fn unacknowledged(&self) -> u64 {
        self.faults().saturating_sub(self.acknowledged.load(Ordering::Acquire))
    }

    /// Takes note of them, and gives how many they were.
    pub fn acknowledge(&self) -> u64 {
        let faults = self.faults();
        faults.saturating_sub(self.acknowledged.fetch_max(faults, Ordering::AcqRel))
    }

    /// From now on, calls on what these are of must fail while there are unacknowledged faults.
    pub fn make_strict(&self) {
        self.strict.store(true, Ordering::Release);
    }

    /// Whether such calls must fail now.
    pub fn is_faulted(&self) -> bool {
        self.strict.load(Ordering::Acquire) && self.unacknowledged() > 0
    }

    /// In which file the last one was.
    pub fn last_inode(&self) -> u64 {
        self.last_inode.load(Ordering::Relaxed)
    }

    pub fn last(&self) -> Option<LastFault> {
        LastFault::unpack(self.last.load(Ordering::Acquire), self.last_skew.load(Ordering::Relaxed))
    }
}

/// What is to be guarded.
#[derive(Debug)]
pub struct Target {
    /// Addresses of the process.
    pub span: PageSpan,
    /// Where it lies in a memory; `None` for a view.
    pub memory_offset: Option<PageAligned>,
    /// Whether other pages may come to stand there.
    pub is_window: bool,
    pub access: Access,
    pub counts: Arc<Counts>,
    /// Set when a page lost its protection: one for all mappings of a memory.
    pub unprotected: Arc<AtomicBool>,
    /// Why the registry may be believed without the process's map.
    pub proof: Proof,
    /// The smallest piece that can be protected or replaced, where no zeros were laid yet. The span
    /// begins and ends with one.
    pub page_bytes: u64,
}

/// What proves that a range that is registered is still mapped as we mapped it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// Nobody else unmaps it: a view.
    Owned,
    /// It is in a reservation that is there as long as this mark is.
    Marked(Mark),
    /// Nothing: the process's map is asked.
    Absent,
}

impl Proof {
    fn holds(self) -> bool {
        match self {
            Self::Owned => true,
            Self::Marked(mark) => mark.is_intact() == Some(true),
            Self::Absent => false,
        }
    }
}

/// What stands at the start of a range. A window shows one after the other.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// Which file, and where in it, as the process's map shows it. 0: none.
    pub inode: u64,
    pub file_offset: PageAligned,
    /// Which byte of the region is at the start.
    pub region_offset: PageAligned,
    pub region_name: &'a Arc<str>,
}

/// A [`Source`] as handlers read it. Written while they are kept off, so they never see halves of
/// two.
#[derive(Debug)]
struct SourceNow {
    inode: AtomicU64,
    file_offset: AtomicU64,
    region_offset: AtomicU64,
    /// Not for handlers.
    region_name: Mutex<Arc<str>>,
    /// The one before, if something of it is still to be told.
    untold_name: Mutex<Option<Arc<str>>>,
}

impl SourceNow {
    fn new(source: Source<'_>) -> Self {
        Self {
            inode: AtomicU64::new(source.inode),
            file_offset: AtomicU64::new(source.file_offset.get()),
            region_offset: AtomicU64::new(source.region_offset.get()),
            region_name: Mutex::new(Arc::clone(source.region_name)),
            untold_name: Mutex::default(),
        }
    }

    fn set(&self, source: Source<'_>, untold: bool) {
        self.inode.store(source.inode, Ordering::Relaxed);
        self.file_offset.store(source.file_offset.get(), Ordering::Relaxed);
        self.region_offset.store(source.region_offset.get(), Ordering::Relaxed);
        let mut name = self.region_name.lock().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&name, source.region_name) {
            let before = std::mem::replace(&mut *name, Arc::clone(source.region_name));
            if untold {
                let mut kept = self.untold_name.lock().unwrap_or_else(PoisonError::into_inner);
                kept.get_or_insert(before);
            }
        }
    }

    fn name_to_tell(&self) -> Arc<str> {
        let kept = self.untold_name.lock().unwrap_or_else(PoisonError::into_inner).take();
        kept.unwrap_or_else(|| {
            Arc::clone(&self.region_name.lock().unwrap_or_else(PoisonError::into_inner))
        })
    }
}

/// A range that the handler sees to.
#[derive(Debug)]
struct Guarded {
    target: Target,
    now: SourceNow,
    /// Never given twice, and not 0.
    id: u64,
    /// Handlers that are at work on it, and [`PAUSED`].
    pins: AtomicU32,
    /// Whether one of them is changing pages.
    busy: AtomicBool,
    /// Whether a page lost its protection since it was last protected.
    unprotected: AtomicBool,
    /// Whether some of its pages may not show the region: zeros were laid, or the owner says so.
    changed: AtomicBool,
    /// How often other pages came to stand there.
    slides: AtomicU64,
    stray_pages: AtomicU32,
    /// VmaClaim that pages without protection added, and that zeros did.
    stray_vmas: AtomicU64,
    zero_vmas: AtomicU64,
    /// Where zeros were laid last without a look at the map.
    last_zeros: AtomicU64,
    /// What happened that is worth a report, and what of it was reported: bits of [`What`].
    happened: AtomicU8,
    reported: AtomicU8,
    /// The thread whose program hears of it.
    owner: u64,
}

/// Set in `Guarded::pins` while the owner replaces the pages.
const PAUSED: u32 = 1 << 31;

/// What is worth a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum What {
    StrayWrite = 1,
    MissingPage = 2,
    PastEnd = 4,
}

/// The handler's decision. Only atomics and system calls from here on, down to the end of `impl
/// Guarded`.
fn on_fault(fault: &Fault) -> bool {
    if fault.kind == Kind::Other {
        // The probe's fault is on an address of V8's guard, which has no page rights at all:
        // SEGV_ACCERR.
        return false;
    }
    if fault.signal == Signal::Segv && trap::probe(fault) {
        return true;
    }
    let (first, verdict) = find(fault.address, |guarded| guarded.handle(fault));
    if verdict == Verdict::Again {
        // Not while anything is held that others wait for.
        signal::yield_now();
    }
    verdict != Verdict::NotOurs || is_history(fault, first)
}

/// How often a fault is looked at while other threads map and unmap. Each look takes about as long
/// as one of their calls.
const LOOKS: usize = 64;

/// Whether a fault that is not ours to handle tells of what was there before: then the access is
/// done again, and meets what is there now. `found` is what was registered when it was looked at.
fn is_history(fault: &Fault, found: u64) -> bool {
    let taker = TAKER.load(Ordering::Acquire);
    if taker == 0 || taker == signal::this_thread() {
        return false;
    }
    let registered = || find(fault.address, |_| ()).0;
    for _ in 0..LOOKS {
        let takes = TAKES.load(Ordering::Acquire);
        if registered() != found || is_over(fault) || registered() != found {
            return true;
        }
        // Else a mapping may have come and gone between these looks, and what they saw belong to
        // two moments.
        if TAKES.load(Ordering::Acquire) == takes {
            return false;
        }
    }
    false
}

/// What comes of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Verdict {
    #[default]
    NotOurs,
    Done,
    /// The access is to be done again when another thread has done its work.
    Again,
}

/// Looks at what is registered for an address: its id, or 0 for nothing, and what `look` says of
/// it.
fn find<R: Default>(address: u64, look: impl FnOnce(&Guarded) -> R) -> (u64, R) {
    REGISTRY.find(address, |guarded| (guarded.id, look(guarded))).unwrap_or_default()
}

/// Who ever took pages of ours away: 0, a thread, or [`SEVERAL`].
static TAKER: AtomicUsize = AtomicUsize::new(0);
const SEVERAL: usize = usize::MAX;

/// How often pages were begun to be taken away, or had been.
static TAKES: AtomicU64 = AtomicU64::new(1);

/// Where that was: a bit for each gibibyte of addresses, several of which share one. Bits are never
/// cleared.
static TAKEN_FROM: [AtomicU64; 64] = [const { AtomicU64::new(0) }; 64];

/// For the threads that were here last, which thread it was and `TAKES` when it last did an access
/// again: half a word each.
static RETRIED_AT: [AtomicU64; 64] = [const { AtomicU64::new(0) }; 64];

/// For the threads that were here last, what they did an access again for: see `may_be_history`.
static LOOKED_AT: [AtomicU64; 64] = [const { AtomicU64::new(0) }; 64];

fn place_of(number: u64) -> (usize, u64) {
    // The upper bits of a product with a large odd number are well spread (Knuth's multiplicative
    // hashing).
    let hash = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 52;
    (usize::try_from(hash >> 6).unwrap_or(0) & 63, 1 << (hash & 63))
}

const GIBIBYTE_SHIFT: u32 = 30;

fn remember_take(span: PageSpan) {
    let this = signal::this_thread();
    let taker = TAKER.load(Ordering::Acquire);
    if taker != this && taker != SEVERAL {
        let known = TAKER.compare_exchange(0, this, Ordering::AcqRel, Ordering::Acquire);
        if known.is_err() {
            TAKER.store(SEVERAL, Ordering::Release);
        }
    }
    let last = span.end().get().saturating_sub(1);
    for gibibyte in span.start().get() >> GIBIBYTE_SHIFT..=last >> GIBIBYTE_SHIFT {
        let (word, bit) = place_of(gibibyte);
        if TAKEN_FROM[word].load(Ordering::Relaxed) & bit == 0 {
            TAKEN_FROM[word].fetch_or(bit, Ordering::AcqRel);
        }
    }
    TAKES.fetch_add(1, Ordering::AcqRel);
}

/// Whether the access would succeed by now: between the fault and this handler another thread
/// unmapped what was there. Then it is done again. Asked only where another thread ever did so near
/// this address, and about no reads, which only a missing page can stop: so V8's own traps stay as
/// fast.
fn is_over(fault: &Fault) -> bool {
    let this = signal::this_thread();
    let taker = TAKER.load(Ordering::Acquire);
    let (word, bit) = place_of(fault.address >> GIBIBYTE_SHIFT);
    if taker == 0 || taker == this || TAKEN_FROM[word].load(Ordering::Acquire) & bit == 0 {
        return false;
    }
    // A fault that comes again though nothing was taken away meanwhile is not over, whatever it
    // looks like.
    let takes = TAKES.load(Ordering::Acquire);
    let this = to_u64(this);
    let (slot, _) = place_of(this);
    // Descriptors of threads are pages apart.
    let retry = (this >> 12 << 32) | (takes & u64::from(u32::MAX));
    if RETRIED_AT[slot].load(Ordering::Relaxed) == retry {
        return false;
    }
    let over = match (fault.kind, fault.is_write()) {
        (Kind::Protection, Some(false)) if !INACCESSIBLE.load(Ordering::Relaxed) => false,
        _ if process_map::is_text_in_handler() => succeeds_now(fault),
        (Kind::Protection, Some(true)) => {
            process_map::holding_in_handler(fault.address).is_some_and(|vma| vma.writable)
        }
        // Only what a window does not show is inaccessible.
        (Kind::Protection, Some(false)) if INACCESSIBLE.load(Ordering::Relaxed) => {
            process_map::holding_in_handler(fault.address).is_some_and(|vma| vma.readable)
        }
        (Kind::Unavailable, Some(_)) => process_map::holding_in_handler(fault.address)
            .is_some_and(|vma| vma.readable && (vma.inode == 0 || is_zeros(&vma, fault.address))),
        _ => false,
    };
    if over {
        RETRIED_AT[slot].store(retry, Ordering::Relaxed);
    }
    over
}

/// Whether the access would succeed now, by what single system calls tell. Safe for any address.
fn succeeds_now(fault: &Fault) -> bool {
    match (fault.kind, fault.is_write()) {
        (Kind::Protection | Kind::Unavailable, Some(true)) => {
            page_query::is_writable(fault.address)
        }
        (Kind::Protection | Kind::Unavailable, Some(false)) => {
            page_query::is_readable(fault.address)
        }
        _ => false,
    }
}

impl Guarded {
    /// Handles a fault while the range stays as it is; or lets the access be done again, if its
    /// owner or another handler is changing pages of it.
    fn handle(&self, fault: &Fault) -> Verdict {
        // Looked at first, so that many threads that come again and again don't keep the owner
        // waiting.
        let is_paused = self.pins.load(Ordering::Relaxed) & PAUSED != 0;
        if !is_paused {
            if self.pins.fetch_add(1, Ordering::AcqRel) & PAUSED == 0
                // One handler at a time changes pages of a range. Another one that came for the
                // same page would undo what the first thread has written to it since.
                && !self.busy.swap(true, Ordering::Acquire)
            {
                let handled = self.handle_alone(fault);
                self.busy.store(false, Ordering::Release);
                self.pins.fetch_sub(1, Ordering::Release);
                return if handled { Verdict::Done } else { Verdict::NotOurs };
            }
            self.pins.fetch_sub(1, Ordering::Release);
        }
        Verdict::Again
    }

    fn handle_alone(&self, fault: &Fault) -> bool {
        if process_map::is_text_in_handler()
            && let Some(handled) = self.handle_by_proof(fault)
        {
            return handled;
        }
        let vma = process_map::holding_in_handler(fault.address)
            .filter(|vma| self.is_ours(vma, fault.address));
        vma.is_some_and(|vma| match fault.signal {
            Signal::Segv => self.stray_write(fault, &vma),
            Signal::Bus => self.missing_page(fault, &vma),
        })
    }

    /// What needs no look at the process's map, which takes as long as it has VMAs where it is
    /// text. `None`: it is to be looked at.
    fn handle_by_proof(&self, fault: &Fault) -> Option<bool> {
        // Poisoned memory is not to be touched. Of a huge page parts may be ordinary ones by now.
        if fault.kind == Kind::BrokenMemory || self.target.page_bytes > host_page_bytes() {
            return None;
        }
        if succeeds_now(fault) {
            // Another thread was here first, the memory has just grown, or a window slid on.
            return Some(true);
        }
        if !self.target.proof.holds() {
            return None;
        }
        match (fault.signal, fault.kind, fault.is_write()) {
            (Signal::Segv, Kind::Protection, Some(is_write)) => {
                self.stray_access_by_proof(fault, is_write)
            }
            (Signal::Bus, Kind::Unavailable, Some(is_write)) => {
                self.missing_page_by_proof(fault, is_write)
            }
            _ => None,
        }
    }

    fn stray_access_by_proof(&self, fault: &Fault, is_write: bool) -> Option<bool> {
        // V8 would take it from anybody: what it was makes no difference but to the counts.
        let is_readable = page_query::is_readable(fault.address);
        if !is_readable && self.target.is_window && page_query::is_there(fault.address) {
            if trap::offer(fault) {
                self.target.counts.faults.fetch_add(1, Ordering::AcqRel);
                self.note(fault, Cause::PastEnd, Outcome::Trap);
                return Some(true);
            }
            return None;
        }
        if !is_write || self.target.access.writes_through() {
            return None;
        }
        if trap::offer(fault) {
            self.note(fault, Cause::Readonly, Outcome::Trap);
            return Some(true);
        }
        // Of what somebody else put into our range, or we did as zeros, the map tells; of a page
        // that its file has lost, too.
        if !is_readable || !page_query::is_file_page(fault.address) {
            return None;
        }
        let page = PageSpan::page_of(fault.address)?.within(self.target.span)?;
        let is_first = self.stray_pages.load(Ordering::Relaxed) < STRAY_PAGES;
        let block = match (is_first, self.target.is_window) {
            (true, _) => page,
            // Its end is not the region's to show, and where that begins the map tells.
            (false, true) => return None,
            (false, false) => {
                self.block_of(fault.address, self.stray_pages.load(Ordering::Relaxed))?
            }
        };
        // Where the process has no room for more VMAs, the map tells how far this one goes.
        if !vma_budget::take_in_handler(VMAS_OF_A_PAGE) {
            return None;
        }
        // SAFETY: pages of a mapping of ours, which nobody can have unmapped: the range is
        // registered, its proof holds, and its owner does not change it while a handler is at work.
        // They are private, as all that we map read-only.
        if unsafe { mmap::unprotect_private(block) }.is_err() {
            vma_budget::give_back(VMAS_OF_A_PAGE);
            return None;
        }
        self.stray_pages.fetch_add(1, Ordering::Relaxed);
        self.stray_vmas.fetch_add(VMAS_OF_A_PAGE, Ordering::Relaxed);
        self.stray_write_done(fault);
        Some(true)
    }

    fn missing_page_by_proof(&self, fault: &Fault, is_write: bool) -> Option<bool> {
        if self.may_be_history() {
            return Some(true);
        }
        if trap::offer(fault) {
            self.target.counts.faults.fetch_add(1, Ordering::AcqRel);
            self.note(fault, Cause::Unavailable, Outcome::Trap);
            return Some(true);
        }
        // Where a growth has made a read-only mapping writable, that is undone for this page: a
        // write to it is a stray write.
        let is_writable = is_write || self.target.access.is_writable();
        let sharing = if is_writable { Sharing::CopyOnWrite } else { Sharing::ReadOnly };
        let page = PageSpan::page_of(fault.address)?.within(self.target.span)?;
        self.changed.store(true, Ordering::Release);
        // As above: how far the rest goes, the map tells.
        if !vma_budget::take_in_handler(VMAS_OF_A_PAGE) {
            return None;
        }
        if replace_by_zeros(page, sharing).is_err() {
            vma_budget::give_back(VMAS_OF_A_PAGE);
            return None;
        }
        self.count_zeros(self.is_beside_zeros(page));
        self.target.counts.faults.fetch_add(1, Ordering::AcqRel);
        self.note(fault, Cause::Unavailable, Outcome::Zeros);
        self.report(What::MissingPage);
        Some(true)
    }

    /// On how many sides of a page the last zeros are. They are one VMA with it. What came before
    /// them is not known any more, and counted twice until all are counted again.
    fn is_beside_zeros(&self, page: PageSpan) -> u64 {
        let last = self.last_zeros.swap(page.start().get(), Ordering::Relaxed);
        u64::from(last.abs_diff(page.start().get()) == host_page_bytes())
    }

    /// Whether the page at this address is one that we put there.
    fn is_ours(&self, vma: &Vma, address: u64) -> bool {
        if is_zeros(vma, address) {
            return true;
        }
        let here =
            address.checked_sub(vma.start).and_then(|skew| vma.file_offset.checked_add(skew));
        let expected = address
            .checked_sub(self.target.span.start().get())
            .and_then(|skew| self.now.file_offset.load(Ordering::Relaxed).checked_add(skew));
        let inode = self.now.inode.load(Ordering::Relaxed);
        // Anonymous memory is nobody's file.
        inode != 0 && vma.inode == inode && here.is_some() && here == expected
    }

    fn stray_write(&self, fault: &Fault, vma: &Vma) -> bool {
        if fault.kind == Kind::Protection && !vma.readable && is_zeros(vma, fault.address) {
            return self.past_end(fault, vma);
        }
        if fault.kind == Kind::Protection && fault.is_write() == Some(false) && vma.readable {
            // A window slid on meanwhile.
            return true;
        }
        if fault.kind != Kind::Protection || fault.is_write() != Some(true) {
            return false;
        }
        if vma.writable {
            // Another thread was here first, or the memory has just grown.
            return true;
        }
        self.stray_write_unprotected(fault, vma)
    }

    /// Where the kernel can't make the page private by itself.
    fn stray_write_unprotected(&self, fault: &Fault, vma: &Vma) -> bool {
        if vma.shared {
            // Never made by us. Making it writable would let the write through to the file.
            return false;
        }
        if trap::offer(fault) {
            self.note(fault, Cause::Readonly, Outcome::Trap);
            return true;
        }
        if !self.make_private(fault.address, vma) {
            return false;
        }
        self.stray_write_done(fault);
        true
    }

    fn stray_write_done(&self, fault: &Fault) {
        self.target.counts.stray_writes.fetch_add(1, Ordering::AcqRel);
        self.note(fault, Cause::Readonly, Outcome::PrivatePage);
        // After the page lost its protection: whoever clears it restores the protection then. This
        // one first, since the other one is looked at first.
        self.unprotected.store(true, Ordering::Release);
        self.target.unprotected.store(true, Ordering::Release);
        self.report(What::StrayWrite);
    }

    /// The rest of a window, past what it shows.
    fn past_end(&self, fault: &Fault, vma: &Vma) -> bool {
        if trap::offer(fault) {
            self.target.counts.faults.fetch_add(1, Ordering::AcqRel);
            self.note(fault, Cause::PastEnd, Outcome::Trap);
            return true;
        }
        // All of it: it is one VMA, and a loop that runs past the end does not stop after a page.
        let rest = PageAligned::new(vma.start.max(self.target.span.start().get()))
            .zip(PageAligned::new(vma.end.min(self.target.span.end().get())))
            .and_then(|(start, end)| PageSpan::between(start, end));
        let Some(rest) = rest else { return false };
        // SAFETY: pages of zeros of this window, by the process's map; they are private.
        if unsafe { mmap::unprotect_private(rest) }.is_err() {
            return false;
        }
        self.target.counts.faults.fetch_add(1, Ordering::AcqRel);
        self.note(fault, Cause::PastEnd, Outcome::Zeros);
        self.unprotected.store(true, Ordering::Release);
        self.target.unprotected.store(true, Ordering::Release);
        self.report(What::PastEnd);
        true
    }

    fn make_private(&self, address: u64, vma: &Vma) -> bool {
        // All of the VMA that is in our range is ours: its offsets in the file run on.
        let Some(area) = self.part_of(vma) else { return false };
        if self.is_in_huge_page(vma, address) {
            return self.make_copy(address, vma, area);
        }
        let block = self.block_of(address, self.stray_pages.fetch_add(1, Ordering::Relaxed));
        if let Some(block) = block.and_then(|block| block.within(area))
            && vma_budget::take_in_handler(VMAS_OF_A_PAGE)
        {
            // SAFETY: ours, by the process's map, and private, as all that we map read-only.
            if unsafe { mmap::unprotect_private(block) }.is_ok() {
                self.stray_vmas.fetch_add(VMAS_OF_A_PAGE, Ordering::Relaxed);
                return true;
            }
            vma_budget::give_back(VMAS_OF_A_PAGE);
        }
        // The whole VMA: that takes none more. SAFETY: as above.
        unsafe { mmap::unprotect_private(area) }.is_ok()
    }

    /// Whether a page can't be changed alone.
    fn is_in_huge_page(&self, vma: &Vma, address: u64) -> bool {
        self.target.page_bytes > host_page_bytes() && !is_zeros(vma, address)
    }

    /// Puts writable pages with the same bytes in the place of the huge page that holds an address;
    /// of all, where the process has no VMAs left.
    fn make_copy(&self, address: u64, vma: &Vma, area: PageSpan) -> bool {
        self.changed.store(true, Ordering::Release);
        let copied = |missing: u64| {
            // What can't be had is zeros by now.
            self.target.counts.faults.fetch_add(missing, Ordering::AcqRel);
            if missing > 0 {
                self.report(What::MissingPage);
            }
            true
        };
        let block = hugetlb::page_of(address).and_then(|block| block.within(area));
        if let Some(block) = block
            && vma_budget::take_in_handler(VMAS_OF_A_PAGE)
        {
            if let Ok(missing) = copy_to_zeros(block, self.target.page_bytes) {
                self.zero_vmas.fetch_add(VMAS_OF_A_PAGE, Ordering::Relaxed);
                return copied(missing);
            }
            vma_budget::give_back(VMAS_OF_A_PAGE);
        }
        // The whole VMA: that leaves as many as there are.
        if let Ok(missing) = copy_to_zeros(area, self.target.page_bytes) {
            return copied(missing);
        }
        // There is no memory for it, or no address space: the kernel makes a copy, if the pool has
        // a page. SAFETY: ours, by the process's map, and private, as all that we map read-only.
        !vma.writable && unsafe { mmap::unprotect_private(area) }.is_ok()
    }

    fn part_of(&self, vma: &Vma) -> Option<PageSpan> {
        PageSpan::between(PageAligned::new(vma.start)?, PageAligned::new(vma.end)?)?
            .within(self.target.span)
    }

    /// The block that holds an address, after so many stray writes. Blocks lie side by side from
    /// the start of the range on.
    fn block_of(&self, address: u64, strays: u32) -> Option<PageSpan> {
        let span = self.target.span;
        let page = host_page_bytes();
        let pages = match (strays / STRAY_PAGES).checked_sub(1) {
            None => 1,
            Some(doublings) => FIRST_BLOCK_PAGES.checked_shl(doublings)?,
        };
        let bytes = pages.checked_mul(page).filter(|bytes| *bytes > 0)?;
        let skew = address.checked_sub(span.start().get())?;
        let start = span.start().get().checked_add(skew.checked_sub(skew.checked_rem(bytes)?)?)?;
        let end = start.checked_add(bytes)?.min(span.end().get());
        PageSpan::between(PageAligned::new(start)?, PageAligned::new(end)?)
    }

    fn missing_page(&self, fault: &Fault, vma: &Vma) -> bool {
        let cause = match fault.kind {
            Kind::Unavailable => Cause::Unavailable,
            Kind::BrokenMemory => Cause::BrokenMemory,
            Kind::Protection | Kind::Other => return false,
        };
        if is_zeros(vma, fault.address) || self.may_be_history() {
            // Another thread was here first; or perhaps it was, and the page that is missing is not
            // there any more.
            return true;
        }
        if !self.target.access.is_writable()
            && fault.is_write() == Some(true)
            && self.is_in_huge_page(vma, fault.address)
        {
            // A memory that grew made it writable, and the pool has none for its copy. Where we
            // have none either, zeros are left.
            if self.stray_write_unprotected(fault, vma) {
                return true;
            }
        }
        if trap::offer(fault) {
            self.target.counts.faults.fetch_add(1, Ordering::AcqRel);
            self.note(fault, cause, Outcome::Trap);
            return true;
        }
        let page = if self.is_in_huge_page(vma, fault.address) {
            hugetlb::page_of(fault.address)
        } else {
            PageSpan::page_of(fault.address)
        };
        let Some(page) = page else { return false };
        // As the page was protected, so that a write to the zeros is a stray write like any other.
        let sharing = if vma.writable { Sharing::CopyOnWrite } else { Sharing::ReadOnly };
        if !self.lay_zeros(page, vma, sharing) {
            return false;
        }
        self.target.counts.faults.fetch_add(1, Ordering::AcqRel);
        self.note(fault, cause, Outcome::Zeros);
        self.report(What::MissingPage);
        true
    }

    /// Whether a window may have been slid on between a missing page's fault and now, by another
    /// thread: then what stands here now is not what was missing. The access is done again, once
    /// for each slide. (The map tells of a page's rights, not whether it is there.)
    fn may_be_history(&self) -> bool {
        let this = signal::this_thread();
        let taker = TAKER.load(Ordering::Acquire);
        if taker == 0 || taker == this {
            return false;
        }
        let slides = self.slides.load(Ordering::Acquire);
        let (slot, _) = place_of(to_u64(this));
        // This thread, this range, since this slide: equal by chance once in 2^32.
        let looked = (to_u64(this) >> 12 << 32)
            ^ self.id.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(slides)
                & u64::from(u32::MAX);
        slides > 0 && LOOKED_AT[slot].swap(looked, Ordering::AcqRel) != looked
    }

    fn lay_zeros(&self, page: PageSpan, vma: &Vma, sharing: Sharing) -> bool {
        self.changed.store(true, Ordering::Release);
        if vma_budget::take_in_handler(VMAS_OF_A_PAGE) {
            if replace_by_zeros(page, sharing).is_ok() {
                // Zeros beside zeros are one VMA with them.
                let here = process_map::holding_in_handler(page.start().get());
                let joined = here.map_or(0, |zeros| {
                    u64::from(zeros.start < page.start().get())
                        .saturating_add(u64::from(zeros.end > page.end().get()))
                });
                self.count_zeros(joined);
                return true;
            }
            vma_budget::give_back(VMAS_OF_A_PAGE);
        }
        // The process has no room for more VMAs: all of this one, from here on. A file that ends
        // before a page ends before all that follow.
        let rest = self.part_of(vma).and_then(|area| PageSpan::between(page.start(), area.end()));
        rest.is_some_and(|rest| replace_by_zeros(rest, sharing).is_ok())
    }

    /// Zeros were laid for a page, whose VMAs were taken, beside so many others.
    fn count_zeros(&self, joined: u64) {
        vma_budget::give_back(joined.saturating_mul(VMAS_OF_A_PAGE));
        self.zero_vmas.fetch_add(VMAS_OF_A_PAGE, Ordering::Relaxed);
        self.zero_vmas.fetch_sub(joined.saturating_mul(VMAS_OF_A_PAGE), Ordering::Relaxed);
    }

    fn note(&self, fault: &Fault, cause: Cause, outcome: Outcome) {
        let skew = fault.address.saturating_sub(self.target.span.start().get());
        let last = LastFault {
            region_offset: self.now.region_offset.load(Ordering::Relaxed).saturating_add(skew),
            skew,
            write: fault.is_write() == Some(true),
            cause,
            outcome,
        };
        self.target.counts.last_skew.store(skew, Ordering::Relaxed);
        self.target
            .counts
            .last_inode
            .store(self.now.inode.load(Ordering::Relaxed), Ordering::Relaxed);
        self.target.counts.last.store(last.pack(), Ordering::Release);
    }

    fn report(&self, what: What) {
        if self.happened.fetch_or(what as u8, Ordering::AcqRel) & what as u8 == 0 {
            UNTOLD.fetch_add(1, Ordering::AcqRel);
            REPORTS.call();
        }
    }

    /// What happened and was not reported yet; it counts as reported then.
    fn take_report(&self) -> Option<Report> {
        let happened = self.happened.load(Ordering::Acquire);
        let new = happened & !self.reported.fetch_or(happened, Ordering::AcqRel);
        UNTOLD.fetch_sub(u64::from(new.count_ones()), Ordering::AcqRel);
        (new != 0).then(|| Report {
            stray_write: new & What::StrayWrite as u8 != 0,
            missing_page: new & What::MissingPage as u8 != 0,
            past_end: new & What::PastEnd as u8 != 0,
            region_name: self.now.name_to_tell(),
            is_window: self.target.is_window,
            memory_offset: self.target.memory_offset.map(PageAligned::get),
            byte_length: self.target.span.length().get(),
            access: self.target.access,
            last: self.target.counts.last().filter(|last| {
                // Not of what is told here, if something else came after it.
                let what = match last.cause {
                    Cause::Readonly => What::StrayWrite,
                    Cause::Unavailable | Cause::BrokenMemory => What::MissingPage,
                    Cause::PastEnd => What::PastEnd,
                };
                new == what as u8
            }),
            owner: self.owner,
        })
    }
}

fn replace_by_zeros(span: PageSpan, sharing: Sharing) -> SysResult<()> {
    // SAFETY: the pages are ours, by the process's map.
    with_zeros(|zero| unsafe { mmap::replace(span, zeros(zero, span.start(), sharing)) })
}

/// Writable zeros, and in them what the span shows. Gives how many pages of this size could not be
/// had.
fn copy_to_zeros(span: PageSpan, page_bytes: u64) -> SysResult<u64> {
    // SAFETY: the pages are ours, by the process's map.
    with_zeros(|zero| unsafe {
        mmap::replace_by_copy(span, zeros(zero, span.start(), Sharing::CopyOnWrite), page_bytes)
    })
}

fn with_zeros<R>(put: impl FnOnce(BorrowedFd<'_>) -> SysResult<R>) -> SysResult<R> {
    let kept = ZEROS.get().ok_or(SysError::new("open", Errno::ENXIO))?;
    // A script may have closed a descriptor that was not its own, and the number be another file's
    // by now.
    if file::is_zero_device(&kept.file) {
        return put(kept.file.as_fd());
    }
    let opened = file::open_in_handler(c"/dev/zero")?;
    put(opened.as_fd())
}

/// Whether it is a page of zeros that a handler put there.
pub fn is_zeros(vma: &Vma, address: u64) -> bool {
    let offset = address.checked_sub(vma.start).and_then(|skew| vma.file_offset.checked_add(skew));
    ZEROS.get().is_some_and(|kept| vma.inode == kept.inode)
        && !vma.shared
        && offset == Some(address)
}

/// Something to tell the user.
#[derive(Debug, Clone)]
pub struct Report {
    pub stray_write: bool,
    pub missing_page: bool,
    pub past_end: bool,
    pub is_window: bool,
    pub region_name: Arc<str>,
    /// `None`: it was a view.
    pub memory_offset: Option<u64>,
    pub byte_length: u64,
    pub access: Access,
    pub last: Option<LastFault>,
    owner: u64,
}

const MOST_LEFT: usize = 1000;

/// Threads whose programs are told of what happened. What happened to the mappings of all others is
/// told to any of them.
static LISTENERS: Mutex<BTreeSet<u64>> = Mutex::new(BTreeSet::new());

pub fn listen(listening: bool) {
    let mut listeners = LISTENERS.lock().unwrap_or_else(PoisonError::into_inner);
    if listening {
        listeners.insert(this_thread());
    } else {
        listeners.remove(&this_thread());
    }
}

/// Reports of ranges that are not guarded any more.
static LEFT: Mutex<Vec<Report>> = Mutex::new(Vec::new());

/// Tells this thread from all others of the process, past ones too.
pub fn this_thread() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    thread_local! {
        static NUMBER: u64 = NEXT.fetch_add(1, Ordering::Relaxed);
    }
    NUMBER.with(|number| *number)
}

/// What happened to ranges that this thread mapped, or a thread that has ended. Cost: a look at
/// each range that is guarded.
pub fn take_reports() -> Vec<Report> {
    let this = this_thread();
    let listeners = LISTENERS.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let is_mine = |owner: u64| owner == this || !listeners.contains(&owner);
    let mut reports: Vec<Report> = {
        let mut left = LEFT.lock().unwrap_or_else(PoisonError::into_inner);
        left.extract_if(.., |report| is_mine(report.owner)).collect()
    };
    if UNTOLD.load(Ordering::Acquire) > 0 {
        REGISTRY.for_each(|guarded| {
            // What there is no room for stays untold, until the next time.
            if is_mine(guarded.owner) && reports.try_reserve(1).is_ok() {
                reports.extend(guarded.take_report());
            }
        });
    }
    reports
}

/// A range that is guarded as long as this lives.
#[derive(Debug)]
pub struct Registration {
    guarded: Arc<Guarded>,
}

impl Registration {
    /// Before the pages are put there; [`Self::resume`] says that they are. Where there is no
    /// handler, nothing is guarded and all counts stay 0.
    pub fn new(target: Target, source: Source<'_>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let span = target.span;
        let guarded = Arc::new(Guarded {
            now: SourceNow::new(source),
            target,
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            pins: AtomicU32::new(PAUSED),
            busy: AtomicBool::new(false),
            unprotected: AtomicBool::new(false),
            changed: AtomicBool::new(false),
            slides: AtomicU64::new(0),
            stray_pages: AtomicU32::new(0),
            stray_vmas: AtomicU64::new(0),
            zero_vmas: AtomicU64::new(0),
            last_zeros: AtomicU64::new(0),
            happened: AtomicU8::new(0),
            reported: AtomicU8::new(0),
            owner: this_thread(),
        });
        if ensure().is_ok() {
            REGISTRY.insert(span.start().get()..span.end().get(), Arc::clone(&guarded));
        }
        Self { guarded }
    }

    pub fn counts(&self) -> &Arc<Counts> {
        &self.guarded.target.counts
    }

    /// Whether a page lost its protection since this was last asked. Stray writes count from the
    /// start again: the caller protects all pages.
    pub fn take_unprotected(&self) -> bool {
        let unprotected = self.guarded.unprotected.swap(false, Ordering::AcqRel);
        if unprotected {
            self.guarded.stray_pages.store(0, Ordering::Relaxed);
            // VmaClaim that don't merge again, since their copies of pages are kept apart, are found
            // when all are counted.
            vma_budget::give_back(self.guarded.stray_vmas.swap(0, Ordering::Relaxed));
        }
        unprotected
    }

    /// Whether some of its pages may not show the region since other ones were last put there.
    pub fn is_changed(&self) -> bool {
        self.guarded.changed.load(Ordering::Acquire)
    }

    /// Something that no handler saw could be written.
    pub fn mark_changed(&self) {
        self.guarded.changed.store(true, Ordering::Release);
    }

    /// Keeps handlers off until [`Self::resume`], or for good when this is dropped. A handler that
    /// is at work is waited for: it makes a few system calls.
    pub fn pause(&self) {
        remember_take(self.guarded.target.span);
        self.guarded.pins.fetch_or(PAUSED, Ordering::AcqRel);
        while self.guarded.pins.load(Ordering::Acquire) & !PAUSED != 0 {
            signal::yield_now();
        }
        // What the owner does to the pages comes after all that handlers did.
        fence(Ordering::SeqCst);
    }

    /// What stands there from now on. Call it while paused.
    pub fn set_source(&self, source: Source<'_>) {
        let happened = self.guarded.happened.load(Ordering::Acquire);
        let untold = happened & !self.guarded.reported.load(Ordering::Acquire) != 0;
        self.guarded.now.set(source, untold);
        self.guarded.slides.fetch_add(1, Ordering::AcqRel);
        self.pages_are_back();
    }

    /// The pages that were changed one by one are gone, and what stood there before stands there
    /// again. Call it while paused.
    pub fn pages_are_back(&self) {
        self.guarded.changed.store(false, Ordering::Release);
        self.guarded.stray_pages.store(0, Ordering::Relaxed);
        for vmas in [&self.guarded.stray_vmas, &self.guarded.zero_vmas] {
            if vmas.load(Ordering::Relaxed) > 0 {
                vma_budget::give_back(vmas.swap(0, Ordering::Relaxed));
            }
        }
    }

    pub fn resume(&self) {
        self.guarded.pins.fetch_and(!PAUSED, Ordering::AcqRel);
        TAKES.fetch_add(1, Ordering::AcqRel);
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.pause();
        REGISTRY.remove(self.guarded.target.span.start().get(), &self.guarded);
        TAKES.fetch_add(1, Ordering::AcqRel);
        vma_budget::give_back(self.guarded.stray_vmas.load(Ordering::Relaxed));
        vma_budget::give_back(self.guarded.zero_vmas.load(Ordering::Relaxed));
        if let Some(report) = self.guarded.take_report() {
            let mut left = LEFT.lock().unwrap_or_else(PoisonError::into_inner);
            // Where nobody is told, nothing is kept for long.
            if left.len() < MOST_LEFT {
                left.push(report);
            }
        }
    }
}
