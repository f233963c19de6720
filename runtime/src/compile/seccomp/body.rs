//! The code for one call's conditions.

use super::bpf::{Backward, IF_EQ, IF_GE, IF_GT, IF_SET, Label};
use super::rules::{Condition, Rules};
use super::words::Op;

/// The two halves of a 64-bit value: (upper, lower).
fn halves(value: u64) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = value.to_be_bytes();
    (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]))
}

/// Offset of an argument's lower half in `struct seccomp_data`. All architectures with a table are little-endian.
fn lower(index: u32) -> u32 {
    16 + 8 * index
}

fn upper(index: u32) -> u32 {
    lower(index) + 4
}

/// Writes the rules of `list`, of which the first that holds decides; none: the default action.
pub(super) fn write(out: &mut Backward, rules: &Rules, list: &[usize], wide: bool) -> Label {
    let mut next = out.verdict(rules.default);
    let mut rest = list;
    while let Some((id, _)) = rest.split_last() {
        let values = rest.iter().rev().take_while(|other| one_of(rules, **other, *id, wide)).count();
        let (before, run) = rest.split_at(rest.len() - values.max(1));
        let yes = out.verdict(rules.rule(*id).verdict);
        next = match rules.conditions(*id) {
            [only] if values > 1 => any_value(out, rules, run, only, wide, (yes, next)),
            conditions => all(out, conditions, wide, (yes, next)),
        };
        rest = before;
    }
    next
}

/// Whether `a` and `b` are both "this argument is …", of the same argument and verdict, and differ in the lower half
/// only: then the argument needs to be loaded once for both.
fn one_of(rules: &Rules, a: usize, b: usize, wide: bool) -> bool {
    match (rules.conditions(a), rules.conditions(b)) {
        ([a_only], [b_only]) => {
            rules.rule(a).verdict == rules.rule(b).verdict
                && (a_only.op, b_only.op) == (Op::Eq, Op::Eq)
                && a_only.index == b_only.index
                && (!wide || halves(a_only.value).0 == halves(b_only.value).0)
        }
        _ => false,
    }
}

fn any_value(
    out: &mut Backward,
    rules: &Rules,
    run: &[usize],
    like: &Condition,
    wide: bool,
    (yes, no): (Label, Label),
) -> Label {
    let mut next = no;
    for condition in run.iter().rev().flat_map(|id| rules.conditions(*id)) {
        next = out.branch(IF_EQ, halves(condition.value).1, yes, next);
    }
    next = out.load(lower(like.index), next);
    if wide {
        next = out.branch(IF_EQ, halves(like.value).0, next, no);
        next = out.load(upper(like.index), next);
    }
    next
}

fn all(out: &mut Backward, conditions: &[Condition], wide: bool, (yes, no): (Label, Label)) -> Label {
    conditions.iter().rev().fold(yes, |yes, condition| one(out, condition, wide, yes, no))
}

fn one(out: &mut Backward, condition: &Condition, wide: bool, yes: Label, no: Label) -> Label {
    match condition.op {
        Op::Eq | Op::MaskedEq => equal(out, condition, wide, yes, no),
        Op::Ne => equal(out, condition, wide, no, yes),
        Op::Ge => greater(out, condition, IF_GE, wide, yes, no),
        Op::Lt => greater(out, condition, IF_GE, wide, no, yes),
        Op::Gt => greater(out, condition, IF_GT, wide, yes, no),
        Op::Le => greater(out, condition, IF_GT, wide, no, yes),
    }
}

fn equal(out: &mut Backward, condition: &Condition, wide: bool, yes: Label, no: Label) -> Label {
    let (value, mask) = (halves(condition.value), halves(condition.mask));
    let mut next = half_equal(out, lower(condition.index), value.1, mask.1, yes, no);
    if wide {
        next = half_equal(out, upper(condition.index), value.0, mask.0, next, no);
    }
    next
}

fn half_equal(out: &mut Backward, offset: u32, value: u32, mask: u32, yes: Label, no: Label) -> Label {
    let test = match (mask, value) {
        (0, _) => return yes,
        (u32::MAX, _) => out.branch(IF_EQ, value, yes, no),
        (_, 0) => out.branch(IF_SET, mask, no, yes),
        _ => {
            let test = out.branch(IF_EQ, value, yes, no);
            out.and(mask, test)
        }
    };
    out.load(offset, test)
}

fn greater(out: &mut Backward, condition: &Condition, op: u16, wide: bool, yes: Label, no: Label) -> Label {
    let (high, low) = halves(condition.value);
    let test = out.branch(op, low, yes, no);
    let mut next = out.load(lower(condition.index), test);
    if wide {
        // Above zero is unequal to zero: one comparison says it.
        let differs = if high == 0 { yes } else { no };
        next = out.branch(IF_EQ, high, next, differs);
        if high != 0 {
            next = out.branch(IF_GT, high, yes, next);
        }
        next = out.load(upper(condition.index), next);
    }
    next
}
