//! Reading ahead and leaving behind: what happens to a region's pages round the chunk that a module
//! works on. `plan.rs` has a picture.
//!
//! Threads of the crate do it, in steps, and give way to the program's. A stream that goes on
//! faster than they do loses nothing: what it has shown meanwhile is left out.

use super::plan::{Plan, Step};
use super::workers::{self, Work};
use crate::region::Region;
use crate::region::mirror::{Mirror, Mirrors};
use crate::sys::checked_fd::CheckedFd;
use crate::sys::file;
use crate::sys::lock::{Guard, Level, Lock};
use crate::sys::mmap::Sharing;
use crate::sys::page::{HUGE_PAGE_BYTES, PageAligned, PageSpan};
use crate::sys::sum;
use std::sync::{Arc, Weak};

/// One pass over a region.
#[derive(Debug)]
pub struct Stream {
    /// Weak: a region that is closed lets go of its mirrors.
    mirrors: Option<(Weak<Mirrors>, Sharing)>,
    /// For what is let go; `None` if nothing is. Weak: closing a region closes its file.
    file: Option<Weak<CheckedFd>>,
    /// Where in its file the region starts.
    file_offset: u64,
    holes_stay: bool,
    is_on_disk: bool,
    byte_length: u64,
    plan: Lock<Plan>,
}

impl Stream {
    /// `leave_behind`: pages that were passed leave the page cache, unless others have them mapped.
    pub fn new(region: &Region, sharing: Sharing, read_ahead: bool, leave_behind: bool) -> Self {
        // A mirror through which the region can be written would keep it from being sealed while a
        // thread is at work. Slides over a memfd make no mirror, but take one where there is one.
        let reads =
            read_ahead && sharing != Sharing::Shared && region.mirror(sharing, true).is_some();
        let file =
            (leave_behind && !region.is_memory()).then(|| Arc::downgrade(region.shared_fd()));
        Self {
            file_offset: region.file_offset().get(),
            mirrors: reads.then(|| (Arc::downgrade(region.mirrors()), sharing)),
            file,
            holes_stay: region.is_memory(),
            is_on_disk: !region.is_memory(),
            byte_length: region.byte_length(),
            plan: Lock::new(Level::Plan, Plan::default()),
        }
    }

    /// Whether it has anything to do, ever.
    pub fn is_idle(&self) -> bool {
        self.mirrors.is_none() && self.file.is_none()
    }

    fn plan(&self) -> Guard<'_, Plan> {
        self.plan.lock()
    }

    /// The chunk that is shown now starts and ends here, and pages are wanted up to `ahead_to`.
    /// After a seek, `restart`.
    pub fn advance(self: &Arc<Self>, start: u64, end: u64, ahead_to: u64, restart: bool) {
        let mut plan = self.plan();
        if restart {
            // What was brought in before and not shown: all of it, since its pages may be anywhere
            // by now.
            let left = std::mem::take(&mut *plan);
            if left.highest > 0
                && let Some(mirror) = self.mirror()
            {
                mirror.leave_all();
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

    fn queue(self: &Arc<Self>, mut plan: Guard<'_, Plan>) {
        if !std::mem::replace(&mut plan.is_queued, true) {
            drop(plan);
            let work: Arc<dyn Work> = Arc::clone(self) as _;
            if !workers::push(work) {
                self.plan().is_queued = false;
            }
        }
    }

    /// The one that slides take from now: a mirror that is used up is replaced by another. Only
    /// slides make one, since they know the region.
    fn mirror(&self) -> Option<Arc<Mirror>> {
        let (mirrors, sharing) = self.mirrors.as_ref()?;
        mirrors.upgrade()?.get(*sharing)
    }

    /// Brings pages in for the pass of this number, and leaves them if it is over by then.
    fn bring_in(&self, mirror: &Mirror, start: u64, end: u64, restarts: u64) {
        let Some(wanted) = span(start, end) else { return };
        mirror.bring_in(wanted, self.holes_stay);
        if self.plan().restarts != restarts {
            // The kernel brings in what is around a page, too, and whole folios.
            let from = start.saturating_sub(HUGE_PAGE_BYTES);
            if let Some(all) = span(from, sum(end, HUGE_PAGE_BYTES)) {
                mirror.leave(all);
            }
        }
    }

    /// Where a byte of the region is in its file.
    fn in_file(&self, at: u64) -> u64 {
        self.file_offset.checked_add(at).expect("a file ends below 2^63")
    }

    /// Where the folio of 2 MiB starts that may hold a byte of the region; 0 if before the region.
    /// To unmap a part of it drops its whole entry, and the next chunk may be in it too.
    fn folio_start(&self, at: u64) -> u64 {
        at.saturating_sub(self.in_file(at) % HUGE_PAGE_BYTES)
    }

    /// What of the file leaves the page cache when this range of the region was passed.
    ///
    /// The kernel passes over folios that stick out of the range it is given. So it starts as much
    /// earlier as a folio may be long: what is there was passed before, and what is shown still
    /// is mapped and stays. At the region's end it goes on to where a folio may end.
    fn to_drop(&self, start: u64, end: u64) -> (u64, u64) {
        // Nothing is before the region's start.
        let start = self.in_file(start.saturating_sub(HUGE_PAGE_BYTES));
        let is_last = end >= self.byte_length;
        let end = self.in_file(end.min(self.byte_length));
        let folio_end = end.checked_next_multiple_of(HUGE_PAGE_BYTES).unwrap_or(end);
        (PageAligned::round_down(start).get(), if is_last { folio_end } else { end })
    }
}

impl Work for Stream {
    fn step(&self) -> bool {
        let (step, restarts, is_over) = {
            let mut plan = self.plan();
            let step = plan.next(self.is_on_disk);
            plan.is_queued = step.is_some();
            (step, plan.restarts, plan.is_over)
        };
        match step {
            None => return false,
            Some(Step::BringIn { start, end, disk }) => {
                if let Some(mirror) = self.mirror() {
                    if let Some(span) = disk.and_then(|(start, end)| span(start, end)) {
                        mirror.read_ahead(span);
                    }
                    self.bring_in(&mirror, start, end, restarts);
                }
            }
            Some(Step::LetGo { start, end }) => {
                // Whole folios were brought in, which stick out, but not at the region's start.
                let from = start.saturating_sub(HUGE_PAGE_BYTES);
                let to = if is_over { sum(end, HUGE_PAGE_BYTES) } else { self.folio_start(end) };
                if let (Some(mirror), Some(all)) = (self.mirror(), span(from, to)) {
                    mirror.leave(all);
                }
                let file = self.file.as_ref().and_then(Weak::upgrade);
                if let Some(fd) = file.as_ref().and_then(|file| file.get().ok()) {
                    let (start, end) = self.to_drop(start, end);
                    // What is dirty or mapped by others stays; nothing depends on it. A window
                    // may go on past the region's end: nothing of the file is to be dropped there.
                    let length = end.saturating_sub(start);
                    let _ = file::drop_cached(fd, start, length);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::region::thp::PageKind;
    use crate::sys::process_map;

    const MIB: u64 = 1 << 20;

    /// Pages of these addresses that are in the page tables of this process.
    fn count_present(start: u64, end: u64) -> usize {
        use std::os::unix::fs::FileExt;
        let page = PageAligned::round_up(1).unwrap().get();
        let entries = std::fs::File::open("/proc/self/pagemap").unwrap();
        let mut bytes = vec![0; usize::try_from((end - start) / page * 8).unwrap()];
        entries.read_exact_at(&mut bytes, start / page * 8).unwrap();
        bytes.chunks_exact(8).filter(|entry| entry[7] & 0x80 != 0).count()
    }

    #[test]
    fn of_a_pass_that_is_over_nothing_stays_that_came_with_its_pages() {
        // Of small pages: an entry for 2 MiB would go as a whole.
        let bytes = vec![1_u8; 4 << 20];
        let (address, length) = (bytes.as_ptr() as u64, bytes.len() as u64);
        let region = Region::copy_from(address, length, "over", PageKind::Ordinary).unwrap();
        let stream = Stream::new(&region, Sharing::ReadOnly, true, false);
        // Kernels before 5.13 have no mirrors.
        let Some(mirror) = stream.mirror() else { return };
        let mut at = None;
        process_map::for_each(|vma| {
            if vma.inode == region.inode() {
                at = Some((vma.start, vma.end));
            }
        })
        .unwrap();
        let (start, end) = at.unwrap();
        let restarts = stream.plan().restarts;
        // It ends a byte into a page.
        stream.bring_in(&mirror, 0, MIB + 1, restarts);
        assert!(count_present(start, end) > 0);
        stream.bring_in(&mirror, 0, MIB + 1, restarts.wrapping_add(1));
        assert_eq!(count_present(start, end), 0);
    }
}
