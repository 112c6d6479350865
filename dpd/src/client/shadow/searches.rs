//! The columns, and the totals of filters by each of their operators with values that occur.

use super::faults::Fault;
use super::products::{Lists, each_row, page, total_of};
use super::report::{Verdict, What};
use super::sides::{Question, Side};
use super::{Failure, Result, Shadow};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// How many rows are looked at to find out why totals differ.
const LOOKED_AT: usize = 5_000;

/// A column that can be filtered by, and its operators with whether each needs a value.
struct Column {
    field: String,
    operators: Vec<(String, bool)>,
}

/// Compares both. `stale` are products that both have in different versions.
pub(super) fn compare(shadow: &mut Shadow, lists: &Lists, stale: &BTreeSet<String>) -> Result<()> {
    let columns = columns(shadow, lists)?;
    let all = columns.len();
    let asked: Vec<Column> = columns.into_iter().take(shadow.columns).collect();
    if asked.len() < all {
        let left = all - asked.len();
        shadow.report.note(format!("{left} of {all} columns were not filtered by; --columns says how many are"));
    }
    let everything = total(&shadow.sides.old, &json!([]))?;
    let mut questions = Vec::new();
    for column in &asked {
        let values = lists.values.get(&column.field).map(Vec::as_slice).unwrap_or_default();
        for (operator, needs_value) in &column.operators {
            match needs_value {
                false => questions.push((column.field.as_str(), operator.as_str(), Value::Null)),
                true => questions.extend(
                    values.iter().map(|value| (column.field.as_str(), operator.as_str(), tried(operator, value))),
                ),
            }
        }
    }
    // What people wrote is no column, and is searched for.
    questions.push(("annotation", "contains", json!("a")));
    for (done, (field, operator, value)) in questions.iter().enumerate() {
        shadow.progress.at("filters", done, questions.len());
        let mut item = json!({"id": 1, "field": field, "operator": operator});
        if !value.is_null() {
            item["value"] = value.clone();
        }
        filter(shadow, lists, stale, (field, operator, value), &json!([item]), &everything)?;
    }
    Ok(())
}

/// A value that an operator is tried with, from one that occurs.
fn tried(operator: &str, value: &Value) -> Value {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let chars: Vec<char> = text.chars().collect();
    let part = (chars.len() / 2).max(1);
    match operator {
        "contains" | "doesNotContain" => {
            let from = (chars.len() - part) / 2;
            chars[from..from + part].iter().collect::<String>().into()
        }
        "startsWith" => chars[..part].iter().collect::<String>().into(),
        "endsWith" => chars[chars.len() - part..].iter().collect::<String>().into(),
        "isAnyOf" => json!([text]),
        _ => text.into(),
    }
}

/// The total of a filter, or how it failed.
#[derive(Debug, Clone, PartialEq)]
enum Total {
    Of(usize),
    Failed(String),
}

fn total(side: &Side, items: &Value) -> Result<Total> {
    let answer = side.ask(Question::Post("/filterdataproducts", &page(items, 0, 1)))?;
    Ok(match total_of(&answer.body).filter(|_| answer.is_good()) {
        Some(total) => Total::Of(total),
        None => Total::Failed(answer.shown()),
    })
}

fn filter(
    shadow: &mut Shadow,
    lists: &Lists,
    stale: &BTreeSet<String>,
    (field, operator, value): (&str, &str, &Value),
    items: &Value,
    everything: &Total,
) -> Result<()> {
    let (old, new) = (total(&shadow.sides.old, items)?, total(&shadow.sides.new, items)?);
    let which = format!("{field} {operator} {}", if value.is_null() { String::new() } else { value.to_string() });
    if old == new {
        match &old {
            Total::Of(_) => shadow.report.equal(What::Totals, 1),
            Total::Failed(why) => shadow.report.differs(What::Totals, Verdict::NotCompared, None, which, why),
        }
        return Ok(());
    }
    let how = |old: &Total| match (old, &new) {
        (Total::Of(old), Total::Of(new)) => format!("old {old}, new {new}"),
        (Total::Failed(why), _) => format!("the old one fails: {why}"),
        (_, Total::Failed(why)) => format!("the new one fails: {why}"),
    };
    let verdict = match (&old, &new) {
        (Total::Of(old), Total::Of(new)) if new > old => Verdict::OursMore,
        (Total::Of(_), Total::Of(_)) => Verdict::TheirsMore,
        _ => Verdict::Differs,
    };
    let why = match (&old, &new) {
        (_, Total::Failed(_)) => None,
        (Total::Failed(_), _) => (field == "annotation").then_some(Fault::AnnotationFilter),
        (Total::Of(_), Total::Of(_)) => {
            let is_pattern = !["isAnyOf", "=", "!="].contains(&operator)
                && value.as_str().is_some_and(|value| value.contains(['%', '_']));
            let again = total(&shadow.sides.old, items)?;
            match () {
                () if again == new => Some(Fault::UnseenField),
                () if follows(shadow, lists, stale, items)? => Some(Fault::Products),
                () if is_pattern && verdict == Verdict::TheirsMore => Some(Fault::Wildcards),
                // The contrary of what is found by too much.
                () if is_pattern && operator.starts_with("doesNot") => Some(Fault::Wildcards),
                () if old == *everything && again == *everything => Some(Fault::UnseenField),
                () => None,
            }
        }
    };
    shadow.report.differs(What::Totals, verdict, why, which, how(&old));
    Ok(())
}

/// Whether totals differ by products alone that only one has, or has in another version.
fn follows(shadow: &Shadow, lists: &Lists, stale: &BTreeSet<String>, items: &Value) -> Result<bool> {
    if stale.is_empty() && lists.old.len() == lists.new.len() && lists.old.keys().eq(lists.new.keys()) {
        return Ok(false);
    }
    let found = |side: &Side| -> Result<Option<BTreeSet<String>>> {
        let mut uids = BTreeSet::new();
        let told = each_row(side, items, LOOKED_AT, &mut |row, _, _| {
            let uid = row.get("uid").and_then(Value::as_str);
            uids.extend(uid.filter(|uid| lists.both_have(uid) && !stale.contains(*uid)).map(str::to_owned));
        });
        match told {
            Ok(total) if total <= LOOKED_AT => Ok(Some(uids)),
            Ok(_) | Err(Failure::Failed(_)) => Ok(None),
            Err(error) => Err(error),
        }
    };
    let (old, new) = (found(&shadow.sides.old)?, found(&shadow.sides.new)?);
    Ok(old.is_some() && old == new)
}

/// Compares the columns, and answers those that both have, with the operators that both have.
fn columns(shadow: &mut Shadow, lists: &Lists) -> Result<Vec<Column>> {
    let (old, new) = shadow.sides.both(Question::Get("/muidatagridconfig"))?;
    if !old.is_good() || !new.is_good() {
        let how = format!("old: {}, new: {}", old.shown(), new.shown());
        shadow.report.differs(What::Columns, Verdict::Differs, None, "/muidatagridconfig", how);
        return Ok(Vec::new());
    }
    let read = |body: &Value| -> Vec<(String, BTreeMap<String, bool>)> {
        let columns = body["columns"].as_array().map(Vec::as_slice).unwrap_or_default();
        let operator = |operator: &Value| {
            let needs_value = operator["requiresFilterValue"].as_bool().unwrap_or(true);
            Some((operator["value"].as_str()?.to_owned(), needs_value))
        };
        let operators = |column: &Value| {
            let operators = column["filterOperators"].as_array().map(Vec::as_slice).unwrap_or_default();
            operators.iter().filter_map(operator).collect()
        };
        columns.iter().filter_map(|column| Some((column["field"].as_str()?.to_owned(), operators(column)))).collect()
    };
    let (theirs, ours) = (read(&old.body), read(&new.body));
    let fields = |columns: &[(String, BTreeMap<String, bool>)]| -> BTreeSet<String> {
        columns.iter().map(|(field, _)| field.clone()).collect()
    };
    let (their_fields, our_fields) = (fields(&theirs), fields(&ours));
    for field in their_fields.difference(&our_fields) {
        // Both show rows of what the caller may see.
        let is_seen = lists.old_fields.contains(field) || lists.new_fields.contains(field);
        let why = (!is_seen && new.body.get("columns_left_out").is_none()).then_some(Fault::GuardedColumns);
        shadow.report.differs(What::Columns, Verdict::TheirsMore, why, field, "not in the new one");
    }
    for field in our_fields.difference(&their_fields) {
        let why = match (lists.old_fields.contains(field), lists.new_fields.contains(field)) {
            (true, _) => Some(Fault::UnseenField),
            (false, true) => Some(Fault::Products),
            (false, false) => None,
        };
        shadow.report.differs(What::Columns, Verdict::OursMore, why, field, "not in the old one");
    }
    shadow.report.equal(What::Columns, our_fields.intersection(&their_fields).count());
    let shared = ours.into_iter().filter_map(|(field, operators)| {
        let own = theirs.iter().find(|(other, _)| *other == field).map(|(_, own)| own)?;
        // An older grid's configuration tells none.
        let both = operators.into_iter().filter(|(name, _)| own.is_empty() || own.contains_key(name)).collect();
        Some(Column { field, operators: both })
    });
    Ok(shared.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_tried_in_part_and_whole() {
        for (operator, value, expected) in [
            ("contains", json!("abcd"), json!("bc")),
            ("startsWith", json!("äbc"), json!("ä")),
            ("endsWith", json!("x"), json!("x")),
            ("equals", json!("abc"), json!("abc")),
            (">=", json!(1.5), json!("1.5")),
            ("isAnyOf", json!("a,b"), json!(["a,b"])),
        ] {
            assert_eq!(tried(operator, &value), expected, "{operator} {value}");
        }
    }
}
