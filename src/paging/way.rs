//! How a page that is not there comes to raise SIGBUS, and how chunks are filled.
//!
//! - **Userfault**: mappings of the memfd are registered with userfaultfd. A page that is there
//!   costs nothing. Chunks are filled page by page by the kernel (UFFDIO_COPY): a page is in the
//!   memfd whole or not at all. `pwrite` leaves a page of zeros where it can't read its source, and
//!   takes huge pages where the system allows that for memfds, with zeros beside what it wrote.
//! - **EmptyFile**: mappings begin as pages of an empty memfd, which raise SIGBUS whatever V8 does
//!   to them by `mprotect`. Once a chunk is present, handlers show the memfd's pages there. What
//!   the memfd has of chunks that are not present nobody sees, so `pwrite` does.

use crate::sys::checked_fd::{CheckedFd, Description};
use crate::sys::mmap::{self, Advice, Mmap, Pages, Sharing};
use crate::sys::owned_span::OwnedSpan;
use crate::sys::page::{PageAligned, PageSpan, host_page_bytes};
use crate::sys::userfault;
use crate::sys::{SysError, SysResult, alloc, file, memfd, process_map, sum, to_u64, to_usize};
use nix::errno::Errno;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Debug)]
pub(super) struct Way {
    memfd: Arc<CheckedFd>,
    kind: Kind,
}

/// How many bytes of what was filled stay mapped where it was done. To let them go takes the longer
/// the more threads there are.
const MOST_MAPPED_BYTES: u64 = 8 << 20;

#[derive(Debug)]
enum Kind {
    /// `all`: all of the memfd, where nobody touches it; what its owner fills chunks by.
    Userfault {
        all: Option<Mmap>,
        mapped_bytes: AtomicU64,
    },
    EmptyFile {
        empty: CheckedFd,
    },
}

impl Kind {
    fn without() -> SysResult<Self> {
        let empty = CheckedFd::new(memfd::create_empty("missing")?, Description::Ours)?;
        Ok(Self::EmptyFile { empty })
    }
}

impl Way {
    /// `by_userfault`: `None` takes it where it can be had.
    pub(super) fn new(
        memfd: &Arc<CheckedFd>,
        length: PageAligned,
        by_userfault: Option<bool>,
    ) -> SysResult<Self> {
        let memfd = Arc::clone(memfd);
        if by_userfault != Some(false) {
            match userfault::prepare().and_then(|()| all_of(&memfd, length)) {
                Ok(all) => {
                    let kind = Kind::Userfault { all: Some(all), mapped_bytes: AtomicU64::new(0) };
                    return Ok(Self { memfd, kind });
                }
                Err(sys) if by_userfault == Some(true) => return Err(sys),
                // The other way needs less: no privilege, and no address space.
                Err(_) => {}
            }
        }
        Ok(Self { memfd, kind: Kind::without()? })
    }

    /// For a region that another process fills. The descriptor allows reading.
    pub(super) fn received(memfd: &Arc<CheckedFd>, by_userfault: bool) -> SysResult<Self> {
        let kind = match by_userfault {
            true => {
                userfault::prepare()?;
                Kind::Userfault { all: None, mapped_bytes: AtomicU64::new(0) }
            }
            false => Kind::without()?,
        };
        Ok(Self { memfd: Arc::clone(memfd), kind })
    }

    pub(super) fn is_userfault(&self) -> bool {
        matches!(self.kind, Kind::Userfault { .. })
    }

    pub(super) fn inode(&self) -> u64 {
        self.memfd.inode()
    }

    /// The file that stands for chunks that are not there. Safe in handlers.
    pub(super) fn empty_inode(&self) -> Option<u64> {
        match &self.kind {
            Kind::Userfault { .. } => None,
            Kind::EmptyFile { empty } => Some(empty.inode()),
        }
    }

    fn of_memfd(&self, offset: PageAligned, sharing: Sharing) -> SysResult<Pages<'_>> {
        Ok(Pages::File { fd: self.memfd.get()?, offset, sharing, is_memfd: true })
    }

    /// Pages that nobody may touch yet (`Userfault`), or that raise SIGBUS.
    fn first_pages(&self, offset: PageAligned, sharing: Sharing) -> SysResult<Pages<'_>> {
        match &self.kind {
            // Between the mapping and its registration, a touch would make a page of zeros.
            Kind::Userfault { .. } => self.of_memfd(offset, Sharing::Inaccessible),
            Kind::EmptyFile { empty } => {
                Ok(Pages::File { fd: empty.get()?, offset, sharing, is_memfd: true })
            }
        }
    }

    /// Whether its descriptors are still there.
    pub(super) fn check(&self) -> SysResult<()> {
        self.first_pages(PageAligned::ZERO, Sharing::Inaccessible).map(drop)
    }

    /// Puts pages of the region in place of others. Handlers are kept off them meanwhile.
    ///
    /// False: somebody else has made them accessible too early, as V8 does to a shared memory that
    /// another thread grows. Then there may be pages of zeros in the memfd.
    pub(super) fn put(
        &self,
        target: OwnedSpan<'_>,
        offset: PageAligned,
        sharing: Sharing,
    ) -> SysResult<bool> {
        mmap::replace(target, self.first_pages(offset, sharing)?)?;
        self.open(target, sharing).map_err(|sys| {
            // What was there is gone. Where this fails too, nobody can access what is there now.
            let _ = mmap::replace(target, Pages::Zeros);
            SysError { removed: true, ..sys }
        })
    }

    /// Maps pages of the region anywhere.
    pub(super) fn map(
        &self,
        length: PageAligned,
        offset: PageAligned,
        sharing: Sharing,
    ) -> SysResult<Mmap> {
        let mapping = Mmap::new(length, self.first_pages(offset, sharing)?)?;
        // Nobody knows of it.
        self.open(mapping.owned(), sharing)?;
        Ok(mapping)
    }

    fn open(&self, target: OwnedSpan<'_>, sharing: Sharing) -> SysResult<bool> {
        if !self.is_userfault() {
            return Ok(true);
        }
        userfault::register(target)?;
        let was_closed = is_inaccessible(target.span());
        if !was_closed {
            // A page that was written is zeros but for that.
            mmap::discard(target)?;
        }
        keep_apart(target);
        mmap::protect_as(target, sharing)?;
        Ok(was_closed)
    }

    /// The parts of a range of the memfd that have pages.
    pub(super) fn data(
        &self,
        start: PageAligned,
        length: PageAligned,
        mut see: impl FnMut(u64, u64) -> SysResult<()>,
    ) -> SysResult<()> {
        // A look moves the position, so it needs a descriptor of its own.
        let fd = self.memfd.reopen_readonly()?;
        let end = sum(start.get(), length.get());
        let mut at = start.get();
        while let Some((from, to)) = file::next_data(&fd, at, end)? {
            see(from, to)?;
            at = to;
        }
        Ok(())
    }

    /// Puts the memfd's pages where those of the empty file are. Safe in handlers.
    pub(super) fn show(
        &self,
        target: OwnedSpan<'_>,
        offset: PageAligned,
        sharing: Sharing,
    ) -> SysResult<()> {
        mmap::replace(target, self.of_memfd(offset, sharing)?)
    }

    /// The opposite.
    pub(super) fn hide(
        &self,
        target: OwnedSpan<'_>,
        offset: PageAligned,
        sharing: Sharing,
    ) -> SysResult<()> {
        match &self.kind {
            Kind::Userfault { .. } => Err(SysError::new("mmap", Errno::EINVAL)),
            Kind::EmptyFile { empty } => {
                let fd = empty.get()?;
                mmap::replace(target, Pages::File { fd, offset, sharing, is_memfd: true })
            }
        }
    }

    /// Puts zeros in place of a missing page of a mapping, which cut none. Safe in handlers.
    pub(super) fn put_zero_page(&self, page: OwnedSpan<'_>) -> SysResult<()> {
        match &self.kind {
            Kind::Userfault { .. } => userfault::put_zero_page(page),
            Kind::EmptyFile { .. } => Err(SysError::new("ioctl", Errno::EINVAL)),
        }
    }

    /// Fills a part with as many bytes of the process at `source`. Where it fails, nothing of it
    /// is there.
    pub(super) fn fill(&self, start: PageAligned, source: u64, length: u64) -> SysResult<()> {
        match &self.kind {
            Kind::EmptyFile { .. } => {
                file::write_all_from(self.memfd.get()?, start.get(), source, length)
            }
            Kind::Userfault { all, mapped_bytes } => {
                let all = all.as_ref().ok_or(SysError::new("ioctl", Errno::EPERM))?;
                // What is filled is mapped there, too, and counts as resident a second time.
                let before = mapped_bytes.fetch_add(length, Ordering::Relaxed);
                if before >= MOST_MAPPED_BYTES {
                    mapped_bytes.fetch_sub(before, Ordering::Relaxed);
                    let _ = all.drop_pages(all.span());
                }
                let filled = copy(all, start, source, length);
                let filled = match filled {
                    // Nobody has made a page here but one who came past the registration, a child
                    // process say. What it made is zeros.
                    Err(SysError { errno: Errno::EEXIST, .. }) => {
                        self.punch(start, length)?;
                        copy(all, start, source, length)
                    }
                    filled => filled,
                };
                filled.inspect_err(|_| {
                    let _ = self.punch(start, length);
                })
            }
        }
    }

    /// Takes out what holds these bytes: whole pages, since a hole in a page would be zeros that
    /// everybody sees.
    pub(super) fn punch(&self, start: PageAligned, length: u64) -> SysResult<()> {
        let length =
            PageAligned::round_up(length).ok_or(SysError::new("fallocate", Errno::EOVERFLOW))?;
        memfd::punch_hole(self.memfd.get()?, start, length)
    }
}

/// Copies into a part of the memfd that has no pages.
fn copy(all: &Mmap, start: PageAligned, source: u64, length: u64) -> SysResult<()> {
    let outside = SysError::new("ioctl", Errno::EFAULT);
    let at = |offset: PageAligned| all.span().start().checked_add(offset).ok_or(outside);
    let whole = PageAligned::round_down(length);
    let end = start.checked_add(whole).ok_or(outside)?;
    let pages = PageSpan::between(at(start)?, at(end)?);
    if let Some(pages) = pages {
        userfault::fill(all, pages, source)?;
    }
    let rest = length.checked_sub(whole.get()).filter(|rest| *rest > 0);
    if let Some(rest) = rest {
        // The last page: its end is zeros. The kernel reads the bytes, which may be no memory.
        let mut page = alloc::zeroed(to_usize(host_page_bytes()))?;
        let between = memfd::create_growing("rest")?;
        let from = source.checked_add(whole.get()).ok_or(outside)?;
        file::write_all_from(between.as_fd(), 0, from, rest)?;
        let read = file::read_up_to(&between, 0, page.get_mut(..to_usize(rest)).ok_or(outside)?)?;
        if to_u64(read) != rest {
            return Err(outside);
        }
        let last = PageSpan::page_at(sum(all.address(), end.get())).ok_or(outside)?;
        userfault::fill(all, last, to_u64(page.as_ptr() as usize))?;
    }
    Ok(())
}

fn all_of(memfd: &CheckedFd, length: PageAligned) -> SysResult<Mmap> {
    let all = Mmap::new_for_kernel(length, memfd.get()?)?;
    userfault::register(all.owned())?;
    keep_apart(all.owned());
    let _ = mmap::hint(all.span(), mmap::Hint::DontDump);
    Ok(all)
}

fn is_inaccessible(span: PageSpan) -> bool {
    // Where the map can't be read, nothing is known.
    matches!(
        process_map::at_or_after(span.start().get()),
        Ok(Some(vma)) if vma.start <= span.start().get() && vma.is_inaccessible()
    )
}

/// A child process has no registration: what it touches would be zeros for all. And a huge page
/// would fill holes with zeros, on kernels that don't look who watches them (before 6.4).
fn keep_apart(pages: OwnedSpan<'_>) {
    let _ = mmap::advise(pages, Advice::DontFork);
    let _ = mmap::advise(pages, Advice::NoHugePage);
}
