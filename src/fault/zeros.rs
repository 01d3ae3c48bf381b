//! Pages of zeros that can be told from anybody's memory: private mappings of `/dev/zero`.
//!
//! A handler puts them in place of pages that can't be had; a window shows them past its end. The
//! offset of each such page is its own address, so neighbours are one VMA, and [`is_zeros`] knows
//! a page by inode and offset.
//!
//! Where `/dev/zero` can't be had, a missing page is not replaced, and ends the process as it would
//! without us. Functions say whether handlers may call them.

use crate::sys::kept::KeptFile;
use crate::sys::mmap::{self, Mmap, Pages, Sharing};
use crate::sys::owned_span::OwnedSpan;
use crate::sys::page::PageAligned;
use crate::sys::process_map::{self, Vma};
use crate::sys::{SysError, SysResult};
use nix::errno::Errno;
use std::os::fd::BorrowedFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

static DEVICE: KeptFile = KeptFile::new(c"/dev/zero");

/// The inode of `/dev/zero` as the process's map shows it.
static INODE: OnceLock<u64> = OnceLock::new();

/// Whether any window ever had an inaccessible tail.
static HAS_INACCESSIBLE: AtomicBool = AtomicBool::new(false);

/// Whether [`prepare`] has nothing left to do. Safe in a handler.
pub(super) fn is_ready() -> bool {
    INODE.get().is_some() && DEVICE.is_ready()
}

/// Opens `/dev/zero` and finds its inode. What fails now is tried again by the next call. Not for
/// handlers.
pub(super) fn prepare() {
    let _ = DEVICE.prepare();
    if INODE.get().is_none()
        && let Some(inode) = find_inode()
    {
        let _ = INODE.set(inode);
    }
}

fn find_inode() -> Option<u64> {
    let page = PageAligned::round_up(1)?;
    let map = |device: BorrowedFd<'_>| {
        Mmap::new(page, pages(device, PageAligned::ZERO, Sharing::ReadOnly))
    };
    let trial = DEVICE.with(map).ok()?.ok()?;
    let vma = process_map::at_or_after(trial.address()).ok()??;
    (vma.start <= trial.address()).then_some(vma.inode)
}

/// Zeros for an address, which is their offset.
fn pages(device: BorrowedFd<'_>, address: PageAligned, sharing: Sharing) -> Pages<'_> {
    Pages::File { fd: device, offset: address, sharing, is_memfd: true }
}

/// Shows zeros past the end of a window. Not for handlers.
pub fn show_past_end(span: OwnedSpan<'_>, sharing: Sharing) -> SysResult<()> {
    if !is_ready() {
        prepare();
    }
    if sharing == Sharing::Inaccessible {
        HAS_INACCESSIBLE.store(true, Ordering::Relaxed);
    }
    replace(span, sharing)
}

/// Whether an inaccessible page may be one that a window shows past its end. Safe in a handler.
pub(super) fn may_be_inaccessible() -> bool {
    HAS_INACCESSIBLE.load(Ordering::Relaxed)
}

/// Puts zeros in place of pages. Safe in a handler.
pub(super) fn replace(span: OwnedSpan<'_>, sharing: Sharing) -> SysResult<()> {
    with_device(|device| mmap::replace(span, pages(device, span.span().start(), sharing)))
}

fn with_device<R>(put: impl FnOnce(BorrowedFd<'_>) -> SysResult<R>) -> SysResult<R> {
    if INODE.get().is_none() {
        return Err(SysError::new("open", Errno::ENXIO));
    }
    DEVICE.with(put)?
}

/// Whether this is a page that was put here as zeros. Safe in a handler.
pub fn is_zeros(vma: &Vma, address: u64) -> bool {
    INODE.get() == Some(&vma.inode) && !vma.shared && vma.offset_of(address) == Some(address)
}
