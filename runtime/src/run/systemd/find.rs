//! Which systemd is asked: the host's, or the user's.

use std::path::Path;
use std::time::{Duration, Instant};

use super::bus::Bus;
use super::{Error, PATIENCE, PAUSE, RETURN, Result};
use crate::facts::Systemd;
use crate::op::unit::Manager;
use crate::run::proc;
use crate::sys::process;

/// The host's own socket, which needs no bus, and the bus that others must go by.
const SYSTEM: [(&str, bool); 2] = [("/run/systemd/private", false), ("/run/dbus/system_bus_socket", true)];

/// Finds the systemd that makes this user's cgroups, and asks what it is. `rootless` is the word of the command line on
/// whether that is the user's own; without one, root's is the host's, and that of a user namespace's root is the one of who is
/// root there: everybody may connect to the host's, and call nothing.
///
/// # Errors
/// There is none, or it does not answer.
pub fn find(rootless: Option<bool>) -> Result<Systemd> {
    let user = rootless.unwrap_or_else(|| {
        let root = process::effective_ids().0 == 0;
        let outside =
            || proc::outer_uid() == 0 && system().iter().any(|m| Bus::open(m, Duration::from_secs(1)).is_ok());
        !root || (proc::in_user_namespace() && !outside())
    });
    // sd_booted(3)
    if !user && !Path::new("/run/systemd/system").is_dir() {
        return Err(Error::text(UNAVAILABLE));
    }
    let begun = Instant::now();
    loop {
        let (mut why, mut returning) = (Vec::new(), false);
        for manager in if user { users() } else { system() } {
            match ask(&manager) {
                Ok(systemd) => return Ok(systemd),
                Err(e) => {
                    returning |= e.gone;
                    why.push(e.text);
                }
            }
        }
        if !returning || begun.elapsed() > RETURN {
            let what = if user { NO_USER } else { UNAVAILABLE };
            return Err(Error::text(if why.is_empty() {
                what.to_owned()
            } else {
                format!("{what}: {}", why.join("; "))
            }));
        }
        // It executes itself anew, perhaps.
        std::thread::sleep(PAUSE);
    }
}

const UNAVAILABLE: &str = "systemd cgroup flag passed, but systemd support for managing cgroups is not available";
const NO_USER: &str = "systemd cgroup flag passed, but no systemd of this user's can be reached";

fn system() -> Vec<Manager> {
    let all = SYSTEM.map(|(socket, bus)| Manager { socket: socket.to_owned(), bus, user: false });
    all.into_iter().filter(|m| Path::new(&m.socket).exists()).collect()
}

/// The user's: its own socket, the bus that the environment names, and the bus at its usual place.
fn users() -> Vec<Manager> {
    let text = |name| std::env::var(name).ok().filter(|v| !v.is_empty());
    let runtime = text("XDG_RUNTIME_DIR").filter(|d| d.starts_with('/'));
    let runtime = runtime.unwrap_or_else(|| format!("/run/user/{}", proc::outer_uid()));
    let named = text("DBUS_SESSION_BUS_ADDRESS").and_then(|address| path_of(&address));
    let own = (format!("{runtime}/systemd/private"), false);
    let buses = named.into_iter().chain([format!("{runtime}/bus")]).map(|socket| (socket, true));
    let mut all: Vec<Manager> = Vec::new();
    for (socket, bus) in std::iter::once(own).chain(buses) {
        if !all.iter().any(|m| m.socket == socket) && Path::new(&socket).exists() {
            all.push(Manager { socket, bus, user: true });
        }
    }
    all
}

/// The path of a bus's address: `unix:path=/run/user/1000/bus,guid=…`, of several the first that has one.
fn path_of(address: &str) -> Option<String> {
    let paths = address.split(';').filter_map(|one| {
        let options = one.strip_prefix("unix:")?;
        options.split(',').find_map(|option| option.strip_prefix("path="))
    });
    paths.map(unescape).next()
}

/// `%2f` is a slash.
fn unescape(text: &str) -> String {
    let mut parts = text.split('%');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                out.push(char::from(byte));
                out.push_str(&part[2..]);
            }
            None => out.push_str(part),
        }
    }
    out
}

/// What kind of systemd it is.
///
/// # Errors
/// It does not answer.
pub fn ask(manager: &Manager) -> Result<Systemd> {
    let mut bus = Bus::open(manager, PATIENCE)?;
    let (version, cgroup) = (bus.property(None, "Version")?, bus.property(None, "ControlGroup")?);
    Ok(Systemd { manager: manager.clone(), version: number(&version), cgroup })
}

/// `257.9-1~deb13u1` is 257; distributions have written `v257` and `systemd 257`, too.
fn number(version: &str) -> u32 {
    let digits = version.trim_start_matches(|c: char| !c.is_ascii_digit());
    let digits = digits.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
    digits.parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_numbers() {
        for version in ["257.9-1~deb13u1", "257", "v257-rc1", "systemd 257"] {
            assert_eq!(number(version), 257, "{version}");
        }
        assert_eq!(number("next"), 0);
    }

    #[test]
    fn addresses_of_buses_hold_paths() {
        assert_eq!(path_of("unix:path=/run/user/7/bus").unwrap(), "/run/user/7/bus");
        assert_eq!(path_of("unix:abstract=x,guid=1;unix:guid=2,path=/a%20b%2fc").unwrap(), "/a b/c");
        assert_eq!(path_of("tcp:host=localhost"), None);
        assert_eq!(path_of("unix:path=/a%zz%2").unwrap(), "/azz2");
    }
}
