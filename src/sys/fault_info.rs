//! What the kernel tells a handler about a fault: the address, the kind, the registers.
//!
//! The only file that knows the layout of a signal's context, for each processor. Everything here
//! is safe in handlers. Makes no system call.

// It reads what the kernel gives a handler, by pointers.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};
use std::ptr::NonNull;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGSEGV: the page's protection forbids the access, or no page is there.
    Segv,
    /// SIGBUS: the page's contents can't be had.
    Bus,
}

impl Signal {
    pub(super) fn index(self) -> usize {
        match self {
            Self::Segv => 0,
            Self::Bus => 1,
        }
    }

    pub(super) fn number(self) -> c_int {
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
    code: c_int,
    info: *mut libc::siginfo_t,
    context: *mut c_void,
}

impl Fault {
    /// # Safety
    /// The arguments are those that the kernel has called a handler with, which was installed with
    /// SA_SIGINFO and is still running.
    pub(super) unsafe fn new(
        number: c_int,
        info: *mut libc::siginfo_t,
        context: *mut c_void,
    ) -> Self {
        let signal = if number == libc::SIGBUS { Signal::Bus } else { Signal::Segv };
        // SAFETY: with SA_SIGINFO the kernel passes a valid siginfo_t.
        let code = unsafe { (*info).si_code };
        // SAFETY: si_addr reads a field of the union that is plain bits. It is the address for the
        // codes that `kind_of` names; for others `Other` says that it means nothing.
        let address = super::to_u64(unsafe { (*info).si_addr() }.addr());
        Self { signal, kind: kind_of(signal, code), address, code, info, context }
    }

    /// The kernel's two pointers, for a handler below ours.
    pub(super) fn raw(&self) -> (*mut libc::siginfo_t, *mut c_void) {
        (self.info, self.context)
    }

    /// Whether an instruction raised the signal, and raises it again when it runs again.
    pub(super) fn is_synchronous(&self) -> bool {
        const SEGV_MTEAERR: c_int = 8;
        self.code > 0 && self.code != libc::BUS_MCEERR_AO && self.code != SEGV_MTEAERR
    }

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
        // The register is in the table. In a handler nothing may panic, and no code is at 0.
        #[cfg(target_arch = "x86_64")]
        // SAFETY: by `new`'s promise the context is the kernel's, and lives as long as the handler.
        return unsafe { (*context).uc_mcontext.gregs }
            .get(usize::try_from(libc::REG_RIP).unwrap_or(0))
            .copied()
            .unwrap_or(0)
            .cast_unsigned();
        #[cfg(target_arch = "aarch64")]
        // SAFETY: by `new`'s promise the context is the kernel's, and lives as long as the handler.
        return unsafe { (*context).uc_mcontext.pc };
    }

    /// Whether it was an access that writes. `None`: the processor does not say.
    #[cfg(target_arch = "x86_64")]
    pub fn is_write(&self) -> Option<bool> {
        // The processor's error code: bit 1 is set for a write, bit 4 for the fetch of an
        // instruction (Intel SDM, 4.7).
        const WRITE: i64 = 1 << 1;
        const FETCH: i64 = 1 << 4;
        // SAFETY: by `new`'s promise the context is the kernel's, and lives as long as the handler.
        let error = unsafe { (*self.context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
        let error = error.get(usize::try_from(libc::REG_ERR).ok()?).copied()?;
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
        // SAFETY: by `new`'s promise the context is the kernel's, and lives as long as the handler.
        let pstate =
            unsafe { &raw const (*self.context.cast::<libc::ucontext_t>()).uc_mcontext.pstate };
        let records =
            (pstate as usize).checked_add(size_of_val(&0_u64))?.checked_next_multiple_of(16)?;
        let mut offset = 0_usize;
        while offset.checked_add(16)? <= RECORDS_BYTES {
            let record = records.checked_add(offset)? as *const u32;
            // SAFETY: the loop's condition keeps the head inside the 4096 bytes of records that
            // every context has; the kernel starts each with a magic number and its size.
            let (magic, size) = unsafe { (record.read(), record.add(1).read()) };
            if magic == ESR_MAGIC {
                // SAFETY: the kernel has written this record whole, and by its magic number it is
                // an `esr_context`, in which the syndrome follows the head.
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

fn kind_of(signal: Signal, code: c_int) -> FaultKind {
    const SEGV_ACCERR: c_int = 2;
    match (signal, code) {
        (Signal::Segv, SEGV_ACCERR) => FaultKind::Protection,
        (Signal::Bus, libc::BUS_ADRERR | libc::BUS_OBJERR) => FaultKind::Unavailable,
        (Signal::Bus, libc::BUS_MCEERR_AR) => FaultKind::BrokenMemory,
        _ => FaultKind::Other,
    }
}
