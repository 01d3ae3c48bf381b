//! Names of regions, by which other processes find them.

use super::from_count;
use super::region::{NativeRegion, received_region, region_of};
use super::share::nonce;
use crate::names::{self, Publication};
use crate::share::{self, ShareAccess};
use napi_derive::napi;
use std::path::Path;

/// Keeps a name until it is closed or collected, or its thread ends.
#[napi]
pub struct NativePublication {
    publication: Option<Publication>,
}

#[napi]
impl NativePublication {
    /// Whether those who look for the name find this one.
    #[napi(getter, catch_unwind)]
    pub fn is_current(&self) -> bool {
        self.publication.as_ref().is_some_and(Publication::is_current)
    }

    #[napi(catch_unwind)]
    pub fn close(&mut self) {
        self.publication = None;
    }
}

/// What was found: the region, which can be taken once, and what tells it from others.
#[napi]
pub struct NativeFound {
    region: Option<NativeRegion>,
    nonce: share::Nonce,
}

#[napi]
impl NativeFound {
    #[napi(catch_unwind)]
    pub fn take(&mut self) -> Option<NativeRegion> {
        self.region.take()
    }

    #[napi(getter, catch_unwind)]
    pub fn nonce(&self) -> String {
        format!("{:032x}", u128::from_be_bytes(self.nonce))
    }
}

/// What a list says of a name.
#[napi(object, object_from_js = false)]
pub struct NativePublished {
    pub name: String,
    pub pid: u32,
    pub readonly: bool,
    pub byte_length: f64,
}

#[napi(catch_unwind)]
pub fn publish_region(
    handle: u32,
    directory: String,
    name: String,
    readonly: bool,
    enforce: bool,
    replace: bool,
) -> napi::Result<NativePublication> {
    let access = if readonly { ShareAccess::Readonly } else { ShareAccess::Shared };
    let region = region_of(handle)?;
    let offer = || region.offer_to_any(access, enforce);
    let publication = names::publish(Path::new(&directory), &name, replace, &offer)?;
    Ok(NativePublication { publication: Some(publication) })
}

/// `known`: what the caller has. Gives nothing if it is that one.
#[napi(catch_unwind)]
pub fn find_region(
    directory: String,
    name: String,
    known: Option<String>,
    use_userfaultfd: Option<bool>,
) -> napi::Result<Option<NativeFound>> {
    let known = known.as_deref().map(nonce).transpose()?;
    let found = names::find(Path::new(&directory), &name, known, &|token| {
        received_region(token, use_userfaultfd)
    })?;
    let Some(names::Found { made, nonce }) = found else { return Ok(None) };
    Ok(Some(NativeFound { region: Some(NativeRegion::new(made)?), nonce }))
}

#[napi(catch_unwind)]
pub fn published_regions(directory: String) -> napi::Result<Vec<NativePublished>> {
    let listed = names::list(Path::new(&directory))?.into_iter();
    let published = listed.map(|names::Listed { name, pid, access, byte_length }| {
        let readonly = access == ShareAccess::Readonly;
        NativePublished { name, pid, readonly, byte_length: from_count(byte_length) }
    });
    Ok(published.collect())
}

/// Makes the folder of names, if there is none.
#[napi(catch_unwind)]
pub fn prepare_names(directory: String) -> napi::Result<()> {
    Ok(names::prepare(Path::new(&directory))?)
}
