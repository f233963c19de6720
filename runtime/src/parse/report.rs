//! What the reader tells: only here do paths, lines and likeness of names cost anything.

use std::borrow::Cow;

use serde::de::Expected;

use super::position;
use super::reader::{Key, Reader, Segment};
use crate::error::{Problem, Problems};
use crate::field::Field;

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
        Error::new(text).or_at(second.at)
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
