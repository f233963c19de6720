//! What `list`, `ps` and `state` print: rows in, text out.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

/// A container as `state` and `list -f json` show it. Paths are absolute, `pid` is 0 once the container is stopped.
#[derive(Debug, Clone, Serialize)]
pub struct ContainerState<'a> {
    /// The config's `ociVersion`.
    #[serde(rename = "ociVersion")]
    pub oci_version: &'a str,
    /// The container's id.
    pub id: &'a str,
    /// The process, in the caller's pid namespace.
    pub pid: i32,
    /// `created`, `running`, `paused` or `stopped`.
    pub status: &'a str,
    /// The bundle's directory.
    pub bundle: &'a str,
    /// The root filesystem's directory.
    pub rootfs: &'a str,
    /// When it was created, RFC 3339 with nanoseconds, UTC.
    pub created: &'a str,
    /// The user's name, or `#uid` where it has none.
    pub owner: &'a str,
    /// The config's annotations.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<&'a str, &'a str>,
}

/// What `state` prints: indented JSON, no newline after it, as runc writes it.
///
/// # Errors
/// None that can happen: the keys are text.
pub fn state_json(state: &ContainerState<'_>) -> Result<String, serde_json::Error> {
    serde_json::to_string_pretty(state)
}

/// What `list -f json` prints: one line, sorted by id. No container is an empty array.
///
/// # Errors
/// None that can happen: the keys are text.
pub fn list_json(states: &mut [ContainerState<'_>]) -> Result<String, serde_json::Error> {
    states.sort_by(|a, b| a.id.cmp(b.id));
    let mut text = serde_json::to_string(states)?;
    text.push('\n');
    Ok(text)
}

/// What `list` prints: runc's columns, sorted by id.
pub fn list_table(states: &mut [ContainerState<'_>]) -> String {
    states.sort_by(|a, b| a.id.cmp(b.id));
    let pids: Vec<String> = states.iter().map(|state| state.pid.to_string()).collect();
    let head = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"];
    let rows = states.iter().zip(&pids).map(|(s, pid)| [s.id, pid, s.status, s.bundle, s.created, s.owner]);
    columns(std::iter::once(head).chain(rows), 12, 3)
}

/// Go's tabwriter: a column is as wide as its widest cell and `padding`, but `least` at the least; the last is not
/// padded.
pub fn columns<const N: usize>(
    rows: impl Iterator<Item = [impl AsRef<str>; N]>,
    least: usize,
    padding: usize,
) -> String {
    let rows: Vec<_> = rows.collect();
    let mut widths = [least; N];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.as_ref().chars().count() + padding);
        }
    }
    let mut out = String::new();
    for row in &rows {
        let (last, cells) = row.split_last().map_or(("", &row[..0]), |(last, cells)| (last.as_ref(), cells));
        for (cell, width) in cells.iter().zip(widths) {
            let _ = write!(out, "{:width$}", cell.as_ref());
        }
        out.push_str(last);
        out.push('\n');
    }
    out
}

/// A process as `ps` shows it.
#[derive(Debug, Clone)]
pub struct PsRow {
    /// The user's name or number.
    pub uid: String,
    /// The process.
    pub pid: i32,
    /// Its parent.
    pub ppid: i32,
    /// CPU use over its life, percent.
    pub c: u32,
    /// When it was started: `HH:MM`, or a date.
    pub stime: String,
    /// Its terminal, or `?`.
    pub tty: String,
    /// CPU time, `HH:MM:SS`.
    pub time: String,
    /// Its command line.
    pub cmd: String,
}

/// What `ps` prints by itself: the columns of `ps -ef`, where numbers stand to the right.
pub fn ps_table(rows: &[PsRow]) -> String {
    let uid = rows.iter().map(|row| row.uid.chars().count()).max().unwrap_or(0).max(8);
    let tty = rows.iter().map(|row| row.tty.chars().count()).max().unwrap_or(0).max(8);
    let mut out =
        format!("{:<uid$} {:>7} {:>7}  C {:<5} {:<tty$} {:>8} CMD\n", "UID", "PID", "PPID", "STIME", "TTY", "TIME");
    for row in rows {
        let _ = write!(out, "{:<uid$} {:>7} {:>7} {:>2} ", row.uid, row.pid, row.ppid, row.c);
        let _ = writeln!(out, "{:<5} {:<tty$} {:>8} {}", row.stime, row.tty, row.time, row.cmd);
    }
    out
}

/// What `ps -f json` prints: the process ids in one line.
pub fn ps_json(pids: &[i32]) -> String {
    let mut text = String::from("[");
    for (at, pid) in pids.iter().enumerate() {
        let _ = write!(text, "{}{pid}", if at == 0 { "" } else { "," });
    }
    text.push_str("]\n");
    text
}

/// What `ps ID OPTIONS…` prints: of the output of ps(1), the head and the lines of the container's processes.
///
/// # Errors
/// The output has no `PID` column, or a line has no number in it.
pub fn ps_filter(output: &str, pids: &[i32]) -> Result<String, String> {
    let mut lines = output.lines();
    let head = lines.next().unwrap_or_default();
    let at = head.split_whitespace().position(|title| title == "PID").ok_or("couldn't find PID field in ps output")?;
    let mut out = format!("{head}\n");
    for line in lines.filter(|line| !line.trim().is_empty()) {
        let field = line.split_whitespace().nth(at).unwrap_or_default();
        // A `-` stands where a line is a thread's, which belongs to the process above it; runc leaves it out.
        if field == "-" {
            continue;
        }
        let pid: i32 = field.parse().map_err(|_| format!("unexpected pid {field:?} in ps output"))?;
        if pids.contains(&pid) {
            let _ = writeln!(out, "{line}");
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state<'a>(id: &'a str, bundle: &'a str) -> ContainerState<'a> {
        ContainerState {
            oci_version: "1.3.0",
            id,
            pid: 42,
            status: "running",
            bundle,
            rootfs: "/b/rootfs",
            created: "2026-01-02T03:04:05.5Z",
            owner: "root",
            annotations: BTreeMap::new(),
        }
    }

    #[test]
    fn the_list_has_runcs_columns() {
        assert_eq!(list_table(&mut []), "ID          PID         STATUS      BUNDLE      CREATED     OWNER\n");
        let mut two = [state("web", "/bundles/web"), state("a-longer-name", "/b")];
        assert_eq!(
            list_table(&mut two),
            "ID              PID         STATUS      BUNDLE         CREATED                  OWNER\n\
             a-longer-name   42          running     /b             2026-01-02T03:04:05.5Z   root\n\
             web             42          running     /bundles/web   2026-01-02T03:04:05.5Z   root\n"
        );
    }

    #[test]
    fn json_is_compact_in_a_list_and_indented_in_state() {
        assert_eq!(list_json(&mut []).unwrap(), "[]\n");
        let text = list_json(&mut [state("b", "/b"), state("a", "/a")]).unwrap();
        assert!(text.starts_with(
            "[{\"ociVersion\":\"1.3.0\",\"id\":\"a\",\"pid\":42,\"status\":\"running\",\"bundle\":\"/a\","
        ));
        let mut one = state("a", "/a");
        one.annotations.insert("k", "v");
        let text = state_json(&one).unwrap();
        assert!(text.starts_with("{\n  \"ociVersion\": \"1.3.0\",\n  \"id\": \"a\",\n  \"pid\": 42,\n"));
        assert!(text.ends_with("  \"owner\": \"root\",\n  \"annotations\": {\n    \"k\": \"v\"\n  }\n}"));
    }

    #[test]
    fn ps_rows_line_up() {
        let row = |uid: &str, pid, cmd: &str| PsRow {
            uid: uid.into(),
            pid,
            ppid: 1,
            c: 0,
            stime: "03:04".into(),
            tty: "?".into(),
            time: "00:00:00".into(),
            cmd: cmd.into(),
        };
        assert_eq!(
            ps_table(&[row("root", 7, "sleep 1"), row("nobody-at-all", 1_234_567, "x")]),
            "UID               PID    PPID  C STIME TTY          TIME CMD\n\
             root                7       1  0 03:04 ?        00:00:00 sleep 1\n\
             nobody-at-all 1234567       1  0 03:04 ?        00:00:00 x\n"
        );
        assert_eq!(ps_json(&[]), "[]\n");
        assert_eq!(ps_json(&[1, 22]), "[1,22]\n");
    }

    #[test]
    fn of_ps_output_the_containers_lines_stay() {
        let output = "UID PID CMD\nroot 1 init\nroot 22 sleep\nroot - -\nroot 222 other\n";
        assert_eq!(ps_filter(output, &[22]).unwrap(), "UID PID CMD\nroot 22 sleep\n");
        assert_eq!(ps_filter("UID CMD\n", &[]).unwrap_err(), "couldn't find PID field in ps output");
        assert!(ps_filter("PID\nx\n", &[]).unwrap_err().contains("unexpected pid \"x\""));
    }
}
