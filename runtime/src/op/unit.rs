//! What plans hold of systemd units: which manager is asked, for which unit, with which properties
//! (org.freedesktop.systemd1(5)).

use std::fmt;

/// The manager that is asked, by the socket that it listens on.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Manager {
    /// Path of the socket.
    pub socket: String,
    /// Whether a message bus stands between.
    pub bus: bool,
    /// Whether it is a user's manager.
    pub user: bool,
}

/// A transient unit that holds a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unit {
    /// Who makes it.
    pub manager: Manager,
    /// Its name: `libpod-abc.scope`.
    pub name: String,
    /// Whether init is put into it: a scope is never without a process, a slice begins empty.
    pub attach: bool,
    /// Its properties, all but the process.
    pub properties: Vec<Property>,
}

impl Unit {
    /// How the unit is told from another of its name.
    pub fn description(&self) -> &str {
        let found = self.properties.iter().find(|p| p.name == "Description");
        match found.map(|p| &p.value) {
            Some(Value::Text(text)) => text,
            _ => "",
        }
    }
}

/// One property of a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Property {
    /// Its name: `MemoryMax`.
    pub name: String,
    /// Its value, with the type that the manager wants.
    pub value: Value,
}

impl Property {
    /// A property.
    pub fn new(name: impl Into<String>, value: Value) -> Self {
        Property { name: name.into(), value }
    }
}

/// What a property can hold: the types of D-Bus that units use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// `b`
    Bool(bool),
    /// `y`
    Byte(u8),
    /// `n`
    I16(i16),
    /// `q`
    U16(u16),
    /// `i`
    I32(i32),
    /// `u`
    U32(u32),
    /// `x`
    I64(i64),
    /// `t`; all ones mean infinity or unset.
    U64(u64),
    /// `d`, as its bits.
    F64(u64),
    /// `s`
    Text(String),
    /// `as`
    Texts(Vec<String>),
    /// `ay`: a mask of CPUs or memory nodes, the lowest bit first.
    Mask(Vec<u8>),
    /// `a(st)`: a value for each device.
    Devices(Vec<(String, u64)>),
    /// `a(ss)`: a kind of access for each device.
    Access(Vec<(String, String)>),
}

impl Value {
    /// Its type, as D-Bus writes it.
    pub fn signature(&self) -> &'static str {
        match self {
            Value::Bool(_) => "b",
            Value::Byte(_) => "y",
            Value::I16(_) => "n",
            Value::U16(_) => "q",
            Value::I32(_) => "i",
            Value::U32(_) => "u",
            Value::I64(_) => "x",
            Value::U64(_) => "t",
            Value::F64(_) => "d",
            Value::Text(_) => "s",
            Value::Texts(_) => "as",
            Value::Mask(_) => "ay",
            Value::Devices(_) => "a(st)",
            Value::Access(_) => "a(ss)",
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Bool(yes) => f.write_str(if *yes { "yes" } else { "no" }),
            Value::Byte(n) => n.fmt(f),
            Value::I16(n) => n.fmt(f),
            Value::U16(n) => n.fmt(f),
            Value::I32(n) => n.fmt(f),
            Value::U32(n) => n.fmt(f),
            Value::I64(n) => n.fmt(f),
            Value::U64(n) => number(*n, f),
            Value::F64(bits) => f64::from_bits(*bits).fmt(f),
            Value::Text(text) => write!(f, "{text:?}"),
            Value::Texts(texts) => write!(f, "{texts:?}"),
            Value::Mask(mask) => {
                let set = (0..mask.len() * 8).filter(|n| mask[n / 8] & (1 << (n % 8)) != 0);
                f.write_str(&set.map(|n| n.to_string()).collect::<Vec<_>>().join(","))
            }
            Value::Devices(list) => list.iter().enumerate().try_for_each(|(i, (device, n))| {
                write!(f, "{}{device} ", if i == 0 { "" } else { ", " })?;
                number(*n, f)
            }),
            Value::Access(list) => list
                .iter()
                .enumerate()
                .try_for_each(|(i, (device, access))| write!(f, "{}{device} {access}", if i == 0 { "" } else { ", " })),
        }
    }
}

fn number(n: u64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if n == u64::MAX { f.write_str("infinity") } else { write!(f, "{n}") }
}
