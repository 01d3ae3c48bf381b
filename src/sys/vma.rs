//! A VMA: one line of the process's map. Data only; `process_map` asks the kernel for it.

/// A range of addresses that the kernel treats alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Vma {
    pub start: u64,
    pub end: u64,
    pub readable: bool,
    pub writable: bool,
    pub executable: bool,
    /// Writes go to the file, and to everybody who maps it.
    pub shared: bool,
    /// Where in its file it starts, in bytes. 0 for anonymous memory.
    pub file_offset: u64,
    /// 0 for anonymous memory.
    pub inode: u64,
}

impl Vma {
    /// Where in its file an address is. `None`: below the VMA, or on overflow.
    pub fn offset_of(&self, address: u64) -> Option<u64> {
        address.checked_sub(self.start)?.checked_add(self.file_offset)
    }

    pub fn is_inaccessible(&self) -> bool {
        !self.readable && !self.writable && !self.executable
    }
}
