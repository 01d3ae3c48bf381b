//! Calls all of guest/hostmap.rs, which is dropped in here, and reports to the host what it was
//! given. The exports are those of fixture.c.
//!
//! Each ends with the digest of the bytes that it read itself, in order.

#![no_std]

#[path = "../../../guest/hostmap.rs"]
mod hostmap;

use core::sync::atomic::{AtomicBool, Ordering};
use hostmap::{Chunks, Plain, Records, Source, Text};

hostmap_source!(Left, "left");
hostmap_source!(Right, "right");

#[link(wasm_import_module = "test")]
unsafe extern "C" {
    /// So many records, each of `bytes`, are at `first`.
    safe fn report(first: *const u8, count: usize, bytes: usize);
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    core::arch::wasm32::unreachable()
}

const NOTHING: u32 = 2_166_136_261;

/// FNV-1a.
fn digest(before: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(before, |digest, &byte| (digest ^ u32::from(byte)).wrapping_mul(16_777_619))
}

fn take(read: &mut u32, record: &[u8]) {
    report(record.as_ptr(), 1, record.len());
    *read = digest(*read, record);
}

#[unsafe(no_mangle)]
extern "C" fn chunks() -> u32 {
    // SAFETY: each export makes one of each source, and the host keeps their windows still.
    let mut left = unsafe { Left::new() };
    let mut chunks = Chunks::new(&mut left);
    let mut read = NOTHING;
    while let Some(chunk) = chunks.next() {
        take(&mut read, chunk);
    }
    read
}

#[unsafe(no_mangle)]
extern "C" fn chunks_keeping(keep: usize) -> u32 {
    // SAFETY: as in `chunks`.
    let mut left = unsafe { Left::new() };
    let mut chunks = Chunks::new(&mut left);
    let mut read = NOTHING;
    while let Some(chunk) = chunks.next_keeping(keep) {
        take(&mut read, chunk);
    }
    read
}

/// What is left over is reported last, also when it is nothing.
fn records_of<T: Plain>() -> u32 {
    // SAFETY: as in `chunks`.
    let mut left = unsafe { Left::new() };
    let mut records = Records::<_, T>::new(&mut left);
    let mut read = NOTHING;
    while let Some(block) = records.next() {
        report(block.as_ptr().cast(), block.len(), size_of::<T>());
        // SAFETY: the block's own bytes, of a type that has no padding.
        read = digest(read, unsafe {
            core::slice::from_raw_parts(block.as_ptr().cast(), size_of_val(block))
        });
    }
    take(&mut read, records.left_over());
    read
}

/// Records are types here, so there is a list of sizes.
#[unsafe(no_mangle)]
extern "C" fn records(record_bytes: usize) -> u32 {
    match record_bytes {
        1 => records_of::<u8>(),
        3 => records_of::<[u8; 3]>(),
        7 => records_of::<[u8; 7]>(),
        12 => records_of::<[u32; 3]>(),
        24 => records_of::<[u64; 3]>(),
        4095 => records_of::<[u8; 4095]>(),
        4097 => records_of::<[u8; 4097]>(),
        _ => core::arch::wasm32::unreachable(),
    }
}

fn report_text<S: Source>(text: &mut Text<'_, S, impl FnMut(u8) -> bool>) -> u32 {
    let mut read = NOTHING;
    while let Some(record) = text.next() {
        take(&mut read, record);
    }
    read
}

static UNTERMINATED: AtomicBool = AtomicBool::new(false);

#[unsafe(no_mangle)]
extern "C" fn lines(delimiter: u32) -> u32 {
    // SAFETY: as in `chunks`.
    let mut left = unsafe { Left::new() };
    let mut text = Text::lines(&mut left, delimiter as u8);
    let read = report_text(&mut text);
    UNTERMINATED.store(text.unterminated(), Ordering::Relaxed);
    read
}

#[unsafe(no_mangle)]
extern "C" fn was_unterminated() -> u32 {
    UNTERMINATED.load(Ordering::Relaxed).into()
}

#[unsafe(no_mangle)]
extern "C" fn words() -> u32 {
    // SAFETY: as in `chunks`.
    let mut left = unsafe { Left::new() };
    report_text(&mut Text::words(&mut left, |byte| byte.is_ascii_lowercase() || byte >= 0x80))
}

/// Records of two sizes, both sorted by key.
#[repr(C)]
#[derive(Clone, Copy)]
struct Item {
    key: u32,
    price: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Order {
    key: u32,
    count: u32,
    customer: u32,
}

// SAFETY: made of integers alone.
unsafe impl Plain for Item {}
// SAFETY: made of integers alone.
unsafe impl Plain for Order {}

/// What all orders come to: a merge join, each side through a window of its own.
#[unsafe(no_mangle)]
extern "C" fn join() -> u64 {
    // SAFETY: as in `chunks`.
    let (mut left, mut right) = unsafe { (Left::new(), Right::new()) };
    let mut items = Records::<_, Item>::new(&mut left);
    let mut orders = Records::<_, Order>::new(&mut right);
    let (mut item_block, mut order_block) = (items.next(), orders.next());
    let mut total = 0;
    while let (Some([item, more_items @ ..]), Some([order, more_orders @ ..])) =
        (item_block, order_block)
    {
        if item.key < order.key {
            item_block = if more_items.is_empty() { items.next() } else { Some(more_items) };
        } else {
            if item.key == order.key {
                total += u64::from(item.price) * u64::from(order.count);
            }
            order_block = if more_orders.is_empty() { orders.next() } else { Some(more_orders) };
        }
    }
    total
}
