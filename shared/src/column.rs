//! The columns of the dashboard's grid: one for every key that occurs, and the fixed ones.

use crate::label;
use crate::row::FIXED;
use serde::Serialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The columns that the grid shows unless told otherwise, and their widths in pixels.
const SHOWN: [(&str, u32); 9] = [
    ("execution_block", 250),
    ("date_created", 150),
    ("config.processing_block", 250),
    ("config.processing_script", 150),
    ("context.observer", 150),
    ("context.intent", 150),
    ("context.notes", 500),
    ("size", 80),
    ("status", 80),
];
const HIDDEN_WIDTH: u32 = 150;

/// How often a key of rows has a value, and how often that is a number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KeyCount {
    /// Products with a value.
    pub values: u64,
    /// Those of them whose value is a number.
    pub numbers: u64,
}

/// The keys of rows beside the fixed ones and what their values are, as far as there are columns of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ColumnKeys {
    /// Those that most products have.
    pub counts: BTreeMap<String, KeyCount>,
    /// How many others there are.
    pub left_out: usize,
}

impl ColumnKeys {
    /// Of how many there are columns at the most: more nobody can look at, and every dashboard asks for all of them.
    pub const MOST: usize = 2000;

    /// The most used of all of these; of those that are used as much, the first by name.
    pub fn most_used(mut all: Vec<(String, KeyCount)>) -> ColumnKeys {
        let left_out = all.len().saturating_sub(ColumnKeys::MOST);
        if left_out > 0 {
            all.sort_by(|(a, counted_a), (b, counted_b)| {
                counted_b.values.cmp(&counted_a.values).then_with(|| a.cmp(b))
            });
            all.truncate(ColumnKeys::MOST);
        }
        ColumnKeys { counts: all.into_iter().collect(), left_out }
    }
}

/// What a column's values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names say it")]
pub enum ColumnType {
    String,
    Number,
    Date,
}

/// A column as the grid takes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are MUI DataGrid's")]
pub struct Column {
    pub field: String,
    pub header_name: String,
    pub width: u32,
    pub hide: bool,
    pub r#type: ColumnType,
    pub filterable: bool,
    pub filter_operators: &'static [Operator],
}

/// An operator that a column can be filtered by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Operator {
    value: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    requires_filter_value: Option<bool>,
}

const fn with_value(value: &'static str) -> Operator {
    Operator { value, requires_filter_value: None }
}

const fn alone(value: &'static str) -> Operator {
    Operator { value, requires_filter_value: Some(false) }
}

const EMPTY: Operator = alone("isEmpty");
const NOT_EMPTY: Operator = alone("isNotEmpty");
const ANY_OF: Operator = with_value("isAnyOf");

const STRING: &[Operator] = &[
    with_value("contains"),
    with_value("doesNotContain"),
    with_value("equals"),
    with_value("doesNotEqual"),
    with_value("startsWith"),
    with_value("endsWith"),
    EMPTY,
    NOT_EMPTY,
    ANY_OF,
];
const NUMBER: &[Operator] = &[
    with_value("="),
    with_value("!="),
    with_value(">"),
    with_value(">="),
    with_value("<"),
    with_value("<="),
    EMPTY,
    NOT_EMPTY,
    ANY_OF,
];
const DATE: &[Operator] = &[
    with_value("is"),
    with_value("not"),
    with_value("after"),
    with_value("onOrAfter"),
    with_value("before"),
    with_value("onOrBefore"),
    EMPTY,
    NOT_EMPTY,
];

/// The columns for the keys that occur: those shown first, in their order, then the rest by name.
pub fn columns(keys: &ColumnKeys) -> Vec<Column> {
    let keys = &keys.counts;
    let shown = SHOWN.iter().map(|(key, _)| *key);
    let fixed = FIXED.into_iter().filter(|key| *key != "id");
    let mut fields: Vec<&str> = shown.chain(fixed).chain(keys.keys().map(String::as_str)).collect();
    let mut seen = std::collections::HashSet::new();
    fields.retain(|field| seen.insert(*field));
    fields.into_iter().map(|field| column(field, keys.get(field))).collect()
}

fn column(field: &str, count: Option<&KeyCount>) -> Column {
    let width = SHOWN.iter().find(|(key, _)| *key == field).map(|(_, width)| *width);
    let r#type = match (field, count) {
        ("date_created", _) => ColumnType::Date,
        ("size", _) => ColumnType::Number,
        (_, Some(count)) if count.values > 0 && count.numbers == count.values => ColumnType::Number,
        _ => ColumnType::String,
    };
    Column {
        field: field.to_owned(),
        header_name: label::label(field),
        width: width.unwrap_or(HIDDEN_WIDTH),
        hide: width.is_none(),
        r#type,
        filterable: true,
        filter_operators: match r#type {
            ColumnType::String => STRING,
            ColumnType::Number => NUMBER,
            ColumnType::Date => DATE,
        },
    }
}

/// A label for every column and every key that is known, and under `_tooltip` a sentence for those that are defined.
pub fn human_readable(keys: &ColumnKeys) -> Value {
    let mut labels = Map::new();
    let mut tooltips = Map::new();
    let columns = columns(keys).into_iter().map(|column| column.field);
    for field in columns.chain(label::known_keys().map(str::to_owned)) {
        tooltips.extend(label::description(&field).map(|text| (field.clone(), text.into())));
        labels.insert(field.clone(), label::label(&field).into());
    }
    labels.insert("_tooltip".to_owned(), tooltips.into());
    labels.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn labels_are_there_before_their_columns_are() {
        let labels = human_readable(&ColumnKeys::most_used(vec![("context.own_key".to_owned(), KeyCount::default())]));
        assert_eq!((&labels["download"], &labels["context.own_key"]), (&json!("Download"), &json!("Own Key")));
        for key in ["config.execution_block", "item_name", "obscore.em_resolution", "obscore.em_unit"] {
            assert!(labels[key].is_string() && labels["_tooltip"][key].is_string(), "{key}");
        }
        assert!(labels["_tooltip"]["obscore.em_min"].as_str().is_some_and(|text| text.contains("as em_unit says")));
        assert_eq!(labels["_tooltip"]["context.own_key"], Value::Null);
    }

    #[test]
    fn types_follow_the_values() {
        let keys = ColumnKeys::most_used(vec![
            ("obscore.s_ra".to_owned(), KeyCount { values: 3, numbers: 3 }),
            ("mixed".to_owned(), KeyCount { values: 3, numbers: 2 }),
        ]);
        let columns = columns(&keys);
        let find = |field: &str| columns.iter().find(|c| c.field == field).expect("a column");
        assert_eq!(find("obscore.s_ra").r#type, ColumnType::Number);
        assert_eq!(find("mixed").r#type, ColumnType::String);
        assert_eq!(find("date_created").r#type, ColumnType::Date);
        assert!(find("mixed").hide && !find("context.notes").hide);
        assert_eq!(find("context.notes").width, 500);
        assert!(columns.iter().all(|c| c.field != "id"));
        let operators = |field: &str| find(field).filter_operators.iter().map(|o| o.value).collect::<Vec<_>>();
        assert!(operators("obscore.s_ra").contains(&">=") && operators("date_created").contains(&"onOrBefore"));
    }

    #[test]
    fn there_are_columns_of_the_most_used_keys() {
        let used = |values| KeyCount { values, numbers: 0 };
        let mut all: Vec<_> = (0..ColumnKeys::MOST).map(|n| (format!("rare{n:04}"), used(1))).collect();
        all.extend([("often".to_owned(), used(2)), ("a".to_owned(), used(1))]);
        let keys = ColumnKeys::most_used(all);
        assert_eq!((keys.counts.len(), keys.left_out), (ColumnKeys::MOST, 2));
        assert!(keys.counts.contains_key("often") && keys.counts.contains_key("a"));
        assert!(!keys.counts.contains_key("rare1999") && keys.counts.contains_key("rare1997"));
    }

    #[test]
    fn every_offered_operator_is_understood() {
        for operator in STRING.iter().chain(NUMBER).chain(DATE) {
            let value = if DATE.contains(operator) { "2024-01-01" } else { "1" };
            let item = json!({"field": "date_created", "operator": operator.value, "value": value});
            let body = json!({"filterModel": {"items": [item]}});
            // `equals` on a date takes dates only.
            if operator.value != "equals" {
                assert!(crate::filter::grid::parse(&body).is_ok(), "{body}");
            }
        }
    }
}
