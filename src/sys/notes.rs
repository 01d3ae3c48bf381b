//! ELF notes of what is loaded into this process, in the order in which it was loaded.
//!
//! A library that carries a note of ours says what it is by that. The dynamic linker has the note
//! in memory, so it can be read when the file is deleted or replaced, and under any C library.

use super::to_usize;
use libc::{c_int, c_void, dl_phdr_info, size_t};
use std::ffi::CStr;
use std::ops::ControlFlow;
use std::slice;

/// A note: the bytes that it carries, as they stand in the library, and that library's path.
pub struct Note<'a> {
    pub path: String,
    pub bytes: &'a [u8],
}

/// Calls `visit` with each note of this owner and kind, until it breaks.
pub fn notes_of(owner: &CStr, kind: u32, visit: &mut dyn FnMut(Note<'_>) -> ControlFlow<()>) {
    let mut search = Search { owner, kind, visit };
    // SAFETY: `one` takes the search back as what it is, and only while this call lasts.
    unsafe { libc::dl_iterate_phdr(Some(one), (&raw mut search).cast()) };
}

struct Search<'a> {
    owner: &'a CStr,
    kind: u32,
    visit: &'a mut dyn FnMut(Note<'_>) -> ControlFlow<()>,
}

/// # Safety
/// Called by `dl_iterate_phdr` alone, with a `Search`.
unsafe extern "C" fn one(info: *mut dl_phdr_info, _: size_t, search: *mut c_void) -> c_int {
    // SAFETY: the caller's promise. Nobody else has the search while this call lasts.
    let search = unsafe { &mut *search.cast::<Search<'_>>() };
    // SAFETY: the linker gives a description that holds while this call lasts.
    let info = unsafe { &*info };
    if info.dlpi_phdr.is_null() {
        return 0;
    }
    // SAFETY: so many headers stand there.
    let headers = unsafe { slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) };
    for header in headers.iter().filter(|header| header.p_type == libc::PT_NOTE) {
        let end = header.p_vaddr.checked_add(header.p_memsz);
        // Some files have notes that are not loaded.
        let is_loaded = headers.iter().any(|load| {
            load.p_type == libc::PT_LOAD
                && load.p_flags & libc::PF_R != 0
                && load.p_vaddr <= header.p_vaddr
                && end.is_some_and(|end| end <= load.p_vaddr.saturating_add(load.p_filesz))
        });
        if !is_loaded {
            continue;
        }
        let start = info.dlpi_addr.wrapping_add(header.p_vaddr);
        // SAFETY: the linker mapped all of this segment's file part, readable, and keeps it while
        // it calls: unloading waits for the lock that it holds.
        let bytes = unsafe { slice::from_raw_parts(start as *const u8, to_usize(header.p_memsz)) };
        for bytes in
            parse(bytes, if header.p_align == 8 { 8 } else { 4 }, search.owner, search.kind)
        {
            let path = if info.dlpi_name.is_null() {
                String::new()
            } else {
                // SAFETY: a C string of the linker's.
                unsafe { CStr::from_ptr(info.dlpi_name) }.to_string_lossy().into_owned()
            };
            if (search.visit)(Note { path, bytes }).is_break() {
                return 1;
            }
        }
    }
    0
}

/// What the notes of this owner and kind carry. What is no list of notes ends it.
fn parse<'a>(
    mut bytes: &'a [u8],
    align: usize,
    owner: &'a CStr,
    kind: u32,
) -> impl Iterator<Item = &'a [u8]> {
    const HEAD: usize = 12;
    let notes = std::iter::from_fn(move || {
        let word = |at: usize| -> Option<u32> {
            Some(u32::from_ne_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
        };
        let name_bytes = to_usize(word(0)?.into());
        let description_bytes = to_usize(word(4)?.into());
        let found = word(8)?;
        let name_end = HEAD.checked_add(name_bytes)?;
        let start = name_end.checked_next_multiple_of(align)?;
        let end = start.checked_add(description_bytes)?;
        let name = bytes.get(HEAD..name_end)?;
        let description = bytes.get(start..end)?;
        bytes = bytes.get(end.checked_next_multiple_of(align)?..).unwrap_or_default();
        Some((name, found, description))
    });
    notes
        .filter(move |(name, found, _)| *name == owner.to_bytes_with_nul() && *found == kind)
        .map(|(_, _, description)| description)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(owner: &CStr, kind: u32, description: &[u8], align: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        let name = owner.to_bytes_with_nul();
        bytes.extend(u32::try_from(name.len()).unwrap().to_ne_bytes());
        bytes.extend(u32::try_from(description.len()).unwrap().to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(name);
        bytes.resize(bytes.len().next_multiple_of(align), 0);
        bytes.extend(description);
        bytes.resize(bytes.len().next_multiple_of(align), 0);
        bytes
    }

    #[test]
    fn finds_the_notes_of_an_owner_among_others() {
        for align in [4, 8] {
            let all = [
                note(c"GNU", 3, b"0123456789abcdef0123", align),
                note(c"ours", 1, b"first", align),
                note(c"ours", 2, b"another kind", align),
                note(c"oursx", 1, b"another owner", align),
                note(c"ours", 1, b"", align),
            ]
            .concat();
            let found: Vec<&[u8]> = parse(&all, align, c"ours", 1).collect();
            assert_eq!(found, [b"first".as_slice(), b""]);
        }
    }

    #[test]
    fn ends_at_what_is_cut_off() {
        let whole = note(c"ours", 1, b"first", 4);
        for length in 0..whole.len() - 3 {
            assert_eq!(parse(&whole[..length], 4, c"ours", 1).count(), 0);
        }
        let huge = [u32::MAX; 4].map(u32::to_ne_bytes).concat();
        assert_eq!(parse(&huge, 8, c"ours", 1).count(), 0);
    }

    #[test]
    fn reads_what_is_loaded_here() {
        let mut paths = Vec::new();
        // Linkers put one into nearly everything: the build's number.
        notes_of(c"GNU", 3, &mut |note| {
            assert!(!note.bytes.is_empty());
            paths.push(note.path);
            ControlFlow::Continue(())
        });
        assert!(!paths.is_empty());
    }
}
