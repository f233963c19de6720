//! Rules that contradict one another.

use super::calls::Call;
use super::rules::Rules;
use crate::error::{Problem, Problems};
use crate::field::Field;

/// Looks at the rule `id` of `call` and the rules of the same call that come before it in the profile.
///
/// The same conditions with two verdicts are refused, as by libseccomp (`seccomp_rule_add`: EEXIST) and so by runc and
/// crun. A rule that another one without conditions makes void is told of, for nobody writes it on purpose.
pub(super) fn check(
    rules: &Rules,
    call: &Call,
    id: usize,
    earlier: impl Iterator<Item = usize>,
    problems: &mut Problems,
) {
    let rule = rules.rule(id);
    let conditions = rules.conditions(id);
    for other in earlier {
        let (known, verdict) = (rules.conditions(other), rules.rule(other).verdict);
        if verdict == rule.verdict || rules.rule(other).origin == rule.origin {
            continue;
        }
        let origin = rules.rule(other).origin;
        if !conditions.is_empty() && known == conditions {
            let text = format!(
                "{:?} has the same conditions in linux.seccomp.syscalls[{origin}], with another action",
                call.name()
            );
            once(&mut problems.errors, rule.origin, text);
        } else if known.is_empty() && conditions.is_empty() {
            // The first one counts. Podman's own profile has such pairs.
        } else if known.is_empty() {
            let text =
                format!("{:?} stays as linux.seccomp.syscalls[{origin}] has it, without conditions", call.name());
            once(&mut problems.warnings, rule.origin, text);
        } else if conditions.is_empty() {
            let text = format!("{:?} has no conditions here: linux.seccomp.syscalls[{origin}] is void", call.name());
            once(&mut problems.warnings, rule.origin, text);
        }
    }
}

/// Every architecture meets the same conflict; it is told once.
fn once(list: &mut Vec<Problem>, origin: usize, text: String) {
    let problem = Problem { field: Field::at("linux.seccomp.syscalls[]", &[origin]), text, hint: None };
    if !list.contains(&problem) {
        list.push(problem);
    }
}
