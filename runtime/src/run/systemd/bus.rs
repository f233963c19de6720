//! A connection with systemd: to its own socket, or through a message bus. Everything on it has one end in time.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use super::wire::{self, Call, FIXED, Kind, Message, Reader, Writer};
use super::{Error, Result};
use crate::op::unit::Manager;
use crate::run::proc;
use crate::sys::{io_text, process, socket};

const NAME: &str = "org.freedesktop.systemd1";
const PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const BUS: (&str, &str) = ("org.freedesktop.DBus", "/org/freedesktop/DBus");
/// The signal of a job that has ended, for buses that pass on only what is asked for.
const MATCH: &str = "type='signal',interface='org.freedesktop.systemd1.Manager',member='JobRemoved'";
/// Longest line of the authentication.
const LINE_MAX: usize = 512;

/// An open connection.
#[derive(Debug)]
pub struct Bus {
    stream: UnixStream,
    bus: bool,
    serial: u32,
    end: Instant,
    patience: Duration,
    /// What has come, and was not yet looked at.
    read: Vec<u8>,
    /// Jobs that have ended, with their results: one may end before its number is known.
    ended: Vec<(String, String)>,
}

impl Bus {
    /// Connects, and says who we are.
    ///
    /// # Errors
    /// Nobody listens, or does not within the time; we are refused.
    pub fn open(manager: &Manager, patience: Duration) -> Result<Bus> {
        let end = Instant::now() + patience;
        let path =
            std::ffi::CString::new(manager.socket.as_str()).map_err(|_| Error::text("the path holds a NUL byte"))?;
        let failed = |f: crate::sys::Fault| Error::gone(format!("connect to {}: {f}", manager.socket));
        let socket = socket::connect_within(&path, patience).map_err(failed)?;
        let mut bus = Bus {
            stream: socket.into(),
            bus: manager.bus,
            serial: 0,
            end,
            patience,
            read: Vec::new(),
            ended: Vec::new(),
        };
        bus.authenticate()?;
        if bus.bus {
            bus.enter_bus()?;
        }
        Ok(bus)
    }

    /// The mechanism EXTERNAL: the kernel says who we are. Our number is of use to the other side only where it means there
    /// what it means here, so from a user namespace none is sent. All is said at once, and as systemd's own clients say it:
    /// its server is deaf to whoever does not ask for the passing of descriptors.
    fn authenticate(&mut self) -> Result<()> {
        let (uid, _) = process::effective_ids();
        let hex: String = uid.to_string().bytes().map(|b| format!("{b:02x}")).collect();
        let who = if proc::in_user_namespace() { "\r\nDATA".to_owned() } else { format!(" {hex}") };
        self.send(format!("\0AUTH EXTERNAL{who}\r\nNEGOTIATE_UNIX_FD\r\nBEGIN\r\n").as_bytes())?;
        let mut accepted = false;
        loop {
            let line = self.line().map_err(|e| e.during("authentication"))?;
            match line.split(' ').next().unwrap_or_default() {
                "DATA" if !accepted => {}
                "OK" if !accepted => accepted = true,
                // Whether descriptors could be passed is all the same to us.
                "AGREE_UNIX_FD" | "ERROR" if accepted => return Ok(()),
                _ => return Err(Error::text(format!("authentication: user {uid} is not let in: {line:?}"))),
            }
        }
    }

    /// A bus wants to be greeted, and to know what is to be passed on.
    fn enter_bus(&mut self) -> Result<()> {
        let call = |member, signature, body| Call {
            destination: Some(BUS.0),
            path: BUS.1,
            interface: BUS.0,
            member,
            signature,
            body,
        };
        self.call(&call("Hello", "", Writer::default()))?;
        let mut rule = Writer::default();
        rule.text(MATCH);
        self.call(&call("AddMatch", "s", rule))?;
        self.manager("Subscribe", "", Writer::default()).map(drop)
    }

    /// Calls a method of the manager.
    ///
    /// # Errors
    /// What it answers, or that it does not.
    pub fn manager(&mut self, member: &str, signature: &str, body: Writer) -> Result<Message> {
        let destination = self.bus.then_some(NAME);
        self.call(&Call { destination, path: PATH, interface: MANAGER, member, signature, body })
    }

    /// Reads a property that is a text, of the manager's or of a unit's.
    ///
    /// # Errors
    /// As those of [`Bus::manager`].
    pub fn property(&mut self, unit: Option<&str>, name: &str) -> Result<String> {
        let (path, interface) = match unit {
            None => (PATH.to_owned(), MANAGER),
            Some(unit) => (unit_path(unit), "org.freedesktop.systemd1.Unit"),
        };
        let mut body = Writer::default();
        body.text(interface).text(name);
        let interface = "org.freedesktop.DBus.Properties";
        let destination = self.bus.then_some(NAME);
        let answer = self.call(&Call { destination, path: &path, interface, member: "Get", signature: "ss", body })?;
        Reader::new(&answer.body).text_variant().ok_or_else(|| Error::text(format!("property {name} is no text")))
    }

    /// Starts a job by a method that answers with its path, and waits until it has ended; answers with its result.
    ///
    /// # Errors
    /// As those of [`Bus::manager`].
    pub fn job(&mut self, member: &str, signature: &str, body: Writer) -> Result<String> {
        let answer = self.manager(member, signature, body)?;
        let job = Reader::new(&answer.body).text().ok_or_else(|| Error::text("the answer holds no job"))?;
        loop {
            if let Some((_, result)) = self.ended.iter().find(|(ended, _)| *ended == job) {
                return Ok(result.clone());
            }
            let message = self.receive().map_err(|e| e.during(member))?;
            self.note(&message);
        }
    }

    fn call(&mut self, call: &Call<'_>) -> Result<Message> {
        self.serial += 1;
        let serial = self.serial;
        self.send(&call.encode(serial, true)).map_err(|e| e.during(call.member))?;
        loop {
            let message = self.receive().map_err(|e| e.during(call.member))?;
            match message.kind {
                Kind::Reply if message.reply_to == serial => return Ok(message),
                Kind::Error if message.reply_to == serial => return Err(answer(call.member, &message)),
                _ => self.note(&message),
            }
        }
    }

    /// `JobRemoved(u id, o job, s unit, s result)`
    fn note(&mut self, message: &Message) {
        if message.kind != Kind::Signal || message.name != "JobRemoved" || message.signature != "uoss" {
            return;
        }
        let mut r = Reader::new(&message.body);
        if let (Some(_), Some(job), Some(_), Some(result)) = (r.u32(), r.text(), r.text(), r.text()) {
            self.ended.push((job, result));
        }
    }

    fn left(&self) -> Result<Duration> {
        let left = self.end.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(self.late()) } else { Ok(left) }
    }

    fn late(&self) -> Error {
        Error::text(format!("no answer within {} s", self.patience.as_secs_f32()))
    }

    fn lost(&self, error: &std::io::Error) -> Error {
        match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => self.late(),
            ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => {
                Error::gone("the connection was closed")
            }
            _ => Error::text(io_text(error)),
        }
    }

    fn send(&mut self, bytes: &[u8]) -> Result<()> {
        let left = self.left()?;
        let sent = self.stream.set_write_timeout(Some(left)).and_then(|()| self.stream.write_all(bytes));
        sent.map_err(|e| self.lost(&e))
    }

    /// Takes `n` bytes of what comes, as far as time allows, however small the pieces are.
    fn take(&mut self, n: usize) -> Result<Vec<u8>> {
        while self.read.len() < n {
            let left = self.left()?;
            let mut piece = [0; 4096];
            let read = self.stream.set_read_timeout(Some(left)).and_then(|()| self.stream.read(&mut piece));
            match read {
                Ok(0) => return Err(Error::gone("the connection was closed")),
                Ok(n) => self.read.extend(&piece[..n]),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(self.lost(&e)),
            }
        }
        let rest = self.read.split_off(n);
        Ok(std::mem::replace(&mut self.read, rest))
    }

    fn line(&mut self) -> Result<String> {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            if line.len() > LINE_MAX {
                return Err(Error::text("a line without an end"));
            }
            line.extend(self.take(1)?);
        }
        Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
    }

    fn receive(&mut self) -> Result<Message> {
        let unsound = || Error::text("a message is none of D-Bus");
        let mut bytes = self.take(FIXED)?;
        let whole = wire::length(&bytes).ok_or_else(unsound)?;
        bytes.extend(self.take(whole - FIXED)?);
        wire::decode(&bytes).ok_or_else(unsound)
    }
}

/// The error that was answered, with its text.
fn answer(member: &str, message: &Message) -> Error {
    let text = match message.signature.starts_with('s') {
        true => Reader::new(&message.body).text().unwrap_or_default(),
        false => String::new(),
    };
    let text = if text.is_empty() { message.name.clone() } else { text };
    Error { name: message.name.clone(), ..Error::text(format!("{member}: {text}")) }
}

/// The object of a unit: what is no letter or digit of its name is written as `_` and two digits.
fn unit_path(unit: &str) -> String {
    let mut path = format!("{PATH}/unit/");
    for (i, b) in unit.bytes().enumerate() {
        match b {
            b'a'..=b'z' | b'A'..=b'Z' => path.push(char::from(b)),
            b'0'..=b'9' if i > 0 => path.push(char::from(b)),
            b => path.push_str(&format!("_{b:02x}")),
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::unit_path;

    #[test]
    fn a_unit_has_the_path_that_systemd_gives_it() {
        let path = unit_path("0a-b_c.scope");
        assert_eq!(path, "/org/freedesktop/systemd1/unit/_30a_2db_5fc_2escope");
    }
}
