//! The JSON reader: tokens, where we are, which keys this object has had.
//!
//! Nothing here is generic, so that one copy serves every struct.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::report::Error;
use crate::error::Problem;

/// How deep objects and arrays may nest. The specification needs 8.
const DEPTH_LIMIT: usize = 64;

/// From this many keys on, an object's keys are compared by a sorted map at its end and no longer each with each.
const MANY_KEYS: usize = 32;

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
pub(super) struct Key<'de> {
    pub(super) name: Cow<'de, str>,
    /// Where it stands.
    pub(super) at: usize,
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
    pub(super) text: &'de str,
    /// Offset of the next byte.
    pub(super) pos: usize,
    depth: usize,
    /// What the whole text is called in a config.
    pub(super) root: &'static str,
    /// Where in the config the value is that is being read.
    pub(super) path: Vec<Segment>,
    /// The keys so far of every object that is open.
    pub(super) keys: Vec<Key<'de>>,
    /// The properties of the struct whose value is read next.
    pub(super) fields: &'static [&'static str],
    /// Properties that the struct being read does not have.
    pub(super) unknown: Vec<Problem>,
    /// Offsets of keys and elements that are passed over: what is wrong with them was told before. Mostly none.
    pub(super) refused: Vec<usize>,
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
            refused: Vec::new(),
        }
    }

    /// Whether the key or element that begins at `at` is to be passed over.
    pub(super) fn is_refused(&self, at: usize) -> bool {
        !self.refused.is_empty() && self.refused.contains(&at)
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

    /// Consumes `word` if it is next.
    pub(super) fn word(&mut self, word: &str) -> bool {
        self.peek();
        let there = self.text.as_bytes().get(self.pos..).is_some_and(|rest| rest.starts_with(word.as_bytes()));
        if there {
            self.pos += word.len();
        }
        there
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

    pub(super) fn here(&self) -> Option<u8> {
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
            && !self.is_refused(at)
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
                if let Some(other) = seen.insert(name, key)
                    && !self.is_refused(key.at)
                {
                    return Err(self.twice(other, key));
                }
            }
        }
        self.keys.truncate(object.base);
        self.leave();
        Ok(())
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
