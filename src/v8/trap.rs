//! Asking V8 to turn a fault into a `WebAssembly.RuntimeError`.
//!
//! V8 exports the function by which embedders do so, `v8::TryHandleWebAssemblyTrapPosix`. It takes
//! a fault if the instruction is a load or store of Wasm code that V8 compiled without a bounds
//! check, whatever the address.
//!
//! # The flag that a refusal clears
//!
//! V8 up to 13 keeps, for each thread, a flag that says "in Wasm code". The function clears it
//! first and sets it again only if it takes the fault. After a refusal the thread goes on in Wasm
//! code without its flag, and the next access out of bounds in the same activation ends the
//! process. V8 refuses bulk operations, atomics, and stores to a constant address, which it checks
//! when it compiles. So the flag must be put back.
//!
//! The flag has no public name, but V8 shows where it is. [`probe`] runs once, in a fault of a Wasm
//! load that V8 is sure to take, and passes V8 the wrong signal first. V8 clears the flag and
//! refuses, so the flag is the one word of V8's thread-local storage that changed from 1 to 0. Its
//! distance from the thread's descriptor is the same in every thread, if V8 was there when the
//! process started (static TLS; checked). V8 14 and later have no flag, and nothing changes. If
//! anything else happens V8 is never asked, and writes that could trap go to private pages.
//!
//! # When V8 is not asked
//!
//! Before it refuses, V8 looks at all functions that it ever compiled, about 4 ns each. So it is
//! not asked about instructions of its own module or of libc, such as bulk operations and
//! JavaScript's builtins. Nor is it asked a second time about an instruction that it has declined,
//! until it may have put other code there ([`super::declined`]). By its bytes an instruction can't
//! be told: V8 declines an atomic of Liftoff's and takes the same one of TurboFan's.
//!
//! [`probe`] and [`offer`] run in signal handlers: they allocate nothing, take no lock and do not
//! panic. All else here is not for handlers.
//!
//! Source: V8's src/trap-handler/handler-inside-posix.cc, `TryHandleSignal`; measured on V8 11.3,
//! 12.4, 13.6 and 14.6.

#![allow(unsafe_code)] // Reads and writes V8's flag, and calls V8's function.

use super::declined;
use crate::sys::fault_info::{Fault, Signal};
use crate::sys::{SysResult, loaded, process_map, thread, to_u64, to_usize};
use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicIsize, AtomicPtr, AtomicU8, AtomicU64, AtomicUsize, Ordering};

const NAME: &std::ffi::CStr = c"_ZN2v829TryHandleWebAssemblyTrapPosixEiP9siginfo_tPv";

/// V8's function, or null.
///
/// # Safety
/// Nothing but what [`NAME`] names is stored here. V8 declares it as `bool(int, siginfo_t*,
/// void*)`, to be called in signal handlers.
static FUNCTION: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());

/// Code that is no Wasm: `[start, end)` of V8's own module and of libc. Never unloaded.
static NATIVE: [(AtomicUsize, AtomicUsize); 2] =
    [const { (AtomicUsize::new(0), AtomicUsize::new(0)) }; 2];

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
    let Some(function) = loaded::symbol(NAME) else {
        set(State::NoFunction);
        return false;
    };
    let v8 = function.as_ptr().addr();
    for (code, range) in [v8, loaded::code_of_libc()].into_iter().zip(&NATIVE) {
        if let Some(object) = loaded::object_of(code) {
            range.0.store(object.code.start, Ordering::Release);
            range.1.store(object.code.end, Ordering::Release);
        }
    }
    let (start, bytes) = match static_storage_of(v8) {
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
    FUNCTION.store(function.as_ptr(), Ordering::Release);
    PROBE_TLS.store(start, Ordering::Release);
    PROBE_TLS_BYTES.store(bytes, Ordering::Release);
    PROBE_THREAD.store(thread::address(), Ordering::Release);
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
    if PROBE_THREAD.load(Ordering::Acquire) == thread::address() && state() == State::Probing {
        PROBE_ADDRESS.store(0, Ordering::Release);
        set(State::Untried);
    }
}

/// The probe, in the handler. True: V8 took the fault. False: it is no probe.
pub fn probe(fault: &Fault) -> bool {
    let expected = PROBE_ADDRESS.load(Ordering::Acquire);
    if expected != fault.address
        || expected == 0
        || PROBE_THREAD.load(Ordering::Acquire) != thread::address()
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
    let bytes = PROBE_TLS_BYTES.load(Ordering::Acquire);
    let Some(words) = bytes.checked_div(size_of::<i32>()) else { return State::Unclear };
    if words > MOST {
        return State::Unclear;
    }
    let start = PROBE_TLS.load(Ordering::Acquire) as *mut i32;
    let mut before = [0_i32; MOST];
    for (index, word) in before.iter_mut().enumerate().take(words) {
        // SAFETY: the word is one of the `words` that begin at `start`, which is the storage of the
        // thread that began the probe. `probe` has checked that this is that thread, so the storage
        // lives. V8 and others may write it between handlers, hence volatile.
        *word = unsafe { start.wrapping_add(index).read_volatile() };
    }
    if ask(fault, Signal::Bus) {
        return State::Unclear;
    }
    let mut state = State::NoFlag;
    for (index, was) in before.iter().copied().enumerate().take(words) {
        let word = start.wrapping_add(index);
        // SAFETY: the same word of this thread's storage that was read before V8 was asked.
        let is = unsafe { word.read_volatile() };
        if is == was {
            continue;
        }
        if (was, is) != (1, 0) || state != State::NoFlag {
            return State::Unclear;
        }
        let offset = (word as usize).wrapping_sub(thread::address());
        FLAG_OFFSET.store(offset.cast_signed(), Ordering::Release);
        // SAFETY: a word of this thread's storage, which no reference points to while V8 is not
        // running. It gets back the value that V8 has just cleared.
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
    if NATIVE.iter().any(is_in) || declined::is_known(fault.program_counter()) {
        return false;
    }
    match state() {
        State::NoFlag => {
            let taken = ask(fault, Signal::Segv);
            if !taken && is_kept(fault.program_counter()) {
                declined::learn(fault.program_counter());
            }
            taken
        }
        State::Flag => {
            let flag = thread::address().wrapping_add_signed(FLAG_OFFSET.load(Ordering::Acquire))
                as *mut i32;
            // SAFETY: `find_flag` found V8's flag at this distance, and `static_storage_of` that
            // the distance is the same in all threads: this is a live word of this thread's
            // storage.
            let was = unsafe { flag.read_volatile() };
            let taken = ask(fault, Signal::Segv);
            if !taken {
                // SAFETY: the word that was just read. V8's own code writes it the same way, and is
                // not running on this thread.
                unsafe { flag.write_volatile(was) };
                // Outside of Wasm it declines whatever the instruction is, and at once.
                if was != 0 {
                    declined::learn(fault.program_counter());
                }
            }
            taken
        }
        _ => false,
    }
}

/// Whether this instruction is V8's to keep: compiled here, or of V8's own file, whose builtins it
/// maps a second time near to compiled code. Libraries are unloaded at any time, those of addons
/// say. Where the map is text it takes too long to find out.
fn is_kept(instruction: u64) -> bool {
    let inode = |code: u64| process_map::holding_in_handler(code).map(|vma| vma.inode);
    let v8 = || inode(to_u64(FUNCTION.load(Ordering::Acquire).addr()));
    !process_map::is_text_in_handler()
        && inode(instruction).is_some_and(|inode| inode == 0 || Some(inode) == v8())
}

fn ask(fault: &Fault, signal: Signal) -> bool {
    let Some(function) = NonNull::new(FUNCTION.load(Ordering::Acquire)) else { return false };
    // SAFETY: by the Safety section of FUNCTION.
    unsafe { fault.pass_to(function, signal) }
}

/// This thread's storage of the module with this code, if it is static: at the same distance from
/// the thread's descriptor in every thread. A library that was loaded later has storage wherever
/// there was room. An error: no thread can be started now to compare with.
fn static_storage_of(code: usize) -> SysResult<Option<(usize, usize)>> {
    let storage = move || {
        let (start, bytes) = loaded::object_of(code)?.thread_local?;
        Some((start.wrapping_sub(thread::address()), start, bytes))
    };
    let Some((distance, start, bytes)) = storage() else { return Ok(None) };
    let elsewhere = thread::spawn("hostmap-probe", storage)?.join().ok().flatten();
    Ok(elsewhere.filter(|elsewhere| elsewhere.0 == distance).map(|_| (start, bytes)))
}
