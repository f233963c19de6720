//! Strings and their escapes.

use std::borrow::Cow;

use super::reader::Reader;
use super::report::Error;

impl<'de> Reader<'de> {
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
}
