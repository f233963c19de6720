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
        let mut bus = Bus { stream: socket.into(), bus: manager.bus, serial: 0, end, patience, ended: Vec::new() };
        bus.authenticate()?;
        if bus.bus {
            bus.enter_bus()?;
        }
        Ok(bus)
    }

    /// The mechanism EXTERNAL: the kernel says who we are. Our number is of use to the other side only where it means there
    /// what it means here, so in a user namespace none is sent, and the other side asks for it once more.
    fn authenticate(&mut self) -> Result<()> {
        if proc::in_user_namespace() {
            self.send(b"\0AUTH EXTERNAL\r\n")?;
        } else {
            let uid = process::effective_ids().0.to_string();
            let hex: String = uid.bytes().map(|b| format!("{b:02x}")).collect();
            self.send(format!("\0AUTH EXTERNAL {hex}\r\n").as_bytes())?;
        }
        loop {
            let line = self.line()?;
            match line.split(' ').next().unwrap_or_default() {
                "DATA" => self.send(b"DATA\r\n")?,
                "OK" => return self.send(b"BEGIN\r\n"),
                _ => {
                    return Err(Error::text(format!("it does not let user {} in: {line}", process::effective_ids().0)));
                }
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

    /// Reads all of `into`, as far as time allows, however small the pieces are in which it comes.
    fn fill(&mut self, into: &mut [u8]) -> Result<()> {
        let mut at = 0;
        while at < into.len() {
            let left = self.left()?;
            let read = self.stream.set_read_timeout(Some(left)).and_then(|()| self.stream.read(&mut into[at..]));
            match read {
                Ok(0) => return Err(Error::gone("the connection was closed")),
                Ok(n) => at += n,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(self.lost(&e)),
            }
        }
        Ok(())
    }

    fn line(&mut self) -> Result<String> {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let mut byte = [0];
            self.fill(&mut byte).map_err(|e| e.during("the authentication"))?;
            line.push(byte[0]);
            if line.len() > LINE_MAX {
                return Err(Error::text("the authentication is answered without an end"));
            }
        }
        Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
    }

    fn receive(&mut self) -> Result<Message> {
        let mut fixed = [0; FIXED];
        self.fill(&mut fixed)?;
        let unsound = || Error::text("a message is none of D-Bus");
        let mut bytes = fixed.to_vec();
        bytes.resize(wire::length(&fixed).ok_or_else(unsound)?, 0);
        self.fill(&mut bytes[FIXED..])?;
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
