//! Book-keeping without isolation: state that looks right, and at most a plain process.

use std::fs;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::thread::sleep;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

/// What a real `features` might print.
const FEATURES: &str = include_str!("features.json");

/// Answers one command; with `bare`, really runs a process.
pub(crate) fn answer(args: &[String], bare: bool) -> ExitCode {
    let root = option(args, "--root").unwrap_or_else(|| "/nonexistent".into());
    let mut rest: Vec<&str> = Vec::new();
    let mut words = args.iter().map(String::as_str);
    while let Some(word) = words.next() {
        match word {
            "--force" => {}
            w if w.starts_with("--") => drop(words.next()),
            w => rest.push(w),
        }
    }
    let dir = |id: &str| Path::new(&root).join(id);
    let done = match rest.as_slice() {
        ["create", id] => create(&dir(id), id, args, bare),
        ["state", id] => show(&dir(id), bare),
        ["start", id] => status(&dir(id), bare).filter(|s| s == "created").and_then(|_| set(&dir(id), "running")),
        ["kill", id, signal] => stop(&dir(id), signal, bare),
        ["delete", id] => {
            status(&dir(id), bare).filter(|s| s == "stopped").and_then(|_| fs::remove_dir_all(dir(id)).ok())
        }
        ["features"] => print(FEATURES),
        _ => None,
    };
    if done.is_some() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn option(args: &[String], name: &str) -> Option<String> {
    args.iter().position(|a| a == name).and_then(|i| args.get(i + 1)).cloned()
}

fn print(text: &str) -> Option<()> {
    std::io::stdout().lock().write_all(text.as_bytes()).ok()
}

fn set(dir: &Path, status: &str) -> Option<()> {
    fs::write(dir.join("status"), status).ok()
}

/// `created`, `running` or `stopped`; None when there is no such container.
fn status(dir: &Path, bare: bool) -> Option<String> {
    let text = fs::read_to_string(dir.join("status")).ok()?;
    let ended = bare && !alive(dir);
    Some(if ended { "stopped".to_owned() } else { text })
}

fn pid(dir: &Path) -> Option<i32> {
    fs::read_to_string(dir.join("pid")).ok()?.parse().ok()
}

fn alive(dir: &Path) -> bool {
    let stat = pid(dir).and_then(|p| fs::read_to_string(format!("/proc/{p}/stat")).ok());
    stat.is_some_and(|s| !s.contains(") Z"))
}

fn create(dir: &Path, id: &str, args: &[String], bare: bool) -> Option<()> {
    let bundle = PathBuf::from(option(args, "--bundle")?);
    let config: Value = serde_json::from_slice(&fs::read(bundle.join("config.json")).ok()?).ok()?;
    fs::create_dir_all(dir.parent()?).ok()?;
    fs::create_dir(dir).ok()?;
    let pid = if bare {
        let me = std::env::current_exe().ok()?;
        Command::new(me).arg("init").arg(dir).arg(&bundle).spawn().ok()?.id()
    } else {
        1
    };
    let state = json!({ "ociVersion": "1.0.2", "id": id, "bundle": bundle, "annotations": config.get("annotations") });
    fs::write(dir.join("state"), state.to_string()).ok()?;
    fs::write(dir.join("pid"), pid.to_string()).ok()?;
    fs::write(option(args, "--pid-file").unwrap_or_else(|| "/dev/null".into()), pid.to_string()).ok()?;
    set(dir, "created")
}

fn show(dir: &Path, bare: bool) -> Option<()> {
    let mut state: Value = serde_json::from_slice(&fs::read(dir.join("state")).ok()?).ok()?;
    state["status"] = json!(status(dir, bare)?);
    state["pid"] = json!(pid(dir)?);
    print(&state.to_string())
}

fn stop(dir: &Path, signal: &str, bare: bool) -> Option<()> {
    status(dir, bare).filter(|s| s != "stopped")?;
    if !bare {
        return set(dir, "stopped");
    }
    let name = if signal.starts_with("SIG") { signal.to_owned() } else { format!("SIG{signal}") };
    let signal = signal.parse::<i32>().ok().and_then(|n| Signal::try_from(n).ok()).or_else(|| name.parse().ok())?;
    kill(Pid::from_raw(pid(dir)?), signal).ok()
}

/// The bare process: waits for `running`, then becomes the program of the config, found below the root filesystem.
pub(crate) fn init(args: &[String]) -> ExitCode {
    let (Some(dir), Some(bundle)) = (args.first().map(Path::new), args.get(1).map(Path::new)) else {
        return ExitCode::FAILURE;
    };
    while fs::read_to_string(dir.join("status")).ok().as_deref() != Some("running") {
        sleep(Duration::from_millis(1));
    }
    let config: Value =
        fs::read(bundle.join("config.json")).ok().and_then(|b| serde_json::from_slice(&b).ok()).unwrap_or_default();
    let texts = |v: &Value| -> Vec<String> {
        v.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let process = &config["process"];
    let argv = texts(&process["args"]);
    let root = bundle.join("rootfs");
    let Some((program, rest)) = argv.split_first() else { return ExitCode::FAILURE };
    let mut command = Command::new(root.join(program.trim_start_matches('/')));
    command.arg0(program).args(rest).env_clear();
    command.envs(texts(&process["env"]).iter().filter_map(|e| e.split_once('=')));
    command.current_dir(root.join(process["cwd"].as_str().unwrap_or("/").trim_start_matches('/')));
    let _only_on_failure = command.exec();
    ExitCode::from(127)
}
