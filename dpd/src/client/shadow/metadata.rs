//! The metadata of products that both have: equal as JSON, but for what is written in another way.

use super::faults::Fault;
use super::products::Lists;
use super::report::{Verdict, What};
use super::sides::Question;
use super::{Result, Shadow};
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// The longest value that is shown, in characters.
const SHOWN: usize = 60;

/// Compares them. Answers the uids of which the old service has another version.
pub(super) fn compare(
    shadow: &mut Shadow,
    lists: &Lists,
    sample: &[String],
    read_at: Option<DateTime<Utc>>,
) -> Result<BTreeSet<String>> {
    let mut differing = BTreeSet::new();
    for (done, uid) in sample.iter().enumerate() {
        shadow.progress.at("metadata", done, sample.len());
        let (old, new) = shadow.sides.both(Question::Post("/dataproductmetadata", &json!({"uid": uid})))?;
        if !old.is_good() || !new.is_good() {
            if old.status != new.status {
                let how = format!("old: {}, new: {}", old.shown(), new.shown());
                shadow.report.differs(What::Metadata, Verdict::Differs, None, uid, how);
            } else {
                shadow.report.differs(What::Metadata, Verdict::NotCompared, None, uid, old.shown());
            }
            continue;
        }
        let mut differences = Vec::new();
        differ(String::new(), &old.body, &new.body, &mut differences);
        let Some(first) = differences.iter().find(|own| !own.is_text).or_else(|| differences.first()) else {
            match old.again {
                true => shadow.report.differs(What::Metadata, Verdict::Equal, Some(Fault::Busy), uid, ""),
                false => shadow.report.equal(What::Metadata, 1),
            }
            continue;
        };
        let row = &lists.new[uid];
        let is_edited = || {
            let changed = row.changed(uid, shadow.volume.as_deref(), &shadow.sides.new);
            row.has_file() && changed.zip(read_at).is_some_and(|(changed, read_at)| changed >= read_at)
        };
        let why = match () {
            () if first.is_text => Some(Fault::Texts),
            () if is_edited() => Some(Fault::Edited),
            () => None,
        };
        shadow.report.differs(What::Metadata, Verdict::Differs, why, uid, first.shown());
        differing.insert(uid.clone());
    }
    Ok(differing)
}

/// One value that is another.
struct Difference {
    path: String,
    old: Option<Value>,
    new: Option<Value>,
    /// Whether it is the same value, as text in the new one.
    is_text: bool,
}

impl Difference {
    fn shown(&self) -> String {
        let side = |value: &Option<Value>| match value {
            None => "nothing".to_owned(),
            Some(value) => {
                let text = value.to_string();
                let cut: String = text.chars().take(SHOWN).collect();
                if cut.len() < text.len() { format!("{cut}…") } else { cut }
            }
        };
        format!("{}: old {}, new {}", self.path, side(&self.old), side(&self.new))
    }
}

/// Where two values differ. Keys may stand in any order, and null is as good as nothing.
fn differ(path: String, old: &Value, new: &Value, all: &mut Vec<Difference>) {
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
            for name in names {
                let (own, other) = (old.get(name).unwrap_or(&Value::Null), new.get(name).unwrap_or(&Value::Null));
                differ(below(name), own, other, all);
            }
        }
        (Value::Array(old), Value::Array(new)) if old.len() == new.len() => {
            for (n, (old, new)) in old.iter().zip(new).enumerate() {
                differ(below(&n.to_string()), old, new, all);
            }
        }
        (old, new) if is_same(&path, old, new) => {}
        (old, new) => {
            let side = |value: &Value| (!value.is_null()).then(|| value.clone());
            let is_text = is_text_of(old, new);
            all.push(Difference { path, old: side(old), new: side(new), is_text });
        }
    }
}

fn is_same(path: &str, old: &Value, new: &Value) -> bool {
    if let (Value::Number(old), Value::Number(new)) = (old, new) {
        return old == new || old.as_f64() == new.as_f64();
    }
    let is_path = ["dataproduct_file", "metadata_file"].contains(&path);
    match (old.as_str(), new.as_str()) {
        (Some(old), Some(new)) if is_path => shared::uid::normalise(old) == shared::uid::normalise(new),
        _ => old == new,
    }
}

/// Whether what the new one has as text is what the old one has in a form of its own: a number, a time, or nothing for
/// what is no number.
fn is_text_of(old: &Value, new: &Value) -> bool {
    let Some(text) = new.as_str() else { return false };
    match old {
        Value::Null => [".nan", ".inf", "-.inf", "+.inf"].contains(&text.to_ascii_lowercase().as_str()),
        Value::Number(number) => text.parse::<f64>().ok().is_some_and(|own| number.as_f64() == Some(own)),
        Value::String(old) => {
            let digits = |text: &str| -> String { text.chars().filter(char::is_ascii_digit).collect() };
            let is_time = |text: &str| text.len() >= 10 && text.as_bytes()[..4].iter().all(u8::is_ascii_digit);
            // The same moment, with other signs between, or with a zone that the other left out.
            is_time(old) && is_time(text) && old[..10] == text[..10] && {
                let (old, new) = (digits(old), digits(text));
                old.starts_with(&new) || new.starts_with(&old) || shared::date::parse(text).is_some()
            }
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn differences(old: Value, new: Value) -> Vec<(String, bool)> {
        let mut all = Vec::new();
        differ(String::new(), &old, &new, &mut all);
        all.into_iter().map(|own| (own.path, own.is_text)).collect()
    }

    #[test]
    fn what_is_the_same_in_other_words_is_no_difference() {
        let none = differences(
            json!({"a": 1, "b": {"c": [1.0, null]}, "gone": null, "dataproduct_file": "./x//eb/"}),
            json!({"b": {"c": [1, null], "more": null}, "a": 1.0, "dataproduct_file": "x/eb"}),
        );
        assert!(none.is_empty(), "{none:?}");
    }

    #[test]
    fn differences_are_named_by_their_paths() {
        for (old, new, path, is_text) in [
            (json!({"a": {"b": 1}}), json!({"a": {"b": 2}}), "a.b", false),
            (json!({"a": [1, {"b": "x"}]}), json!({"a": [1, {"b": "y"}]}), "a.1.b", false),
            (json!({"a": [1]}), json!({"a": [1, 2]}), "a", false),
            (json!({"a": null}), json!({"a": ".nan"}), "a", true),
            (json!({"a": 1e300}), json!({"a": "1e300"}), "a", true),
            (json!({"a": "2001-12-14T21:59:43"}), json!({"a": "2001-12-14 21:59:43"}), "a", true),
            (json!({"a": "2001-12-15"}), json!({"a": "2001-12-14"}), "a", false),
            (json!({"a": "äöü-12-1x"}), json!({"a": "äöü"}), "a", false),
            (json!({"a": "x"}), json!({}), "a", false),
        ] {
            assert_eq!(differences(old.clone(), new), [(path.to_owned(), is_text)], "{old}");
        }
    }
}
