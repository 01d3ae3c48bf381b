//! Lets the memory that a snapshot is taken of show it, as after a restore: its own pages are given
//! back, and the next restore has only to put back what was written since.
//!
//! The memory's bytes stay what they are, since both hold the same. Where the kernel refuses it,
//! pages that are the memory's own stay so.

use super::Snapshot;
use super::own::own_parts;
use super::put_back::PutBack;
use super::restore::{claim_vmas, shown};
use crate::error::{Result, SnapshotError};
use crate::memory::{Memory, State};
use crate::sys::SysResult;
use crate::sys::page::PageSpan;
use crate::v8::live_memory::LiveMemory;
use std::sync::Arc;

/// Maps the image of a snapshot that was just taken of this memory, under the same lock.
///
/// Cost: one `mmap` for each piece and for what is between them, and the kernel takes the memory's
/// own pages back, which is a tenth of the time that it took to copy them.
pub(super) fn adopt(
    memory: &Memory,
    live: LiveMemory<'_>,
    state: &mut State,
    snapshot: &Snapshot,
) -> Result<()> {
    let Ok(vmas) = claim_vmas(snapshot) else { return Ok(()) };
    let pages = PutBack::new(live, Some(snapshot), 0);
    let parts = own_parts(&state.table, live.byte_length())?;
    state.image = None;
    state.content = Some(Arc::clone(&snapshot.content));
    let mut own = Vec::new();
    for part in parts {
        let target = memory.addresses(part);
        let mut done = target.start();
        let replaced = pages.show(target, |part| {
            done = part.span.end();
            own.push(part);
        });
        let Err(refused) = replaced else { continue };
        if refused.removed
            && let Some(rest) = PageSpan::between(done, target.end())
        {
            let filled = fill(&pages, live, snapshot, rest);
            filled.map_err(|sys| SnapshotError::PagesLost { refused: sys.into() })?;
        }
        return Ok(());
    }
    state.image = Some(shown(state, live, snapshot.id, own, vmas));
    state.files.clear();
    Ok(())
}

/// The kernel has removed pages of these, and there are zeros now: writes what they held.
fn fill(
    pages: &PutBack<'_>,
    live: LiveMemory<'_>,
    snapshot: &Snapshot,
    rest: PageSpan,
) -> SysResult<()> {
    let in_memory = pages.offsets(rest);
    let data = snapshot.content.data.iter().filter_map(|span| span.within(in_memory));
    let addresses = |span: PageSpan| span.at_base(live.base()).expect("it is a part of the memory");
    data.map(addresses).try_for_each(|span| pages.write_from_file(span))
}
