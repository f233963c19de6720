//! Whether every member of a list in the features structure is recognized in a config.
//!
//! To recognize a word is not to be able to do it here: a member counts as unrecognized only when the runtime answers to it just
//! as it answers to a word that nobody knows.

use serde_json::{Value, json};

use super::Story;
use crate::check;
use crate::patch::fill;

/// The word that nobody knows.
const NONSENSE: &str = "NO_SUCH_MEMBER";

/// Tries `value` (with `${EACH}` in it) at `pointer` for each member of the list at the path `list`.
pub(super) fn each(story: &mut Story, step: &Value) -> Result<(), String> {
    let list = check::find(&story.seen, step["list"].as_str().unwrap_or_default()).clone();
    let members: Vec<String> =
        list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
    let nonsense = answer(story, step, NONSENSE, 0)?;
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    for (i, member) in members.iter().enumerate() {
        let told = answer(story, step, member, i + 1)?;
        // A runtime that takes nonsense without a word gives nothing to compare with.
        let same = nonsense != (true, String::new()) && told == nonsense;
        if same { unknown.push(member.clone()) } else { known.push(member.clone()) }
    }
    story.seen["recognized"] = json!(known);
    story.seen["unrecognized"] = json!(unknown);
    Ok(())
}

/// Whether create accepts the word, and what it says, freed of the word itself and of the time.
fn answer(story: &mut Story, step: &Value, word: &str, number: usize) -> Result<(bool, String), String> {
    let names = json!({ "EACH": word }).as_object().cloned().unwrap_or_default();
    let id = format!("claim-{number}");
    let pointer = step["pointer"].as_str().unwrap_or_default();
    let group = format!("${{CGROUP}}-{number}");
    story.patch(&json!({ "set": { pointer: fill(&step["value"], &names), "/linux/cgroupsPath": group } }))?;
    let result = story.create(&json!({ "id": id }))?;
    let accepted = result["rc"] == 0;
    if accepted {
        story.call(&["delete", "--force"], &id, &[])?;
    }
    let said = result["stderr"].as_str().unwrap_or_default();
    Ok((accepted, said.lines().map(|l| plain(l, word, &id)).collect::<Vec<_>>().join("\n")))
}

/// A line without its time stamp, the word and the ID.
fn plain(line: &str, word: &str, id: &str) -> String {
    let without_time = line.split_once("level=").map_or(line, |(_, rest)| rest);
    without_time.to_lowercase().replace(&word.to_lowercase(), "*").replace(id, "*")
}

#[cfg(test)]
mod tests {
    #[test]
    fn answers_to_different_words_are_comparable() {
        let a = super::plain("time=\"1\" level=error msg=\"unknown X in claim-1\"", "X", "claim-1");
        let b = super::plain("time=\"2\" level=error msg=\"unknown Y in claim-2\"", "Y", "claim-2");
        assert_eq!(a, b);
    }
}
