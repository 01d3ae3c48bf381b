//! The fault guard: what happens when an access to one of our mappings faults.
//!
//! # Two kinds of faults, two ways out
//!
//! A *stray write* hits a read-only page (SIGSEGV). A *missing page* is one whose contents can't be had (SIGBUS): its
//! file was made shorter, the disk failed, or there is no memory. Without a handler each ends the process. With ours:
//!
//! ```text
//!  the thread was in                            the way out
//!  Wasm, a load or store that V8 can trap       V8 makes it a RuntimeError, which the caller can catch
//!  Wasm otherwise (memory.fill, atomics, ...)   the page is made one that the access may have, and it is done again:
//!  JavaScript, C++ of V8 or Node                  stray write    the page becomes copy-on-write: the region stays as it is
//!                                                 missing page   zeros are put in its place
//! ```
//!
//! The second way is silent for the program, so it is counted, and reported once for each mapping. A mapping that lost
//! its protection so gets it back at the next call into the library.
//!
//! # What the handler may believe
//!
//! It finds an address in the [`Registry`], which says what we mapped there. That may be history: V8 unmaps a memory
//! that dies before anybody tells us, and something else may lie at the address by now. So before a page is changed
//! the kernel is asked what lies there: the file, and where in it, must be what we mapped ([`Guarded::is_ours`]). What we
//! took away ourselves on another thread, [`Registration::pause`] keeps handlers off: they come back to the same
//! instruction until it is done. And a fault may be history itself: if the access would succeed by now, since another thread
//! has just unmapped what was there, it is done again.
//!
//! Everything else is handed on to the handler that was there before, so a real crash crashes as it did.
//!
//! # Areas
//!
//! Each page that is changed cuts its area in three, and a module could so use up the areas of the process by a store to
//! every second page. So only the first few pages of a mapping are changed one by one, then larger and larger blocks.

mod registry;

use crate::mapping::Access;
use crate::sys::areas;
use crate::sys::mmap::{self, Mmap, Pages, Sharing};
use crate::sys::page::{PageAligned, PageSpan, host_page_bytes};
use crate::sys::process_map::{self, Vma};
use crate::sys::signal::{self, Fault, Kind, Signal};
use crate::sys::wake::Wake;
use crate::sys::{SysError, SysResult, file, v8_trap};
use nix::errno::Errno;
use registry::Registry;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

static REGISTRY: Registry<Guarded> = Registry::new();

/// How much happened in ranges that are guarded and was not reported.
static UNTOLD: AtomicU64 = AtomicU64::new(0);

/// Called when something is to be reported.
pub static REPORTS: Wake = Wake::new();

/// Pages of a mapping that are made copy-on-write one by one. The next so many faults do it for a block of [`FIRST_BLOCK_PAGES`]
/// each, the next for a block of twice as many, and so on.
const STRAY_PAGES: u32 = 32;
const FIRST_BLOCK_PAGES: u64 = 16;

/// Pages of a mapping that are replaced by zeros one by one; with the next, all that follow are.
const MISSING_PAGES: u32 = 256;

/// Areas that one changed page adds.
const AREAS_OF_A_PAGE: u64 = 2;

/// `/dev/zero`. Where it can't be had, a missing page is not replaced, and ends the process as it did without us.
static ZEROS: OnceLock<ZeroFile> = OnceLock::new();

struct ZeroFile {
    /// Kept, so that a handler need not open it when the process has no descriptor left.
    file: std::fs::File,
    /// As the process's map shows it: by this the pages can be told from anybody's anonymous memory.
    inode: u64,
}

/// Set in the environment to `off`, it leaves the process's signals alone.
const SWITCH: &str = "WASM_HOSTMAP_FAULT_GUARD";

/// Installs the handler, once. `Err` says why there is none.
pub fn ensure() -> Result<(), &'static str> {
    static INSTALLED: OnceLock<Result<(), &'static str>> = OnceLock::new();
    *INSTALLED.get_or_init(|| {
        if std::env::var_os(SWITCH).is_some_and(|value| value == "off") {
            return Err("it was turned off by WASM_HOSTMAP_FAULT_GUARD");
        }
        process_map::prepare_for_handler();
        mmap::prepare_for_handler();
        open_zeros();
        signal::install(on_fault).map_err(|_| "sigaction failed")
    })
}

/// Opens `/dev/zero`, unless it is open already.
fn open_zeros() {
    fn open() -> Option<ZeroFile> {
        let file = std::fs::File::open("/dev/zero").ok()?;
        let trial =
            Mmap::new(PageAligned::round_up(1)?, zeros(file.as_fd(), PageAligned::ZERO, Sharing::ReadOnly))
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

/// Zeros for an address. Their offset is the address, so that neighbours are one area.
fn zeros(zero: std::os::fd::BorrowedFd<'_>, address: PageAligned, sharing: Sharing) -> Pages<'_> {
    Pages::File { fd: zero, offset: address, sharing, is_memfd: true }
}

/// What a fault was, for whoever asks later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastFault {
    /// Which byte of the region.
    pub region_offset: u64,
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
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Trap,
    PrivatePage,
    Zeros,
}

impl LastFault {
    // One word, so that several threads may write it without a lock: 1, write, cause, outcome, offset.
    const OFFSET_BITS: u32 = 56;

    fn pack(self) -> u64 {
        let cause = match self.cause {
            Cause::Readonly => 0,
            Cause::Unavailable => 1,
            Cause::BrokenMemory => 2,
        };
        let outcome = match self.outcome {
            Outcome::Trap => 0,
            Outcome::PrivatePage => 1,
            Outcome::Zeros => 2,
        };
        let head = (1_u64 << 7) | (u64::from(self.write) << 6) | (cause << 3) | outcome;
        head << Self::OFFSET_BITS | self.region_offset & ((1 << Self::OFFSET_BITS) - 1)
    }

    fn unpack(word: u64) -> Option<Self> {
        let head = word >> Self::OFFSET_BITS;
        (head != 0).then_some(Self {
            region_offset: word & ((1 << Self::OFFSET_BITS) - 1),
            write: head & (1 << 6) != 0,
            cause: match head >> 3 & 0b111 {
                0 => Cause::Readonly,
                1 => Cause::Unavailable,
                _ => Cause::BrokenMemory,
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

    pub fn last(&self) -> Option<LastFault> {
        LastFault::unpack(self.last.load(Ordering::Acquire))
    }
}

/// What is to be guarded.
#[derive(Debug)]
pub struct Target {
    /// Addresses of the process.
    pub span: PageSpan,
    /// Where it lies in a memory; `None` for a view.
    pub memory_offset: Option<PageAligned>,
    /// Which file, and where in it, as the process's map shows it.
    pub inode: u64,
    pub file_offset: PageAligned,
    /// Which byte of the region is at the start.
    pub region_offset: PageAligned,
    pub region_name: Arc<str>,
    pub access: Access,
    pub counts: Arc<Counts>,
    /// Set when a page lost its protection: one for all mappings of a memory.
    pub laid_bare: Arc<AtomicBool>,
}

/// A range that the handler sees to.
#[derive(Debug)]
struct Guarded {
    target: Target,
    /// Handlers that are at work on it, and [`PAUSED`].
    pins: AtomicU32,
    /// Whether a page lost its protection since it was last protected.
    laid_bare: AtomicBool,
    stray_pages: AtomicU32,
    missing_pages: AtomicU32,
    /// Areas that changed pages added.
    areas: AtomicU64,
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
}

/// The handler's decision. Only atomics and system calls from here on, down to the end of `impl Guarded`.
fn on_fault(fault: &Fault) -> bool {
    if fault.kind == Kind::Other {
        // The probe's fault is on an address of V8's guard, which has no page rights at all: SEGV_ACCERR.
        return false;
    }
    if fault.signal == Signal::Segv && v8_trap::probe(fault) {
        return true;
    }
    let handled = REGISTRY.find(fault.address, |guarded| {
        if guarded.pins.fetch_add(1, Ordering::AcqRel) & PAUSED != 0 {
            guarded.unpin();
            // Its pages are being replaced: see what the access finds then.
            signal::yield_now();
            return true;
        }
        let handled = guarded.handle(fault);
        guarded.unpin();
        handled
    });
    handled.unwrap_or(false) || is_over(fault)
}

/// Who ever took pages of ours away: 0, a thread, or [`SEVERAL`].
static TAKER: AtomicUsize = AtomicUsize::new(0);
const SEVERAL: usize = usize::MAX;

fn remember_taker() {
    let this = signal::this_thread();
    let known = TAKER.compare_exchange(0, this, Ordering::AcqRel, Ordering::Acquire);
    if known.is_err_and(|taker| taker != this) {
        TAKER.store(SEVERAL, Ordering::Release);
    }
}

/// Whether the access would succeed by now: between the fault and this handler another thread unmapped what was there.
/// Then it is done again. Not asked where no other thread ever did, nor about reads, which only a missing page can stop: so
/// that V8's own traps stay as fast.
fn is_over(fault: &Fault) -> bool {
    let taker = TAKER.load(Ordering::Acquire);
    if taker == 0 || taker == signal::this_thread() {
        return false;
    }
    match (fault.kind, fault.is_write()) {
        (Kind::Protection, Some(true)) => {
            process_map::holding_in_handler(fault.address).is_some_and(|vma| vma.writable)
        }
        // Anonymous memory is never missing.
        (Kind::Unavailable, Some(_)) => process_map::holding_in_handler(fault.address)
            .is_some_and(|vma| vma.readable && (vma.inode == 0 || is_zeros(&vma, fault.address))),
        _ => false,
    }
}

impl Guarded {
    fn unpin(&self) {
        self.pins.fetch_sub(1, Ordering::Release);
    }

    fn handle(&self, fault: &Fault) -> bool {
        let Some(vma) = process_map::holding_in_handler(fault.address) else { return false };
        if !self.is_ours(&vma, fault.address) {
            return false;
        }
        match fault.signal {
            Signal::Segv => self.stray_write(fault, &vma),
            Signal::Bus => self.missing_page(fault, &vma),
        }
    }

    /// Whether the page at this address is one that we put there.
    fn is_ours(&self, vma: &Vma, address: u64) -> bool {
        if is_zeros(vma, address) {
            return true;
        }
        let here = address.checked_sub(vma.start).and_then(|skew| vma.file_offset.checked_add(skew));
        let expected = address
            .checked_sub(self.target.span.start().get())
            .and_then(|skew| self.target.file_offset.get().checked_add(skew));
        vma.inode == self.target.inode && here.is_some() && here == expected
    }

    fn stray_write(&self, fault: &Fault, vma: &Vma) -> bool {
        if fault.kind != Kind::Protection || fault.is_write() != Some(true) {
            return false;
        }
        if vma.writable {
            // Another thread was here first, or the memory has just grown.
            return true;
        }
        if vma.shared {
            // Never made by us. Making it writable would let the write through to the file.
            return false;
        }
        if v8_trap::offer(fault) {
            self.note(fault, Cause::Readonly, Outcome::Trap);
            return true;
        }
        if !self.make_private(fault.address) {
            return false;
        }
        self.target.counts.stray_writes.fetch_add(1, Ordering::AcqRel);
        self.note(fault, Cause::Readonly, Outcome::PrivatePage);
        // After the page lost its protection: whoever clears it restores the protection then. This one first, since the
        // other one is looked at first.
        self.laid_bare.store(true, Ordering::Release);
        self.target.laid_bare.store(true, Ordering::Release);
        self.report(What::StrayWrite);
        true
    }

    fn make_private(&self, address: u64) -> bool {
        let block = self.block_of(address, self.stray_pages.fetch_add(1, Ordering::Relaxed));
        if let Some(block) = block
            && areas::take_in_handler(AREAS_OF_A_PAGE)
        {
            // SAFETY: one page of it is ours, by the process's map, so the memory lives and all of it is; and private, as all
            // that we map read-only.
            if unsafe { mmap::unprotect_private(block) }.is_ok() {
                self.areas.fetch_add(AREAS_OF_A_PAGE, Ordering::Relaxed);
                return true;
            }
            areas::give_back(AREAS_OF_A_PAGE);
        }
        // SAFETY: one page of it is ours, so the memory lives and all of it is.
        unsafe { mmap::unprotect_private(self.target.span) }.is_ok()
    }

    /// The block that holds an address, after so many stray writes. Blocks lie side by side from the start of the range on.
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
        if v8_trap::offer(fault) {
            self.target.counts.faults.fetch_add(1, Ordering::AcqRel);
            self.note(fault, cause, Outcome::Trap);
            return true;
        }
        let Some(page) = PageSpan::page_of(fault.address) else { return false };
        // As the page was protected, so that a write to the zeros is a stray write like any other.
        let sharing = if vma.writable { Sharing::CopyOnWrite } else { Sharing::ReadOnly };
        if !self.lay_zeros(page, sharing) {
            return false;
        }
        self.target.counts.faults.fetch_add(1, Ordering::AcqRel);
        self.note(fault, cause, Outcome::Zeros);
        self.report(What::MissingPage);
        true
    }

    fn lay_zeros(&self, page: PageSpan, sharing: Sharing) -> bool {
        let alone = self.missing_pages.fetch_add(1, Ordering::Relaxed) < MISSING_PAGES;
        if alone && areas::take_in_handler(AREAS_OF_A_PAGE) {
            if replace_by_zeros(page, sharing).is_ok() {
                self.areas.fetch_add(AREAS_OF_A_PAGE, Ordering::Relaxed);
                return true;
            }
            areas::give_back(AREAS_OF_A_PAGE);
        }
        self.missing_pages.fetch_max(MISSING_PAGES, Ordering::Relaxed);
        // A file that ends before this page ends before all that follow.
        PageSpan::between(page.start(), self.target.span.end())
            .is_some_and(|rest| replace_by_zeros(rest, sharing).is_ok())
    }

    fn note(&self, fault: &Fault, cause: Cause, outcome: Outcome) {
        let skew = fault.address.saturating_sub(self.target.span.start().get());
        let last = LastFault {
            region_offset: self.target.region_offset.get().saturating_add(skew),
            write: fault.is_write() == Some(true),
            cause,
            outcome,
        };
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
            region_name: Arc::clone(&self.target.region_name),
            memory_offset: self.target.memory_offset.map(PageAligned::get),
            byte_length: self.target.span.length().get(),
            access: self.target.access,
            last: self.target.counts.last(),
            owner: self.owner,
        })
    }
}

fn replace_by_zeros(span: PageSpan, sharing: Sharing) -> SysResult<()> {
    let kept = ZEROS.get().ok_or(SysError::new("open", Errno::ENXIO))?;
    // SAFETY: the pages are ours, by the process's map.
    let replace = |zero| unsafe { mmap::replace(span, zeros(zero, span.start(), sharing)) };
    // A script may have closed a descriptor that was not its own, and the number be another file's by now.
    if file::is_zero_device(&kept.file) {
        return replace(kept.file.as_fd());
    }
    let opened = file::open_in_handler(c"/dev/zero")?;
    replace(opened.as_fd())
}

/// Whether it is a page of zeros that a handler put there.
pub fn is_zeros(vma: &Vma, address: u64) -> bool {
    let offset = address.checked_sub(vma.start).and_then(|skew| vma.file_offset.checked_add(skew));
    ZEROS.get().is_some_and(|kept| vma.inode == kept.inode) && !vma.shared && offset == Some(address)
}

/// Something to tell the user.
#[derive(Debug, Clone)]
pub struct Report {
    pub stray_write: bool,
    pub missing_page: bool,
    pub region_name: Arc<str>,
    /// `None`: it was a view.
    pub memory_offset: Option<u64>,
    pub byte_length: u64,
    pub access: Access,
    pub last: Option<LastFault>,
    owner: u64,
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

/// What happened to ranges that this thread mapped. Cost: a look at each range that is guarded.
pub fn take_reports() -> Vec<Report> {
    let owner = this_thread();
    let mut reports: Vec<Report> = {
        let mut left = LEFT.lock().unwrap_or_else(PoisonError::into_inner);
        left.extract_if(.., |report| report.owner == owner).collect()
    };
    if UNTOLD.load(Ordering::Acquire) > 0 {
        REGISTRY.for_each(|guarded| {
            if guarded.owner == owner {
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
    /// Before the pages are put there. Where there is no handler, nothing is guarded and all counts stay 0.
    pub fn new(target: Target) -> Self {
        let span = target.span;
        let guarded = Arc::new(Guarded {
            target,
            pins: AtomicU32::new(0),
            laid_bare: AtomicBool::new(false),
            stray_pages: AtomicU32::new(0),
            missing_pages: AtomicU32::new(0),
            areas: AtomicU64::new(0),
            happened: AtomicU8::new(0),
            reported: AtomicU8::new(0),
            owner: this_thread(),
        });
        if ensure().is_ok() {
            // What was refused at first, for want of descriptors say, may be had now.
            open_zeros();
            REGISTRY.insert(span.start().get()..span.end().get(), Arc::clone(&guarded));
        }
        Self { guarded }
    }

    pub fn counts(&self) -> &Arc<Counts> {
        &self.guarded.target.counts
    }

    /// Whether a page lost its protection since this was last asked. Stray writes count from the start again: the caller
    /// protects all pages.
    pub fn take_laid_bare(&self) -> bool {
        let laid_bare = self.guarded.laid_bare.swap(false, Ordering::AcqRel);
        if laid_bare {
            self.guarded.stray_pages.store(0, Ordering::Relaxed);
        }
        laid_bare
    }

    /// Keeps handlers off until [`Self::resume`], or for good when this is dropped. A handler that is at work is waited
    /// for: it makes a few system calls.
    pub fn pause(&self) {
        remember_taker();
        self.guarded.pins.fetch_or(PAUSED, Ordering::AcqRel);
        while self.guarded.pins.load(Ordering::Acquire) & !PAUSED != 0 {
            signal::yield_now();
        }
        // What the owner does to the pages comes after all that handlers did.
        fence(Ordering::SeqCst);
    }

    pub fn resume(&self) {
        self.guarded.pins.fetch_and(!PAUSED, Ordering::AcqRel);
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.pause();
        REGISTRY.remove(self.guarded.target.span.start().get(), &self.guarded);
        areas::give_back(self.guarded.areas.load(Ordering::Relaxed));
        if let Some(report) = self.guarded.take_report() {
            LEFT.lock().unwrap_or_else(PoisonError::into_inner).push(report);
        }
    }
}
