//! Log lines in logrus' formats, where engines look for them.
//!
//! containerd shows its user the last line of the log file whose level is `error`; people read standard error. An error
//! that goes to a log file is therefore written to standard error too, plain.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use crate::cli::{Global, Level, LogFormat, LogTarget};
use crate::time::Timestamp;

const JOURNAL: &str = "/run/systemd/journal/socket";
const SYSLOG: &str = "/dev/log";

impl Level {
    /// logrus' name.
    pub fn name(self) -> &'static str {
        match self {
            Level::Error => "error",
            Level::Warning => "warning",
            Level::Info => "info",
            Level::Debug => "debug",
        }
    }

    /// syslog's number.
    fn severity(self) -> u8 {
        match self {
            Level::Error => 3,
            Level::Warning => 4,
            Level::Info => 6,
            Level::Debug => 7,
        }
    }
}

/// One line in logrus' text format, with its newline: `time="…" level=error msg="…"`.
pub fn text_line(level: Level, message: &str, now: Timestamp) -> String {
    let mut out = String::with_capacity(message.len() + 64);
    let _ = write!(out, "time=\"{}\" level={} msg=", now.rfc3339(), level.name());
    append_value(&mut out, message);
    out.push('\n');
    out
}

/// One line in logrus' JSON format, with its newline: `{"level":"error","msg":"…","time":"…"}`.
pub fn json_line(level: Level, message: &str, now: Timestamp) -> String {
    let mut out = String::with_capacity(message.len() + 64);
    let _ = write!(out, "{{\"level\":\"{}\",\"msg\":", level.name());
    append_json(&mut out, message);
    let _ = writeln!(out, ",\"time\":\"{}\"}}", now.rfc3339());
    out
}

/// logrus leaves a value bare where it holds nothing but letters, digits and `-._/@^+`, an empty one included.
fn append_value(out: &mut String, value: &str) {
    if value.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._/@^+".contains(&b)) {
        out.push_str(value);
        return;
    }
    out.push('"');
    for c in value.chars() {
        append_quoted(out, c);
    }
    out.push('"');
}

/// One character as Go's `%q` writes it. What is not printable there is here the control and format characters.
fn append_quoted(out: &mut String, c: char) {
    let short = match c {
        '"' => "\\\"",
        '\\' => "\\\\",
        '\n' => "\\n",
        '\t' => "\\t",
        '\r' => "\\r",
        '\x07' => "\\a",
        '\x08' => "\\b",
        '\x0b' => "\\v",
        '\x0c' => "\\f",
        _ => "",
    };
    let code = u32::from(c);
    // Writing to a String cannot fail.
    let _ = match c {
        _ if !short.is_empty() => write!(out, "{short}"),
        '\0'..='\x1f' | '\x7f' => write!(out, "\\x{code:02x}"),
        _ if !is_printable(c) && code < 0x1_0000 => write!(out, "\\u{code:04x}"),
        _ if !is_printable(c) => write!(out, "\\U{code:08x}"),
        _ => write!(out, "{c}"),
    };
}

/// Not printable: controls, all spaces but the plain one, line and direction marks, private use and what is no character.
fn is_printable(c: char) -> bool {
    let hidden = matches!(c,
        '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{e000}'..='\u{f8ff}' | '\u{feff}' | '\u{fff0}'..='\u{fffb}' | '\u{fffe}'..='\u{ffff}'
        | '\u{e0000}'..='\u{10ffff}');
    !hidden && !c.is_control() && (c == ' ' || !c.is_whitespace())
}

fn append_json(out: &mut String, value: &str) {
    out.push('"');
    for c in value.chars() {
        let _ = match c {
            '"' => write!(out, "\\\""),
            '\\' => write!(out, "\\\\"),
            '\n' => write!(out, "\\n"),
            '\r' => write!(out, "\\r"),
            '\t' => write!(out, "\\t"),
            '\0'..='\x1f' | '\x7f' | '\u{2028}' | '\u{2029}' => write!(out, "\\u{:04x}", u32::from(c)),
            _ => write!(out, "{c}"),
        };
    }
    out.push('"');
}

#[derive(Debug)]
enum Sink {
    Stderr,
    File(File),
    Journald { identifier: String },
    Syslog { identifier: String },
}

/// Writes what is logged to where the command line says. Nothing is formatted below the level that was asked for, and
/// only a log file is opened ahead, as an unusable one has to stop the command before it has done anything.
#[derive(Debug)]
pub struct Logger {
    level: Level,
    format: LogFormat,
    sink: Sink,
}

impl Logger {
    /// Opens the log file, if one was asked for: appended to, made with mode 0644, not inherited by children.
    ///
    /// # Errors
    /// Names the file and why it cannot be opened, as runc does: `open L: no such file or directory`.
    pub fn open(global: &Global) -> Result<Self, String> {
        let level = if global.debug { Level::Debug } else { global.log_level.unwrap_or(Level::Info) };
        let sink = match &global.log {
            LogTarget::Stderr => Sink::Stderr,
            LogTarget::File(path) => Sink::File(open_file(path)?),
            LogTarget::Journald(identifier) => Sink::Journald { identifier: identifier.clone() },
            LogTarget::Syslog(identifier) => Sink::Syslog { identifier: identifier.clone() },
        };
        Ok(Logger { level, format: global.log_format, sink })
    }

    /// A logger for what fails before there is another: text, to standard error.
    pub fn stderr() -> Self {
        Logger { level: Level::Info, format: LogFormat::Text, sink: Sink::Stderr }
    }

    /// Whether a line of this level would be written.
    pub fn enabled(&self, level: Level) -> bool {
        level <= self.level
    }

    /// Logs what the command failed of; with a log file, standard error gets the plain text as well. Call it once.
    pub fn error(&self, message: &str) {
        self.log(Level::Error, message);
        if !matches!(self.sink, Sink::Stderr) {
            // There is nobody left to tell that standard error is gone.
            let _ = writeln!(io::stderr(), "{message}");
        }
    }

    /// Logs what was lived with.
    pub fn warn(&self, message: &str) {
        self.log(Level::Warning, message);
    }

    /// Logs what is worth knowing.
    pub fn info(&self, message: &str) {
        self.log(Level::Info, message);
    }

    /// Logs a step; `message` is called only with `--debug`.
    pub fn debug(&self, message: impl FnOnce() -> String) {
        if self.enabled(Level::Debug) {
            self.log(Level::Debug, &message());
        }
    }

    fn log(&self, level: Level, message: &str) {
        if !self.enabled(level) {
            return;
        }
        let now = Timestamp::now();
        let line = || match self.format {
            LogFormat::Text => text_line(level, message, now),
            LogFormat::Json => json_line(level, message, now),
        };
        // One write a line, so that lines of processes that share the file do not mix. A log that fails cannot be
        // reported anywhere else, and is no reason to fail what is being done.
        let _ = match &self.sink {
            Sink::Stderr => io::stderr().write_all(line().as_bytes()),
            Sink::File(file) => (&*file).write_all(line().as_bytes()),
            Sink::Journald { identifier } => send(JOURNAL, &journal_entry(identifier, level, message)),
            Sink::Syslog { identifier } => send(SYSLOG, &syslog_entry(identifier, level, message)),
        };
    }
}

fn open_file(path: &Path) -> Result<File, String> {
    let opened = OpenOptions::new().append(true).create(true).mode(0o644).open(path);
    opened.map_err(|e| format!("open {}: {}", path.display(), go_style(&e)))
}

/// An error of the system as Go words it: `no such file or directory`, without its number.
fn go_style(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut chars = text.chars();
    chars.next().map(|first| first.to_ascii_lowercase().to_string() + chars.as_str()).unwrap_or_default()
}

fn send(socket: &str, datagram: &[u8]) -> io::Result<()> {
    UnixDatagram::unbound()?.send_to(datagram, socket).map(drop)
}

/// The journal's native protocol: fields a line each; one whose value has newlines goes with its length.
fn journal_entry(identifier: &str, level: Level, message: &str) -> Vec<u8> {
    let mut out = format!("PRIORITY={}\n", level.severity()).into_bytes();
    for (field, value) in [("SYSLOG_IDENTIFIER", identifier), ("MESSAGE", message)] {
        out.extend_from_slice(field.as_bytes());
        out.push(b'\n');
        out.extend_from_slice(&(value.len() as u64).to_le_bytes());
        out.extend_from_slice(value.as_bytes());
        out.push(b'\n');
    }
    out
}

/// RFC 3164 as local daemons take it: `<priority>identifier: message`, facility user.
fn syslog_entry(identifier: &str, level: Level, message: &str) -> Vec<u8> {
    format!("<{}>{identifier}: {}", 8 + level.severity(), message.replace('\n', " ")).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const THEN: Timestamp = Timestamp { seconds: 1_767_323_045, nanos: 7 };

    #[test]
    fn text_is_quoted_as_logrus_quotes() {
        for (message, want) in [
            ("container does not exist", "\"container does not exist\""),
            ("bare-word_./@^+9", "bare-word_./@^+9"),
            ("", ""),
            ("colon:", "\"colon:\""),
            ("say \"x\" \\ y", "\"say \\\"x\\\" \\\\ y\""),
            ("a\nb\tc\rd", "\"a\\nb\\tc\\rd\""),
            ("\x07\x08\x0b\x0c\x00\x1b\x7f", "\"\\a\\b\\v\\f\\x00\\x1b\\x7f\""),
            ("grüße 日本 😀", "\"grüße 日本 😀\""),
            (
                "\u{85}\u{a0}\u{200b}\u{202e}\u{fffd}\u{e000}\u{10ffff}",
                "\"\\u0085\\u00a0\\u200b\\u202e\u{fffd}\\ue000\\U0010ffff\"",
            ),
        ] {
            let line = text_line(Level::Error, message, THEN);
            assert_eq!(line, format!("time=\"2026-01-02T03:04:05Z\" level=error msg={want}\n"));
        }
        assert!(text_line(Level::Warning, "x", THEN).contains("level=warning"));
    }

    #[test]
    fn json_is_one_line_that_parses_back() {
        for message in ["plain", "q\"\\\n\r\t\x01\x7f\u{2028} ü😀", ""] {
            let line = json_line(Level::Error, message, THEN);
            assert_eq!(line.matches('\n').count(), 1);
            let value: serde_json::Value = serde_json::from_str(&line).unwrap();
            assert_eq!(value["level"], "error");
            assert_eq!(value["msg"], message);
            assert_eq!(value["time"], "2026-01-02T03:04:05Z");
        }
        let line = json_line(Level::Error, "container does not exist", THEN);
        assert_eq!(
            line,
            "{\"level\":\"error\",\"msg\":\"container does not exist\",\"time\":\"2026-01-02T03:04:05Z\"}\n"
        );
    }

    #[test]
    fn a_log_file_is_appended_to_and_debug_lines_need_debug() {
        let path = std::env::temp_dir().join(format!("tare-log-test-{}", std::process::id()));
        std::fs::write(&path, "before\n").unwrap();
        let mut global =
            Global { log: LogTarget::File(path.clone()), log_format: LogFormat::Json, ..Global::default() };
        let quiet = Logger::open(&global).unwrap();
        quiet.debug(|| unreachable!("formatted below the level"));
        quiet.warn("one");
        global.debug = true;
        Logger::open(&global).unwrap().debug(|| "two".into());
        global.debug = false;
        global.log_level = Some(Level::Error);
        Logger::open(&global).unwrap().warn("three");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert_eq!(lines[0], "before");
        assert!(lines[1].starts_with("{\"level\":\"warning\",\"msg\":\"one\""));
        assert!(lines[2].starts_with("{\"level\":\"debug\",\"msg\":\"two\""));
    }

    #[test]
    fn an_unusable_log_file_is_an_error_in_gos_words() {
        let global = Global { log: LogTarget::File("/nonexistent/x".into()), ..Global::default() };
        assert_eq!(Logger::open(&global).unwrap_err(), "open /nonexistent/x: no such file or directory");
    }

    #[test]
    fn journal_and_syslog_entries() {
        let entry = journal_entry("t", Level::Error, "a\nb");
        assert_eq!(entry, b"PRIORITY=3\nSYSLOG_IDENTIFIER\n\x01\0\0\0\0\0\0\0t\nMESSAGE\n\x03\0\0\0\0\0\0\0a\nb\n");
        assert_eq!(syslog_entry("t", Level::Warning, "a\nb"), b"<12>t: a b");
    }
}
