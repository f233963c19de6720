//! The program that cases run inside a container: it says as one line of JSON what it sees, then does what its arguments ask.
//!
//! ```text
//! probe [ACTION…]             report and actions; see `act` for the actions
//! probe hook NAME LOG [fail]  append what a hook sees to LOG
//! probe hold NS,…             stay in new namespaces until killed
//! ```

mod act;
mod facts;
mod hold;
mod hook;

use std::io::{self, Write};
use std::process::ExitCode;

use serde_json::{Value, json};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args_os().map(|a| a.to_string_lossy().into_owned()).collect();
    match args.get(1).map(String::as_str) {
        Some("hook") => hook::run(&args[2..]),
        Some("hold") => hold::run(args.get(2).map_or("", String::as_str)),
        Some("leaf") => hold::leaf(),
        Some("only") => act::only(args.get(2).map_or("", String::as_str)),
        _ => report(args.get(1..).unwrap_or_default()),
    }
}

/// Prints the report, then waits or exits as the last actions say.
fn report(actions: &[String]) -> ExitCode {
    let end = act::End::among(actions);
    end.prepare();
    let mut seen = facts::all();
    let did: serde_json::Map<String, Value> = actions.iter().map(|a| (a.clone(), act::run(a))).collect();
    if let Value::Object(map) = &mut seen {
        map.insert("did".into(), Value::Object(did));
    }
    say(&json!({ "probe": seen }));
    end.reach()
}

/// One line on standard output; a reader that is gone is not this program's concern.
fn say(value: &Value) {
    let mut out = io::stdout().lock();
    let _gone = writeln!(out, "{value}").and_then(|()| out.flush());
}
