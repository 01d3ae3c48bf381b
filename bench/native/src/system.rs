//! System calls, with errors that name them.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::ptr;
use std::str::FromStr;

use libc::{
    MAP_ANONYMOUS, MAP_FAILED, MAP_FIXED, MAP_NORESERVE, MAP_PRIVATE, MAP_SHARED, PROT_NONE,
    PROT_READ, PROT_WRITE, c_int, c_void,
};

pub const WASM_PAGE: usize = 64 << 10;
/// As V8 reserves for a 32-bit memory.
const RESERVATION: usize = 10 << 30;

pub fn parse<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("'{text}' is not a number of the right kind"))
}

/// The base of a reservation whose first `byte_length` bytes are readable and writable.
pub fn linear_memory(byte_length: usize) -> Result<*mut c_void, String> {
    let reserved = RESERVATION.max(byte_length + WASM_PAGE);
    let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    // SAFETY: without MAP_FIXED the kernel chooses an address where nothing is mapped.
    let base = unsafe { libc::mmap(ptr::null_mut(), reserved, PROT_NONE, flags, -1, 0) };
    if base == MAP_FAILED {
        return Err(last_error("mmap"));
    }
    // SAFETY: the range is in the reservation, which is ours.
    if unsafe { libc::mprotect(base, byte_length, PROT_READ | PROT_WRITE) } != 0 {
        return Err(last_error("mprotect"));
    }
    Ok(base)
}

/// A memfd that has no page yet.
pub fn memfd(byte_length: usize) -> Result<File, String> {
    // SAFETY: the name is a C string.
    let fd = unsafe { libc::memfd_create(c"bench".as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        return Err(last_error("memfd_create"));
    }
    // SAFETY: the kernel has just made the descriptor, and only this value has it.
    let file = unsafe { File::from_raw_fd(fd) };
    file.set_len(byte_length as u64).map_err(|error| format!("ftruncate: {error}"))?;
    Ok(file)
}

/// Replaces a range by a mapping of `fd`, or of zeros.
///
/// # Safety
/// The range must be mapped, and nothing may refer to what is in it.
pub unsafe fn map_over(
    at: *mut c_void,
    byte_length: usize,
    protection: c_int,
    flags: c_int,
    fd: RawFd,
    offset: libc::off_t,
) -> Result<(), String> {
    // SAFETY: the caller's promise.
    let mapped = unsafe { libc::mmap(at, byte_length, protection, flags | MAP_FIXED, fd, offset) };
    if mapped == at { Ok(()) } else { Err(last_error("mmap")) }
}

/// # Safety
/// `advice` must not change contents, or nothing may refer to what is in the range.
pub unsafe fn advise(at: *mut c_void, byte_length: usize, advice: c_int) -> Result<(), String> {
    // SAFETY: the caller's promise.
    if unsafe { libc::madvise(at, byte_length, advice) } == 0 {
        Ok(())
    } else {
        Err(last_error("madvise"))
    }
}

pub fn last_error(call: &str) -> String {
    format!("{call}: {}", io::Error::last_os_error())
}

/// A whole file, mapped for reading; unmapped when dropped.
pub struct MappedFile {
    at: *mut c_void,
    byte_length: usize,
}

const HUGE_PAGE: usize = 2 << 20;

// SAFETY: a range of addresses that can only be read.
unsafe impl Sync for MappedFile {}

impl MappedFile {
    /// The first `byte_length` bytes of it. Nobody makes the file shorter meanwhile: it is the
    /// benchmark's own.
    pub fn new(file: &File, byte_length: usize) -> Result<Self, String> {
        // SAFETY: without MAP_FIXED the kernel chooses an address where nothing is mapped.
        let at = unsafe {
            libc::mmap(ptr::null_mut(), byte_length, PROT_READ, MAP_SHARED, file.as_raw_fd(), 0)
        };
        if at == MAP_FAILED { Err(last_error("mmap")) } else { Ok(Self { at, byte_length }) }
    }

    /// The same, as a private mapping at a multiple of 2 MiB.
    pub fn at_huge_page(file: &File, byte_length: usize) -> Result<Self, String> {
        let reserved = byte_length.next_multiple_of(HUGE_PAGE) + HUGE_PAGE;
        let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
        // SAFETY: without MAP_FIXED the kernel chooses an address where nothing is mapped.
        let base = unsafe { libc::mmap(ptr::null_mut(), reserved, PROT_NONE, flags, -1, 0) };
        if base == MAP_FAILED {
            return Err(last_error("mmap"));
        }
        // What is left over of the reservation stays until the process ends: it is only addresses.
        let at = base.wrapping_byte_add(base.addr().next_multiple_of(HUGE_PAGE) - base.addr());
        // SAFETY: the range is in the reservation, which is ours.
        unsafe { map_over(at, byte_length, PROT_READ, MAP_PRIVATE, file.as_raw_fd(), 0)? };
        Ok(Self { at, byte_length })
    }

    /// Reads a byte of each page.
    pub fn touch(&self) {
        // 4096: the smallest page there is.
        for byte in self.bytes().iter().step_by(4096) {
            // SAFETY: a reference can be read.
            unsafe { ptr::from_ref(byte).read_volatile() };
        }
    }

    /// Gives advice that changes no contents, about whole pages that hold this range. Best effort.
    pub fn advise(&self, start: usize, byte_length: usize, advice: c_int) {
        let at = self.at.wrapping_byte_add(start);
        // SAFETY: the range is in the mapping, and the advice changes no contents.
        unsafe { libc::madvise(at, byte_length, advice) };
    }

    pub fn bytes(&self) -> &[u8] {
        // SAFETY: mapped for as long as `self` lives.
        unsafe { std::slice::from_raw_parts(self.at.cast(), self.byte_length) }
    }
}

impl Drop for MappedFile {
    fn drop(&mut self) {
        // SAFETY: the range is ours, and no slice of it outlives `self`.
        unsafe { libc::munmap(self.at, self.byte_length) };
    }
}
