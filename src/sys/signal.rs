//! The handler for SIGSEGV and SIGBUS: above whatever handler there is, Node's to begin with, and
//! handing on every fault that is not ours.
//!
//! Code that runs in it may have interrupted anything: it uses atomics and system calls, never a
//! lock, an allocation or std's I/O. It takes little stack: a few KiB.

use super::{SysError, SysResult, inject};
use nix::errno::Errno;
use std::ffi::{c_int, c_void};
use std::ptr::NonNull;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGSEGV: the page's protection forbids the access, or no page is there.
    Segv,
    /// SIGBUS: the page's contents can't be had.
    Bus,
}

impl Signal {
    fn index(self) -> usize {
        match self {
            Self::Segv => 0,
            Self::Bus => 1,
        }
    }

    fn number(self) -> c_int {
        match self {
            Self::Segv => libc::SIGSEGV,
            Self::Bus => libc::SIGBUS,
        }
    }
}

/// What kind of fault the kernel says it is, see sigaction(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// SEGV_ACCERR: there is a page, and the access is not allowed.
    Protection,
    /// BUS_ADRERR, BUS_OBJERR: past the file's end, an I/O error, or no memory for the page.
    Unavailable,
    /// BUS_MCEERR_AR: the memory itself is broken.
    BrokenMemory,
    /// Anything else, signals sent by a process among it.
    Other,
}

/// A fault that is being handled.
#[derive(Debug)]
pub struct Fault {
    pub signal: Signal,
    pub kind: FaultKind,
    /// The address that was accessed.
    pub address: u64,
    info: *mut libc::siginfo_t,
    context: *mut c_void,
}

impl Fault {
    /// Passes the fault to a function that handles faults, as that signal. Returns its answer: true
    /// if it took the fault, and may have changed where the thread goes on.
    ///
    /// # Safety
    /// It is a function `bool(int, siginfo_t*, void*)` that may be called in a signal handler.
    pub unsafe fn pass_to(&self, function: NonNull<c_void>, signal: Signal) -> bool {
        type Function = unsafe extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) -> bool;
        // SAFETY: the caller promises the signature, and a function pointer has the size of a data
        // pointer on every target of this crate.
        let function: Function = unsafe { std::mem::transmute(function) };
        // SAFETY: the kernel made both for the handler that `self` lives in, on this thread.
        unsafe { function(signal.number(), self.info, self.context) }
    }

    /// The address of the instruction.
    pub fn program_counter(&self) -> u64 {
        let context = self.context.cast::<libc::ucontext_t>();
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the kernel made this context for the handler that `self` lives in; SA_SIGINFO is
        // set.
        return unsafe { (*context).uc_mcontext.gregs }
            .get(usize::try_from(libc::REG_RIP).unwrap_or(0))
            .copied()
            .unwrap_or(0)
            .cast_unsigned();
        #[cfg(target_arch = "aarch64")]
        // SAFETY: as above.
        return unsafe { (*context).uc_mcontext.pc };
    }

    /// Whether it was an access that writes. `None`: the processor does not say.
    #[cfg(target_arch = "x86_64")]
    pub fn is_write(&self) -> Option<bool> {
        // The processor's error code: bit 1 is set for a write, bit 4 for the fetch of an
        // instruction (Intel SDM, 4.7).
        const WRITE: i64 = 1 << 1;
        const FETCH: i64 = 1 << 4;
        // SAFETY: the kernel made this context for the handler that `self` lives in; SA_SIGINFO is
        // set.
        let error = unsafe { (*self.context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
        let error = error.get(usize::try_from(libc::REG_ERR).unwrap_or(0)).copied()?;
        (error & FETCH == 0).then_some(error & WRITE != 0)
    }

    /// Whether it was an access that writes. `None`: the processor does not say.
    #[cfg(target_arch = "aarch64")]
    pub fn is_write(&self) -> Option<bool> {
        // `struct esr_context` of asm/sigcontext.h, somewhere in the records after the registers.
        const ESR_MAGIC: u32 = 0x4553_5201;
        const RECORDS_BYTES: usize = 4096;
        // Bits of the syndrome (Arm ARM, ESR_EL1): the class, 0x24 for a data abort of the process;
        // bit 6 for a write.
        const CLASS_SHIFT: u32 = 26;
        const CLASS: u64 = 0x3f;
        const DATA_ABORT: u64 = 0x24;
        const WRITE: u64 = 1 << 6;
        // SAFETY: the kernel made this context for the handler that `self` lives in; SA_SIGINFO is
        // set.
        let pstate =
            unsafe { &raw const (*self.context.cast::<libc::ucontext_t>()).uc_mcontext.pstate };
        let records =
            (pstate as usize).checked_add(size_of_val(&0_u64))?.checked_next_multiple_of(16)?;
        let mut offset = 0_usize;
        while offset.checked_add(16)? <= RECORDS_BYTES {
            let record = records.checked_add(offset)? as *const u32;
            // SAFETY: inside the records, whose end was just compared; each starts with a magic
            // number and its size.
            let (magic, size) = unsafe { (record.read(), record.add(1).read()) };
            if magic == ESR_MAGIC {
                // SAFETY: as above; the syndrome follows the head.
                let syndrome = unsafe { record.add(2).cast::<u64>().read_unaligned() };
                return (syndrome >> CLASS_SHIFT & CLASS == DATA_ABORT)
                    .then_some(syndrome & WRITE != 0);
            }
            if magic == 0 || size < 8 {
                return None;
            }
            offset = offset.checked_add(usize::try_from(size).ok()?)?;
        }
        None
    }
}

/// Decides on a fault. True: it was seen to, and the thread goes on, at the same instruction or
/// where the context says by now. False: it is somebody else's.
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

/// Puts the handler above those that are there. Once: a second time it would find itself below. One
/// that failed is tried again at the next call. Not by two threads at once.
pub fn install(decide: Decide) -> SysResult<()> {
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
    // SAFETY: by its Safety section.
    unsafe { PREVIOUS[signal.index()].load(Ordering::Acquire).as_ref() }
}

/// Whether ours is the first handler that the kernel calls. Not so, if somebody installed one
/// later; that one must hand on to us.
pub fn is_first() -> bool {
    BOTH.into_iter().all(|signal| current(signal).is_ok_and(|action| is_our_handler(&action)))
}

fn current(signal: Signal) -> SysResult<libc::sigaction> {
    inject::trip("sigaction")?;
    // SAFETY: all-zero is a value of this C struct, and the kernel fills it.
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
    // SAFETY: all-zero is a value of this C struct; what matters is set below.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = on_signal as *const () as usize;
    // SA_SIGINFO: the handler needs the address. SA_ONSTACK: as before. Node's handler goes
    // without, and ours has no use for it, since a thread that faults in a mapping has stack left;
    // but a crash reporter's handler below ours may be there for stack overflows. No SA_NODEFER: a
    // fault in the handler itself ends the process at once, as it should.
    let before = previous(signal).map_or(0, |previous| previous.sa_flags);
    action.sa_flags = libc::SA_SIGINFO | (before & libc::SA_ONSTACK);
    // SAFETY: all-zero is a value of this C struct, and the kernel fills it.
    let mut replaced: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: `on_signal` has the signature that SA_SIGINFO asks for and is never unloaded
    // (build.rs).
    match unsafe { libc::sigaction(signal.number(), &raw const action, &raw mut replaced) } {
        0 => Ok(replaced),
        _ => Err(SysError::new("sigaction", Errno::last())),
    }
}

extern "C" fn on_signal(number: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    let errno = Errno::last_raw();
    let signal = if number == libc::SIGBUS { Signal::Bus } else { Signal::Segv };
    // SAFETY: SA_SIGINFO is set, so the kernel passes it.
    let code = unsafe { (*info).si_code };
    // SAFETY: for the codes that `kind` lets through it is the address; for others it is not used.
    let address = super::to_u64(unsafe { (*info).si_addr() } as usize);
    let fault = Fault { signal, kind: kind(signal, code), address, info, context };
    // It was set before this handler was installed.
    let handled = DECIDE.get().is_some_and(|decide| decide(&fault));
    if !handled {
        hand_on(&fault, number, code);
    }
    Errno::set_raw(errno);
}

fn kind(signal: Signal, code: c_int) -> FaultKind {
    const SEGV_ACCERR: c_int = 2;
    match (signal, code) {
        (Signal::Segv, SEGV_ACCERR) => FaultKind::Protection,
        (Signal::Bus, libc::BUS_ADRERR | libc::BUS_OBJERR) => FaultKind::Unavailable,
        (Signal::Bus, libc::BUS_MCEERR_AR) => FaultKind::BrokenMemory,
        _ => FaultKind::Other,
    }
}

/// As if we were not there.
fn hand_on(fault: &Fault, number: c_int, code: c_int) {
    let Some(previous) = previous(fault.signal) else { return crash(number, code) };
    let once = previous.sa_flags & libc::SA_RESETHAND != 0;
    let was_called = once && WAS_CALLED[fault.signal.index()].swap(true, Ordering::AcqRel);
    match previous.sa_sigaction {
        _ if was_called => crash(number, code),
        libc::SIG_DFL => crash(number, code),
        // What the processor raises can't be ignored: the kernel ends the process then, and so do
        // we.
        libc::SIG_IGN if is_synchronous(code) => crash(number, code),
        libc::SIG_IGN => {}
        handler => {
            let before = mask_as(previous, number);
            if previous.sa_flags & libc::SA_SIGINFO != 0 {
                // SAFETY: whoever installed it said by SA_SIGINFO that it has this signature.
                let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) =
                    unsafe { std::mem::transmute(handler) };
                handler(number, fault.info, fault.context);
            } else {
                // SAFETY: without SA_SIGINFO a handler takes the number alone.
                let handler: extern "C" fn(c_int) = unsafe { std::mem::transmute(handler) };
                handler(number);
            }
            // SAFETY: the mask that was in force before.
            unsafe {
                libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, std::ptr::null_mut())
            };
        }
    }
}

/// Blocks the signals that a handler wants to be blocked while it runs, and not its own if it says
/// so. Gives the mask that was in force.
fn mask_as(action: &libc::sigaction, number: c_int) -> libc::sigset_t {
    // SAFETY: all-zero is a signal set; these calls change this thread's mask only, and are safe in
    // handlers (signal-safety(7)).
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

/// Whether the signal comes of an instruction, which raises it again when it runs again.
fn is_synchronous(code: c_int) -> bool {
    const SEGV_MTEAERR: c_int = 8;
    code > 0 && code != libc::BUS_MCEERR_AO && code != SEGV_MTEAERR
}

/// The default action: the process ends by this signal, with its core.
fn crash(number: c_int, code: c_int) {
    // SAFETY: all-zero is SIG_DFL without flags.
    let action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: it takes away our own handler; sigaction and raise are safe in handlers
    // (signal-safety(7)).
    unsafe {
        libc::sigaction(number, &raw const action, std::ptr::null_mut());
        // A fault comes again when its instruction runs again, and the core shows the place. A
        // signal that somebody sent does not: it is pending until this handler returns.
        if !is_synchronous(code) {
            libc::raise(number);
        }
    }
}
