//! What the dynamic linker has loaded into this process: the program and its libraries, their
//! symbols, code, thread-local storage and ELF notes.
//!
//! A library that carries one of our notes says by it what it is. The linker has the note in
//! memory, so it can be read when the file is deleted or replaced, and under any C library.
//!
//! Calls: dl_iterate_phdr and dlsym of the C library. Not for handlers.

// It reads what the dynamic linker has loaded, by pointers.
#![allow(unsafe_code)]

use super::{inject, to_usize};
use libc::{c_int, c_void, dl_phdr_info, size_t};
use std::ffi::CStr;
use std::ops::{ControlFlow, Range};
use std::ptr::NonNull;
use std::slice;

/// The first symbol of this name, in the order in which the linker looks.
pub fn symbol(name: &CStr) -> Option<NonNull<c_void>> {
    inject::trip("dlsym").ok()?;
    // SAFETY: the name is a C string, and dlsym only looks it up.
    NonNull::new(unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) })
}

/// An address in the code of the C library.
pub fn code_of_libc() -> usize {
    libc::memset as *const () as usize
}

/// A program or library of this process.
#[derive(Debug, Default)]
pub struct Object {
    /// Its executable segment.
    pub code: Range<usize>,
    /// Where this thread's storage of it is, and how many bytes.
    pub thread_local: Option<(usize, usize)>,
}

/// What has this code.
pub fn object_of(code: usize) -> Option<Object> {
    let mut found = None;
    for_each(&mut |info, headers| {
        let mut loaded = headers.iter().filter(|header| header.p_type == libc::PT_LOAD);
        let range = loaded.find_map(|header| {
            // The base of a program that is not relocatable is 0, and of one that was loaded below
            // its address "negative": the sum wraps by design.
            let start = to_usize(info.dlpi_addr.wrapping_add(header.p_vaddr));
            let range = start..start.checked_add(to_usize(header.p_memsz))?;
            range.contains(&code).then_some(range)
        });
        let Some(range) = range else { return ControlFlow::Continue(()) };
        let storage = headers.iter().find(|header| header.p_type == libc::PT_TLS);
        let storage = storage.filter(|_| !info.dlpi_tls_data.is_null());
        let thread_local =
            storage.map(|header| (info.dlpi_tls_data.addr(), to_usize(header.p_memsz)));
        found = Some(Object { code: range, thread_local });
        ControlFlow::Break(())
    });
    found
}

/// A note: the bytes that it carries, where they are in the library, and that library's path.
pub struct Note<'a> {
    pub path: String,
    pub bytes: &'a [u8],
}

/// Calls `visit` with each note of this owner and kind, in the order in which libraries were
/// loaded, until it breaks.
pub fn notes_of(owner: &CStr, kind: u32, visit: &mut dyn FnMut(Note<'_>) -> ControlFlow<()>) {
    for_each(&mut |info, headers| {
        for header in headers.iter().filter(|header| header.p_type == libc::PT_NOTE) {
            let end = header.p_vaddr.checked_add(header.p_memsz);
            // Some files have notes that are not loaded.
            let is_loaded = headers.iter().any(|load| {
                load.p_type == libc::PT_LOAD
                    && load.p_flags & libc::PF_R != 0
                    && load.p_vaddr <= header.p_vaddr
                    && load
                        .p_vaddr
                        .checked_add(load.p_filesz)
                        .is_some_and(|load_end| end.is_some_and(|end| end <= load_end))
            });
            if !is_loaded {
                continue;
            }
            let start = info.dlpi_addr.wrapping_add(header.p_vaddr);
            // SAFETY: the segment that holds the note was just checked to be loaded and readable.
            // The linker does not unload it while it calls us: that waits for the lock it holds.
            let bytes =
                unsafe { slice::from_raw_parts(start as *const u8, to_usize(header.p_memsz)) };
            let align = if header.p_align == 8 { 8 } else { 4 };
            for bytes in parse(bytes, align, owner, kind) {
                let path = if info.dlpi_name.is_null() {
                    String::new()
                } else {
                    // SAFETY: dl_iterate_phdr(3) says that it is a C string, which the linker keeps
                    // while it calls us.
                    unsafe { CStr::from_ptr(info.dlpi_name) }.to_string_lossy().into_owned()
                };
                visit(Note { path, bytes })?;
            }
        }
        ControlFlow::Continue(())
    });
}

type Visit<'a> = &'a mut dyn FnMut(&dl_phdr_info, &[libc::Elf64_Phdr]) -> ControlFlow<()>;

/// Calls `visit` with each object and its program headers, until it breaks.
fn for_each(mut visit: Visit<'_>) {
    /// # Safety
    /// To be called by `dl_iterate_phdr` alone, with a pointer to a [`Visit`].
    unsafe extern "C" fn one(info: *mut dl_phdr_info, _: size_t, visit: *mut c_void) -> c_int {
        // SAFETY: `for_each` passed the pointer, and waits for dl_iterate_phdr to return: the
        // visitor lives, and nobody else uses it meanwhile.
        let visit = unsafe { &mut *visit.cast::<Visit<'_>>() };
        // SAFETY: dl_iterate_phdr(3): the record is valid while this call lasts.
        let info = unsafe { &*info };
        if info.dlpi_phdr.is_null() {
            return 0;
        }
        // SAFETY: dl_iterate_phdr(3): the record says where its headers are, and how many.
        let headers =
            unsafe { slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) };
        c_int::from(visit(info, headers).is_break())
    }
    // SAFETY: `one` has the signature that is asked for, and gets back the pointer to a local that
    // outlives the call.
    unsafe { libc::dl_iterate_phdr(Some(one), (&raw mut visit).cast()) };
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
    fn knows_its_own_code() {
        let code = knows_its_own_code as *const () as usize;
        assert!(object_of(code).unwrap().code.contains(&code));
        assert!(object_of(code_of_libc()).is_some());
        assert!(object_of(8).is_none());
        assert!(symbol(c"memset").is_some() && symbol(c"no_such_symbol_anywhere").is_none());
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
