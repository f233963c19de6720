//! The config that `spec` writes: a shell in `rootfs`, to start one's own from.

/// The config, with `@…@` where the rootless one differs.
const TEMPLATE: &str = include_str!("default_spec.json");

/// The text of a new `config.json`, indented by tabs, without a newline at its end.
///
/// `rootless` is the caller's uid and gid if the container is to need no privileges; `cgroup_namespace` is whether the
/// container gets one, as it should where cgroup v2 is the only hierarchy.
///
/// ```
/// let text = tare::default_spec::default_config(Some((1000, 100)), true);
/// let (spec, _) = tare::parse::config(text.as_bytes()).unwrap();
/// assert_eq!(spec.linux.unwrap().gid_mappings[0].host_id, 100);
/// ```
pub fn default_config(rootless: Option<(u32, u32)>, cgroup_namespace: bool) -> String {
    let mut more = String::new();
    let mut namespace = |kind: &str| more.push_str(&format!(",\n\t\t\t{{\n\t\t\t\t\"type\": \"{kind}\"\n\t\t\t}}"));
    if cgroup_namespace {
        namespace("cgroup");
    }
    let values = if let Some((uid, gid)) = rootless {
        namespace("user");
        // Without privileges there is no sysfs of one's own (the host's network stays), no group 5 to give terminals
        // to, and no cgroup to limit.
        let limits = [mapping("uidMappings", uid), mapping("gidMappings", gid)].concat();
        [
            ("PTS", ""),
            ("SYS_TYPE", "none"),
            ("SYS_SOURCE", "/sys"),
            ("SYS_OPTION", "\n\t\t\t\t\"rbind\","),
            ("NETWORK", ""),
        ]
        .map(|(name, value)| (name, value.to_owned()))
        .into_iter()
        .chain([("LIMITS", limits)])
        .collect::<Vec<_>>()
    } else {
        let network = "\t\t\t{\n\t\t\t\t\"type\": \"network\"\n\t\t\t},\n";
        [
            ("PTS", ",\n\t\t\t\t\"gid=5\""),
            ("SYS_TYPE", "sysfs"),
            ("SYS_SOURCE", "sysfs"),
            ("SYS_OPTION", ""),
            ("NETWORK", network),
            ("LIMITS", DEVICES),
        ]
        .map(|(name, value)| (name, value.to_owned()))
        .to_vec()
    };
    values
        .into_iter()
        .chain([("MORE", more)])
        .fold(TEMPLATE.to_owned(), |text, (name, value)| text.replace(&format!("@{name}@"), &value))
}

/// No device but those that every container has.
const DEVICES: &str = "\t\t\"resources\": {\n\t\t\t\"devices\": [\n\t\t\t\t{\n\t\t\t\t\t\"allow\": false,\n\t\t\t\t\t\"access\": \"rwm\"\n\t\t\t\t}\n\t\t\t]\n\t\t},\n";

/// The map of root to one host id.
fn mapping(name: &str, host_id: u32) -> String {
    format!(
        "\t\t\"{name}\": [\n\t\t\t{{\n\t\t\t\t\"containerID\": 0,\n\t\t\t\t\"hostID\": {host_id},\n\t\t\t\t\"size\": 1\n\t\t\t}}\n\t\t],\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Problems;

    #[test]
    fn both_forms_are_right() {
        for rootless in [None, Some((1000, 1001))] {
            for cgroup in [false, true] {
                let text = default_config(rootless, cgroup);
                assert!(!text.contains('@') && text.ends_with('}'), "{text}");
                let (spec, unknown) = crate::parse::config(text.as_bytes()).unwrap();
                let mut problems = Problems::default();
                crate::validate::spec(&spec, &mut problems);
                assert_eq!((problems, unknown), (Problems::default(), vec![]));
                let linux = spec.linux.unwrap();
                let has = |kind: &str| linux.namespaces.iter().any(|n| &*n.kind == kind);
                assert_eq!(
                    (has("network"), has("user"), has("cgroup")),
                    (rootless.is_none(), rootless.is_some(), cgroup)
                );
                assert_eq!(linux.resources.is_some(), rootless.is_none());
                assert_eq!(linux.uid_mappings.first().map(|m| m.host_id), rootless.map(|(uid, _)| uid));
                assert_eq!(linux.gid_mappings.first().map(|m| m.host_id), rootless.map(|(_, gid)| gid));
            }
        }
    }

    /// Like the sample of the layout but for what its user changed: the program and its terminal.
    #[test]
    fn is_the_usual_one() {
        let sample = include_str!("../tests/fixtures/configs/spec-default.json");
        let mut wanted: serde_json::Value = serde_json::from_str(sample).unwrap();
        wanted["process"]["terminal"] = true.into();
        wanted["process"]["args"] = vec!["sh"].into();
        let ours: serde_json::Value = serde_json::from_str(&default_config(None, false)).unwrap();
        assert_eq!(ours, wanted);
    }
}
