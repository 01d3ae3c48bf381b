//! Snapshots. `array` as in memory.rs.

use super::handles::{Handles, Slot};
use super::memory::{access_code, aligned_offset, memory_of, place_of, to_access};
use super::region::region_of;
use super::task::{Job, NativeTask};
use super::window::{kind, to_number};
use super::{from_count, to_count};
use crate::error::{Code, Error};
use crate::memory::Place;
use crate::region::LoadProgress;
use crate::snapshot::{KeptMapping, KeptRegion, Loaded, MappedRegion, Settings, Snapshot};
use crate::sys::page::{PageAligned, PageSpan};
use crate::window::Rest;
use napi::Env;
use napi::bindgen_prelude::{AsyncTask, Unknown};
use napi_derive::napi;
use std::cell::RefCell;
use std::os::fd::IntoRawFd;
use std::path::Path;
use std::sync::Arc;

thread_local! {
    static SNAPSHOTS: RefCell<Handles<Snapshot>> = const { RefCell::new(Handles::new()) };
}

fn snapshot_of(handle: u32) -> Result<Arc<Snapshot>, Error> {
    SNAPSHOTS
        .with_borrow(|snapshots| snapshots.get(handle))
        .ok_or_else(|| Error::new(Code::SnapshotClosed, "the snapshot was closed"))
}

/// Restores by `[memory, bytes of the memory, snapshot]`, if the memory shows the snapshot. False: it must be laid first.
///
/// The caller holds the memory, which has guards, as for `window::slide`.
pub(super) fn restore([memory, memory_bytes, snapshot]: [f64; 3]) -> Result<bool, Error> {
    let memory = memory_of(to_number(memory)?)?;
    let place = Place::new(memory.base().get(), to_count(memory_bytes)?)?;
    memory.restore(place, &*snapshot_of(to_number(snapshot)?)?)
}

/// The same for zeros, by `[memory, bytes of the memory, bytes to keep resident]`.
pub(super) fn reset([memory, memory_bytes, keep_resident_bytes]: [f64; 3]) -> Result<bool, Error> {
    let memory = memory_of(to_number(memory)?)?;
    let place = Place::new(memory.base().get(), to_count(memory_bytes)?)?;
    memory.reset(place, to_count(keep_resident_bytes)?)
}

/// The same in a memory that V8 may have moved.
#[napi(catch_unwind)]
pub fn restore_unguarded(memory: u32, env: Env, array: Unknown<'_>, snapshot: u32) -> napi::Result<bool> {
    Ok(memory_of(memory)?.restore(place_of(env, array)?, &*snapshot_of(snapshot)?)?)
}

/// As above.
#[napi(catch_unwind)]
pub fn reset_unguarded(
    memory: u32,
    env: Env,
    array: Unknown<'_>,
    keep_resident_bytes: f64,
) -> napi::Result<bool> {
    Ok(memory_of(memory)?.reset(place_of(env, array)?, to_count(keep_resident_bytes)?)?)
}

/// Makes a memory show a snapshot, or zeros without one. Gives the mappings that were made, two numbers each: which of the snapshot's, and its id.
#[napi(catch_unwind)]
pub fn lay(
    memory: u32,
    env: Env,
    array: Unknown<'_>,
    snapshot: Option<u32>,
    keep_resident_bytes: f64,
) -> napi::Result<Vec<f64>> {
    let snapshot = snapshot.map(snapshot_of).transpose()?;
    let place = place_of(env, array)?;
    let made = memory_of(memory)?.lay(place, snapshot.as_deref(), to_count(keep_resident_bytes)?)?;
    let numbers = |(index, mapped): (usize, crate::memory::Mapped)| {
        [from_count(crate::sys::to_u64(index)), from_count(mapped.id)]
    };
    Ok(made.into_iter().flat_map(numbers).collect())
}

fn settings(keep_resident_bytes: f64, huge_pages: bool) -> Result<Settings, Error> {
    Ok(Settings { keep_resident_bytes: to_count(keep_resident_bytes)?, huge_pages })
}

/// Owns a snapshot as long as it is open.
#[napi]
pub struct NativeSnapshot {
    slot: Slot<Snapshot>,
    metadata: String,
}

/// How many numbers tell of a kept mapping: start, length, access, offset in the region, bytes of it, whether from free space,
/// a window's access or -1, whether its rest traps.
const MAPPING_NUMBERS: usize = 8;

#[napi]
impl NativeSnapshot {
    fn new(snapshot: Snapshot, metadata: String) -> napi::Result<Self> {
        Ok(Self { slot: Slot::new(&SNAPSHOTS, snapshot)?, metadata })
    }

    /// `regions`: three numbers for each mapping of the memory: its start, its region or -1, bytes of the region.
    #[napi(factory, catch_unwind)]
    pub fn capture(
        memory: u32,
        env: Env,
        array: Unknown<'_>,
        name: String,
        keep_resident_bytes: f64,
        huge_pages: bool,
        regions: Vec<f64>,
    ) -> napi::Result<Self> {
        let regions = regions.as_chunks::<3>().0.iter().map(|[start, region, byte_length]| {
            let region = if *region < 0.0 { None } else { Some(region_of(to_number(*region)?)?) };
            Ok(MappedRegion { start: aligned_offset(*start)?, region, byte_length: to_count(*byte_length)? })
        });
        let regions = regions.collect::<Result<Vec<_>, Error>>()?;
        let place = place_of(env, array)?;
        let snapshot =
            memory_of(memory)?.capture(place, &name, &regions, settings(keep_resident_bytes, huge_pages)?)?;
        Self::new(snapshot, String::new())
    }

    #[napi(factory, catch_unwind)]
    pub fn from_fd(fd: i32, keep_resident_bytes: f64) -> napi::Result<Self> {
        let Loaded { snapshot, metadata } = Snapshot::from_fd(fd, settings(keep_resident_bytes, false)?)?;
        Self::new(snapshot, metadata)
    }

    #[napi(catch_unwind)]
    pub fn load(
        task: &NativeTask,
        path: String,
        keep_resident_bytes: f64,
        huge_pages: bool,
    ) -> napi::Result<AsyncTask<Job<Loaded, Self>>> {
        let settings = settings(keep_resident_bytes, huge_pages)?;
        let load =
            move |progress: &LoadProgress| Snapshot::load(Path::new(&path), settings, &progress.cancelled);
        Ok(task.run(load, |Loaded { snapshot, metadata }| Self::new(snapshot, metadata)))
    }

    fn get(&self) -> Result<Arc<Snapshot>, Error> {
        snapshot_of(self.slot.number())
    }

    #[napi(catch_unwind)]
    pub fn finish(&self, metadata: String) -> napi::Result<()> {
        Ok(self.get()?.finish(metadata)?)
    }

    #[napi(getter)]
    pub fn handle(&self) -> u32 {
        self.slot.number()
    }

    /// Of a snapshot that was loaded.
    #[napi(getter)]
    pub fn metadata(&self) -> String {
        self.metadata.clone()
    }

    #[napi(getter, catch_unwind)]
    pub fn byte_length(&self) -> napi::Result<f64> {
        Ok(from_count(self.get()?.byte_length().get()))
    }

    #[napi(getter, catch_unwind)]
    pub fn resident_bytes(&self) -> f64 {
        self.get().map_or(0.0, |snapshot| from_count(snapshot.resident_bytes()))
    }

    /// A descriptor that is the caller's to close.
    #[napi(catch_unwind)]
    pub fn duplicate_fd(&self) -> napi::Result<i32> {
        Ok(self.get()?.duplicate_fd()?.into_raw_fd())
    }

    #[napi(getter, catch_unwind)]
    pub fn name(&self) -> napi::Result<String> {
        Ok(self.get()?.name().to_owned())
    }

    /// The mappings, `MAPPING_NUMBERS` each.
    #[napi(catch_unwind)]
    pub fn mappings(&self) -> napi::Result<Vec<f64>> {
        let snapshot = self.get()?;
        let numbers = |kept: &KeptMapping| -> [f64; MAPPING_NUMBERS] {
            let shown = kept.shown.as_ref();
            [
                from_count(kept.span.start().get()),
                from_count(kept.span.length().get()),
                access_code(kept.access),
                shown.map_or(0.0, |shown| from_count(shown.byte_offset.get())),
                shown.map_or(0.0, |shown| from_count(shown.byte_length)),
                f64::from(u8::from(kept.from_free)),
                kept.window.map_or(-1.0, |kind| access_code(kind.access)),
                f64::from(u8::from(kept.window.is_some_and(|kind| kind.rest == Rest::Inaccessible))),
            ]
        };
        Ok(snapshot.mappings().iter().flat_map(numbers).collect())
    }

    /// `mappings` as above; `regions`: the region of each, or -1.
    #[napi(catch_unwind)]
    pub fn set_mappings(&self, mappings: Vec<f64>, regions: Vec<f64>) -> napi::Result<()> {
        let invalid = || Error::new(Code::SnapshotInvalid, "the snapshot's list of mappings is damaged");
        let (kept, rest) = mappings.as_chunks::<MAPPING_NUMBERS>();
        if !rest.is_empty() || kept.len() != regions.len() {
            return Err(invalid().into());
        }
        let aligned = |value: f64| PageAligned::new(to_count(value).ok()?);
        let to_kept = |(numbers, region): (&[f64; MAPPING_NUMBERS], &f64)| {
            let [start, length, access, byte_offset, byte_length, from_free, window_access, trap] = *numbers;
            let span =
                aligned(start).zip(aligned(length)).and_then(|(start, length)| PageSpan::new(start, length));
            let span = span.ok_or_else(invalid)?;
            let shown = if *region < 0.0 {
                None
            } else {
                let region = region_of(to_number(*region)?)?;
                let byte_offset = aligned(byte_offset).ok_or_else(invalid)?;
                let byte_length = to_count(byte_length).map_err(|_| invalid())?;
                let pages = region.pages(byte_offset, byte_length)?;
                if pages.length() > span.length() || window_access < 0.0 && pages.length() < span.length() {
                    return Err(invalid());
                }
                Some(KeptRegion { region, byte_offset, byte_length })
            };
            let window = if window_access < 0.0 {
                None
            } else {
                Some(
                    kind(length, to_number(window_access).map_err(|_| invalid())?, trap != 0.0)
                        .map_err(|_| invalid())?,
                )
            };
            if window.is_none() && shown.is_none() {
                return Err(invalid());
            }
            let access = to_number(access).and_then(to_access).map_err(|_| invalid())?;
            Ok(KeptMapping { span, shown, access, from_free: from_free != 0.0, window })
        };
        let kept = kept.iter().zip(&regions).map(to_kept).collect::<Result<Vec<_>, Error>>()?;
        Ok(self.get()?.set_mappings(kept)?)
    }

    #[napi(catch_unwind)]
    pub fn save(&self, task: &NativeTask, path: String) -> napi::Result<AsyncTask<Job<(), ()>>> {
        let snapshot = self.get()?;
        let save = move |progress: &LoadProgress| snapshot.save(Path::new(&path), &progress.cancelled);
        Ok(task.run(save, Ok))
    }

    /// Closes it; memories that show it go on doing so.
    #[napi(catch_unwind)]
    pub fn close(&self) {
        drop(self.slot.take());
    }
}
