//! The handler for SIGSEGV and SIGBUS: above the handler that is there, Node's to begin with, and
//! handing on every fault that is not ours.
//!
//! [`install`] takes the function that decides. It and everything that it calls may have
//! interrupted any instruction: `fault::handler` has the rules. Here they hold from `on_signal`
//! down. What is not for handlers says so.
//!
//! Calls: sigaction, pthread_sigmask, raise.

// It installs a handler, and calls the one that was there.
#![allow(unsafe_code)]

use super::fault_info::{Fault, Signal};
use super::{SysError, SysResult, inject};
use nix::errno::Errno;
use std::ffi::{c_int, c_void};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

/// Decides on a fault. True: it is handled, and the thread goes on, at the same instruction or
/// where the context now says. False: it is somebody else's.
pub type Decide = fn(&Fault) -> bool;

/// The decision, once a handler is there to ask for it.
static DECIDE: OnceLock<Decide> = OnceLock::new();

/// What was there before, for each signal. Null: we are not installed.
///
/// # Safety
/// Points to a leaked box, which is never freed or changed.
static PREVIOUS: [AtomicPtr<libc::sigaction>; 2] =
    [const { AtomicPtr::new(std::ptr::null_mut()) }; 2];

/// Whether a handler that wants to be called once only (SA_RESETHAND) was called.
static WAS_CALLED: [AtomicBool; 2] = [const { AtomicBool::new(false) }; 2];

const BOTH: [Signal; 2] = [Signal::Segv, Signal::Bus];

/// Whether the handler was put there, for each signal.
static IS_INSTALLED: [AtomicBool; 2] = [const { AtomicBool::new(false) }; 2];

/// Puts the handler above the one that is there. Only once, since a second time it would find
/// itself below; what failed is tried again at the next call. Not by two threads at once, and not
/// in a handler.
///
/// # Safety
/// `decide` may run in a signal handler: it interrupts any instruction of any thread, so it neither
/// allocates nor locks, and does not panic.
pub unsafe fn install(decide: Decide) -> SysResult<()> {
    DECIDE.get_or_init(|| decide);
    for signal in BOTH {
        if IS_INSTALLED[signal.index()].load(Ordering::Acquire) {
            continue;
        }
        // Known before our handler can run.
        remember(signal, current(signal)?);
        let replaced = put(signal)?;
        IS_INSTALLED[signal.index()].store(true, Ordering::Release);
        // Another thread may have installed one in between.
        remember(signal, replaced);
    }
    Ok(())
}

/// Installs it again where the default action is there instead: Node puts that back when a script
/// takes away the last listener that it had for the signal.
pub fn reinstall() -> SysResult<()> {
    for signal in BOTH {
        let is_ours = IS_INSTALLED[signal.index()].load(Ordering::Acquire);
        if is_ours && current(signal)?.sa_sigaction == libc::SIG_DFL {
            put(signal)?;
        }
    }
    Ok(())
}

fn remember(signal: Signal, action: libc::sigaction) {
    if !is_our_handler(&action) {
        PREVIOUS[signal.index()].store(Box::into_raw(Box::new(action)), Ordering::Release);
    }
}

fn is_our_handler(action: &libc::sigaction) -> bool {
    action.sa_sigaction == on_signal as *const () as usize
}

fn previous(signal: Signal) -> Option<&'static libc::sigaction> {
    // SAFETY: by the Safety section of PREVIOUS: null, or a box that lives for ever.
    unsafe { PREVIOUS[signal.index()].load(Ordering::Acquire).as_ref() }
}

/// Whether ours is the first handler that the kernel calls. Not so, if somebody installed one
/// later; that one must hand on to us.
pub fn is_first() -> bool {
    BOTH.into_iter().all(|signal| current(signal).is_ok_and(|action| is_our_handler(&action)))
}

fn current(signal: Signal) -> SysResult<libc::sigaction> {
    inject::trip("sigaction")?;
    // SAFETY: a sigaction is plain bits and nullable pointers, for which zero is a value.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: nothing is changed; `action` outlives the call.
    match unsafe { libc::sigaction(signal.number(), std::ptr::null(), &raw mut action) } {
        0 => Ok(action),
        _ => Err(SysError::new("sigaction", Errno::last())),
    }
}

/// Gives what was there.
fn put(signal: Signal) -> SysResult<libc::sigaction> {
    inject::trip("sigaction")?;
    // SAFETY: a sigaction is plain bits and nullable pointers, for which zero is a value.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = on_signal as *const () as usize;
    // SA_SIGINFO: the handler needs the address. SA_ONSTACK: as before. Node's handler goes
    // without, and ours has no use for it, since a thread that faults in a mapping has stack left;
    // but a crash reporter's handler below ours may be there for stack overflows. No SA_NODEFER: a
    // fault in the handler itself ends the process at once, as it should.
    let before = previous(signal).map_or(0, |previous| previous.sa_flags);
    action.sa_flags = libc::SA_SIGINFO | (before & libc::SA_ONSTACK);
    // SAFETY: a sigaction is plain bits and nullable pointers, for which zero is a value.
    let mut replaced: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: both structs are locals. `on_signal` has the signature that SA_SIGINFO asks for, and
    // its code stays in memory, since build.rs links the library with `-z nodelete`.
    match unsafe { libc::sigaction(signal.number(), &raw const action, &raw mut replaced) } {
        0 => Ok(replaced),
        _ => Err(SysError::new("sigaction", Errno::last())),
    }
}

extern "C" fn on_signal(number: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    let errno = Errno::last_raw();
    // SAFETY: the arguments are the kernel's: `put` installs this function with SA_SIGINFO, and
    // nobody else calls it but a handler above ours that hands on what it got.
    let fault = unsafe { Fault::new(number, info, context) };
    // It was set before this handler was installed.
    let is_handled = DECIDE.get().is_some_and(|decide| decide(&fault));
    if !is_handled {
        hand_on(&fault, number);
    }
    Errno::set_raw(errno);
}

/// As if we were not there.
fn hand_on(fault: &Fault, number: c_int) {
    let Some(previous) = previous(fault.signal) else { return crash(fault, number) };
    let once = previous.sa_flags & libc::SA_RESETHAND != 0;
    let was_called = once && WAS_CALLED[fault.signal.index()].swap(true, Ordering::AcqRel);
    match previous.sa_sigaction {
        _ if was_called => crash(fault, number),
        libc::SIG_DFL => crash(fault, number),
        // What the processor raises can't be ignored: the kernel ends the process then, and so do
        // we.
        libc::SIG_IGN if fault.is_synchronous() => crash(fault, number),
        libc::SIG_IGN => {}
        handler => {
            let before = mask_as(previous, number);
            if previous.sa_flags & libc::SA_SIGINFO != 0 {
                // SAFETY: the code that installed it said by SA_SIGINFO that it has this signature.
                let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) =
                    unsafe { std::mem::transmute(handler) };
                let (info, context) = fault.raw();
                handler(number, info, context);
            } else {
                // SAFETY: without SA_SIGINFO a handler takes the number alone.
                let handler: extern "C" fn(c_int) = unsafe { std::mem::transmute(handler) };
                handler(number);
            }
            // SAFETY: `before` is a mask that pthread_sigmask gave. It changes this thread's mask
            // only, and is safe in handlers.
            unsafe {
                libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, std::ptr::null_mut())
            };
        }
    }
}

/// Blocks the signals that a handler wants to be blocked while it runs, and not its own if it says
/// so. Gives the mask that was in force.
fn mask_as(action: &libc::sigaction, number: c_int) -> libc::sigset_t {
    // SAFETY: a sigset_t is plain bits, for which zero is a value. The pointers are to locals and
    // to the action that the kernel gave. These calls change this thread's mask only, and are safe
    // in handlers (signal-safety(7)).
    unsafe {
        let mut before: libc::sigset_t = std::mem::zeroed();
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const action.sa_mask, &raw mut before);
        if action.sa_flags & libc::SA_NODEFER != 0 {
            let mut own: libc::sigset_t = std::mem::zeroed();
            libc::sigaddset(&raw mut own, number);
            libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const own, std::ptr::null_mut());
        }
        before
    }
}

/// The default action: the process ends by this signal, with its core.
fn crash(fault: &Fault, number: c_int) {
    // SAFETY: a sigaction is plain bits and nullable pointers; zero is SIG_DFL without flags.
    let action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: it takes away our own handler; sigaction and raise are safe in handlers
    // (signal-safety(7)).
    unsafe {
        libc::sigaction(number, &raw const action, std::ptr::null_mut());
        // A fault comes again when its instruction runs again, and the core shows the place. A
        // signal that somebody sent does not: it is pending until this handler returns.
        if !fault.is_synchronous() {
            libc::raise(number);
        }
    }
}
