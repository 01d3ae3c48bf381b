//! A thread that plays the provider of a paged region.

use super::{page_bytes, read};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use wasm_hostmap::fault;
use wasm_hostmap::paging::{self, Pager, Provided, Spec};
use wasm_hostmap::region::Region;

/// With userfaultfd, where it can be had, and without.
pub fn modes() -> Vec<bool> {
    let has_userfault = wasm_hostmap::sys::userfault::probe().is_ok();
    if has_userfault { vec![true, false] } else { vec![false] }
}

/// Never 0, so that zeros are found.
pub fn byte_at(offset: u64) -> u8 {
    offset.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes()[5] | 1
}

pub fn chunk_bytes() -> u64 {
    4 * page_bytes()
}

pub fn spec(byte_length: u64, by_userfault: bool) -> Spec {
    Spec {
        byte_length,
        chunk_bytes: chunk_bytes(),
        timeout_milliseconds: 20_000,
        by_userfault: Some(by_userfault),
    }
}

pub fn paged(byte_length: u64, by_userfault: bool) -> (Region, OwnedFd) {
    Region::paged("paged", spec(byte_length, by_userfault)).unwrap()
}

pub fn pager_of(region: &Region) -> Arc<Pager> {
    paging::find(region.pager().unwrap().id()).unwrap()
}

/// Provides a chunk with the bytes that it is to have.
pub fn try_to_provide(pager: &Pager, chunk: u64) -> wasm_hostmap::error::Result<Provided> {
    let (start, length) = pager.bytes_of(chunk).unwrap();
    let bytes: Vec<u8> = (start.get()..start.get() + length).map(byte_at).collect();
    fault::provide(pager, chunk, bytes.as_ptr() as u64, length)
}

pub fn provide(pager: &Pager, chunk: u64) -> Provided {
    try_to_provide(pager, chunk).unwrap()
}

/// Whether a provider provides a chunk, or fails.
pub type Decide = dyn Fn(u64) -> bool + Send + Sync;

pub fn always() -> Box<Decide> {
    Box::new(|_| true)
}

pub struct Provider {
    thread: Option<JoinHandle<()>>,
    asked: Arc<Mutex<Vec<u64>>>,
    pub pager: Arc<Pager>,
}

impl Provider {
    pub fn start(region: &Region, socket: OwnedFd, decide: Box<Decide>) -> Self {
        let pager = pager_of(region);
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (of_thread, list) = (Arc::clone(&pager), Arc::clone(&asked));
        let thread = std::thread::spawn(move || {
            of_thread.serve().unwrap();
            let mut socket = UnixStream::from(socket);
            let mut number = [0; 8];
            while socket.read_exact(&mut number).is_ok() {
                let chunk = u64::from_le_bytes(number);
                list.lock().unwrap().push(chunk);
                if !decide(chunk) || try_to_provide(&of_thread, chunk).is_err() {
                    of_thread.fail(chunk).unwrap();
                }
            }
        });
        Self { thread: Some(thread), asked, pager }
    }

    pub fn asked(&self) -> Vec<u64> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.pager.close();
        self.thread.take().unwrap().join().unwrap();
    }
}

/// Looks at every `step`th byte of what shows a region from an offset on.
pub fn check(address: u64, offset: u64, length: u64, step: u64) {
    for at in (0..length).step_by(usize::try_from(step).unwrap()) {
        assert_eq!(read(address + at), byte_at(offset + at), "{}", offset + at);
    }
}
