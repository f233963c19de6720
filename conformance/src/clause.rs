//! The specification's normative sentences, each with a code: the rows of every table that this suite prints.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// How strongly a sentence binds: RFC 2119, strongest first.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Level {
    /// MUST, MUST NOT, REQUIRED, SHALL.
    Must,
    /// SHOULD, SHOULD NOT, RECOMMENDED.
    Should,
    /// MAY, OPTIONAL.
    May,
}

impl Level {
    /// The word of RFC 2119.
    pub fn word(self) -> &'static str {
        match self {
            Self::Must => "MUST",
            Self::Should => "SHOULD",
            Self::May => "MAY",
        }
    }
}

/// One normative sentence.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Clause {
    /// Stable name, such as `RT-DELETE-2`.
    pub code: String,
    /// How strongly it binds.
    pub level: Level,
    /// Document and heading.
    pub section: String,
    /// Enough of the sentence to find it again.
    pub quote: String,
    /// Why no case can hold a runtime to it, where none can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub untestable: Option<String>,
}

/// Every clause, in the documents' order.
///
/// # Errors
/// A file that is not a list of clauses, or a code that stands twice; the message names the file or the code.
pub fn load() -> Result<Vec<Clause>, String> {
    let mut all: Vec<Clause> = Vec::new();
    let mut seen = BTreeSet::new();
    for (name, text) in crate::data::CLAUSES {
        let list: Vec<Clause> = serde_json::from_str(text).map_err(|e| format!("clauses/{name}: {e}"))?;
        for clause in list {
            if !seen.insert(clause.code.clone()) {
                return Err(format!("clauses/{name}: {} stands twice", clause.code));
            }
            all.push(clause);
        }
    }
    Ok(all)
}
