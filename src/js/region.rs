//! Regions, their views and loads.

// It makes ArrayBuffers over views, by Node-API.
#![allow(unsafe_code)]

use super::buffer::{Bytes, bytes_of};
use super::fault_counts::NativeFaults;
use super::handles::{Handles, Slot};
use super::paged::{NativeReceivedPaging, prepare_thread};
use super::reader::NativeReader;
use super::share::NativeToken;
use super::task::{Job, NativeTask};
use super::{from_count, internal, to_access, to_count, to_kind};
use crate::error::{Error, RegionError};
use crate::region::{self, Backing, Held, LoadProgress, Part, Region, View, ViewList};
use crate::share::{self, ShareAccess, Shareable, Token};
use crate::sys::alloc;
use napi::bindgen_prelude::{AsyncTask, Unknown};
use napi::{Env, sys};
use napi_derive::napi;
use std::cell::RefCell;
use std::os::fd::IntoRawFd;
use std::path::Path;
use std::sync::Arc;

thread_local! {
    static REGIONS: RefCell<Handles<Region>> = const { RefCell::new(Handles::new()) };
}

/// The region behind a number, if it is open.
pub(super) fn region_of(handle: u32) -> Result<Arc<Region>, Error> {
    REGIONS
        .with_borrow(|regions| regions.get(handle))
        .ok_or_else(|| RegionError::HandleClosed.into())
}

/// Every region that is open on this thread, with its number.
pub(super) fn all_regions() -> Result<Vec<(usize, Arc<Region>)>, Error> {
    let all = |regions: &Handles<Region>| {
        alloc::collected(regions.all().map(|(number, region)| (number, Arc::clone(region))))
    };
    Ok(REGIONS.with_borrow(all)?)
}

/// Owns a region as long as it is open. Closing it, or its collection, closes the descriptor; views
/// that are left keep their pages.
#[napi]
pub struct NativeRegion {
    slot: Slot<Region>,
    /// Those that are left of a closed region, too.
    views: Arc<ViewList>,
}

/// What somebody holds of a region: ArrayBuffers of `view`, and Buffers of `bytes`.
#[napi(object, object_from_js = false)]
pub struct NativeHeld {
    pub views: f64,
    pub buffers: f64,
    pub bytes: f64,
}

/// How much of a region is in huge pages now, and why not all.
#[napi(object, object_from_js = false)]
pub struct NativeHugePages {
    pub bytes: f64,
    pub reason: Option<String>,
}

fn part(byte_offset: f64, byte_length: Option<f64>) -> Result<Part, Error> {
    Ok(Part {
        byte_offset: to_count(byte_offset)?,
        byte_length: byte_length.map(to_count).transpose()?,
    })
}

#[napi]
impl NativeRegion {
    pub(super) fn new(region: Region) -> napi::Result<Self> {
        let views = Arc::clone(region.views());
        Ok(Self { slot: Slot::new(&REGIONS, region)?, views })
    }

    #[napi(factory, catch_unwind)]
    pub fn allocate(byte_length: f64, name: String, huge_pages: bool) -> napi::Result<Self> {
        Self::new(Region::allocate(to_count(byte_length)?, &name, to_kind(huge_pages))?)
    }

    #[napi(factory, catch_unwind)]
    pub fn copy_from(
        env: Env,
        source: Unknown<'_>,
        name: String,
        huge_pages: bool,
    ) -> napi::Result<Self> {
        let Bytes { address, byte_length, .. } = bytes_of(env, source)?;
        Self::new(Region::copy_from(address, byte_length, &name, to_kind(huge_pages))?)
    }

    #[napi(factory, catch_unwind)]
    pub fn open(
        path: String,
        byte_offset: f64,
        byte_length: Option<f64>,
        writable: bool,
    ) -> napi::Result<Self> {
        Self::new(Region::open(Path::new(&path), part(byte_offset, byte_length)?, writable)?)
    }

    #[napi(factory, catch_unwind)]
    pub fn from_fd(fd: i32, byte_offset: f64, byte_length: Option<f64>) -> napi::Result<Self> {
        Self::new(Region::from_fd(fd, part(byte_offset, byte_length)?)?)
    }

    #[napi(catch_unwind)]
    pub fn load(
        task: &NativeTask,
        path: String,
        byte_offset: f64,
        byte_length: Option<f64>,
        name: Option<String>,
        huge_pages: bool,
    ) -> napi::Result<AsyncTask<Job>> {
        let (part, kind) = (part(byte_offset, byte_length)?, to_kind(huge_pages));
        let load = move |progress: &LoadProgress| {
            region::load(Path::new(&path), part, name.as_deref(), kind, progress)
        };
        Ok(task.run(load, Self::new))
    }

    fn get(&self) -> Result<Arc<Region>, Error> {
        region_of(self.slot.number())
    }

    #[napi(getter)]
    pub fn handle(&self) -> u32 {
        self.slot.number()
    }

    #[napi(getter, catch_unwind)]
    pub fn byte_length(&self) -> napi::Result<f64> {
        Ok(from_count(self.get()?.byte_length()))
    }

    #[napi(getter, catch_unwind)]
    pub fn name(&self) -> napi::Result<String> {
        Ok(self.get()?.name().to_owned())
    }

    #[napi(getter, catch_unwind)]
    pub fn is_memfd(&self) -> napi::Result<bool> {
        Ok(self.get()?.backing() == Backing::Memfd)
    }

    #[napi(catch_unwind)]
    pub fn share(&self, readonly: bool, enforce: bool) -> napi::Result<NativeToken> {
        let access = if readonly { ShareAccess::Readonly } else { ShareAccess::Shared };
        Ok(self.get()?.share(access, enforce)?.into())
    }

    /// A descriptor that is the caller's to close.
    #[napi(catch_unwind)]
    pub fn duplicate_fd(&self) -> napi::Result<i32> {
        Ok(self.get()?.duplicate_fd()?.into_raw_fd())
    }

    /// Its descriptor, for reads that go on when it is closed.
    #[napi(catch_unwind)]
    pub fn reader(&self) -> napi::Result<NativeReader> {
        let region = self.get()?;
        region.check_not_paged("read")?;
        Ok(NativeReader::of(&region))
    }

    /// The same of a paged region, for what is present: see `paging.rs`. `null` for others.
    #[napi(catch_unwind)]
    pub fn paged_reader(&self) -> napi::Result<Option<NativeReader>> {
        let region = self.get()?;
        Ok(region.pager().map(|_| NativeReader::of(&region)))
    }

    /// What a paged region was received with, once: see `paging.rs`. `null` for others.
    #[napi(catch_unwind)]
    pub fn received_paging(&self, env: Env) -> napi::Result<Option<NativeReceivedPaging>> {
        let region = self.get()?;
        if region.pager().is_some() {
            prepare_thread(env)?;
        }
        Ok(NativeReceivedPaging::of(&region))
    }

    /// Where in its file it begins.
    #[napi(getter, catch_unwind)]
    pub fn file_offset(&self) -> napi::Result<f64> {
        Ok(from_count(self.get()?.file_offset().get()))
    }

    /// Writes all bytes of an array to an offset.
    #[napi(catch_unwind)]
    pub fn write(&self, env: Env, source: Unknown<'_>, byte_offset: f64) -> napi::Result<()> {
        let Bytes { address, byte_length, .. } = bytes_of(env, source)?;
        Ok(self.get()?.write(to_count(byte_offset)?, address, byte_length)?)
    }

    #[napi(getter, catch_unwind)]
    pub fn writable(&self) -> bool {
        self.get().is_ok_and(|region| region.is_writable())
    }

    #[napi(getter, catch_unwind)]
    pub fn sealed(&self) -> bool {
        self.get().is_ok_and(|region| region.is_sealed())
    }

    #[napi(catch_unwind)]
    pub fn seal(&self) -> napi::Result<()> {
        Ok(self.get()?.seal()?)
    }

    #[napi(catch_unwind)]
    pub fn close(&self) {
        drop(self.slot.take());
    }

    /// Takes the pages out of views: of all, or of those that closing does not keep. lib/ has
    /// detached their buffers.
    #[napi(catch_unwind)]
    pub fn release_views(&self, all: bool) {
        self.views.release(all);
    }

    /// After it is closed, too.
    #[napi(catch_unwind)]
    pub fn held(&self) -> NativeHeld {
        let Held { released, kept, bytes } = self.views.held();
        let (views, buffers) = (from_count(released), from_count(kept));
        NativeHeld { views, buffers, bytes: from_count(bytes) }
    }

    /// The faults of its views, of those that are kept after it is closed, too.
    #[napi(catch_unwind)]
    pub fn view_faults(&self) -> NativeFaults {
        NativeFaults::new(self.views.counts(), None)
    }

    /// Whether its file can't get shorter.
    #[napi(getter, catch_unwind)]
    pub fn keeps_size(&self) -> bool {
        self.get().is_ok_and(|region| region.keeps_size())
    }

    /// Bytes of the region that its file holds now; `undefined` where that is not known. Cost: one
    /// `fstat`.
    #[napi(getter, catch_unwind)]
    pub fn bytes_in_file(&self) -> Option<f64> {
        let region = self.get().ok()?;
        // The file may have been cut before the region's start: then it holds nothing of it.
        let bytes = region.file_bytes()?.saturating_sub(region.file_offset().get());
        Some(from_count(bytes))
    }

    /// Whether it was filled with huge pages, some of it at least.
    #[napi(getter, catch_unwind)]
    pub fn is_huge(&self) -> bool {
        self.get().is_ok_and(|region| region.is_huge())
    }

    /// How many of its bytes are in huge pages now, and why not all. Cost: see `thp::bytes_of`.
    #[napi(catch_unwind)]
    pub fn huge_pages(&self) -> napi::Result<NativeHugePages> {
        let (bytes, why_not) = self.get()?.huge_pages();
        let reason = why_not.map(|why_not| why_not.to_string());
        Ok(NativeHugePages { bytes: from_count(bytes), reason })
    }

    /// Bytes of memory that the region holds now. Cost: one `fstat`.
    #[napi(getter, catch_unwind)]
    pub fn held_bytes(&self) -> f64 {
        self.get().map_or(0.0, |region| from_count(region.held_bytes()))
    }

    #[napi(catch_unwind)]
    pub fn view<'env>(
        &self,
        env: Env,
        byte_offset: f64,
        byte_length: f64,
    ) -> napi::Result<Unknown<'env>> {
        let view = self.get()?.view(to_count(byte_offset)?, to_count(byte_length)?)?;
        Ok(external_array_buffer(env, view)?)
    }

    /// The ArrayBuffer of a Buffer; `null` for no bytes.
    #[napi(catch_unwind)]
    pub fn bytes<'env>(
        &self,
        env: Env,
        byte_offset: f64,
        byte_length: f64,
        access: u32,
    ) -> napi::Result<Option<Unknown<'env>>> {
        let (byte_offset, byte_length) = (to_count(byte_offset)?, to_count(byte_length)?);
        let (region, access) = (self.get()?, to_access(access)?);
        if byte_length == 0 {
            region.check_access(access)?;
            return Ok(None);
        }
        let view = region.kept_view(byte_offset, byte_length, access)?;
        Ok(Some(external_array_buffer(env, view)?))
    }
}

#[napi(catch_unwind)]
pub fn receive_region(
    token: NativeToken,
    use_userfaultfd: Option<bool>,
) -> napi::Result<NativeRegion> {
    let token = token.parse(share::Shareable::Region)?;
    NativeRegion::new(received_region(&token, use_userfaultfd)?)
}

/// `use_userfaultfd`: of a paged region.
pub(super) fn received_region(
    token: &Token,
    use_userfaultfd: Option<bool>,
) -> Result<Region, Error> {
    match token.terms.kind {
        Shareable::PagedRegion => Region::receive_paged(token, use_userfaultfd),
        _ => share::receive(token, &|fd| Region::received(fd, &token.terms)),
    }
}

/// An ArrayBuffer over a view. The view is unmapped when both of its owners are gone: the bytes,
/// which another ArrayBuffer may have taken over (`ArrayBuffer.prototype.transfer`), and this
/// object. A call that still works on the address holds the object, even if the buffer was detached
/// meanwhile.
///
/// V8 counts the length of an external buffer as external memory as long as the buffer lives. That
/// can't be corrected: `napi_adjust_external_memory` would have to make the count negative for a
/// moment when the buffer is collected, and V8 13 and later end the process then ("Check failed:
/// amount_before >= -delta").
fn external_array_buffer<'env>(env: Env, view: Arc<View>) -> Result<Unknown<'env>, Error> {
    let address = crate::sys::to_usize(view.address()) as *mut std::ffi::c_void;
    let byte_length = view.byte_length();
    let bytes_owner = Box::into_raw(Box::new(Arc::clone(&view)));
    let mut buffer = std::ptr::null_mut();
    // SAFETY: `address` is valid for `byte_length` bytes as long as `bytes_owner` lives, which
    // `release_view` ends; it is called once, on this thread, when V8 lets go of the bytes.
    let status = unsafe {
        sys::napi_create_external_arraybuffer(
            env.raw(),
            address,
            crate::sys::to_usize(byte_length),
            Some(release_view),
            bytes_owner.cast(),
            &raw mut buffer,
        )
    };
    if status != sys::Status::napi_ok {
        // SAFETY: the buffer was not made, so nobody else has it.
        drop(unsafe { Box::from_raw(bytes_owner) });
        return Err(if status == sys::Status::napi_no_external_buffers_allowed {
            RegionError::NoExternalBuffers.into()
        } else {
            RegionError::ViewTooLong { byte_length }.into()
        });
    }
    let object_owner = Box::into_raw(Box::new(view));
    // SAFETY: `buffer` is a handle of this scope; `release_view` is called once, when the object is
    // collected.
    let status = unsafe {
        sys::napi_add_finalizer(
            env.raw(),
            buffer,
            object_owner.cast(),
            Some(release_owner),
            std::ptr::null_mut(),
            std::ptr::null_mut(),
        )
    };
    if status != sys::Status::napi_ok {
        // SAFETY: the finalizer was not added, so nobody else has it. The buffer goes when it is
        // collected.
        drop(unsafe { Box::from_raw(object_owner) });
        return Err(internal("napi_add_finalizer failed"));
    }
    // SAFETY: the call gave a handle of this scope.
    Ok(unsafe { Unknown::from_raw_unchecked(env.raw(), buffer) })
}

/// Whether an environment is ending: then no JavaScript can run in it, and a call that might run
/// some says so.
fn is_ending(env: sys::napi_env) -> bool {
    let (mut value, mut result) = (std::ptr::null_mut(), std::ptr::null_mut());
    // SAFETY: Node calls finalizers in a handle scope of a live environment.
    unsafe {
        sys::napi_get_boolean(env, true, &raw mut value) != sys::Status::napi_ok
            || sys::napi_coerce_to_bool(env, value, &raw mut result) != sys::Status::napi_ok
    }
}

/// For `napi_create_external_arraybuffer`, which passes the owner as the hint.
///
/// When a worker ends, Node calls this for every buffer that was made there, even if another thread
/// has the bytes by now: `ArrayBuffer.prototype.transfer` takes them out of the buffer that Node
/// marked as not to be posted, and puts them into one that can be. Nothing tells the two apart
/// then, so the addresses are left alone.
unsafe extern "C" fn release_view(
    env: sys::napi_env,
    _address: *mut std::ffi::c_void,
    owner: *mut std::ffi::c_void,
) {
    // SAFETY: `owner` is what `external_array_buffer` boxed for this finalizer, which is called
    // once.
    let view = unsafe { Box::from_raw(owner.cast::<Arc<View>>()) };
    if !view.is_placeholder() && is_ending(env) {
        view.abandon();
    }
}

/// For `napi_add_finalizer`, which passes the owner as the data.
unsafe extern "C" fn release_owner(
    _env: sys::napi_env,
    owner: *mut std::ffi::c_void,
    _hint: *mut std::ffi::c_void,
) {
    // SAFETY: `owner` is what `external_array_buffer` boxed for this finalizer, which is called
    // once.
    drop(unsafe { Box::from_raw(owner.cast::<Arc<View>>()) });
}

/// An ArrayBuffer of zeros that take no memory, to be counted and never given to anybody: writing
/// it is a fault.
#[napi(catch_unwind)]
pub fn placeholder<'env>(env: Env, byte_length: f64) -> napi::Result<Unknown<'env>> {
    Ok(external_array_buffer(env, View::placeholder(to_count(byte_length)?)?)?)
}

/// Detaches a view's ArrayBuffer. Nothing happens if it is detached already.
#[napi(catch_unwind)]
pub fn detach(env: Env, buffer: Unknown<'_>) -> napi::Result<()> {
    use napi::bindgen_prelude::JsValue;
    // SAFETY: a live handle of this call's scope; Node refuses what is no detachable ArrayBuffer.
    let status = unsafe { sys::napi_detach_arraybuffer(env.raw(), buffer.raw()) };
    let detached = status == sys::Status::napi_ok
        || status == sys::Status::napi_detachable_arraybuffer_expected;
    if detached { Ok(()) } else { Err(internal("napi_detach_arraybuffer failed").into()) }
}
