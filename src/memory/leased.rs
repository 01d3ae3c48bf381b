//! A file whose pages memories show, which nobody can write while we have its lease, and the copy
//! that takes its place once somebody wants to.
//!
//! Data only: `snapshot/watch.rs` makes the copy, and gives the lease back once no memory shows the
//! file any more.

use crate::sys::checked_fd::CheckedFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

#[derive(Debug)]
pub(crate) struct LeasedFile {
    pub(crate) name: Arc<str>,
    pub(crate) fd: CheckedFd,
    /// As the process's map shows it.
    pub(crate) inode: u64,
    pub(crate) byte_length: u64,
    /// Where the file has data, in order: first byte and end.
    pub(crate) data: Vec<(u64, u64)>,
    copy: OnceLock<FileCopy>,
    is_given_back: AtomicBool,
    readers: AtomicUsize,
}

/// A sealed memfd with the bytes of a file; an empty one, whose pages can't be accessed, where the
/// file had lost some of them.
#[derive(Debug)]
pub(crate) struct FileCopy {
    pub(crate) fd: CheckedFd,
    pub(crate) inode: u64,
    /// Whether the file still had all of its bytes.
    pub(crate) is_whole: bool,
}

/// Which descriptor has the bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Now<'a> {
    File(&'a CheckedFd),
    Copy(&'a FileCopy),
    /// The lease is gone, and there was no memory for a copy.
    Gone,
}

impl LeasedFile {
    pub(crate) fn new(
        name: Arc<str>,
        fd: CheckedFd,
        inode: u64,
        byte_length: u64,
        data: Vec<(u64, u64)>,
    ) -> Self {
        Self {
            name,
            fd,
            inode,
            byte_length,
            data,
            copy: OnceLock::new(),
            is_given_back: AtomicBool::new(false),
            readers: AtomicUsize::new(0),
        }
    }

    pub(crate) fn now(&self) -> Now<'_> {
        match self.copy.get() {
            Some(copy) => Now::Copy(copy),
            None if self.is_given_back.load(Ordering::Acquire) => Now::Gone,
            None => Now::File(&self.fd),
        }
    }

    pub(crate) fn copy(&self) -> Option<&FileCopy> {
        self.copy.get()
    }

    pub(crate) fn set_copy(&self, copy: FileCopy) {
        // The thread that watches is the only one that makes any.
        let _ = self.copy.set(copy);
    }

    /// Whether this is an inode of the file's, or of its copy.
    pub(crate) fn is(&self, inode: u64) -> bool {
        inode == self.inode || self.copy.get().is_some_and(|copy| inode == copy.inode)
    }

    pub(crate) fn give_back(&self) {
        self.is_given_back.store(true, Ordering::Release);
    }

    pub(crate) fn is_read(&self) -> bool {
        self.readers.load(Ordering::Acquire) > 0
    }

    /// Keeps the file as it is while it is read by its descriptor.
    pub(crate) fn read(&self) -> Reading<'_> {
        self.readers.fetch_add(1, Ordering::AcqRel);
        Reading { file: self }
    }
}

/// The lease is not given back while this lives, but for one that the kernel would take away.
#[derive(Debug)]
pub(crate) struct Reading<'a> {
    file: &'a LeasedFile,
}

impl Reading<'_> {
    /// Whether what was read was the file as it was.
    pub(crate) fn was_held(&self) -> bool {
        !self.file.is_given_back.load(Ordering::Acquire)
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        self.file.readers.fetch_sub(1, Ordering::AcqRel);
    }
}
