//! The reservation round a linear memory: how much address space V8 takes, and whether its guards
//! are there. Asks the kernel; changes nothing.

use super::live_memory::MemoryExtent;
use crate::sys::SysResult;
use crate::sys::alloc;
use crate::sys::process_map;

/// How much address space V8 takes for a memory of one kind, measured on a memory of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reservation {
    /// Inaccessible bytes below the base: 2 GiB on Node 20 and 22, none on 24 and 26.
    pub below_bytes: u64,
    /// Bytes from the base on: the memory, the space it may grow into, and the guard.
    pub above_bytes: u64,
}

/// The process's map at one moment, to find what a new memory added to it.
#[derive(Debug)]
pub struct MapBefore {
    /// Mapped ranges, joined where they touch, in order.
    mapped: Vec<(u64, u64)>,
}

impl MapBefore {
    pub fn take() -> SysResult<Self> {
        let mut mapped: Vec<(u64, u64)> = Vec::new();
        let mut kept = Ok(());
        process_map::for_each(|vma| match mapped.last_mut() {
            Some(last) if last.1 == vma.start => last.1 = vma.end,
            _ if kept.is_ok() => kept = alloc::push(&mut mapped, (vma.start, vma.end)),
            _ => {}
        })?;
        kept?;
        Ok(Self { mapped })
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
            below_bytes: if touches { base.saturating_sub(bottom) } else { 0 },
            above_bytes: top.saturating_sub(base),
        })
    }
}

/// Whether everything in the reservation round the memory is inaccessible, by the process's map.
pub fn is_guarded(extent: MemoryExtent, reservation: Reservation) -> SysResult<bool> {
    let base = extent.base().get();
    let end = extent.end().get();
    let (Some(top), Some(bottom)) =
        (base.checked_add(reservation.above_bytes), base.checked_sub(reservation.below_bytes))
    else {
        return Ok(false);
    };
    Ok(end <= top
        && process_map::is_inaccessible(bottom, base)?
        && process_map::is_inaccessible(end, top)?)
}
