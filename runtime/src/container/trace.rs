//! What takes how long on the way to a running program: the phases of the command, and within them each step of the plan.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::rc::Rc;

use serde::Serialize;

use super::{Error, Result};
use crate::plan::Plan;
use crate::run::stopwatch::{Lap, Stopwatch};
use crate::sys::process::wall_clock;

/// The phase in which the plan is walked up to the point where init stands ready.
pub const WALK: &str = "walk the plan until init stands ready";
/// The phase in which what comes after that point is walked.
pub const RELEASE: &str = "release init, until its program is executed";

/// How many of the slowest steps are named.
const SLOWEST: usize = 5;

/// What is noted while a container is made.
pub struct Trace(RefCell<Notes>);

struct Notes {
    began: u64,
    last: u64,
    phases: Vec<Phase>,
    steps: Vec<Step>,
    watch: Stopwatch,
}

/// A part of the command's own time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Phase {
    /// What it was for.
    pub name: &'static str,
    /// Nanoseconds from the beginning to it.
    #[serde(rename = "atNs")]
    pub at: u64,
    /// Nanoseconds it took.
    #[serde(rename = "tookNs")]
    pub took: u64,
}

/// A step of the plan, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// Its number, as `explain` counts them.
    pub step: usize,
    /// `parent`, `joiner` or `init`.
    pub lane: &'static str,
    /// What it does.
    pub does: String,
    /// The field of the configuration that it comes from.
    pub from: String,
    /// `done`; `lived with an error` or `done otherwise after an error`, both with an errno; `failed`; `unfinished`; `not reached`.
    pub outcome: &'static str,
    /// The errno that it met.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errno: Option<String>,
    /// Nanoseconds from the beginning to the moment when its lane came to it.
    #[serde(rename = "atNs")]
    pub at: u64,
    /// Nanoseconds that it waited for another lane.
    #[serde(rename = "waitedNs")]
    pub waited: u64,
    /// Nanoseconds that it took.
    #[serde(rename = "tookNs")]
    pub took: u64,
}

/// All that was noted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Nanoseconds from the beginning to the last note.
    #[serde(rename = "totalNs")]
    pub total: u64,
    /// The phases, one after the other.
    pub phases: Vec<Phase>,
    /// The steps, in the plan's order.
    pub steps: Vec<Step>,
}

/// Notes the end of a phase, where there is a trace.
pub fn phase(trace: &Option<Rc<Trace>>, name: &'static str) {
    if let Some(trace) = trace {
        trace.phase(name);
    }
}

impl Trace {
    /// Begins: everything is told relative to now.
    pub fn begin() -> Rc<Self> {
        let now = wall_clock();
        let (phases, steps) = (Vec::new(), Vec::new());
        Rc::new(Trace(RefCell::new(Notes { began: now, last: now, phases, steps, watch: Stopwatch::default() })))
    }

    /// A phase has ended.
    pub fn phase(&self, name: &'static str) {
        let mut notes = self.0.borrow_mut();
        let now = wall_clock();
        let (at, took) = (notes.last.saturating_sub(notes.began), now.saturating_sub(notes.last));
        notes.phases.push(Phase { name, at, took });
        notes.last = now;
    }

    /// A stopwatch for a plan, which is remembered in words.
    ///
    /// # Errors
    /// What mmap(2) says.
    pub fn watch(&self, plan: &Plan) -> Result<Stopwatch> {
        let watch = Stopwatch::of(plan.steps.len()).map_err(Error::from)?;
        let mut notes = self.0.borrow_mut();
        notes.watch = watch;
        notes.steps = plan.steps.iter().enumerate().map(|(n, step)| in_words(n, step)).collect();
        Ok(watch)
    }

    /// What was noted by now.
    pub fn report(&self) -> Report {
        let notes = self.0.borrow();
        let mut steps = notes.steps.clone();
        for (n, step) in steps.iter_mut().enumerate() {
            fill(step, notes.watch.lap(n), notes.began);
        }
        Report { total: notes.last.saturating_sub(notes.began), phases: notes.phases.clone(), steps }
    }
}

fn in_words(n: usize, step: &crate::plan::Step) -> Step {
    Step {
        step: n + 1,
        lane: crate::explain::lane(&step.act),
        does: crate::explain::act(&step.act),
        from: step.from.to_string(),
        outcome: match step.on_err {
            crate::plan::OnErr::Else(..) => "done otherwise after an error",
            _ => "lived with an error",
        },
        errno: None,
        at: 0,
        waited: 0,
        took: 0,
    }
}

fn fill(step: &mut Step, lap: Lap, began: u64) {
    // A step behind the gate waits for nobody: it is reached when it begins.
    let reached = if lap.reached == 0 { lap.began } else { lap.reached };
    let start = lap.began.max(reached);
    step.at = reached.saturating_sub(began);
    step.waited = start.saturating_sub(reached);
    step.took = lap.ended.saturating_sub(start);
    if lap.errno != 0 {
        step.errno = Some(format!("{:?}", nix::errno::Errno::from_raw(lap.errno)));
    }
    step.outcome = match lap {
        Lap { failed: true, .. } => "failed",
        Lap { reached: 0, began: 0, .. } => "not reached",
        Lap { ended: 0, .. } => "unfinished",
        Lap { errno: 0, .. } => "done",
        _ => step.outcome,
    };
    if reached == 0 {
        step.at = 0;
    }
}

/// A line of the table.
struct Line<'a> {
    at: u64,
    waited: u64,
    took: u64,
    lane: &'a str,
    text: String,
}

impl Report {
    /// As a table in the order in which it happened, and what took the most.
    pub fn text(&self) -> String {
        let mut lines: Vec<Line<'_>> = self.phases.iter().map(of_phase).collect();
        lines.extend(self.steps.iter().filter(|s| s.outcome != "not reached").map(of_step));
        // A phase stands before the steps that begin with it.
        lines.sort_by_key(|line| (line.at, line.lane != "tare"));
        let mut out = String::from("      AT  WAITED    TOOK  LANE    STEP  (times in µs)\n");
        for Line { at, waited, took, lane, text } in lines {
            let waited = if waited < 500 { String::new() } else { micros(waited) };
            let _ = writeln!(out, "{:>8} {waited:>7} {:>7}  {lane:<6}  {text}", micros(at), micros(took));
        }
        let missed = self.steps.iter().filter(|s| s.outcome == "not reached").count();
        if missed > 0 {
            let _ = writeln!(out, "{missed} of {} steps were not reached", self.steps.len());
        }
        self.summary(&mut out);
        out
    }

    fn summary(&self, out: &mut String) {
        let _ = write!(out, "in all {} µs", micros(self.total));
        for lane in ["parent", "joiner", "init"] {
            let of_lane = || self.steps.iter().filter(|s| s.lane == lane);
            let (took, waited) = (of_lane().map(|s| s.took).sum::<u64>(), of_lane().map(|s| s.waited).sum::<u64>());
            if of_lane().next().is_some() {
                let _ = write!(out, "; {lane} worked {} and waited {}", micros(took), micros(waited));
            }
        }
        out.push('\n');
        let mut slowest: Vec<_> = self.steps.iter().filter(|s| s.took > 0).collect();
        slowest.sort_by_key(|s| std::cmp::Reverse(s.took));
        for step in slowest.iter().take(SLOWEST) {
            let share = (step.took * 100).checked_div(self.total).unwrap_or(0);
            let _ = writeln!(
                out,
                "{:>7} µs {share:>3} %  step {}: {} [{}]",
                micros(step.took),
                step.step,
                step.does,
                step.from
            );
        }
    }
}

fn of_phase(phase: &Phase) -> Line<'_> {
    Line { at: phase.at, waited: 0, took: phase.took, lane: "tare", text: phase.name.to_owned() }
}

fn of_step(step: &Step) -> Line<'_> {
    let mut text = format!("{:>3} {}", step.step, step.does);
    let _ = write!(text, "  [{}]", step.from);
    match (step.outcome, &step.errno) {
        ("done", _) => {}
        (outcome, Some(errno)) => drop(write!(text, "  {}: {errno}", mark(outcome))),
        (outcome, None) => drop(write!(text, "  {}", mark(outcome))),
    }
    Line { at: step.at, waited: step.waited, took: step.took, lane: step.lane, text }
}

/// What failed is to be seen at once.
fn mark(outcome: &str) -> &str {
    if outcome == "failed" { "FAILED" } else { outcome }
}

fn micros(nanos: u64) -> String {
    (nanos.saturating_add(500) / 1000).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(outcome: &'static str) -> Step {
        let (does, from) = ("make cgroup /x".to_owned(), "linux.cgroupsPath".to_owned());
        Step { step: 1, lane: "parent", does, from, outcome, errno: None, at: 0, waited: 0, took: 0 }
    }

    #[test]
    fn outcomes_are_what_the_marks_say() {
        let lap = Lap { reached: 1_000, began: 3_000, ended: 9_000, errno: 0, failed: false };
        let outcome = |lap| {
            let mut step = step("lived with an error");
            fill(&mut step, lap, 500);
            (step.outcome, step.errno, step.at, step.waited, step.took)
        };
        assert_eq!(outcome(lap), ("done", None, 500, 2_000, 6_000));
        let errno = Lap { errno: libc::ENOENT, ..lap };
        assert_eq!(outcome(errno).0, "lived with an error");
        assert_eq!(outcome(Lap { failed: true, ..errno }).1.as_deref(), Some("ENOENT"));
        assert_eq!(outcome(Lap { failed: true, ..errno }).0, "failed");
        assert_eq!(outcome(Lap { ended: 0, ..lap }).0, "unfinished");
        assert_eq!(outcome(Lap::default()), ("not reached", None, 0, 0, 0));
    }

    #[test]
    fn the_table_is_in_the_order_of_time_and_names_the_slowest() {
        let slow = Step { step: 2, at: 5_000, took: 80_000, errno: Some("EEXIST".to_owned()), ..step("failed") };
        let quick = Step { at: 1_000, took: 2_000, waited: 1_000, ..step("done") };
        let phases = vec![Phase { name: WALK, at: 1_000, took: 100_000 }];
        let text = Report { total: 100_000, phases, steps: vec![quick, slow, step("not reached")] }.text();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[1], "       1             100  tare    walk the plan until init stands ready");
        assert_eq!(lines[2], "       1       1       2  parent    1 make cgroup /x  [linux.cgroupsPath]");
        assert!(lines[3].ends_with("[linux.cgroupsPath]  FAILED: EEXIST"), "{text}");
        assert_eq!(lines[4], "1 of 3 steps were not reached");
        assert_eq!(lines[5], "in all 100 µs; parent worked 82 and waited 1");
        assert_eq!(lines[6], "     80 µs  80 %  step 2: make cgroup /x [linux.cgroupsPath]");
    }
}
