//! What a caller without `unsafe` can do with the core, and that it harms nobody. That such a
//! caller can't change a memory is shown by the example of `v8::live_memory::LiveMemory`, which
//! must not compile.

#![forbid(unsafe_code)]
#![allow(clippy::arithmetic_side_effects)] // Tests may let arithmetic panic.

use wasm_hostmap::error::Code;
use wasm_hostmap::region::Region;
use wasm_hostmap::region::thp::PageKind;
use wasm_hostmap::sys::mmap::{self, Mmap, Pages};
use wasm_hostmap::sys::page::{PageAligned, WASM_PAGE_BYTES, host_page_bytes};
use wasm_hostmap::v8::live_memory::MemoryExtent;
use wasm_hostmap::v8::reservation::{MapBefore, Reservation, is_guarded};

#[test]
fn pages_of_a_mapping_of_the_crate_can_be_replaced() {
    let length = PageAligned::new(4 * host_page_bytes()).unwrap();
    let mapping = Mmap::new(length, Pages::Zeros).unwrap();
    mmap::replace(mapping.owned(), Pages::ReadonlyZeros).unwrap();
    mmap::replace(mapping.owned().first(1), Pages::Zeros).unwrap();
    mmap::discard(mapping.owned()).unwrap();
}

#[test]
fn the_process_map_can_be_asked_about_any_buffer() {
    let bytes = vec![7_u8; 4 * usize::try_from(WASM_PAGE_BYTES).unwrap()];
    let base = (bytes.as_ptr() as u64).next_multiple_of(WASM_PAGE_BYTES);
    let extent = MemoryExtent::new(base, WASM_PAGE_BYTES).unwrap();
    let reservation = MapBefore::take().unwrap().reservation_of(extent).unwrap();
    assert_eq!(reservation.below_bytes, 0, "a vector has no guard");
    let as_v8 = Reservation { below_bytes: 2 << 30, above_bytes: 8 << 30 };
    assert!(!is_guarded(extent, as_v8).unwrap());
    assert!(bytes.iter().all(|byte| *byte == 7));
}

#[test]
fn a_region_can_be_made_seen_and_sealed() {
    let bytes = [7_u8; 100];
    let source = bytes.as_ptr() as u64;
    let region = Region::copy_from(source, 100, "a region", PageKind::Ordinary).unwrap();
    let view = region.view(1, 98).unwrap();
    assert_eq!(view.byte_length(), 98);
    drop(view);
    region.seal().unwrap();
    assert!(region.is_sealed());
    // An address that can't be read is refused by the kernel, and no signal.
    let refused = Region::copy_from(8, 100, "nothing", PageKind::Ordinary).unwrap_err();
    assert_ne!(refused.code(), Code::Internal);
}
