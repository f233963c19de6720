//! The JSON reader: tokens, where we are, which keys this object has had.
//!
//! Nothing here is generic, so that one copy serves every struct.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::de::Expected;

use super::position;
use crate::error::{Problem, Problems};
use crate::field::Field;

/// How deep objects and arrays may nest. The specification needs 8.
const DEPTH_LIMIT: usize = 64;

/// From this many keys on, an object's keys are compared by a sorted map at its end and no longer each with each.
const MANY_KEYS: usize = 32;

/// How many unknown properties are told of.
const UNKNOWN_LIMIT: usize = 100;

/// How many bytes of the config's own text an error repeats.
const QUOTE_LIMIT: usize = 80;

/// What is wrong, boxed: a `Result` of a good value should not carry the room for it.
#[derive(Debug)]
pub(super) struct Error(Box<Fault>);

/// What is wrong and where. The path is that of the reader when it stopped.
#[derive(Debug)]
struct Fault {
    text: String,
    at: Option<usize>,
    child: Option<&'static str>,
}

impl Error {
    pub(super) fn new(text: String) -> Self {
        Error(Box::new(Fault { text, at: None, child: None }))
    }

    /// The property `child` of the object at the reader's path is missing.
    pub(super) fn missing(child: &'static str) -> Self {
        Error(Box::new(Fault { text: "is required".to_owned(), at: None, child: Some(child) }))
    }

    /// The same error, at `offset` unless its place is known more exactly.
    pub(super) fn or_at(mut self, offset: usize) -> Self {
        self.0.at.get_or_insert(offset);
        self
    }

    pub(super) fn text(&self) -> &str {
        &self.0.text
    }
}

/// A step of the path to the value that is being read.
pub(super) enum Segment {
    /// A property of a struct: a place in [`Reader::keys`].
    Property(usize),
    /// An entry of a map whose keys the author chose: a place in [`Reader::keys`].
    Entry(usize),
    /// An element of an array.
    Index(usize),
}

/// A key of an object that is still open.
struct Key<'de> {
    name: Cow<'de, str>,
    at: usize,
    ascii: bool,
}

/// What an object's keys are, which decides when two of them are the same.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Keys {
    /// Properties of a struct: differing in case does not make two.
    Properties,
    /// The author's own: taken literally.
    Entries,
}

/// An object that is being read.
pub(super) struct Object {
    base: usize,
    keys: Keys,
    open: bool,
}

/// The text and how far it is read.
pub(super) struct Reader<'de> {
    text: &'de str,
    pos: usize,
    depth: usize,
    root: &'static str,
    path: Vec<Segment>,
    keys: Vec<Key<'de>>,
    /// The properties of the struct whose value is read next.
    pub(super) fields: &'static [&'static str],
    /// Properties that the struct being read does not have.
    pub(super) unknown: Vec<Problem>,
}

impl<'de> Reader<'de> {
    pub(super) fn new(text: &'de str, root: &'static str) -> Self {
        Reader {
            text,
            pos: 0,
            depth: 0,
            root,
            path: Vec::with_capacity(16),
            keys: Vec::with_capacity(64),
            fields: &[],
            unknown: Vec::new(),
        }
    }

    /// The next byte that is no white space, not consumed.
    pub(super) fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while let Some(byte) = bytes.get(self.pos) {
            if !matches!(byte, b' ' | b'\n' | b'\t' | b'\r') {
                return Some(*byte);
            }
            self.pos += 1;
        }
        None
    }

    pub(super) fn pos(&self) -> usize {
        self.pos
    }

    /// Consumes `byte` if it is next.
    pub(super) fn take(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.pos += usize::from(there);
        there
    }

    /// Nothing may follow the value.
    pub(super) fn end(&mut self) -> Result<(), Error> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.syntax("the end of the file")),
        }
    }

    /// The text does not go on with `what`.
    #[cold]
    pub(super) fn syntax(&mut self, what: &str) -> Error {
        let text = match self.peek() {
            None => format!("the file ends where {what} is expected"),
            Some(_) => {
                let found = self.text.get(self.pos..).and_then(|rest| rest.chars().next()).unwrap_or('\u{fffd}');
                format!("found {found:?} where {what} is expected")
            }
        };
        Error::new(text).or_at(self.pos)
    }

    /// Consumes `word` if it is next.
    pub(super) fn word(&mut self, word: &str) -> bool {
        self.peek();
        let there = self.text.as_bytes().get(self.pos..).is_some_and(|rest| rest.starts_with(word.as_bytes()));
        if there {
            self.pos += word.len();
        }
        there
    }

    /// Consumes a string.
    pub(super) fn string(&mut self) -> Result<Cow<'de, str>, Error> {
        if !self.take(b'"') {
            return Err(self.syntax("a string"));
        }
        let start = self.pos;
        let rest = self.text.as_bytes().get(start..).unwrap_or_default();
        let Some(len) = rest.iter().position(|b| matches!(b, b'"' | b'\\' | 0..0x20)) else {
            self.pos = self.text.len();
            return Err(self.syntax("the end of a string"));
        };
        self.pos += len;
        let plain = &self.text[start..self.pos];
        if rest[len] == b'"' {
            self.pos += 1;
            return Ok(Cow::Borrowed(plain));
        }
        self.string_with_escapes(plain.to_owned()).map(Cow::Owned)
    }

    /// Consumes the rest of a string whose beginning needed no change.
    #[cold]
    fn string_with_escapes(&mut self, mut out: String) -> Result<String, Error> {
        loop {
            let rest = &self.text[self.pos..];
            let len = rest.bytes().position(|b| matches!(b, b'"' | b'\\' | 0..0x20)).unwrap_or(rest.len());
            out.push_str(&rest[..len]);
            self.pos += len;
            match rest.as_bytes().get(len) {
                None => return Err(self.syntax("the end of a string")),
                Some(b'"') => {
                    self.pos += 1;
                    return Ok(out);
                }
                Some(b'\\') => out.push(self.escape()?),
                Some(control) => {
                    let text =
                        format!("a string holds the control character {:?}; write it escaped", char::from(*control));
                    return Err(Error::new(text).or_at(self.pos));
                }
            }
        }
    }

    /// Consumes an escape, its backslash included.
    fn escape(&mut self) -> Result<char, Error> {
        let at = self.pos;
        self.pos += 1;
        let letter = self.text.as_bytes().get(self.pos).copied();
        self.pos += usize::from(letter.is_some_and(|b| b.is_ascii()));
        Ok(match letter {
            Some(plain @ (b'"' | b'\\' | b'/')) => char::from(plain),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode_escape(at),
            None => return Err(self.syntax("an escape")),
            Some(_) => return Err(Error::new("a string holds an escape that JSON does not have".to_owned()).or_at(at)),
        })
    }

    /// Consumes the digits behind `\u`, and the second escape of a surrogate pair. `at` is where the escape begins.
    fn unicode_escape(&mut self, at: usize) -> Result<char, Error> {
        let mut code = self.hex4(at)?;
        if (0xd800..0xdc00).contains(&code)
            && self.text.as_bytes().get(self.pos..).is_some_and(|r| r.starts_with(b"\\u"))
        {
            self.pos += 2;
            let low = self.hex4(at)?;
            if (0xdc00..0xe000).contains(&low) {
                code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
            }
        }
        char::from_u32(code).ok_or_else(|| Error::new("a string holds half of a surrogate pair".to_owned()).or_at(at))
    }

    fn hex4(&mut self, at: usize) -> Result<u32, Error> {
        let digits = self.text.as_bytes().get(self.pos..self.pos + 4).unwrap_or_default();
        let code = digits.iter().try_fold(0, |code, b| Some(code * 16 + char::from(*b).to_digit(16)?));
        match code {
            Some(code) if digits.len() == 4 => {
                self.pos += 4;
                Ok(code)
            }
            _ => Err(Error::new("\\u needs four hexadecimal digits".to_owned()).or_at(at)),
        }
    }

    /// Consumes a number and gives its text.
    pub(super) fn number(&mut self) -> Result<&'de str, Error> {
        let start = self.pos;
        self.pos += usize::from(self.here() == Some(b'-'));
        if self.here() == Some(b'0') {
            self.pos += 1;
        } else {
            self.digits()?;
        }
        if self.here() == Some(b'.') {
            self.pos += 1;
            self.digits()?;
        }
        if matches!(self.here(), Some(b'e' | b'E')) {
            self.pos += 1;
            self.pos += usize::from(matches!(self.here(), Some(b'+' | b'-')));
            self.digits()?;
        }
        if self.here().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'.') {
            return Err(self.syntax("the end of a number"));
        }
        Ok(&self.text[start..self.pos])
    }

    fn here(&self) -> Option<u8> {
        self.text.as_bytes().get(self.pos).copied()
    }

    fn digits(&mut self) -> Result<(), Error> {
        let start = self.pos;
        while self.here().is_some_and(|b| b.is_ascii_digit()) {
            self.pos += 1;
        }
        if self.pos == start { Err(self.syntax("a digit")) } else { Ok(()) }
    }

    /// One level deeper.
    pub(super) fn enter(&mut self) -> Result<(), Error> {
        self.depth += 1;
        if self.depth > DEPTH_LIMIT {
            return Err(Error::new(format!("is nested deeper than {DEPTH_LIMIT} levels")).or_at(self.pos));
        }
        Ok(())
    }

    /// One level up.
    pub(super) fn leave(&mut self) {
        self.depth -= 1;
    }

    /// Begins an object, whose brace is consumed.
    pub(super) fn object(&mut self, keys: Keys) -> Result<Object, Error> {
        self.enter()?;
        Ok(Object { base: self.keys.len(), keys, open: false })
    }

    /// Consumes up to the next key's colon and puts the key on the path, or consumes the closing brace and gives none.
    pub(super) fn key(&mut self, object: &mut Object) -> Result<Option<&Cow<'de, str>>, Error> {
        if object.open {
            self.path.pop();
        }
        if self.take(b'}') {
            self.close(object)?;
            return Ok(None);
        }
        if object.open && !self.take(b',') {
            return Err(self.syntax("`,` or `}`"));
        }
        if self.peek() != Some(b'"') {
            return Err(self.syntax("a key in quotation marks"));
        }
        let at = self.pos;
        let name = self.string()?;
        let key = Key { ascii: name.is_ascii(), name, at };
        let siblings = &self.keys[object.base..];
        if siblings.len() < MANY_KEYS
            && let Some(other) = siblings.iter().find(|other| same(other, &key, object.keys))
        {
            return Err(self.twice(other, &key));
        }
        let index = self.keys.len();
        self.path.push(match object.keys {
            Keys::Properties => Segment::Property(index),
            Keys::Entries => Segment::Entry(index),
        });
        self.keys.push(key);
        object.open = true;
        if !self.take(b':') {
            return Err(self.syntax("`:`"));
        }
        Ok(self.keys.last().map(|key| &key.name))
    }

    /// Ends an object: compares its keys if they were too many to be compared one by one.
    fn close(&mut self, object: &Object) -> Result<(), Error> {
        let keys = &self.keys[object.base..];
        if keys.len() > MANY_KEYS {
            let mut seen = BTreeMap::new();
            for key in keys {
                let name = if object.keys == Keys::Properties { fold(&key.name) } else { key.name.to_string() };
                if let Some(other) = seen.insert(name, key) {
                    return Err(self.twice(other, key));
                }
            }
        }
        self.keys.truncate(object.base);
        self.leave();
        Ok(())
    }

    #[cold]
    fn twice(&self, first: &Key<'_>, second: &Key<'_>) -> Error {
        let (line, column) = position(self.text.as_bytes(), first.at);
        let (a, b) = (quote(&first.name), quote(&second.name));
        let text = if first.name == second.name {
            format!("has the key `{a}` twice, first at line {line}, column {column}")
        } else {
            format!("has the keys `{a}` (line {line}, column {column}) and `{b}`, which differ in case only")
        };
        Error::new(text).or_at(second.at)
    }

    /// Goes on to an array's next element, or consumes the closing bracket and gives false. `index` is that element's.
    pub(super) fn element(&mut self, index: usize) -> Result<bool, Error> {
        if index > 0 {
            self.path.pop();
        }
        if self.take(b']') {
            self.leave();
            return Ok(false);
        }
        if index > 0 && !self.take(b',') {
            return Err(self.syntax("`,` or `]`"));
        }
        self.path.push(Segment::Index(index));
        Ok(true)
    }

    /// Consumes any value.
    pub(super) fn skip(&mut self) -> Result<(), Error> {
        match self.peek() {
            Some(b'"') => self.string().map(drop),
            Some(b'-' | b'0'..=b'9') => self.number().map(drop),
            Some(b'{') => {
                self.pos += 1;
                let mut object = self.object(Keys::Entries)?;
                while self.key(&mut object)?.is_some() {
                    self.skip()?;
                }
                Ok(())
            }
            Some(b'[') => {
                self.pos += 1;
                self.enter()?;
                let mut index = 0;
                while self.element(index)? {
                    self.skip()?;
                    index += 1;
                }
                Ok(())
            }
            _ if self.word("true") || self.word("false") || self.word("null") => Ok(()),
            _ => Err(self.syntax("a value")),
        }
    }

    /// The value that is next is not of the wanted type.
    #[cold]
    pub(super) fn mismatch(&mut self, wanted: &dyn Expected) -> Error {
        self.peek();
        let at = self.pos;
        let found = match self.here() {
            Some(b'{') => "an object".to_owned(),
            Some(b'[') => "an array".to_owned(),
            Some(b'"') => match self.string() {
                Ok(string) => format!("the string {:?}", quote(&string)),
                Err(error) => return error,
            },
            _ => match self.skip() {
                Ok(()) => quote(&self.text[at..self.pos]).into_owned(),
                Err(error) => return error,
            },
        };
        Error::new(format!("is {found}; expected {}", words(wanted))).or_at(at)
    }

    /// Notes that the property on top of the path is none of its struct's.
    #[cold]
    pub(super) fn note_unknown(&mut self) {
        let Some(key) = self.keys.last() else { return };
        if self.unknown.len() >= UNKNOWN_LIMIT || (self.path.len() == 1 && super::unknown::of_other_platform(&key.name))
        {
            return;
        }
        let (line, column) = position(self.text.as_bytes(), key.at);
        let hint = super::unknown::closest(&key.name, self.fields).map(|name| format!("did you mean `{name}`?"));
        let text = format!("is no property of the specification (line {line}, column {column})");
        self.unknown.push(Problem { field: Field::spelled(self.path_text(None)), text, hint });
    }

    /// The error, with the path that the reader was at.
    pub(super) fn report(&self, error: Error, whole: &'static str) -> Problems {
        let Fault { text, at, child } = *error.0;
        let (line, column) = position(self.text.as_bytes(), at.unwrap_or(self.pos));
        let path = self.path_text(child);
        let field = if path.is_empty() { Field::new(whole) } else { Field::spelled(path) };
        let mut problems = Problems::default();
        problems.error(field, format!("{text} (line {line}, column {column})"));
        problems
    }

    fn path_text(&self, child: Option<&str>) -> String {
        use std::fmt::Write as _;
        let mut out = self.root.to_owned();
        let dot = |out: &mut String, name: &str| {
            if !out.is_empty() {
                out.push('.');
            }
            out.push_str(name);
        };
        let name = |i: usize| self.keys.get(i).map_or(Cow::Borrowed("?"), |key| quote(&key.name));
        for segment in &self.path {
            match *segment {
                Segment::Property(i) if name(i).bytes().all(|b| b.is_ascii_alphanumeric()) => dot(&mut out, &name(i)),
                // Writing to a String cannot fail.
                Segment::Property(i) | Segment::Entry(i) => drop(write!(out, "[{:?}]", name(i))),
                Segment::Index(i) => drop(write!(out, "[{i}]")),
            }
        }
        if let Some(child) = child {
            dot(&mut out, child);
        }
        out
    }
}

/// Whether two keys of an object are one.
fn same(a: &Key<'_>, b: &Key<'_>, keys: Keys) -> bool {
    match keys {
        Keys::Entries => a.name == b.name,
        Keys::Properties if a.ascii && b.ascii => a.name.eq_ignore_ascii_case(&b.name),
        Keys::Properties => fold(&a.name) == fold(&b.name),
    }
}

/// A key as Go's encoding/json compares it: without case, and with the two letters beyond ASCII that fold into it.
fn fold(name: &str) -> String {
    let letter = |c: char| match c {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        c => c,
    };
    name.chars().map(letter).flat_map(char::to_lowercase).collect()
}

/// A piece of the config, short enough for a message.
pub(super) fn quote(text: &str) -> Cow<'_, str> {
    if text.len() <= QUOTE_LIMIT {
        return Cow::Borrowed(text);
    }
    let end = (0..=QUOTE_LIMIT).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
    Cow::Owned(format!("{}…", &text[..end]))
}

/// What serde's derived code expects, in the words of someone who writes JSON.
pub(super) fn words(wanted: &dyn Expected) -> String {
    let wanted = wanted.to_string();
    match wanted.as_str() {
        "u16" => "an integer from 0 to 65535",
        "u32" => "an integer from 0 to 4294967295",
        "u64" => "an integer from 0 to 18446744073709551615",
        "i32" => "an integer from -2147483648 to 2147483647",
        "i64" => "an integer from -9223372036854775808 to 9223372036854775807",
        "a boolean" => "true or false",
        "a sequence" => "an array",
        "a map" => "an object",
        name if name.starts_with("struct ") => "an object",
        other => other,
    }
    .to_owned()
}
