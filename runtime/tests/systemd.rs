//! Conversations with a systemd that is made up: what it answers, late, wrongly or not at all, and what becomes of it.

#![allow(clippy::unwrap_used, reason = "a test that fails is to panic")]

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tare::op::unit::{Manager, Property, Unit, Value};
use tare::run::systemd::{self, find, wire};

const UNIT: &str = "tare-box.scope";
const OURS: &str = "tare container box, bundle /b";
const JOB: &str = "/org/freedesktop/systemd1/job/7";

/// What the other side does when a method is called.
enum Does {
    /// Sends these messages.
    Says(Vec<Vec<u8>>),
    /// Closes the connection.
    Leaves,
    /// Nothing.
    Sleeps,
}

/// Bytes of a message, written without the code that is tested.
fn message(kind: u8, fields: &[(u8, &str, &[u8])], body: &[u8]) -> Vec<u8> {
    let mut head = vec![];
    for (code, signature, value) in fields {
        head.resize(usize::next_multiple_of(head.len(), 8), 0);
        head.extend([*code, 1]);
        head.extend(signature.as_bytes());
        head.push(0);
        head.extend(*value);
    }
    let length = |n: usize| u32::try_from(n).unwrap().to_ne_bytes();
    let order = if cfg!(target_endian = "little") { b'l' } else { b'B' };
    let mut all = vec![order, kind, 1, 1];
    all.extend(length(body.len()));
    all.extend(length(1));
    all.extend(length(head.len()));
    all.extend(head);
    all.resize(usize::next_multiple_of(all.len(), 8), 0);
    all.extend(body);
    all
}

fn text(text: &str) -> Vec<u8> {
    let mut bytes = u32::try_from(text.len()).unwrap().to_ne_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes.push(0);
    bytes
}

fn signature(text: &str) -> Vec<u8> {
    let mut bytes = vec![u8::try_from(text.len()).unwrap()];
    bytes.extend(text.as_bytes());
    bytes.push(0);
    bytes
}

fn reply(serial: u32, kind: &str, body: &[u8]) -> Vec<u8> {
    message(2, &[(5, "u", &serial.to_ne_bytes()), (8, "g", &signature(kind))], body)
}

fn error(serial: u32, name: &str, why: &str) -> Vec<u8> {
    let name = text(&format!("org.freedesktop.systemd1.{name}"));
    message(3, &[(5, "u", &serial.to_ne_bytes()), (4, "s", &name), (8, "g", &signature("s"))], &text(why))
}

fn property(serial: u32, value: &str) -> Vec<u8> {
    let mut body = signature("s");
    body.resize(4, 0);
    body.extend(text(value));
    reply(serial, "v", &body)
}

fn removed(job: &str, result: &str) -> Vec<u8> {
    let mut body = 7u32.to_ne_bytes().to_vec();
    for part in [job, UNIT, result] {
        body.resize(usize::next_multiple_of(body.len(), 4), 0);
        body.extend(text(part));
    }
    let fields: [(u8, &str, &[u8]); 4] = [
        (1, "o", &text("/org/freedesktop/systemd1")),
        (2, "s", &text("org.freedesktop.systemd1.Manager")),
        (3, "s", &text("JobRemoved")),
        (8, "g", &signature("uoss")),
    ];
    message(4, &fields, &body)
}

/// A systemd of one's own.
struct Fake {
    manager: Manager,
    /// Methods that were called, with the number of the connection.
    called: Arc<Mutex<Vec<String>>>,
}

impl Fake {
    fn new(name: &str, does: impl Fn(&str, u32, usize) -> Does + Send + 'static) -> Fake {
        let socket = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        // Longer than an address of a socket may be, or the program was carried to another machine, otherwise.
        let socket = if socket.as_os_str().len() > 100 || !socket.parent().unwrap().is_dir() {
            std::env::temp_dir().join(socket.file_name().unwrap())
        } else {
            socket
        };
        let _ = std::fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket).unwrap();
        let called = Arc::new(Mutex::new(Vec::new()));
        let log = called.clone();
        std::thread::spawn(move || {
            for (n, stream) in listener.incoming().enumerate() {
                let _ = serve(stream.unwrap(), n, &does, &log);
            }
        });
        let manager = Manager { socket: socket.to_str().unwrap().to_owned(), bus: false, user: false };
        Fake { manager, called }
    }

    fn called(&self) -> Vec<String> {
        self.called.lock().unwrap().clone()
    }

    fn unit(&self) -> Unit {
        let properties = vec![Property::new("Description", Value::Text(OURS.to_owned()))];
        Unit { manager: self.manager.clone(), name: UNIT.to_owned(), attach: true, properties }
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.manager.socket);
    }
}

fn serve(
    mut stream: UnixStream,
    connection: usize,
    does: &dyn Fn(&str, u32, usize) -> Does,
    log: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut said = Vec::new();
    while !said.ends_with(b"\r\nBEGIN\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        said.push(byte[0]);
    }
    assert!(said.starts_with(b"\0AUTH EXTERNAL"), "{said:?}");
    stream.write_all(b"OK 0123\r\nAGREE_UNIX_FD\r\n")?;
    loop {
        let mut bytes = vec![0; wire::FIXED];
        stream.read_exact(&mut bytes)?;
        bytes.resize(wire::length(&bytes).unwrap(), 0);
        stream.read_exact(&mut bytes[wire::FIXED..])?;
        let serial = u32::from_ne_bytes(bytes[8..12].try_into().unwrap());
        let member = wire::decode(&bytes).unwrap().name;
        log.lock().unwrap().push(member.clone());
        match does(&member, serial, connection) {
            Does::Says(messages) => messages.iter().try_for_each(|m| stream.write_all(m))?,
            Does::Leaves => return Ok(()),
            Does::Sleeps => {
                // Until the other side has had enough.
                let _ = stream.read(&mut [0]);
                return Ok(());
            }
        }
    }
}

/// What a systemd answers that has nothing against it.
fn usual(member: &str, serial: u32) -> Does {
    Does::Says(match member {
        "StartTransientUnit" | "StopUnit" => vec![reply(serial, "o", &text(JOB)), removed(JOB, "done")],
        "Get" => vec![property(serial, OURS)],
        _ => vec![reply(serial, "", &[])],
    })
}

const SHORT: Duration = Duration::from_millis(400);

#[test]
fn a_unit_is_started_and_stopped() {
    let fake = Fake::new("usual", |member, serial, _| usual(member, serial));
    systemd::start(&fake.unit(), Some(1)).unwrap();
    systemd::set(&fake.manager, UNIT, &[Property::new("MemoryMax", Value::U64(5))]).unwrap();
    systemd::stop(&fake.manager, UNIT, OURS).unwrap();
    assert_eq!(fake.called(), ["StartTransientUnit", "SetUnitProperties", "Get", "StopUnit", "ResetFailedUnit"]);
}

#[test]
fn a_job_may_end_before_its_number_is_told() {
    let fake = Fake::new("early", |member, serial, _| match member {
        "StartTransientUnit" => {
            let other = removed("/org/freedesktop/systemd1/job/6", "failed");
            Does::Says(vec![other, removed(JOB, "done"), reply(serial, "o", &text(JOB))])
        }
        _ => usual(member, serial),
    });
    systemd::start(&fake.unit(), Some(1)).unwrap();
}

#[test]
fn a_systemd_that_does_not_answer_is_not_waited_for() {
    for (name, silent) in [("deaf", "StartTransientUnit"), ("slow", "never")] {
        let fake = Fake::new(name, move |member, serial, _| match member {
            member if member == silent => Does::Sleeps,
            // The job never ends.
            "StartTransientUnit" => Does::Says(vec![reply(serial, "o", &text(JOB))]),
            _ => usual(member, serial),
        });
        let begun = Instant::now();
        let error = systemd::start_within(&fake.unit(), Some(1), SHORT).unwrap_err();
        assert!(error.text.contains("StartTransientUnit: no answer within"), "{error}");
        assert!(begun.elapsed() < SHORT * 5, "{:?}", begun.elapsed());
    }
}

#[test]
fn messages_in_small_pieces_have_one_end_together() {
    let fake = Fake::new("drip", |_, serial, _| {
        // Each of these comes in time, all of them never.
        std::thread::sleep(Duration::from_millis(150));
        Does::Says(vec![property(serial + 1000, "x")])
    });
    let begun = Instant::now();
    let flood = Fake::new("flood", |_, _, _| Does::Says(vec![removed("/other", "done"); 1000]));
    for fake in [&fake, &flood] {
        let error = systemd::stop_within(&fake.manager, UNIT, OURS, SHORT).unwrap_err();
        assert!(error.text.contains("no answer within"), "{error}");
    }
    assert!(begun.elapsed() < SHORT * 6, "{:?}", begun.elapsed());
}

#[test]
fn what_systemd_refuses_is_told_in_its_words() {
    let fake = Fake::new("refuses", |member, serial, _| match member {
        "StartTransientUnit" => Does::Says(vec![error(serial, "BadUnitSetting", "Cannot set property Foo")]),
        _ => usual(member, serial),
    });
    let said = systemd::start(&fake.unit(), Some(1)).unwrap_err().to_string();
    assert_eq!(said, "unable to start unit \"tare-box.scope\": StartTransientUnit: Cannot set property Foo");
    let fake = Fake::new("fails", |member, serial, _| match member {
        "StartTransientUnit" => Does::Says(vec![reply(serial, "o", &text(JOB)), removed(JOB, "failed")]),
        _ => usual(member, serial),
    });
    let said = systemd::start(&fake.unit(), Some(1)).unwrap_err().to_string();
    assert!(said.contains("its job ended as \"failed\""), "{said}");
    assert_eq!(fake.called(), ["StartTransientUnit", "ResetFailedUnit"]);
}

#[test]
fn a_unit_that_has_failed_gives_way_and_one_that_runs_does_not() {
    let tries = Mutex::new(0);
    let fake = Fake::new("left", move |member, serial, _| match member {
        "StartTransientUnit" => {
            *tries.lock().unwrap() += 1;
            if *tries.lock().unwrap() < 3 {
                return Does::Says(vec![error(serial, "UnitExists", "Unit tare-box.scope was already loaded")]);
            }
            usual(member, serial)
        }
        "Get" => Does::Says(vec![property(serial, "failed")]),
        _ => usual(member, serial),
    });
    systemd::start(&fake.unit(), Some(1)).unwrap();
    let fake = Fake::new("runs", |member, serial, _| match member {
        "StartTransientUnit" => Does::Says(vec![error(serial, "UnitExists", "Unit tare-box.scope was already loaded")]),
        "Get" => Does::Says(vec![property(serial, "active")]),
        _ => usual(member, serial),
    });
    let said = systemd::start(&fake.unit(), Some(1)).unwrap_err().to_string();
    assert!(said.contains("Unit tare-box.scope was already loaded"), "{said}");
}

/// Between one socket and the next there is a stale one, and for a moment none.
#[test]
fn a_systemd_whose_socket_is_made_anew_is_asked_again() {
    let unit = Fake::new("socket", |_, _, _| Does::Leaves).unit();
    let socket = unit.manager.socket.clone();
    drop(UnixListener::bind(&socket).unwrap());
    let comes = std::thread::spawn(move || {
        std::thread::sleep(SHORT / 4);
        std::fs::remove_file(socket).unwrap();
        std::thread::sleep(SHORT / 2);
        Fake::new("socket", |member, serial, _| usual(member, serial))
    });
    systemd::start(&unit, Some(1)).unwrap();
    assert_eq!(comes.join().unwrap().called(), ["StartTransientUnit"]);
}

/// One that goes for good, as a user's does at the last logout, is not waited for as long.
#[test]
fn a_systemd_that_goes_for_good_is_missed() {
    let fake = Fake::new("goes", |_, _, _| Does::Leaves);
    let unit = fake.unit();
    drop(fake);
    let begun = Instant::now();
    let error = systemd::start(&unit, Some(1)).unwrap_err();
    assert!(error.text.contains("connect: no such file or directory"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[test]
fn a_systemd_that_executes_itself_anew_is_asked_again() {
    // It has taken the first call, and what it made is there.
    let fake = Fake::new("reexec", |member, serial, connection| match (member, connection) {
        ("StartTransientUnit", 0) => Does::Leaves,
        ("Get", _) if serial % 2 == 1 => Does::Says(vec![property(serial, OURS)]),
        ("Get", _) => Does::Says(vec![property(serial, "active")]),
        _ => usual(member, serial),
    });
    systemd::start(&fake.unit(), Some(1)).unwrap();
    assert_eq!(fake.called(), ["StartTransientUnit", "Get", "Get"]);
    // What it made was still on its way when it was looked at.
    let gets = Mutex::new([OURS, "activating", "activating", "active", OURS, "active"].into_iter());
    let fake = Fake::new("late", move |member, serial, connection| match (member, connection) {
        ("StartTransientUnit", 0) => Does::Leaves,
        ("StartTransientUnit", _) => {
            Does::Says(vec![error(serial, "UnitExists", "Unit tare-box.scope was already loaded")])
        }
        ("Get", _) => Does::Says(vec![property(serial, gets.lock().unwrap().next().unwrap())]),
        _ => usual(member, serial),
    });
    systemd::start(&fake.unit(), Some(1)).unwrap();
    // It has not.
    let fake = Fake::new("anew", |member, serial, connection| match (member, connection) {
        ("StartTransientUnit", 0) => Does::Leaves,
        ("Get", _) => Does::Says(vec![property(serial, UNIT)]),
        _ => usual(member, serial),
    });
    systemd::start(&fake.unit(), Some(1)).unwrap();
    assert_eq!(fake.called(), ["StartTransientUnit", "Get", "StartTransientUnit"]);
}

#[test]
fn only_what_is_ours_is_stopped() {
    let fake = Fake::new("theirs", |_, serial, _| Does::Says(vec![property(serial, "somebody else's")]));
    systemd::stop(&fake.manager, UNIT, OURS).unwrap();
    assert_eq!(fake.called(), ["Get"]);
    let fake = Fake::new("going", |member, serial, _| match member {
        "StopUnit" => Does::Says(vec![error(serial, "NoSuchUnit", "Unit tare-box.scope not loaded.")]),
        _ => usual(member, serial),
    });
    systemd::stop(&fake.manager, UNIT, OURS).unwrap();
}

#[test]
fn nonsense_is_an_error() {
    let mut long = reply(1, "s", &[]);
    long[4..8].copy_from_slice(&u32::MAX.to_ne_bytes());
    for (name, answer) in [("text", b"HTTP/1.1 400 Bad Request\r\n".to_vec()), ("long", long)] {
        let fake = Fake::new(name, move |_, _, _| Does::Says(vec![answer.clone()]));
        let error = systemd::stop_within(&fake.manager, UNIT, OURS, SHORT).unwrap_err();
        assert!(error.text.contains("is none of D-Bus"), "{error}");
    }
    let manager = Manager { socket: "/no/such/socket".to_owned(), bus: false, user: false };
    let error = systemd::stop_within(&manager, UNIT, OURS, SHORT).unwrap_err();
    assert_eq!(error.text, "connect to /no/such/socket: connect: no such file or directory");
}

#[test]
fn a_manager_says_what_it_is() {
    let fake = Fake::new("asked", |_, serial, _| {
        let value = if serial == 1 { "257.9-1~deb13u1" } else { "/user.slice/user-7.slice/user@7.service" };
        Does::Says(vec![property(serial, value)])
    });
    let systemd = find::ask(&fake.manager).unwrap();
    assert_eq!((systemd.version, systemd.cgroup.as_str()), (257, "/user.slice/user-7.slice/user@7.service"));
}
