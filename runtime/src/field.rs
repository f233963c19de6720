//! Where in the configuration something came from: `mounts[3].source`.

use std::fmt;

/// A field of `config.json`, or a part of the command line.
///
/// `[]` in the path stands for an index, filled in order; a key of a map is written behind the path:
///
/// ```
/// use tare::field::Field;
/// assert_eq!(Field::at("mounts[].options[]", &[3, 0]).to_string(), "mounts[3].options[0]");
/// assert_eq!(Field::new("linux.sysctl").key("net.ipv4.ip_forward").to_string(), "linux.sysctl[\"net.ipv4.ip_forward\"]");
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Field {
    path: &'static str,
    index: [u32; 3],
    key: Option<Box<str>>,
}

impl Field {
    /// A field without an index.
    pub const fn new(path: &'static str) -> Self {
        Field { path, index: [0; 3], key: None }
    }

    /// A field whose path holds `[]`, as many as there are indices (three at the most).
    pub fn at(path: &'static str, indices: &[usize]) -> Self {
        let mut index = [0; 3];
        for (slot, i) in index.iter_mut().zip(indices) {
            *slot = u32::try_from(*i).unwrap_or(u32::MAX);
        }
        Field { path, index, key: None }
    }

    /// A field whose path is spelled out already, as the reader of a config knows it.
    pub fn spelled(path: impl Into<Box<str>>) -> Self {
        Field { path: "", index: [0; 3], key: Some(path.into()) }
    }

    /// The same field, of the map's entry `key`.
    #[must_use]
    pub fn key(mut self, key: &str) -> Self {
        self.key = Some(key.into());
        self
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut indices = self.index.iter();
        let mut parts = self.path.split("[]");
        f.write_str(parts.next().unwrap_or_default())?;
        for part in parts {
            write!(f, "[{}]{part}", indices.next().unwrap_or(&0))?;
        }
        match &self.key {
            Some(path) if self.path.is_empty() => f.write_str(path),
            Some(key) => write!(f, "[{key:?}]"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
