//! All that is known of the chunks of one region, and what the provider's thread does with them.
//!
//! Chunks are filled, failed and taken out by one thread at a time, which holds `work`. Handlers
//! take no lock: they read words, and change Missing to Requested.
//!
//! The pager of a *receiver* shows a region of another pager, in another process as a rule. It
//! reads that one's words, and writes none.

use super::counts::{Counted, Counts, add};
use super::head;
use super::spec::{MOST_CHUNKS, Spec};
use super::way::Way;
use super::word::{State, Word};
use super::work::Works;
use crate::error::{PagingError, Result};
use crate::sys::checked_fd::{CheckedFd, Description};
use crate::sys::lock::{Guard, Level, Lock};
use crate::sys::mmap::{self, Mmap, Pages, Sharing};
use crate::sys::owned_span::OwnedSpan;
use crate::sys::page::{PageAligned, host_page_bytes};
use crate::sys::requests::{self, Sender};
use crate::sys::vma_budget::VmaClaim;
use crate::sys::words::{Bell, Words};
use crate::sys::{SysError, SysResult, alloc, thread, to_u64};
use nix::errno::Errno;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// The words, and what chunks are filled by.
const VMAS_OF_A_PAGER: u64 = 2;

#[derive(Debug)]
enum Role {
    /// `words`: by which others read them.
    Owner { words: CheckedFd },
    /// `calls`: what the provider's thread is asked by, until somebody takes it.
    Receiver { calls: Lock<Option<OwnedFd>> },
}

/// What another process has sent for a region.
#[derive(Debug)]
pub struct Sent {
    pub words: OwnedFd,
    /// Where chunks' numbers are written to.
    pub touches: OwnedFd,
    pub calls: OwnedFd,
}

#[derive(Debug)]
pub struct Pager {
    id: u64,
    pub(super) name: Arc<str>,
    byte_length: u64,
    chunk_bytes: PageAligned,
    pub(super) timeout_milliseconds: u32,
    pub(super) way: Way,
    pub(super) words: Words,
    pub(super) requests: Sender,
    is_closed: AtomicBool,
    role: Role,
    /// Handlers that wait.
    pub(super) users: AtomicUsize,
    /// Regions and ranges.
    pub(super) holders: AtomicUsize,
    pub(super) counts: Counts,
    work: Lock<Works>,
    _vmas: VmaClaim,
}

impl Pager {
    /// With the other end of its socket.
    pub(super) fn new(
        spec: Spec,
        name: &Arc<str>,
        memfd: &Arc<CheckedFd>,
    ) -> Result<(Self, OwnedFd)> {
        let Spec { byte_length, chunk_bytes, timeout_milliseconds, by_userfault } = spec;
        let page = host_page_bytes();
        let refused = PagingError::ChunkBytes { chunk_bytes, page };
        let aligned = PageAligned::new(chunk_bytes).filter(|bytes| bytes.get() > 0);
        let aligned = aligned.ok_or(refused)?;
        let count = byte_length.div_ceil(chunk_bytes);
        if count > MOST_CHUNKS {
            return Err(PagingError::TooManyChunks { chunk_bytes, byte_length, count }.into());
        }
        let vmas = VmaClaim::take(VMAS_OF_A_PAGER)
            .map_err(|full| PagingError::NotMade { refused: full.into() })?;
        let not_made = |sys: SysError| PagingError::NotMade { refused: sys.into() };
        let length = PageAligned::round_up(byte_length).expect("a region ends below 2^63");
        let way = Way::new(memfd, length, by_userfault).map_err(not_made)?;
        let (requests, receiver) = requests::pair().map_err(not_made)?;
        let (words, fd) = Words::new(count).map_err(not_made)?;
        head::write(&words, &spec, way.is_userfault(), memfd);
        let fd = CheckedFd::new(fd, Description::Ours).map_err(not_made)?;
        let role = Role::Owner { words: fd };
        let parts = Parts { name, chunk_bytes: aligned, way, words, requests, role, vmas };
        Ok((Self::of(parts, byte_length, timeout_milliseconds), receiver))
    }

    /// Over what another process has sent. `by_userfault`: whether that process was told so.
    pub(super) fn received(
        name: &Arc<str>,
        memfd: &Arc<CheckedFd>,
        byte_length: u64,
        sent: Sent,
        by_userfault: bool,
    ) -> Result<Self> {
        let vmas = VmaClaim::take(VMAS_OF_A_PAGER)
            .map_err(|full| PagingError::NotMade { refused: full.into() })?;
        let made = || {
            let (words, spec) = head::read(&sent.words, byte_length, memfd)?;
            // Where its owner fills chunks without userfaultfd, pages that are there may be of
            // chunks that are not.
            let is_userfault = by_userfault && spec.by_userfault == Some(true);
            let way = Way::received(memfd, is_userfault)?;
            let requests = Sender::new(sent.touches)?;
            let role = Role::Receiver { calls: Lock::new(Level::PagerCalls, Some(sent.calls)) };
            let chunk_bytes = PageAligned::round_down(spec.chunk_bytes);
            let parts = Parts { name, chunk_bytes, way, words, requests, role, vmas };
            Ok(Self::of(parts, byte_length, spec.timeout_milliseconds))
        };
        made().map_err(|sys: SysError| PagingError::NotMade { refused: sys.into() }.into())
    }

    fn of(parts: Parts<'_>, byte_length: u64, timeout_milliseconds: u32) -> Self {
        let Parts { name, chunk_bytes, way, words, requests, role, vmas } = parts;
        Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            name: Arc::clone(name),
            byte_length,
            chunk_bytes,
            timeout_milliseconds,
            way,
            words,
            requests,
            is_closed: AtomicBool::new(false),
            role,
            users: AtomicUsize::new(0),
            holders: AtomicUsize::new(0),
            counts: Counts::default(),
            work: Lock::new(Level::PagerWork, Works::default()),
            _vmas: vmas,
        }
    }

    /// What a receiver asks the provider's thread by; once.
    pub fn take_calls(&self) -> Option<OwnedFd> {
        match &self.role {
            Role::Owner { .. } => None,
            Role::Receiver { calls } => calls.lock().take(),
        }
    }

    /// What others read its words by. `None`: it is a receiver's.
    pub(super) fn words_for_others(&self) -> SysResult<Option<OwnedFd>> {
        match &self.role {
            Role::Owner { words } => words.reopen_readonly().map(Some),
            Role::Receiver { .. } => Ok(None),
        }
    }

    /// Whether its provider is another pager's. Safe in handlers.
    pub fn is_received(&self) -> bool {
        matches!(self.role, Role::Receiver { .. })
    }

    pub(super) fn bell(&self) -> Bell<'_> {
        self.words.bell()
    }

    pub fn id(&self) -> u64 {
        self.id
    }

    pub fn is_userfault(&self) -> bool {
        self.way.is_userfault()
    }

    pub fn chunk_bytes(&self) -> u64 {
        self.chunk_bytes.get()
    }

    pub fn chunk_count(&self) -> u64 {
        self.words.count()
    }

    pub fn counted(&self) -> Counted {
        Counted { present: self.words.number(head::PRESENT), ..self.counts.now() }
    }

    /// The memfd of the region, as the process's map shows it.
    pub fn inode(&self) -> u64 {
        self.way.inode()
    }

    /// What stands for chunks that are not there, where there is no userfaultfd. Safe in handlers.
    pub fn empty_inode(&self) -> Option<u64> {
        self.way.empty_inode()
    }

    /// Safe in handlers.
    pub fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::SeqCst) || self.words.number(head::CLOSED) != 0
    }

    /// Whether this is the thread that provides. Safe in handlers.
    pub fn is_served_here(&self) -> bool {
        self.words.number(head::SERVER) == to_u64(thread::address())
            && head::is_of_this_process(&self.words)
    }

    /// The chunk that has a byte of the region. Safe in handlers.
    pub fn chunk_of(&self, region_offset: u64) -> Option<u64> {
        let chunk = region_offset.checked_div(self.chunk_bytes.get())?;
        (chunk < self.words.count()).then_some(chunk)
    }

    /// The bytes of a chunk: where they start, and how many they are. Safe in handlers.
    pub fn bytes_of(&self, chunk: u64) -> Option<(PageAligned, u64)> {
        let start = chunk.checked_mul(self.chunk_bytes.get())?;
        let left = self.byte_length.checked_sub(start).filter(|left| *left > 0)?;
        Some((PageAligned::round_down(start), left.min(self.chunk_bytes.get())))
    }

    /// `None`: there is no such chunk. Safe in handlers.
    pub fn state(&self, chunk: u64) -> Option<State> {
        self.words.load(chunk).map(|word| Word::new(word).state())
    }

    pub(super) fn work(&self) -> Work<'_> {
        self.work.lock()
    }

    /// No chunk comes any more. Touches of what is not there fail, those that wait too. Safe in
    /// handlers.
    pub fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
        self.words.set_number(head::CLOSED, 1);
        // As long as a receiver's end is open, what it shows is not taken out.
        if !self.is_received() {
            self.requests.close();
        }
        self.bell().ring_all();
    }

    /// A touch of it is about to fail. False: it has come by now. Either this sees that, or who
    /// provides it sees by [`Self::may_have_zeros`] what took its place. Safe in handlers.
    pub fn begin_failure(&self, chunk: u64) -> bool {
        match self.words.get(chunk) {
            Some(word) => Word::mark_zeros(word).state() != State::Present,
            // Who provides it can't do anything about zeros in other processes.
            None => self.state(chunk) != Some(State::Present),
        }
    }

    /// The states of so many chunks.
    pub fn states(&self, first: u64, count: u64) -> Result<Vec<u8>> {
        let end = first.checked_add(count).filter(|end| *end <= self.words.count());
        let end = end.ok_or(PagingError::NoChunk { chunk: first, count: self.words.count() })?;
        let states = (first..end).filter_map(|chunk| self.state(chunk)).map(|state| state as u8);
        Ok(alloc::collected(states)?)
    }

    /// Whether pages of it can be mapped.
    pub fn check(&self) -> SysResult<()> {
        self.way.check()
    }

    /// Puts pages of the region in place of others: see [`Self::map`].
    pub fn put(
        &self,
        target: OwnedSpan<'_>,
        offset: PageAligned,
        sharing: Sharing,
    ) -> SysResult<()> {
        if self.way.put(target, offset, sharing)? {
            return Ok(());
        }
        // Where this fails, touches find zeros that nobody has provided. Nobody may see them.
        self.drop_strangers(offset, target.span().length()).map_err(|sys| {
            let _ = mmap::replace(target, Pages::Zeros);
            SysError { removed: true, ..sys }
        })
    }

    /// Takes pages out of the memfd that are of chunks which nobody has provided.
    fn drop_strangers(&self, start: PageAligned, length: PageAligned) -> SysResult<()> {
        // With userfaultfd, nobody who has the lock waits for a gate: see `fault::evict`.
        let _work = self.work();
        self.way.data(start, length, |from, to| {
            let chunks = self.chunk_of(from).zip(self.chunk_of(to.saturating_sub(1)));
            let (first, last) = chunks.ok_or(SysError::new("lseek", Errno::ERANGE))?;
            for chunk in first..=last {
                let is_provided = self.state(chunk) == Some(State::Present);
                if let Some((start, length)) = self.bytes_of(chunk).filter(|_| !is_provided) {
                    if self.is_received() {
                        // Its owner can. Nobody maps it here until then.
                        let _ = self.requests.send(requests::SWEEP | chunk);
                        return Err(SysError::new("fallocate", Errno::EAGAIN));
                    }
                    self.way.punch(start, length)?;
                }
            }
            Ok(())
        })
    }

    /// Maps pages of the region. What is not there raises SIGBUS when it is touched.
    pub fn map(
        &self,
        length: PageAligned,
        offset: PageAligned,
        sharing: Sharing,
    ) -> SysResult<Mmap> {
        self.way.map(length, offset, sharing)
    }

    /// Shows pages of chunks that are present, where there is no userfaultfd. Safe in handlers.
    pub fn show(
        &self,
        target: OwnedSpan<'_>,
        offset: PageAligned,
        sharing: Sharing,
    ) -> SysResult<()> {
        add(&self.counts.shown);
        self.way.show(target, offset, sharing)
    }

    /// The opposite: touches raise SIGBUS again. Safe in handlers.
    pub fn hide(
        &self,
        target: OwnedSpan<'_>,
        offset: PageAligned,
        sharing: Sharing,
    ) -> SysResult<()> {
        self.way.hide(target, offset, sharing)
    }

    /// Puts zeros in place of a missing page of a mapping, without a mapping of their own. EEXIST:
    /// something is there by now. EINVAL: not without userfaultfd. Safe in handlers.
    pub fn put_zero_page(&self, page: OwnedSpan<'_>) -> SysResult<()> {
        self.way.put_zero_page(page)
    }

    /// A touch of what is not there. Safe in handlers.
    pub fn count_fault(&self) {
        add(&self.counts.faults);
    }

    /// A touch that ends in a trap or zeros. Safe in handlers.
    pub fn count_failed(&self) {
        add(&self.counts.failed);
    }
}

/// What one thread at a time may do.
pub(super) type Work<'a> = Guard<'a, Works>;

struct Parts<'a> {
    name: &'a Arc<str>,
    chunk_bytes: PageAligned,
    pub(super) way: Way,
    words: Words,
    requests: Sender,
    role: Role,
    vmas: VmaClaim,
}
