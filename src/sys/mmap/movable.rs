//! Whether pages that somebody else mapped can be moved elsewhere. Asks the kernel, and changes
//! nothing.

use super::advise::is_locked;
use super::mremap::{can_mirror, can_move_from};
use super::pages::{Pages, Sharing};
use crate::sys::page::{PageSpan, host_page_bytes};
use crate::sys::{limits, process_map};
use std::sync::OnceLock;

/// Why pages are not moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unmovable {
    /// There are too few whole pages: to copy them costs less.
    Small,
    /// They are a file's, or shared, or can't be written: not plain memory of this process.
    Mapped,
    /// They are in several VMAs.
    Split,
    /// They are locked (mlock(2)). The kernel would count them as locked twice (6.18): each move
    /// takes as much from what the process may lock.
    Locked,
    /// The kernel is older than 5.7, or a sandbox forbids it.
    Kernel,
    /// Address space or private memory is limited. The kernel looks at the limit when it has
    /// removed what was there.
    Limited,
    /// The kernel refused.
    Refused,
}

impl Unmovable {
    /// As lib/memory/adopt.js has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Mapped => "mapped",
            Self::Split => "split",
            Self::Locked => "locked",
            Self::Kernel => "kernel",
            Self::Limited => "limited",
            Self::Refused => "refused",
        }
    }
}

/// Whether [`move_owned`](super::move_owned) can move these pages.
///
/// Cost: one query of the process's map, and four reads of limits.
pub fn check_movable(pages: PageSpan) -> Result<(), Unmovable> {
    if !kernel_leaves_vma() {
        return Err(Unmovable::Kernel);
    }
    if !can_mirror(Sharing::CopyOnWrite) {
        return Err(Unmovable::Limited);
    }
    let (start, end) = (pages.start().get(), pages.end().get());
    let vma = process_map::at_or_after(start).map_err(|_| Unmovable::Refused)?;
    // Huge pages of hugetlbfs have an inode, too.
    let vma = vma
        .filter(|vma| vma.start <= start && vma.inode == 0 && !vma.shared)
        .filter(|vma| vma.readable && vma.writable && !vma.executable)
        .ok_or(Unmovable::Mapped)?;
    // One call moves pages of one VMA.
    if vma.end < end {
        return Err(Unmovable::Split);
    }
    if may_be_locked(pages) { Err(Unmovable::Locked) } else { Ok(()) }
}

/// Whether the kernel moves anonymous pages and leaves their VMA behind, from 5.7 on. What it can't
/// do now is tried again.
fn kernel_leaves_vma() -> bool {
    static KNOWN: OnceLock<()> = OnceLock::new();
    KNOWN.get().is_some() || can_move_from(Pages::Zeros) && KNOWN.set(()).is_ok()
}

fn may_be_locked(pages: PageSpan) -> bool {
    // Asking for pages takes a huge page apart, so the process is asked first.
    limits::locked_bytes() != Some(0) && is_locked(pages.first(host_page_bytes()))
}
