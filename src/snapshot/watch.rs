//! Watches the files of opened snapshots, so that what is written to one never shows in a memory.
//!
//! # The promise, and what keeps it
//!
//! A private mapping of a file shows what others write to it later, until its pages are copied, and
//! loses its pages, written ones too, where the file gets shorter. So a snapshot is opened only
//! where the kernel gives us a *lease* on the file (`sys/lease.rs`): as long as we have it, a
//! process that opens the file for writing or truncates it waits. Then:
//!
//! ```text
//!  another process       the thread here                       threads with memories
//!  opens for writing
//!  waits ..............  hears of it
//!   .                    copies the file to a sealed memfd
//!   .                    calls them .......................... each puts the memfd's pages in the
//!   .                                                          place of the file's (`leave.rs`)
//!   .                    gives the lease back ................ and says so
//!  goes on
//! ```
//!
//! From then on the snapshot is one in a memfd, as a loaded one. To replace or remove the file's
//! name needs none of that: the inode that we have stays as it is. Each snapshot that was opened
//! has a lease of its own.
//!
//! What is checked of a file is checked after the lease was had. Nothing can be mapped before.
//!
//! # Where a thread does not answer
//!
//! A thread that is in a long call does not answer, nor one that itself waits to write the file. So
//! after a second the memories are taken off the file without their threads (`detach.rs`), which
//! costs a thread that is writing to one a pause. Private copies of the pages (MADV_POPULATE_WRITE)
//! would not do: who makes the file shorter takes them away too, and what is written then would
//! show.
//!
//! Where that fails too, for lack of memory, it is tried again until the kernel is about to take
//! the lease away, after 45 seconds (`fs.lease-break-time`). Then the process ends.
//!
//! # What gets past it
//!
//! - `open(O_RDONLY | O_TRUNC)` empties a file whatever leases it has. Nothing foreign shows: the
//!   pages are gone, and an access is a missing page's, as of a mapping (`fault/missing.rs`). The
//!   next restore, copy or writer finds that the file is too short.
//! - A process that was stopped for longer than the kernel waits: the lease is gone when it goes
//!   on. It is ended as soon as that is seen.
//! - Who writes to the disk below the file system, or the medium itself.

use super::backing::copy_of;
use super::detach::detach;
use crate::memory::leased::LeasedFile;
use crate::sys::lease::{self, Watcher};
use crate::sys::lock::{Guard, Level, Lock};
use crate::sys::mmap::{self, Hint};
use crate::sys::page::{PageAligned, PageSpan};
use crate::sys::{SysError, SysResult, process, process_map, thread};
use nix::errno::Errno;
use std::os::fd::BorrowedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak, mpsc};
use std::time::{Duration, Instant};

/// How often threads that have been called are looked after.
const LOOK: Duration = Duration::from_millis(5);
/// When those that have not answered are called again: one may have had no memory for it.
const AGAIN: Duration = Duration::from_secs(1);
/// How long before the kernel takes a lease away nobody is waited for any more.
const MARGIN: Duration = Duration::from_secs(10);
/// How long threads are waited for where the kernel waits for ever.
const LONG: Duration = Duration::from_secs(35);
/// When their memories are taken off the file without them.
const SOON: Duration = Duration::from_secs(1);

/// Calls a thread that may have memories that show files. It calls [`leave`](super::leave::leave)
/// for all of them, and then [`left`] with the number. False: the thread is gone.
pub type Call = Arc<dyn Fn(u64) -> bool + Send + Sync>;

static WATCH: Lock<Watch> = Lock::new(
    Level::SnapshotFiles,
    Watch { watcher: None, files: Vec::new(), threads: Vec::new(), next_thread: 1, round: 0 },
);

fn watch() -> Guard<'static, Watch> {
    WATCH.lock()
}

struct Watch {
    /// Once the thread runs.
    watcher: Option<Watcher>,
    files: Vec<Watched>,
    threads: Vec<Called>,
    next_thread: u64,
    /// How often threads were called.
    round: u64,
}

struct Watched {
    file: Weak<LeasedFile>,
    wanted: Option<Wanted>,
}

/// Somebody waits to write the file.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    since: Instant,
    /// `None`: there is no copy yet.
    call: Option<LastCall>,
    /// No memory shows it any more.
    is_left: bool,
}

/// When all threads were called last, and by which number.
#[derive(Debug, Clone, Copy)]
struct LastCall {
    round: u64,
    at: Instant,
}

struct Called {
    id: u64,
    call: Call,
    /// The last call that it has answered.
    answered: u64,
}

/// Takes note of a thread that opens snapshots, and gives its number.
pub fn listen(call: Call) -> u64 {
    let mut watch = watch();
    let id = watch.next_thread;
    watch.next_thread = id.checked_add(1).expect("no process has so many threads");
    let answered = watch.round;
    watch.threads.push(Called { id, call, answered });
    id
}

/// The thread ends, and its memories with it.
pub fn forget(id: u64) {
    watch().threads.retain(|thread| thread.id != id);
}

/// A thread's answer to its call of that number: none of its memories shows a file any more that
/// has a copy.
pub fn left(id: u64, round: u64) {
    let mut watch = watch();
    if let Some(thread) = watch.threads.iter_mut().find(|thread| thread.id == id) {
        thread.answered = thread.answered.max(round);
    }
}

/// Takes a lease on a file, which [`begin`] then watches.
pub(super) fn take_lease(fd: BorrowedFd<'_>) -> SysResult<()> {
    let mut watch = watch();
    let watcher = match watch.watcher {
        Some(watcher) => watcher,
        None => *watch.watcher.insert(start()?),
    };
    drop(watch);
    lease::take(fd, watcher)
}

fn start() -> SysResult<Watcher> {
    let (tell, told) = mpsc::channel();
    thread::spawn("hostmap-leases", move || {
        let _ = tell.send(Watcher::this_thread());
        run();
    })?;
    told.recv().map_err(|_| SysError::new("clone", Errno::EAGAIN))
}

/// Watches a file that has a lease.
pub(super) fn begin(file: &Arc<LeasedFile>) {
    let mut watch = watch();
    watch.files.push(Watched { file: Arc::downgrade(file), wanted: None });
    // It may be wanted already.
    if let Some(watcher) = watch.watcher {
        watcher.wake();
    }
}

fn run() {
    let mut most = None;
    loop {
        lease::wait(most);
        most = look_after_all().then_some(LOOK);
    }
}

/// Whether any file is wanted and not left yet.
fn look_after_all() -> bool {
    // Not under the lock: a copy takes long.
    let mut files = std::mem::take(&mut watch().files);
    files.retain_mut(|watched| match watched.file.upgrade() {
        // After a panic it is tried again: a file that nobody watches would be written.
        Some(file) => {
            let look = AssertUnwindSafe(|| look_after(&file, &mut watched.wanted));
            catch_unwind(look).unwrap_or(true)
        }
        None => false,
    });
    let is_any_wanted = files.iter().any(|watched| watched.wanted.is_some());
    watch().files.append(&mut files);
    is_any_wanted
}

/// False: nothing is left to be done for this file.
fn look_after(file: &LeasedFile, wanted: &mut Option<Wanted>) -> bool {
    let Ok(fd) = file.fd.get() else {
        // Other code of this process has closed the descriptor, and nobody hears of writers now.
        // There may be a copy. Else what is written shows nowhere while the file gets no shorter.
        if detach(file).is_err() {
            make_private(file);
        }
        file.give_back();
        return false;
    };
    if wanted.is_none() && !lease::is_wanted(fd) {
        return true;
    }
    let wanted =
        wanted.get_or_insert_with(|| Wanted { since: Instant::now(), call: None, is_left: false });
    if file.copy().is_none()
        && let Ok(copy) = copy_of(file)
    {
        file.set_copy(copy);
    }
    let have_answered = wanted.call.is_some_and(|call| have_all_answered(call.round));
    let is_old = wanted.call.is_none_or(|call| call.at.elapsed() >= AGAIN);
    if file.copy().is_some() && !have_answered && is_old {
        wanted.call = Some(LastCall { round: call_all(), at: Instant::now() });
    }
    let have_answered = wanted.call.is_some_and(|call| have_all_answered(call.round));
    let waited = wanted.since.elapsed();
    let is_late = waited >= patience();
    // Late is also where the kernel waits for less than a second or two.
    let is_due = is_late || waited >= SOON && is_old;
    wanted.is_left = wanted.is_left || have_answered || is_due && detach(file).is_ok();
    if !is_late && (!wanted.is_left || file.is_read()) {
        return true;
    }
    if !wanted.is_left {
        process::end(
            "wasm-hostmap: the file of a snapshot is about to be written, memories show it, and there is no memory for a copy of its pages",
        );
    }
    // Told before others can write.
    file.give_back();
    if !lease::give_back(fd) {
        process::end(
            "wasm-hostmap: the file of a snapshot may have been written while memories showed it",
        );
    }
    false
}

fn patience() -> Duration {
    let Some(time) = lease::break_time() else { return LONG };
    time.saturating_sub(MARGIN).max(time.checked_div(2).expect("2 is not 0"))
}

/// Calls all threads, and gives the number of the call.
fn call_all() -> u64 {
    let mut watch = watch();
    let round = watch.round.checked_add(1).expect("there are fewer writers");
    watch.round = round;
    let calls: Vec<(u64, Call)> =
        watch.threads.iter().map(|thread| (thread.id, Arc::clone(&thread.call))).collect();
    drop(watch);
    // Without the lock: an environment that is ending waits for nobody.
    for (id, call) in calls {
        if !call(round) {
            forget(id);
        }
    }
    round
}

fn have_all_answered(round: u64) -> bool {
    watch().threads.iter().all(|thread| thread.answered >= round)
}

/// Makes private copies of all pages that this process shows of a file, used or not.
fn make_private(file: &LeasedFile) {
    let mut spans = Vec::new();
    let found = process_map::for_each(|vma| {
        let span = PageAligned::new(vma.start).zip(PageAligned::new(vma.end));
        if vma.inode == file.inode && vma.writable {
            spans.extend(span.and_then(|(start, end)| PageSpan::between(start, end)));
        }
    });
    let done = found.and_then(|()| {
        spans.into_iter().try_for_each(|span| match mmap::hint(span, Hint::PrivateCopies) {
            // It was unmapped meanwhile.
            Err(sys) if matches!(sys.errno, Errno::ENOMEM | Errno::EFAULT) && !is_mapped(span) => {
                Ok(())
            }
            done => done,
        })
    });
    if done.is_err() {
        process::end(
            "wasm-hostmap: the file of a snapshot is about to be written, memories show it, and there is no memory for copies of its pages",
        );
    }
}

fn is_mapped(span: PageSpan) -> bool {
    let vma = process_map::at_or_after(span.start().get());
    matches!(vma, Ok(Some(vma)) if vma.start < span.end().get())
}
