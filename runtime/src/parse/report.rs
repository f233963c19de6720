//! What the reader tells: only here do paths, lines and likeness of names cost anything.

use std::borrow::Cow;

use serde::de::Expected;

use super::position;
use super::reader::{Key, Reader, Segment};
use crate::error::{Problem, Problems};
use crate::field::Field;

/// How many unknown properties are told of.
const UNKNOWN_LIMIT: usize = 100;

/// How many errors are told of.
pub(super) const ERROR_LIMIT: usize = 32;

/// What was found by now, pass after pass.
#[derive(Default)]
pub(super) struct Found {
    pub(super) problems: Problems,
    /// Where, and of which missing property.
    at: Vec<(usize, Option<&'static str>)>,
    /// The paths that are passed over.
    refused: Vec<String>,
}

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
    /// Where the key stands that is to be passed over so that what follows can be read; else that of the path's end.
    key: Option<usize>,
    /// Whether the text is JSON all the same, and can be read on.
    sound: bool,
}

impl Error {
    pub(super) fn new(text: String) -> Self {
        Error(Box::new(Fault { text, at: None, child: None, key: None, sound: false }))
    }

    /// The property `child` of the object at the reader's path is missing.
    pub(super) fn missing(child: &'static str) -> Self {
        let text = "is required".to_owned();
        Error(Box::new(Fault { text, at: None, child: Some(child), key: None, sound: true }))
    }

    /// The same error, in a text that can be read on.
    pub(super) fn in_sound_text(mut self) -> Self {
        self.0.sound = true;
        self
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

impl Reader<'_> {
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

    #[cold]
    pub(super) fn twice(&self, first: &Key<'_>, second: &Key<'_>) -> Error {
        let (line, column) = position(self.text.as_bytes(), first.at);
        let (a, b) = (quote(&first.name), quote(&second.name));
        let text = if first.name == second.name {
            format!("has the key `{a}` twice, first at line {line}, column {column}")
        } else {
            format!("has the keys `{a}` (line {line}, column {column}) and `{b}`, which differ in case only")
        };
        let mut error = Error::new(text).or_at(second.at);
        error.0.key = Some(second.at);
        error.in_sound_text()
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
        Error::new(format!("is {found}; expected {}", words(wanted))).or_at(at).in_sound_text()
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

    /// Passes over the value whose key was just read, if it is refused.
    pub(super) fn passes_key(&mut self) -> Result<bool, Error> {
        let refused = self.keys.last().is_some_and(|key| self.is_refused(key.at));
        if refused { self.skip().map(|()| true) } else { Ok(false) }
    }

    /// Passes over the element that is next, if it is refused.
    pub(super) fn passes_element(&mut self) -> Result<bool, Error> {
        self.peek();
        if self.is_refused(self.pos) { self.skip().map(|()| true) } else { Ok(false) }
    }

    /// Notes the error, with the path that the reader was at. Says which key or element may be passed over, so that what
    /// else is wrong can be seen: none where the text itself is broken.
    pub(super) fn report(&self, error: Error, whole: &'static str, found: &mut Found) -> Option<usize> {
        let Fault { text, at, child, key, sound } = *error.0;
        let offset = at.unwrap_or(self.pos);
        if found.at.contains(&(offset, child)) {
            return None;
        }
        found.at.push((offset, child));
        let path = self.path_text(child);
        // What was refused is missing only because of that.
        if child.is_none() || !found.refused.contains(&path) {
            let (line, column) = position(self.text.as_bytes(), offset);
            let field = if path.is_empty() { Field::new(whole) } else { Field::spelled(path) };
            found.problems.error(field, format!("{text} (line {line}, column {column})"));
        }
        if !sound {
            return None;
        }
        found.refused.push(self.path_text(None));
        key.or_else(|| match self.path.last()? {
            Segment::Property(i) | Segment::Entry(i) => self.keys.get(*i).map(|key| key.at),
            Segment::Index(_) => at,
        })
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
