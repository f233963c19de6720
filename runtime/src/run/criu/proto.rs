//! The little of protocol buffers that CRIU's messages need (protobuf.dev, Encoding): numbers, strings, messages.

/// A message while it is written.
#[derive(Debug, Default)]
pub struct Writer(Vec<u8>);

impl Writer {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.extend((value & 0x7f | 0x80).to_le_bytes().first());
            value >>= 7;
        }
        self.0.extend(value.to_le_bytes().first());
    }

    /// An integer, a flag or a member of an enumeration. Negative ones take all 64 bits.
    pub fn number(&mut self, field: u32, value: impl Into<i64>) {
        self.varint(u64::from(field) << 3);
        self.varint(value.into().cast_unsigned());
    }

    /// A flag, where it is set.
    pub fn flag(&mut self, field: u32, on: bool) {
        if on {
            self.number(field, 1);
        }
    }

    /// A string, or bytes.
    pub fn text(&mut self, field: u32, text: impl AsRef<[u8]>) {
        let bytes = text.as_ref();
        self.varint(u64::from(field) << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    /// A message in the message.
    pub fn message(&mut self, field: u32, message: &Writer) {
        self.text(field, &message.0);
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The value of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// An integer, a flag or a member of an enumeration.
    Number(u64),
    /// A string, bytes or a message.
    Bytes(&'a [u8]),
}

impl Value<'_> {
    /// As a 32-bit integer; zero where it is none.
    pub fn int(self) -> i32 {
        match self {
            // Negative numbers come in 64 bits.
            Value::Number(n) => i32::try_from(n.cast_signed()).unwrap_or(0),
            Value::Bytes(_) => 0,
        }
    }

    /// As a string; empty where it is none.
    pub fn text(self) -> String {
        match self {
            Value::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Value::Number(_) => String::new(),
        }
    }
}

/// Reads the fields of a message, in their order. Ends at what is no field.
#[derive(Debug)]
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, len: u64) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(usize::try_from(len).ok()?)?;
        self.0 = rest;
        Some(taken)
    }
}

impl<'a> Iterator for Reader<'a> {
    type Item = (u64, Value<'a>);
    fn next(&mut self) -> Option<Self::Item> {
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Value::Number(self.varint()?),
            1 => Value::Bytes(self.take(8)?),
            2 => {
                let len = self.varint()?;
                Value::Bytes(self.take(len)?)
            }
            5 => Value::Bytes(self.take(4)?),
            _ => return None,
        };
        Some((key >> 3, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut inner = Writer::default();
        inner.number(2, -3);
        let mut outer = Writer::default();
        outer.number(1, 300);
        outer.text(9, "net");
        outer.flag(3, false);
        outer.message(70, &inner);
        // The first example of the encoding's own documentation: field 1, 300.
        assert_eq!(outer.bytes()[..3], [0x08, 0xac, 0x02]);
        let fields: Vec<_> = Reader(outer.bytes()).collect();
        assert_eq!(fields[0], (1, Value::Number(300)));
        assert_eq!(fields[1], (9, Value::Bytes(b"net")));
        assert_eq!(fields[2].0, 70);
        assert_eq!(fields.len(), 3);
        let Value::Bytes(inner) = fields[2].1 else { panic!("no message") };
        assert_eq!(Reader(inner).next().map(|(n, v)| (n, v.int())), Some((2, -3)));
    }

    #[test]
    fn what_is_torn_ends_the_reading() {
        let mut whole = Writer::default();
        whole.text(5, "0123456789");
        whole.number(1, i64::MAX);
        for cut in 0..whole.bytes().len() {
            assert!(Reader(&whole.bytes()[..cut]).count() < 2, "{cut}");
        }
        assert_eq!(Reader(&[0x0b, 1]).count(), 0);
        assert_eq!(Reader(&[0xff; 11]).count(), 0);
        assert_eq!(Reader(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 1]).count(), 0);
    }
}
