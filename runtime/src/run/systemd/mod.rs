//! What is asked of systemd: to make a unit, to change its properties, to stop it (org.freedesktop.systemd1(5)).
//!
//! The client is our own: five methods, one signal, and a few hundred lines, against a library with an executor. It talks to
//! systemd's own socket where it may, so no bus needs to run, and every conversation has an end in time.

use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::op::unit::{Manager, Property, Unit};

pub mod bus;
pub mod find;
pub mod wire;

use bus::Bus;
use wire::Writer;

pub use find::find;

/// How long one conversation may take. systemd is a single thread: on a host that boots, or reloads thousands of units, an
/// answer takes seconds.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// How long a manager that has gone may take to come back: one that executes itself anew first writes down all that it knows, and
/// reads it again.
const RETURN: Duration = Duration::from_secs(25);
/// And how long its socket may be missing meanwhile: it is removed before it is made anew.
const ABSENCE: Duration = Duration::from_secs(2);
/// Between one try and the next.
const PAUSE: Duration = Duration::from_millis(50);
/// How long a unit of the name that is on its way out is waited for.
const LEAVING: Duration = Duration::from_secs(5);

/// Why something could not be had of systemd.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Error {
    /// The sentence.
    pub text: String,
    /// The name of an error that systemd answered with.
    pub name: String,
    /// Whether there was nobody, or nobody any more, to answer.
    pub gone: bool,
}

/// What a conversation yields.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    fn text(text: impl Into<String>) -> Self {
        Error { text: text.into(), ..Error::default() }
    }

    fn gone(text: impl Into<String>) -> Self {
        Error { gone: true, ..Error::text(text) }
    }

    fn during(self, what: &str) -> Self {
        Error { text: format!("{what}: {}", self.text), ..self }
    }

    /// Whether it is systemd's error of that name.
    fn is(&self, name: &str) -> bool {
        self.name.strip_prefix("org.freedesktop.systemd1.") == Some(name)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Error {}

/// Makes a unit, and waits until it is there; a scope with this process in it.
///
/// # Errors
/// What systemd answers, or that it does not within [`PATIENCE`]; a unit of that name that is another's.
pub fn start(unit: &Unit, pid: Option<i32>) -> Result<()> {
    start_within(unit, pid, PATIENCE).map_err(|e| e.during(&format!("unable to start unit {:?}", unit.name)))
}

/// [`start`] with another time. One that systemd has when the connection breaks off, as it does when it executes itself
/// anew, is found again.
///
/// # Errors
/// Those of [`start`], without the name of the unit.
pub fn start_within(unit: &Unit, pid: Option<i32>, patience: Duration) -> Result<()> {
    let mut sent = false;
    converse(&unit.manager, patience, |bus| {
        let again = std::mem::replace(&mut sent, true);
        if again && is_ours(bus, unit) {
            return Ok(());
        }
        start_on(bus, unit, pid, again)
    })
}

/// Talks with a manager. One that goes in the middle may be executing itself anew: it is looked for again for a while.
fn converse<T>(manager: &Manager, patience: Duration, mut talk: impl FnMut(&mut Bus) -> Result<T>) -> Result<T> {
    let begun = Instant::now();
    let mut lost = None;
    loop {
        let left = patience.saturating_sub(begun.elapsed());
        match Bus::open(manager, left).and_then(|mut bus| talk(&mut bus)) {
            Err(e) if e.gone && begun.elapsed() + PAUSE < patience => {
                let there = Path::new(&manager.socket).exists();
                if lost.get_or_insert_with(Instant::now).elapsed() > if there { RETURN } else { ABSENCE } {
                    return Err(e);
                }
                std::thread::sleep(PAUSE);
            }
            done => return done,
        }
    }
}

/// `again`: it was asked for before, over a connection that broke off.
fn start_on(bus: &mut Bus, unit: &Unit, pid: Option<i32>, again: bool) -> Result<()> {
    let pid = pid.and_then(|pid| u32::try_from(pid).ok());
    let begun = Instant::now();
    loop {
        let mut body = Writer::default();
        body.text(&unit.name).text("replace").properties(&unit.properties, pid).no_units();
        match bus.job("StartTransientUnit", "ssa(sv)a(sa(sv))", body) {
            Ok(result) if result == "done" => return Ok(()),
            Ok(result) => {
                let _ = by_name(bus, "ResetFailedUnit", &unit.name);
                return Err(Error::text(format!("its job ended as {result:?}, the journal of the host tells why")));
            }
            Err(e) if e.is("UnitExists") => {
                // A slice may be shared; a unit that has failed is still in the way; one whose last process has just ended is
                // about to go.
                if unit.name.ends_with(".slice") {
                    return Ok(());
                }
                let _ = by_name(bus, "ResetFailedUnit", &unit.name);
                let state = bus.property(Some(&unit.name), "ActiveState")?;
                // What was asked for before may have become active only now.
                if state == "active" && again && is_ours(bus, unit) {
                    return Ok(());
                }
                if state == "active" || begun.elapsed() > LEAVING {
                    return Err(e);
                }
                std::thread::sleep(PAUSE);
            }
            Err(e) => return Err(e),
        }
    }
}

fn is_ours(bus: &mut Bus, unit: &Unit) -> bool {
    let read = |bus: &mut Bus, name| bus.property(Some(&unit.name), name).unwrap_or_default();
    read(bus, "Description") == unit.description() && read(bus, "ActiveState") == "active"
}

/// Changes properties of a unit that is there, until it goes.
///
/// # Errors
/// What systemd answers, or that it does not.
pub fn set(manager: &Manager, unit: &str, properties: &[Property]) -> Result<()> {
    if properties.is_empty() {
        return Ok(());
    }
    let mut body = Writer::default();
    body.text(unit).bool(true).properties(properties, None);
    let set = converse(manager, PATIENCE, |bus| bus.manager("SetUnitProperties", "sba(sv)", body.clone()));
    set.map(drop).map_err(|e| e.during(&format!("unable to set properties of unit {unit:?}")))
}

/// Stops a unit and lets systemd forget it, if it is the one that describes itself so. One that is not there is fine.
///
/// # Errors
/// What systemd answers, or that it does not.
pub fn stop(manager: &Manager, unit: &str, description: &str) -> Result<()> {
    stop_within(manager, unit, description, PATIENCE)
}

/// [`stop`] with another time.
///
/// # Errors
/// Those of [`stop`].
pub fn stop_within(manager: &Manager, unit: &str, description: &str, patience: Duration) -> Result<()> {
    converse(manager, patience, |bus| stop_on(bus, unit, description))
}

fn stop_on(bus: &mut Bus, unit: &str, description: &str) -> Result<()> {
    // A unit that is not there describes itself by its name.
    if bus.property(Some(unit), "Description")? != description {
        return Ok(());
    }
    let mut body = Writer::default();
    body.text(unit).text("replace");
    match bus.job("StopUnit", "ss", body) {
        Ok(result) if result == "done" => {}
        Ok(result) => return Err(Error::text(format!("its job ended as {result:?}"))),
        Err(e) if e.is("NoSuchUnit") => return Ok(()),
        Err(e) => return Err(e),
    }
    match by_name(bus, "ResetFailedUnit", unit) {
        Err(e) if !e.is("NoSuchUnit") => Err(e),
        _ => Ok(()),
    }
}

fn by_name(bus: &mut Bus, member: &str, unit: &str) -> Result<()> {
    let mut body = Writer::default();
    body.text(unit);
    bus.manager(member, "s", body).map(drop)
}
