//! `events`: statistics and notices of a container, a line of JSON each.

use serde::Serialize;

use super::{Context, Failure, Outcome};
use crate::cli;
use crate::container::watch::{Event, events as watch};
use crate::run::cgroup::stats::Stats;

/// A line.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a Stats>,
}

/// `events`.
pub(super) fn events(cx: &Context, ask: &cli::Events) -> Outcome {
    let mut events = watch(&cx.root().0, &ask.id, ask.interval)?;
    if ask.stats {
        print(cx, &Line { kind: "stats", id: &ask.id, data: Some(&*events.stats()?) })?;
        return Ok(0);
    }
    loop {
        let read_on = match events.wait()? {
            Event::Stats(stats) => print(cx, &Line { kind: "stats", id: &ask.id, data: Some(&*stats) })?,
            Event::Oom => print(cx, &Line { kind: "oom", id: &ask.id, data: None })?,
            Event::End => false,
        };
        if !read_on {
            return Ok(0);
        }
    }
}

/// Prints a line; says whether there is still somebody who reads.
fn print(cx: &Context, line: &Line<'_>) -> Result<bool, Failure> {
    let mut text = serde_json::to_vec(line).map_err(std::io::Error::from)?;
    text.push(b'\n');
    cx.tell(&text)
}
