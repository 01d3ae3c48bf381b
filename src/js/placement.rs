//! Where the next memory of V8's begins.

use super::to_count;
use crate::sys::placeholder::Placeholder;
use crate::v8::placement;
use napi_derive::napi;
use std::cell::RefCell;

thread_local! {
    static PLACEHOLDERS: RefCell<Vec<Placeholder>> = const { RefCell::new(Vec::new()) };
}

/// Until `memory_is_placed` is called: a memory of V8's with such a reservation begins at a
/// multiple of 2 MiB, if that can be had. May be called for several.
#[napi(catch_unwind)]
pub fn place_next_memory(below_bytes: f64, above_bytes: f64) -> napi::Result<()> {
    let placeholders = placement::prepare(to_count(below_bytes)?, to_count(above_bytes)?);
    PLACEHOLDERS.with_borrow_mut(|kept| match placeholders {
        Some(placeholders) => kept.extend(placeholders),
        None => kept.clear(),
    });
    Ok(())
}

#[napi(catch_unwind)]
pub fn memory_is_placed() {
    drop(PLACEHOLDERS.take());
}
