//! Reading a dataset that the host has put into a linear memory: wasmtime lets the host make the
//! memory itself, so a file's pages can be mapped into it. Only when it is made, and only there: no
//! other call maps, unmaps or protects anything.
//!
//! ```text
//!  reservation  | 2 MiB of zeros | the file, read-only | inaccessible: what wasmtime reserves, and its guard |
//!               ^ a multiple of 2 MiB, so that huge pages are mapped as such
//! ```

use libc::{
    MAP_ANONYMOUS, MAP_FAILED, MAP_FIXED, MAP_NORESERVE, MAP_PRIVATE, PROT_NONE, PROT_READ,
    PROT_WRITE,
};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::ptr;
use std::sync::Arc;
use std::time::Instant;
use wasmtime::{
    Config, Engine, Error, Instance, LinearMemory, MemoryCreator, MemoryType, Module, Result,
    Store, bail,
};

pub const USAGE: &str = "scan MODULE PATH BYTE_LENGTH ROUNDS FUNCTION...";

const HUGE_PAGE: usize = 2 << 20;

struct Creator {
    file: File,
    byte_length: usize,
}

struct Reservation {
    at: usize,
    reserved: usize,
    base: usize,
    byte_size: usize,
}

// SAFETY: the memory is `minimum` bytes long, of zeros and of the file, which nobody makes shorter
// or writes meanwhile. All else of the reservation is inaccessible, the guard too.
unsafe impl MemoryCreator for Creator {
    fn new_memory(
        &self,
        _: MemoryType,
        minimum: usize,
        _: Option<usize>,
        reserved: Option<usize>,
        guard: usize,
    ) -> Result<Box<dyn LinearMemory>, String> {
        let reserved = HUGE_PAGE + reserved.unwrap_or(0).max(minimum) + guard;
        let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
        // SAFETY: without MAP_FIXED the kernel chooses an address where nothing is mapped.
        let at = unsafe { libc::mmap(ptr::null_mut(), reserved, PROT_NONE, flags, -1, 0) };
        if at == MAP_FAILED {
            return Err(last_error("mmap"));
        }
        let skip = at.addr().next_multiple_of(HUGE_PAGE) - at.addr();
        let base = at.wrapping_byte_add(skip);
        let memory = Reservation {
            at: at.expose_provenance(),
            reserved,
            base: base.expose_provenance(),
            byte_size: minimum,
        };
        // SAFETY: the range is in the reservation, which is ours.
        if unsafe { libc::mprotect(base, minimum, PROT_READ | PROT_WRITE) } != 0 {
            return Err(last_error("mprotect"));
        }
        if minimum < HUGE_PAGE + self.byte_length {
            return Err(format!("{minimum} bytes are too few"));
        }
        let dataset = base.wrapping_byte_add(HUGE_PAGE);
        let fd = self.file.as_raw_fd();
        // SAFETY: the range is in the reservation, and nothing refers to what is in it.
        let mapped = unsafe {
            libc::mmap(dataset, self.byte_length, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd, 0)
        };
        if mapped == dataset { Ok(Box::new(memory)) } else { Err(last_error("mmap")) }
    }
}

// SAFETY: the addresses stay valid for as long as `self` lives, and the memory never moves.
unsafe impl LinearMemory for Reservation {
    fn byte_size(&self) -> usize {
        self.byte_size
    }

    fn byte_capacity(&self) -> usize {
        self.byte_size
    }

    fn grow_to(&mut self, _: usize) -> Result<()> {
        bail!("this memory does not grow")
    }

    fn as_ptr(&self) -> *mut u8 {
        ptr::with_exposed_provenance_mut(self.base)
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        // SAFETY: the range is ours, and wasmtime is done with it.
        unsafe { libc::munmap(ptr::with_exposed_provenance_mut(self.at), self.reserved) };
    }
}

fn last_error(call: &str) -> String {
    format!("{call}: {}", io::Error::last_os_error())
}

/// For each function of the module, called with the address and the number of bytes, the
/// nanoseconds of each round but the first, which brings the pages in; of that one alone; and the
/// sum it gave, as JSON.
pub fn run(args: &[String]) -> Result<String> {
    let [module, path, byte_length, rounds, functions @ ..] = args else {
        bail!("usage: {USAGE}");
    };
    let byte_length: u32 = byte_length.parse()?;
    let rounds: u32 = rounds.parse()?;
    let creator = Creator { file: File::open(path)?, byte_length: usize::try_from(byte_length)? };
    let mut config = Config::new();
    config.with_host_memory(Arc::new(creator));
    let engine = Engine::new(&config)?;
    let module = Module::new(&engine, std::fs::read(module)?)?;
    let mut store = Store::new(&engine, ());
    // The module has the memory: one that is imported is not asked of the creator.
    let instance = Instance::new(&mut store, &module, &[])?;
    let at = u32::try_from(HUGE_PAGE)?;
    let lists: Vec<String> = functions
        .iter()
        .map(|name| {
            let function = instance
                .get_func(&mut store, name)
                .ok_or_else(|| Error::msg(format!("no function '{name}'")))?
                .typed::<(u32, u32), u64>(&store)?;
            let start = Instant::now();
            let sum = function.call(&mut store, (at, byte_length))?;
            let first = start.elapsed().as_nanos();
            let mut ns = Vec::new();
            for _ in 0..rounds {
                let start = Instant::now();
                function.call(&mut store, (at, byte_length))?;
                ns.push(start.elapsed().as_nanos().to_string());
            }
            let ns = ns.join(",");
            Ok(format!("{{\"ns\":[{ns}],\"first\":{first},\"sum\":\"{sum}\"}}"))
        })
        .collect::<Result<_>>()?;
    Ok(format!("[{}]", lists.join(",")))
}
