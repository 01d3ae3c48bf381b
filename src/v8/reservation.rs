//! The reservation round a linear memory: how much address space V8 takes, and whether its guards
//! are there. Asks the kernel; changes nothing.

use super::live_memory::MemoryExtent;
use crate::sys::alloc;
use crate::sys::lock::{Level, Lock};
use crate::sys::page::{PageAligned, host_page_bytes};
use crate::sys::process_map;
use crate::sys::{SysResult, difference};

/// How much address space V8 takes for a memory of one kind, measured on a memory of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reservation {
    /// Inaccessible bytes below the base: 2 GiB on Node 20 and 22, none on 24 and 26.
    pub below_bytes: u64,
    /// Bytes from the base on: the memory, the space it may grow into, and the guard.
    pub above_bytes: u64,
}

/// What was measured right in one thread, for all: of 32-bit memories, and of 64-bit ones.
static PROVEN: Lock<[Option<Reservation>; 2]> = Lock::new(Level::Reservations, [None; 2]);

/// What memories of a kind reserve, if one of any thread was found to have its guards.
pub fn proven(is_64_bit: bool) -> Option<Reservation> {
    PROVEN.lock()[usize::from(is_64_bit)]
}

/// Takes note of it.
pub fn note_proven(is_64_bit: bool, reservation: Reservation) {
    PROVEN.lock()[usize::from(is_64_bit)] = Some(reservation);
}

/// The length of the largest memory with 32-bit addresses: no growth goes further. The
/// WebAssembly specification sets it.
pub const LARGEST_32_BIT_BYTES: u64 = 1 << 32;

/// The guard after a memory: when the process's map was read, everything from the memory's end to
/// the end of its reservation was inaccessible. Only [`prove_guard`] makes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProvenGuard {
    base: PageAligned,
    /// Where the memory ends, and the guard begins.
    start: PageAligned,
    end: u64,
}

impl ProvenGuard {
    /// The base of the memory whose guard it is.
    pub fn base(self) -> PageAligned {
        self.base
    }

    /// The first page of the guard that no growth reaches, if no memory of this kind is larger than
    /// `largest_bytes`. `None`: the guard has no such page.
    pub fn page_past(self, largest_bytes: u64) -> Option<PageAligned> {
        let page = PageAligned::new(self.base.get().checked_add(largest_bytes)?)?;
        let page_end = page.get().checked_add(host_page_bytes())?;
        (self.start <= page && page_end <= self.end).then_some(page)
    }
}

/// The process's map at one moment, to find what a new memory added to it.
#[derive(Debug)]
pub struct MapBefore {
    /// Mapped ranges, joined where they touch, in order.
    mapped: Vec<(u64, u64)>,
}

/// More ranges than were counted may be there when they are read: other threads map, too.
const SPARE_RANGES: usize = 64;

impl MapBefore {
    /// Allocates nothing from the first range that it reads until it is dropped, and gives nothing
    /// back: some allocators (musl's) map and unmap for a few KiB. What was read as mapped and is
    /// free again is where V8 puts the memory, and would pass for what was there before it.
    pub fn take() -> SysResult<Self> {
        let mut room = SPARE_RANGES;
        loop {
            let mapped = alloc::with_room(room)?;
            match read_ranges(mapped)? {
                Ok(mapped) => return Ok(Self { mapped }),
                Err(ranges) => {
                    room = ranges.checked_add(SPARE_RANGES).expect("the process has fewer VMAs");
                }
            }
        }
    }

    /// The reservation of a memory that was made since. Inaccessible VMAs that touch are one to
    /// the kernel, so its edges are where the address space was in use before.
    pub fn reservation_of(&self, extent: MemoryExtent) -> SysResult<Reservation> {
        let base = extent.base().get();
        let end = extent.end().get();
        let index = self.mapped.partition_point(|(start, _)| *start <= base);
        let lowest = index
            .checked_sub(1)
            .and_then(|below| self.mapped.get(below))
            .map_or(0, |(_, end)| *end);
        let highest = self.mapped.get(index).map_or(u64::MAX, |(start, _)| *start);

        let top = process_map::inaccessible_until(end, highest)?;
        // The kernel looks up addresses upwards only: walk up from the lowest one it may start at.
        let mut bottom = lowest;
        let mut at = lowest;
        while at < base {
            match process_map::at_or_after(at)? {
                Some(vma) if vma.start < base => {
                    if !vma.is_inaccessible() {
                        bottom = vma.end;
                    } else if vma.start > at {
                        bottom = vma.start;
                    }
                    at = vma.end;
                }
                _ => {
                    bottom = base;
                    break;
                }
            }
        }
        // The last VMA looked at may end below the base: then nothing inaccessible touches it.
        let touches = at >= base;
        Ok(Reservation {
            // An accessible VMA from below may go on past the base, where the kernel joined the
            // two: then there is no guard.
            below_bytes: if touches { base.saturating_sub(bottom) } else { 0 },
            above_bytes: difference(top, base),
        })
    }
}

/// Fills a list with the mapped ranges, while it has room. An inner error: it has not, and this
/// is how many there are.
fn read_ranges(mut mapped: Vec<(u64, u64)>) -> SysResult<Result<Vec<(u64, u64)>, usize>> {
    let mut ranges = 0_usize;
    let mut end = None;
    process_map::for_each(|vma| {
        if end == Some(vma.start) {
            // Where there was no room for a range, the list is thrown away.
            if let Some(last) = mapped.last_mut() {
                last.1 = vma.end;
            }
        } else {
            // There are fewer of them than addresses.
            ranges = ranges.wrapping_add(1);
            if mapped.len() < mapped.capacity() {
                mapped.push((vma.start, vma.end));
            }
        }
        end = Some(vma.end);
    })?;
    Ok(if mapped.len() == ranges { Ok(mapped) } else { Err(ranges) })
}

/// Whether everything in the reservation round the memory is inaccessible, by the process's map.
pub fn is_guarded(extent: MemoryExtent, reservation: Reservation) -> SysResult<bool> {
    Ok(prove_guard(extent, reservation)?.is_some())
}

/// The same, with what it proves of the guard after the memory.
pub fn prove_guard(
    extent: MemoryExtent,
    reservation: Reservation,
) -> SysResult<Option<ProvenGuard>> {
    let base = extent.base().get();
    let end = extent.end().get();
    let (Some(top), Some(bottom)) =
        (base.checked_add(reservation.above_bytes), base.checked_sub(reservation.below_bytes))
    else {
        return Ok(None);
    };
    let is_guarded = end <= top
        && process_map::is_inaccessible(bottom, base)?
        && process_map::is_inaccessible(end, top)?;
    let guard = ProvenGuard { base: extent.base(), start: extent.end(), end: top };
    Ok(is_guarded.then_some(guard))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_that_no_growth_reaches_is_in_the_guard_or_nowhere() {
        let page = host_page_bytes();
        let at = |bytes: u64| PageAligned::new(bytes).unwrap();
        let base = 1 << 40;
        let guard = |length: u64, above: u64| ProvenGuard {
            base: at(base),
            start: at(base + length),
            end: base + above,
        };
        let small = guard(1 << 16, 8 << 30);
        assert_eq!(small.page_past(LARGEST_32_BIT_BYTES), Some(at(base + (4 << 30))));
        assert_eq!(small.page_past((8 << 30) - page), Some(at(base + (8 << 30) - page)));
        assert_eq!(small.page_past(8 << 30), None, "the reservation ends there");
        assert_eq!(guard(16 << 30, 16 << 30).page_past(16 << 30), None);
        assert_eq!(small.page_past(0), None, "it is in the memory");
        assert_eq!(guard(5 << 30, 8 << 30).page_past(4 << 30), None, "it is in the memory");
        assert_eq!(small.page_past((4 << 30) + 8), None, "it is no page");
        assert_eq!(small.page_past(u64::MAX - 10), None);
    }
}
