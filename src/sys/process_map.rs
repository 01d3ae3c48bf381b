//! What is mapped where in this process, by the kernel's own account.
//!
//! One VMA is asked for by `procmap_query`, where the kernel knows that call; `maps_text` reads all
//! of them, and is the way on older kernels. This file chooses.
//!
//! Calls: those of the two files. Functions for handlers have it in their names.

use super::procmap_query::{self, Answer};
use super::{SysResult, maps_text, page_query};
use std::ops::ControlFlow;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};

pub use super::vma::Vma;

/// For tests: set in the environment to `text`, the map is read as on kernels before 6.11. Read
/// once.
const SWITCH: &str = "WASM_HOSTMAP_PROCESS_MAP";

/// How the kernel is asked; a [`Way`].
static WAY: AtomicU8 = AtomicU8::new(Way::Query as u8);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Way {
    /// Where that fails, by text all the same.
    Query,
    Text,
}

fn way() -> Way {
    if WAY.load(Ordering::Relaxed) == Way::Text as u8 { Way::Text } else { Way::Query }
}

/// The same for code that may look at the environment: not for handlers.
fn way_found() -> Way {
    static FORCED: OnceLock<()> = OnceLock::new();
    FORCED.get_or_init(|| {
        if std::env::var_os(SWITCH).is_some_and(|value| value == "text") {
            WAY.store(Way::Text as u8, Ordering::Relaxed);
        }
    });
    way()
}

/// Whether one address costs as much as the whole map. Not before anything was asked.
pub fn is_text() -> bool {
    way_found() == Way::Text
}

/// The same in a handler.
pub fn is_text_in_handler() -> bool {
    way() == Way::Text
}

/// Asks the kernel, if it can be asked. `None`: by text. Safe in a handler.
fn query(address: u64) -> Option<SysResult<Option<Vma>>> {
    match procmap_query::query(address) {
        Answer::Vma(found) => Some(Ok(found)),
        Answer::Failed(sys) => Some(Err(sys)),
        Answer::NotNow => None,
        Answer::Never => {
            WAY.store(Way::Text as u8, Ordering::Relaxed);
            None
        }
    }
}

/// The same by text, the only way on some kernels. Safe in a handler.
fn read(address: u64) -> SysResult<Option<Vma>> {
    let mut found = None;
    maps_text::read(|vma| {
        if vma.end > address {
            found = Some(*vma);
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    })?;
    Ok(found)
}

/// The VMA that holds an address, or the next one above it. `None`: there is none.
pub fn at_or_after(address: u64) -> SysResult<Option<Vma>> {
    if way_found() == Way::Query {
        if !procmap_query::is_ready() {
            // Where there is no descriptor left, the text can't be opened either.
            let _ = procmap_query::prepare();
        }
        if let Some(answer) = query(address) {
            return answer;
        }
    }
    keep_text_open();
    read(address)
}

/// Where the text will be read often.
fn keep_text_open() {
    if way() == Way::Text {
        maps_text::prepare_one();
    }
}

/// Looks at every VMA, in order of address. Cost: grows with their number, about 0.2 us each.
pub fn for_each(mut look: impl FnMut(&Vma)) -> SysResult<()> {
    keep_text_open();
    maps_text::read(|vma| {
        look(vma);
        ControlFlow::Continue(())
    })
}

/// Looks at the VMAs from the one that holds an address on, or the next one above it, for as long
/// as `look` wants more.
pub fn for_each_from(address: u64, mut look: impl FnMut(&Vma) -> ControlFlow<()>) -> SysResult<()> {
    if way_found() == Way::Text {
        keep_text_open();
        return maps_text::read(|vma| {
            if vma.end > address { look(vma) } else { ControlFlow::Continue(()) }
        });
    }
    let mut at = address;
    while let Some(vma) = at_or_after(at)? {
        if look(&vma).is_break() {
            break;
        }
        at = vma.end;
    }
    Ok(())
}

/// Whether every byte of `[start, end)` is mapped and inaccessible. VMAs that touch and have the
/// same access are one to the kernel, so their edges say nothing: the range is walked.
pub fn is_inaccessible(start: u64, end: u64) -> SysResult<bool> {
    Ok(inaccessible_until(start, end)? >= end)
}

/// Up to where, from `start` on and not further than `end`, every byte is mapped and inaccessible.
pub fn inaccessible_until(start: u64, end: u64) -> SysResult<u64> {
    let mut at = start;
    if at < end {
        for_each_from(start, |vma| {
            if vma.start > at || !vma.is_inaccessible() {
                return ControlFlow::Break(());
            }
            at = vma.end;
            if at < end { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
    }
    Ok(at.min(end))
}

/// Whether [`prepare_for_handler`] has nothing to do. No system call.
pub fn is_prepared_for_handler() -> bool {
    match way() {
        Way::Query => procmap_query::is_ready(),
        Way::Text => page_query::is_prepared_for_handler() && maps_text::is_ready(),
    }
}

/// Opens what [`holding_in_handler`] asks, so that it need not. An error: the process has no
/// descriptor left now.
pub fn prepare_for_handler() -> SysResult<()> {
    // Finds out which way works.
    at_or_after(0)?;
    match way() {
        Way::Query => procmap_query::prepare(),
        Way::Text => {
            page_query::prepare_for_handler();
            maps_text::prepare_all()
        }
    }
}

/// The VMA that holds an address, asked in a signal handler: no lock, no allocation. `None`: there
/// is none, or the kernel would not tell.
pub fn holding_in_handler(address: u64) -> Option<Vma> {
    let by_query = if way() == Way::Query { query(address) } else { None };
    let found = match by_query {
        Some(Ok(found)) => found,
        Some(Err(_)) | None => read(address).ok()?,
    };
    found.filter(|vma| vma.start <= address && address < vma.end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::mmap::{Mmap, Pages, Sharing};
    use crate::sys::page::PageAligned;
    use std::os::fd::AsFd;
    use std::sync::atomic::AtomicBool;

    #[test]
    fn the_query_and_the_text_agree() {
        let fd = crate::sys::memfd::create("agree", 1 << 20).unwrap();
        let offset = PageAligned::new(1 << 16).unwrap();
        let length = PageAligned::new(1 << 17).unwrap();
        let map = Mmap::new(
            length,
            Pages::File { fd: fd.as_fd(), offset, sharing: Sharing::ReadOnly, is_memfd: true },
        )
        .unwrap();
        let status = crate::sys::file::status(&fd).unwrap();
        prepare_for_handler().unwrap();
        let at = map.address() + 5;
        // Kernels before 6.11 know no query.
        let by_query = query(at).unwrap_or_else(|| read(at)).unwrap();
        for found in [by_query, read(at).unwrap(), holding_in_handler(at)] {
            let found = found.unwrap();
            assert_eq!((found.start, found.end), (map.address(), map.address() + (1 << 17)));
            assert_eq!((found.inode, found.file_offset), (status.inode, 1 << 16));
            assert!(found.readable && !found.writable && !found.executable && !found.shared);
        }
    }

    #[test]
    fn readers_of_the_text_at_once_see_no_torn_line_while_the_map_changes() {
        let page = PageAligned::round_up(1).unwrap();
        let fd = crate::sys::memfd::create("constant", 1 << 20).unwrap();
        let file = |sharing| Pages::File {
            fd: fd.as_fd(),
            offset: PageAligned::ZERO,
            sharing,
            is_memfd: true,
        };
        let constant = Mmap::new(page, file(Sharing::ReadOnly)).unwrap();
        let inode = crate::sys::file::status(&fd).unwrap().inode;
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let maps: Vec<Mmap> =
                        (0..40).map(|_| Mmap::new(page, Pages::Zeros).unwrap()).collect();
                    let others: Vec<Mmap> =
                        (0..40).map(|_| Mmap::new(page, file(Sharing::Shared)).unwrap()).collect();
                    drop((maps, others));
                }
            });
            // More than the pool has.
            let readers: Vec<_> = (0..10)
                .map(|_| {
                    scope.spawn(|| {
                        for _ in 0..300 {
                            let found = read(constant.address()).unwrap().unwrap();
                            assert_eq!((found.start, found.inode), (constant.address(), inode));
                            assert!(found.readable && !found.writable && !found.shared);
                        }
                    })
                })
                .collect();
            for reader in readers {
                reader.join().unwrap();
            }
            done.store(true, Ordering::Relaxed);
        });
    }
}
