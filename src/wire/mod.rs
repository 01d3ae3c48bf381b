//! How descriptions of snapshots and reports of modules are written and read: MessagePack, in which
//! each field has its name.
//!
//! Reading is strict. A list or text longer than its bound is refused before memory is taken for
//! it, an unknown field is refused, and so is every encoding but the one that is written here,
//! which leaves one sequence of bytes for each value. Types deny unknown fields themselves, with
//! `#[serde(deny_unknown_fields)]`.
//!
//! A value that can't be read is copied into the error's text, so callers bound the bytes.

mod read;

use crate::sys::alloc;
use read::Reader;
use serde::de::{DeserializeOwned, Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::io::{self, Write};
use std::marker::PhantomData;

/// A list of at most so many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List<T, const MOST: usize>(Vec<T>);

/// A text of at most so many bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Text<const MOST: usize>(String);

impl<T, const MOST: usize> List<T, MOST> {
    /// `None`: there are more.
    pub fn new(items: Vec<T>) -> Option<Self> {
        (items.len() <= MOST).then_some(Self(items))
    }

    pub fn into_vec(self) -> Vec<T> {
        self.0
    }
}

impl<T, const MOST: usize> Default for List<T, MOST> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T, const MOST: usize> std::ops::Deref for List<T, MOST> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<const MOST: usize> Text<MOST> {
    /// `None`: it is longer.
    pub fn new(text: String) -> Option<Self> {
        (text.len() <= MOST).then_some(Self(text))
    }

    pub fn into_string(self) -> String {
        self.0
    }
}

impl<const MOST: usize> std::ops::Deref for Text<MOST> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

/// Why bytes were not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unread {
    NoMemory(alloc::Refused),
    /// They hold no value of the type, and why.
    NoValue(String),
    /// They hold one, but not as [`encode`] writes it.
    OtherEncoding,
}

/// What serde's errors say when there was no memory. They carry nothing but a text.
const NO_MEMORY: &str = "no memory for a list or text";

impl<T: Serialize, const MOST: usize> Serialize for List<T, MOST> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(&self.0)
    }
}

impl<'de, T: Deserialize<'de>, const MOST: usize> Deserialize<'de> for List<T, MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Items<T, const MOST: usize>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>, const MOST: usize> Visitor<'de> for Items<T, MOST> {
            type Value = List<T, MOST>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "a list of at most {MOST}")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element()? {
                    if list.len() >= MOST {
                        return Err(A::Error::invalid_length(list.len(), &self));
                    }
                    alloc::push(&mut list, item).map_err(|_| A::Error::custom(NO_MEMORY))?;
                }
                Ok(List(list))
            }
        }
        deserializer.deserialize_seq(Items(PhantomData))
    }
}

impl<const MOST: usize> Serialize for Text<MOST> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de, const MOST: usize> Deserialize<'de> for Text<MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes<const MOST: usize>;
        impl<const MOST: usize> Visitor<'_> for Bytes<MOST> {
            type Value = Text<MOST>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "a text of at most {MOST} bytes")
            }

            // A text of a slice is borrowed from it: nothing is allocated before this.
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
                if text.len() > MOST {
                    return Err(E::invalid_length(text.len(), &self));
                }
                alloc::text(text).map(Text).map_err(|_| E::custom(NO_MEMORY))
            }
        }
        deserializer.deserialize_str(Bytes)
    }
}

/// Reads a vector of at most so many, for `#[serde(deserialize_with)]`.
pub fn list<'de, D: Deserializer<'de>, T: Deserialize<'de>, const MOST: usize>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    List::<T, MOST>::deserialize(deserializer).map(List::into_vec)
}

/// Reads a string of at most so many bytes, for `#[serde(deserialize_with)]`.
pub fn text<'de, D: Deserializer<'de>, const MOST: usize>(
    deserializer: D,
) -> Result<String, D::Error> {
    Text::<MOST>::deserialize(deserializer).map(Text::into_string)
}

/// Writes a value, to at most so many bytes. `None`: they don't suffice.
pub fn encode(value: &impl Serialize, most: u64) -> Result<Option<Vec<u8>>, alloc::Refused> {
    let mut bytes = Bytes { written: Vec::new(), most, is_refused: false };
    match write(value, &mut bytes) {
        Ok(()) => Ok(Some(bytes.written)),
        Err(_) if bytes.is_refused => Err(alloc::Refused),
        Err(_) => Ok(None),
    }
}

/// Reads the value that these bytes are, all of them.
pub fn decode<T: DeserializeOwned + Serialize>(bytes: &[u8]) -> Result<T, Unread> {
    let value: T = T::deserialize(&mut Reader::new(bytes)).map_err(|error| {
        let why = error.to_string();
        if why.contains(NO_MEMORY) {
            Unread::NoMemory(alloc::Refused)
        } else {
            Unread::NoValue(why)
        }
    })?;
    let mut same = Same { rest: bytes };
    match write(&value, &mut same) {
        Ok(()) if same.rest.is_empty() => Ok(value),
        _ => Err(Unread::OtherEncoding),
    }
}

// One kind of writer: rmp-serde's code is there once for each type, and not for each kind, too.
fn write(value: &impl Serialize, to: &mut dyn Write) -> Result<(), rmp_serde::encode::Error> {
    value.serialize(&mut rmp_serde::Serializer::new(to).with_struct_map())
}

struct Bytes {
    written: Vec<u8>,
    most: u64,
    is_refused: bool,
}

impl Write for Bytes {
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        let length = self.written.len().checked_add(part.len());
        let length = length.expect("no slice is longer than isize::MAX");
        if crate::sys::to_u64(length) > self.most {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        if self.written.try_reserve(part.len()).is_err() {
            self.is_refused = true;
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        self.written.extend_from_slice(part);
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Compares what is written with what is there.
struct Same<'a> {
    rest: &'a [u8],
}

impl Write for Same<'_> {
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        self.rest = self.rest.strip_prefix(part).ok_or(io::ErrorKind::InvalidData)?;
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
