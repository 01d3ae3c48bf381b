//! What the provider's thread does with chunks: it fills them, fails them and takes them out, one
//! thread at a time. Not for handlers.

use super::counts::add;
use super::head;
use super::pager::{Pager, Work};
use super::word::{State, Word};
use super::work::Pinned;
use crate::error::{PagingError, Result};
use crate::sys::{SysError, SysResult, alloc, thread, to_u64};
use std::sync::atomic::AtomicU32;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provided {
    Done,
    /// It was there already, and stays as it is.
    Before,
    /// The pager was closed meanwhile.
    Closed,
}

impl Pager {
    /// For its owner's provider.
    fn word(&self, chunk: u64) -> Result<&AtomicU32> {
        let count = self.words.count();
        if self.is_received() {
            return Err(PagingError::Elsewhere { name: self.name.to_string() }.into());
        }
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
        let _work = self.work();
        if self.is_received() || self.words.number(head::SERVER) != 0 {
            return Err(PagingError::Served { name: self.name.to_string() }.into());
        }
        self.words.set_number(head::SERVER, to_u64(thread::address()));
        Ok(())
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
        // Under the lock.
        let present = self.words.number(head::PRESENT);
        self.words.set_number(head::PRESENT, present.saturating_add(1));
        self.bell().ring(chunk);
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
        self.bell().ring(chunk);
        Ok(())
    }

    /// Somebody elsewhere waits for it.
    pub fn told(&self, chunk: u64) -> Result<()> {
        let word = self.word(chunk)?;
        Self::change(word, |now| match now.state() {
            State::Present | State::Evicting => None,
            State::Missing | State::Requested => Some(now.with(State::Requested).told()),
        });
        Ok(())
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
        alloc::push(&mut self.work().pinned, pinned)?;
        Ok(())
    }

    /// False: they are not pinned.
    pub fn unpin(&self, first: u64, last: u64) -> Result<bool> {
        let pinned = self.check_range(first, last)?;
        let mut work = self.work();
        let at = work.pinned.iter().position(|it| *it == pinned);
        Ok(at.map(|at| work.pinned.swap_remove(at)).is_some())
    }

    /// Begins to take a chunk out: from now on, touches of what is gone wait. `None`: it is not
    /// there, or pinned.
    pub fn begin_eviction(&self, chunk: u64) -> Result<Option<Eviction<'_>>> {
        let word = self.word(chunk)?;
        let work = self.work();
        if self.is_closed() || !work.lets_go(chunk) {
            return Ok(None);
        }
        let begun = Self::change(word, |now| {
            (now.state() == State::Present).then(|| now.with(State::Evicting))
        });
        Ok(begun.map(|_| Eviction { pager: self, chunk, ends_as: State::Present, _work: work }))
    }

    /// Takes out pages of a chunk that somebody elsewhere has made, and nobody provided.
    pub fn sweep(&self, chunk: u64) -> Result<()> {
        let word = self.word(chunk)?;
        let _work = self.work();
        let is_provided = matches!(Word::of(word).state(), State::Present | State::Evicting);
        if let Some((start, length)) = self.bytes_of(chunk).filter(|_| !is_provided) {
            let refused = |sys: SysError| PagingError::NotEvicted { chunk, refused: sys.into() };
            self.way.punch(start, length).map_err(refused)?;
        }
        Ok(())
    }
}

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
        add(&self.pager.counts.evicted);
        let words = &self.pager.words;
        words.set_number(head::PRESENT, words.number(head::PRESENT).saturating_sub(1));
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
        self.pager.bell().ring(self.chunk);
    }
}
