//! `linux.memoryPolicy`, read into what set_mempolicy(2) takes.

use crate::abi::{NODE_WORDS, NodeMask};
use crate::error::Problems;
use crate::field::Field;
use crate::spec::MemoryPolicy;

/// Modes and their numbers (linux/mempolicy.h), and whether a mode needs nodes, or takes none.
const MODES: [(&str, u32, Nodes); 7] = [
    ("MPOL_DEFAULT", 0, Nodes::None),
    ("MPOL_PREFERRED", 1, Nodes::Any),
    ("MPOL_BIND", 2, Nodes::Some),
    ("MPOL_INTERLEAVE", 3, Nodes::Some),
    ("MPOL_LOCAL", 4, Nodes::None),
    ("MPOL_PREFERRED_MANY", 5, Nodes::Some),
    ("MPOL_WEIGHTED_INTERLEAVE", 6, Nodes::Some),
];

const STATIC_NODES: u32 = 1 << 15;
const RELATIVE_NODES: u32 = 1 << 14;
const FLAGS: [(&str, u32); 3] = [
    ("MPOL_F_NUMA_BALANCING", 1 << 13),
    ("MPOL_F_RELATIVE_NODES", RELATIVE_NODES),
    ("MPOL_F_STATIC_NODES", STATIC_NODES),
];

/// Nodes that a mask has room for: a kernel's most (CONFIG_NODES_SHIFT is 10 at the highest).
const NODE_LIMIT: usize = NODE_WORDS * 64;

#[derive(Clone, Copy, PartialEq)]
enum Nodes {
    None,
    Any,
    Some,
}

pub(super) fn check(policy: &MemoryPolicy<'_>, problems: &mut Problems) {
    if let Err((field, text)) = memory_policy(policy) {
        problems.error(field, format!("invalid memory policy: {text}"));
    }
}

/// Mode, with the flags or-ed in, and nodes, as set_mempolicy(2) takes them.
///
/// # Errors
/// The property that is wrong, and why: what mm/mempolicy.c refuses whichever nodes the host has.
pub fn memory_policy(policy: &MemoryPolicy<'_>) -> Result<(u32, NodeMask), (Field, String)> {
    let wrong = |field: &'static str, text: String| Err((Field::new(field), text));
    let name = &*policy.mode;
    let Some((_, mode, takes)) = MODES.into_iter().find(|(known, ..)| *known == name) else {
        let text = if name.is_empty() { "a mode is required".to_owned() } else { format!("{name:?} is no mode") };
        return wrong("linux.memoryPolicy.mode", text);
    };
    let mut flags = 0;
    for (i, flag) in policy.flags.iter().enumerate() {
        let Some((_, bit)) = FLAGS.into_iter().find(|(known, _)| *known == &**flag) else {
            return Err((Field::at("linux.memoryPolicy.flags[]", &[i]), format!("{flag:?} is no flag")));
        };
        flags |= bit;
    }
    let list = policy.nodes.as_deref().unwrap_or_default();
    let nodes = match node_mask(list) {
        Ok(nodes) => nodes,
        Err(text) => return wrong("linux.memoryPolicy.nodes", text),
    };
    let empty = nodes.iter().all(|word| *word == 0);
    match takes {
        Nodes::None if !empty => return wrong("linux.memoryPolicy.nodes", format!("{name} takes no nodes")),
        Nodes::Some if empty => return wrong("linux.memoryPolicy.nodes", format!("{name} needs at least one node")),
        _ => {}
    }
    let both = STATIC_NODES | RELATIVE_NODES;
    if flags & both == both {
        let text = "MPOL_F_STATIC_NODES and MPOL_F_RELATIVE_NODES exclude each other".to_owned();
        return wrong("linux.memoryPolicy.flags", text);
    }
    if flags != 0 && name == "MPOL_DEFAULT" || flags & both != 0 && empty {
        return wrong("linux.memoryPolicy.flags", format!("{name} without nodes takes no such flag"));
    }
    Ok((mode | flags, nodes))
}

/// The mask of a list such as `0-3,7`. Blanks around, and empty elements, are let pass.
fn node_mask(list: &str) -> Result<NodeMask, String> {
    let node = |text: &str| {
        let text = text.trim();
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        let number = text.parse::<usize>().ok().filter(|_| digits);
        number.ok_or_else(|| format!("{list:?} is no list of nodes: {text:?} is no number"))
    };
    let mut mask = [0; NODE_WORDS];
    for element in list.split(',').map(str::trim).filter(|element| !element.is_empty()) {
        let (first, last) = match element.split_once('-') {
            Some((first, last)) => (node(first)?, node(last)?),
            None => (node(element)?, node(element)?),
        };
        if first > last {
            return Err(format!("{list:?} is no list of nodes: {element} runs backwards"));
        }
        if last >= NODE_LIMIT {
            return Err(format!("{list:?} is no list of nodes: {last} is beyond the {NODE_LIMIT} of a kernel"));
        }
        for node in first..=last {
            mask[node / 64] |= 1_u64 << (node % 64);
        }
    }
    Ok(mask)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<(u32, NodeMask), String> {
        let policy: MemoryPolicy<'_> = serde_json::from_str(text).unwrap();
        memory_policy(&policy).map_err(|(field, text)| format!("{field}: {text}"))
    }

    #[test]
    fn right_ones_become_what_the_kernel_takes() {
        let mut nodes = [0; NODE_WORDS];
        assert_eq!(read(r#"{"mode":"MPOL_DEFAULT"}"#), Ok((0, nodes)));
        assert_eq!(read(r#"{"mode":"MPOL_PREFERRED","nodes":""}"#), Ok((1, nodes)));
        assert_eq!(read(r#"{"mode":"MPOL_LOCAL","flags":null}"#), Ok((4, nodes)));
        nodes[0] = 0b1000_1111;
        nodes[15] = 1 << 63;
        let text = r#"{"mode":"MPOL_INTERLEAVE","nodes":"0-3, 7,1023","flags":["MPOL_F_STATIC_NODES"]}"#;
        assert_eq!(read(text), Ok((3 | 0x8000, nodes)));
    }

    #[test]
    fn wrong_ones_name_their_property() {
        for (text, begins) in [
            (r#"{"mode":""}"#, "linux.memoryPolicy.mode: a mode is required"),
            (r#"{"mode":"BIND","nodes":"0"}"#, "linux.memoryPolicy.mode: \"BIND\" is no mode"),
            (r#"{"mode":"MPOL_DEFAULT","nodes":"0"}"#, "linux.memoryPolicy.nodes: MPOL_DEFAULT takes no nodes"),
            (r#"{"mode":"MPOL_LOCAL","nodes":"0"}"#, "linux.memoryPolicy.nodes: MPOL_LOCAL takes no nodes"),
            (r#"{"mode":"MPOL_BIND"}"#, "linux.memoryPolicy.nodes: MPOL_BIND needs"),
            (r#"{"mode":"MPOL_INTERLEAVE","nodes":","}"#, "linux.memoryPolicy.nodes: MPOL_INTERLEAVE needs"),
            (r#"{"mode":"MPOL_WEIGHTED_INTERLEAVE"}"#, "linux.memoryPolicy.nodes: MPOL_WEIGHTED_INTERLEAVE needs"),
            (r#"{"mode":"MPOL_PREFERRED_MANY"}"#, "linux.memoryPolicy.nodes: MPOL_PREFERRED_MANY needs"),
            (
                r#"{"mode":"MPOL_BIND","nodes":"3-1"}"#,
                "linux.memoryPolicy.nodes: \"3-1\" is no list of nodes: 3-1 runs",
            ),
            (r#"{"mode":"MPOL_BIND","nodes":"+1"}"#, "linux.memoryPolicy.nodes: \"+1\" is no list of nodes: \"+1\" is"),
            (r#"{"mode":"MPOL_BIND","nodes":"0-"}"#, "linux.memoryPolicy.nodes: \"0-\" is no list of nodes: \"\" is"),
            (
                r#"{"mode":"MPOL_BIND","nodes":"1024"}"#,
                "linux.memoryPolicy.nodes: \"1024\" is no list of nodes: 1024 is",
            ),
            (r#"{"mode":"MPOL_BIND","nodes":"0","flags":["X"]}"#, "linux.memoryPolicy.flags[0]: \"X\" is no flag"),
            (r#"{"mode":"MPOL_DEFAULT","flags":["MPOL_F_NUMA_BALANCING"]}"#, "linux.memoryPolicy.flags: MPOL_DEFAULT"),
            (
                r#"{"mode":"MPOL_PREFERRED","flags":["MPOL_F_STATIC_NODES"]}"#,
                "linux.memoryPolicy.flags: MPOL_PREFERRED",
            ),
            (
                r#"{"mode":"MPOL_BIND","nodes":"0","flags":["MPOL_F_STATIC_NODES","MPOL_F_RELATIVE_NODES"]}"#,
                "linux.memoryPolicy.flags: MPOL_F_STATIC_NODES and",
            ),
        ] {
            let said = read(text).unwrap_err();
            assert!(said.starts_with(begins), "{text}: {said}");
        }
    }
}
