//! `causes!`: an enum of causes. Each has its words, its data and its code side by side.
//!
//! ```text
//! causes! {
//!     pub enum RegionError {
//!         #[error("region \"{name}\" was closed")]            the words
//!         Closed { name: String } => RegionClosed,            the data, and the code
//!
//!         #[error("can't open {path}: {refused}")]
//!         Open { path: String, refused: Refused } => OpenFailed unless refused,
//!     }
//! }
//! ```
//!
//! `unless refused`: a system call was refused. Where the cause of that has a code of its own (no
//! descriptors, no memory mappings ...), that code goes before the one that is named here.
//! `from sys`: a system call was refused, and the code is the named one whatever the cause.

macro_rules! causes {
    (
        $(#[$of_enum:meta])*
        pub enum $name:ident {
            $(
                $(#[$of_variant:meta])*
                $variant:ident $({ $($field:ident: $type:ty),* $(,)? })?
                    => $code:ident $(unless $refused:ident)? $(from $sys:ident)?,
            )*
        }
    ) => {
        $(#[$of_enum])*
        #[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
        pub enum $name {
            $($(#[$of_variant])* $variant $({ $($field: $type),* })?,)*
        }

        impl $name {
            pub fn code(&self) -> $crate::error::Code {
                match self {
                    $(Self::$variant { $($refused,)? .. } => {
                        let named = $crate::error::Code::$code;
                        $(let named = $refused.code().unwrap_or(named);)?
                        named
                    })*
                }
            }

            /// The kernel's refusal, where there was one.
            pub fn sys(&self) -> Option<$crate::sys::SysError> {
                match self {
                    $(Self::$variant { $($refused,)? $($sys,)? .. } => {
                        None $(.or($refused.sys()))? $(.or(Some(*$sys)))?
                    })*
                }
            }
        }
    };
}

pub(super) use causes;
