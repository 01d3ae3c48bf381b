//! Writing into a region from bytes of the process.
//!
//! By the kernel (`pwrite`), so through no mapping: it can't fault, whatever happens to the file,
//! and Rust reads none of the bytes.

use super::host_region::Region;
use crate::error::{RegionError, Result};
use crate::sys::page::PageAligned;
use crate::sys::{SysError, difference, file, sum};
use nix::errno::Errno;

impl Region {
    /// Writes `byte_length` bytes at this address of the process to an offset. The bytes may change
    /// meanwhile. Where it fails, some of them may be written already.
    pub fn write(&self, byte_offset: u64, source: u64, byte_length: u64) -> Result<()> {
        self.check_not_paged("write to")?;
        let region_bytes = self.byte_length();
        // The offset is the caller's: past the region's end there is nothing to write to.
        if byte_length > region_bytes.saturating_sub(byte_offset) {
            return Err(RegionError::WriteRange { byte_offset, byte_length, region_bytes }.into());
        }
        if !self.is_writable() {
            return Err(self.not_writable().into());
        }
        if byte_length == 0 {
            return Ok(());
        }
        // The kernel would make the file longer again.
        let start = PageAligned::round_down(byte_offset);
        let skew = difference(byte_offset, start.get());
        self.pages(start, sum(skew, byte_length))?.check_file_size_to("write to")?;
        let fd = self.file.get().map_err(|sys| self.not_written(byte_length, sys))?;
        // A description that is the caller's too may append: then offsets count for nothing.
        if file::appends(fd).map_err(|sys| self.not_written(byte_length, sys))? {
            return Err(RegionError::Appends { name: self.name().to_owned() }.into());
        }
        let at = sum(self.file_offset().get(), byte_offset);
        let written = file::write_all_from(fd, at, source, byte_length);
        Ok(written.map_err(|sys| self.not_written(byte_length, sys))?)
    }

    fn not_writable(&self) -> RegionError {
        RegionError::NotWritable { name: self.name().to_owned() }
    }

    fn not_written(&self, byte_length: u64, sys: SysError) -> RegionError {
        let name = self.name().to_owned();
        match sys.errno {
            // Sealed meanwhile.
            Errno::EPERM => self.not_writable(),
            // There is nothing to be read at the address.
            Errno::EFAULT => RegionError::SourceNotRead { byte_length, sys },
            // A disk's room is no memory.
            Errno::ENOSPC | Errno::EDQUOT | Errno::EFBIG if !self.is_memory() => {
                RegionError::FileNotWritten { name, sys }
            }
            _ => RegionError::NotWritten { name, refused: sys.into() },
        }
    }
}
