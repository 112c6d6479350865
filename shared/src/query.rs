//! A whole search: what matches, in which order, and which part of it is answered.

use crate::filter::{Filter, Key, folded_text};
use crate::number::Number;
use crate::product::Product;
use crate::row::{self, FIXED, Leaf};
use chrono::NaiveDate;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::cmp::{Ordering, Reverse};
use std::collections::BTreeSet;
use uuid::Uuid;

/// A search, as either endpoint asks it and as every store executes it.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    /// What matches.
    pub filter: Filter,
    /// What comes before all else that matches: the exact matches of a search.
    pub first: Option<Filter>,
    /// The order asked for. Empty: newest `date_created` first. Every order ends in `uid`.
    pub sort: Vec<Sort>,
    /// Answers what comes after this place in the order, and not from the beginning.
    pub after: Option<Place>,
    /// How many matches to pass over, from there.
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

/// A product's place in the order of a [`Query`] without a `first`: where it stood stays a place when it has gone, and
/// when others came before it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Place {
    /// Its value for each of the query's sorts.
    pub values: Vec<Option<SortValue>>,
    /// When it was created, which decides where there are no sorts.
    pub date_created: NaiveDate,
    /// Which product it is, which decides at last.
    pub uid: Uuid,
}

/// How many conditions a plain query may have.
const PLAIN: usize = 8;

impl Query {
    /// Whether it asks about fields that every product has and about little else, as lists of what is new do: it costs next to
    /// nothing, whatever metadata there is.
    pub fn is_plain(&self) -> bool {
        let fixed = |key: &Key| matches!(key, Key::Path(path) if FIXED.contains(&path.as_str()));
        self.first.is_none() && self.filter.conditions() <= PLAIN && self.keys().iter().all(fixed)
    }

    /// The keys that it speaks of, in order, but for [`Key::Every`].
    pub fn keys(&self) -> BTreeSet<Key> {
        let mut keys: BTreeSet<Key> = self.sort.iter().map(|sort| Key::Path(sort.field.clone())).collect();
        [&self.filter].into_iter().chain(&self.first).for_each(|filter| filter.add_keys(&mut keys));
        keys
    }

    /// The place of a product, with its bytes on disk.
    pub fn place(&self, product: &Product, size: Option<u64>) -> Place {
        self.place_of(product, &row::leaves(product, size))
    }

    /// The place of a product with these leaves.
    pub fn place_of<K: AsRef<str>>(&self, product: &Product, leaves: &[Leaf<K>]) -> Place {
        Place {
            values: self.sort.iter().map(|sort| sort.value(leaves)).collect(),
            date_created: product.date_created,
            uid: product.uid,
        }
    }

    /// The order of two places: by the sorts, or else newest first, and then by uid.
    pub fn compare(&self, a: &Place, b: &Place) -> Ordering {
        let values = self.sort.iter().zip(&a.values).zip(&b.values);
        let mut by_value = values.map(|((sort, a), b)| sort.compare(a.as_ref(), b.as_ref()));
        let by_value = by_value.find(|order| order.is_ne()).unwrap_or(Ordering::Equal);
        let by_date = || match self.sort.as_slice() {
            [] => Reverse(a.date_created).cmp(&Reverse(b.date_created)),
            _ => Ordering::Equal,
        };
        by_value.then_with(by_date).then_with(|| a.uid.cmp(&b.uid))
    }
}

/// A page of a list, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// Which one.
    pub page: usize,
    /// How many rows each has.
    pub page_size: usize,
}

/// What a product is ordered by under one [`Sort`]: numbers before texts, texts as they are compared.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum SortValue {
    /// A number.
    Number(Number),
    /// The text of anything else, [folded](crate::filter::fold).
    Text(String),
}

impl SortValue {
    fn of(leaf: &Value) -> SortValue {
        Number::of(leaf).map_or_else(|| SortValue::Text(folded_text(leaf).into_owned()), SortValue::Number)
    }
}

impl Sort {
    /// What a product is ordered by: the least of the field's values where it has several.
    pub fn value<K: AsRef<str>>(&self, leaves: &[Leaf<K>]) -> Option<SortValue> {
        let key = crate::filter::Key::Path(self.field.clone());
        leaves.iter().filter(|leaf| key.picks(leaf.key.as_ref())).map(|leaf| SortValue::of(&leaf.value)).min()
    }

    /// The order of two products by their [`value`](Sort::value)s.
    pub fn compare(&self, a: Option<&SortValue>, b: Option<&SortValue>) -> Ordering {
        match (a, b) {
            (None, None) => Ordering::Equal,
            (None, Some(_)) => Ordering::Greater,
            (Some(_), None) => Ordering::Less,
            (Some(a), Some(b)) if self.descending => b.cmp(a),
            (Some(a), Some(b)) => a.cmp(b),
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
