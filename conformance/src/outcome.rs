//! How a case ended.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The verdict.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The runtime obeys.
    Pass,
    /// It does not.
    Fail,
    /// This host cannot tell.
    Skip,
    /// The suite itself failed; never counted for or against a runtime.
    Broken,
}

/// Verdict, reason and evidence.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Outcome {
    /// The verdict.
    pub verdict: Verdict,
    /// Why: what was expected and seen, or what the host lacks.
    pub message: String,
    /// Everything that was observed.
    pub seen: Value,
    /// Directories of cgroups that containers were seen in, for cleaning up.
    pub cgroups: Vec<String>,
    /// Milliseconds, filled in by the scheduler.
    #[serde(default)]
    pub millis: u64,
}

impl Outcome {
    /// Without evidence.
    pub fn new(verdict: Verdict, message: String) -> Self {
        Self { verdict, message, seen: Value::Null, cgroups: Vec::new(), millis: 0 }
    }

    /// A failure of the suite.
    pub fn broken(message: String) -> Self {
        Self::new(Verdict::Broken, message)
    }
}
