//! Asking V8 to turn a fault into a `WebAssembly.RuntimeError`.
//!
//! V8 exports the function by which embedders do so, `v8::TryHandleWebAssemblyTrapPosix`. It takes
//! a fault if the instruction is a load or store of Wasm code that V8 compiled without a bounds
//! check, whatever the address.
//!
//! # The flag that a refusal clears
//!
//! V8 up to 13 keeps, for each thread, a flag that says "in Wasm code". The function clears it at
//! its start and sets it again only if it takes the fault. After a refusal the thread goes on in
//! Wasm code without its flag, and the next access out of bounds of the same activation ends the
//! process. Bulk operations, atomics, and stores whose address is a constant (V8 checks those when
//! it compiles) are refused, so the flag must be put back.
//!
//! The flag has no public name. But V8 shows where it is: [`probe`] is run once, in a fault of a
//! Wasm load that V8 will surely take, and passes V8 the wrong signal first. V8 refuses that after
//! it cleared the flag, so the flag is the one word of V8's thread-local storage that changed from
//! 1 to 0. Its distance from the thread's own address is the same in every thread, if V8 was there
//! when the process started (static TLS; checked). V8 from 14 on has no flag, and nothing changes.
//! Anything else, and V8 is never asked: then writes land on private pages where they could have
//! trapped.
//!
//! # What V8 need not be asked
//!
//! Before it declines, V8 looks at all functions it ever compiled, about 4 ns each. So it is not
//! asked about instructions of the module that V8 is in, or of libc: bulk operations, JavaScript's
//! builtins. Atomics can't be told so: the handler may not look at the instruction, since V8 puts
//! its code under a memory protection key where the processor has them, and the kernel enters
//! handlers with all keys but the first locked (pkeys(7)).
//!
//! Source: V8's src/trap-handler/handler-inside-posix.cc, `TryHandleSignal`; measured on V8 11.3,
//! 12.4, 13.6 and 14.6.

// V8's own function is called by its address, and takes a signal's context.
#![allow(unsafe_code)]

use crate::sys::signal::{Fault, thread_address};
use crate::sys::{SysError, SysResult, inject, to_usize};
use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicIsize, AtomicPtr, AtomicU8, AtomicU64, AtomicUsize, Ordering};

/// Code that is no Wasm: `[start, end)` of V8's own module and of libc. Never unloaded.
static NATIVE: [(AtomicUsize, AtomicUsize); 2] =
    [const { (AtomicUsize::new(0), AtomicUsize::new(0)) }; 2];

type TryHandle = unsafe extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) -> bool;

const NAME: &std::ffi::CStr = c"_ZN2v829TryHandleWebAssemblyTrapPosixEiP9siginfo_tPv";

/// V8's function, or null.
static FUNCTION: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());

/// What is known of the flag; a [`State`].
static STATE: AtomicU8 = AtomicU8::new(State::Untried as u8);

/// With `State::Flag`: from the thread's own address to its flag.
static FLAG_OFFSET: AtomicIsize = AtomicIsize::new(0);

/// The address whose fault is the probe, while one is under way; else 0.
static PROBE_ADDRESS: AtomicU64 = AtomicU64::new(0);
/// The thread that makes the probe.
static PROBE_THREAD: AtomicUsize = AtomicUsize::new(0);
/// The probing thread's thread-local storage of the module that V8 is in.
static PROBE_TLS: AtomicUsize = AtomicUsize::new(0);
static PROBE_TLS_BYTES: AtomicUsize = AtomicUsize::new(0);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// No probe was made yet.
    Untried,
    /// A probe is under way.
    Probing,
    /// V8 has no such function.
    NoFunction,
    /// The probe did not show what it should.
    Unclear,
    /// V8 can be asked; there is no flag.
    NoFlag,
    /// V8 can be asked; the flag is put back when it refuses.
    Flag,
}

impl State {
    const ALL: [Self; 6] =
        [Self::Untried, Self::Probing, Self::NoFunction, Self::Unclear, Self::NoFlag, Self::Flag];
}

pub fn state() -> State {
    State::ALL.get(usize::from(STATE.load(Ordering::Acquire))).copied().unwrap_or(State::Unclear)
}

fn set(state: State) {
    STATE.store(state as u8, Ordering::Release);
}

/// Makes ready for the fault at this address, which a Wasm load on this thread will cause. False:
/// no probe is needed any more, or another thread makes one.
pub fn begin_probe(address: u64) -> bool {
    let free = STATE.compare_exchange(
        State::Untried as u8,
        State::Probing as u8,
        Ordering::AcqRel,
        Ordering::Acquire,
    );
    if free.is_err() {
        return false;
    }
    let Some(function) = find_function() else {
        set(State::NoFunction);
        return false;
    };
    let libc = libc::memset as *const () as usize;
    for (code, range) in [function as usize, libc].into_iter().zip(&NATIVE) {
        if let Some(module) = module_of(code) {
            range.0.store(module.code.start, Ordering::Release);
            range.1.store(module.code.end, Ordering::Release);
        }
    }
    let (start, bytes) = match static_storage_of(function as usize) {
        Ok(Some(storage)) => storage,
        Ok(None) => {
            set(State::Unclear);
            return false;
        }
        // It is for a later one to find out.
        Err(_) => {
            set(State::Untried);
            return false;
        }
    };
    FUNCTION.store(function, Ordering::Release);
    PROBE_TLS.store(start, Ordering::Release);
    PROBE_TLS_BYTES.store(bytes, Ordering::Release);
    PROBE_THREAD.store(thread_address(), Ordering::Release);
    PROBE_ADDRESS.store(address, Ordering::Release);
    true
}

/// After the Wasm load returned. If no fault came, V8 does not leave bounds to faults.
pub fn end_probe() {
    PROBE_ADDRESS.store(0, Ordering::Release);
    if state() == State::Probing {
        set(State::Unclear);
    }
}

/// When a thread ends: the probe that it was making, if any, is for another one to make.
pub fn abandon_probe() {
    if PROBE_THREAD.load(Ordering::Acquire) == thread_address() && state() == State::Probing {
        PROBE_ADDRESS.store(0, Ordering::Release);
        set(State::Untried);
    }
}

/// The probe, in the handler. True: V8 took the fault. False: it is no probe.
pub fn probe(fault: &Fault) -> bool {
    let expected = PROBE_ADDRESS.load(Ordering::Acquire);
    if expected != fault.address
        || expected == 0
        || PROBE_THREAD.load(Ordering::Acquire) != thread_address()
    {
        return false;
    }
    PROBE_ADDRESS.store(0, Ordering::Release);
    set(find_flag(fault));
    if !offer(fault) {
        // V8 would have taken it had we not asked: let it have the fault the usual way, and never
        // ask again.
        set(State::Unclear);
        return false;
    }
    true
}

fn find_flag(fault: &Fault) -> State {
    // Node's is 500 to 700 bytes.
    const MOST: usize = 1024;
    let words = PROBE_TLS_BYTES.load(Ordering::Acquire).checked_div(size_of::<i32>()).unwrap_or(0);
    if words > MOST {
        return State::Unclear;
    }
    let start = PROBE_TLS.load(Ordering::Acquire) as *mut i32;
    let mut before = [0_i32; MOST];
    for (index, word) in before.iter_mut().enumerate().take(words) {
        // SAFETY: inside this thread's own storage: the probe's fault comes on the thread that
        // began it.
        *word = unsafe { start.wrapping_add(index).read_volatile() };
    }
    if ask(fault, libc::SIGBUS) {
        return State::Unclear;
    }
    let mut state = State::NoFlag;
    for (index, was) in before.iter().copied().enumerate().take(words) {
        let word = start.wrapping_add(index);
        // SAFETY: as above.
        let is = unsafe { word.read_volatile() };
        if is == was {
            continue;
        }
        if (was, is) != (1, 0) || state != State::NoFlag {
            return State::Unclear;
        }
        let offset = (word as usize).wrapping_sub(thread_address());
        FLAG_OFFSET.store(offset.cast_signed(), Ordering::Release);
        // SAFETY: as above; it puts back what V8 cleared.
        unsafe { word.write_volatile(was) };
        state = State::Flag;
    }
    state
}

/// Offers V8 a fault. True: V8 took it, and the thread goes on in V8's trap. False: nothing has
/// changed.
pub fn offer(fault: &Fault) -> bool {
    let instruction = to_usize(fault.program_counter());
    let is_in = |(start, end): &(AtomicUsize, AtomicUsize)| {
        (start.load(Ordering::Acquire)..end.load(Ordering::Acquire)).contains(&instruction)
    };
    if NATIVE.iter().any(is_in) {
        return false;
    }
    match state() {
        State::NoFlag => ask(fault, libc::SIGSEGV),
        State::Flag => {
            let flag = thread_address().wrapping_add_signed(FLAG_OFFSET.load(Ordering::Acquire))
                as *mut i32;
            // SAFETY: this thread's flag of V8's, see the head of this file.
            let was = unsafe { flag.read_volatile() };
            let taken = ask(fault, libc::SIGSEGV);
            if !taken {
                // SAFETY: as above.
                unsafe { flag.write_volatile(was) };
            }
            taken
        }
        _ => false,
    }
}

fn ask(fault: &Fault, signal: c_int) -> bool {
    let function = FUNCTION.load(Ordering::Acquire);
    if function.is_null() {
        return false;
    }
    // SAFETY: FUNCTION holds V8's function of this signature, which is made to be called in a
    // handler.
    let function: TryHandle = unsafe { std::mem::transmute(function) };
    let (info, context) = fault.raw();
    // SAFETY: both are the kernel's, of the fault that is being handled on this thread.
    unsafe { function(signal, info, context) }
}

fn find_function() -> Option<*mut c_void> {
    inject::trip("dlsym").ok()?;
    // SAFETY: the name is a C string.
    let function = unsafe { libc::dlsym(libc::RTLD_DEFAULT, NAME.as_ptr()) };
    (!function.is_null()).then_some(function)
}

/// This thread's storage of the module with this code, if it is static: as far from the thread's
/// own address in every thread. A library that was loaded later has storage wherever there was
/// room. An error: no thread can be made now to compare with.
fn static_storage_of(code: usize) -> SysResult<Option<(usize, usize)>> {
    let storage = move || {
        let (start, bytes) = module_of(code)?.thread_local?;
        Some((start.wrapping_sub(thread_address()), start, bytes))
    };
    let Some((distance, start, bytes)) = storage() else { return Ok(None) };
    inject::trip("clone")?;
    let thread = std::thread::Builder::new().stack_size(64 << 10).spawn(storage);
    let thread = thread.map_err(|error| SysError::from_io("clone", &error))?;
    let elsewhere = thread.join().ok().flatten();
    Ok(elsewhere.filter(|elsewhere| elsewhere.0 == distance).map(|_| (start, bytes)))
}

/// A program or library of this process.
#[derive(Debug, Default)]
struct Module {
    /// Its executable segment.
    code: std::ops::Range<usize>,
    /// Where this thread's storage of it is, and how many bytes.
    thread_local: Option<(usize, usize)>,
}

/// The module that has this code.
fn module_of(code: usize) -> Option<Module> {
    struct Search {
        code: usize,
        found: Option<Module>,
    }
    extern "C" fn look(info: *mut libc::dl_phdr_info, _size: usize, search: *mut c_void) -> c_int {
        // SAFETY: dl_iterate_phdr passes a valid record, and the pointer that it was given.
        let (info, search) = unsafe { (&*info, &mut *search.cast::<Search>()) };
        // SAFETY: the record says where its headers are and how many.
        let headers =
            unsafe { std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) };
        let range_of = |header: &libc::Elf64_Phdr| {
            let start = to_usize(info.dlpi_addr.wrapping_add(header.p_vaddr));
            start..start.saturating_add(to_usize(header.p_memsz))
        };
        let loaded = headers.iter().filter(|header| header.p_type == libc::PT_LOAD).map(range_of);
        let Some(code) = loaded.into_iter().find(|range| range.contains(&search.code)) else {
            return 0;
        };
        let storage = headers.iter().find(|header| header.p_type == libc::PT_TLS);
        let storage = storage.filter(|_| !info.dlpi_tls_data.is_null());
        let thread_local =
            storage.map(|header| (info.dlpi_tls_data as usize, to_usize(header.p_memsz)));
        search.found = Some(Module { code, thread_local });
        1
    }
    let mut search = Search { code, found: None };
    // SAFETY: `look` matches the signature, and `search` outlives the call.
    unsafe { libc::dl_iterate_phdr(Some(look), (&raw mut search).cast()) };
    search.found
}
