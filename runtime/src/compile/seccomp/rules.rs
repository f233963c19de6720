//! From the profile's text to checked rules.

use std::ops::Range;

use super::calls::{self, Call};
use super::words::{self, ACTION, NOTIFY, Op};
use crate::error::Problems;
use crate::field::Field;
use crate::spec::{Seccomp, SyscallArg, SyscallRule};

/// A comparison of one argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Condition {
    pub(super) index: u32,
    pub(super) op: Op,
    /// Compared with; of `MaskedEq`, masked already.
    pub(super) value: u64,
    /// All ones but for `MaskedEq`.
    pub(super) mask: u64,
}

/// A verdict and the conditions that must all hold for it.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    /// Index in `linux.seccomp.syscalls`.
    pub(super) origin: usize,
    pub(super) verdict: u32,
    conditions: Range<usize>,
}

/// A call with the rules that one entry of the profile has for it. Any one of them decides.
pub(super) struct Use {
    pub(super) call: &'static Call,
    /// Empty where the entry's action is the default action: such an entry changes nothing, but its calls are known
    /// to the profile.
    pub(super) rules: Range<usize>,
}

/// The profile, checked.
#[derive(Default)]
pub(super) struct Rules {
    pub(super) default: u32,
    pub(super) uses: Vec<Use>,
    pub(super) notify: bool,
    rules: Vec<Rule>,
    conditions: Vec<Condition>,
}

impl Rules {
    /// Reads all entries; what is wrong with them goes to `problems`.
    pub(super) fn read(seccomp: &Seccomp<'_>, default: u32, problems: &mut Problems) -> Rules {
        let names = seccomp.syscalls.iter().map(|entry| entry.names.len()).sum();
        let mut rules = Rules { default, uses: Vec::with_capacity(names), ..Rules::default() };
        for (origin, entry) in seccomp.syscalls.iter().enumerate() {
            rules.entry(origin, entry, problems);
        }
        rules
    }

    fn entry(&mut self, origin: usize, entry: &SyscallRule<'_>, problems: &mut Problems) {
        let verdict = words::verdict(
            &entry.action,
            entry.errno_ret,
            || Field::at("linux.seccomp.syscalls[].action", &[origin]),
            || Field::at("linux.seccomp.syscalls[].errnoRet", &[origin]),
            problems,
        );
        let first = self.rules.len();
        let conditions = self.arguments(origin, &entry.args, problems);
        let Some(verdict) = verdict else { return };
        if verdict & ACTION == NOTIFY {
            self.notify = true;
        }
        if verdict != self.default {
            self.add_rules(origin, verdict, conditions);
        }
        let rules = first..self.rules.len();
        if entry.names.is_empty() {
            problems
                .error(Field::at("linux.seccomp.syscalls[].names", &[origin]), "is empty: it must name a system call");
        }
        for (i, name) in entry.names.iter().enumerate() {
            let field = || Field::at("linux.seccomp.syscalls[].names[]", &[origin, i]);
            if name.is_empty() {
                problems.error(field(), "an empty string is no system call");
            }
            // The listener's number goes to the runtime by write(2) in other runtimes, and engines count on the refusal.
            if verdict & ACTION == NOTIFY && **name == *"write" {
                problems.error(field(), "SCMP_ACT_NOTIFY cannot be used for the write syscall");
            }
            if let Some(call) = calls::find(name) {
                self.uses.push(Use { call, rules: rules.clone() });
            }
        }
    }

    fn arguments(&mut self, origin: usize, args: &[SyscallArg<'_>], problems: &mut Problems) -> Range<usize> {
        let first = self.conditions.len();
        for (i, arg) in args.iter().enumerate() {
            if arg.index > 5 {
                let text = format!("{} is no argument: a system call has 0 to 5", arg.index);
                problems.error(Field::at("linux.seccomp.syscalls[].args[].index", &[origin, i]), text);
            }
            let Some(op) = words::op(&arg.op) else {
                let field = Field::at("linux.seccomp.syscalls[].args[].op", &[origin, i]);
                problems.error_hint(field, format!("no comparison {:?}", arg.op), words::OPERATORS.join(", "));
                continue;
            };
            let (value, mask) = match op {
                Op::MaskedEq => (arg.value_two & arg.value, arg.value),
                _ => (arg.value, u64::MAX),
            };
            self.conditions.push(Condition { index: arg.index, op, value, mask });
        }
        first..self.conditions.len()
    }

    /// Conditions of one entry must all hold; but where two of them look at the same argument, any one of the entry's
    /// conditions is enough. runc and crun read profiles so, because libseccomp takes an argument once in a rule.
    fn add_rules(&mut self, origin: usize, verdict: u32, conditions: Range<usize>) {
        let mut seen = 0_u64;
        let twice = self.conditions.get(conditions.clone()).unwrap_or_default().iter().any(|condition| {
            let bit = 1 << condition.index.min(63);
            let before = seen;
            seen |= bit;
            before == seen
        });
        if twice {
            self.rules.extend(conditions.map(|i| Rule { origin, verdict, conditions: i..i + 1 }));
        } else {
            self.rules.push(Rule { origin, verdict, conditions });
        }
    }

    pub(super) fn rule(&self, id: usize) -> &Rule {
        &self.rules[id]
    }

    pub(super) fn conditions(&self, id: usize) -> &[Condition] {
        &self.conditions[self.rules[id].conditions.clone()]
    }

    /// The rule `id` for a call that is made through another, whose first argument is then `selector`.
    ///
    /// As in libseccomp, the condition on the first argument gives way and the others stay, though what they compare is
    /// then a pointer: nobody can look behind it.
    pub(super) fn multiplexed(&mut self, id: usize, selector: u64) -> usize {
        let first = self.conditions.len();
        self.conditions.push(Condition { index: 0, op: Op::Eq, value: selector, mask: u64::MAX });
        for i in self.rules[id].conditions.clone() {
            let condition = self.conditions[i];
            if condition.index != 0 {
                self.conditions.push(condition);
            }
        }
        let Rule { origin, verdict, .. } = self.rules[id];
        self.rules.push(Rule { origin, verdict, conditions: first..self.conditions.len() });
        self.rules.len() - 1
    }

    /// Whether two rules decide alike.
    pub(super) fn alike(&self, a: usize, b: usize) -> bool {
        a == b || (self.rules[a].verdict == self.rules[b].verdict && self.conditions(a) == self.conditions(b))
    }
}
