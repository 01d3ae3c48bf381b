//! Regions that are filled bit by bit, by bytes that come from anywhere.
//!
//! ```text
//!  memfd   |wwwwwwwwwwwwwwww|                      its length is not known: it grows as it is written
//!  memfd   |wwwwwwwwwwwwwwww|        ...        |  its length is known
//!                           ^ written           ^ byte_length
//! ```
//!
//! Nobody else has the memfd before [`Filling::finish`] makes a region of it, whose size is sealed.

use super::allocate::{MOST_BYTES, not_copied};
use super::backing::{Backing, RegionFile};
use super::host_region::Region;
use super::thp::{self, HugePageMaker, PageKind};
use crate::error::{RegionError, Result};
use crate::sys::checked_fd::{CheckedFd, Description};
use crate::sys::page::{HUGE_PAGE_BYTES, PageAligned};
use crate::sys::{SysResult, file, memfd, sum};
use std::sync::Arc;

#[derive(Debug)]
pub struct Filling {
    fd: CheckedFd,
    name: String,
    byte_length: Option<u64>,
    written: u64,
    /// `None`: huge pages were not asked for.
    maker: Option<HugePageMaker>,
    /// Up to where the maker was asked for huge pages: all of that is in the file.
    prepared: u64,
}

impl Filling {
    pub fn new(name: &str, byte_length: Option<u64>, kind: PageKind) -> Result<Self> {
        // Where it is not known, there is nothing to be refused yet.
        let asked = byte_length.unwrap_or(1);
        if asked == 0 {
            return Err(RegionError::NoBytes.into());
        }
        if asked > MOST_BYTES {
            return Err(RegionError::TooLong { byte_length: asked }.into());
        }
        let make = || -> SysResult<CheckedFd> {
            let fd = memfd::create_growing(name)?;
            if let Some(byte_length) = byte_length {
                file::set_length(&fd, byte_length)?;
            }
            CheckedFd::new(fd, Description::Ours)
        };
        let fd = make().map_err(|sys| {
            let refused = sys.into();
            match byte_length {
                Some(byte_length) => RegionError::NotAllocated { byte_length, refused },
                None => RegionError::NotMade { refused },
            }
        })?;
        let maker = (kind == PageKind::Gathered).then(HugePageMaker::default);
        let name = name.to_owned();
        Ok(Self { fd, name, byte_length, written: 0, maker, prepared: 0 })
    }

    pub fn written(&self) -> u64 {
        self.written
    }

    /// How many bytes it still takes; `None`: any number.
    pub fn room(&self) -> Option<u64> {
        Some(self.byte_length?.saturating_sub(self.written))
    }

    /// Writes bytes at this address of the process behind what it has. They may change meanwhile.
    pub fn append(&mut self, source: u64, length: u64) -> Result<()> {
        let end = self.written.checked_add(length).filter(|end| *end <= MOST_BYTES);
        let end = end.ok_or(RegionError::TooLong { byte_length: u64::MAX })?;
        self.append_until(end, source, length).map_err(|sys| not_copied(length, sys))?;
        self.written = end;
        Ok(())
    }

    fn append_until(&mut self, end: u64, source: u64, length: u64) -> SysResult<()> {
        self.prepare(end)?;
        file::write_all_from(self.fd.get()?, self.written, source, length)
    }

    /// Makes blocks huge that are about to be filled, and some more: each time takes a while.
    fn prepare(&mut self, end: u64) -> SysResult<()> {
        let Some(maker) = &mut self.maker else { return Ok(()) };
        while self.prepared < end {
            let step = self.prepared.clamp(HUGE_PAGE_BYTES, thp::STEP_BYTES);
            let mut stop = sum(self.prepared, step);
            match self.byte_length {
                Some(byte_length) => stop = stop.min(byte_length.max(end)),
                // Only what is in the file can be mapped. The end is cut off at last.
                None => file::set_length(self.fd.get()?, stop)?,
            }
            maker.prepare(self.fd.get()?, self.prepared, stop);
            self.prepared = stop;
        }
        Ok(())
    }

    /// The region of all bytes that were written.
    pub fn finish(self) -> Result<Region> {
        let Self { fd, name, byte_length, written, maker, prepared } = self;
        if written == 0 {
            return Err(RegionError::NoBytes.into());
        }
        let seal = || -> SysResult<()> {
            if prepared.max(byte_length.unwrap_or(0)) > written {
                file::set_length(fd.get()?, written)?;
            }
            memfd::seal_size(fd.get()?)
        };
        seal().map_err(|sys| not_copied(written, sys))?;
        let inode = fd.inode();
        let file =
            RegionFile { fd: Arc::new(fd), backing: Backing::Memfd, inode, keeps_size: true };
        let region = Region::new(file, PageAligned::ZERO, written, &name, true);
        // What had room for one while it was filled, and was cut off.
        let maker = maker.filter(|_| written >= HUGE_PAGE_BYTES);
        region.set_huge(maker.as_ref());
        Ok(region)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::{to_u64, to_usize};

    fn bytes(length: u64) -> Vec<u8> {
        (0..length).map(|at| (at % 251) as u8).collect()
    }

    fn contents(region: &Region) -> Vec<u8> {
        let mut found = vec![0; to_usize(region.byte_length()) + 1];
        let read = file::read_up_to(region.file.get().unwrap(), 0, &mut found).unwrap();
        found.truncate(read);
        found
    }

    #[test]
    fn a_region_has_what_was_appended_and_nothing_else() {
        for kind in [PageKind::Ordinary, PageKind::Gathered] {
            for length in [1, 4096, 5000, 3 * HUGE_PAGE_BYTES + 17] {
                for byte_length in [None, Some(length)] {
                    let all = bytes(length);
                    let mut filling = Filling::new("filled", byte_length, kind).unwrap();
                    for part in all.chunks(100_000) {
                        let at = to_u64(part.as_ptr() as usize);
                        filling.append(at, to_u64(part.len())).unwrap();
                    }
                    assert_eq!(filling.room(), byte_length.map(|_| 0));
                    let region = filling.finish().unwrap();
                    assert_eq!(region.byte_length(), length);
                    assert!(contents(&region) == all, "{kind:?} {length} {byte_length:?}");
                    assert!(region.keeps_size() && region.is_writable());
                    assert!(file::set_length(region.file.get().unwrap(), length + 1).is_err());
                }
            }
        }
    }

    #[test]
    fn what_was_not_filled_is_cut_off() {
        let mut filling = Filling::new("short", Some(1 << 30), PageKind::Ordinary).unwrap();
        let some = bytes(10);
        filling.append(to_u64(some.as_ptr() as usize), 10).unwrap();
        assert_eq!(contents(&filling.finish().unwrap()), some);
    }

    #[test]
    fn nothing_makes_no_region() {
        let filling = Filling::new("empty", None, PageKind::Gathered).unwrap();
        assert_eq!(filling.finish().unwrap_err(), RegionError::NoBytes.into());
        let refused = Filling::new("zero", Some(0), PageKind::Ordinary).unwrap_err();
        assert_eq!(refused, RegionError::NoBytes.into());
    }

    #[test]
    fn an_address_without_memory_is_an_error_and_the_filling_goes_on() {
        let mut filling = Filling::new("fault", None, PageKind::Ordinary).unwrap();
        let refused = filling.append(4096, 10).unwrap_err();
        assert_eq!(refused.sys().map(|sys| sys.errno), Some(nix::errno::Errno::EFAULT));
        let some = bytes(10);
        filling.append(to_u64(some.as_ptr() as usize), 10).unwrap();
        assert_eq!(contents(&filling.finish().unwrap()), some);
    }
}
