//! Whether the kernel still has the mappings of a table. Asks it, and changes nothing.

use super::state::{Held, State};
use super::table::Entry;
use crate::fault;
use crate::sys::SysResult;
use crate::sys::mark::Mark;
use crate::sys::page::PageAligned;
use crate::sys::process_map;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    /// Every mapping is where the table says; true of an empty table as well.
    All,
    /// Some are: the memory is the same, but somebody replaced pages of it.
    Some,
    /// None is: the memory of the table is dead.
    None,
}

/// Where the kernel can't be asked, nothing is known: the mappings must not be taken for gone.
pub(super) fn presence(base: PageAligned, state: &State) -> SysResult<Presence> {
    // Nobody else unmaps what is mapped in a memory that lives.
    if let Some(is_intact) = state.mark.and_then(Mark::is_intact) {
        return Ok(if is_intact { Presence::All } else { Presence::None });
    }
    let (mut is_any_mapped, mut is_any_gone) = (false, false);
    for (entry, held) in state.table.held() {
        let is_mapped = is_mapped(base, entry, held)?;
        is_any_mapped |= is_mapped;
        is_any_gone |= !is_mapped;
    }
    Ok(match (is_any_mapped, is_any_gone) {
        (_, false) => Presence::All,
        (false, true) => Presence::None,
        (true, true) => Presence::Some,
    })
}

/// The same for one mapping, by its first page.
pub(super) fn is_mapped(base: PageAligned, entry: &Entry, held: &Held) -> SysResult<bool> {
    let address = base.checked_add(entry.span.start()).expect("a mapping is inside a memory").get();
    let found = process_map::at_or_after(address)?;
    Ok(found.is_some_and(|vma| {
        // Or what is in the place of pages that are not there.
        let is_it = |inode| inode == entry.inode || held.registration.is_stand_in(inode);
        let is_file = entry.inode != 0
            && is_it(vma.inode)
            && vma.offset_of(address) == Some(entry.file_offset.get());
        is_file || fault::is_zeros(&vma, address)
    }))
}

/// Whether the kernel has none of the mappings of a table, which is not empty. False where it can't
/// be asked.
pub(super) fn is_lost(base: PageAligned, state: &State) -> bool {
    presence(base, state) == Ok(Presence::None)
}
