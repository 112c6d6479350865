//! A whole search: what matches, in which order, and which part of it is answered.

use crate::filter::{Filter, lower_text};
use crate::row::Leaf;
use serde_json::Value;
use std::cmp::Ordering;

/// A search, as either endpoint asks it and as every store executes it.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    /// What matches.
    pub filter: Filter,
    /// What comes before all else that matches: the exact matches of a search.
    pub first: Option<Filter>,
    /// The order asked for. Empty: newest `date_created` first. Every order ends in `uid`.
    pub sort: Vec<Sort>,
    /// How many matches to pass over.
    pub offset: usize,
    /// How many to answer at the most.
    pub limit: usize,
}

/// One field to order by. Rows without a value come last, whichever way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sort {
    /// The dotted path.
    pub field: String,
    /// Largest first.
    pub descending: bool,
}

/// A page of a list, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// Which one.
    pub page: usize,
    /// How many rows each has.
    pub page_size: usize,
}

/// What a product is ordered by under one [`Sort`]: numbers before texts, texts without regard to case.
#[derive(Debug, Clone, PartialEq)]
pub enum SortValue {
    /// A number.
    Number(f64),
    /// The text of anything else, in lower case.
    Text(String),
}

impl SortValue {
    fn of(leaf: &Value) -> SortValue {
        match leaf {
            Value::Number(n) => SortValue::Number(n.as_f64().unwrap_or(f64::INFINITY)),
            other => SortValue::Text(lower_text(other).into_owned()),
        }
    }

    fn compare(&self, other: &SortValue) -> Ordering {
        match (self, other) {
            (SortValue::Number(a), SortValue::Number(b)) => a.total_cmp(b),
            (SortValue::Number(_), SortValue::Text(_)) => Ordering::Less,
            (SortValue::Text(_), SortValue::Number(_)) => Ordering::Greater,
            (SortValue::Text(a), SortValue::Text(b)) => a.cmp(b),
        }
    }
}

impl Sort {
    /// What a product is ordered by: the least of the field's values where it has several.
    pub fn value<K: AsRef<str>>(&self, leaves: &[Leaf<K>]) -> Option<SortValue> {
        let key = crate::filter::Key::Path(self.field.clone());
        leaves
            .iter()
            .filter(|leaf| key.picks(leaf.key.as_ref()))
            .map(|leaf| SortValue::of(&leaf.value))
            .min_by(SortValue::compare)
    }

    /// The order of two products by their [`value`](Sort::value)s.
    pub fn compare(&self, a: Option<&SortValue>, b: Option<&SortValue>) -> Ordering {
        match (a, b) {
            (None, None) => Ordering::Equal,
            (None, Some(_)) => Ordering::Greater,
            (Some(_), None) => Ordering::Less,
            (Some(a), Some(b)) if self.descending => b.compare(a),
            (Some(a), Some(b)) => a.compare(b),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn absent_is_last_and_numbers_come_before_texts() {
        let leaves = |value: Option<Value>| {
            value.map(|value| Leaf { key: "k".to_owned(), value }).into_iter().collect::<Vec<_>>()
        };
        let order = |descending| {
            let sort = Sort { field: "k".into(), descending };
            let mut values = [json!("b"), json!(10), json!(null), json!("A"), json!(9)];
            values.sort_by(|a, b| {
                let value = |v: &Value| sort.value(&leaves((!v.is_null()).then(|| v.clone())));
                sort.compare(value(a).as_ref(), value(b).as_ref())
            });
            Value::from(values.to_vec())
        };
        assert_eq!(order(false), json!([9, 10, "A", "b", null]));
        assert_eq!(order(true), json!(["b", "A", 10, 9, null]));
    }
}
