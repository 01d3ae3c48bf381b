//! Host regions: bytes that the host owns, behind a file descriptor, so that the kernel can map the
//! same pages at many addresses.
//!
//! ```text
//!  memfd  |bbbbbbbbbbbbbbbbbbbbbbbb|            sealed: it never shrinks or grows
//!  file   |........[bbbbbbbbbbbbbb]......|      a region may be a part of a file
//!                  ^ file_offset   ^ file_offset + byte_length
//! ```
//!
//! A region is the descriptor and no mapping: mappings in memories and views for JavaScript are
//! made from it and outlive it, since the kernel keeps the pages as long as a mapping stands.

// It registers views with the fault guard.
#![allow(unsafe_code)]

pub mod mirror;
pub mod thp;

use crate::access::Access;
use crate::error::{Code, Error, Result, check_cancelled};
use crate::fault::{self, Counts, Proof, Registration};
use crate::region::mirror::{Grain, Mirror, Mirrors, Refused};
use crate::region::thp::{Filler, PageKind, WhyNot};
use crate::share::{self, Kind, ShareAccess, Terms, Token};
use crate::sys::alloc;
use crate::sys::checked_fd::{CheckedFd, Description};
use crate::sys::file::{self, FileKind};
use crate::sys::memfd::{self, Seals};
use crate::sys::mmap::{self, Advice, Mmap, Pages, Sharing};
use crate::sys::page::{HUGE_PAGE_BYTES, PageAligned, PageSpan, host_page_bytes};
use crate::sys::vma_budget::VmaClaim;
use crate::sys::{SysError, SysResult, process_map};
use nix::errno::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backing {
    Memfd,
    File,
}

#[derive(Debug)]
pub struct Region {
    /// Shared with what leaves pages behind, for as long as the region is open.
    fd: Arc<CheckedFd>,
    backing: Backing,
    /// Where in the file the region starts.
    file_offset: PageAligned,
    /// More than 0; `file_offset + byte_length` does not overflow.
    byte_length: u64,
    inode: u64,
    name: Arc<str>,
    id: u64,
    /// Whether it can never get shorter: F_SEAL_SHRINK.
    keeps_size: bool,
    writable: AtomicBool,
    /// Faults in views, those that are gone included.
    counts: Arc<Counts>,
    /// Views that JavaScript may still hold: `seal` makes them read-only.
    views: Mutex<Vec<Weak<View>>>,
    mirrors: Arc<Mirrors>,
    /// Why its pages are ordinary ones, or some of them.
    not_huge: OnceLock<WhyNot>,
    /// Whether it was filled with some huge pages.
    is_huge: AtomicBool,
}

/// Which part of a file a region is to be. `byte_length: None` is all the rest.
#[derive(Debug, Clone, Copy, Default)]
pub struct Part {
    pub byte_offset: u64,
    pub byte_length: Option<u64>,
}

fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl Region {
    /// A memfd of zeros.
    ///
    /// Of huge pages it takes its memory at once.
    pub fn allocate(byte_length: u64, name: &str, kind: PageKind) -> Result<Self> {
        let region = Self::empty(byte_length, name)?;
        let mut filler = region.filler(kind == PageKind::Gathered);
        if let Some(filler) = &mut filler {
            filler.prepare(0, byte_length);
        }
        region.filled(filler);
        Ok(region)
    }

    fn empty(byte_length: u64, name: &str) -> Result<Self> {
        check_length(byte_length)?;
        let fd = memfd::create(name, byte_length)
            .map_err(|sys| Error::from_sys(Code::OutOfMemory, cannot_allocate(byte_length), sys))?;
        Self::over_memfd(byte_length, fd, name)
    }

    /// Over a memfd of ours, of ordinary pages.
    fn over_memfd(byte_length: u64, fd: OwnedFd, name: &str) -> Result<Self> {
        let refused = |sys| Error::from_sys(Code::OutOfMemory, cannot_allocate(byte_length), sys);
        let fd = CheckedFd::new(fd, Description::Ours).map_err(refused)?;
        let inode = fd.inode();
        Ok(Self {
            fd: Arc::new(fd),
            backing: Backing::Memfd,
            file_offset: PageAligned::ZERO,
            byte_length,
            inode,
            name: name.into(),
            id: next_id(),
            keeps_size: true,
            writable: AtomicBool::new(true),
            counts: Arc::default(),
            views: Mutex::default(),
            mirrors: Arc::default(),
            not_huge: OnceLock::new(),
            is_huge: AtomicBool::new(false),
        })
    }

    /// A memfd with a copy of `byte_length` bytes at this address of the process.
    pub fn copy_from(source: u64, byte_length: u64, name: &str, kind: PageKind) -> Result<Self> {
        let refused = |sys: SysError| {
            let code =
                if sys.errno == Errno::EFAULT { Code::ReadFailed } else { Code::OutOfMemory };
            Error::from_sys(code, format!("can't copy {byte_length} bytes into a region"), sys)
        };
        let region = Self::empty(byte_length, name)?;
        let mut filler = region.filler(kind == PageKind::Gathered);
        let mut at = 0;
        while at < byte_length {
            // Blocks are filled while their zeros are still in the CPU's caches.
            let step = if filler.is_some() { thp::STEP_BYTES } else { u64::MAX };
            let step = byte_length.saturating_sub(at).min(step);
            let end = at.saturating_add(step);
            if let Some(filler) = &mut filler {
                filler.prepare(at, end);
            }
            let fd = region.fd.get().map_err(refused)?;
            file::write_all_from(fd, at, source.saturating_add(at), step).map_err(refused)?;
            at = end;
        }
        region.filled(filler);
        Ok(region)
    }

    /// The pages of a file.
    pub fn open(path: &Path, part: Part, writable: bool) -> Result<Self> {
        let what = || format!("can't open {}", file::absolute(path).display());
        let fd = open_regular(path, writable)?;
        Self::over(fd, Description::Ours, part, what(), &file_name(path))
    }

    /// The pages of what a descriptor of the caller's stands for. The descriptor is duplicated.
    pub fn from_fd(fd: RawFd, part: Part) -> Result<Self> {
        let what = format!("can't use file descriptor {fd}");
        let fd =
            file::duplicate(fd).map_err(|sys| Error::from_sys(Code::OpenFailed, &what, sys))?;
        let path = file::path_of(&fd).unwrap_or_default();
        let name = file_name(&path);
        let name = name.strip_prefix("memfd:").unwrap_or(&name);
        let name = name.strip_suffix(" (deleted)").unwrap_or(name);
        Self::over(fd, Description::Shared, part, what, name)
    }

    fn over(
        fd: OwnedFd,
        description: Description,
        part: Part,
        what: String,
        name: &str,
    ) -> Result<Self> {
        let refused = |sys| Error::from_sys(Code::OpenFailed, &what, sys);
        let status = file::status(&fd).map_err(refused)?;
        check_kind(status.kind, &what)?;
        let (readable, mut writable) = file::access(&fd).map_err(refused)?;
        if !readable {
            let message = format!(
                "{what}: it is not open for reading; open it for reading, or reading and writing"
            );
            return Err(Error::new(Code::OpenFailed, message));
        }
        if file::is_hugetlb(&fd).map_err(refused)? {
            let message = format!(
                "{what}: its pages are huge ones of hugetlbfs, which can't take the place of parts of a memory; use an ordinary file or memfd, or HostRegion.load with hugePages: true"
            );
            return Err(Error::new(Code::NotAFile, message));
        }
        let is_memfd = memfd::is_memfd(fd.as_fd());
        let seals = memfd::seals(fd.as_fd()).unwrap_or_default();
        writable &= !seals.forbid_new_writers();
        let file_offset =
            PageAligned::new(part.byte_offset).ok_or_else(|| not_at_page(part.byte_offset))?;
        let byte_length = resolve_part(part, status.byte_length, &what)?;
        // Some files can be read and not mapped: better known now than when a memory is waiting for
        // it.
        let first = PageAligned::round_up(1).unwrap_or_default();
        let sharing = Sharing::ReadOnly;
        let trial = Pages::File { fd: fd.as_fd(), offset: file_offset, sharing, is_memfd };
        let trial = Mmap::new(first, trial).map_err(|sys| match sys.errno {
            Errno::ENODEV | Errno::EINVAL | Errno::EIO | Errno::EACCES | Errno::EPERM => {
                let message = format!("{what}: it can't be mapped ({sys})");
                Error::new(Code::NotAFile, message).with_sys(sys)
            }
            _ => refused(sys),
        })?;
        // V8 makes all of a memory writable when it grows, and ends the process if it can't; a
        // stray write wants the same. Files of the kernel's own may forbid it
        // (/sys/kernel/btf/vmlinux can be mapped since 6.16, and drops VM_MAYWRITE).
        let make_writable = || mmap::unprotect_private(trial.owned());
        if let Err(sys @ SysError { errno: Errno::EACCES | Errno::EPERM, .. }) = make_writable() {
            let message = format!(
                "{what}: its pages can be mapped for reading only ({sys}), so that a memory with them could not grow; copy it with HostRegion.load, or read it and use HostRegion.copyFrom"
            );
            return Err(Error::new(Code::NotAFile, message).with_sys(sys));
        }
        // By what the kernel's map shows, mappings are known again. On overlayfs before kernel 6.8
        // fstat says something else.
        let shown = process_map::at_or_after(trial.address()).map_err(refused)?;
        let inode =
            shown.filter(|vma| vma.start <= trial.address()).map_or(status.inode, |vma| vma.inode);
        drop(trial);
        let fd = CheckedFd::new(fd, description).map_err(refused)?;
        Ok(Self {
            fd: Arc::new(fd),
            backing: if is_memfd { Backing::Memfd } else { Backing::File },
            file_offset,
            byte_length,
            inode,
            name: name.into(),
            id: next_id(),
            keeps_size: seals.forbid_shrinking(),
            writable: AtomicBool::new(writable),
            counts: Arc::default(),
            views: Mutex::default(),
            mirrors: Arc::default(),
            not_huge: OnceLock::new(),
            is_huge: AtomicBool::new(false),
        })
    }

    /// Offers it to another thread or process. `enforce`: from now on the kernel lets nobody write
    /// who can't yet.
    pub fn share(&self, access: ShareAccess, enforce: bool) -> Result<Token> {
        let name = &self.name;
        if access == ShareAccess::Shared && !self.is_writable() {
            let message = format!(
                "can't share region \"{name}\" with access 'shared': it is sealed, or its file was opened for reading only; use 'readonly'"
            );
            return Err(Error::new(Code::RegionReadonly, message));
        }
        if enforce {
            self.forbid_new_writers()?;
        }
        let offset = self.file_offset.get();
        share::offer(&self.fd, Kind::Region, access, offset, self.byte_length, name)
    }

    fn forbid_new_writers(&self) -> Result<()> {
        let what = || format!("can't share region \"{}\" with enforce", self.name);
        let refused = |sys| Error::from_sys(Code::MapFailed, what(), sys);
        let fd = self.fd.get().map_err(refused)?;
        if memfd::seals(fd).is_some_and(Seals::forbid_new_writers) {
            return Ok(());
        }
        memfd::seal_future_write(fd).map_err(|sys| match sys.errno {
            Errno::EPERM | Errno::EINVAL => Error::new(
                Code::RegionReadonly,
                format!(
                    "{}: only memfds that allow seals can forbid writing, on Linux 5.1 and later; for a file, its permissions do",
                    what()
                ),
            ),
            _ => refused(sys),
        })
    }

    /// Over a descriptor that [`share::receive`] got.
    pub fn received(fd: OwnedFd, terms: &Terms) -> Result<Self> {
        let part = Part { byte_offset: terms.byte_offset, byte_length: Some(terms.byte_length) };
        let what = format!("can't receive region \"{}\"", terms.name);
        let region = Self::over(fd, Description::Shared, part, what, &terms.name)?;
        if terms.access == ShareAccess::Readonly {
            region.writable.store(false, Ordering::Release);
        }
        Ok(region)
    }

    pub fn byte_length(&self) -> u64 {
        self.byte_length
    }

    pub fn backing(&self) -> Backing {
        self.backing
    }

    /// A descriptor of its file or memfd that is the caller's.
    pub fn duplicate_fd(&self) -> Result<OwnedFd> {
        self.fd.duplicate().map_err(|sys| {
            let what = format!("can't duplicate the descriptor of region \"{}\"", self.name);
            Error::from_sys(Code::OpenFailed, what, sys)
        })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Tells it from all other regions of the process, past ones too.
    pub fn id(&self) -> u64 {
        self.id
    }

    pub fn shared_name(&self) -> &Arc<str> {
        &self.name
    }

    pub fn inode(&self) -> u64 {
        self.inode
    }

    /// The faults that all of its views had.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Whether its file can't get shorter.
    pub fn keeps_size(&self) -> bool {
        self.keeps_size
    }

    /// How many bytes its file or memfd has now.
    pub fn file_bytes(&self) -> Option<u64> {
        self.status().map(|status| status.byte_length)
    }

    pub fn file_offset(&self) -> PageAligned {
        self.file_offset
    }

    /// Whether its pages are memory of ours, and a hole that is read takes some.
    pub fn is_memory(&self) -> bool {
        self.backing == Backing::Memfd
    }

    /// EBADF where the descriptor is not what the region was made of any more.
    fn file_pages(&self, offset: PageAligned, sharing: Sharing) -> SysResult<Pages<'_>> {
        let fd = self.fd.get()?;
        let is_memfd = self.backing == Backing::Memfd;
        Ok(Pages::File { fd, offset, sharing, is_memfd })
    }

    fn status(&self) -> Option<file::Status> {
        file::status(self.fd.get().ok()?).ok()
    }

    fn seals(&self) -> Option<Seals> {
        memfd::seals(self.fd.get().ok()?)
    }

    pub fn shared_fd(&self) -> &Arc<CheckedFd> {
        &self.fd
    }

    pub fn is_writable(&self) -> bool {
        self.writable.load(Ordering::Acquire)
            && !(self.backing == Backing::Memfd
                && self.seals().is_some_and(Seals::forbid_new_writers))
    }

    /// Asked of the kernel, since another process, or another region over the same memfd, may have
    /// sealed it.
    pub fn is_sealed(&self) -> bool {
        self.backing == Backing::Memfd && self.seals().is_some_and(Seals::forbid_writing)
    }

    /// Bytes of memory that the region holds at this moment: the pages of a memfd that were ever
    /// touched. A file's pages are the kernel's cache, not the process's.
    pub fn held_bytes(&self) -> u64 {
        match self.backing {
            Backing::Memfd => self.status().map_or(0, |status| status.allocated_bytes),
            Backing::File => 0,
        }
    }

    /// What fills it with huge pages, if that is asked for and it has room for one.
    fn filler(&self, asked: bool) -> Option<Filler> {
        (asked && self.byte_length >= HUGE_PAGE_BYTES).then(|| Filler::new(Arc::clone(&self.fd)))
    }

    /// Takes note of how that went.
    fn filled(&self, filler: Option<Filler>) {
        let why_not = match filler {
            Some(filler) => {
                self.is_huge.store(filler.blocks() > 0, Ordering::Release);
                filler.why_not()
            }
            None if self.byte_length < HUGE_PAGE_BYTES => Some(WhyNot::TooSmall),
            None => Some(WhyNot::NotAsked),
        };
        if let Some(why_not) = why_not {
            let _ = self.not_huge.set(why_not);
        }
    }

    /// Whether it was filled with huge pages, some of it at least.
    pub fn is_huge(&self) -> bool {
        self.is_huge.load(Ordering::Acquire)
    }

    /// How many of its bytes are in huge pages now, and why not all that hold data. Cost: see
    /// [`thp::bytes_of`].
    pub fn huge_pages(&self) -> (u64, Option<WhyNot>) {
        if self.backing == Backing::File {
            return (0, Some(WhyNot::NotMemory));
        }
        // What looks for data moves the position, so it has one of its own.
        let fd = self.fd.reopen_readonly().ok();
        let bytes = fd.and_then(|fd| thp::bytes_of(fd.as_fd(), self.file_offset, self.byte_length));
        let Some(bytes) = bytes else {
            return (0, Some(WhyNot::NotTold));
        };
        let most = self.byte_length.saturating_sub(self.byte_length % HUGE_PAGE_BYTES);
        let why_not = self.not_huge.get().copied().unwrap_or(WhyNot::Elsewhere);
        (bytes, (bytes < most || most == 0).then_some(why_not))
    }

    /// Checks that `[byte_offset, byte_offset + byte_length)` lies in the region, and gives the
    /// pages that hold it.
    pub fn pages(&self, byte_offset: PageAligned, byte_length: u64) -> Result<RegionPages<'_>> {
        let rest = self.byte_length.checked_sub(byte_offset.get()).filter(|rest| *rest > 0);
        let Some(rest) = rest else {
            let message = format!(
                "byteOffset is {}; it must be below the region's byteLength, {}",
                byte_offset.get(),
                self.byte_length
            );
            return Err(Error::new(Code::OutOfRange, message));
        };
        if byte_length == 0 || byte_length > rest {
            let message = format!(
                "byteLength is {byte_length}; it must be 1 to {rest}, what the region has from byteOffset {} on",
                byte_offset.get()
            );
            return Err(Error::new(Code::OutOfRange, message));
        }
        let length = PageAligned::round_up(byte_length);
        let file_offset = self.file_offset.checked_add(byte_offset);
        match (length, file_offset) {
            (Some(length), Some(file_offset)) => Ok(RegionPages {
                region: self,
                region_offset: byte_offset,
                file_offset,
                length,
                byte_length,
            }),
            _ => Err(Error::new(Code::OutOfRange, "the range ends above 2^63")),
        }
    }

    /// All of its pages mapped where nobody touches them, for windows to show. `None`: it can't be
    /// had; or there was none and `make` does not ask for it.
    pub fn mirror(&self, sharing: Sharing, grain: Grain, make: bool) -> Option<Arc<Mirror>> {
        // It would be a writable mapping that nobody asked for, and keep the memfd from being
        // sealed.
        if sharing == Sharing::Shared && self.is_memory() {
            return None;
        }
        let whole = || {
            let pages =
                self.pages(PageAligned::ZERO, self.byte_length).map_err(|_| Refused::ForGood)?;
            Mirror::new(&pages, sharing, grain)
        };
        self.mirrors.get_or_make(sharing, grain, make, whole)
    }

    pub fn mirrors(&self) -> &Arc<Mirrors> {
        &self.mirrors
    }

    /// A range of the region for JavaScript, at any byte offset.
    pub fn view(&self, byte_offset: u64, byte_length: u64) -> Result<Arc<View>> {
        let start = PageAligned::round_down(byte_offset);
        let skew = byte_offset.saturating_sub(start.get());
        let asked = byte_length.saturating_add(skew);
        if byte_offset >= self.byte_length
            || byte_length == 0
            || byte_length > self.byte_length.saturating_sub(byte_offset)
        {
            let message = format!(
                "byteOffset is {byte_offset} and byteLength {byte_length}; the view must have at least 1 byte and end at or below the region's byteLength, {}",
                self.byte_length
            );
            return Err(Error::new(Code::OutOfRange, message));
        }
        let pages = self.pages(start, asked)?;
        pages.check_file_size()?;
        // A seal that is being set must see this view, so the list is locked before the region is
        // asked.
        let mut views = self.views.lock().unwrap_or_else(PoisonError::into_inner);
        let sharing = if self.is_writable() { Sharing::Shared } else { unwritable() };
        // Now and then those that are gone are left out, before the list takes more memory.
        if views.len() == views.capacity() {
            views.retain(|view| view.strong_count() > 0);
        }
        views.try_reserve(1).map_err(alloc::Refused::from)?;
        let view = Arc::new(View::new(&pages, skew, byte_length, sharing)?);
        views.push(Arc::downgrade(&view));
        Ok(view)
    }

    /// Forbids writing, for everybody and for good. Views become read-only first, since the kernel
    /// refuses the seal while a writable shared mapping stands.
    pub fn seal(&self) -> Result<()> {
        let what = || format!("can't seal region \"{}\"", self.name);
        if self.is_sealed() {
            return Ok(());
        }
        let views = self.views.lock().unwrap_or_else(PoisonError::into_inner);
        let views = views.iter().filter_map(Weak::upgrade);
        // Views that were read-only from the start stay so, whatever comes.
        let shared = alloc::collected(views.filter(|view| view.shared.load(Ordering::Acquire)))?;
        let busy = || {
            Error::new(
                Code::RegionBusy,
                format!(
                    "{}: a `shared` mapping or a writable mapping of another process stands; unmap it first",
                    what()
                ),
            )
        };
        // Views that were turned under this seal can't be turned back, so what is known to be in
        // the way is looked for before.
        let is_for_good = self.seals().is_some_and(Seals::spare_old_writers);
        if is_for_good && !shared.is_empty() {
            let others = self.is_shared_beside(&shared);
            if others.map_err(|sys| Error::from_sys(Code::MapFailed, what(), sys))? {
                return Err(busy());
            }
        }
        let sealed =
            self.turn_views(&shared, unwritable()).and_then(|()| memfd::seal_write(self.fd.get()?));
        let Err(sys) = sealed else { return Ok(()) };
        // As it was before the call. A view that can't be turned back stays read-only: the process
        // lives.
        let _ = self.turn_views(&shared, Sharing::Shared);
        Err(match sys.errno {
            Errno::EBUSY => busy(),
            Errno::EPERM | Errno::EINVAL => Error::new(
                Code::RegionReadonly,
                format!(
                    "{}: only memfds that allow it can be sealed, and this is a {}",
                    what(),
                    match self.backing {
                        Backing::Memfd => "memfd with F_SEAL_SEAL or opened for reading only",
                        Backing::File => "file; load it into memory with HostRegion.load",
                    }
                ),
            ),
            _ => Error::from_sys(Code::MapFailed, what(), sys),
        })
    }

    /// Whether this process has its file mapped, to be shared, elsewhere than in these views.
    fn is_shared_beside(&self, views: &[Arc<View>]) -> SysResult<bool> {
        let mut found = false;
        process_map::for_each(|vma| {
            if vma.shared && vma.inode == self.inode {
                // Views that lie side by side may be one VMA.
                let end_of_view_at = |at: u64| {
                    let mut spans = views.iter().map(|view| view.mmap.span());
                    spans
                        .find(|span| span.start().get() <= at && at < span.end().get())
                        .map(|span| span.end().get())
                };
                let mut at = vma.start;
                while at < vma.end
                    && let Some(end) = end_of_view_at(at)
                {
                    at = end;
                }
                found |= at < vma.end;
            }
        })?;
        Ok(found)
    }

    /// Takes the region's pages out of all views. Zeros stand there as long as a view is held:
    /// something that still uses its address, an `fs.read` on another thread say, finds memory
    /// there, and nobody else's.
    pub fn release_views(&self) {
        let mut views = self.views.lock().unwrap_or_else(PoisonError::into_inner);
        for view in views.drain(..).filter_map(|view| view.upgrade()) {
            // If it fails, the pages go when the view goes.
            let _ = view.blank();
        }
    }

    fn turn_views(&self, views: &[Arc<View>], sharing: Sharing) -> SysResult<()> {
        let shared = sharing == Sharing::Shared;
        for view in views.iter().filter(|view| view.shared.load(Ordering::Acquire) != shared) {
            view.replace(self.file_pages(view.file_offset, sharing)?)?;
            keep_out_of_dumps(view.mmap.span());
            view.shared.store(shared, Ordering::Release);
        }
        Ok(())
    }
}

/// Whole pages of a region, ready to be mapped.
#[derive(Debug, Clone, Copy)]
pub struct RegionPages<'region> {
    region: &'region Region,
    region_offset: PageAligned,
    file_offset: PageAligned,
    length: PageAligned,
    byte_length: u64,
}

impl RegionPages<'_> {
    pub fn length(&self) -> PageAligned {
        self.length
    }

    pub fn file_offset(&self) -> PageAligned {
        self.file_offset
    }

    pub fn region_offset(&self) -> PageAligned {
        self.region_offset
    }

    pub fn inode(&self) -> u64 {
        self.region.inode
    }

    /// Which mirror they come from when they are shown at this address.
    pub fn grain(&self, address: u64) -> Grain {
        let end = self.region_offset.get().saturating_add(self.byte_length);
        Grain::of(
            address,
            self.file_offset.get(),
            self.length.get(),
            end >= self.region.byte_length,
        )
    }

    /// Whether they can be put in the place of others by one call.
    pub fn is_one_step(&self, sharing: Sharing) -> bool {
        mmap::is_one_step(self.region.is_memory(), sharing)
    }

    /// What the fault guard has to know of it.
    pub fn shown(&self) -> fault::Shown<'_> {
        fault::Shown {
            inode: self.region.inode,
            file_offset: self.file_offset,
            region_offset: self.region_offset,
            region_name: self.region.shared_name(),
        }
    }

    pub fn region(&self) -> &Region {
        self.region
    }

    /// Looks whether the region's descriptor still is what it was made of, and fails with EBADF if
    /// not.
    pub fn as_pages(&self, sharing: Sharing) -> SysResult<Pages<'_>> {
        self.region.file_pages(self.file_offset, sharing)
    }

    /// A file may have shrunk since the region was made, unless a seal forbids it. Pages past the
    /// end would be mapped without complaint and fault when touched.
    pub fn check_file_size(&self) -> Result<()> {
        if self.region.keeps_size {
            return Ok(());
        }
        let what = || format!("can't map region \"{}\"", self.region.name);
        let refused = |sys| Error::from_sys(Code::OpenFailed, what(), sys);
        let fd = self.region.fd.get().map_err(refused)?;
        let now = file::status(fd).map_err(refused)?.byte_length;
        let end = self.file_offset.get().saturating_add(self.byte_length);
        if now < end {
            let path = file::path_of(fd).unwrap_or_default();
            let message = format!(
                "{}: its file, {}, has {now} bytes now, and the range ends at byte {end} of it; open it again",
                what(),
                path.display()
            );
            return Err(Error::new(Code::FileShrunk, message));
        }
        Ok(())
    }
}

/// Large mappings have no place in a core dump: advice, so a refusal changes nothing that matters.
pub fn keep_out_of_dumps(span: PageSpan) {
    let _ = mmap::advise(span, Advice::DontDump);
}

/// A mapping of region pages at an address that the kernel picked, for an ArrayBuffer.
#[derive(Debug)]
pub struct View {
    /// `None` once zeros stand there. Dropped before the pages, so that nobody sees to faults in
    /// addresses that are not ours any more.
    held: Mutex<Option<ViewHeld>>,
    mmap: Mmap,
    /// Bytes from the first page's start to the view's first byte.
    skew: u64,
    byte_length: u64,
    file_offset: PageAligned,
    shared: AtomicBool,
    stand_in: bool,
}

/// What a view holds as long as it shows a region.
#[derive(Debug)]
struct ViewHeld {
    registration: Registration,
    /// What it takes of the process's head room.
    _vmas: VmaClaim,
}

impl View {
    /// A view of nothing: it stands for memory that a region holds, for those who count
    /// ArrayBuffers. It takes none.
    pub fn stand_in(byte_length: u64) -> Result<Arc<Self>> {
        let length = PageAligned::round_up(byte_length).unwrap_or_default();
        let view = Self::over(length, Pages::ReadonlyZeros, byte_length)?;
        Ok(Arc::new(Self { stand_in: true, ..view }))
    }

    fn new(pages: &RegionPages<'_>, skew: u64, byte_length: u64, sharing: Sharing) -> Result<Self> {
        let vmas = VmaClaim::take(1)
            .map_err(|full| Error::no_head_room(cannot_view(byte_length), full))?;
        let refused = |sys| Error::from_sys(Code::MapFailed, cannot_view(byte_length), sys);
        let view =
            Self::over(pages.length, pages.as_pages(sharing).map_err(refused)?, byte_length)?;
        keep_out_of_dumps(view.mmap.span());
        // Nobody has the address yet.
        let target = fault::RangeSpec {
            span: view.mmap.span(),
            memory_offset: None,
            is_window: false,
            access: if sharing == Sharing::Shared { Access::Shared } else { Access::Readonly },
            counts: Arc::clone(&pages.region.counts),
            unprotected: Arc::default(),
            proof: Proof::Owned,
        };
        // SAFETY: the range is this view's own mapping, of which Rust makes no references, and it is
        // unmapped after the registration is dropped. JavaScript reads it.
        let registration = unsafe { Registration::new(target, pages.shown()) };
        registration.resume();
        let held = Mutex::new(Some(ViewHeld { registration, _vmas: vmas }));
        let shared = AtomicBool::new(sharing == Sharing::Shared);
        Ok(Self { held, skew, file_offset: pages.file_offset, shared, ..view })
    }

    fn over(length: PageAligned, pages: Pages<'_>, byte_length: u64) -> Result<Self> {
        let mmap = match pages {
            // Where its huge pages can be mapped as such. That takes more address space for a
            // moment.
            Pages::File { offset, .. } if length.get() >= HUGE_PAGE_BYTES => {
                Mmap::new_congruent(length, pages, offset.get())
                    .or_else(|_| Mmap::new(length, pages))
            }
            _ => Mmap::new(length, pages),
        };
        let mmap =
            mmap.map_err(|sys| Error::from_sys(Code::MapFailed, cannot_view(byte_length), sys))?;
        Ok(Self {
            held: Mutex::new(None),
            mmap,
            skew: 0,
            byte_length,
            file_offset: PageAligned::ZERO,
            shared: AtomicBool::new(false),
            stand_in: false,
        })
    }

    /// Whether it stands for memory and is given to nobody.
    pub fn is_stand_in(&self) -> bool {
        self.stand_in
    }

    fn held(&self) -> MutexGuard<'_, Option<ViewHeld>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Other pages, which show the same bytes.
    fn replace(&self, pages: Pages<'_>) -> SysResult<()> {
        let held = self.held();
        if let Some(held) = held.as_ref() {
            held.registration.pause();
        }
        let replaced = mmap::replace(self.mmap.owned(), pages);
        if let Some(held) = held.as_ref() {
            held.registration.resume();
        }
        replaced
    }

    /// Zeros, for good.
    fn blank(&self) -> SysResult<()> {
        self.replace(Pages::Zeros)?;
        *self.held() = None;
        Ok(())
    }

    /// See [`Mmap::abandon`].
    pub fn abandon(&self) {
        let _ = self.blank();
        self.mmap.abandon();
    }

    pub fn address(&self) -> u64 {
        // Inside the mapping: `skew` is less than a page.
        self.mmap.address().saturating_add(self.skew)
    }

    pub fn byte_length(&self) -> u64 {
        self.byte_length
    }
}

/// How a region that can't be written is shown. Where nobody sees to faults, a write must not be
/// one.
fn unwritable() -> Sharing {
    if fault::ensure().is_ok() { Sharing::ReadOnly } else { Sharing::CopyOnWrite }
}

fn not_at_page(byte_offset: u64) -> Error {
    Error::new(
        Code::OutOfRange,
        format!(
            "byteOffset is {byte_offset}; it must be a multiple of the host page size, {}: start at {}",
            host_page_bytes(),
            PageAligned::round_down(byte_offset).get()
        ),
    )
}

fn check_length(byte_length: u64) -> Result<()> {
    if byte_length == 0 {
        return Err(Error::new(Code::OutOfRange, "byteLength is 0; a region has at least 1 byte"));
    }
    // Page arithmetic on its length must not overflow, nor the kernel's signed offsets.
    if byte_length > u64::MAX >> 2 {
        return Err(Error::new(Code::OutOfRange, cannot_allocate(byte_length)));
    }
    Ok(())
}

fn cannot_allocate(byte_length: u64) -> String {
    format!("can't allocate a region of {byte_length} bytes")
}

fn cannot_view(byte_length: u64) -> String {
    format!("can't map a view of {byte_length} bytes")
}

/// How far a load is, and whether it is still wanted. Shared with whoever waits for it.
#[derive(Debug, Default)]
pub struct LoadProgress {
    pub loaded_bytes: AtomicU64,
    pub total_bytes: AtomicU64,
    pub cancelled: AtomicBool,
}

/// Bytes copied between two looks at `cancelled`: a few milliseconds' worth.
const LOAD_STEP_BYTES: u64 = thp::STEP_BYTES;

/// A memfd with a copy of a file's bytes. The file's holes stay holes. Blocks until it is done or
/// cancelled.
pub fn load(
    path: &Path,
    part: Part,
    name: Option<&str>,
    kind: PageKind,
    progress: &LoadProgress,
) -> Result<Region> {
    let what = || format!("can't load {}", file::absolute(path).display());
    let check_cancelled = || check_cancelled(&progress.cancelled);
    check_cancelled()?;
    let fd = open_regular(path, false)?;
    let status = file::status(&fd).map_err(|sys| Error::from_sys(Code::OpenFailed, what(), sys))?;
    let byte_length = resolve_part(part, status.byte_length, &what())?;
    let name = name.map_or_else(|| file_name(path), str::to_owned);
    let mut target = Target::new(byte_length, &name, kind)?;
    progress.total_bytes.store(byte_length, Ordering::Release);

    let end = part.byte_offset.saturating_add(byte_length);
    let read_failed = |sys| Error::from_sys(Code::ReadFailed, what(), sys);
    let mut at = part.byte_offset;
    while let Some((start, stop)) = file::next_data(&fd, at, end).map_err(read_failed)? {
        at = start;
        while at < stop {
            check_cancelled()?;
            let to = at.saturating_sub(part.byte_offset);
            let step = stop.saturating_sub(at).min(LOAD_STEP_BYTES);
            target.prepare(to, step, stop.saturating_sub(part.byte_offset));
            let copied = target.copy(fd.as_fd(), at, to, step).map_err(read_failed)?;
            if copied == 0 {
                return Err(shrunk_while_loading(&what(), at, end));
            }
            at = at.saturating_add(copied);
            progress.loaded_bytes.store(at.saturating_sub(part.byte_offset), Ordering::Release);
        }
    }
    check_cancelled()?;
    let now = file::status(&fd).map_err(read_failed)?.byte_length;
    if now < end {
        return Err(shrunk_while_loading(&what(), now, end));
    }
    let region = target.finish();
    progress.loaded_bytes.store(byte_length, Ordering::Release);
    Ok(region)
}

/// What is loaded into, by the kernel, from file to file.
struct Target {
    region: Region,
    filler: Option<Filler>,
    /// See [`file::copy`].
    ranged: bool,
}

impl Target {
    fn new(byte_length: u64, name: &str, kind: PageKind) -> Result<Self> {
        let region = Region::empty(byte_length, name)?;
        let filler = region.filler(kind == PageKind::Gathered);
        Ok(Self { region, filler, ranged: true })
    }

    /// Before `length` bytes are copied to an offset; data goes on until `stop`.
    fn prepare(&mut self, to: u64, length: u64, stop: u64) {
        let Some(filler) = &mut self.filler else { return };
        // Blocks that begin in this step and hold nothing but data.
        let end = to.saturating_add(length);
        let begun = end.checked_next_multiple_of(HUGE_PAGE_BYTES).unwrap_or(to);
        filler.prepare(to, begun.min(stop));
    }

    fn copy(
        &mut self,
        from: BorrowedFd<'_>,
        from_offset: u64,
        to: u64,
        length: u64,
    ) -> SysResult<u64> {
        file::copy(from, from_offset, self.region.fd.get()?, to, length, &mut self.ranged)
    }

    fn finish(self) -> Region {
        self.region.filled(self.filler);
        self.region
    }
}

fn shrunk_while_loading(what: &str, at: u64, end: u64) -> Error {
    Error::new(
        Code::FileShrunk,
        format!("{what}: the file ended at byte {at} of {end}; it got shorter meanwhile"),
    )
}

pub(crate) fn open_regular(path: &Path, writable: bool) -> Result<OwnedFd> {
    let what = || format!("can't open {}", file::absolute(path).display());
    let fd = file::open_file(path, writable).map_err(|sys| match sys.errno {
        // ENXIO: a socket, or a device without a driver. EISDIR: a directory opened for writing.
        Errno::EISDIR => check_kind(FileKind::Directory, &what()).unwrap_err(),
        Errno::ENXIO => check_kind(FileKind::Socket, &what()).unwrap_err(),
        _ => not_opened(path, what(), sys),
    })?;
    let status = file::status(&fd).map_err(|sys| Error::from_sys(Code::OpenFailed, what(), sys))?;
    check_kind(status.kind, &what())?;
    Ok(fd)
}

/// The error for a path that could not be opened, with a remedy where one is known.
pub(crate) fn not_opened(path: &Path, what: String, sys: SysError) -> Error {
    let error = Error::from_sys(Code::OpenFailed, what, sys);
    let remedy = match sys.errno {
        Errno::ENOENT if path.to_str().is_some_and(|path| path.starts_with('~')) => {
            "; `~` is expanded by shells only: use path.join(os.homedir(), ...)"
        }
        Errno::ENOENT if path.to_str().is_some_and(|path| path.starts_with("file:")) => {
            "; this is a string: for a file: URL pass new URL(...)"
        }
        Errno::ENOENT if path.to_str().is_some_and(|path| path.contains("://")) => {
            "; only files can be opened: fetch the bytes, and pass them to HostRegion.copyFrom"
        }
        Errno::ENOENT
            if file::absolute(path).parent().is_some_and(|folder| !file::exists(folder)) =>
        {
            "; its folder does not exist either"
        }
        Errno::ENOENT if path.is_symlink() => "; it is a symbolic link that leads nowhere",
        Errno::ETXTBSY => {
            "; a program that runs can't be written: open it without `writable`, or load it"
        }
        _ => return error,
    };
    error.reworded(|error| format!("{error}{remedy}"))
}

fn check_kind(kind: FileKind, what: &str) -> Result<()> {
    let found = match kind {
        FileKind::Regular => return Ok(()),
        FileKind::Directory => "a directory",
        FileKind::Pipe => "a pipe",
        FileKind::Socket => "a socket",
        FileKind::Device => "a device",
        FileKind::Other => "not a regular file",
    };
    Err(Error::new(
        Code::NotAFile,
        format!("{what}: it is {found}; only regular files and memfds can be mapped"),
    ))
}

fn resolve_part(part: Part, file_bytes: u64, what: &str) -> Result<u64> {
    if file_bytes == 0 {
        return Err(Error::new(
            Code::EmptyFile,
            format!("{what}: it is empty, so there is nothing to map"),
        ));
    }
    let rest = file_bytes.saturating_sub(part.byte_offset);
    if rest == 0 {
        let message = format!(
            "byteOffset is {}; it must be below the file's size, {file_bytes}",
            part.byte_offset
        );
        return Err(Error::new(Code::OutOfRange, message));
    }
    let byte_length = part.byte_length.unwrap_or(rest);
    if byte_length == 0 || byte_length > rest {
        let message = format!(
            "byteLength is {byte_length}; it must be 1 to {rest}, what the file has from byteOffset {} on",
            part.byte_offset
        );
        return Err(Error::new(Code::OutOfRange, message));
    }
    Ok(byte_length)
}

fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    // The kernel takes names of memfds up to 249 bytes.
    let mut end = name.len().min(200);
    while !name.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    name[..end].to_owned()
}
