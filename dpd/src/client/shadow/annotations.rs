//! What people wrote about products that both have.

use super::faults::Fault;
use super::report::{Verdict, What};
use super::sides::{Answer, Question, time};
use super::{Result, Shadow};
use chrono::{DateTime, TimeDelta};
use serde_json::Value;
use std::collections::BTreeMap;

/// No time zone is further from UTC.
const FURTHEST: TimeDelta = TimeDelta::hours(14);

/// Compares them, by their ids.
pub(super) fn compare(shadow: &mut Shadow, sample: &[String]) -> Result<()> {
    for (done, uid) in sample.iter().enumerate() {
        shadow.progress.at("annotations", done, sample.len());
        let (old, new) = shadow.sides.both(Question::Get(&format!("/annotations/{uid}")))?;
        let (Some(theirs), Some(ours)) = (annotations(&old), annotations(&new)) else {
            // 202: kept in memory, and with it no annotations.
            let both = old.status == new.status;
            let verdict = if both || old.status == 202 { Verdict::NotCompared } else { Verdict::Differs };
            let how = format!("old: {}, new: {}", old.shown(), new.shown());
            shadow.report.differs(What::Annotations, verdict, None, uid, how);
            continue;
        };
        for (id, annotation) in &theirs {
            let which = format!("{uid}, annotation {id}");
            match ours.get(id) {
                None => {
                    let how = "not in the new one: run dpd-indexer import-annotations again";
                    shadow.report.differs(What::Annotations, Verdict::TheirsMore, None, which, how);
                }
                Some(own) => match difference(annotation, own) {
                    None => shadow.report.equal(What::Annotations, 1),
                    Some((why, how)) => {
                        shadow.report.differs(What::Annotations, Verdict::Differs, why, which, how);
                    }
                },
            }
        }
        for id in ours.keys().filter(|id| !theirs.contains_key(*id)) {
            let how = "not in the old one: was it written in the new one?";
            let which = format!("{uid}, annotation {id}");
            shadow.report.differs(What::Annotations, Verdict::OursMore, None, which, how);
        }
    }
    Ok(())
}

/// An answer's annotations by their ids; `None` where it is no answer.
fn annotations(answer: &Answer) -> Option<BTreeMap<i64, &Value>> {
    match answer.status {
        204 => Some(BTreeMap::new()),
        200 => {
            let list = answer.body.as_array()?;
            list.iter().map(|annotation| Some((annotation["annotation_id"].as_i64()?, annotation))).collect()
        }
        _ => None,
    }
}

/// How the new one's differs, and what explains it.
fn difference(old: &Value, new: &Value) -> Option<(Option<Fault>, String)> {
    for field in ["annotation_text", "data_product_uid"] {
        let text = |value: &Value| value[field].as_str().unwrap_or_default().trim().to_owned();
        if text(old) != text(new) {
            return Some((None, format!("another {field}")));
        }
    }
    let mut why = None;
    let author = |value: &Value| value["user_principal_name"].as_str().unwrap_or_default().to_owned();
    if author(old) != author(new) {
        if !author(old).trim().is_empty() || author(new) != "anonymous" {
            return Some((None, "another author".to_owned()));
        }
        why = Some((Some(Fault::Unknown), "without an author".to_owned()));
    }
    for field in ["timestamp_created", "timestamp_modified"] {
        let (own, other) = (time(&old[field]), time(&new[field]));
        match (own, other) {
            (Some(own), Some(other)) if own == other => {}
            (Some(own), Some(other)) => {
                let apart = (own - other).abs();
                let has_zone = old[field].as_str().is_some_and(|text| DateTime::parse_from_rfc3339(text).is_ok());
                if has_zone || apart > FURTHEST || apart.num_milliseconds() % 900_000 != 0 {
                    return Some((None, format!("another {field}")));
                }
                why = Some((Some(Fault::Zone), format!("{field}: {} minutes apart", apart.num_minutes())));
            }
            (None, _) => why = Some((Some(Fault::Unknown), format!("without a {field}"))),
            (Some(_), None) => return Some((None, format!("no {field} in the new one"))),
        }
    }
    why
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_explains_a_difference_is_found_and_nothing_more() {
        let annotation = |text: &str, author: Value, created: Value| {
            json!({"annotation_text": text, "data_product_uid": "u", "user_principal_name": author,
                "timestamp_created": created, "timestamp_modified": "2024-01-01T12:00:00"})
        };
        let old = |created: Value| annotation("x", json!("a"), created);
        let new = annotation("x", json!("a"), json!("2024-01-01T12:00:00+00:00"));
        let why = |old: &Value, new: &Value| difference(old, new).map(|(why, _)| why);
        assert_eq!(why(&old(json!("2024-01-01T12:00:00")), &new), None);
        assert_eq!(why(&old(json!("2024-01-01T13:00:00")), &new), Some(Some(Fault::Zone)));
        assert_eq!(why(&old(json!("2024-01-01T13:00:01")), &new), Some(None));
        assert_eq!(why(&old(json!("2024-01-01T13:00:00+00:00")), &new), Some(None));
        assert_eq!(why(&old(json!("2024-01-03T12:00:00")), &new), Some(None));
        assert_eq!(why(&old(Value::Null), &new), Some(Some(Fault::Unknown)));
        assert_eq!(why(&annotation("y", json!("a"), json!("2024-01-01T12:00:00")), &new), Some(None));
        let nobody = annotation("x", Value::Null, json!("2024-01-01T12:00:00"));
        assert_eq!(why(&nobody, &new), Some(None));
        let anonymous = annotation("x", json!("anonymous"), json!("2024-01-01T12:00:00Z"));
        assert_eq!(why(&nobody, &anonymous), Some(Some(Fault::Unknown)));
    }
}
