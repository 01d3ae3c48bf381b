//! Numbers for native objects, by which the calls that must be fast name them.
//!
//! A method of a #[napi] class finds its object through checks and locks of napi-rs, about 1 us a
//! call (measured); that is as much as the system call that it is for. A number is looked up in a
//! list of this thread, without a lock. The class object owns the [`Slot`]: lib/ holds it for as
//! long as it uses the number.

use super::internal;
use crate::error::Error;
use crate::sys::alloc;
use std::cell::RefCell;
use std::marker::PhantomData;
use std::sync::Arc;
use std::thread::LocalKey;

/// The objects of one kind that JavaScript of this thread holds.
#[derive(Debug)]
pub(super) struct Handles<T> {
    slots: Vec<Option<Arc<T>>>,
    empty: Vec<u32>,
}

impl<T> Handles<T> {
    pub(super) const fn new() -> Self {
        Self { slots: Vec::new(), empty: Vec::new() }
    }

    fn add(&mut self, object: T) -> Result<u32, Error> {
        let object = Some(Arc::new(object));
        if let Some(number) = self.empty.pop()
            && let Some(slot) = self.slots.get_mut(number as usize)
        {
            *slot = object;
            return Ok(number);
        }
        let number =
            u32::try_from(self.slots.len()).map_err(|_| internal("there are too many objects"))?;
        // Room for its number to come back, too, so that giving it back can't fail.
        let given =
            self.slots.len().checked_sub(self.empty.len()).and_then(|in_use| in_use.checked_add(1));
        let given = given.expect("a slot is in use or empty");
        self.empty.try_reserve(given).map_err(alloc::Refused::from)?;
        alloc::push(&mut self.slots, object)?;
        Ok(number)
    }

    pub(super) fn get(&self, number: u32) -> Option<Arc<T>> {
        self.slots.get(number as usize)?.clone()
    }

    /// Each object that is there, with its number.
    pub(super) fn all(&self) -> impl Iterator<Item = (usize, &Arc<T>)> {
        self.slots
            .iter()
            .enumerate()
            .filter_map(|(number, slot)| slot.as_ref().map(|object| (number, object)))
    }

    /// Takes the object out; the slot stays the owner's.
    fn take(&mut self, number: u32) -> Option<Arc<T>> {
        self.slots.get_mut(number as usize)?.take()
    }

    /// Gives the slot back.
    fn remove(&mut self, number: u32) -> Option<Arc<T>> {
        let object = self.take(number);
        self.empty.push(number);
        object
    }
}

/// Where an object is in the list of its thread, as long as this is held.
pub(super) struct Slot<T: 'static> {
    list: &'static LocalKey<RefCell<Handles<T>>>,
    number: u32,
    /// Not for other threads, whose lists have other objects.
    of_this_thread: PhantomData<*const T>,
}

impl<T> Slot<T> {
    pub(super) fn new(
        list: &'static LocalKey<RefCell<Handles<T>>>,
        object: T,
    ) -> Result<Self, Error> {
        let number = list.with_borrow_mut(|objects| objects.add(object))?;
        Ok(Self { list, number, of_this_thread: PhantomData })
    }

    pub(super) fn number(&self) -> u32 {
        self.number
    }

    /// Takes the object out: its number names nothing from now on.
    pub(super) fn take(&self) -> Option<Arc<T>> {
        self.list.with_borrow_mut(|objects| objects.take(self.number))
    }
}

impl<T> Drop for Slot<T> {
    fn drop(&mut self) {
        // The object is dropped when the list is not borrowed any more. The list may be gone when a
        // thread ends.
        drop(self.list.try_with(|objects| objects.borrow_mut().remove(self.number)));
    }
}
