//! Snapshots. `array` as in memory.rs.

use super::buffer::live_memory;
use super::handles::{Handles, Slot};
use super::memory::{aligned_offset, memory_of};
use super::region::region_of;
use super::share::NativeToken;
use super::snapshot_data::{
    NativeKept, NativeShown, NativeState, item, kept_to, state_from, state_to,
};
use super::task::{Job, NativeTask};
use super::{from_count, internal, to_access, to_count, to_number};
use crate::error::{Error, Result, SnapshotError};
use crate::memory::Memory;
use crate::region::LoadProgress;
use crate::share;
use crate::snapshot::capture::{self, Afterwards, MappedRegion, capture};
use crate::snapshot::complete::complete;
use crate::snapshot::format::Mac;
use crate::snapshot::grant::{Grant, grant};
use crate::snapshot::metadata::{About, AddressType, State};
use crate::snapshot::open::{self, Verify};
use crate::snapshot::restore::{self, MadeMapping};
use crate::snapshot::store::{self, Loaded, Part};
use crate::snapshot::{Settings, Snapshot};
use crate::sys::alloc;
use crate::sys::page::host_page_bytes;
use crate::sys::sum;
use crate::v8::live_memory::LiveMemory;
use crate::wire::Text;
use napi::Env;
use napi::bindgen_prelude::{Array, AsyncTask, Buffer, Float64Array, Uint8Array, Unknown};
use napi_derive::napi;
use std::cell::RefCell;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

thread_local! {
    static SNAPSHOTS: RefCell<Handles<Snapshot>> = const { RefCell::new(Handles::new()) };
}

fn snapshot_of(handle: u32) -> Result<Arc<Snapshot>, Error> {
    SNAPSHOTS
        .with_borrow(|snapshots| snapshots.get(handle))
        .ok_or_else(|| SnapshotError::Closed.into())
}

/// Every snapshot that is open on this thread, with its number.
pub(super) fn all_snapshots() -> Result<Vec<(usize, Arc<Snapshot>)>> {
    let all = |snapshots: &Handles<Snapshot>| {
        alloc::collected(snapshots.all().map(|(number, it)| (number, Arc::clone(it))))
    };
    Ok(SNAPSHOTS.with_borrow(all)?)
}

/// A mapping that a restore made.
#[napi(object)]
pub struct NativeMadeMapping {
    /// Which of the snapshot's mappings it is.
    pub index: u32,
    pub id: f64,
}

impl NativeMadeMapping {
    fn from_core(made: &MadeMapping) -> Self {
        let index = u32::try_from(made.index).expect("a snapshot has fewer mappings");
        Self { index, id: from_count(made.mapped.id) }
    }
}

/// Makes a memory show a snapshot, by its handle, and gives the mappings that this made.
pub(super) fn restore(
    memory: &Memory,
    live: LiveMemory<'_>,
    [snapshot]: [f64; 1],
) -> Result<Vec<NativeMadeMapping>, Error> {
    let made = restore::restore(memory, live, &*snapshot_of(to_number(snapshot)?)?)?;
    Ok(alloc::collected(made.iter().map(NativeMadeMapping::from_core))?)
}

/// Makes a memory zeros, by how many bytes may stay resident.
pub(super) fn reset(
    memory: &Memory,
    live: LiveMemory<'_>,
    [keep_resident_bytes]: [f64; 1],
) -> Result<(), Error> {
    restore::reset(memory, live, to_count(keep_resident_bytes)?)
}

fn settings(keep_resident_bytes: f64, huge_pages: bool) -> Result<Settings, Error> {
    Ok(Settings { keep_resident_bytes: to_count(keep_resident_bytes)?, huge_pages })
}

/// How a snapshot is taken.
#[napi(object)]
pub struct NativeHow {
    pub name: String,
    pub keep_resident_bytes: f64,
    pub huge_pages: bool,
    /// Whether the memory shows its pages from then on.
    pub share_pages: bool,
}

/// What a mapping or window is given when a snapshot is loaded.
#[napi(object)]
pub struct NativeGrant {
    /// Absent for an empty window.
    pub region: Option<u32>,
    pub access: u32,
}

/// What only lib/ knows of a snapshot.
#[napi(object)]
pub struct NativeAbout {
    /// `'i32'` or `'i64'`.
    pub address: String,
    pub module_digest: Option<String>,
    /// Why it can't be saved.
    pub unsaveable: Option<String>,
}

/// A part of what an authentication code covers.
#[napi(object)]
pub struct NativePart {
    pub bytes: Buffer,
    /// What to ask for next; absent: nothing.
    pub next: Option<f64>,
}

/// The pages of a memory's own that are not all zeros: offset and length of each run of them.
#[napi(catch_unwind)]
pub fn data_in(memory: u32, env: Env, array: Unknown<'_>) -> napi::Result<Float64Array> {
    let live = live_memory(env, array)?;
    let data = capture::data_in(&*memory_of(memory)?, live)?;
    let mut numbers = Vec::new();
    numbers
        .try_reserve_exact(data.len().saturating_mul(2))
        .map_err(alloc::Refused::from)
        .map_err(Error::from)?;
    for span in data {
        numbers.push(from_count(span.start().get()));
        numbers.push(from_count(span.length().get()));
    }
    Ok(numbers.into())
}

/// Owns a snapshot as long as it is open.
#[napi]
pub struct NativeSnapshot {
    slot: Slot<Snapshot>,
    loaded: RefCell<Option<FromFile>>,
}

/// What a snapshot that came from elsewhere says, until lib/ has taken it.
struct FromFile {
    about: About,
    state: Option<State>,
    mac: Option<Mac>,
}

#[napi]
impl NativeSnapshot {
    fn new(snapshot: Snapshot, loaded: Option<FromFile>) -> napi::Result<Self> {
        Ok(Self { slot: Slot::new(&SNAPSHOTS, snapshot)?, loaded: RefCell::new(loaded) })
    }

    fn from_loaded(loaded: Loaded) -> napi::Result<Self> {
        let Loaded { snapshot, about, state, mac } = loaded;
        Self::new(snapshot, Some(FromFile { about, state, mac }))
    }

    #[napi(factory, catch_unwind)]
    pub fn capture(
        memory: u32,
        env: Env,
        array: Unknown<'_>,
        how: NativeHow,
        shown: Array<'_>,
    ) -> napi::Result<Self> {
        let mut regions = alloc::with_room(shown.len() as usize).map_err(Error::from)?;
        for index in 0..shown.len() {
            let it: NativeShown = item(&shown, index)?;
            let (offset, length) = (to_count(it.byte_offset)?, to_count(it.byte_length)?);
            let skip = offset.checked_rem(host_page_bytes()).expect("a page has bytes");
            regions.push(MappedRegion {
                start: aligned_offset(it.address)?,
                region: it.region.map(region_of).transpose()?,
                byte_length: if it.region.is_some() { sum(length, skip) } else { 0 },
                skip,
                strict: it.strict,
            });
        }
        let live = live_memory(env, array)?;
        let NativeHow { name, keep_resident_bytes, huge_pages, share_pages } = how;
        let settings = settings(keep_resident_bytes, huge_pages)?;
        let afterwards = if share_pages { Afterwards::Shares } else { Afterwards::Keeps };
        let memory = memory_of(memory)?;
        let snapshot = capture(&memory, live, &name, &regions, settings, afterwards)?;
        Self::new(snapshot, None)
    }

    #[napi(factory, catch_unwind)]
    pub fn from_fd(fd: i32, keep_resident_bytes: f64) -> napi::Result<Self> {
        Self::from_loaded(open::from_fd(fd, settings(keep_resident_bytes, false)?)?)
    }

    /// What can't be made a snapshot leaves the token as it was.
    #[napi(factory, catch_unwind)]
    pub fn receive(token: NativeToken, keep_resident_bytes: f64) -> napi::Result<Self> {
        let settings = settings(keep_resident_bytes, false)?;
        let make = |fd: OwnedFd| open::from_fd(fd.as_raw_fd(), settings);
        Self::from_loaded(share::receive(&token.parse(share::Shareable::Snapshot)?, &make)?)
    }

    #[napi(catch_unwind)]
    pub fn load(
        task: &NativeTask,
        path: String,
        keep_resident_bytes: f64,
        huge_pages: bool,
    ) -> napi::Result<AsyncTask<Job>> {
        let settings = settings(keep_resident_bytes, huge_pages)?;
        let load = move |progress: &LoadProgress| {
            store::load(Path::new(&path), settings, &progress.cancelled)
        };
        Ok(task.run(load, Self::from_loaded))
    }

    /// `verify`: all of the file is read and checked.
    #[napi(catch_unwind)]
    pub fn open(
        task: &NativeTask,
        path: String,
        keep_resident_bytes: f64,
        verify: bool,
    ) -> napi::Result<AsyncTask<Job>> {
        let settings = settings(keep_resident_bytes, false)?;
        let verify = if verify { Verify::All } else { Verify::Description };
        let open = move |progress: &LoadProgress| {
            open::open(Path::new(&path), settings, verify, &progress.cancelled)
        };
        Ok(task.run(open, Self::from_loaded))
    }

    fn get(&self) -> Result<Arc<Snapshot>, Error> {
        snapshot_of(self.slot.number())
    }

    /// Whether its pages are a saved file's.
    #[napi(getter, catch_unwind)]
    pub fn is_of_file(&self) -> napi::Result<bool> {
        Ok(self.get()?.is_of_file())
    }

    /// Completes a snapshot that was captured. The state is given in three lists, as in
    /// [`NativeState`]; `null`: there is none. Gives the reason where it can't be saved.
    #[napi(catch_unwind)]
    pub fn finish(
        &self,
        about: NativeAbout,
        values: Option<Array<'_>>,
        globals: Option<Array<'_>>,
        tables: Option<Array<'_>>,
    ) -> napi::Result<Option<String>> {
        let NativeAbout { address, module_digest, unsaveable } = about;
        let mut about = About {
            address: if address == "i64" { AddressType::I64 } else { AddressType::I32 },
            module: module_digest.and_then(Text::new),
            unsaveable: unsaveable.map(|why| Text::new(why).unwrap_or_default()),
        };
        let state = match (values, globals, tables) {
            (Some(values), Some(globals), Some(tables)) => state_from(&values, &globals, &tables)?,
            _ => None,
        };
        if let (Some(Err(why)), None) = (&state, &about.unsaveable) {
            about.unsaveable = Text::new((*why).to_owned());
        }
        let state = state.and_then(Result::ok);
        Ok(complete(&*self.get()?, about, state.as_ref())?)
    }

    #[napi(getter)]
    pub fn handle(&self) -> u32 {
        self.slot.number()
    }

    /// What a snapshot that was loaded says of itself.
    #[napi(catch_unwind)]
    pub fn about(&self) -> napi::Result<NativeAbout> {
        let loaded = self.loaded.borrow();
        let about = &loaded.as_ref().ok_or_else(|| internal("the snapshot was not loaded"))?.about;
        let copy = |text: &str| alloc::text(text).map_err(Error::from);
        Ok(NativeAbout {
            address: if about.address == AddressType::I64 { "i64" } else { "i32" }.to_owned(),
            module_digest: about.module.as_deref().map(copy).transpose()?,
            unsaveable: about.unsaveable.as_deref().map(copy).transpose()?,
        })
    }

    /// Its globals and tables; `null`: it has none, or they were taken.
    #[napi(catch_unwind)]
    pub fn take_state(&self) -> napi::Result<Option<NativeState>> {
        let state = self.loaded.borrow_mut().as_mut().and_then(|loaded| loaded.state.take());
        Ok(state.map(state_to).transpose()?)
    }

    /// The authentication code of the file that it was loaded from.
    #[napi(catch_unwind)]
    pub fn mac(&self) -> Option<Buffer> {
        let mac = self.loaded.borrow().as_ref().and_then(|loaded| loaded.mac);
        mac.map(|mac| mac.to_vec().into())
    }

    /// What goes on when the snapshot is closed meanwhile.
    #[napi(catch_unwind)]
    pub fn hold(&self) -> napi::Result<NativeHeldSnapshot> {
        Ok(NativeHeldSnapshot { snapshot: RefCell::new(Some(self.get()?)) })
    }

    #[napi(getter, catch_unwind)]
    pub fn byte_length(&self) -> napi::Result<f64> {
        Ok(from_count(self.get()?.byte_length().get()))
    }

    #[napi(getter, catch_unwind)]
    pub fn resident_bytes(&self) -> f64 {
        self.get().map_or(0.0, |snapshot| from_count(snapshot.resident_bytes()))
    }

    #[napi(catch_unwind)]
    pub fn share(&self) -> napi::Result<NativeToken> {
        Ok(self.get()?.share()?.into())
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

    /// The mappings, with the access that was granted.
    #[napi(catch_unwind)]
    pub fn mappings(&self) -> napi::Result<Vec<NativeKept>> {
        let described = self.get()?.described_mappings()?;
        Ok(alloc::collected(described.into_iter().map(kept_to)).map_err(Error::from)?)
    }

    /// The mappings of a snapshot that was loaded, as they were saved.
    #[napi(catch_unwind)]
    pub fn saved_mappings(&self) -> napi::Result<Vec<NativeKept>> {
        let snapshot = self.get()?;
        let saved = snapshot.saved_mappings().iter().cloned().map(kept_to);
        Ok(alloc::collected(saved).map_err(Error::from)?)
    }

    /// Gives each of the saved mappings its region.
    #[napi(catch_unwind)]
    pub fn grant(&self, grants: Array<'_>) -> napi::Result<()> {
        let mut list = alloc::with_room(grants.len() as usize).map_err(Error::from)?;
        for index in 0..grants.len() {
            let it: NativeGrant = item(&grants, index)?;
            list.push(Grant {
                region: it.region.map(region_of).transpose()?,
                access: to_access(it.access)?,
            });
        }
        Ok(grant(&*self.get()?, &list)?)
    }

    /// Closes it; memories that show it go on doing so.
    #[napi(catch_unwind)]
    pub fn close(&self) {
        drop(self.slot.take());
    }
}

/// A snapshot for as long as it is read or saved.
#[napi]
pub struct NativeHeldSnapshot {
    snapshot: RefCell<Option<Arc<Snapshot>>>,
}

#[napi]
impl NativeHeldSnapshot {
    fn get(&self) -> Result<Arc<Snapshot>> {
        self.snapshot.borrow().clone().ok_or_else(|| internal("the snapshot was let go of"))
    }

    /// Lets go of it, before it is collected.
    #[napi(catch_unwind)]
    pub fn release(&self) {
        drop(self.snapshot.take());
    }

    /// A part of what an authentication code covers. 0 begins.
    #[napi(catch_unwind)]
    pub fn part(&self, task: &NativeTask, from: f64) -> napi::Result<AsyncTask<Job>> {
        let (snapshot, from) = (self.get()?, to_count(from)?);
        let to_js = |Part { bytes, next }: Part| {
            Ok(NativePart { bytes: bytes.into(), next: next.map(from_count) })
        };
        Ok(task.run(move |_: &LoadProgress| store::read_part(&snapshot, from), to_js))
    }

    /// `mac`: 32 bytes, or `null` for none.
    #[napi(catch_unwind)]
    pub fn save(
        &self,
        task: &NativeTask,
        path: String,
        mac: Option<Uint8Array>,
    ) -> napi::Result<AsyncTask<Job>> {
        let snapshot = self.get()?;
        let mac = match mac {
            Some(mac) => {
                *mac.first_chunk().ok_or_else(|| internal("an authentication code has 32 bytes"))?
            }
            None => Mac::default(),
        };
        let save = move |progress: &LoadProgress| {
            store::save(&snapshot, Path::new(&path), &mac, &progress.cancelled)
        };
        Ok(task.run(save, Ok))
    }
}
