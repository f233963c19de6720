//! `update`: new limits for a container that exists.
//!
//! What is not named stays. The limits in force are kept in `resources.json` beside the configuration, for some can only
//! be changed together with another that the caller does not name.

use std::path::Path;

use serde_json::{Map, Value};

use super::{Error, Result, Status, status};
use crate::compile::cgroup::{self, Groups, properties};
use crate::error::{Problem, Problems};
use crate::op::unit::Manager;
use crate::run::cgroup::freeze::{self, State};
use crate::run::cgroup::update::apply;
use crate::run::systemd;
use crate::state::{self, Dir};
use crate::{parse, undo};

const FILE: &str = "resources.json";

/// Changes limits. `resources` is the text of a resources object of the specification; its device rules are left alone.
/// Answers what is doubtful about it.
///
/// # Errors
/// `container not running`; what is wrong with the text; a limit that this host cannot apply; the write that failed, after
/// which all limits are what they were.
pub fn update(root: &Path, id: &str, resources: &[u8]) -> Result<Vec<Problem>> {
    let dir = state::open(root, id)?;
    dir.lock()?;
    let (Some(record), Status::Created | Status::Running | Status::Paused) = status(&dir) else {
        return Err(Error::new(format!("{id}: container not running")));
    };
    let (new, _) = parse::resources(resources)?;
    let current_text = current(&dir)?;
    let (current, _) = parse::resources(&current_text)?;
    let mut problems = Problems::default();
    let groups = undo::groups(&record.undo);
    if groups.is_empty() {
        return Err(Error::new(format!("{id}: the container has no cgroup, and so no limits")));
    }
    let change = cgroup::update(groups, &new, &current, &mut problems);
    if !problems.errors.is_empty() {
        return Err(problems.into());
    }
    let applied = apply(&change)?;
    if let Some((manager, unit)) = undo::unit(&record.undo) {
        if let Err(e) = tell_systemd(manager, unit, &change) {
            return Err(applied.revert(e.to_string()).into());
        }
        // It has written the files, too, and what it rounds it has rounded.
        apply(&change)?;
    }
    let merged = merge_texts(&current_text, resources)?;
    dir.replace(FILE, &merged)?;
    Ok(problems.warnings)
}

/// systemd writes what it knows of the limits anew whenever it likes, so it must know of the change.
fn tell_systemd(manager: &Manager, unit: &str, change: &Groups) -> systemd::Result<()> {
    let version = systemd::find::ask(manager)?.version;
    let properties = properties::of(&change.writes, version);
    // In version 1 it writes the whole list of devices anew: a process that opens one meanwhile must not be denied it.
    let v1 = change.groups.iter().any(|g| g.controllers.iter().any(|c| c == "devices"));
    let still = v1 && freeze::state(&change.groups) == Ok(State::Thawed) && freeze::freeze(&change.groups).is_ok();
    let set = systemd::set(manager, unit, &properties);
    if still {
        let _ = freeze::thaw(&change.groups);
    }
    set
}

/// The limits in force, as JSON: those of the last update, or those of the configuration.
///
/// # Errors
/// The container's own copy of its configuration cannot be read.
pub fn current(dir: &Dir) -> Result<Vec<u8>> {
    if let Ok(text) = dir.read(FILE) {
        return Ok(text);
    }
    let unreadable = |e: &dyn std::fmt::Display| Error::new(format!("{}: the config of its creation: {e}", dir.id));
    let text = dir.read("config.json").map_err(|e| unreadable(&e))?;
    let mut config: Value = serde_json::from_slice(&text).map_err(|e| unreadable(&e))?;
    let resources = config.pointer_mut("/linux/resources").map_or(Value::Null, Value::take);
    let resources = if resources.is_object() { resources } else { Value::Object(Map::new()) };
    serde_json::to_vec(&resources).map_err(|e| unreadable(&e))
}

fn merge_texts(old: &[u8], new: &[u8]) -> Result<Vec<u8>> {
    let read = |text| serde_json::from_slice::<Value>(text).map_err(|e| Error::new(e.to_string()));
    let (mut all, mut new) = (read(old)?, read(new)?);
    if let Some(new) = new.as_object_mut() {
        new.remove("devices");
    }
    merge(&mut all, new);
    serde_json::to_vec(&all).map_err(|e| Error::new(e.to_string()))
}

/// Objects are merged, all else is replaced.
fn merge(old: &mut Value, new: Value) {
    merge_within("", old, new);
}

fn merge_within(chapter: &str, old: &mut Value, new: Value) {
    // To most limits, 0 means "not named".
    let unnamed = |key: &str, value: &Value| {
        let zero_counts = matches!(key, "burst" | "idle" | "swappiness") || chapter == "pids";
        value.is_null() || (*value == 0 && !zero_counts)
    };
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            for (key, value) in new.into_iter().filter(|(key, value)| !unnamed(key, value)) {
                match old.get_mut(&key) {
                    Some(there) => merge_within(&key, there, value),
                    None => drop(old.insert(key, value)),
                }
            }
        }
        (old, new) => *old = new,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_named_stays() {
        let old = br#"{"cpu":{"quota":1,"period":2},"devices":[{"allow":false}],"pids":{"limit":5}}"#;
        let new =
            br#"{"cpu":{"quota":9,"period":0,"shares":null},"devices":[],"memory":{"limit":7},"pids":{"limit":0}}"#;
        let merged: Value = serde_json::from_slice(&merge_texts(old, new).unwrap()).unwrap();
        let wanted = serde_json::json!({
            "cpu": {"quota": 9, "period": 2}, "devices": [{"allow": false}], "memory": {"limit": 7}, "pids": {"limit": 0}
        });
        assert_eq!(merged, wanted);
    }
}
