//! The reader as a source for serde's derived code.

use std::borrow::Cow;
use std::fmt;

use serde::de::value::{BorrowedStrDeserializer, StrDeserializer};
use serde::de::{DeserializeSeed, Deserializer, Error as _, Expected, MapAccess, SeqAccess, Unexpected, Visitor};
use serde::forward_to_deserialize_any;

use super::reader::{Keys, Object, Reader};
use super::report::{Error, quote, words};

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl std::error::Error for Error {}

impl serde::de::Error for Error {
    fn custom<T: fmt::Display>(text: T) -> Self {
        Error::new(text.to_string()).in_sound_text()
    }

    fn invalid_type(found: Unexpected<'_>, wanted: &dyn Expected) -> Self {
        let found = match found {
            Unexpected::Unsigned(n) => n.to_string(),
            Unexpected::Signed(n) => n.to_string(),
            Unexpected::Str(s) => format!("the string {:?}", quote(s)),
            other => other.to_string(),
        };
        Error::new(format!("is {found}; expected {}", words(wanted))).in_sound_text()
    }

    fn invalid_value(found: Unexpected<'_>, wanted: &dyn Expected) -> Self {
        Self::invalid_type(found, wanted)
    }

    fn missing_field(field: &'static str) -> Self {
        Error::missing(field)
    }
}

/// A whole number as JSON writes it.
enum Integer {
    Positive(u64),
    Negative(i64),
}

impl Reader<'_> {
    /// Consumes an integer and tells where it begins.
    fn integer(&mut self, wanted: &dyn Expected) -> Result<(Integer, usize), Error> {
        if !matches!(self.peek(), Some(b'-' | b'0'..=b'9')) {
            return Err(self.mismatch(wanted));
        }
        let at = self.pos;
        let number = self.number()?;
        let value = if number.starts_with('-') {
            number.parse().map(Integer::Negative)
        } else {
            number.parse().map(Integer::Positive)
        };
        value.map(|value| (value, at)).map_err(|_| {
            let hint = if number.contains(['.', 'e', 'E']) { ", written without fraction and exponent" } else { "" };
            Error::new(format!("is {}; expected {}{hint}", quote(number), words(wanted))).or_at(at).in_sound_text()
        })
    }
}

/// Integers of every width differ in their visitor only.
macro_rules! integers {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            let (integer, at) = self.integer(&visitor)?;
            match integer {
                Integer::Positive(n) => visitor.visit_u64(n),
                Integer::Negative(n) => visitor.visit_i64(n),
            }
            .map_err(|e: Error| e.or_at(at))
        }
    )*};
}

impl<'de> Deserializer<'de> for &mut Reader<'de> {
    type Error = Error;

    integers! { deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.word("true") {
            visitor.visit_bool(true)
        } else if self.word("false") {
            visitor.visit_bool(false)
        } else {
            Err(self.mismatch(&visitor))
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.peek() != Some(b'"') {
            return Err(self.mismatch(&visitor));
        }
        match self.string()? {
            Cow::Borrowed(string) => visitor.visit_borrowed_str(string),
            Cow::Owned(string) => visitor.visit_str(&string),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.word("null") { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if !self.take(b'[') {
            return Err(self.mismatch(&visitor));
        }
        self.enter()?;
        visitor.visit_seq(Elements { reader: self, index: 0 })
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if !self.take(b'{') {
            return Err(self.mismatch(&visitor));
        }
        let object = self.object(Keys::Entries)?;
        visitor.visit_map(Entries { reader: self, object, fields: &[] })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        if !self.take(b'{') {
            return Err(self.mismatch(&visitor));
        }
        let at = self.pos - 1;
        let object = self.object(Keys::Properties)?;
        visitor.visit_map(Entries { reader: self, object, fields }).map_err(|e: Error| e.or_at(at))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.note_unknown();
        self.skip()?;
        visitor.visit_unit()
    }

    /// No struct of the specification leaves its type open.
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        Err(Error::custom(format!("is of a type that is not read here: {}", words(&visitor))))
    }

    forward_to_deserialize_any! {
        i128 u128 f32 f64 char bytes byte_buf unit unit_struct tuple tuple_struct enum identifier
    }
}

fn name<'de, S: DeserializeSeed<'de>>(seed: S, key: &Cow<'de, str>) -> Result<S::Value, Error> {
    match key {
        Cow::Borrowed(name) => seed.deserialize(BorrowedStrDeserializer::new(name)),
        Cow::Owned(name) => seed.deserialize(StrDeserializer::new(name)),
    }
}

/// The elements of an array.
struct Elements<'r, 'de> {
    reader: &'r mut Reader<'de>,
    index: usize,
}

impl<'de> SeqAccess<'de> for Elements<'_, 'de> {
    type Error = Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Error> {
        loop {
            if !self.reader.element(self.index)? {
                return Ok(None);
            }
            self.index += 1;
            if self.reader.refused.is_empty() || !self.reader.passes_element()? {
                return seed.deserialize(&mut *self.reader).map(Some);
            }
        }
    }
}

/// The entries of an object.
struct Entries<'r, 'de> {
    reader: &'r mut Reader<'de>,
    object: Object,
    fields: &'static [&'static str],
}

impl<'de> MapAccess<'de> for Entries<'_, 'de> {
    type Error = Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Error> {
        while !self.reader.refused.is_empty() {
            if self.reader.key(&mut self.object)?.is_none() {
                return Ok(None);
            }
            if !self.reader.passes_key()? {
                return self.reader.keys.last().map(|key| name(seed, &key.name)).transpose();
            }
        }
        self.reader.key(&mut self.object)?.map(|key| name(seed, key)).transpose()
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        self.reader.fields = self.fields;
        seed.deserialize(&mut *self.reader)
    }
}
