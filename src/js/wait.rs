//! Waiting for words of regions.

use super::region::region_of;
use super::{from_count, internal, to_count};
use crate::error::{Error, Refused, RegionError};
use crate::sys::futex::{Ended, Word};
use crate::sys::mmap::{Mmap, Sharing};
use crate::sys::page::PageAligned;
use crate::sys::thread;
use crate::sys::vma_budget::VmaClaim;
use crate::sys::wake::Wake;
use crate::sys::{SysError, SysResult};
use napi::bindgen_prelude::Function;
use napi::threadsafe_function::ThreadsafeFunctionCallMode;
use napi_derive::napi;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A word of a region, for one wait or notification. When it is collected, or its environment ends,
/// the wait is cancelled.
#[napi]
pub struct NativeWord {
    word: Arc<Mapped>,
    cancel: Arc<Wake>,
}

struct Mapped {
    word: Word,
    region_name: Arc<str>,
    _vmas: VmaClaim,
}

#[napi]
impl NativeWord {
    /// lib/ has checked that the word is in the region, at a multiple of 4.
    #[napi(constructor, catch_unwind)]
    pub fn new(region: u32, byte_offset: f64) -> napi::Result<Self> {
        let region = region_of(region)?;
        region.check_not_paged("wait for a word of")?;
        let byte_offset = to_count(byte_offset)?;
        let not_mapped = |refused: Refused| {
            Error::from(RegionError::WordNotMapped { name: region.name().into(), refused })
        };
        let start = PageAligned::round_down(byte_offset);
        let skew = byte_offset
            .checked_sub(start.get())
            .expect("rounding down gives no more than it was given");
        let end_in_page = skew.checked_add(4).expect("a page and 4 bytes are a small number");
        let pages = region.pages(start, end_in_page)?;
        let vmas = VmaClaim::take(1).map_err(|full| not_mapped(full.into()))?;
        // Read-only, it is copy-on-write, of which nothing is ever written: the kernel knows the
        // word by its file.
        let sharing = if region.is_writable() { Sharing::Shared } else { Sharing::ReadOnly };
        let mmap = pages
            .as_pages(sharing)
            .and_then(|file| Mmap::new(pages.length(), file))
            .map_err(|sys| not_mapped(sys.into()))?;
        let word = Word::new(mmap, skew).ok_or_else(|| internal("a word is in its page"))?;
        let region_name = Arc::clone(pages.shown().region_name);
        let word = Arc::new(Mapped { word, region_name, _vmas: vmas });
        Ok(Self { word, cancel: Arc::default() })
    }

    /// Wakes up to so many who wait. Gives how many they were.
    #[napi(catch_unwind)]
    pub fn notify(&self, most: u32) -> napi::Result<f64> {
        let woken = self.word.word.wake(most).map_err(|sys| self.failed(sys))?;
        Ok(from_count(woken))
    }

    /// Waits for so many milliseconds at most; blocks the thread.
    #[napi(catch_unwind)]
    pub fn wait_here(&self, expected: u32, milliseconds: f64) -> napi::Result<u32> {
        let ended = self.word.word.wait_in_slices(expected, deadline(milliseconds), &self.cancel);
        Ok(ended.map(code).map_err(|sys| self.failed(sys))?)
    }

    /// Waits on a thread of its own, and calls back with what came of it: as `wait_here` gives it,
    /// or a negative errno.
    #[napi(catch_unwind)]
    pub fn wait(
        &self,
        expected: u32,
        milliseconds: f64,
        done: Function<'_, i32, ()>,
    ) -> napi::Result<()> {
        let done = done.build_threadsafe_function::<i32>().callee_handled::<false>().build()?;
        let (word, cancel) = (Arc::clone(&self.word), Arc::clone(&self.cancel));
        let deadline = deadline(milliseconds);
        let wait = move || {
            let ended: SysResult<Ended> = word.word.wait(expected, deadline, &cancel);
            // Unmapped before anybody hears of it.
            drop(word);
            let answer = match ended {
                Ok(ended) => i32::try_from(code(ended)).expect("codes are small"),
                Err(sys) => (sys.errno as i32).checked_neg().expect("errors have small numbers"),
            };
            // An environment that is ending waits for nobody.
            done.call(answer, ThreadsafeFunctionCallMode::NonBlocking);
        };
        thread::spawn("hostmap-wait", wait).map_err(|sys| self.failed(sys))?;
        Ok(())
    }

    /// The error for a wait that has failed with an errno on its thread.
    #[napi(catch_unwind)]
    pub fn why(&self, errno: i32) -> napi::Result<()> {
        let errno = nix::errno::Errno::from_raw(errno);
        Err(self.failed(SysError::new("futex_waitv", errno)).into())
    }

    #[napi(catch_unwind)]
    pub fn cancel(&self) {
        self.cancel.call();
    }
}

impl NativeWord {
    fn failed(&self, sys: SysError) -> Error {
        let name = self.word.region_name.as_ref().into();
        Error::from(match sys.errno {
            nix::errno::Errno::EFAULT => RegionError::WordGone { name, sys },
            _ => RegionError::WordRefused { name, refused: sys.into() },
        })
    }
}

impl Drop for NativeWord {
    fn drop(&mut self) {
        self.cancel.call();
    }
}

/// `None`: never, or so far away that nobody will see it.
fn deadline(milliseconds: f64) -> Option<Instant> {
    let left = Duration::try_from_secs_f64(milliseconds / 1000.0).ok()?;
    Instant::now().checked_add(left)
}

/// As lib/region/wait.js numbers them.
fn code(ended: Ended) -> u32 {
    match ended {
        Ended::Woken => 0,
        Ended::Changed => 1,
        Ended::TimedOut => 2,
        Ended::Cancelled => 3,
    }
}
