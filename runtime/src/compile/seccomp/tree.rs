//! From rules to ranges of numbers, and from ranges to a balanced tree.

use super::arch::{Arch, X32_BIT};
use super::bpf::{AT_NUMBER, Backward, IF_EQ, IF_GE, Label};
use super::calls::Call;
use super::rules::Rules;
use super::words::{ENOSYS, ERRNO, KILL_THREAD};
use super::{body, conflict};
use crate::error::Problems;

/// What is done about a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Body {
    /// The same whatever its arguments are.
    Verdict(u32),
    /// The first of these rules whose conditions hold, else the default action. The number says which list of
    /// [`Trees::lists`] it is; equal lists have equal numbers.
    Rules(usize),
}

/// The calls from `start` to the next range's start.
#[derive(Debug, Clone)]
pub(super) struct Segment {
    start: u32,
    body: Body,
}

/// One number's rule, in the order of the profile.
struct Entry {
    number: u32,
    rule: usize,
    /// `None` where the call is made through another.
    call: Option<&'static Call>,
}

/// Ranges and bodies of all architectures.
pub(super) struct Trees<'a> {
    rules: &'a mut Rules,
    /// Lists of conditional rules, and, by width, where their code is.
    lists: Vec<Vec<usize>>,
    written: Vec<(usize, bool, Label)>,
    /// Calls above the profile's last answer ENOSYS.
    enosys: bool,
    /// Numbers with a body of their own on the architecture last seen.
    pub(super) calls: usize,
}

impl<'a> Trees<'a> {
    pub(super) fn new(rules: &'a mut Rules, enosys: bool) -> Self {
        Trees { rules, lists: Vec::new(), written: Vec::new(), enosys, calls: 0 }
    }

    /// The ranges of one `AUDIT_ARCH_…`, covering all 2³² numbers.
    ///
    /// x86_64 and x32 are one such architecture: bit 30 of the number tells them apart. Where the profile does not list
    /// x32, its numbers get the verdict for foreign architectures (libseccomp does the same): else a deny list would let
    /// every call through under its x32 number. Number -1 is no x32 call but what a tracer makes of a call that is to
    /// be skipped, and gets the default action.
    pub(super) fn segments(&mut self, arch: Arch, x32: bool, problems: &mut Problems) -> Vec<Segment> {
        let mut segments = Vec::with_capacity(256);
        self.fill(&mut segments, arch, 0, problems);
        let calls = self.calls;
        if arch == Arch::X86_64 && x32 {
            self.fill(&mut segments, Arch::X32, X32_BIT, problems);
        } else if arch == Arch::X86_64 {
            segments.push(Segment { start: X32_BIT, body: Body::Verdict(KILL_THREAD) });
            add(&mut segments, u32::MAX, Body::Verdict(self.rules.default));
        }
        self.calls = calls;
        segments
    }

    /// Adds the ranges from `base` on.
    fn fill(&mut self, segments: &mut Vec<Segment>, arch: Arch, base: u32, problems: &mut Problems) {
        let default = Body::Verdict(self.rules.default);
        let (entries, last) = self.entries(arch);
        let mut next = base;
        self.calls = 0;
        for group in entries.chunk_by(|a, b| a.number == b.number) {
            let Some(number) = group.first().map(|entry| entry.number) else { continue };
            if number > next {
                add(segments, next, default.clone());
            }
            let body = self.body(group, problems);
            add(segments, number, body);
            self.calls += 1;
            next = number.saturating_add(1);
        }
        match last {
            Some(last) if self.enosys => {
                if next <= last {
                    add(segments, next, default);
                }
                add(segments, last + 1, Body::Verdict(ERRNO | ENOSYS));
            }
            _ => add(segments, next, default),
        }
    }

    /// The profile's rules by number, and the largest number that the profile names; number 0 alone is none, as in runc. Unlike
    /// there, the number that a call is made through counts: else a profile of old calls alone could not be obeyed.
    fn entries(&mut self, arch: Arch) -> (Vec<Entry>, Option<u32>) {
        let mut entries = Vec::with_capacity(self.rules.uses.len());
        let mut last = None;
        for i in 0..self.rules.uses.len() {
            let (call, rules) = (self.rules.uses[i].call, self.rules.uses[i].rules.clone());
            let multiplexed = if arch == Arch::X86 { call.multiplexed() } else { None };
            if let Some(number) = call.number(arch) {
                entries.extend(rules.clone().map(|rule| Entry { number, rule, call: Some(call) }));
                if number != 0 {
                    last = last.max(Some(number));
                }
            }
            if let Some((number, selector)) = multiplexed {
                last = last.max(Some(number));
                for rule in rules {
                    entries.push(Entry { number, rule: self.rules.multiplexed(rule, selector), call: None });
                }
            }
        }
        entries.sort_by_key(|entry| entry.number);
        (entries, last)
    }

    /// What one number's rules come to. An unconditional rule makes every other one void, as in libseccomp.
    fn body(&mut self, group: &[Entry], problems: &mut Problems) -> Body {
        let unconditional = group.iter().find(|entry| self.rules.conditions(entry.rule).is_empty());
        if group.len() > 1 {
            for (i, entry) in group.iter().enumerate() {
                if let Some(call) = entry.call {
                    let earlier =
                        group[..i].iter().filter(|earlier| earlier.call.is_some()).map(|earlier| earlier.rule);
                    conflict::check(self.rules, call, entry.rule, earlier, problems);
                }
            }
        }
        if let Some(entry) = unconditional {
            return Body::Verdict(self.rules.rule(entry.rule).verdict);
        }
        let mut list: Vec<usize> = Vec::with_capacity(group.len());
        for entry in group {
            if !list.iter().any(|known| self.rules.alike(*known, entry.rule)) {
                list.push(entry.rule);
            }
        }
        let same = |known: &Vec<usize>| {
            known.len() == list.len() && known.iter().zip(&list).all(|(a, b)| self.rules.alike(*a, *b))
        };
        Body::Rules(self.lists.iter().position(same).unwrap_or_else(|| {
            self.lists.push(list);
            self.lists.len() - 1
        }))
    }

    /// Writes the tree of `segments`; what is answered is its start, which loads the number.
    pub(super) fn write(&mut self, out: &mut Backward, segments: &[Segment], wide: bool) -> Label {
        let split = segments.partition_point(|segment| segment.start < X32_BIT);
        let (low, high) = segments.split_at(split);
        let root = match high.first() {
            // x32 gets a branch of its own, so that its ranges make no path of x86_64 longer.
            Some(first) if first.start == X32_BIT => {
                let x32 = self.node(out, high, false);
                let own = self.node(out, low, wide);
                out.branch(IF_GE, X32_BIT, x32, own)
            }
            _ => self.node(out, segments, wide),
        };
        out.load(AT_NUMBER, root)
    }

    fn node(&mut self, out: &mut Backward, segments: &[Segment], wide: bool) -> Label {
        match segments {
            [] => out.verdict(KILL_THREAD),
            [only] => self.leaf(out, &only.body, wide),
            [around, one, after] if around.body == after.body && after.start == one.start + 1 => {
                let no = self.leaf(out, &around.body, wide);
                let yes = self.leaf(out, &one.body, wide);
                out.branch(IF_EQ, one.start, yes, no)
            }
            _ => {
                // An odd number of ranges is more likely to end in threes, which one comparison tells apart.
                let middle = (segments.len() / 2) | 1;
                let (low, high) = segments.split_at(middle.min(segments.len() - 1));
                let start = high.first().map_or(0, |segment| segment.start);
                let high = self.node(out, high, wide);
                let low = self.node(out, low, wide);
                out.branch(IF_GE, start, high, low)
            }
        }
    }

    fn leaf(&mut self, out: &mut Backward, body: &Body, wide: bool) -> Label {
        let list = match body {
            Body::Verdict(verdict) => return out.verdict(*verdict),
            Body::Rules(list) => *list,
        };
        if let Some((.., label)) = self.written.iter().find(|(known, width, _)| (*known, *width) == (list, wide)) {
            return *label;
        }
        let label = body::write(out, self.rules, &self.lists[list], wide);
        self.written.push((list, wide, label));
        label
    }
}

/// Adds a range, or makes the one before it longer.
fn add(segments: &mut Vec<Segment>, start: u32, body: Body) {
    let border = start == X32_BIT;
    if border || segments.last().is_none_or(|last| last.body != body) {
        segments.push(Segment { start, body });
    }
}
