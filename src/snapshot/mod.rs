//! Snapshots: the pages of a linear memory at one moment, and putting them back.
//!
//! # What is kept
//!
//! ```text
//!  memory   |dddddd....dd..........................|mmmmmmmmmm|.......dd..|    d: data  .: zeros  m: a mapping
//!  pieces   |[__________]                          |          |      [__] |    what is laid from the memfd
//!  memfd    |header|dddddd    dd                                      dd  |tail|    sealed; holes take no memory
//! ```
//!
//! Mappings of regions are kept as what they are: which region, where, with what access. Of private
//! ones, the pages that were written are kept too.
//!
//! # Putting it back
//!
//! The first restore of a memory *lays* the pieces: private mappings of the memfd, one `mmap` each,
//! whatever their size. From then on the kernel knows which pages differ from the snapshot: those
//! that were written, which are the process's own pages (`sys/pagemap.rs`); all others are still
//! the memfd's, and shared by all memories that show it. The next restores *clean*: they find the
//! own pages and either copy the snapshot's bytes over them, or drop them.
//!
//! Copying a page takes about 0.1 us, and the next write to it nothing. Dropping it costs as much,
//! and the next write a page fault, which is 1 to 2 us. So the first
//! [`Settings::keep_resident_bytes`] are copied, and what is beyond is dropped, so that no memory
//! keeps more than that once it is clean. Where the kernel can't tell own pages (before 6.7), all
//! are dropped.

mod capture;
mod format;
mod metadata;
mod restore;
mod store;
mod wire;

pub use capture::MappedRegion;
pub use format::Mac;
pub use metadata::{
    About, AddressType, Name, SavedFunction, SavedGlobal, SavedMapping, SavedPart, SavedRun,
    SavedTable, SavedWindow, State, Value, Whose,
};
pub(crate) use restore::Laid;
pub use store::{Loaded, Part};
pub use wire::{List, Text};

use crate::access::Access;
use crate::error::{Code, Error, Result};
use crate::region::{Region, RegionPages};
use crate::share::{self, ShareAccess, Token};
use crate::sys::alloc;
use crate::sys::checked_fd::{CheckedFd, Description};
use crate::sys::mmap::{self, Advice, Mmap, Pages, Sharing};
use crate::sys::page::{HUGE_PAGE_BYTES, PageAligned, PageSpan, WASM_PAGE_BYTES};
use crate::sys::{SysResult, file, memfd};
use crate::window::{Kind, Tail};
use format::{Header, Kept};
use metadata::{Metadata, Spans};
use nix::errno::Errno;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// A mapping or window that a snapshot keeps.
#[derive(Debug, Clone)]
pub struct KeptMapping {
    pub span: PageSpan,
    /// What it shows; `None` for an empty window.
    pub shown: Option<KeptRegion>,
    /// Of a mapping. A window's is that of what it shows.
    pub access: Access,
    /// Whether its place goes back to the free space past the memory's original end.
    pub from_free: bool,
    /// `None` for a mapping.
    pub window: Option<Kind>,
    /// Whether missing pages end its use: for whoever restores it.
    pub strict: bool,
}

/// A range of a region.
#[derive(Debug, Clone)]
pub struct KeptRegion {
    pub region: Arc<Region>,
    /// Of its first page.
    pub byte_offset: PageAligned,
    /// From there on.
    pub byte_length: u64,
    /// Which byte of the first page is the first that the caller asked for.
    pub skip: u64,
}

/// What a caller gives a saved mapping or window.
#[derive(Debug, Clone)]
pub struct Grant {
    /// Of what it shows. `None` for an empty window.
    pub region: Option<Arc<Region>>,
    /// The most that the module may do with it.
    pub access: Access,
}

impl KeptRegion {
    fn pages(&self) -> Result<RegionPages<'_>> {
        self.region.pages(self.byte_offset, self.byte_length)
    }
}

/// How a snapshot is kept and restored.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// How many bytes of written pages a restore copies at most; the pages beyond are dropped.
    pub keep_resident_bytes: u64,
    /// Whether its pages are gathered in huge ones where they can be.
    pub huge_pages: bool,
}

#[derive(Debug)]
pub struct Snapshot {
    /// Tells it from all others of the process, past ones too. Not 0.
    id: u64,
    name: Arc<str>,
    fd: CheckedFd,
    content: Arc<Content>,
    /// Where byte 0 of the memory is in the memfd.
    data_offset: PageAligned,
    byte_length: PageAligned,
    kept: Kept,
    /// What the memfd says of itself; not before it is finished.
    header: OnceLock<Header>,
    /// Of a snapshot that came from elsewhere.
    saved: Vec<SavedMapping>,
    mappings: OnceLock<Vec<KeptMapping>>,
    settings: Settings,
    /// The memfd's pages, to copy from. Empty as long as there was no address space for them.
    image: OnceLock<Image>,
}

/// Where a snapshot's memfd is not all zeros: for a later snapshot of a memory that shows it, since
/// reading its holes would fill them.
#[derive(Debug)]
pub(crate) struct Content {
    inode: u64,
    data_offset: PageAligned,
    /// As offsets in the memory, in order.
    data: Vec<PageSpan>,
}

/// A read-only mapping of what a snapshot holds.
#[derive(Debug)]
struct Image {
    mmap: Mmap,
    /// Which byte of the memory is its first.
    start: PageAligned,
}

impl Image {
    /// Where the bytes of these pages are.
    fn of(&self, span: PageSpan) -> Option<PageAligned> {
        let skew = span.start().checked_sub(self.start)?;
        let address = self.mmap.span().start().checked_add(skew)?;
        let end = address.checked_add(span.length())?;
        (end <= self.mmap.span().end()).then_some(address)
    }
}

fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Where a memory at this address begins in a snapshot's file.
fn data_offset_for(base: PageAligned) -> PageAligned {
    let rest = base.get() % HUGE_PAGE_BYTES;
    let offset = if rest < WASM_PAGE_BYTES { rest.saturating_add(HUGE_PAGE_BYTES) } else { rest };
    PageAligned::round_down(offset)
}

impl Snapshot {
    fn new(
        name: &str,
        fd: OwnedFd,
        description: Description,
        content: Content,
        header: &Header,
        kept: Kept,
        settings: Settings,
    ) -> SysResult<Self> {
        Ok(Self {
            id: next_id(),
            name: name.into(),
            fd: CheckedFd::new(fd, description)?,
            content: Arc::new(content),
            data_offset: header.data_offset,
            byte_length: header.byte_length,
            kept,
            header: OnceLock::new(),
            saved: Vec::new(),
            mappings: OnceLock::new(),
            settings,
            image: OnceLock::new(),
        })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// A descriptor of its memfd that is the caller's.
    pub fn duplicate_fd(&self) -> Result<OwnedFd> {
        self.fd.duplicate().map_err(|sys| {
            let what = format!("can't duplicate the descriptor of snapshot \"{}\"", self.name);
            Error::from_sys(Code::OpenFailed, what, sys)
        })
    }

    /// Offers it to another thread or process.
    pub fn share(&self) -> Result<Token> {
        share::offer(
            &self.fd,
            share::Kind::Snapshot,
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

    /// Bytes of memory that it holds at this moment.
    pub fn resident_bytes(&self) -> u64 {
        self.fd.get().and_then(file::status).map_or(0, |status| status.allocated_bytes)
    }

    pub fn mappings(&self) -> &[KeptMapping] {
        self.mappings.get().map_or(&[], Vec::as_slice)
    }

    /// The mappings of a snapshot that came from elsewhere, as they were saved.
    pub fn saved_mappings(&self) -> &[SavedMapping] {
        &self.saved
    }

    /// Its mappings, as a file would have them: with the access that was granted.
    pub fn described_mappings(&self) -> Result<Vec<SavedMapping>> {
        Ok(self.saved_form::<{ usize::MAX }>()?.into_vec())
    }

    /// Completes a snapshot that was captured: from now on nobody can write it. `about` and `state`
    /// are what the caller wants to know again when it is loaded elsewhere. Gives why that can't
    /// be, if so: then it serves this thread alone.
    pub fn finish(&self, about: About, state: Option<&State>) -> Result<Option<String>> {
        let mut about = about;
        let mut state_bytes = Vec::new();
        if let Some(state) = state.filter(|_| about.unsaveable.is_none()) {
            match wire::encode(state, metadata::MOST_STATE_BYTES)? {
                Some(bytes) => state_bytes = bytes,
                None => {
                    let most = metadata::MOST_STATE_BYTES;
                    let why = format!(
                        "its globals and tables would take more than {most} bytes of a file"
                    );
                    about.unsaveable = Text::new(why);
                }
            }
        }
        let unsaveable = about.unsaveable.as_deref().map(alloc::text).transpose()?;
        let metadata = Metadata {
            about,
            pieces: Spans::of(&self.kept.pieces)?,
            written: Spans::of(&self.kept.written)?,
            free: Spans::of(&self.kept.free)?,
            mappings: self.saved_form()?,
        };
        let most = metadata::most_metadata_bytes(self.byte_length);
        let description = wire::encode(&metadata, most)?.ok_or_else(|| {
            let message = format!(
                "the mappings of the memory would take more than {most} bytes in a snapshot"
            );
            Error::new(Code::OutOfRange, message)
        })?;
        let header = Header {
            byte_length: self.byte_length,
            data_offset: self.data_offset,
            metadata_bytes: crate::sys::to_u64(description.len()),
            state_bytes: crate::sys::to_u64(state_bytes.len()),
            checksum: 0,
            mac: Mac::default(),
        };
        self.seal(&header, &[&description, &state_bytes])?;
        Ok(unsaveable)
    }

    /// Writes what the memfd lacks, and closes it to all writers.
    fn seal(&self, header: &Header, description: &[&[u8]]) -> Result<()> {
        let failed = |sys| Error::from_sys(Code::OutOfMemory, "can't complete a snapshot", sys);
        let fd = self.fd.get().map_err(failed)?;
        let mut at = header.metadata_offset();
        for part in description {
            file::write_all(fd, at, part).map_err(failed)?;
            at = at.saturating_add(crate::sys::to_u64(part.len()));
        }
        file::write_all(fd, 0, &header.encode()).map_err(failed)?;
        memfd::seal_size(fd).map_err(failed)?;
        memfd::seal_write(fd).map_err(failed)?;
        self.header
            .set(*header)
            .map_err(|_| Error::new(Code::Internal, "the snapshot is complete already"))?;
        if self.settings.huge_pages {
            self.gather();
        }
        Ok(())
    }

    fn saved_form<const MOST: usize>(&self) -> Result<List<SavedMapping, MOST>> {
        let mut saved = alloc::with_room(self.mappings().len())?;
        for kept in self.mappings() {
            let shown = kept.shown.as_ref().map(|shown| {
                Ok::<_, Error>(SavedPart {
                    // Names are shorter: of memfds by our own bound, of files by the kernel's.
                    region_name: Text::new(alloc::text(shown.region.name())?).unwrap_or_default(),
                    byte_offset: shown.byte_offset.get().saturating_add(shown.skip),
                    byte_length: shown.byte_length.saturating_sub(shown.skip),
                })
            });
            saved.push(SavedMapping {
                address: kept.span.start().get(),
                byte_length: kept.span.length().get(),
                access: kept.access,
                shown: shown.transpose()?,
                window: kept.window.map(|kind| SavedWindow {
                    access: kind.access,
                    tail_traps: kind.rest == Tail::Inaccessible,
                }),
                from_free: kept.from_free,
                strict: kept.strict,
            });
        }
        List::new(saved).ok_or_else(|| {
            Error::new(
                Code::OutOfRange,
                format!("a snapshot keeps at most {MOST} mappings and windows"),
            )
        })
    }

    /// Gathers the memfd's pages in huge ones where they are dense. What a memory has read of them
    /// is one entry of its page tables then for 2 MiB, and costs a restore nothing. Best effort.
    fn gather(&self) {
        let Some(image) = self.image() else { return };
        // Only blocks that hold data are looked at: a hostile file may be one large hole.
        let huge = PageAligned::new(HUGE_PAGE_BYTES);
        let mut block_of: Option<PageSpan> = None;
        let mut held = 0_u64;
        let collapse = |block: Option<PageSpan>, held: u64| {
            // Where a quarter is missing, the memory that it would take is worth more.
            let Some(block) =
                block.filter(|_| held.saturating_mul(4) >= HUGE_PAGE_BYTES.saturating_mul(3))
            else {
                return true;
            };
            // EINVAL: the system has none. Else this block can't be had now.
            !mmap::advise(block, Advice::Collapse).is_err_and(|sys| sys.errno == Errno::EINVAL)
        };
        for span in &self.content.data {
            let Some(mut part) =
                image.of(*span).and_then(|start| PageSpan::new(start, span.length()))
            else {
                return;
            };
            loop {
                let start = part.start().get().saturating_sub(part.start().get() % HUGE_PAGE_BYTES);
                let block = PageAligned::new(start)
                    .zip(huge)
                    .and_then(|(start, huge)| PageSpan::new(start, huge));
                let Some(block) = block else { return };
                if block_of != Some(block) {
                    if !collapse(block_of, held) {
                        return;
                    }
                    held = 0;
                    block_of = block.within(image.mmap.span()).filter(|inside| *inside == block);
                }
                let inside = part.within(block).map_or(0, |inside| inside.length().get());
                held = held.saturating_add(inside);
                match PageSpan::between(block.end(), part.end()) {
                    Some(rest) => part = rest,
                    None => break,
                }
            }
        }
        collapse(block_of, held);
    }

    /// Gives the mappings of a loaded snapshot their regions. It has none before. What a mapping or
    /// window may do is the lesser of what it could and what is granted.
    pub fn grant(&self, grants: &[Grant]) -> Result<()> {
        if grants.len() != self.saved.len() {
            return Err(Error::new(Code::Internal, "each saved mapping needs a grant"));
        }
        let mut mappings = alloc::with_room(grants.len())?;
        for (saved, grant) in self.saved.iter().zip(grants) {
            mappings.push(self.granted(saved, grant)?);
        }
        self.set_mappings(mappings)
    }

    fn granted(&self, saved: &SavedMapping, grant: &Grant) -> Result<KeptMapping> {
        let at_most = |access: Access| access.min(grant.access);
        let span = saved.span().ok_or_else(|| format::invalid("a mapping lies nowhere"))?;
        let access = at_most(saved.access);
        let mismatch = |why: String| {
            let message = format!("the mapping at {} {why}", saved.address);
            Error::new(Code::SnapshotMismatch, message)
        };
        let shown = match (&saved.shown, &grant.region) {
            (None, None) => None,
            (Some(part), Some(region)) => {
                let shown = KeptRegion {
                    region: Arc::clone(region),
                    byte_offset: PageAligned::round_down(part.byte_offset),
                    byte_length: part.byte_length.saturating_add(part.skip()),
                    skip: part.skip(),
                };
                let pages = shown.pages()?;
                crate::memory::check_mappable(&pages, access)?;
                if pages.length() > span.length()
                    || saved.window.is_none() && pages.length() < span.length()
                {
                    let (has, takes) = (span.length().get(), pages.length().get());
                    return Err(mismatch(format!(
                        "has {has} bytes, and the pages of region \"{}\" take {takes}",
                        region.name()
                    )));
                }
                Some(shown)
            }
            _ => return Err(Error::new(Code::Internal, "a region is missing, or one too many")),
        };
        let first = self.kept.written.partition_point(|written| written.end() <= span.start());
        let is_written = self.kept.written.get(first).is_some_and(|written| written.overlaps(span));
        if access != saved.access && is_written {
            let why = "has pages that were written, which need access 'private'; grant it, or a region without `access`";
            return Err(mismatch(why.to_owned()));
        }
        let kind = |window: SavedWindow| Kind {
            length: span.length(),
            access: at_most(window.access),
            rest: if window.tail_traps { Tail::Inaccessible } else { Tail::Zeros },
        };
        Ok(KeptMapping {
            span,
            shown,
            access,
            from_free: saved.from_free,
            window: saved.window.map(kind),
            strict: saved.strict,
        })
    }

    /// Says what regions the mappings of a loaded snapshot show. It has none before.
    pub fn set_mappings(&self, mappings: Vec<KeptMapping>) -> Result<()> {
        let is_sound = |mapping: &KeptMapping| mapping.span.end() <= self.byte_length;
        let follow = mappings.windows(2).all(|pair| match pair {
            [first, second] => first.span.end() <= second.span.start(),
            _ => true,
        });
        // Writing to others on a restore would end the process.
        let lies_in_one = |written: &PageSpan| {
            let index = mappings.partition_point(|mapping| mapping.span.end() <= written.start());
            let private = mappings.get(index).filter(|mapping| mapping.access.is_copy_on_write());
            private.and_then(|mapping| written.within(mapping.shown_part()?)) == Some(*written)
        };
        if !follow || !mappings.iter().all(is_sound) || !self.kept.written.iter().all(lies_in_one) {
            return Err(format::invalid(
                "its mappings lie over each other or outside of the memory, or written pages outside of private ones",
            ));
        }
        self.mappings
            .set(mappings)
            .map_err(|_| Error::new(Code::Internal, "the snapshot has its mappings already"))
    }

    /// Pages of the memfd for a part of the memory.
    fn pages(&self, span: PageSpan, sharing: Sharing) -> SysResult<Pages<'_>> {
        let overflow = crate::sys::SysError::new("mmap", nix::errno::Errno::EOVERFLOW);
        let offset = self.data_offset.checked_add(span.start()).ok_or(overflow)?;
        Ok(Pages::File { fd: self.fd.get()?, offset, sharing, is_memfd: true })
    }

    /// All that it holds, mapped to be copied from.
    fn image(&self) -> Option<&Image> {
        let make = || {
            let kept = self.kept.all().ok()?;
            let end = kept.iter().map(|span| span.end()).max()?;
            let span = PageSpan::between(kept.first()?.start(), end)?;
            let pages = self.pages(span, Sharing::ReadOnly).ok()?;
            let offset = self.data_offset.checked_add(span.start())?.get();
            let mmap = Mmap::new_congruent(span.length(), pages, offset).ok()?;
            Some(Image { mmap, start: span.start() })
        };
        match self.image.get() {
            Some(image) => Some(image),
            None => {
                let image = make()?;
                Some(self.image.get_or_init(|| image))
            }
        }
    }
}
