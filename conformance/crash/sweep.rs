//! Every point of a verb, and the rules that must hold after each.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::bed::Bed;
use crate::trace::{self, Harm, Outcome};

/// What an undisturbed command leads to, to which that of a disturbed one is held.
struct Model {
    points: usize,
    report: String,
    exec: String,
    limits: Vec<String>,
}

/// Goes through the points of a verb. Says in a line of TAP how it was.
///
/// # Errors
/// The sweep itself failed.
pub(crate) fn sweep(
    bed: &Bed,
    verb: &str,
    harm: Harm,
    points: Option<usize>,
    at: Option<usize>,
) -> Result<bool, String> {
    let model = model(bed, verb, harm)?;
    let all: Vec<usize> = match (at, points) {
        (Some(at), _) => vec![at],
        (None, Some(some)) if some < model.points => (0..some).map(|i| 1 + i * model.points / some).collect(),
        _ => (1..=model.points).collect(),
    };
    let (mut broken, mut longest, mut reached) = (BTreeMap::<usize, Vec<String>>::new(), Duration::ZERO, 0);
    for point in &all {
        bed.prepare(verb)?;
        let outcome = trace::run(&bed.runtime, &bed.args(verb), &bed.dir.join("traced"), Some((harm, *point)))?;
        reached += usize::from(outcome.call.is_some());
        longest = longest.max(outcome.took);
        let mut rules = Vec::new();
        look(bed, verb, harm, &model, &outcome, &mut rules);
        if at.is_some() {
            println!("# {outcome:?}");
        }
        if !rules.is_empty() {
            println!("# {verb} {} at {point} (call {:?}): {}", harm.name(), outcome.call, rules.join("; "));
            broken.insert(*point, rules);
            bed.clean();
        }
    }
    let word = if broken.is_empty() { "ok" } else { "not ok" };
    println!(
        "{word} - {verb} {}: {} of {} points, {reached} reached, {} broken, longest {} ms",
        harm.name(),
        all.len(),
        model.points,
        broken.len(),
        longest.as_millis()
    );
    Ok(broken.is_empty())
}

fn model(bed: &Bed, verb: &str, harm: Harm) -> Result<Model, String> {
    bed.prepare(verb)?;
    // A point that is never reached: the points are counted, with the calls of this harm.
    let outcome = trace::run(&bed.runtime, &bed.args(verb), &bed.dir.join("traced"), Some((harm, usize::MAX)))?;
    if outcome.code != Some(0) || outcome.points == 0 {
        return Err(format!("{verb} undisturbed: {outcome:?}"));
    }
    let limits = bed.limits();
    if verb == "create" {
        let (code, said) = bed.call("start");
        if code != Some(0) {
            return Err(format!("start: {said}"));
        }
    }
    let alive = !matches!(verb, "kill" | "delete");
    let report = if alive { bed.report("report") } else { Ok(String::new()) }?;
    let exec = if verb == "exec" { bed.report("exec")? } else { String::new() };
    let (code, said) = bed.call("delete");
    match (code, bed.left_at_last()) {
        (Some(0), left) if left.is_empty() => Ok(Model { points: outcome.points, report, exec, limits }),
        (_, left) => Err(format!("delete after {verb}: {code:?} {said}, left: {left:?}")),
    }
}

/// Holds what is there now to the rules; those that are broken are told.
fn look(bed: &Bed, verb: &str, harm: Harm, model: &Model, outcome: &Outcome, rules: &mut Vec<String>) {
    let mut broken = |rule: &str, text: String| rules.push(format!("({rule}) {text}"));
    if outcome.took >= trace::PATIENCE {
        broken("f", format!("took {:?}", outcome.took));
    }
    match (harm, outcome.code) {
        (Harm::Errno(_), None) => broken("f", "the command died of a signal".to_owned()),
        (Harm::Errno(_), Some(0)) => {
            if let Err(text) = is_whole(bed, verb, model) {
                broken("d", text);
            }
        }
        (Harm::Errno(_), Some(101 | 134)) => broken("e", format!("it panicked: {}", outcome.said)),
        (Harm::Errno(_), Some(_)) if verb == "create" => {
            let left = bed.left_at_last();
            if !left.is_empty() {
                broken("e", format!("failed with {:?} and left {}", outcome.said, left.join(", ")));
            }
        }
        (Harm::Errno(_), Some(_)) if verb == "exec" => {
            // Its process, if it was made, is gone: the container's own is all that there is.
            let end = std::time::Instant::now() + Duration::from_secs(2);
            while Bed::processes().len() > 1 && std::time::Instant::now() < end {
                std::thread::sleep(Duration::from_millis(2));
            }
            let there = Bed::processes();
            if there.len() > 1 {
                broken("e", format!("failed with {:?} and left {}", outcome.said, there.join(", ")));
            }
        }
        _ => {}
    }
    if matches!((harm, outcome.code), (Harm::Errno(_), Some(1..)))
        && matches!(verb, "create" | "exec")
        && bed.has_pid_file(verb)
    {
        broken("e", format!("failed with {:?} and left a pid file", outcome.said));
    }
    for rule in ["a", "c"] {
        let (code, said) = bed.call("delete");
        let left = bed.left_at_last();
        if code != Some(0) || !left.is_empty() {
            broken(rule, format!("delete --force is {code:?} {said} and leaves {}", left.join(", ")));
        }
    }
    for again in ["create", "delete"] {
        let (code, said) = bed.call(again);
        if code != Some(0) {
            broken("b", format!("{again} of the same id: {code:?} {said}"));
        }
    }
}

/// Whether a command that succeeded has done all that it was to do.
fn is_whole(bed: &Bed, verb: &str, model: &Model) -> Result<(), String> {
    let limits = bed.limits();
    if limits != model.limits {
        return Err(format!("limits are {limits:?} instead of {:?}", model.limits));
    }
    match verb {
        "create" => {
            let (code, said) = bed.call("start");
            if code != Some(0) {
                return Err(format!("start: {code:?} {said}"));
            }
            same(&bed.report("report")?, &model.report)
        }
        "exec" => same(&bed.report("exec")?, &model.exec),
        "kill" | "delete" => {
            // Who was killed needs a moment to go.
            let end = std::time::Instant::now() + Duration::from_secs(2);
            while !Bed::processes().is_empty() && std::time::Instant::now() < end {
                std::thread::sleep(Duration::from_millis(2));
            }
            let there = Bed::processes();
            if there.is_empty() { Ok(()) } else { Err(format!("still there: {there:?}")) }
        }
        "start" | "update" | "resume" => same(&bed.report("report")?, &model.report),
        _ => Ok(()),
    }
}

fn same(is: &str, wanted: &str) -> Result<(), String> {
    let differs = is.lines().zip(wanted.lines()).find(|(a, b)| a != b);
    match differs {
        Some((is, wanted)) => Err(format!("the program sees {is:?} instead of {wanted:?}")),
        None if is.lines().count() != wanted.lines().count() => Err(format!("the program sees less or more: {is}")),
        None => Ok(()),
    }
}
