//! What is wrong with a configuration: every problem of it, each with its field.

use std::fmt;

use crate::field::Field;

/// One thing that is wrong with a configuration or a command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub field: Field,
    /// What, as a clause: `"ext9" is no filesystem`.
    pub text: String,
    /// What to do about it, where that is known.
    pub hint: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.text)?;
        match &self.hint {
            Some(hint) => write!(f, " (hint: {hint})"),
            None => Ok(()),
        }
    }
}

/// All that was found, in the order of finding: errors refuse the config, warnings are told and lived with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems {
    /// Each of these refuses the config.
    pub errors: Vec<Problem>,
    /// Each of these is logged once.
    pub warnings: Vec<Problem>,
}

impl Problems {
    /// Adds an error.
    pub fn error(&mut self, field: Field, text: impl Into<String>) {
        push(&mut self.errors, field, text.into(), None);
    }

    /// Adds an error with a hint.
    pub fn error_hint(&mut self, field: Field, text: impl Into<String>, hint: impl Into<String>) {
        push(&mut self.errors, field, text.into(), Some(hint.into()));
    }

    /// Adds a warning.
    pub fn warn(&mut self, field: Field, text: impl Into<String>) {
        push(&mut self.warnings, field, text.into(), None);
    }
}

/// One copy for the many places that find something: most of them never do.
#[cold]
#[inline(never)]
fn push(to: &mut Vec<Problem>, field: Field, text: String, hint: Option<String>) {
    to.push(Problem { field, text, hint });
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.errors.iter().enumerate() {
            write!(f, "{}{problem}", if i == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
