//! The command line, in Go's flag syntax: `-x v`, `-x=v`, `--x`; switches take no value unless it is joined by `=`.

use std::path::PathBuf;

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Start a shim or find the group's.
    Start,
    /// Clean up after a shim.
    Delete,
    /// Describe the runtime.
    Info,
    /// Print the version.
    Version,
}

/// The parsed command line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Arguments {
    /// The engine's namespace.
    pub namespace: String,
    /// The container.
    pub id: String,
    /// The engine's gRPC socket.
    pub address: String,
    /// The bundle, for `delete`.
    pub bundle: Option<PathBuf>,
    /// Whether to log in detail.
    pub debug: bool,
    action: Option<Action>,
}

impl Arguments {
    /// What is to be done.
    #[must_use]
    pub fn action(&self) -> Option<Action> {
        self.action
    }

    /// Parses everything after the program's name.
    ///
    /// # Errors
    /// A sentence that names the flag or action.
    pub fn parse(words: impl IntoIterator<Item = String>) -> Result<Arguments, String> {
        let mut made = Arguments::default();
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            let Some(flag) = word.strip_prefix("--").or_else(|| word.strip_prefix('-')) else {
                made.verb(&word)?;
                continue;
            };
            let (name, joined) = match flag.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (flag, None),
            };
            if let Some(switch) = made.switch(name) {
                switch(
                    &mut made,
                    joined.is_none_or(|v| matches!(v.as_str(), "true" | "1" | "t" | "T" | "TRUE" | "True")),
                );
                continue;
            }
            let value = joined.or_else(|| words.next()).ok_or_else(|| format!("flag needs an argument: -{name}"))?;
            made.set(name, value)?;
        }
        Ok(made)
    }

    fn verb(&mut self, word: &str) -> Result<(), String> {
        self.action = Some(match word {
            "start" => Action::Start,
            "delete" => Action::Delete,
            _ => return Err(format!("unknown action {word:?} (known: start, delete)")),
        });
        Ok(())
    }

    #[allow(clippy::unused_self)] // Reads like a lookup in the arguments, which it is.
    fn switch(&self, name: &str) -> Option<fn(&mut Arguments, bool)> {
        match name {
            "debug" => Some(|made, on| made.debug = on),
            "v" | "version" => Some(|made, on| {
                if on {
                    made.action = Some(Action::Version);
                }
            }),
            "info" => Some(|made, on| {
                if on {
                    made.action = Some(Action::Info);
                }
            }),
            _ => None,
        }
    }

    fn set(&mut self, name: &str, value: String) -> Result<(), String> {
        match name {
            "namespace" => self.namespace = value,
            "id" => self.id = value,
            "address" => self.address = value,
            "bundle" => self.bundle = Some(PathBuf::from(value)).filter(|p| !p.as_os_str().is_empty()),
            // Engines pass these; a shim that forwards events itself and takes its socket's name from the contract has no use for them.
            "publish-binary" | "socket" | "debug-socket" => {}
            _ => return Err(format!("flag provided but not defined: -{name}")),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Action, Arguments};

    fn parse(line: &str) -> Result<Arguments, String> {
        Arguments::parse(line.split(' ').map(str::to_owned))
    }

    #[test]
    fn every_engines_order_is_understood() {
        let old = parse("-namespace ns -address /s -publish-binary /c -id a -bundle /b -debug delete").unwrap();
        assert_eq!(old.action(), Some(Action::Delete));
        assert_eq!((old.namespace.as_str(), old.id.as_str(), old.address.as_str(), old.debug), ("ns", "a", "/s", true));
        assert_eq!(old.bundle.unwrap().to_str(), Some("/b"));
        let new = parse("--id=a --namespace=ns -debug=false --address /s start").unwrap();
        assert_eq!((new.action(), new.debug), (Some(Action::Start), false));
        assert_eq!(parse("-v").unwrap().action(), Some(Action::Version));
        assert_eq!(parse("-info").unwrap().action(), Some(Action::Info));
    }

    #[test]
    fn nonsense_is_named() {
        assert!(parse("-odd x start").unwrap_err().contains("-odd"));
        assert!(parse("restart").unwrap_err().contains("restart"));
        assert!(parse("-id").unwrap_err().contains("-id"));
    }
}
