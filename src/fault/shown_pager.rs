//! The pager of what a range shows, as handlers read it.
//!
//! It changes while the range's gate is closed, and is read inside the gate: so what is read there
//! stays as long as the reader is inside.

// A handler reads a pointer that its owner may change.
#![allow(unsafe_code)]

use crate::paging::{Hold, Pager};
use crate::sys::lock::{Level, Lock};
use std::sync::atomic::{AtomicPtr, Ordering};

#[derive(Debug)]
pub(super) struct ShownPager {
    /// Null: none.
    ///
    /// # Safety
    /// `held` keeps what it points to. Both change only while the range's gate is closed and
    /// nobody is inside.
    now: AtomicPtr<Pager>,
    held: Lock<Option<Hold>>,
}

impl ShownPager {
    pub(super) fn new(pager: Option<&Hold>) -> Self {
        let held = Lock::new(Level::RangePager, pager.cloned());
        Self { now: AtomicPtr::new(pointer_to(pager)), held }
    }

    /// Not for handlers. The range's gate is closed.
    pub(super) fn set(&self, pager: Option<&Hold>) {
        let now = pointer_to(pager);
        if self.now.swap(now, Ordering::AcqRel) == now {
            return;
        }
        let mut held = self.held.lock();
        let before = std::mem::replace(&mut *held, pager.cloned());
        drop(held);
        drop(before);
    }

    /// Inside the range's gate alone, or by the owner, who then changes nothing.
    pub(super) fn get(&self) -> Option<&Pager> {
        // SAFETY: by the Safety section of the field. The reader is inside the gate, or is the one
        // who changes it, so what is held stays as long as it is looked at.
        unsafe { self.now.load(Ordering::Acquire).as_ref() }
    }

    pub(super) fn is_some(&self) -> bool {
        !self.now.load(Ordering::Acquire).is_null()
    }

    pub(super) fn may_be(&self, pager: &Pager) -> bool {
        std::ptr::eq(self.now.load(Ordering::Acquire), pager)
    }
}

fn pointer_to(pager: Option<&Hold>) -> *mut Pager {
    pager.map_or(std::ptr::null_mut(), |pager| std::ptr::from_ref::<Pager>(pager).cast_mut())
}
