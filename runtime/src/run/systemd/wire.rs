//! Messages of D-Bus as bytes: of its format (<https://dbus.freedesktop.org/doc/dbus-specification.html>, "Marshaling") as much as
//! a conversation with systemd needs. Both ends are on one machine, so there is one byte order, the machine's own.

use crate::op::unit::{Property, Value};

/// The byte order of this machine, as a message names it.
pub const ORDER: u8 = if cfg!(target_endian = "little") { b'l' } else { b'B' };
/// The largest message that is read (rule R11). What systemd tells of units is a few hundred bytes long.
pub const MAX: usize = 1 << 20;
/// The part of a header that every message has.
pub const FIXED: usize = 16;

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A call of a method.
    Call = 1,
    /// Its answer.
    Reply = 2,
    /// Its failure.
    Error = 3,
    /// Something that happened.
    Signal = 4,
}

/// A message that was received, as far as it matters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// What it is.
    pub kind: Kind,
    /// The call that it answers.
    pub reply_to: u32,
    /// The name of an error, or the member of a signal.
    pub name: String,
    /// The types of the body.
    pub signature: String,
    /// The body.
    pub body: Vec<u8>,
}

/// Bytes of values, each aligned as its type wants it.
#[derive(Debug, Clone, Default)]
pub struct Writer(Vec<u8>);

impl Writer {
    fn put(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend(bytes);
        self
    }

    fn align(&mut self, to: usize) -> &mut Self {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
        self
    }

    fn number<const N: usize>(&mut self, bytes: [u8; N]) -> &mut Self {
        self.align(N).put(&bytes)
    }

    /// `u`
    pub fn u32(&mut self, n: u32) -> &mut Self {
        self.number(n.to_ne_bytes())
    }

    /// `b`
    pub fn bool(&mut self, yes: bool) -> &mut Self {
        self.u32(u32::from(yes))
    }

    /// `s` and `o`
    pub fn text(&mut self, text: &str) -> &mut Self {
        self.u32(u32::try_from(text.len()).unwrap_or(u32::MAX)).put(text.as_bytes()).put(&[0])
    }

    /// `g`
    fn signature(&mut self, signature: &str) -> &mut Self {
        self.put(&[u8::try_from(signature.len()).unwrap_or(u8::MAX)]).put(signature.as_bytes()).put(&[0])
    }

    /// An array of elements that are aligned to `to` bytes: its length counts from the first of them.
    fn array(&mut self, to: usize, elements: impl for<'w> FnOnce(&'w mut Self) -> &'w mut Self) -> &mut Self {
        self.u32(0);
        let length = self.0.len() - 4;
        let start = self.align(to).0.len();
        elements(self);
        let n = u32::try_from(self.0.len() - start).unwrap_or(u32::MAX);
        self.0[length..length + 4].copy_from_slice(&n.to_ne_bytes());
        self
    }

    /// `v`
    fn variant(&mut self, value: &Value) -> &mut Self {
        self.signature(value.signature());
        match value {
            Value::Bool(yes) => self.u32(u32::from(*yes)),
            Value::Byte(n) => self.put(&[*n]),
            Value::I16(n) => self.number(n.to_ne_bytes()),
            Value::U16(n) => self.number(n.to_ne_bytes()),
            Value::I32(n) => self.number(n.to_ne_bytes()),
            Value::U32(n) => self.number(n.to_ne_bytes()),
            Value::I64(n) => self.number(n.to_ne_bytes()),
            Value::U64(n) | Value::F64(n) => self.number(n.to_ne_bytes()),
            Value::Text(text) => self.text(text),
            Value::Texts(texts) => self.array(4, |w| texts.iter().fold(w, |w, text| w.text(text))),
            Value::Mask(mask) => self.array(1, |w| w.put(mask)),
            Value::Devices(list) => {
                self.array(8, |w| list.iter().fold(w, |w, (device, n)| w.align(8).text(device).number(n.to_ne_bytes())))
            }
            Value::Access(list) => {
                self.array(8, |w| list.iter().fold(w, |w, (device, access)| w.align(8).text(device).text(access)))
            }
        }
    }

    /// `a(sv)`: properties, and the pids of a scope's processes where there are any.
    pub fn properties(&mut self, properties: &[Property], pid: Option<u32>) -> &mut Self {
        self.array(8, |w| {
            let w = properties.iter().fold(w, |w, p| w.align(8).text(&p.name).variant(&p.value));
            match pid {
                Some(pid) => w.align(8).text("PIDs").signature("au").array(4, |w| w.u32(pid)),
                None => w,
            }
        })
    }

    /// `a(sa(sv))` without an element.
    pub fn no_units(&mut self) -> &mut Self {
        self.array(8, |w| w)
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A method and its arguments.
#[derive(Debug, Clone)]
pub struct Call<'a> {
    /// The bus name of whom it is for; nobody's where no bus stands between.
    pub destination: Option<&'a str>,
    /// The object.
    pub path: &'a str,
    /// The interface.
    pub interface: &'a str,
    /// The method.
    pub member: &'a str,
    /// The types of the arguments.
    pub signature: &'a str,
    /// The arguments.
    pub body: Writer,
}

impl Call<'_> {
    /// The whole message. An answer is wanted unless that is said.
    pub fn encode(&self, serial: u32, answered: bool) -> Vec<u8> {
        let mut w = Writer(vec![ORDER, Kind::Call as u8, u8::from(!answered), 1]);
        w.u32(u32::try_from(self.body.0.len()).unwrap_or(u32::MAX)).u32(serial);
        let fields = [
            (1, "o", Some(self.path)),
            (2, "s", Some(self.interface)),
            (3, "s", Some(self.member)),
            (6, "s", self.destination),
            (8, "g", Some(self.signature).filter(|s| !s.is_empty())),
        ];
        w.array(8, |w| {
            let given = fields.iter().filter_map(|(code, kind, value)| Some((*code, *kind, (*value)?)));
            given.fold(w, |w, (code, kind, value)| {
                let w = w.align(8).put(&[code]).signature(kind);
                if kind == "g" { w.signature(value) } else { w.text(value) }
            })
        });
        w.align(8).put(&self.body.0);
        w.0
    }
}

/// Reads values in their order; `None` where there is not what there should be.
#[derive(Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Reads a body.
    pub fn new(bytes: &'a [u8]) -> Self {
        Reader { bytes, at: 0 }
    }

    fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(n)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    /// `u`
    pub fn u32(&mut self) -> Option<u32> {
        self.align(4);
        Some(u32::from_ne_bytes(self.take(4)?.try_into().ok()?))
    }

    /// `s` and `o`
    pub fn text(&mut self) -> Option<String> {
        let n = self.u32()?;
        let text = self.take(usize::try_from(n).ok()?)?;
        self.take(1)?;
        String::from_utf8(text.to_vec()).ok()
    }

    /// `g`
    fn signature(&mut self) -> Option<String> {
        let n = self.take(1)?[0];
        let text = self.take(usize::from(n))?;
        self.take(1)?;
        String::from_utf8(text.to_vec()).ok()
    }

    /// A variant that holds a text.
    pub fn text_variant(&mut self) -> Option<String> {
        match self.signature()?.as_str() {
            "s" | "o" => self.text(),
            _ => None,
        }
    }
}

/// How long a message is whose first [`FIXED`] bytes these are; `None` where they are none of D-Bus, or it is too long.
pub fn length(fixed: &[u8]) -> Option<usize> {
    let mut r = Reader::new(fixed);
    let head = r.take(4)?;
    if head[0] != ORDER || head[3] != 1 {
        return None;
    }
    let (body, _serial, fields) = (r.u32()?, r.u32()?, r.u32()?);
    let whole = FIXED.checked_add(usize::try_from(fields).ok()?)?.next_multiple_of(8);
    whole.checked_add(usize::try_from(body).ok()?).filter(|n| *n <= MAX)
}

/// Reads a whole message; `None` where it is not sound.
pub fn decode(bytes: &[u8]) -> Option<Message> {
    let mut r = Reader::new(bytes);
    let kind = match r.take(4)?[1] {
        1 => Kind::Call,
        2 => Kind::Reply,
        3 => Kind::Error,
        4 => Kind::Signal,
        _ => return None,
    };
    let (body, _serial, fields) = (r.u32()?, r.u32()?, r.u32()?);
    let end = r.at.checked_add(usize::try_from(fields).ok()?)?;
    let mut message = Message { kind, reply_to: 0, name: String::new(), signature: String::new(), body: Vec::new() };
    while r.at < end {
        r.align(8);
        if r.at >= end {
            break;
        }
        let code = r.take(1)?[0];
        match (code, r.signature()?.as_str()) {
            (5, "u") => message.reply_to = r.u32()?,
            (3 | 4, "s") => message.name = r.text()?,
            (8, "g") => message.signature = r.signature()?,
            (_, "s" | "o") => drop(r.text()?),
            (_, "u") => drop(r.u32()?),
            (_, "g") => drop(r.signature()?),
            _ => return None,
        }
    }
    r.align(8);
    message.body = r.take(usize::try_from(body).ok()?)?.to_vec();
    Some(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ping(destination: Option<&str>) -> Call<'_> {
        let mut body = Writer::default();
        body.text("a.scope");
        Call { destination, path: "/o", interface: "i.f", member: "Get", signature: "s", body }
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn a_call_is_these_bytes() {
        let mut wanted = vec![b'l', 1, 0, 1, 12, 0, 0, 0, 7, 0, 0, 0];
        let fields: &[&[u8]] = &[
            b"\x01\x01o\0\x02\0\0\0/o\0\0\0\0\0\0",
            b"\x02\x01s\0\x03\0\0\0i.f\0\0\0\0\0",
            b"\x03\x01s\0\x03\0\0\0Get\0\0\0\0\0",
            b"\x08\x01g\0\x01s\0",
        ];
        let fields = fields.concat();
        wanted.extend(u32::try_from(fields.len()).unwrap().to_le_bytes());
        wanted.extend(fields);
        wanted.push(0);
        wanted.extend(b"\x07\0\0\0a.scope\0");
        assert_eq!(ping(None).encode(7, true), wanted);
        assert_eq!(ping(None).encode(7, false)[2], 1);
    }

    #[test]
    fn what_is_written_is_read_again() {
        let bytes = ping(Some("org.x")).encode(9, true);
        assert_eq!(length(&bytes[..FIXED]), Some(bytes.len()));
        let message = decode(&bytes).unwrap();
        assert_eq!((message.kind, message.name.as_str(), message.signature.as_str()), (Kind::Call, "Get", "s"));
        assert_eq!(Reader::new(&message.body).text().unwrap(), "a.scope");
    }

    #[test]
    fn values_lie_where_their_types_want_them() {
        let properties = [
            Property::new("A", Value::Bool(true)),
            Property::new("B", Value::U64(u64::MAX)),
            Property::new("C", Value::Devices(vec![("/d".to_owned(), 5)])),
            Property::new("D", Value::Mask(vec![3])),
        ];
        let mut w = Writer::default();
        w.text("x").properties(&properties, Some(77)).no_units();
        let bytes = w.bytes();
        let find = |text: &[u8]| bytes.windows(text.len()).position(|w| w == text).unwrap();
        // A struct begins at a multiple of eight, with the length of its name.
        for name in [b"A\0\x01b\0", b"B\0\x01t\0", b"D\0\x02ay"] {
            assert_eq!((find(name) - 4) % 8, 0, "{name:?}");
        }
        let at = find(b"B\0\x01t\0") + 5;
        assert_eq!(bytes[at.next_multiple_of(8)..][..8], [0xff; 8]);
        let at = find(b"C\0\x05a(st)\0") + 9;
        let length = at.next_multiple_of(4);
        assert_eq!(bytes[length..length + 4], 16u32.to_ne_bytes());
        assert_eq!(bytes[(length + 4).next_multiple_of(8)..][..7], *b"\x02\0\0\0/d\0");
        let at = find(b"PIDs\0\x02au\0") + 9;
        assert_eq!(bytes[at.next_multiple_of(4)..][..8], [4u32.to_ne_bytes(), 77u32.to_ne_bytes()].concat());
    }

    #[test]
    fn no_bytes_make_it_stumble() {
        let bytes = ping(Some("org.x")).encode(9, true);
        for cut in 0..bytes.len() {
            let _ = (length(&bytes[..cut]), decode(&bytes[..cut]));
        }
        for at in 0..bytes.len() {
            for with in [0, 1, 0x7f, 0xff] {
                let mut changed = bytes.clone();
                changed[at] = with;
                let _ = (length(&changed), decode(&changed));
            }
        }
        let mut long = bytes;
        long[4..8].copy_from_slice(&u32::MAX.to_ne_bytes());
        assert_eq!(length(&long), None);
    }
}
