//! Protocol Buffers on the wire: the four encodings that containerd's messages use, nothing more.
//!
//! A message is declared once with [`message!`](crate::message); unknown fields are skipped, as the format wants, so that a
//! newer engine can send more than this shim knows. Source: protobuf.dev, "Encoding".

use std::fmt;

/// Why bytes are not a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed(&'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "malformed protobuf: {}", self.0)
    }
}

impl std::error::Error for Malformed {}

/// The value of one field as it lies on the wire.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    /// Wire type 0.
    Varint(u64),
    /// Wire type 2.
    Bytes(&'a [u8]),
    /// Wire types 1 and 5, which none of our messages reads.
    Fixed,
}

/// Splits bytes into fields.
#[derive(Debug)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Reads from `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Reader(bytes)
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0u64;
        for shift in (0..70).step_by(7) {
            let (&byte, rest) = self.0.split_first().ok_or(Malformed("a number ends early"))?;
            self.0 = rest;
            if shift == 63 && byte > 1 {
                return Err(Malformed("a number is wider than 64 bits"));
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed("a number is wider than 64 bits"))
    }

    fn take(&mut self, count: u64) -> Result<&'a [u8], Malformed> {
        let count = usize::try_from(count).map_err(|_| Malformed("a length is wider than memory"))?;
        let (head, rest) = self.0.split_at_checked(count).ok_or(Malformed("a field is longer than its message"))?;
        self.0 = rest;
        Ok(head)
    }

    /// The next field's number and value, `None` at the end.
    ///
    /// # Errors
    /// [`Malformed`] when the bytes end early or hold a wire type of the abandoned group encoding.
    pub fn field(&mut self) -> Result<Option<(u32, Value<'a>)>, Malformed> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let number = u32::try_from(key >> 3).map_err(|_| Malformed("a field number is too large"))?;
        if number == 0 {
            return Err(Malformed("field number 0"));
        }
        let value = match key & 7 {
            0 => Value::Varint(self.varint()?),
            1 => self.take(8).map(|_| Value::Fixed)?,
            2 => {
                let length = self.varint()?;
                Value::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Value::Fixed)?,
            _ => return Err(Malformed("an unknown wire type")),
        };
        Ok(Some((number, value)))
    }
}

/// Collects fields.
#[derive(Debug, Default)]
pub struct Writer(pub Vec<u8>);

impl Writer {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            // The low seven bits with the continuation bit always fit a byte.
            self.0.push(u8::try_from(value & 0x7f).unwrap_or(0) | 0x80);
            value >>= 7;
        }
        self.0.push(u8::try_from(value).unwrap_or(0));
    }

    /// A number; zero is the default and is left out.
    pub fn int(&mut self, number: u32, value: u64) {
        if value != 0 {
            self.varint(u64::from(number) << 3);
            self.varint(value);
        }
    }

    /// Bytes, an empty value included (an element of a list or a present message).
    pub fn bytes(&mut self, number: u32, value: &[u8]) {
        self.varint(u64::from(number) << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
    }
}

/// A type that can be a field.
pub trait Field {
    /// Takes one occurrence of the field.
    ///
    /// # Errors
    /// [`Malformed`] when the wire type or the bytes do not fit.
    fn merge(&mut self, value: Value<'_>) -> Result<(), Malformed>;
    /// Writes the field unless it has its default value.
    fn put(&self, number: u32, out: &mut Writer);
}

/// A whole message.
pub trait Message: Default {
    /// Takes one field.
    ///
    /// # Errors
    /// [`Malformed`] when the field's bytes do not fit its type.
    fn merge_field(&mut self, number: u32, value: Value<'_>) -> Result<(), Malformed>;
    /// Writes all fields.
    fn put_fields(&self, out: &mut Writer);

    /// The message in `bytes`.
    ///
    /// # Errors
    /// [`Malformed`] when they are none.
    fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let (mut made, mut reader) = (Self::default(), Reader::new(bytes));
        while let Some((number, value)) = reader.field()? {
            made.merge_field(number, value)?;
        }
        Ok(made)
    }

    /// The bytes of the message.
    fn encode(&self) -> Vec<u8> {
        let mut out = Writer::default();
        self.put_fields(&mut out);
        out.0
    }
}

/// A `bytes` field.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

/// A packed list of numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Packed(pub Vec<u64>);

const WRONG: Malformed = Malformed("a field has another wire type than its message says");

macro_rules! number {
    ($($kind:ty),*) => {$(
        impl Field for $kind {
            // A wider value is cut to the type, as every implementation of the format does.
            #[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap)]
            fn merge(&mut self, value: Value<'_>) -> Result<(), Malformed> {
                let Value::Varint(number) = value else { return Err(WRONG) };
                *self = number as $kind;
                Ok(())
            }

            // A negative int32 is sign-extended to ten bytes.
            #[allow(clippy::cast_sign_loss, clippy::cast_lossless)]
            fn put(&self, number: u32, out: &mut Writer) {
                out.int(number, *self as u64);
            }
        }
    )*};
}

number!(u32, u64, i32, i64);

impl Field for bool {
    fn merge(&mut self, value: Value<'_>) -> Result<(), Malformed> {
        let Value::Varint(number) = value else { return Err(WRONG) };
        *self = number != 0;
        Ok(())
    }

    fn put(&self, number: u32, out: &mut Writer) {
        out.int(number, u64::from(*self));
    }
}

impl Field for String {
    fn merge(&mut self, value: Value<'_>) -> Result<(), Malformed> {
        let Value::Bytes(bytes) = value else { return Err(WRONG) };
        *self = std::str::from_utf8(bytes).map_err(|_| Malformed("a string is not UTF-8"))?.to_owned();
        Ok(())
    }

    fn put(&self, number: u32, out: &mut Writer) {
        if !self.is_empty() {
            out.bytes(number, self.as_bytes());
        }
    }
}

impl Field for Bytes {
    fn merge(&mut self, value: Value<'_>) -> Result<(), Malformed> {
        let Value::Bytes(bytes) = value else { return Err(WRONG) };
        self.0 = bytes.to_vec();
        Ok(())
    }

    fn put(&self, number: u32, out: &mut Writer) {
        if !self.0.is_empty() {
            out.bytes(number, &self.0);
        }
    }
}

impl Field for Packed {
    fn merge(&mut self, value: Value<'_>) -> Result<(), Malformed> {
        match value {
            Value::Varint(one) => self.0.push(one),
            Value::Bytes(bytes) => {
                let mut reader = Reader::new(bytes);
                while !reader.0.is_empty() {
                    self.0.push(reader.varint()?);
                }
            }
            Value::Fixed => return Err(WRONG),
        }
        Ok(())
    }

    fn put(&self, number: u32, out: &mut Writer) {
        if !self.0.is_empty() {
            let mut inner = Writer::default();
            self.0.iter().for_each(|one| inner.varint(*one));
            out.bytes(number, &inner.0);
        }
    }
}

impl Field for Vec<String> {
    fn merge(&mut self, value: Value<'_>) -> Result<(), Malformed> {
        let mut one = String::new();
        one.merge(value)?;
        self.push(one);
        Ok(())
    }

    fn put(&self, number: u32, out: &mut Writer) {
        self.iter().for_each(|one| out.bytes(number, one.as_bytes()));
    }
}

impl<M: Message> Field for Vec<M> {
    fn merge(&mut self, value: Value<'_>) -> Result<(), Malformed> {
        let Value::Bytes(bytes) = value else { return Err(WRONG) };
        self.push(M::decode(bytes)?);
        Ok(())
    }

    fn put(&self, number: u32, out: &mut Writer) {
        self.iter().for_each(|one| out.bytes(number, &one.encode()));
    }
}

impl<M: Message> Field for Option<M> {
    fn merge(&mut self, value: Value<'_>) -> Result<(), Malformed> {
        let Value::Bytes(bytes) = value else { return Err(WRONG) };
        let mut reader = Reader::new(bytes);
        let made = self.get_or_insert_default();
        while let Some((number, value)) = reader.field()? {
            made.merge_field(number, value)?;
        }
        Ok(())
    }

    fn put(&self, number: u32, out: &mut Writer) {
        if let Some(message) = self {
            out.bytes(number, &message.encode());
        }
    }
}

/// Declares messages: `message! { Name { 1 id: String, 2 pid: u32 } }`.
#[macro_export]
macro_rules! message {
    ($($(#[$meta:meta])* $name:ident { $($number:literal $field:ident : $kind:ty),* $(,)? })*) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, Default, PartialEq)]
        #[allow(missing_docs, unreachable_pub)] // The fields bear the names of the published .proto files.
        pub struct $name { $(pub $field: $kind),* }

        impl $crate::wire::Message for $name {
            #[allow(unused_variables)]
            fn merge_field(&mut self, number: u32, value: $crate::wire::Value<'_>) -> Result<(), $crate::wire::Malformed> {
                match number {
                    $($number => $crate::wire::Field::merge(&mut self.$field, value),)*
                    _ => Ok(()),
                }
            }

            #[allow(unused_variables)]
            fn put_fields(&self, out: &mut $crate::wire::Writer) {
                $($crate::wire::Field::put(&self.$field, $number, out);)*
            }
        }
    )*};
}

#[cfg(test)]
mod tests {
    use super::{Bytes, Message, Packed};

    message! {
        Inner { 1 name: String }
        Outer { 1 id: String, 2 flag: bool, 3 count: u32, 4 list: Vec<Inner>, 5 one: Option<Inner>, 6 words: Vec<String>, 7 raw: Bytes, 8 level: i32, 9 numbers: Packed }
    }

    fn sample() -> Outer {
        Outer {
            id: "a".into(),
            flag: true,
            count: 300,
            list: vec![Inner::default(), Inner { name: "x".into() }],
            one: Some(Inner::default()),
            words: vec![String::new(), "w".into()],
            raw: Bytes(vec![0, 255]),
            level: -4,
            numbers: Packed(vec![1, 1 << 40]),
        }
    }

    #[test]
    fn a_message_survives_the_wire() {
        assert_eq!(Outer::decode(&sample().encode()), Ok(sample()));
    }

    #[test]
    fn bytes_are_those_of_the_published_example() {
        // protobuf.dev: field 1 = 150 is 08 96 01; field 2 = "testing" is 12 07 74 65 73 74 69 6e 67.
        message! { Example { 1 a: u32, 2 b: String } }
        let example = Example { a: 150, b: "testing".into() };
        assert_eq!(example.encode(), [&[8, 0x96, 1, 0x12, 7][..], b"testing"].concat());
    }

    #[test]
    fn unknown_fields_are_skipped() {
        let mut bytes = vec![0x9a, 0x06, 1, 7, 0xa5, 0x06, 1, 2, 3, 4, 0xa1, 0x06, 1, 2, 3, 4, 5, 6, 7, 8];
        bytes.extend(Inner { name: "n".into() }.encode());
        assert_eq!(Inner::decode(&bytes), Ok(Inner { name: "n".into() }));
    }

    #[test]
    fn every_truncation_is_refused_or_a_shorter_message() {
        let whole = sample().encode();
        for end in 0..whole.len() {
            // No panic and no read past the end is the point; some prefixes are messages themselves.
            let _ = Outer::decode(&whole[..end]);
        }
        assert!(Inner::decode(&[0x0a, 5, b'x']).is_err());
        assert!(Inner::decode(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]).is_err());
        assert!(Inner::decode(&[0x0b]).is_err());
        assert!(Inner::decode(&[0x08, 1]).is_err(), "a number where a string belongs");
        assert!(Inner::decode(&[0x0a, 1, 0xff]).is_err(), "not UTF-8");
    }
}
