//! What a window is, and what it shows at the moment. window/ opens and slides windows; here is
//! what a memory must know of them to protect and unmap them.
//!
//! ```text
//!  region  |..........[bbbbbbbbbbbb]......................|
//!                      |          |
//!  window             [bbbbbbbbbbbb|tail]
//!                      |<- shown ->|
//! ```

use crate::access::Access;
use crate::fault;
use crate::sys::SysResult;
use crate::sys::mmap::Sharing;
use crate::sys::owned_span::OwnedSpan;
use crate::sys::page::{PageAligned, PageSpan};

/// What the pages of a window are that show no region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tail {
    /// Zeros, which can be written as the window can.
    Zeros,
    /// Inaccessible: loads and stores trap.
    Inaccessible,
}

/// A window as it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowSpec {
    pub length: PageAligned,
    /// The most that a slide may ask for.
    pub access: Access,
    pub tail: Tail,
}

impl WindowSpec {
    fn tail_sharing(self) -> Sharing {
        match (self.tail, self.access) {
            (Tail::Inaccessible, _) => Sharing::Inaccessible,
            (Tail::Zeros, access) if access.is_writable() => Sharing::CopyOnWrite,
            (Tail::Zeros, _) => Sharing::ReadOnly,
        }
    }

    /// Whether the tail may have been written without anybody noticing.
    pub(crate) fn tail_is_writable(self) -> bool {
        self.tail_sharing() == Sharing::CopyOnWrite
    }
}

/// A window, as its memory's table keeps it.
#[derive(Debug)]
pub(crate) struct Window {
    spec: WindowSpec,
    /// How much of it shows a region, from its start.
    shown: PageAligned,
}

impl Window {
    /// A window that shows nothing.
    pub(crate) fn new(spec: WindowSpec) -> Self {
        Self { spec, shown: PageAligned::ZERO }
    }

    pub(crate) fn spec(&self) -> WindowSpec {
        self.spec
    }

    pub(crate) fn shown(&self) -> PageAligned {
        self.shown
    }

    pub(crate) fn set_shown(&mut self, shown: PageAligned) {
        self.shown = shown;
    }

    /// Whether nothing in its tail is protected.
    pub(crate) fn tail_is_writable(&self) -> bool {
        self.spec.tail_is_writable()
    }

    /// What of it shows a region. `target`: all of it, by offsets or addresses.
    pub(crate) fn shown_part(&self, target: PageSpan) -> Option<PageSpan> {
        PageSpan::between(target.start(), self.tail_start(target))
    }

    /// What of it shows none.
    pub(crate) fn tail_part(&self, target: PageSpan) -> Option<PageSpan> {
        PageSpan::between(self.tail_start(target), target.end())
    }

    fn tail_start(&self, target: PageSpan) -> PageAligned {
        target.start().checked_add(self.shown).expect("a window shows no more than its length")
    }

    /// Makes all of the tail what it is to be: what was written to it is forgotten, and it is
    /// protected again.
    pub(crate) fn fill_tail(&self, target: OwnedSpan<'_>) -> SysResult<()> {
        let tail = self.tail_part(target.span()).and_then(|tail| target.part(tail));
        tail.map_or(Ok(()), |tail| fault::show_past_end(tail, self.spec.tail_sharing()))
    }
}
