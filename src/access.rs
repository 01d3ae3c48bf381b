//! The access modes of a mapping: what a module may do with the pages that it sees.
//!
//! Everything that depends on the mode is here: its name, its number at the border to JavaScript,
//! how its pages are mapped, and what a write to them does. Other files ask by these methods and
//! never compare modes. No operation on mappings belongs here.
//!
//! To add a mode:
//! 1. Add a variant, in the place that its order has. The compiler finds each `match` to extend.
//! 2. Add it to [`Access::ALL`] and to `ACCESS` of `lib/support/arguments.js`, with the functions
//!    beside that list. Nothing but a test compares the two lists.
//! 3. Add it to `index.d.ts` and docs/concepts.md.
//! 4. Add it to the lists of the tests: `__test__/matrix/cells.js`,
//!    `__test__/model/steps/mappings.js` (and what a write does, in `model/model.js`),
//!    `__test__/snapshots/mutations.js` and `__test__/snapshots/patterns.js`.

use crate::sys::mmap::Sharing;
use serde::{Deserialize, Serialize};

/// Ordered by how much each allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// Loads read the region, stores trap.
    Readonly,
    /// Writes go to pages that only this memory sees.
    Private,
    /// Writes go to the region.
    Shared,
}

impl Access {
    /// By number: `lib/support/arguments.js` has the same list.
    pub const ALL: [Self; 3] = [Self::Readonly, Self::Private, Self::Shared];

    /// As JavaScript has it, and saved snapshots.
    pub fn name(self) -> &'static str {
        match self {
            Self::Readonly => "readonly",
            Self::Private => "private",
            Self::Shared => "shared",
        }
    }

    pub fn code(self) -> u8 {
        self as u8
    }

    pub fn from_code(code: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|access| u32::from(access.code()) == code)
    }

    /// How pages of this mode are mapped: sharing and protection.
    pub fn sharing(self) -> Sharing {
        match self {
            Self::Readonly => Sharing::ReadOnly,
            Self::Private => Sharing::CopyOnWrite,
            Self::Shared => Sharing::Shared,
        }
    }

    /// Whether a store needs no help: the pages are mapped writable.
    pub fn is_writable(self) -> bool {
        match self {
            Self::Readonly => false,
            Self::Private | Self::Shared => true,
        }
    }

    /// Whether a write changes the region, so that the region must be writable.
    pub fn writes_through(self) -> bool {
        match self {
            Self::Readonly | Self::Private => false,
            Self::Shared => true,
        }
    }

    /// Whether a write makes the page differ from the region's.
    pub fn is_copy_on_write(self) -> bool {
        match self {
            Self::Private => true,
            Self::Readonly | Self::Shared => false,
        }
    }

    /// Whether one who was granted this mode may use the other.
    pub fn allows(self, other: Self) -> bool {
        other <= self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_order_agree_with_the_list() {
        for (code, access) in (0_u32..).zip(Access::ALL) {
            assert_eq!(Access::from_code(code), Some(access));
        }
        assert_eq!(Access::from_code(3), None);
        assert!(Access::ALL.is_sorted());
    }
}
