//! The probe as a hook: one line of JSON per call, appended in one write so that hooks may not mix their lines.

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

use conformance::kernel;
use serde_json::{Value, json};

use crate::facts;

/// `NAME LOG [fail|hang]`: records what the hook sees, then succeeds, fails or hangs.
pub(crate) fn run(args: &[String]) -> ExitCode {
    let (Some(name), Some(log)) = (args.first(), args.get(1)) else { return ExitCode::FAILURE };
    let mut stdin = String::new();
    // The state document is small; a runtime that never closes the pipe must not hang the suite for longer than its limit.
    let _closed_early = io::stdin().lock().take(1 << 20).read_to_string(&mut stdin);
    let seen = json!({
        "name": name,
        "time": facts::now(),
        "args": std::env::args().collect::<Vec<_>>(),
        "env": facts::environment(),
        "cwd": std::env::current_dir().ok(),
        "state": serde_json::from_str::<Value>(&stdin).unwrap_or(Value::Null),
        "stdin": stdin,
        "ns": kernel::namespaces("self"),
        "pivoted": !Path::new(log).parent().is_some_and(|p| p.join("bundle").exists()),
        "hostname": nix::unistd::gethostname().ok().map(|h| h.to_string_lossy().into_owned()),
        "container": container(&stdin),
    });
    let line = format!("{seen}\n");
    let written = OpenOptions::new().append(true).create(true).open(log).and_then(|mut f| f.write_all(line.as_bytes()));
    match args.get(2).map(String::as_str) {
        Some("fail") => ExitCode::from(9),
        Some("hang") => {
            sleep(Duration::from_secs(600));
            ExitCode::SUCCESS
        }
        _ => ExitCode::from(u8::from(written.is_err())),
    }
}

/// What the hook can see of the container's process through the pid in its state.
fn container(stdin: &str) -> Value {
    let state: Value = serde_json::from_str(stdin).unwrap_or(Value::Null);
    let Some(pid) = state["pid"].as_u64() else { return Value::Null };
    let exe = fs::read_link(format!("/proc/{pid}/exe")).ok();
    json!({ "ns": kernel::namespaces(&pid.to_string()), "exe": exe })
}
