use std::collections::BTreeMap;

use proptest::prelude::*;

use super::devices::{Access, Key, Kind, Policy, Rule, Table};
use super::ebpf::{self, DeviceProgram};
use crate::error::Problems;
use crate::spec::DeviceRule;

/// The specification's words: rules in their order, each overwrites what it names.
fn model(rules: &[Rule], kind: Kind, major: u32, minor: u32, access: u8) -> bool {
    [1, 2, 4].into_iter().filter(|bit| access & bit != 0).all(|bit| {
        rules.iter().fold(false, |allowed, r| {
            let named = r.key.kind.is_none_or(|k| k == kind)
                && r.key.major.is_none_or(|m| m == major)
                && r.key.minor.is_none_or(|m| m == minor)
                && r.access.0 & bit != 0;
            if named { r.allow } else { allowed }
        })
    })
}

/// The kernel's version 1 (security/device_cgroup.c): a denying default wants one exception that allows all of the
/// access, an allowing default denies when one exception names any of it.
fn kernel_v1(table: &Table, kind: Kind, major: u32, minor: u32, access: u8) -> bool {
    let device = Key { kind: Some(kind), major: Some(major), minor: Some(minor) };
    let mut named = table.exceptions.iter().filter(|(key, _)| key.covers(&device)).map(|(_, a)| a.0);
    if table.allow { named.all(|a| a & access == 0) } else { named.any(|a| a & access == access) }
}

/// The few instructions that the programs are made of.
fn interpret(program: &DeviceProgram, kind: Kind, major: u32, minor: u32, access: u8) -> bool {
    let context = [u32::from(access) << 16 | kind as u32, major, minor];
    let mut r = [0u64; 11];
    let mut pc = 0;
    loop {
        let i = program.insns[pc];
        let (dst, low) = (usize::from(i.dst), |r: u64| (r & 0xffff_ffff) as u32);
        let imm = u32::from_ne_bytes(i.imm.to_ne_bytes());
        pc += 1;
        let jump = match i.code {
            ebpf::LOAD => {
                assert_eq!(i.src, 1);
                r[dst] = u64::from(context[usize::try_from(i.off).unwrap() / 4]);
                false
            }
            ebpf::MOVE => {
                r[dst] = u64::from(imm);
                false
            }
            ebpf::MOVE_REG => {
                r[dst] = r[usize::from(i.src)];
                false
            }
            ebpf::AND => {
                r[dst] = u64::from(low(r[dst]) & imm);
                false
            }
            ebpf::SHIFT => {
                r[dst] = u64::from(low(r[dst]) >> imm);
                false
            }
            ebpf::JUMP_NE => low(r[dst]) != imm,
            ebpf::JUMP_EQ => low(r[dst]) == imm,
            ebpf::EXIT => return r[0] == 1,
            code => panic!("instruction {code:#x}"),
        };
        if jump {
            pc += usize::try_from(i.off).unwrap();
        }
    }
}

fn rule() -> impl Strategy<Value = Rule> {
    let kind = prop_oneof![Just(None), Just(Some(Kind::Block)), Just(Some(Kind::Char))];
    let number = || prop_oneof![Just(None), (0u32..3).prop_map(Some), Just(Some(u32::MAX))];
    (any::<bool>(), kind, number(), number(), 1u8..8).prop_map(|(allow, kind, major, minor, access)| {
        let key = Key { kind, major, minor };
        Rule { allow, key, access: Access(access), origin: None }
    })
}

fn requests() -> impl Iterator<Item = (Kind, u32, u32, u8)> {
    let numbers = || [0, 1, 2, 3, u32::MAX].into_iter();
    // mknod(2) is asked for alone, reading and writing alone or together.
    [Kind::Block, Kind::Char].into_iter().flat_map(move |kind| {
        numbers().flat_map(move |major| {
            numbers().flat_map(move |minor| [1, 2, 4, 6].into_iter().map(move |access| (kind, major, minor, access)))
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_program_decides_as_the_rules_do(rules in prop::collection::vec(rule(), 0..9)) {
        let program = ebpf::program(&Policy::of(&rules));
        for (kind, major, minor, access) in requests() {
            let got = program.as_ref().is_none_or(|p| interpret(p, kind, major, minor, access));
            prop_assert_eq!(got, model(&rules, kind, major, minor, access), "{:?} {}:{} {}", kind, major, minor, access);
        }
    }

    #[test]
    fn the_table_decides_as_the_rules_do(rules in prop::collection::vec(rule(), 0..9)) {
        let Ok(table) = Policy::of(&rules).table() else { return Ok(()) };
        for (kind, major, minor, access) in requests() {
            let (got, want) = (kernel_v1(&table, kind, major, minor, access), model(&rules, kind, major, minor, access));
            prop_assert_eq!(got, want, "{:?} {}:{} {} by {:?}", kind, major, minor, access, &table);
        }
    }

    #[test]
    fn only_exceptions_of_exceptions_have_no_table(rules in prop::collection::vec(rule(), 0..9)) {
        let base = Policy::of(&rules);
        if base.table().is_err() {
            // What is refused takes devices out of a wider rule of the other kind.
            prop_assert!(base.rules.iter().enumerate().any(|(i, r)| r.allow == base.allow
                && base.rules[..i].iter().any(|e| e.allow != r.allow && !r.key.covers(&e.key))));
        }
    }
}

fn policy(json: &str) -> (Policy, Problems) {
    let rules: Vec<DeviceRule<'_>> = serde_json::from_str(json).unwrap();
    let mut problems = Problems::default();
    (Policy::new(&rules, &mut problems), problems)
}

fn lines(table: &Table) -> Vec<String> {
    table.exceptions.iter().map(|(key, access)| format!("{key} {access}")).collect()
}

#[test]
fn no_rules_allow_the_default_devices_alone() {
    let want = [
        "b *:* m",
        "c *:* m",
        "c 1:3 rwm",
        "c 1:5 rwm",
        "c 1:7 rwm",
        "c 1:8 rwm",
        "c 1:9 rwm",
        "c 5:0 rwm",
        "c 5:2 rwm",
        "c 10:200 rwm",
        "c 136:* rwm",
    ];
    for rules in ["[]", r#"[{"allow":false,"access":"rwm"}]"#, r#"[{"allow":true},{"allow":false,"type":"a"}]"#] {
        let table = policy(rules).0.table().unwrap();
        assert!(!table.allow);
        assert_eq!(lines(&table), want);
    }
}

#[test]
fn allowing_all_needs_no_program() {
    let (all, problems) = policy(r#"[{"allow":false},{"allow":true,"type":"a","major":-1,"minor":-1,"access":"rwm"}]"#);
    assert_eq!(problems.errors, []);
    assert!(all.allows_everything());
    assert_eq!(ebpf::program(&all), None);
    assert_eq!(all.table(), Ok(Table { allow: true, exceptions: BTreeMap::new() }));
}

#[test]
fn a_hole_that_a_later_rule_fills_is_none() {
    let allow_all_c = r#"{"allow":false},{"allow":true,"type":"c","access":"rw"}"#;
    let (hole, _) =
        policy(&format!(r#"[{allow_all_c},{{"allow":false,"type":"c","major":9,"minor":9,"access":"w"}}]"#));
    assert_eq!(hole.table(), Err(Some(2)));
    let filled = r#"{"allow":false,"type":"c","major":9,"minor":9},{"allow":true,"type":"c","major":9,"minor":9}"#;
    let (filled, _) = policy(&format!("[{allow_all_c},{filled}]"));
    assert!(filled.table().is_ok());
}

#[test]
fn reading_here_and_writing_there_is_both() {
    let (split, _) = policy(
        r#"[{"allow":true,"type":"b","major":8,"access":"r"},{"allow":true,"type":"b","minor":1,"access":"w"}]"#,
    );
    assert!(lines(&split.table().unwrap()).contains(&"b 8:1 rw".to_owned()));
}

#[test]
fn mistakes_name_their_field() {
    let (_, problems) = policy(
        r#"[{"allow":true,"type":"p"},{"allow":true,"access":"rx"},{"allow":true,"major":-2},{"allow":true,"minor":4294967296}]"#,
    );
    let fields: Vec<String> = problems.errors.iter().map(|p| p.to_string()).collect();
    assert_eq!(
        fields,
        [
            "linux.resources.devices[0].type: \"p\" is none of a, b and c",
            "linux.resources.devices[1].access: 'x' is none of r, w and m",
            "linux.resources.devices[2].major: -2 is no device number; -1 stands for all",
            "linux.resources.devices[3].minor: 4294967296 is no device number; -1 stands for all",
        ]
    );
}
