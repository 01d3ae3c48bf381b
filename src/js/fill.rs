//! Regions that are filled bit by bit. lib/ reads the sources, whatever they are.

use super::buffer::{Bytes, bytes_of};
use super::region::NativeRegion;
use super::{from_count, internal, to_count, to_kind};
use crate::error::{Error, RegionError};
use crate::region::Filling;
use napi::Env;
use napi::bindgen_prelude::Unknown;
use napi_derive::napi;

/// Owns the memory that is being filled, until it is a region or is given up.
#[napi]
pub struct NativeFilling {
    filling: Option<Filling>,
}

#[napi]
impl NativeFilling {
    /// `byte_length`: how many bytes will come, where that is known.
    #[napi(constructor, catch_unwind)]
    pub fn new(name: String, byte_length: Option<f64>, huge_pages: bool) -> napi::Result<Self> {
        let byte_length = byte_length.map(to_count).transpose()?;
        let filling = Filling::new(&name, byte_length, to_kind(huge_pages))?;
        Ok(Self { filling: Some(filling) })
    }

    fn get(&mut self) -> Result<&mut Filling, Error> {
        self.filling.as_mut().ok_or_else(|| RegionError::HandleClosed.into())
    }

    /// Appends a part of an array, and says how many bytes there are now. By V8's answer of this
    /// call the array may be shorter than lib/ has seen.
    #[napi(catch_unwind)]
    pub fn append(
        &mut self,
        env: Env,
        array: Unknown<'_>,
        from: f64,
        length: f64,
    ) -> napi::Result<f64> {
        let Bytes { address, byte_length, .. } = bytes_of(env, array)?;
        let (from, length) = (to_count(from)?, to_count(length)?);
        if from.checked_add(length).is_none_or(|end| end > byte_length) {
            return Err(internal("a part of an array ends behind it").into());
        }
        let filling = self.get()?;
        if filling.room().is_some_and(|room| length > room) {
            return Err(internal("a region is filled with more than it has room for").into());
        }
        let source = address.checked_add(from).ok_or_else(|| internal("no such address"))?;
        filling.append(source, length)?;
        Ok(from_count(filling.written()))
    }

    /// The region of what was appended.
    #[napi(catch_unwind)]
    pub fn finish(&mut self) -> napi::Result<NativeRegion> {
        let filling = self.filling.take().ok_or(Error::from(RegionError::HandleClosed))?;
        NativeRegion::new(filling.finish()?)
    }

    /// Lets go of what was appended.
    #[napi(catch_unwind)]
    pub fn abandon(&mut self) {
        drop(self.filling.take());
    }
}
