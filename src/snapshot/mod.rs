//! Snapshots: the pages of a linear memory at one moment, and how they are put back.
//!
//! # What is kept
//!
//! ```text
//!  memory   |dddddd....dd................|mmmmmmmm|.......dd..|
//!  pieces   |[__________]                |        |      [__] |
//!  memfd    |header|dddddd    dd                          dd  |metadata|state|
//!
//!  d: data   .: zeros   m: a mapping of a region   [__]: what memories map from the memfd
//! ```
//!
//! The memfd is sealed: nobody can write it or change its length. The pages of the memory in it are
//! the *image*. Holes in it take no memory.
//!
//! Mappings of regions are kept as what they are: which region, where, with what access. Of private
//! mappings, the pages that were written are in the image too.
//!
//! # Putting it back
//!
//! The first restore of a memory maps the pieces: a private mapping of the memfd for each, which is
//! one `mmap` whatever its size. The memory that it is taken of has them at once. From then on the
//! memory *shows* the image, and the kernel knows which pages differ from it: those that were
//! written, which are the process's own pages (`sys/pagemap.rs`). All others are still the
//! memfd's, and all memories that show it share them. The next restores *clean* the memory: they
//! find its own pages, and copy the image's bytes over them or drop them.
//!
//! Copying a page takes about 0.1 us, and the next write to it costs nothing. Dropping a page costs
//! as much, and the next write to it a page fault of 1 to 2 us. So the first
//! [`Settings::keep_resident_bytes`] are copied, and the pages beyond are dropped, which bounds
//! what a clean memory keeps. Where the kernel can't tell own pages (before 6.7), all are dropped.
//!
//! # Where things are
//!
//! ```text
//!  capture.rs   takes a snapshot of a memory      restore.rs   decides how to put it back
//!  adopt.rs     lets that memory share its pages  put_back.rs  changes the memory's pages
//!  complete.rs  describes it, seals the memfd     grant.rs     gives loaded mappings regions
//!  store.rs     files and descriptors             watch.rs     keeps a file from being written
//!  open.rs      the pages of a saved file         leave.rs     a copy's pages for those of a file
//!  copy.rs      bytes, a step at a time           detach.rs    the same of memories in use
//!  ------------------------------------------------------------------------------ Snapshot
//!  own.rs       which pages are a memory's own    format.rs    the header, the digests
//!  image.rs     which pages are in the image      metadata.rs  what a file says: add fields here
//!  spans.rs     lists of page spans               backing.rs   the memfd or file with the image
//! ```
//!
//! This file has the type [`Snapshot`] and what is asked of it. It changes no memory.

mod adopt;
mod backing;
pub mod capture;
pub mod complete;
mod copy;
mod detach;
pub mod format;
pub mod grant;
pub(crate) mod image;
pub mod leave;
pub mod metadata;
pub mod open;
mod own;
mod put_back;
pub mod restore;
mod spans;
pub mod store;
#[cfg(test)]
mod tests;
pub mod watch;

use crate::access::Access;
use crate::error::{Error, Flaw, Result, SnapshotError};
use crate::memory::Populate;
use crate::memory::image::Content;
use crate::memory::window_state::{Tail, WindowSpec};
use crate::region::{Region, RegionPages};
use crate::share::{self, ShareAccess, Token};
use crate::sys::alloc;
use crate::sys::checked_fd::{CheckedFd, Description};
use crate::sys::mmap::{Mmap, Pages, Sharing};
use crate::sys::page::{PageAligned, PageSpan};
use crate::sys::{SysResult, file};
use crate::totals::{self, Held};
use crate::wire::Text;
use backing::Backing;
use format::Header;
use image::{CopySource, Extents, dense_blocks};
use metadata::{SavedMapping, SavedPart, SavedWindow};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// A mapping or window that a snapshot keeps.
#[derive(Debug, Clone)]
pub struct KeptMapping {
    pub span: PageSpan,
    /// What it shows; `None` for an empty window.
    pub shown: Option<KeptRegion>,
    /// A mapping's access. Of a window, the access of what it shows.
    pub access: Access,
    /// Whether its place goes back to the free space past the memory's original end.
    pub from_free: bool,
    /// `None` for a mapping.
    pub window: Option<WindowSpec>,
    /// Whether missing pages end its use.
    pub strict: bool,
    /// When the pages of a mapping are mapped. Not saved.
    pub populate: Populate,
}

/// A range of a region.
#[derive(Debug, Clone)]
pub struct KeptRegion {
    pub region: Arc<Region>,
    /// Where its first page is in the region.
    pub byte_offset: PageAligned,
    /// From there on.
    pub byte_length: u64,
    /// Which byte of the first page is the first that the caller asked for.
    pub skip: u64,
}

impl KeptRegion {
    fn pages(&self) -> Result<RegionPages<'_>> {
        self.region.pages(self.byte_offset, self.byte_length)
    }
}

impl KeptMapping {
    /// The pages that show a region.
    fn shown_part(&self) -> Option<PageSpan> {
        let length = PageAligned::round_up(self.shown.as_ref()?.byte_length)?;
        PageSpan::new(self.span.start(), length)?.within(self.span)
    }

    fn region_pages(&self) -> Result<Option<RegionPages<'_>>> {
        self.shown.as_ref().map(KeptRegion::pages).transpose()
    }

    /// As a file has it.
    fn to_saved(&self) -> Result<SavedMapping> {
        let part = |shown: &KeptRegion| {
            let name = Text::new(alloc::text(shown.region.name())?);
            let asked = shown.byte_offset.get().checked_add(shown.skip);
            let length = shown.byte_length.checked_sub(shown.skip);
            Ok::<_, Error>(SavedPart {
                region_name: name.expect("names of memfds and files are shorter"),
                byte_offset: asked.expect("it is a part of a region"),
                byte_length: length.expect("the length counts the skipped bytes"),
            })
        };
        Ok(SavedMapping {
            address: self.span.start().get(),
            byte_length: self.span.length().get(),
            access: self.access,
            shown: self.shown.as_ref().map(part).transpose()?,
            window: self.window.map(|spec| SavedWindow {
                access: spec.access,
                tail_traps: spec.tail == Tail::Inaccessible,
            }),
            from_free: self.from_free,
            strict: self.strict,
        })
    }
}

/// How a snapshot is kept and restored.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// How many bytes of written pages a restore copies at most. It drops the pages beyond.
    pub keep_resident_bytes: u64,
    /// Whether its pages are gathered in huge ones where they can be.
    pub huge_pages: bool,
}

#[derive(Debug)]
pub struct Snapshot {
    /// Tells it from all others of the process, past ones too. Not 0.
    id: u64,
    name: Arc<str>,
    backing: Backing,
    content: Arc<Content>,
    byte_length: PageAligned,
    extents: Extents,
    /// What the memfd says of itself; empty until the snapshot is complete.
    header: OnceLock<Header>,
    /// The mappings in the file that it was loaded from, until they are granted regions.
    saved: Vec<SavedMapping>,
    mappings: OnceLock<Vec<KeptMapping>>,
    settings: Settings,
    /// Empty until a restore copies from it, and as long as there is no address space for it. The
    /// second is of the copy that took the place of a file.
    copy_sources: [OnceLock<CopySource>; 2],
    _counted: Held,
}

/// A memfd with an image.
struct ImageFd {
    fd: OwnedFd,
    description: Description,
    content: Content,
    byte_length: PageAligned,
    extents: Extents,
}

impl Snapshot {
    fn new(name: &str, image: ImageFd, settings: Settings) -> SysResult<Self> {
        let ImageFd { fd, description, content, byte_length, extents } = image;
        let backing = Backing::Memfd(CheckedFd::new(fd, description)?);
        Ok(Self::with(name, backing, content, byte_length, extents, settings))
    }

    fn with(
        name: &str,
        backing: Backing,
        content: Content,
        byte_length: PageAligned,
        extents: Extents,
        settings: Settings,
    ) -> Self {
        static NEXT_ID: AtomicU64 = AtomicU64::new(1);
        let counted = totals::SNAPSHOTS.hold(content.data_bytes());
        Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            name: name.into(),
            backing,
            content: Arc::new(content),
            byte_length,
            extents,
            header: OnceLock::new(),
            saved: Vec::new(),
            mappings: OnceLock::new(),
            settings,
            copy_sources: [const { OnceLock::new() }; 2],
            _counted: counted,
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// A descriptor of its memfd or file that is the caller's.
    pub fn duplicate_fd(&self) -> Result<OwnedFd> {
        let fd = self.backing.fd();
        fd.and_then(CheckedFd::duplicate).map_err(|sys| {
            let name = self.name.as_ref().to_owned();
            SnapshotError::NotDuplicated { name, refused: sys.into() }.into()
        })
    }

    /// Offers it to another thread or process.
    pub fn share(&self) -> Result<Token> {
        self.check_whole()?;
        let fd = self.backing.fd().map_err(|sys| SnapshotError::NotRead { refused: sys.into() })?;
        share::offer(
            fd,
            (share::Shareable::Snapshot, share::Receivers::One),
            ShareAccess::Readonly,
            0,
            self.byte_length.get(),
            &self.name,
        )
    }

    /// Bytes of the memory that it was taken of.
    pub fn byte_length(&self) -> PageAligned {
        self.byte_length
    }

    /// Bytes of memory that it holds at this moment: none of a file's, which are the system's.
    pub fn resident_bytes(&self) -> u64 {
        let Ok((fd, true)) = self.backing.now() else { return 0 };
        fd.get().and_then(file::status).map_or(0, |status| status.allocated_bytes)
    }

    /// What holds its pages at this moment. `None`: that is gone.
    pub fn file_status(&self) -> Option<file::Status> {
        let (fd, _) = self.backing.now().ok()?;
        fd.get().and_then(file::status).ok()
    }

    /// Refuses a snapshot whose file is not what it was.
    fn check_whole(&self) -> Result<()> {
        if self.backing.is_whole() {
            return Ok(());
        }
        Err(SnapshotError::FileLost { name: self.name.as_ref().to_owned() }.into())
    }

    /// In order. Empty for a loaded snapshot until [`grant::grant`].
    pub fn mappings(&self) -> &[KeptMapping] {
        self.mappings.get().map_or(&[], Vec::as_slice)
    }

    /// Whether its pages are a saved file's.
    pub fn is_of_file(&self) -> bool {
        self.backing.file().is_some()
    }

    /// The mappings of a loaded snapshot, as they were saved.
    pub fn saved_mappings(&self) -> &[SavedMapping] {
        &self.saved
    }

    /// Its mappings as a file has them, with the access that was granted.
    pub fn described_mappings(&self) -> Result<Vec<SavedMapping>> {
        let mut described = alloc::with_room(self.mappings().len())?;
        for kept in self.mappings() {
            described.push(kept.to_saved()?);
        }
        Ok(described)
    }

    /// Says what its mappings show. It is said once.
    pub fn set_mappings(&self, mappings: Vec<KeptMapping>) -> Result<()> {
        let is_inside = |mapping: &KeptMapping| mapping.span.end() <= self.byte_length;
        let are_in_order = mappings.windows(2).all(|pair| match pair {
            [first, second] => first.span.end() <= second.span.start(),
            _ => true,
        });
        // A restore writes these pages. A write to another kind of mapping would end the process.
        let is_in_private = |written: &PageSpan| {
            let index = mappings.partition_point(|mapping| mapping.span.end() <= written.start());
            let private = mappings.get(index).filter(|mapping| mapping.access.is_copy_on_write());
            private.and_then(|mapping| written.within(mapping.shown_part()?)) == Some(*written)
        };
        if !are_in_order || !mappings.iter().all(is_inside) {
            return Err(Flaw::Mappings.into());
        }
        if !self.extents.written.iter().all(is_in_private) {
            return Err(Flaw::WrittenPages.into());
        }
        self.mappings
            .set(mappings)
            .map_err(|_| Error::Defect("the snapshot has its mappings already"))
    }

    /// The image's pages for a part of the memory.
    fn pages(&self, span: PageSpan, sharing: Sharing) -> SysResult<Pages<'_>> {
        let (fd, is_memfd) = self.backing.now()?;
        let offset = self.file_offset(span.start());
        Ok(Pages::File { fd: fd.get()?, offset, sharing, is_memfd })
    }

    /// Where this byte of the memory is in the memfd.
    fn file_offset(&self, at: PageAligned) -> PageAligned {
        self.content.data_offset.checked_add(at).expect("an image ends far below 2^64")
    }

    /// Gathers its pages in huge ones, if that was asked for. Best effort.
    fn gather(&self) {
        if self.settings.huge_pages
            && let Ok(blocks) = dense_blocks(self.content.in_file())
            && !blocks.is_empty()
            && let Some(source) = self.copy_source()
        {
            source.gather(&blocks, &self.content);
        }
    }

    /// The whole image, mapped. `None`: there is no address space for it.
    fn copy_source(&self) -> Option<&CopySource> {
        let is_copy = self.backing.file().is_some_and(|file| file.copy().is_some());
        let source = self.copy_sources.get(usize::from(is_copy)).expect("there are two");
        if let Some(source) = source.get() {
            return Some(source);
        }
        let extents = self.extents.all().ok()?;
        let span = PageSpan::between(extents.first()?.start(), extents.last()?.end())?;
        let pages = self.pages(span, Sharing::ReadOnly).ok()?;
        let offset = self.file_offset(span.start()).get();
        let mmap = Mmap::new_congruent(span.length(), pages, offset).ok()?;
        let file = self.backing.file().filter(|_| !is_copy);
        let offset = self.file_offset(span.start());
        Some(source.get_or_init(|| CopySource::new(mmap, span.start(), file, offset)))
    }
}
