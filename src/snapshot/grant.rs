//! Gives the mappings of a loaded snapshot their regions. A file says what it likes, so what a
//! module may do is decided here, by what the caller grants.

use super::metadata::{SavedMapping, SavedWindow};
use super::{KeptMapping, KeptRegion, Snapshot};
use crate::access::Access;
use crate::error::{Error, Flaw, Result, SnapshotError};
use crate::memory::Populate;
use crate::memory::place::check_mappable;
use crate::memory::window_state::{Tail, WindowSpec};
use crate::region::Region;
use crate::sys::alloc;
use crate::sys::page::PageAligned;
use std::sync::Arc;

/// What a caller gives a saved mapping or window.
#[derive(Debug, Clone)]
pub struct Grant {
    /// Of what it shows. `None` for an empty window.
    pub region: Option<Arc<Region>>,
    /// The most that the module may do with it.
    pub access: Access,
}

/// One grant for each saved mapping. Each may do the lesser of what it could and what is granted.
/// A snapshot is given its mappings once.
pub fn grant(snapshot: &Snapshot, grants: &[Grant]) -> Result<()> {
    if grants.len() != snapshot.saved.len() {
        return Err(Error::Defect("each saved mapping needs a grant"));
    }
    let mut mappings = alloc::with_room(grants.len())?;
    for (saved, grant) in snapshot.saved.iter().zip(grants) {
        mappings.push(granted(snapshot, saved, grant)?);
    }
    snapshot.set_mappings(mappings)
}

fn granted(snapshot: &Snapshot, saved: &SavedMapping, grant: &Grant) -> Result<KeptMapping> {
    let at_most = |access: Access| access.min(grant.access);
    let span = saved.span().ok_or(Flaw::Mappings)?;
    let access = at_most(saved.access);
    let shown = match (&saved.shown, &grant.region) {
        (None, None) => None,
        (Some(part), Some(region)) => {
            let skip = part.skip();
            let byte_length = part.byte_length.checked_add(skip);
            let shown = KeptRegion {
                region: Arc::clone(region),
                byte_offset: PageAligned::round_down(part.byte_offset),
                byte_length: byte_length.ok_or(Flaw::Mappings)?,
                skip,
            };
            let pages = shown.pages()?;
            check_mappable(&pages, access)?;
            if pages.length() > span.length()
                || saved.window.is_none() && pages.length() < span.length()
            {
                let (has, takes) = (span.length().get(), pages.length().get());
                return Err(SnapshotError::RegionOfOtherLength {
                    address: saved.address,
                    has,
                    name: region.name().to_owned(),
                    takes,
                }
                .into());
            }
            Some(shown)
        }
        _ => return Err(Error::Defect("a region is missing, or one too many")),
    };
    let written = &snapshot.extents.written;
    let first = written.partition_point(|written| written.end() <= span.start());
    let is_written = written.get(first).is_some_and(|written| written.overlaps(span));
    if access != saved.access && is_written {
        return Err(SnapshotError::WrittenNeedsPrivate { address: saved.address }.into());
    }
    let spec = |window: SavedWindow| WindowSpec {
        length: span.length(),
        access: at_most(window.access),
        tail: if window.tail_traps { Tail::Inaccessible } else { Tail::Zeros },
    };
    Ok(KeptMapping {
        span,
        shown,
        access,
        from_free: saved.from_free,
        window: saved.window.map(spec),
        strict: saved.strict,
        populate: Populate::Ahead,
    })
}
