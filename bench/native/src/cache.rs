//! A file in the page cache: how much of it is there, and dropping it.

use crate::system::{MappedFile, last_error};
use std::fs::File;
use std::os::fd::AsRawFd;

pub const USAGE: &str = "drop|resident PATH";

/// Asks the kernel to let go of a file's pages, after they are on the disk: only clean pages go.
/// Gives the bytes that are still in the page cache.
pub fn drop_file(path: &str) -> Result<usize, String> {
    let file = File::open(path).map_err(|error| format!("{path}: {error}"))?;
    file.sync_all().map_err(|error| format!("{path}: {error}"))?;
    // SAFETY: a call without pointers.
    let errno = unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
    if errno != 0 {
        return Err(format!("posix_fadvise: {}", std::io::Error::from_raw_os_error(errno)));
    }
    resident_bytes(path)
}

/// How many of a file's bytes are in the page cache.
pub fn resident_bytes(path: &str) -> Result<usize, String> {
    let file = File::open(path).map_err(|error| format!("{path}: {error}"))?;
    let byte_length = file.metadata().map_err(|error| format!("{path}: {error}"))?.len();
    let byte_length = usize::try_from(byte_length).map_err(|error| error.to_string())?;
    let mapped = MappedFile::new(&file, byte_length)?;
    // SAFETY: a call without pointers.
    let page_bytes = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) })
        .map_err(|_| last_error("sysconf"))?;
    let mut pages = vec![0_u8; byte_length.div_ceil(page_bytes)];
    let at = mapped.bytes().as_ptr().cast_mut().cast();
    // SAFETY: the range is mapped, and there is a byte for each of its pages.
    if unsafe { libc::mincore(at, byte_length, pages.as_mut_ptr()) } != 0 {
        return Err(last_error("mincore"));
    }
    Ok(pages.iter().filter(|page| **page & 1 != 0).count() * page_bytes)
}
