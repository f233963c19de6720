//! Cases: data that says what is changed, what is done and what must be seen. Tables of rows grow into one case each.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::clause::Level;
use crate::patch::{Patch, fill};

/// What a case expects of `create` and `start` when it names no steps of its own.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Expect {
    /// Create and start succeed, the program reports.
    #[default]
    Works,
    /// Create fails and leaves no container; the twin works.
    Refused,
    /// Create or start fails and the program never runs; the twin works.
    RefusedLate,
    /// Either refused as above, or the checks hold: for values that a runtime may support or not.
    WorksOrRefused,
}

/// One case, complete.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Case {
    /// Unique name, `chapter/name`.
    pub name: String,
    /// One sentence for people.
    pub title: String,
    /// Codes of the clauses that the case holds the runtime to.
    pub clauses: Vec<String>,
    /// How strongly it binds, where that is not the strongest of its clauses.
    pub level: Option<Level>,
    /// What the host must have for the case to mean anything; see `needs`.
    pub needs: Vec<String>,
    /// What is laid out on the host before create; see `world`.
    pub given: Vec<Value>,
    /// What is changed in the base config: see [`Patch::set`].
    pub set: Map<String, Value>,
    /// What is taken out of the base config: see [`Patch::remove`].
    pub remove: Vec<String>,
    /// The whole config as text, in place of base and patch.
    pub raw: Option<String>,
    /// Actions of the probe, appended to its arguments.
    #[serde(rename = "do")]
    pub actions: Vec<String>,
    /// The commands, where create, start, report are not what the case is about; see `steps`.
    pub steps: Vec<Value>,
    /// What create and start must do.
    pub expect: Expect,
    /// What must hold of what was seen; see `check`.
    pub check: Vec<Vec<Value>>,
    /// For refusals: the smallest change that makes the config good. Without one, the base config is the twin.
    pub twin: Option<Patch>,
    /// The clause can be obeyed by a program that isolates nothing (environment, arguments, lifecycle).
    pub bare: bool,
    /// Why the case cannot tell a runtime that ignores the patched fields from one that obeys them.
    pub blind: Option<String>,
    /// Why the case is right although no runtime in use passes it.
    pub note: Option<String>,
}

impl Case {
    /// The change of the base config, as a patch that can be applied.
    pub fn patch(&self) -> Patch {
        Patch { set: self.set.clone(), remove: self.remove.clone() }
    }
}

/// A file of cases.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    about: String,
    #[serde(default)]
    defaults: Map<String, Value>,
    #[serde(default)]
    cases: Vec<Map<String, Value>>,
    #[serde(default)]
    tables: Vec<Table>,
}

/// A family: one template, many rows.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    columns: Vec<String>,
    rows: Vec<Vec<Value>>,
    each: Map<String, Value>,
}

/// Name of the file that holds the config that every case starts from.
const BASE: &str = "base.json";

/// Everything that runs: the base config and the cases, sorted by chapter and file.
#[derive(Clone, Debug)]
pub struct Suite {
    /// The config that patches change.
    pub base: Value,
    /// The cases.
    pub cases: Vec<Case>,
}

/// Reads the built-in cases.
///
/// # Errors
/// A file that cannot be read as cases, a name that stands twice, a refusal that checks nothing; the message names the file.
pub fn load() -> Result<Suite, String> {
    let mut base = Value::Null;
    let mut cases = Vec::new();
    for (path, text) in crate::data::CASES {
        if *path == BASE {
            base = serde_json::from_str(text).map_err(|e| format!("cases/{path}: {e}"))?;
        } else {
            cases.extend(read(path, text).map_err(|e| format!("cases/{path}: {e}"))?);
        }
    }
    let mut seen = BTreeSet::new();
    match cases.iter().find(|c| !seen.insert(c.name.clone())) {
        Some(twice) => Err(format!("case {} stands twice", twice.name)),
        None => Ok(Suite { base, cases }),
    }
}

/// The cases of one file.
fn read(path: &str, text: &str) -> Result<Vec<Case>, String> {
    let file: File = serde_json::from_str(text).map_err(|e| e.to_string())?;
    if file.about.is_empty() {
        return Err("no `about`".into());
    }
    let chapter = path.split('/').next().unwrap_or(path);
    let mut raw = file.cases;
    for table in &file.tables {
        for row in &table.rows {
            if row.len() != table.columns.len() {
                return Err(format!("row {row:?} has not {} columns", table.columns.len()));
            }
            let known = table.columns.iter().cloned().zip(row.iter().cloned()).collect();
            if let Value::Object(map) = fill(&Value::Object(table.each.clone()), &known) {
                raw.push(map);
            }
        }
    }
    raw.into_iter().map(|case| finish(chapter, &file.defaults, case)).collect()
}

/// A case from its map: defaults beneath it, chapter before its name.
fn finish(chapter: &str, defaults: &Map<String, Value>, map: Map<String, Value>) -> Result<Case, String> {
    let mut all = defaults.clone();
    for (key, value) in map {
        match (all.get_mut(&key), value) {
            (Some(Value::Array(under)), Value::Array(over)) => under.extend(over),
            (Some(Value::Object(under)), Value::Object(over)) => under.extend(over),
            (_, value) => drop(all.insert(key, value)),
        }
    }
    let shown = all.get("name").cloned().unwrap_or_default();
    let mut case: Case = serde_json::from_value(Value::Object(all)).map_err(|e| format!("{shown}: {e}"))?;
    if case.name.is_empty() || case.clauses.is_empty() {
        return Err(format!("{shown}: no name or no clause"));
    }
    if case.expect == Expect::Works && case.check.is_empty() && case.steps.is_empty() {
        return Err(format!("{shown}: checks nothing"));
    }
    let plain = |c: char| if c.is_ascii_alphanumeric() || "._%+-".contains(c) { c } else { '_' };
    case.name = format!("{chapter}/{}", case.name.chars().map(plain).collect::<String>());
    Ok(case)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_becomes_a_case_a_row() {
        let text = r#"{"about": "x", "defaults": {"needs": ["a"]}, "tables": [{"columns": ["n", "v"], "rows": [["one", 1], ["two", [2]]],
            "each": {"name": "t-${n}", "clauses": ["C"], "needs": ["b"], "set": {"/x": "${v}"}, "check": [["probe", "present"]]}}]}"#;
        let cases = read("ch/file.json", text).unwrap();
        assert_eq!(cases.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["ch/t-one", "ch/t-two"]);
        assert_eq!(cases[1].set["/x"], serde_json::json!([2]));
        assert_eq!(cases[0].needs, ["a", "b"]);
    }

    #[test]
    fn a_case_that_checks_nothing_is_refused() {
        let text = r#"{"about": "x", "cases": [{"name": "n", "clauses": ["C"]}]}"#;
        assert!(read("ch/file.json", text).unwrap_err().contains("checks nothing"));
    }
}
