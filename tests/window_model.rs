//! Windows beside mappings in a memory that grows, held against a model of pages, with failures
//! injected. No Node involved.

#![allow(clippy::arithmetic_side_effects)] // Tests may let arithmetic panic.

mod support;

use proptest::prelude::*;
use std::sync::Arc;
use support::{Reserved, Temp, no_hole, page_bytes, pages, serial};
use wasm_hostmap::error::{Code, Error};
use wasm_hostmap::fault;
use wasm_hostmap::memory::window_state::{Tail, WindowSpec};
use wasm_hostmap::memory::{Mapped, Memory};
use wasm_hostmap::region::thp::PageKind;
use wasm_hostmap::region::{Part, Region, RegionPages, View};
use wasm_hostmap::sys::page::PageAligned;
use wasm_hostmap::sys::process_map;
use wasm_hostmap::window;

/// The first and the last byte of a page: all that the model looks at.
type Ends = [u8; 2];

/// What is in a page.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Page {
    /// The memory's own.
    Own(Ends),
    /// A region's, as it is now.
    Region {
        region: usize,
        page: usize,
        access: u8,
    },
    /// A copy of one that was written to.
    Copy {
        ends: Ends,
        access: u8,
    },
    /// A rest that can be read, and what was written to it.
    Zeros {
        ends: Ends,
        writable: bool,
    },
    Inaccessible,
}

impl Page {
    fn is_writable(self) -> bool {
        match self {
            Self::Own(_) => true,
            Self::Region { access, .. } | Self::Copy { access, .. } => access != 0,
            Self::Zeros { writable, .. } => writable,
            Self::Inaccessible => false,
        }
    }
}

/// A mapping, or a window.
#[derive(Debug, Clone, Copy)]
struct Live {
    mapped: Mapped,
    first: usize,
    size: usize,
    window: Option<WindowNow>,
}

#[derive(Debug, Clone, Copy)]
struct WindowNow {
    access: u8,
    trap: bool,
    shown: usize,
}

impl WindowNow {
    fn rest(self) -> Page {
        if self.trap {
            Page::Inaccessible
        } else {
            Page::Zeros { ends: [0, 0], writable: self.access != 0 }
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Map {
        region: usize,
        at: usize,
        access: u8,
    },
    Open {
        at: Option<usize>,
        size: usize,
        access: u8,
        trap: bool,
    },
    Unmap {
        nth: usize,
    },
    Slide {
        nth: usize,
        region: usize,
        first: usize,
        byte_length: u64,
        access: u8,
    },
    Empty {
        nth: usize,
    },
    Write {
        at: usize,
        end: usize,
        value: u8,
    },
    /// Something is written, perhaps, before the library hears of it.
    Grow {
        write: Option<(usize, u8)>,
    },
    /// The last handle goes and another one comes.
    Attach,
    /// As reading ahead does.
    Mirror {
        region: usize,
        access: u8,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let nth = 0..8_usize;
    let slide = (nth.clone(), 0..4_usize, 0..12_usize, 1..7 * page_bytes(), 0..3_u8).prop_map(
        |(nth, region, first, byte_length, access)| Step::Slide {
            nth,
            region,
            first,
            byte_length,
            access,
        },
    );
    let open = (proptest::option::of(0..40_usize), 1..8_usize, 0..3_u8, any::<bool>())
        .prop_map(|(at, size, access, trap)| Step::Open { at, size, access, trap });
    let step = prop_oneof![
        1 => (0..4_usize, 0..40_usize, 0..3_u8).prop_map(|(region, at, access)| Step::Map { region, at, access }),
        3 => open,
        1 => nth.clone().prop_map(|nth| Step::Unmap { nth }),
        8 => slide,
        1 => nth.prop_map(|nth| Step::Empty { nth }),
        6 => (0..48_usize, 0..2_usize, 1..=255_u8).prop_map(|(at, end, value)| Step::Write { at, end, value }),
        1 => proptest::option::of((0..48_usize, 1..=255_u8)).prop_map(|write| Step::Grow { write }),
        1 => Just(Step::Attach),
        1 => (0..4_usize, 0..2_u8).prop_map(|(region, access)| Step::Mirror { region, access }),
    ];
    proptest::collection::vec(step, 1..60)
}

/// A call of the kernel that is to fail, after so many that don't. Most steps have none.
#[derive(Debug, Clone, Copy)]
struct Failure {
    #[cfg_attr(not(feature = "inject"), expect(dead_code))]
    call: Option<(&'static str, u32)>,
}

fn failures() -> impl Strategy<Value = Vec<Failure>> {
    let call = (
        proptest::sample::select(vec!["mmap", "mremap", "mremap", "madvise", "mprotect", "fstat"]),
        0..4_u32,
    );
    let failure = proptest::option::weighted(0.4, call).prop_map(|call| Failure { call });
    proptest::collection::vec(failure, 60)
}

impl Failure {
    #[cfg(feature = "inject")]
    fn arm(self) -> bool {
        if let Some((call, calls_before)) = self.call {
            let here = Some(std::thread::current().id());
            wasm_hostmap::sys::inject::arm(call, calls_before, libc::ENOMEM, here);
        }
        self.call.is_some()
    }

    #[cfg(not(feature = "inject"))]
    #[allow(clippy::unused_self)]
    fn arm(self) -> bool {
        false
    }
}

/// Four regions of different kinds, what is in each page of them, and views of them.
struct Ground {
    regions: Vec<Region>,
    data: Vec<Vec<Ends>>,
    views: Vec<Arc<View>>,
    _files: [Temp; 2],
}

impl Ground {
    fn new() -> Self {
        let page = usize::try_from(page_bytes()).unwrap();
        let bytes = |from: u8, length: usize| -> Vec<u8> {
            (0..length).map(|at| from + u8::try_from(at / page).unwrap()).collect()
        };
        let copy = |bytes: &[u8]| {
            Region::copy_from(bytes.as_ptr() as u64, bytes.len() as u64, "test", PageKind::Ordinary)
                .unwrap()
        };
        // No whole pages; sealed; a part of a file, with more bytes behind it; a file that can't be
        // written.
        let [first, second] = [bytes(10, 4 * page - 50), bytes(50, 8 * page)];
        let [third, fourth] = [bytes(100, 13 * page), bytes(150, 6 * page + 1)];
        let files = [Temp::new("model-part", &third), Temp::new("model-whole", &fourth)];
        let part = Part { byte_offset: page_bytes(), byte_length: Some(10 * page_bytes() + 5) };
        let regions = vec![
            copy(&first),
            copy(&second),
            Region::open(&files[0].0, part, true).unwrap(),
            files[1].open(),
        ];
        regions[1].seal().unwrap();
        let data = [&first[..], &second[..], &third[page..12 * page], &fourth[..]];
        let data = data.map(|bytes| {
            let ends = |page_of: &[u8]| [page_of[0], page_of.get(page - 1).copied().unwrap_or(0)];
            bytes.chunks(page).map(ends).collect()
        });
        let views =
            regions.iter().map(|region| region.view(0, region.byte_length()).unwrap()).collect();
        Self { regions, data: data.to_vec(), views, _files: files }
    }

    fn is_writable(region: usize) -> bool {
        region.is_multiple_of(2)
    }

    /// From a page on; all of it, or so many bytes.
    fn pages(&self, region: usize, first: usize, byte_length: u64) -> RegionPages<'_> {
        let offset = pages(first as u64);
        let most = self.regions[region].byte_length() - offset.get();
        self.regions[region].pages(offset, byte_length.min(most)).unwrap()
    }
}

/// Where an end of a page is.
fn place_of(page: usize, end: usize) -> u64 {
    page as u64 * page_bytes() + if end == 0 { 0 } else { page_bytes() - 1 }
}

struct Model {
    ground: Ground,
    reserved: Reserved,
    memory: Memory,
    pages: Vec<Page>,
    live: Vec<Live>,
}

type Checked = Result<(), TestCaseError>;

impl Model {
    fn new() -> Self {
        let reserved = Reserved::new(16);
        let memory = Memory::attach(reserved.place()).unwrap();
        Self {
            ground: Ground::new(),
            reserved,
            memory,
            pages: vec![Page::Own([0, 0]); 16],
            live: Vec::new(),
        }
    }

    fn window(&self, nth: usize) -> Option<usize> {
        let windows: Vec<usize> =
            (0..self.live.len()).filter(|index| self.live[*index].window.is_some()).collect();
        windows.get(nth.checked_rem(windows.len())?).copied()
    }

    fn read(&self, page: usize) -> Ends {
        [0, 1].map(|end| self.reserved.read(place_of(page, end)))
    }

    fn expected(&self, page: usize) -> Option<Ends> {
        match self.pages[page] {
            Page::Own(ends) | Page::Copy { ends, .. } | Page::Zeros { ends, .. } => Some(ends),
            Page::Region { region, page, .. } => Some(self.ground.data[region][page]),
            Page::Inaccessible => None,
        }
    }

    fn show(&mut self, first: usize, region: usize, from: usize, count: usize, access: u8) {
        for page in 0..count {
            self.pages[first + page] = Page::Region { region, page: from + page, access };
        }
    }

    fn fill_tail(&mut self, index: usize, shown: usize) {
        let Live { first, size, window, .. } = self.live[index];
        let rest = window.unwrap().rest();
        self.pages[first + shown..first + size].fill(rest);
        self.live[index].window = window.map(|window| WindowNow { shown, ..window });
    }

    fn grow(&mut self, write: Option<(usize, u8)>) -> Checked {
        self.reserved.grow(16);
        self.pages.resize(self.pages.len() + 16, Page::Own([0, 0]));
        // All of it can be written now.
        if let Some((at, value)) = write.map(|(at, value)| (at % self.pages.len(), value)) {
            self.reserved.write(place_of(at, 0), value);
            self.wrote(at, 0, value);
        }
        let synced = self.memory.sync(self.reserved.place());
        prop_assert!(synced.is_ok());
        Ok(())
    }

    /// The outcome of a write, the next call into the library included.
    fn wrote(&mut self, at: usize, end: usize, value: u8) {
        match self.pages[at] {
            Page::Region { region, page, access: 2 } => self.ground.data[region][page][end] = value,
            Page::Region { region, page, access } => {
                let mut ends = self.ground.data[region][page];
                ends[end] = value;
                self.pages[at] = Page::Copy { ends, access };
            }
            Page::Own(ref mut ends) | Page::Copy { ref mut ends, .. } => ends[end] = value,
            Page::Zeros { ref mut ends, writable: true } => ends[end] = value,
            // Forgotten.
            Page::Zeros { writable: false, .. } | Page::Inaccessible => {}
        }
    }

    fn open(
        &mut self,
        at: Option<usize>,
        size: usize,
        access: u8,
        trap: bool,
        injected: bool,
    ) -> Checked {
        let rest = if trap { Tail::Inaccessible } else { Tail::Zeros };
        let kind =
            WindowSpec { length: pages(size as u64), access: support::access(access), tail: rest };
        let place = self.reserved.place();
        let opened = match at {
            Some(at) => {
                window::open_at(&self.memory, place, at as u64 * page_bytes(), kind).map(Some)
            }
            None => window::open_in_free_space(&self.memory, place, kind, false),
        };
        match opened {
            Ok(Some(mapped)) => {
                let first = usize::try_from(mapped.start.get() / page_bytes()).unwrap();
                prop_assert!(at.is_none_or(|at| at == first) && !self.is_taken(first, size));
                let window = WindowNow { access, trap, shown: 0 };
                self.live.push(Live { mapped, first, size, window: Some(window) });
                self.fill_tail(self.live.len() - 1, 0);
            }
            Ok(None) => {
                let start = self.pages.len();
                support::forget();
                if start < 128 {
                    self.grow(None)?;
                    let (start, end) =
                        (pages(start as u64).get(), pages(self.pages.len() as u64).get());
                    self.memory.add_free_space(self.reserved.place(), start, end).unwrap();
                }
            }
            Err(error) => self.check_refusal(&error, at.map(|at| (at, size)), injected)?,
        }
        Ok(())
    }

    fn is_taken(&self, first: usize, size: usize) -> bool {
        first + size > self.pages.len()
            || self
                .live
                .iter()
                .any(|other| other.first < first + size && first < other.first + other.size)
    }

    fn check_refusal(&self, error: &Error, at: Option<(usize, usize)>, injected: bool) -> Checked {
        // The kernel is asked before the place is looked at, or after.
        if injected && error.sys().is_some() {
            return Ok(());
        }
        let Some((first, size)) = at else { panic!("{error}") };
        let expected =
            if first + size > self.pages.len() { Code::OutOfRange } else { Code::Overlap };
        prop_assert!(self.is_taken(first, size) && error.code() == expected, "{}", error);
        Ok(())
    }

    fn map(&mut self, region: usize, at: usize, access: u8, injected: bool) -> Checked {
        let shown = self.ground.pages(region, 0, u64::MAX);
        let size = usize::try_from(shown.length().get() / page_bytes()).unwrap();
        let asked = support::access(access);
        match self.memory.map_at(
            self.reserved.place(),
            at as u64 * page_bytes(),
            &shown,
            asked,
            false,
        ) {
            Ok(mapped) => {
                prop_assert!(!self.is_taken(at, size));
                self.live.push(Live { mapped, first: at, size, window: None });
                self.show(at, region, 0, size, access);
            }
            Err(error) if error.code() == Code::RegionReadonly => {
                prop_assert!(access == 2 && !Ground::is_writable(region));
            }
            Err(error) => self.check_refusal(&error, Some((at, size)), injected)?,
        }
        Ok(())
    }

    fn slide(
        &mut self,
        index: usize,
        to: Option<(usize, usize, u64, u8)>,
        injected: bool,
    ) -> Checked {
        let Live { mapped, first, size, window } = self.live[index];
        let before = window.unwrap();
        let shown = to.map(|(region, from, byte_length, access)| {
            let from = from % self.ground.data[region].len();
            let byte_length = byte_length.min(size as u64 * page_bytes());
            (self.ground.pages(region, from, byte_length), region, from, access)
        });
        let pages = shown.as_ref().map(|(pages, _, _, access)| (pages, support::access(*access)));
        let count = pages
            .map_or(0, |(pages, _)| usize::try_from(pages.length().get() / page_bytes()).unwrap());
        let slid = window::slide(&self.memory, self.reserved.place(), mapped, pages);
        let to = shown.map(|(_, region, from, access)| (region, from, access));
        match slid {
            Ok(there) => {
                prop_assert!(there);
                // All that was not shown before stays as it was, where nobody can have written to
                // it.
                if count < before.shown || before.access != 0 {
                    self.fill_tail(index, count);
                }
                self.live[index].window = Some(WindowNow { shown: count, ..before });
                if let Some((region, from, access)) = to {
                    prop_assert!(access == before.access || before.access == 2 || access == 0);
                    prop_assert!(access < 2 || Ground::is_writable(region));
                    self.show(first, region, from, count, access);
                }
            }
            Err(error) if error.sys().is_some() => {
                prop_assert!(injected, "{}", error);
                // What it did before, or the beginning of it.
                let entries = self.memory.entries().unwrap();
                let (_, now) = entries.iter().find(|(entry, _)| entry.id == mapped.id).unwrap();
                let now = usize::try_from(now.unwrap().get() / page_bytes()).unwrap();
                prop_assert!(now == before.shown || now == count.min(before.shown));
                let is_kept = now == before.shown
                    && (first + now..first + size)
                        .all(|page| self.expected(page).is_none_or(|ends| self.read(page) == ends));
                if !is_kept {
                    self.fill_tail(index, now);
                }
            }
            Err(error) => {
                let (region, _, access) = to.unwrap();
                let allowed = access == before.access || before.access == 2 || access == 0;
                match error.code() {
                    Code::InvalidValue => prop_assert!(!allowed),
                    code => {
                        prop_assert_eq!(code, Code::RegionReadonly);
                        prop_assert!(access == 2 && !Ground::is_writable(region));
                    }
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, step: Step, injected: bool) -> Checked {
        match step {
            Step::Map { region, at, access } => self.map(region, at, access, injected)?,
            Step::Open { at, size, access, trap } => self.open(at, size, access, trap, injected)?,
            Step::Unmap { nth } => {
                let Some(index) = nth.checked_rem(self.live.len()) else { return Ok(()) };
                let Live { mapped, first, size, .. } = self.live[index];
                match self.memory.unmap(self.reserved.place(), mapped) {
                    Ok(counts) => {
                        prop_assert!(counts.is_some());
                        self.pages[first..first + size].fill(Page::Own([0, 0]));
                        self.live.remove(index);
                    }
                    Err(error) => prop_assert!(injected && error.sys().is_some(), "{}", error),
                }
            }
            Step::Slide { nth, region, first, byte_length, access } => {
                let Some(index) = self.window(nth) else { return Ok(()) };
                self.slide(index, Some((region, first, byte_length, access)), injected)?;
            }
            Step::Empty { nth } => {
                let Some(index) = self.window(nth) else { return Ok(()) };
                self.slide(index, None, injected)?;
            }
            Step::Write { at, end, value } => {
                // A handler must not fail: the test would end by it.
                support::forget();
                let at = at % self.pages.len();
                self.reserved.write(place_of(at, end), value);
                self.wrote(at, end, value);
            }
            Step::Grow { write } if self.pages.len() < 64 => self.grow(write)?,
            Step::Grow { .. } => {}
            Step::Attach => {
                support::forget();
                let entries = self.memory.entries().unwrap();
                // Some other one, so that the last handle goes.
                self.memory = Memory::attach(Reserved::new(16).place()).unwrap();
                self.memory = Memory::attach(self.reserved.place()).unwrap();
                prop_assert_eq!(self.memory.entries().unwrap(), entries);
            }
            Step::Mirror { region, access } => {
                drop(self.ground.regions[region].mirror(support::access(access).sharing(), true));
            }
        }
        Ok(())
    }

    fn check(&self) -> Checked {
        for page in 0..self.pages.len() {
            let address = self.reserved.base() + page as u64 * page_bytes();
            let vma = process_map::at_or_after(address).unwrap().unwrap();
            prop_assert!(vma.start <= address, "a hole in page {}", page);
            let expected = self.expected(page);
            prop_assert_eq!(vma.readable, expected.is_some(), "page {}", page);
            prop_assert_eq!(vma.writable, self.pages[page].is_writable(), "page {}", page);
            if let Some(ends) = expected {
                prop_assert_eq!(self.read(page), ends, "page {}: {:?}", page, self.pages[page]);
            }
        }
        no_hole(&self.reserved);
        for (view, data) in self.ground.views.iter().zip(&self.ground.data) {
            let whole = usize::try_from(view.byte_length() / page_bytes()).unwrap();
            for (page, ends) in data.iter().enumerate().take(whole) {
                let seen = [0, 1].map(|end| support::read(view.address() + place_of(page, end)));
                prop_assert_eq!(seen, *ends);
            }
        }
        let shown = |live: &Live| live.window.map(|window| pages(window.shown as u64));
        let mut live: Vec<(u64, Option<PageAligned>)> =
            self.live.iter().map(|live| (live.mapped.id, shown(live))).collect();
        live.sort_unstable();
        let mut entries: Vec<_> = self
            .memory
            .entries()
            .unwrap()
            .iter()
            .map(|(entry, shown)| (entry.id, *shown))
            .collect();
        entries.sort_unstable();
        prop_assert_eq!(entries, live);
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Contents, protection, errors and the process's map agree with a model after each step. With
    /// the feature `inject`, system calls fail now and then; then a mapping or window is what it
    /// was, or a window shows less, and there is never a hole.
    #[test]
    fn windows_agree_with_a_model(steps in steps(), failures in failures()) {
        let _serial = serial();
        let mut model = Model::new();
        for (step, failure) in steps.into_iter().zip(failures) {
            let injected = failure.arm();
            let taken = model.take(step, injected);
            support::forget();
            taken?;
            // A protection that failed is tried again at the next call.
            model.memory.sync(model.reserved.place()).unwrap();
            model.check()?;
        }
        drop(fault::take_reports());
    }
}
