//! The language of expectations: `[path, operator, value]` over everything that was observed.
//!
//! A path is words separated by blanks, from the root of the observation: `probe mounts /data options`.

use serde_json::Value;

/// Whether one check holds.
///
/// # Errors
/// A sentence that says what was expected and what was seen.
pub fn holds(seen: &Value, check: &[Value]) -> Result<(), String> {
    let path = check.first().and_then(Value::as_str).ok_or("a check without a path")?;
    let op = check.get(1).and_then(Value::as_str).ok_or("a check without an operator")?;
    let want = check.get(2).unwrap_or(&Value::Null);
    let got = find(seen, path);
    let ok = match op {
        "present" => !got.is_null(),
        "absent" => got.is_null(),
        "eq" => got == want,
        "ne" => !got.is_null() && got != want,
        "has" => each(want).all(|w| members(got).any(|m| &m == w)),
        "lacks" => !got.is_null() && each(want).all(|w| members(got).all(|m| &m != w)),
        "set" => same_set(got, want),
        "contains" => each(want).all(|w| text(got).contains(text(w).as_str())),
        "matches-any" => each(want).any(|w| text(got).to_lowercase().contains(text(w).to_lowercase().as_str())),
        "one-of" => each(want).any(|w| got == w),
        "starts" => text(got).starts_with(text(want).as_str()),
        "ge" => number(got).zip(number(want)).is_some_and(|(a, b)| a >= b),
        "le" => number(got).zip(number(want)).is_some_and(|(a, b)| a <= b),
        "same" => !got.is_null() && got == find(seen, &text(want)),
        "differs" => !got.is_null() && !find(seen, &text(want)).is_null() && got != find(seen, &text(want)),
        "ordered" => ordered(got, want),
        "only" => got.is_object() && members(got).all(|m| each(want).any(|w| w == &m)),
        "is" => is(got, &text(want)),
        "not-before" => version(got).zip(version(find(seen, &text(want)))).is_some_and(|(a, b)| a >= b),
        "count" => members(got).count() == want.as_u64().and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX),
        _ => return Err(format!("unknown operator {op}")),
    };
    if ok { Ok(()) } else { Err(format!("{path}: expected {op} {}, saw {}", short(want), short(got))) }
}

/// The value at a path, null where there is none.
pub fn find<'a>(seen: &'a Value, path: &str) -> &'a Value {
    static NOTHING: Value = Value::Null;
    let mut at = seen;
    for word in path.split(' ') {
        at = match at {
            Value::Object(map) => map.get(word).unwrap_or(&NOTHING),
            Value::Array(list) => word.parse::<usize>().ok().and_then(|i| list.get(i)).unwrap_or(&NOTHING),
            _ => &NOTHING,
        };
    }
    at
}

/// The members of a list, or the keys of an object.
fn members(value: &Value) -> Box<dyn Iterator<Item = Value> + '_> {
    match value {
        Value::Array(list) => Box::new(list.iter().cloned()),
        Value::Object(map) => Box::new(map.keys().cloned().map(Value::String)),
        _ => Box::new(std::iter::empty()),
    }
}

/// A list's elements, or the value itself.
fn each(value: &Value) -> Box<dyn Iterator<Item = &Value> + '_> {
    match value {
        Value::Array(list) => Box::new(list.iter()),
        one => Box::new(std::iter::once(one)),
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn number(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| value.as_str()?.trim().parse().ok())
}

fn same_set(got: &Value, want: &Value) -> bool {
    let (Some(a), Some(b)) = (got.as_array(), want.as_array()) else { return false };
    a.len() == b.len() && a.iter().all(|x| b.contains(x))
}

/// Whether the wanted members stand in the list in this order, others between them allowed.
fn ordered(got: &Value, want: &Value) -> bool {
    let mut rest = members(got);
    each(want).all(|w| rest.any(|m| &m == w))
}

/// Whether a value is an `object`, a `list`, or a map of `strings`.
fn is(value: &Value, kind: &str) -> bool {
    match kind {
        "object" => value.is_object(),
        "list" => value.is_array(),
        "strings" => value.as_object().is_some_and(|m| m.values().all(Value::is_string)),
        _ => false,
    }
}

/// The three numbers of a SemVer version, then whether it is a release: a pre-release comes before its release.
fn version(value: &Value) -> Option<(Vec<u64>, bool)> {
    let text = value.as_str()?.split('+').next()?;
    let (numbers, release) = text.split_once('-').map_or((text, true), |(n, _)| (n, false));
    let numbers: Option<Vec<u64>> = numbers.split('.').map(|n| n.parse().ok()).collect();
    Some((numbers.filter(|n| n.len() == 3)?, release))
}

fn short(value: &Value) -> String {
    let full = value.to_string();
    let mut out: String = full.chars().take(300).collect();
    if out.len() < full.len() {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn yes(check: Value) -> bool {
        let seen =
            json!({"a": {"b": ["x", "y"], "n": 5, "t": "some text", "/p": {"k": 1}}, "c": ["1", "2", "3"], "d": "x"});
        holds(&seen, check.as_array().unwrap()).is_ok()
    }

    #[test]
    fn operators() {
        assert!(yes(json!(["a b 0", "eq", "x"])) && !yes(json!(["a b 1", "eq", "x"])));
        assert!(yes(json!(["a b", "has", ["y"]])) && !yes(json!(["a b", "has", ["z"]])));
        assert!(yes(json!(["a b", "lacks", ["z"]])) && !yes(json!(["a b", "lacks", ["x"]])));
        assert!(yes(json!(["a b", "set", ["y", "x"]])) && !yes(json!(["a b", "set", ["y"]])));
        assert!(yes(json!(["a t", "contains", "text"])) && !yes(json!(["a t", "contains", "no"])));
        assert!(yes(json!(["a n", "ge", 5])) && !yes(json!(["a n", "ge", 6])));
        assert!(yes(json!(["a b 0", "same", "d"])) && yes(json!(["a b 1", "differs", "d"])));
        assert!(yes(json!(["c", "ordered", ["1", "3"]])) && !yes(json!(["c", "ordered", ["3", "1"]])));
        assert!(yes(json!(["a /p", "has", "k"])) && yes(json!(["a b", "count", 2])));
    }

    #[test]
    fn versions_follow_semver() {
        let v = |t: &str| version(&json!(t));
        assert!(v("1.2.0") > v("1.1.9") && v("1.2.0") > v("1.2.0-rc.1") && v("1.10.0") > v("1.9.0"));
        assert_eq!(v("1.2"), None);
    }

    #[test]
    fn nothing_is_never_evidence() {
        for op in ["eq", "ne", "lacks", "same", "differs", "has", "ge", "present", "starts", "only", "is", "not-before"]
        {
            assert!(!yes(json!(["nowhere", op, "nothing either"])), "{op}");
        }
    }
}
