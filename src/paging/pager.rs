//! All that is known of the chunks of one region, and what the provider's thread does with them.
//!
//! Chunks are filled, failed and taken out by one thread at a time, which holds `work`. Handlers
//! take no lock: they read words, and change Missing to Requested.

use super::counts::{Counted, Counts, add};
use super::way::Way;
use super::word::{State, Word};
use crate::error::{PagingError, Result};
use crate::sys::checked_fd::CheckedFd;
use crate::sys::mmap::{self, Mmap, Pages, Sharing};
use crate::sys::owned_span::OwnedSpan;
use crate::sys::page::{PageAligned, host_page_bytes};
use crate::sys::requests::{self, Sender};
use crate::sys::vma_budget::VmaClaim;
use crate::sys::words::{Bell, Words};
use crate::sys::{SysError, SysResult, alloc, thread};
use nix::errno::Errno;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Chunks of a region at most: their words take 4 bytes each of address space.
const MOST_CHUNKS: u64 = 1 << 32;

/// The words, and what chunks are filled by.
const VMAS_OF_A_PAGER: u64 = 2;

/// What a pager is made of.
#[derive(Debug, Clone, Copy)]
pub struct Spec {
    pub byte_length: u64,
    /// A multiple of the host page.
    pub chunk_bytes: u64,
    /// How long a touch waits at most.
    pub timeout_milliseconds: u32,
    /// `None`: userfaultfd where it can be had.
    pub by_userfault: Option<bool>,
}

#[derive(Debug)]
pub struct Pager {
    id: u64,
    name: Arc<str>,
    byte_length: u64,
    chunk_bytes: PageAligned,
    pub(super) timeout_milliseconds: u32,
    way: Way,
    pub(super) words: Words,
    pub(super) bell: Bell,
    pub(super) requests: Sender,
    is_closed: AtomicBool,
    /// See [`Pager::refuse_pool`].
    pub(super) refuses_pool: AtomicBool,
    /// The thread whose touches fail at once; 0: none yet.
    server: AtomicUsize,
    /// Handlers that wait.
    pub(super) users: AtomicUsize,
    /// Regions and ranges.
    pub(super) holders: AtomicUsize,
    pub(super) counts: Counts,
    work: Mutex<Vec<Pinned>>,
    _vmas: VmaClaim,
}

/// Chunks that stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pinned {
    first: u64,
    last: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provided {
    Done,
    /// It was there already, and stays as it is.
    Before,
    /// The pager was closed meanwhile.
    Closed,
}

impl Pager {
    /// With the other end of its socket.
    pub(super) fn new(
        spec: Spec,
        name: &Arc<str>,
        memfd: &Arc<CheckedFd>,
    ) -> Result<(Self, OwnedFd)> {
        static NEXT_ID: AtomicU64 = AtomicU64::new(1);
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
        let (sender, receiver) = requests::pair().map_err(not_made)?;
        let pager = Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            name: Arc::clone(name),
            byte_length,
            chunk_bytes: aligned,
            timeout_milliseconds,
            way,
            words: Words::new(count).map_err(not_made)?,
            bell: Bell::default(),
            requests: sender,
            is_closed: AtomicBool::new(false),
            refuses_pool: AtomicBool::new(false),
            server: AtomicUsize::new(0),
            users: AtomicUsize::new(0),
            holders: AtomicUsize::new(0),
            counts: Counts::default(),
            work: Mutex::default(),
            _vmas: vmas,
        };
        Ok((pager, receiver))
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
        self.counts.now()
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
        self.is_closed.load(Ordering::SeqCst)
    }

    /// Whether this is the thread that provides. Safe in handlers.
    pub fn is_served_here(&self) -> bool {
        self.server.load(Ordering::Acquire) == thread::address()
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
        self.words.get(chunk).map(|word| Word::of(word).state())
    }

    pub(super) fn work(&self) -> Work<'_> {
        Work(self.work.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn word(&self, chunk: u64) -> Result<&AtomicU32> {
        let count = self.words.count();
        Ok(self.words.get(chunk).ok_or(PagingError::NoChunk { chunk, count })?)
    }

    /// Changes a word to what `to` makes of it. `None`, where it makes nothing of it; else what it
    /// was.
    fn change(word: &AtomicU32, to: impl Fn(Word) -> Option<Word>) -> Option<Word> {
        loop {
            let now = Word::of(word);
            if now.change(word, to(now)?) {
                return Some(now);
            }
        }
    }

    /// This thread provides from now on: what it touches and is not there fails at once.
    pub fn serve(&self) -> Result<()> {
        let this = thread::address();
        let first = self.server.compare_exchange(0, this, Ordering::AcqRel, Ordering::Acquire);
        first.map(drop).map_err(|_| PagingError::Served { name: self.name.to_string() }.into())
    }

    /// No chunk comes any more. Touches of what is not there fail, those that wait too.
    pub fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
        self.requests.close();
        self.bell.ring_all();
    }

    /// Fills a chunk with `length` bytes of the process at `source`, and wakes those who wait for
    /// it. Where it fails, the chunk is not there.
    pub fn provide(&self, chunk: u64, source: u64, length: u64) -> Result<Provided> {
        let word = self.word(chunk)?;
        let no_chunk = PagingError::NoChunk { chunk, count: self.words.count() };
        let (start, expected) = self.bytes_of(chunk).ok_or(no_chunk)?;
        if length != expected {
            return Err(PagingError::ChunkLength { chunk, length, expected }.into());
        }
        let _work = self.work();
        if self.is_closed() {
            return Ok(Provided::Closed);
        }
        if Word::of(word).state() == State::Present {
            return Ok(Provided::Before);
        }
        self.way.fill(start, source, length).map_err(|sys| PagingError::NotFilled {
            chunk,
            name: self.name.to_string(),
            refused: sys.into(),
        })?;
        Self::change(word, |now| Some(now.with(State::Present)));
        add(&self.counts.provided);
        add(&self.counts.present);
        self.bell.ring(chunk);
        Ok(Provided::Done)
    }

    /// The chunk can't be had now. Touches that wait for it fail; the next one asks again.
    pub fn fail(&self, chunk: u64) -> Result<()> {
        let word = self.word(chunk)?;
        let _work = self.work();
        Self::change(word, |now| match now.state() {
            State::Present | State::Evicting => None,
            State::Missing | State::Requested => Some(now.with(State::Missing).failed_once_more()),
        });
        self.bell.ring(chunk);
        Ok(())
    }

    /// A touch of it is about to fail. False: it has come by now. Either this sees that, or who
    /// provides it sees by [`Self::may_have_zeros`] what took its place. Safe in handlers.
    pub fn begin_failure(&self, chunk: u64) -> bool {
        self.words.get(chunk).is_none_or(|word| Word::mark_zeros(word).state() != State::Present)
    }

    /// Whether there may be zeros in its place.
    pub fn may_have_zeros(&self, chunk: u64) -> bool {
        self.words.get(chunk).is_some_and(|word| Word::of(word).has_zeros())
    }

    /// Claims a chunk that is missing, without a touch. Gives what its state was.
    pub fn request(&self, chunk: u64) -> Result<State> {
        let word = self.word(chunk)?;
        let before = Self::change(word, |now| {
            (now.state() == State::Missing).then(|| now.with(State::Requested))
        });
        Ok(before.unwrap_or_else(|| Word::of(word)).state())
    }

    /// The states of so many chunks.
    pub fn states(&self, first: u64, count: u64) -> Result<Vec<u8>> {
        let end = first.checked_add(count).filter(|end| *end <= self.words.count());
        let end = end.ok_or(PagingError::NoChunk { chunk: first, count: self.words.count() })?;
        let states = (first..end).filter_map(|chunk| self.state(chunk)).map(|state| state as u8);
        Ok(alloc::collected(states)?)
    }

    fn check_range(&self, first: u64, last: u64) -> Result<Pinned> {
        self.word(last)?;
        if first > last {
            return Err(PagingError::NoChunk { chunk: first, count: self.words.count() }.into());
        }
        Ok(Pinned { first, last })
    }

    /// These chunks are not taken out until they are unpinned as often.
    pub fn pin(&self, first: u64, last: u64) -> Result<()> {
        let pinned = self.check_range(first, last)?;
        alloc::push(&mut self.work().0, pinned)?;
        Ok(())
    }

    /// False: they are not pinned.
    pub fn unpin(&self, first: u64, last: u64) -> Result<bool> {
        let pinned = self.check_range(first, last)?;
        let mut work = self.work();
        let at = work.0.iter().position(|it| *it == pinned);
        Ok(at.map(|at| work.0.swap_remove(at)).is_some())
    }

    /// Begins to take a chunk out: from now on, touches of what is gone wait. `None`: it is not
    /// there, or pinned.
    pub fn begin_eviction(&self, chunk: u64) -> Result<Option<Eviction<'_>>> {
        let word = self.word(chunk)?;
        let work = self.work();
        if work.0.iter().any(|pinned| (pinned.first..=pinned.last).contains(&chunk)) {
            return Ok(None);
        }
        let begun = Self::change(word, |now| {
            (now.state() == State::Present).then(|| now.with(State::Evicting))
        });
        Ok(begun.map(|_| Eviction { pager: self, chunk, ends_as: State::Present, _work: work }))
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
pub(super) struct Work<'a>(MutexGuard<'a, Vec<Pinned>>);

/// A chunk that is being taken out. Dropped before [`Self::finish`], it stays.
pub struct Eviction<'a> {
    pager: &'a Pager,
    chunk: u64,
    ends_as: State,
    _work: Work<'a>,
}

impl Eviction<'_> {
    /// No mapping shows it any more: takes its pages out of the memfd. Where that fails, it counts
    /// as missing, since some of them may be gone.
    pub fn finish(mut self) -> SysResult<()> {
        self.ends_as = State::Missing;
        let counts = &self.pager.counts;
        add(&counts.evicted);
        let present = counts.present.load(Ordering::Relaxed).min(1);
        counts.present.fetch_sub(present, Ordering::Relaxed);
        match self.pager.bytes_of(self.chunk) {
            Some((start, length)) => self.pager.way.punch(start, length),
            None => Ok(()),
        }
    }
}

impl Drop for Eviction<'_> {
    fn drop(&mut self) {
        if let Some(word) = self.pager.words.get(self.chunk) {
            Pager::change(word, |now| Some(now.with(self.ends_as)));
        }
        self.pager.bell.ring(self.chunk);
    }
}
