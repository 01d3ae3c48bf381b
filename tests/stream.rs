//! Reading ahead and leaving behind, as the process's map and the kernel's page cache show it. No
//! Node involved.

#![allow(clippy::arithmetic_side_effects)] // Tests may let arithmetic panic.

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};
use support::{Reserved, Temp, page_bytes, pages, serial, vmas_of};
use wasm_hostmap::access::Access;
use wasm_hostmap::memory::window_state::{Tail, WindowSpec};
use wasm_hostmap::memory::{Mapped, Memory};
use wasm_hostmap::region::thp::PageKind;
use wasm_hostmap::region::{Part, Region};
use wasm_hostmap::sys::mmap::{Mmap, Sharing};
use wasm_hostmap::sys::page::{PageAligned, PageSpan};
use wasm_hostmap::sys::{file, process_map};
use wasm_hostmap::window;
use wasm_hostmap::window::Stream;

const MIB: u64 = 1 << 20;

/// Waits for what our threads do. The deadline is for a machine that does something else, and
/// for a test that fails.
fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < Duration::from_secs(20), "it never came: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Each page of it starts with its number.
fn numbered(byte_length: u64) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(byte_length).unwrap()];
    for (page, number) in bytes.chunks_mut(usize::try_from(page_bytes()).unwrap()).zip(1_u64..) {
        if let Some(head) = page.first_chunk_mut() {
            *head = number.to_le_bytes();
        }
    }
    bytes
}

/// Bytes of a region's pages that the process has in its page tables: in the mirror, and in this
/// range of addresses.
fn mapped_bytes(region: &Region, memory: std::ops::Range<u64>) -> (u64, u64) {
    let text = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let (mut mirrored, mut shown) = (0, 0);
    let mut inside = None;
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let (head, second) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        if let Some((start, _)) = head.split_once('-').filter(|_| !head.ends_with(':')) {
            let start = u64::from_str_radix(start, 16).unwrap();
            // access, offset, device, inode
            let inode: u64 = words.nth(2).unwrap_or("0").parse().unwrap();
            inside = (inode == region.inode()).then(|| memory.contains(&start));
        } else if head == "Rss:" {
            let bytes = second.parse::<u64>().unwrap() << 10;
            match inside {
                Some(true) => shown += bytes,
                Some(false) => mirrored += bytes,
                None => {}
            }
        }
    }
    (mirrored, shown)
}

/// Whether any of a region's pages are mapped by entries for 2 MiB.
fn has_huge_entries(region: &Region) -> bool {
    let text = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let mut is_inside = false;
    text.lines().any(|line| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        match words.as_slice() {
            [range, _, _, _, inode, ..] if range.contains('-') => {
                is_inside = *inode == region.inode().to_string();
                false
            }
            ["ShmemPmdMapped:" | "FilePmdMapped:", number, _] => is_inside && *number != "0",
            _ => false,
        }
    })
}

/// Whether these bytes of a region are in the page tables of a mirror, all of them. How many pages
/// a mirror has in all does not tell: the kernel maps all of a large folio of the page cache when
/// one page of it is brought in.
fn is_in_mirror(region: &Region, memory: &std::ops::Range<u64>, start: u64, end: u64) -> bool {
    use std::os::unix::fs::FileExt;
    const PRESENT: u64 = 1 << 63;
    let pagemap = std::fs::File::open("/proc/self/pagemap").unwrap();
    let is_present = |address: u64| {
        let mut entry = [0; 8];
        pagemap.read_exact_at(&mut entry, address / page_bytes() * 8).unwrap();
        u64::from_le_bytes(entry) & PRESENT != 0
    };
    let mut found = false;
    wasm_hostmap::sys::process_map::for_each(|vma| {
        let file_end = vma.file_offset + (vma.end - vma.start);
        if vma.inode == region.inode()
            && !memory.contains(&vma.start)
            && vma.file_offset <= start
            && end <= file_end
        {
            let mut pages = (start..end).step_by(usize::try_from(page_bytes()).unwrap());
            found |= pages.all(|at| is_present(vma.start + (at - vma.file_offset)));
        }
    })
    .unwrap();
    found
}

/// Where no window shows it.
fn mirror_bytes(region: &Region) -> u64 {
    mapped_bytes(region, 0..0).0
}

/// How many bytes of a region's pages are in the page cache.
fn cached_bytes(region: &Region) -> u64 {
    let whole = region.pages(PageAligned::ZERO, region.byte_length()).unwrap();
    let look = Mmap::new(whole.length(), whole.as_pages(Sharing::ReadOnly).unwrap()).unwrap();
    let resident = look.resident(look.span());
    resident.into_iter().map(|is_there| if is_there & 1 == 1 { page_bytes() } else { 0 }).sum()
}

/// A file whose pages can leave the page cache; `None` where no file's can.
fn cached_file(name: &str, byte_length: u64) -> Option<(Temp, Region)> {
    let temp = Temp::new(name, &numbered(byte_length));
    std::fs::File::open(&temp.0).unwrap().sync_all().unwrap();
    let region = temp.open();
    let whole = cached_bytes(&region);
    assert!(whole >= byte_length);
    file::drop_cached(region.shared_fd().get().unwrap(), 0, byte_length).unwrap();
    (cached_bytes(&region) < whole).then_some((temp, region))
}

/// A memory with a window of so many bytes in it.
struct One {
    reserved: Reserved,
    memory: Memory,
    window: Mapped,
    address: u64,
    byte_length: u64,
}

impl One {
    fn new(byte_length: u64) -> Self {
        let reserved = Reserved::new(4 * MIB / page_bytes());
        let memory = Memory::attach(reserved.place()).unwrap();
        // As `window_in_free_space` places it: entries of page tables for 2 MiB are moved as they
        // are there, and lost elsewhere.
        let address = reserved.base().next_multiple_of(2 * MIB);
        let length = PageAligned::new(byte_length).unwrap();
        let kind = WindowSpec { length, access: Access::Private, tail: Tail::Inaccessible };
        let window =
            window::open_at(&memory, reserved.place(), address - reserved.base(), kind).unwrap();
        Self { reserved, memory, window, address, byte_length }
    }

    fn slide(&self, region: &Region, start: u64, end: u64, access: Access) {
        let shown = region
            .pages(PageAligned::round_down(start), end - PageAligned::round_down(start).get())
            .unwrap();
        assert!(
            window::slide(&self.memory, self.reserved.place(), self.window, Some((&shown, access)))
                .unwrap()
        );
    }

    fn mirror_bytes(&self, region: &Region) -> u64 {
        mapped_bytes(region, self.range()).0
    }

    fn range(&self) -> std::ops::Range<u64> {
        self.address..self.address + self.byte_length
    }

    /// Whether the pages that are shown now are those from `start` on.
    fn shows(&self, start: u64, byte_length: u64) -> bool {
        let first = start / page_bytes();
        (0..byte_length / page_bytes()).all(|page| {
            let head = std::array::from_fn(|at| {
                support::read(self.address + page * page_bytes() + at as u64)
            });
            u64::from_le_bytes(head) == first + page + 1
        })
    }
}

fn stream(region: &Region, access: Access, read_ahead: bool, leave_behind: bool) -> Arc<Stream> {
    Arc::new(Stream::new(region, access.sharing(), read_ahead, leave_behind))
}

#[test]
fn the_next_chunk_is_in_the_page_tables_before_it_is_touched_and_none_after_the_end() {
    let _serial = serial();
    if !support::has_mirrors() {
        return;
    }
    let bytes = numbered(8 * MIB);
    let file = Temp::new("next", &bytes);
    let in_memory =
        Region::copy_from(bytes.as_ptr() as u64, bytes.len() as u64, "test", PageKind::Ordinary)
            .unwrap();
    let regions = [&file.open(), &in_memory];
    // How many new bytes a step has, and how many old ones are shown again in front of them.
    for (chunk, keep) in [(2 * MIB, 0), (MIB, 0), (MIB, page_bytes()), (MIB / 2 + page_bytes(), 5)]
    {
        for (region, access) in regions
            .iter()
            .flat_map(|region| [(region, Access::Readonly), (region, Access::Private)])
        {
            let it = One::new(2 * MIB);
            let stream = stream(region, access, true, false);
            assert!(!stream.is_idle());
            let (mut start, mut end) = (0, 0);
            for round in 0..8 * MIB / chunk {
                start = end - keep.min(end);
                end += chunk;
                // The kernel drops an entry for 2 MiB that it can't move as a whole.
                let moves = chunk == 2 * MIB && keep == 0 || !has_huge_entries(region);
                it.slide(region, start, end, access);
                let (_, shown) = mapped_bytes(region, it.range());
                if round > 0 && moves {
                    assert!(
                        shown >= chunk,
                        "{shown} bytes of {chunk} are there, and nothing was touched"
                    );
                }
                stream.advance(start, end, end + chunk, round == 0);
                assert!(it.shows(PageAligned::round_down(start).get(), end - start));
                let next = end + chunk.min(8 * MIB - end);
                eventually("the next chunk", || is_in_mirror(region, &it.range(), end, next));
            }
            stream.end();
            eventually("an empty mirror", || it.mirror_bytes(region) == 0);
            assert!(it.shows(PageAligned::round_down(start).get(), end - start));
        }
    }
}

#[test]
fn holes_of_memfds_stay_holes() {
    let _serial = serial();
    if !support::has_mirrors() {
        return;
    }
    let region = Region::allocate(8 * MIB + 100, "holes", PageKind::Ordinary).unwrap();
    for page in [3, 4, 700, 2048] {
        let view = region.view(page * page_bytes(), 1).unwrap();
        support::write(view.address(), 1);
    }
    let it = One::new(MIB);
    let stream = stream(&region, Access::Readonly, true, true);
    it.slide(&region, 0, 1, Access::Readonly);
    stream.advance(0, 1, region.byte_length(), true);
    eventually("all that there is", || mirror_bytes(&region) == 4 * page_bytes());
    assert_eq!(region.held_bytes(), 4 * page_bytes());
    stream.end();
    eventually("an empty mirror", || mirror_bytes(&region) == 0);
    assert_eq!(region.held_bytes(), 4 * page_bytes(), "what was passed is the only copy");
}

#[test]
fn nothing_is_left_of_a_region_of_no_whole_pages_or_of_one_that_was_begun_in_a_page() {
    let _serial = serial();
    if !support::has_mirrors() {
        return;
    }
    for (file_offset, start, length) in
        [(0, 0, 3 * MIB + 1), (page_bytes(), 5, 3 * MIB + 77), (0, MIB - 1, 2 * MIB - 1)]
    {
        let file = Temp::new("odd", &numbered(4 * MIB));
        let part = Part { byte_offset: file_offset, byte_length: Some(length) };
        let region = Region::open(&file.0, part, false).unwrap();
        let it = One::new(MIB);
        let stream = stream(&region, Access::Readonly, true, true);
        it.slide(&region, start, start + 10, Access::Readonly);
        stream.advance(start, start + 10, length, true);
        eventually("something", || it.mirror_bytes(&region) > 0);
        stream.advance(length - 5, length, length, false);
        stream.end();
        eventually("an empty mirror", || it.mirror_bytes(&region) == 0);
    }
}

#[test]
fn what_was_passed_leaves_the_page_cache_and_what_comes_is_read() {
    let _serial = serial();
    let Some((_file, region)) = cached_file("behind", 8 * MIB + 100) else { return };
    let it = One::new(MIB);
    assert_eq!(cached_bytes(&region), 0);
    let stream = stream(&region, Access::Readonly, true, true);
    for start in (0..8 * MIB).step_by(usize::try_from(MIB).unwrap()) {
        it.slide(&region, start, start + MIB, Access::Readonly);
        stream.advance(start, start + MIB, start + 2 * MIB, start == 0);
        assert!(it.shows(start, MIB));
        // The kernel keeps pages in blocks of up to 2 MiB, and the one that the window shows a part
        // of stays.
        let most = region.byte_length() - start + 2 * MIB;
        eventually("a part of the file", || cached_bytes(&region) <= most);
    }
    it.slide(&region, 8 * MIB, 8 * MIB + 100, Access::Readonly);
    stream.end();
    eventually("no more than the window shows", || cached_bytes(&region) <= 2 * MIB);
    eventually("an empty mirror", || it.mirror_bytes(&region) == 0);
}

#[test]
fn what_is_passed_in_small_steps_leaves_the_page_cache_too() {
    let _serial = serial();
    let Some((file, _)) = cached_file("small", 16 * MIB) else { return };
    // In blocks as large as the kernel likes.
    std::fs::write(&file.0, numbered(16 * MIB)).unwrap();
    std::fs::File::open(&file.0).unwrap().sync_all().unwrap();
    let region = file.open();
    assert_eq!(cached_bytes(&region), 16 * MIB);
    let stream = stream(&region, Access::Readonly, false, true);
    let step = MIB / 4 + page_bytes();
    for start in (0..16 * MIB).step_by(usize::try_from(step).unwrap()) {
        let end = (start + step).min(16 * MIB);
        stream.advance(start, end, end, start == 0);
        let most = 16 * MIB - start + 2 * MIB;
        eventually("a part of the file", || cached_bytes(&region) <= most);
    }
    stream.end();
    eventually("nothing", || cached_bytes(&region) == 0);
}

#[test]
fn to_drop_nothing_drops_nothing() {
    let _serial = serial();
    let Some((temp, region)) = cached_file("nothing", 4 * MIB) else { return };
    std::fs::read(&temp.0).unwrap();
    let before = cached_bytes(&region);
    assert!(before >= 4 * MIB);
    file::drop_cached(region.shared_fd().get().unwrap(), 0, 0).unwrap();
    assert_eq!(cached_bytes(&region), before);
}

#[test]
fn what_is_not_left_behind_stays_in_the_page_cache() {
    let _serial = serial();
    let Some((_file, region)) = cached_file("kept", 4 * MIB) else { return };
    let it = One::new(MIB);
    let stream = stream(&region, Access::Readonly, true, false);
    it.slide(&region, 0, page_bytes(), Access::Readonly);
    stream.advance(0, page_bytes(), 4 * MIB, true);
    eventually("all of it", || cached_bytes(&region) >= 4 * MIB - page_bytes());
    eventually("all of it, to be shown", || it.mirror_bytes(&region) >= 4 * MIB - page_bytes());
    let before = cached_bytes(&region);
    stream.advance(3 * MIB, 4 * MIB, 4 * MIB, false);
    stream.end();
    eventually("an empty mirror", || it.mirror_bytes(&region) == 0);
    assert_eq!(cached_bytes(&region), before);
}

#[test]
fn a_stream_with_nothing_to_do_is_idle() {
    let _serial = serial();
    if !support::has_mirrors() {
        return;
    }
    let file = Temp::new("idle", &numbered(MIB));
    let (in_file, in_memory) =
        (file.open(), Region::allocate(MIB, "test", PageKind::Ordinary).unwrap());
    for (region, access, read_ahead, leave_behind, is_idle) in [
        (&in_file, Access::Readonly, false, false, true),
        (&in_file, Access::Readonly, false, true, false),
        (&in_file, Access::Shared, true, false, true),
        (&in_file, Access::Shared, true, true, false),
        (&in_memory, Access::Shared, true, true, true),
        (&in_memory, Access::Private, false, true, true),
        (&in_memory, Access::Private, true, false, false),
    ] {
        assert_eq!(stream(region, access, read_ahead, leave_behind).is_idle(), is_idle);
    }
}

#[test]
fn a_restart_in_the_middle_of_a_step_leaves_nothing() {
    let _serial = serial();
    let file = Temp::new("restart", &numbered(4 * MIB));
    let region = file.open();
    let stream = stream(&region, Access::Readonly, true, false);
    for round in 0..300_u64 {
        stream.advance(0, 1, 3 * MIB, true);
        // At another moment of the thread's work each time.
        let started = Instant::now();
        while started.elapsed() < Duration::from_micros(round * 7 % 400) {
            std::hint::spin_loop();
        }
        stream.advance(4 * MIB - page_bytes(), 4 * MIB, 4 * MIB, true);
        stream.end();
        eventually("an empty mirror", || mirror_bytes(&region) == 0);
    }
}

#[test]
fn streams_of_several_threads_over_one_region_leave_nothing() {
    let _serial = serial();
    let bytes = numbered(4 * MIB);
    let file = Temp::new("several", &bytes);
    let in_memory =
        Region::copy_from(bytes.as_ptr() as u64, bytes.len() as u64, "test", PageKind::Ordinary)
            .unwrap();
    for region in [&file.open(), &in_memory] {
        std::thread::scope(|scope| {
            for seed in 1..4_u64 {
                scope.spawn(move || {
                    let it = One::new(MIB);
                    let stream = stream(region, Access::Readonly, true, seed == 1);
                    let mut number = seed;
                    let mut below = move |end: u64| {
                        number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                        (number >> 33) % end
                    };
                    let mut at = 0;
                    for round in 0..300 {
                        let restart = round == 0 || below(8) == 0;
                        if restart {
                            at = below(4 * MIB);
                        }
                        let end = (at + 1 + below(MIB - page_bytes())).min(4 * MIB);
                        if end > at {
                            it.slide(region, at, end, Access::Readonly);
                            stream.advance(at, end, end + below(2 * MIB), restart);
                            let first = PageAligned::round_down(at).get();
                            assert!(it.shows(first, end - first));
                        }
                        at = end;
                        if below(10) == 0 {
                            stream.end();
                        }
                    }
                    stream.end();
                });
            }
        });
        eventually("an empty mirror", || mirror_bytes(region) == 0);
    }
}

#[test]
fn a_region_that_is_dropped_while_a_thread_is_at_work_is_gone_soon() {
    let _serial = serial();
    let file = Temp::new("dropped", &numbered(4 * MIB));
    let inode = file.open().inode();
    let is_mapped = || {
        let mut count = 0;
        process_map::for_each(|vma| count += usize::from(vma.inode == inode)).unwrap();
        count > 0
    };
    for round in 0..100_u64 {
        let region = file.open();
        let stream = stream(
            &region,
            if round % 2 == 0 { Access::Readonly } else { Access::Private },
            true,
            true,
        );
        stream.advance(0, 1, 4 * MIB, true);
        drop(region);
        stream.advance(MIB, 2 * MIB, 4 * MIB, round % 3 == 0);
        eventually("a process without the region's pages", || !is_mapped());
        stream.end();
    }
}

#[test]
fn a_stream_over_a_file_that_was_cut_ends_as_any_other() {
    let _serial = serial();
    let file = Temp::new("cut-ahead", &numbered(4 * MIB));
    let region = file.open();
    let it = One::new(MIB);
    let stream = stream(&region, Access::Readonly, true, true);
    it.slide(&region, 0, MIB, Access::Readonly);
    stream.advance(0, MIB, 3 * MIB, true);
    file.set_bytes(MIB + 10);
    it.slide(&region, MIB, 2 * MIB, Access::Readonly);
    stream.advance(MIB, 2 * MIB, 4 * MIB, false);
    assert!(it.shows(MIB, 0));
    assert_eq!(support::read(it.address + page_bytes()), 0);
    stream.end();
    eventually("an empty mirror", || it.mirror_bytes(&region) == 0);
}

#[test]
fn a_used_up_mirror_is_replaced_under_a_stream() {
    let _serial = serial();
    if !support::has_mirrors() {
        return;
    }
    let file = Temp::new("used-up", &numbered(4 * MIB));
    let region = file.open();
    let it = One::new(2 * MIB);
    let stream = stream(&region, Access::Readonly, true, false);
    it.slide(&region, 0, 2 * MIB, Access::Readonly);
    stream.advance(0, 2 * MIB, 4 * MIB, true);
    let now = || region.mirror(Sharing::ReadOnly, false).unwrap();
    let first = now();
    let whole = PageSpan::new(PageAligned::ZERO, pages(4 * MIB / page_bytes())).unwrap();
    // What it counts is what it was asked for: 32 GiB.
    for _ in 0..8192 {
        first.bring_in(whole, false);
    }
    assert!(!Arc::ptr_eq(&first, &now()));
    drop(first);
    it.slide(&region, 2 * MIB, 4 * MIB, Access::Readonly);
    stream.advance(2 * MIB, 4 * MIB, 4 * MIB, false);
    assert!(it.shows(2 * MIB, 2 * MIB));
    stream.end();
    eventually("an empty mirror", || it.mirror_bytes(&region) == 0);
    eventually("one mirror and a window", || vmas_of(&region) == 2);
}

#[test]
fn a_region_whose_mirror_is_read_ahead_can_be_sealed() {
    let _serial = serial();
    let bytes = numbered(2 * MIB);
    let region =
        Region::copy_from(bytes.as_ptr() as u64, bytes.len() as u64, "test", PageKind::Ordinary)
            .unwrap();
    let streams = [Access::Readonly, Access::Private, Access::Shared].map(|access| {
        let stream = stream(&region, access, true, true);
        stream.advance(0, 1, 2 * MIB, true);
        stream
    });
    region.seal().unwrap();
    for stream in streams {
        stream.end();
    }
    eventually("empty mirrors", || mirror_bytes(&region) == 0);
}
