//! What a slide costs in bare system calls: one `mmap(MAP_FIXED)` of the next part of a file over
//! the same addresses.
//!
//! ```text
//!  file, sparse  |  0  |  1  |  2  | ...               one part for each round of a batch
//!                      \ mmap /
//!  reservation   | 64 KiB | window | 64 KiB | inaccessible |
//! ```
//!
//! The mapping is private and read-only, as a readonly window's is. Touched pages are spread evenly
//! over the window, and read one byte each.

use crate::plan::Plan;
use crate::system::{WASM_PAGE, linear_memory, map_over, memfd, parse};
use libc::{MAP_NORESERVE, MAP_PRIVATE, PROT_READ};
use std::fs::File;
use std::os::fd::{AsRawFd, RawFd};
use std::thread;
use std::time::{Duration, Instant};

pub const USAGE: &str = "slide memfd|PATH WINDOW_BYTES TOUCHED_PAGES WARMUP_BATCHES BATCHES ROUNDS_PER_BATCH\n       \
                         slide-threads THREADS WINDOW_BYTES PARTS MILLISECONDS";

/// Nanoseconds per slide, one sample for each batch.
pub fn run(args: &[String]) -> Result<Vec<f64>, String> {
    let [backing, window_bytes, touched_pages, plan @ ..] = args else {
        return Err(USAGE.into());
    };
    let window_bytes: usize = parse(window_bytes)?;
    let touched_pages: usize = parse(touched_pages)?;
    let plan = Plan::parse(plan)?;
    let file = if backing == "memfd" {
        memfd(window_bytes * plan.rounds_per_batch())?
    } else {
        File::open(backing).map_err(|error| format!("{backing}: {error}"))?
    };
    let fd = file.as_raw_fd();
    let base = linear_memory(window_bytes + 2 * WASM_PAGE)?;
    let window = base.wrapping_byte_add(WASM_PAGE);
    let stride = window_bytes / touched_pages.max(1);
    plan.time(|number| {
        let offset =
            libc::off_t::try_from(number * window_bytes).map_err(|error| error.to_string())?;
        // SAFETY: the window is inside the linear memory, and nothing refers to what is in it.
        // The file is as long as all the parts.
        unsafe {
            map_over(window, window_bytes, PROT_READ, MAP_PRIVATE | MAP_NORESERVE, fd, offset)?;
            for page in 0..touched_pages {
                window.cast::<u8>().wrapping_add(page * stride).read_volatile();
            }
        }
        Ok(())
    })
}

/// Slides that so many threads make in a second, all together, each over a reservation of its own.
/// No page is touched.
pub fn run_threads(args: &[String]) -> Result<f64, String> {
    let [threads, window_bytes, parts, milliseconds] = args else {
        return Err(USAGE.into());
    };
    let threads: usize = parse(threads)?;
    let window_bytes: usize = parse(window_bytes)?;
    let parts: usize = parse(parts)?;
    let limit = Duration::from_millis(parse(milliseconds)?);
    let file = memfd(window_bytes * parts)?;
    let fd = file.as_raw_fd();
    thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|_| scope.spawn(|| slide_for(fd, window_bytes, parts, limit)))
            .collect();
        running.into_iter().map(|thread| thread.join().map_err(|_| "a thread panicked")?).sum()
    })
}

const SLIDES_PER_LOOK: u32 = 64;

fn slide_for(fd: RawFd, window_bytes: usize, parts: usize, limit: Duration) -> Result<f64, String> {
    let window = linear_memory(window_bytes + 2 * WASM_PAGE)?.wrapping_byte_add(WASM_PAGE);
    let mut offsets = (0..parts).cycle().map(|part| part * window_bytes);
    let mut slides = 0.0;
    let start = Instant::now();
    while start.elapsed() < limit {
        for offset in offsets.by_ref().take(SLIDES_PER_LOOK as usize) {
            let offset = libc::off_t::try_from(offset).map_err(|error| error.to_string())?;
            // SAFETY: the window is inside the linear memory, and nothing refers to what is in
            // it.
            unsafe {
                map_over(window, window_bytes, PROT_READ, MAP_PRIVATE | MAP_NORESERVE, fd, offset)?;
            }
        }
        slides += f64::from(SLIDES_PER_LOOK);
    }
    Ok(slides / start.elapsed().as_secs_f64())
}
