//! What there is, for `inspect()`: of memories all that the process has, of regions and snapshots
//! those of this thread. Everything here only reads, and nothing is counted or kept for it.

use super::fault_counts::NativeFaults;
use super::from_count;
use super::region::all_regions;
use super::snapshot::all_snapshots;
use crate::error::Error;
use crate::memory::survey::{SurveyedMapping, survey};
use crate::region::{Backing, Held, Region};
use crate::snapshot::Snapshot;
use crate::sys::{alloc, file};
use napi_derive::napi;

/// A memory, by what the process's mapping tables know of it.
#[napi(object, object_from_js = false)]
pub struct NativeSeenMemory {
    /// As `baseOf` gives it.
    pub base: f64,
    /// Whether any thread has an object for it.
    pub is_attached: bool,
    /// Its size when anything was last done with it.
    pub known_bytes: f64,
    pub mappings: Vec<NativeSeenMapping>,
}

/// A mapping or window of any thread.
#[napi(object, object_from_js = false)]
pub struct NativeSeenMapping {
    pub start: f64,
    pub end: f64,
    pub access: &'static str,
    pub region_name: String,
    /// Decimal digits; `0` where it shows nothing.
    pub inode: String,
    pub byte_offset: f64,
    pub is_adopted: bool,
    pub strict: bool,
    /// What a window shows. Absent for a mapping.
    pub shown_bytes: Option<f64>,
    pub tail_traps: Option<bool>,
    pub faults: NativeFaults,
}

/// Which file it is: decimal digits. Both are `0` where its descriptor is gone.
#[napi(object, object_from_js = false)]
pub struct NativeSeenFile {
    pub device: String,
    pub inode: String,
    /// Bytes that it takes: of memory if it is a memfd, else of its disk.
    pub held_bytes: f64,
}

/// A region that is open on this thread.
#[napi(object, object_from_js = false)]
pub struct NativeSeenRegion {
    pub handle: f64,
    pub name: String,
    pub is_memfd: bool,
    pub byte_length: f64,
    /// Where it starts in its file.
    pub file_offset: f64,
    pub writable: bool,
    pub sealed: bool,
    pub views: f64,
    pub buffers: f64,
    pub viewed_bytes: f64,
    pub file: NativeSeenFile,
    pub faults: NativeFaults,
}

/// A snapshot that is open on this thread.
#[napi(object, object_from_js = false)]
pub struct NativeSeenSnapshot {
    pub handle: f64,
    pub name: String,
    /// Of the memory that it was taken of.
    pub byte_length: f64,
    /// Whether its pages are a saved file's, and not a memfd's.
    pub is_of_file: bool,
    pub mapping_count: f64,
    pub file: NativeSeenFile,
}

/// The memories of all threads that there is anything to say of, by address.
#[napi(catch_unwind)]
pub fn seen_memories() -> napi::Result<Vec<NativeSeenMemory>> {
    let found = survey()?;
    let mut seen = alloc::with_room(found.len()).map_err(Error::from)?;
    for memory in &found {
        let mut mappings = alloc::with_room(memory.mappings.len()).map_err(Error::from)?;
        for mapping in &memory.mappings {
            mappings.push(of_mapping(mapping)?);
        }
        seen.push(NativeSeenMemory {
            base: from_count(memory.base.get()),
            is_attached: memory.is_attached,
            known_bytes: from_count(memory.known_bytes.get()),
            mappings,
        });
    }
    Ok(seen)
}

fn of_mapping(mapping: &SurveyedMapping) -> Result<NativeSeenMapping, Error> {
    let SurveyedMapping { entry, window, is_adopted, region_name, counts } = mapping;
    Ok(NativeSeenMapping {
        start: from_count(entry.span.start().get()),
        end: from_count(entry.span.end().get()),
        access: entry.access.name(),
        region_name: alloc::text(region_name)?,
        inode: entry.inode.to_string(),
        byte_offset: from_count(entry.region_offset.get()),
        is_adopted: *is_adopted,
        strict: counts.is_strict(),
        shown_bytes: window.map(|window| from_count(window.shown.get())),
        tail_traps: window.map(|window| window.tail_traps),
        faults: NativeFaults::new(counts, Some(entry.inode)),
    })
}

/// The regions that are open on this thread, and were not collected. Cost: two or three system
/// calls for each.
#[napi(catch_unwind)]
pub fn seen_regions() -> napi::Result<Vec<NativeSeenRegion>> {
    let regions = all_regions()?;
    let mut seen = alloc::with_room(regions.len()).map_err(Error::from)?;
    for (number, region) in &regions {
        seen.push(of_region(*number, region)?);
    }
    Ok(seen)
}

fn of_region(number: usize, region: &Region) -> Result<NativeSeenRegion, Error> {
    let Held { released, kept, bytes } = region.views().held();
    Ok(NativeSeenRegion {
        handle: to_handle(number),
        name: alloc::text(region.name())?,
        is_memfd: region.backing() == Backing::Memfd,
        byte_length: from_count(region.byte_length()),
        file_offset: from_count(region.file_offset().get()),
        writable: region.is_writable(),
        sealed: region.is_sealed(),
        views: from_count(released),
        buffers: from_count(kept),
        viewed_bytes: from_count(bytes),
        file: of_file(region.file_status()),
        faults: NativeFaults::new(region.counts(), None),
    })
}

/// The same of snapshots. Cost: a system call for each.
#[napi(catch_unwind)]
pub fn seen_snapshots() -> napi::Result<Vec<NativeSeenSnapshot>> {
    let snapshots = all_snapshots()?;
    let mut seen = alloc::with_room(snapshots.len()).map_err(Error::from)?;
    for (number, snapshot) in &snapshots {
        seen.push(of_snapshot(*number, snapshot)?);
    }
    Ok(seen)
}

fn of_snapshot(number: usize, snapshot: &Snapshot) -> Result<NativeSeenSnapshot, Error> {
    Ok(NativeSeenSnapshot {
        handle: to_handle(number),
        name: alloc::text(snapshot.name())?,
        byte_length: from_count(snapshot.byte_length().get()),
        is_of_file: snapshot.is_of_file(),
        mapping_count: to_handle(snapshot.mappings().len()),
        file: of_file(snapshot.file_status()),
    })
}

fn of_file(status: Option<file::Status>) -> NativeSeenFile {
    let (device, inode, bytes) =
        status.map_or((0, 0, 0), |it| (it.device, it.inode, it.allocated_bytes));
    NativeSeenFile {
        device: device.to_string(),
        inode: inode.to_string(),
        held_bytes: from_count(bytes),
    }
}

/// A number of objects, or of one of them: far below 2^53.
fn to_handle(number: usize) -> f64 {
    from_count(crate::sys::to_u64(number))
}
