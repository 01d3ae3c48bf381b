//! The part of MessagePack that descriptions are made of, for serde: numbers, truths, texts, lists,
//! and maps with the names of fields or of a variant. rmp reads the values.
//!
//! rmp-serde reads more: fields by their order, bytes, extensions, any integer where another is
//! asked for. Each type that is read brings its code for each of these: 160 KiB of the addon, for
//! encodings that are refused.

use rmp::Marker;
use rmp::decode::{self, Bytes};
use serde::Deserializer;
use serde::de::value::BorrowedStrDeserializer;
use serde::de::{self, DeserializeSeed, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor};
use serde::forward_to_deserialize_any;
use std::fmt::{self, Display, Formatter};

/// Bytes that are read, one value after the other.
pub(super) struct Reader<'de> {
    all: &'de [u8],
    rest: &'de [u8],
}

/// Why they hold no value of the type.
#[derive(Debug)]
pub(super) struct Unreadable(String);

impl Display for Unreadable {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unreadable {}

impl de::Error for Unreadable {
    fn custom<T: Display>(why: T) -> Self {
        Self(why.to_string())
    }
}

type Read<T> = Result<T, Unreadable>;

impl<'de> Reader<'de> {
    pub(super) fn new(bytes: &'de [u8]) -> Self {
        Self { all: bytes, rest: bytes }
    }

    /// Reads with a function of rmp's.
    fn read<T, E>(
        &mut self,
        what: &str,
        read: impl FnOnce(&mut Bytes<'de>) -> Result<T, E>,
    ) -> Read<T> {
        let mut bytes = Bytes::new(self.rest);
        let value = read(&mut bytes).map_err(|_| self.lacks(what))?;
        self.rest = bytes.remaining_slice();
        Ok(value)
    }

    fn integer(&mut self) -> Read<u64> {
        self.read("integer", decode::read_int)
    }

    fn text(&mut self) -> Read<&'de str> {
        let read = decode::read_str_from_slice(self.rest);
        let (text, rest) = read.map_err(|_| self.lacks("text"))?;
        self.rest = rest;
        Ok(text)
    }

    fn next_is(&self, marker: Marker) -> bool {
        self.rest.first().is_some_and(|byte| Marker::from_u8(*byte) == marker)
    }

    #[cold]
    fn lacks(&self, what: &str) -> Unreadable {
        let at = self.all.len().checked_sub(self.rest.len());
        let at = at.expect("what is left is a part of all");
        Unreadable(format!("there is no {what} at byte {at}"))
    }
}

impl<'de> Deserializer<'de> for &mut Reader<'de> {
    type Error = Unreadable;

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Read<V::Value> {
        visitor.visit_bool(self.read("true or false", decode::read_bool)?)
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Read<V::Value> {
        visitor.visit_u64(self.integer()?)
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Read<V::Value> {
        visitor.visit_u64(self.integer()?)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Read<V::Value> {
        visitor.visit_f64(self.read("number of 64 bits", decode::read_f64)?)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Read<V::Value> {
        visitor.visit_borrowed_str(self.text()?)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Read<V::Value> {
        visitor.visit_borrowed_str(self.text()?)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Read<V::Value> {
        if self.next_is(Marker::Null) {
            self.read("nothing", decode::read_nil)?;
            visitor.visit_none()
        } else {
            visitor.visit_some(self)
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Read<V::Value> {
        let left = self.read("list", decode::read_array_len)?;
        let mut items = Items { reader: self, left };
        let value = visitor.visit_seq(&mut items)?;
        items.end(value)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Read<V::Value> {
        let left = self.read("map", decode::read_map_len)?;
        let mut fields = Items { reader: self, left };
        let value = visitor.visit_map(&mut fields)?;
        fields.end(value)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Read<V::Value> {
        let has_value = self.next_is(Marker::FixMap(1));
        if has_value {
            self.read("map", decode::read_map_len)?;
        }
        let name = self.text()?;
        visitor.visit_enum(Variant { reader: self, name, has_value })
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Read<V::Value> {
        Err(Unreadable("no description has values of this type".to_owned()))
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u128 f32 char string bytes byte_buf unit unit_struct
        newtype_struct tuple tuple_struct map ignored_any
    }
}

/// What of a list or map is left.
struct Items<'a, 'de> {
    reader: &'a mut Reader<'de>,
    left: u32,
}

impl<'de> Items<'_, 'de> {
    fn next<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Read<Option<T::Value>> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        seed.deserialize(&mut *self.reader).map(Some)
    }

    fn end<T>(&self, value: T) -> Read<T> {
        if self.left == 0 { Ok(value) } else { Err(self.reader.lacks("end of a list")) }
    }
}

impl<'de> SeqAccess<'de> for Items<'_, 'de> {
    type Error = Unreadable;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Read<Option<T::Value>> {
        self.next(seed)
    }
}

impl<'de> MapAccess<'de> for Items<'_, 'de> {
    type Error = Unreadable;

    fn next_key_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Read<Option<T::Value>> {
        self.next(seed)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Read<T::Value> {
        seed.deserialize(&mut *self.reader)
    }
}

/// A variant, whose value is still to be read if it has one.
struct Variant<'a, 'de> {
    reader: &'a mut Reader<'de>,
    name: &'de str,
    has_value: bool,
}

impl<'de> EnumAccess<'de> for Variant<'_, 'de> {
    type Error = Unreadable;
    type Variant = Self;

    fn variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Read<(T::Value, Self)> {
        let name = seed.deserialize(BorrowedStrDeserializer::<Unreadable>::new(self.name))?;
        Ok((name, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'_, 'de> {
    type Error = Unreadable;

    fn unit_variant(self) -> Read<()> {
        if self.has_value { Err(self.reader.lacks("variant without a value")) } else { Ok(()) }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Read<T::Value> {
        if self.has_value {
            seed.deserialize(self.reader)
        } else {
            Err(self.reader.lacks("value of a variant"))
        }
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Read<V::Value> {
        self.reader.deserialize_any(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Read<V::Value> {
        self.reader.deserialize_any(visitor)
    }
}
