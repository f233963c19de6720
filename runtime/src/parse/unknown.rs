//! Properties that the specification does not have: which are another platform's, and which were meant.

/// Objects of config.md that describe another platform's containers; a config may carry them along.
const PLATFORMS: [&str; 5] = ["freebsd", "solaris", "vm", "windows", "zos"];

/// Whether a property of the whole config is another platform's.
pub(super) fn of_other_platform(name: &str) -> bool {
    PLATFORMS.contains(&name)
}

/// The field most like `name`, if one is like it.
pub(super) fn closest(name: &str, fields: &[&'static str]) -> Option<&'static str> {
    if name.len() > 64 {
        return None;
    }
    let wanted = name.to_lowercase();
    let limit = wanted.len() / 4 + 1;
    fields
        .iter()
        .map(|field| (distance(wanted.as_bytes(), field.to_lowercase().as_bytes()), *field))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, field)| field)
}

/// How many bytes have to be put in, left out or changed to make `a` into `b` (Levenshtein).
fn distance(a: &[u8], b: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let changed = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_meant() {
        let fields = ["noNewPrivileges", "rlimits", "cwd", "user"];
        assert_eq!(closest("noNewPriviliges", &fields), Some("noNewPrivileges"));
        assert_eq!(closest("rLimits", &fields), Some("rlimits"));
        assert_eq!(closest("CWD", &fields), Some("cwd"));
        assert_eq!(closest("rlimit", &fields), Some("rlimits"));
        assert_eq!(closest("xyzzy", &fields), None);
        assert_eq!(closest("", &fields), None);
    }

    #[test]
    fn distance_counts_edits() {
        assert_eq!(distance(b"kitten", b"sitting"), 3);
        assert_eq!(distance(b"", b"abc"), 3);
        assert_eq!(distance(b"abc", b"abc"), 0);
    }
}
