//! The iterators over a source that shows its chunks as a window does: skewed into a page, each at
//! the same place, and with nothing left of the chunk before.

use hostmap::{Chunks, Plain, Records, Source, Text};
use std::alloc::{Layout, alloc, dealloc};

const HOST_PAGE: usize = 4096;
const WINDOW_BYTES: usize = 8 * HOST_PAGE;
const LAYOUT: Layout = match Layout::from_size_align(WINDOW_BYTES, HOST_PAGE) {
    Ok(layout) => layout,
    Err(_) => panic!(),
};

/// A window over `region[from..]`, and what the host's WindowSource keeps.
struct Fake<'r> {
    region: &'r [u8],
    chunk: usize,
    overlap: usize,
    start: usize,
    position: usize,
    window: *mut u8,
}

impl<'r> Fake<'r> {
    fn new(region: &'r [u8], from: usize, chunk: usize) -> Self {
        // SAFETY: the layout has a size.
        let window = unsafe { alloc(LAYOUT) };
        assert!(!window.is_null());
        Self { region, chunk, overlap: 0, start: from, position: from, window }
    }
}

impl Drop for Fake<'_> {
    fn drop(&mut self) {
        // SAFETY: from `alloc`, with this layout.
        unsafe { dealloc(self.window, LAYOUT) }
    }
}

// SAFETY: the window is written in `next` alone.
unsafe impl Source for Fake<'_> {
    fn next(&mut self, keep: Option<usize>) -> usize {
        if self.position == self.region.len() {
            return 0;
        }
        self.start = self.start.max(self.position.saturating_sub(keep.unwrap_or(self.overlap)));
        self.position = self.region.len().min(self.position + self.chunk);
        let shown = &self.region[self.start..self.position];
        let skew = self.start % HOST_PAGE;
        assert!(skew + shown.len() <= WINDOW_BYTES, "the window has no room for the record");
        // SAFETY: inside the window, which nobody else refers to while the source is borrowed
        // mutably.
        unsafe {
            self.window.write_bytes(0xa5, WINDOW_BYTES);
            self.window.add(skew).copy_from_nonoverlapping(shown.as_ptr(), shown.len());
        }
        shown.len()
    }

    fn pointer(&self) -> *const u8 {
        self.window.wrapping_add(self.start % HOST_PAGE)
    }
}

/// Bytes without a period that a wrong offset could hide behind.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    };
    (0..length).map(|_| next()).collect()
}

/// Miri takes too long for thousands of chunks.
fn takes_long(region: &[u8], chunk: usize) -> bool {
    cfg!(miri) && region.len() / chunk > 20
}

fn records_are_whole<const N: usize>() {
    let region = noise(3 * HOST_PAGE + 5);
    for chunk in [1, 5, N, N + 1, 1000, HOST_PAGE] {
        if takes_long(&region, chunk) {
            continue;
        }
        for from in [0, 1, 4095, region.len() - 2 * N, region.len() - N + 1, region.len()] {
            let mut source = Fake::new(&region, from, chunk);
            let mut records = Records::<_, [u8; N]>::new(&mut source);
            let mut seen = Vec::new();
            while let Some(block) = records.next() {
                assert!(!block.is_empty());
                assert_eq!(block.as_ptr().addr() % HOST_PAGE, (from + seen.len()) % HOST_PAGE);
                seen.extend_from_slice(block.as_flattened());
            }
            assert_eq!(seen.len() % N, 0);
            assert_eq!(records.left_over().len(), (region.len() - from) % N);
            seen.extend_from_slice(records.left_over());
            assert!(seen == region[from..], "records of {N}, chunks of {chunk}, from {from}");
        }
    }
}

#[test]
fn records_that_straddle_chunks_are_whole() {
    records_are_whole::<1>();
    records_are_whole::<3>();
    records_are_whole::<7>();
    records_are_whole::<24>();
    records_are_whole::<4095>();
    records_are_whole::<4097>();
}

#[test]
fn structs_are_read_in_place() {
    #[repr(C)]
    #[derive(Clone, Copy)]
    struct Order {
        customer: u32,
        cents: u64,
    }
    // SAFETY: made of integers; any bytes may be padding.
    unsafe impl Plain for Order {}

    let region: Vec<u8> = (0..1000u32)
        .flat_map(|i| {
            [i.to_ne_bytes().as_slice(), &[0; 4], &u64::from(i * i).to_ne_bytes()].concat()
        })
        .collect();
    let mut source = Fake::new(&region, 16, 100);
    let mut records = Records::<_, Order>::new(&mut source);
    let mut expected = 1;
    while let Some(block) = records.next() {
        for order in block {
            assert_eq!((order.customer, order.cents), (expected, u64::from(expected * expected)));
            expected += 1;
        }
    }
    assert_eq!(expected, 1000);
}

#[test]
#[should_panic(expected = "the records are not aligned: start the source at a multiple of 8")]
fn records_that_are_not_aligned_are_refused() {
    let region = noise(64);
    let mut source = Fake::new(&region, 4, 64);
    Records::<_, u64>::new(&mut source).next();
}

#[test]
fn text_is_split_as_a_slice_is() {
    let text = b"one two  three\n\n four\nfive\n";
    let long = [&noise(9000)[..], b"\n", b"end"].concat();
    for (region, unterminated) in
        [(&text[..], false), (&text[..12], true), (&long, true), (b"", false)]
    {
        // As the delimiter says, and what follows the last one only if it is something.
        let mut lines: Vec<&[u8]> = region.split(|&byte| byte == b'\n').collect();
        if lines.last() == Some(&&b""[..]) {
            lines.pop();
        }
        let words: Vec<&[u8]> = region
            .split(|byte| !byte.is_ascii_lowercase())
            .filter(|word| !word.is_empty())
            .collect();
        for chunk in [1, 2, 3, 5, 4096, 20000] {
            if takes_long(region, chunk) {
                continue;
            }
            let mut source = Fake::new(region, 0, chunk);
            let mut text = Text::lines(&mut source, b'\n');
            for line in &lines {
                assert_eq!(text.next(), Some(*line));
            }
            assert_eq!(text.next(), None);
            assert_eq!(text.next(), None);
            assert_eq!(text.unterminated(), unterminated);

            let mut source = Fake::new(region, 0, chunk);
            let mut text = Text::words(&mut source, |byte| byte.is_ascii_lowercase());
            for word in &words {
                assert_eq!(text.next(), Some(*word));
            }
            assert_eq!(text.next(), None);
        }
    }
}

#[test]
fn chunks_keep_what_was_asked_for() {
    let region = noise(10);
    let mut source = Fake::new(&region, 1, 4);
    source.overlap = 2;
    let mut chunks = Chunks::new(&mut source);
    assert_eq!(chunks.next(), Some(&region[1..5]));
    assert_eq!(chunks.next(), Some(&region[3..9]));
    assert_eq!(chunks.next_keeping(1), Some(&region[8..10]));
    assert_eq!(chunks.next(), None);
    assert_eq!(chunks.next_keeping(3), None);
}
