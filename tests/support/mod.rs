//! Reservations as V8 makes them, and what else the core's tests share.

#![allow(dead_code)] // Each test file uses a part of it.
#![allow(clippy::disallowed_types)] // Locks of tests have no place in the order.

pub mod paging;

use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap_anonymous, mprotect, munmap};
use std::ffi::c_void;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::ptr::NonNull;
use std::sync::{LazyLock, Mutex, MutexGuard, Once, PoisonError};
use wasm_hostmap::access::Access;
use wasm_hostmap::region::thp::PageKind;
use wasm_hostmap::region::{Part, Region};
use wasm_hostmap::sys::mmap::Sharing;
use wasm_hostmap::sys::page::{PageAligned, host_page_bytes};
use wasm_hostmap::sys::process_map::{self, Vma};
use wasm_hostmap::v8::live_memory::{LiveMemory, MemoryExtent};
use wasm_hostmap::v8::reservation::{Reservation, is_guarded};

/// Tests that look at the process's map, have faults or make calls fail run one at a time.
pub fn serial() -> MutexGuard<'static, ()> {
    static SERIAL: Mutex<()> = Mutex::new(());
    default_action();
    SERIAL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Before the first region or mapping Rust's own handlers, which want to run on a small stack of
/// their own (SA_ONSTACK), make way for the default action: a debug build needs more stack than
/// that.
pub fn default_action() {
    static DEFAULT_ACTION: Once = Once::new();
    DEFAULT_ACTION.call_once(|| {
        for signal in [libc::SIGSEGV, libc::SIGBUS] {
            // SAFETY: our handler is not installed yet, so none of it is replaced.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
    });
}

/// Runs one of the calling file's ignored tests in a process of its own, which may end by a signal.
pub fn run_ignored(test: &str) -> Output {
    let this = std::env::current_exe().unwrap();
    let ran = Command::new(this)
        .args(["--ignored", "--exact", test, "--test-threads=1"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(said.contains("running 1 test"), "there is no {test}: {said}");
    ran
}

/// Whether slides of windows go through mirrors here. Not before kernel 5.13.
pub fn has_mirrors() -> bool {
    let region = Region::allocate(1, "mirrors", PageKind::Ordinary).unwrap();
    region.mirror(Sharing::ReadOnly, true).is_some()
}

pub fn page_bytes() -> u64 {
    host_page_bytes()
}

pub fn pages(count: u64) -> PageAligned {
    PageAligned::new(count * page_bytes()).unwrap()
}

pub static PAGE: LazyLock<PageAligned> =
    LazyLock::new(|| PageAligned::new(host_page_bytes()).unwrap());

pub fn access(code: u8) -> Access {
    [Access::Readonly, Access::Private, Access::Shared][usize::from(code)]
}

#[cfg(feature = "inject")]
const CALLS: [&str; 4] = ["mmap", "madvise", "mprotect", "fstat"];

/// Makes one call of this thread fail, for small numbers. True if it did so.
#[cfg(feature = "inject")]
pub fn inject(which: usize) -> bool {
    let Some(call) = CALLS.get(which) else { return false };
    let here = Some(std::thread::current().id());
    wasm_hostmap::sys::inject::arm(call, 0, libc::ENOMEM, here);
    true
}

#[cfg(not(feature = "inject"))]
pub fn inject(_which: usize) -> bool {
    false
}

/// Forgets calls that are to fail; true if there were any.
#[cfg(feature = "inject")]
pub fn forget() -> bool {
    wasm_hostmap::sys::inject::disarm(Some(std::thread::current().id()))
}

#[cfg(not(feature = "inject"))]
pub fn forget() -> bool {
    false
}

/// Random numbers that a seed repeats.
pub struct Numbers(pub u64);

impl Numbers {
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

pub fn read(address: u64) -> u8 {
    // SAFETY: tests read what is mapped.
    unsafe { std::ptr::read_volatile(address as *const u8) }
}

pub fn write(address: u64, value: u8) {
    // SAFETY: tests write what is mapped, or end by it.
    unsafe { std::ptr::write_volatile(address as *mut u8, value) }
}

/// A file that is removed when dropped.
pub struct Temp(pub PathBuf);

impl Temp {
    pub fn new(name: &str, bytes: &[u8]) -> Self {
        let path = std::env::temp_dir().join(format!("hostmap-{}-{name}", std::process::id()));
        std::fs::write(&path, bytes).unwrap();
        Self(path)
    }

    pub fn open(&self) -> Region {
        Region::open(&self.0, Part::default(), false).unwrap()
    }

    pub fn set_bytes(&self, byte_length: u64) {
        std::fs::File::options().write(true).open(&self.0).unwrap().set_len(byte_length).unwrap();
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// What is at an address: there is something, or else it is a hole.
pub fn vma_of(address: u64) -> Vma {
    let vma = process_map::at_or_after(address).unwrap().unwrap();
    assert!(vma.start <= address, "a hole at {address:x}");
    vma
}

pub fn no_hole(reserved: &Reserved) {
    let reservation = reserved.reservation();
    let mut at = reserved.base() - reservation.below_bytes;
    while at < reserved.base() + reservation.above_bytes {
        at = vma_of(at).end;
    }
    assert!(reserved.is_guarded());
}

/// VmaClaim of the process that show this region.
pub fn vmas_of(region: &Region) -> usize {
    let mut count = 0;
    process_map::for_each(|vma| count += usize::from(vma.inode == region.inode())).unwrap();
    count
}

const BELOW_PAGES: u64 = 64;
const ABOVE_PAGES: u64 = 1 << 16;

/// Address space with a linear memory in it, by the system calls that V8 makes.
#[derive(Debug)]
pub struct Reserved {
    start: NonNull<c_void>,
    pages: u64,
}

impl Reserved {
    pub fn new(pages: u64) -> Self {
        let length = (BELOW_PAGES + ABOVE_PAGES) * page_bytes();
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE;
        // An inaccessible page of our own on either side, taken back at once, keeps other mappings
        // from touching it. SAFETY: a new mapping.
        let start =
            unsafe { mmap_anonymous(None, size(length), ProtFlags::PROT_NONE, flags) }.unwrap();
        let reserved = Self { start, pages };
        reserved.prepare();
        reserved
    }

    fn prepare(&self) {
        let length = (BELOW_PAGES + ABOVE_PAGES) * page_bytes();
        // SAFETY: inside the reservation.
        unsafe { madvise(self.start, size(length).get(), MmapAdvise::MADV_DONTFORK) }.unwrap();
        Self::open(self.base(), self.pages);
    }

    /// Makes pages accessible, as a growth does.
    pub fn open(address: u64, pages: u64) {
        let at = NonNull::new(address as *mut c_void).unwrap();
        // SAFETY: inside the reservation.
        unsafe {
            mprotect(
                at,
                size(pages * page_bytes()).get(),
                ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
            )
        }
        .unwrap();
    }

    pub fn base(&self) -> u64 {
        self.start.as_ptr() as u64 + BELOW_PAGES * page_bytes()
    }

    pub fn extent(&self) -> MemoryExtent {
        MemoryExtent::new(self.base(), self.pages * page_bytes()).unwrap()
    }

    pub fn place(&self) -> LiveMemory<'_> {
        // SAFETY: the reservation is unmapped when it is dropped. Tests read and write it by
        // address, without references.
        unsafe { LiveMemory::new(self.extent()) }
    }

    /// The same for each.
    #[allow(clippy::unused_self)]
    pub fn reservation(&self) -> Reservation {
        Reservation {
            below_bytes: BELOW_PAGES * page_bytes(),
            above_bytes: ABOVE_PAGES * page_bytes(),
        }
    }

    pub fn is_guarded(&self) -> bool {
        is_guarded(self.extent(), self.reservation()).unwrap()
    }

    /// As V8 grows: one mprotect over the whole memory, old and new.
    pub fn grow(&mut self, pages: u64) {
        self.pages += pages;
        Self::open(self.base(), self.pages);
    }

    /// The memory dies and another one gets its address.
    pub fn renew(&self) {
        let length = size((BELOW_PAGES + ABOVE_PAGES) * page_bytes());
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE | MapFlags::MAP_FIXED;
        let at = NonZeroUsize::new(self.start.as_ptr() as usize);
        // SAFETY: the reservation is this test's.
        unsafe { mmap_anonymous(at, length, ProtFlags::PROT_NONE, flags) }.unwrap();
        self.prepare();
    }

    /// What must never be: an accessible page in the guard.
    pub fn open_guard(&self) {
        Self::open(self.base() + (ABOVE_PAGES - 1) * page_bytes(), 1);
    }

    pub fn read(&self, offset: u64) -> u8 {
        read(self.base() + offset)
    }

    pub fn write(&self, offset: u64, value: u8) {
        write(self.base() + offset, value);
    }

    pub fn is_writable(&self, offset: u64) -> bool {
        process_map::at_or_after(self.base() + offset).unwrap().unwrap().writable
    }

    /// VMAs of the process's map in the memory.
    pub fn vma_count(&self) -> usize {
        let (start, end) = (self.base(), self.base() + self.pages * page_bytes());
        let mut count = 0;
        process_map::for_each(|vma| count += usize::from(vma.start < end && vma.end > start))
            .unwrap();
        count
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let length = size((BELOW_PAGES + ABOVE_PAGES) * page_bytes());
        // SAFETY: the reservation is this test's, and done with.
        unsafe { munmap(self.start, length.get()) }.unwrap();
    }
}

fn size(bytes: u64) -> NonZeroUsize {
    NonZeroUsize::new(usize::try_from(bytes).unwrap()).unwrap()
}

/// Refuses this process some system calls from now on, with an error, as a container's profile
/// does.
pub fn forbid(calls: &[libc::c_long], errno: i32) {
    let step = |code: u32, if_false: u8, value: u32| libc::sock_filter {
        code: u16::try_from(code).unwrap(),
        jt: 0,
        jf: if_false,
        k: value,
    };
    let give = |answer| step(libc::BPF_RET | libc::BPF_K, 0, answer);
    let mut filter = vec![step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0)];
    for call in calls {
        let equals = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
        filter.push(step(equals, 1, u32::try_from(*call).unwrap()));
        filter.push(give(libc::SECCOMP_RET_ERRNO | u32::try_from(errno).unwrap()));
    }
    filter.push(give(libc::SECCOMP_RET_ALLOW));
    let program =
        libc::sock_fprog { len: filter.len().try_into().unwrap(), filter: filter.as_mut_ptr() };
    // SAFETY: the filter outlives the call, and forbids nothing else.
    let done = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) == 0
    };
    assert!(done, "{}", std::io::Error::last_os_error());
}
