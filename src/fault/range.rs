//! A guarded range of addresses: what its owner says of it, and what handlers have done to it.
//!
//! The registry of all of them is here too. Handlers read both, so that nothing they call here may
//! allocate, lock or panic; what is not for handlers says so.

use super::counts::{Cause, Counts, LastFault, Outcome};
use super::gate::Gate;
use super::shards::Shards;
use super::shown_pager::ShownPager;
use super::zeros;
use crate::access::Access;
use crate::paging::{Hold, Pager};
use crate::sys::fault_info::Fault;
use crate::sys::lock::{Level, Lock};
use crate::sys::mark::Mark;
use crate::sys::page::{PageAligned, PageSpan};
use crate::sys::process_map::Vma;
use crate::sys::thread;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::thread::ThreadId;

static RANGES: Shards<GuardedRange> = Shards::new();

/// Of whole memories that show a snapshot's file. Mappings and windows are over them, so they are
/// apart: an address has one range in each registry at most.
static IMAGES: Shards<GuardedRange> = Shards::new();

/// Where a range is registered.
pub(super) fn registry_of(spec: &RangeSpec) -> &'static Shards<GuardedRange> {
    if spec.is_image { &IMAGES } else { &RANGES }
}

/// Every range that is guarded now. Not for handlers.
pub(super) fn for_each(mut look: impl FnMut(&GuardedRange)) {
    for registry in [&RANGES, &IMAGES] {
        registry.for_each(start_of, |range| look(range));
    }
}

/// The same of those that are no image, with a share of each.
pub(super) fn for_each_shared(look: impl FnMut(&Arc<GuardedRange>)) {
    RANGES.for_each(start_of, look);
}

fn start_of(range: &GuardedRange) -> u64 {
    range.spec.span.start().get()
}

/// Looks at what is registered for an address. Returns its id, or 0 if there is nothing, and what
/// `look` says of it.
pub(super) fn find<R: Default>(address: u64, look: impl FnOnce(&GuardedRange) -> R) -> (u64, R) {
    RANGES.find(address, |range| (range.id, look(range))).unwrap_or_default()
}

/// The same of images.
pub(super) fn find_image<R: Default>(address: u64, look: impl FnOnce(&GuardedRange) -> R) -> R {
    IMAGES.find(address, look).unwrap_or_default()
}

/// A range as its owner describes it.
#[derive(Debug)]
pub struct RangeSpec {
    /// Addresses of the process.
    pub span: PageSpan,
    /// Where it is in a memory; `None` for a view.
    pub memory_offset: Option<PageAligned>,
    /// Whether its owner may put other pages there.
    pub is_window: bool,
    /// Whether it shows the file of a snapshot. Then what is mapped there without a file, or by a
    /// range that is none, is not its own.
    pub is_image: bool,
    pub access: Access,
    pub counts: Arc<Counts>,
    /// Set when a page lost its protection: one for all mappings of a memory.
    pub unprotected: Arc<AtomicBool>,
    /// Why the registry may be believed without the process's map.
    pub proof: Proof,
}

/// What proves that a registered range is still mapped as we mapped it.
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
    pub(super) fn holds(self) -> bool {
        match self {
            Self::Owned => true,
            Self::Marked(mark) => mark.is_intact() == Some(true),
            Self::Absent => false,
        }
    }
}

/// What a range shows at its start. A window shows one after the other.
#[derive(Debug, Clone, Copy)]
pub struct Shown<'a> {
    /// Which file, and where in it, as the process's map says it. 0: none.
    pub inode: u64,
    pub file_offset: PageAligned,
    /// The byte of the region at the start.
    pub region_offset: PageAligned,
    /// How much of it is shown: a window may have a tail behind.
    pub length: PageAligned,
    pub region_name: &'a Arc<str>,
    /// Who brings its pages in.
    pub pager: Option<&'a Hold>,
}

impl Shown<'static> {
    /// No region's pages.
    pub fn nothing() -> Self {
        static NO_NAME: LazyLock<Arc<str>> = LazyLock::new(|| Arc::from(""));
        Self {
            inode: 0,
            file_offset: PageAligned::ZERO,
            region_offset: PageAligned::ZERO,
            length: PageAligned::ZERO,
            region_name: &NO_NAME,
            pager: None,
        }
    }
}

/// A [`Shown`] as handlers read it. It is written while the gate is closed, so they never see
/// halves of two.
#[derive(Debug)]
pub(super) struct ShownNow {
    inode: AtomicU64,
    file_offset: AtomicU64,
    region_offset: AtomicU64,
    length: AtomicU64,
    pager: ShownPager,
    /// Not for handlers.
    region_name: Lock<Arc<str>>,
    /// Not for handlers: the name before, if an event of its time is still to be reported.
    unreported_name: Lock<Option<Arc<str>>>,
}

impl ShownNow {
    pub(super) fn new(shown: Shown<'_>) -> Self {
        Self {
            inode: AtomicU64::new(shown.inode),
            file_offset: AtomicU64::new(shown.file_offset.get()),
            region_offset: AtomicU64::new(shown.region_offset.get()),
            length: AtomicU64::new(shown.length.get()),
            pager: ShownPager::new(shown.pager),
            region_name: Lock::new(Level::RangeName, Arc::clone(shown.region_name)),
            unreported_name: Lock::new(Level::RangeNameBefore, None),
        }
    }

    /// Not for handlers.
    pub(super) fn set(&self, shown: Shown<'_>, has_unreported: bool) {
        self.inode.store(shown.inode, Ordering::Relaxed);
        self.file_offset.store(shown.file_offset.get(), Ordering::Relaxed);
        self.region_offset.store(shown.region_offset.get(), Ordering::Relaxed);
        self.length.store(shown.length.get(), Ordering::Relaxed);
        self.pager.set(shown.pager);
        let mut name = self.region_name.lock();
        if !Arc::ptr_eq(&name, shown.region_name) {
            let before = std::mem::replace(&mut *name, Arc::clone(shown.region_name));
            if has_unreported {
                let mut kept = self.unreported_name.lock();
                kept.get_or_insert(before);
            }
        }
    }

    /// Not for handlers.
    pub(super) fn with_name<'a>(&self, region_name: &'a Arc<str>) -> Shown<'a> {
        let offset = |word: &AtomicU64| PageAligned::round_down(word.load(Ordering::Relaxed));
        Shown {
            inode: self.inode.load(Ordering::Relaxed),
            file_offset: offset(&self.file_offset),
            region_offset: offset(&self.region_offset),
            length: offset(&self.length),
            region_name,
            pager: None,
        }
    }

    /// Not for handlers. The range's gate is closed.
    pub(super) fn show_less(&self, length: PageAligned) {
        self.length.fetch_min(length.get(), Ordering::Relaxed);
    }

    /// The range is gone, and its gate closed for good. Not for handlers.
    pub(super) fn forget_pager(&self) {
        self.pager.set(None);
    }

    /// The region that the next report is about. Not for handlers.
    pub(super) fn name(&self) -> Arc<str> {
        Arc::clone(&self.region_name.lock())
    }

    pub(super) fn take_name(&self) -> Arc<str> {
        let kept = self.unreported_name.lock().take();
        kept.unwrap_or_else(|| Arc::clone(&self.region_name.lock()))
    }
}

/// A range that handlers guard.
#[derive(Debug)]
pub(super) struct GuardedRange {
    pub(super) spec: RangeSpec,
    pub(super) shown: ShownNow,
    /// Never given twice, and not 0.
    pub(super) id: u64,
    pub(super) gate: Gate,
    /// Whether its owner has let go of it: the gate stays closed.
    pub(super) is_gone: AtomicBool,
    /// Whether a page lost its protection since the owner last protected all.
    pub(super) unprotected: AtomicBool,
    /// Whether some of its pages may not show the region: they are zeros, or the owner says so.
    pub(super) changed: AtomicBool,
    /// How often the owner put other pages there.
    pub(super) slides: AtomicU64,
    /// Stray writes since the owner last protected all.
    pub(super) strays: AtomicU32,
    /// VMAs that were claimed for pages without protection, and for zeros.
    pub(super) stray_vmas: AtomicU64,
    pub(super) zero_vmas: AtomicU64,
    /// Where zeros were put last without a look at the map.
    pub(super) last_zeros: AtomicU64,
    /// Events that are worth a report, and those of them that were reported: see `report`.
    pub(super) happened: AtomicU8,
    pub(super) reported: AtomicU8,
    /// The thread that is told of them.
    pub(super) owner: ThreadId,
    /// The same, for handlers: `sys::thread::address`.
    pub(super) owner_address: usize,
}

impl GuardedRange {
    /// Closed to handlers. Not for handlers.
    pub(super) fn new(spec: RangeSpec, shown: Shown<'_>) -> Self {
        static NEXT_ID: AtomicU64 = AtomicU64::new(1);
        Self {
            shown: ShownNow::new(shown),
            spec,
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            gate: Gate::closed(),
            is_gone: AtomicBool::new(false),
            unprotected: AtomicBool::new(false),
            changed: AtomicBool::new(false),
            slides: AtomicU64::new(0),
            strays: AtomicU32::new(0),
            stray_vmas: AtomicU64::new(0),
            zero_vmas: AtomicU64::new(0),
            last_zeros: AtomicU64::new(0),
            happened: AtomicU8::new(0),
            reported: AtomicU8::new(0),
            owner: std::thread::current().id(),
            owner_address: thread::address(),
        }
    }

    /// Whether the page at this address is one that we put there: the file that is shown, at the
    /// right offset, or zeros.
    pub(super) fn is_ours(&self, vma: &Vma, address: u64) -> bool {
        if zeros::is_zeros(vma, address) {
            return true;
        }
        let expected = address
            .checked_sub(self.spec.span.start().get())
            .and_then(|skew| self.shown.file_offset.load(Ordering::Relaxed).checked_add(skew));
        let inode = self.shown.inode.load(Ordering::Relaxed);
        let found = vma.offset_of(address);
        let is_missing = || self.pager().is_some_and(|it| it.empty_inode() == Some(vma.inode));
        // Anonymous memory is nobody's file.
        inode != 0 && (vma.inode == inode || is_missing()) && found.is_some() && found == expected
    }

    /// Who brings in the pages that it shows. Inside its gate alone.
    pub(super) fn pager(&self) -> Option<&Pager> {
        self.shown.pager.get()
    }

    /// Whether it shows pages of this pager now, or did. Outside of the gate it may be another one
    /// at once.
    pub(super) fn may_show(&self, pager: &Pager) -> bool {
        self.shown.pager.may_be(pager)
    }

    /// Whether a provider brings in what it shows now.
    pub(super) fn is_paged(&self) -> bool {
        self.shown.pager.is_some()
    }

    /// The byte of the region at an address. `None`: below the range.
    pub(super) fn region_offset_of(&self, address: u64) -> Option<u64> {
        let skew = address.checked_sub(self.spec.span.start().get())?;
        self.shown.region_offset.load(Ordering::Relaxed).checked_add(skew)
    }

    /// Where so many bytes of the region from an offset on are in what this range shows. `None`:
    /// nowhere. Never in a window's tail, which shows no region.
    pub(super) fn part_with(&self, start: PageAligned, length: u64) -> Option<PageSpan> {
        let shown = PageAligned::round_down(self.shown.region_offset.load(Ordering::Relaxed));
        let most = PageAligned::round_down(self.shown.length.load(Ordering::Relaxed));
        let end = PageAligned::round_up(start.get().checked_add(length)?)?;
        let skew = start.max(shown).checked_sub(shown)?;
        let skew_end = end.checked_sub(shown)?.min(most);
        PageSpan::between(skew, skew_end)?.at_base(self.spec.span.start())?.within(self.spec.span)
    }

    /// Where an address of this range is in the file. `None`: it is no page of a file.
    pub(super) fn file_offset_of(&self, address: PageAligned) -> Option<PageAligned> {
        let skew = address.checked_sub(self.spec.span.start())?;
        PageAligned::new(self.shown.file_offset.load(Ordering::Relaxed))?.checked_add(skew)
    }

    /// The part of a VMA that is in this range.
    pub(super) fn part_of(&self, vma: &Vma) -> Option<PageSpan> {
        PageSpan::between(PageAligned::new(vma.start)?, PageAligned::new(vma.end)?)?
            .within(self.spec.span)
    }

    /// Writes down what a fault was.
    pub(super) fn note(&self, fault: &Fault, cause: Cause, outcome: Outcome) {
        // Neither wraps: the registry found this range by the address, and a region ends before
        // 2^63.
        let skew = fault.address.wrapping_sub(self.spec.span.start().get());
        let last = LastFault {
            region_offset: self.shown.region_offset.load(Ordering::Relaxed).wrapping_add(skew),
            skew,
            write: fault.is_write() == Some(true),
            cause,
            outcome,
        };
        self.spec.counts.set_last(last, self.shown.inode.load(Ordering::Relaxed));
    }
}
