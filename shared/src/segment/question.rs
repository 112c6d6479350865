//! A query in the terms of segments: keys are numbers, and what is not in segments was looked up.

use super::{ACCESS, BY_UID, DAYS, NUMBERS, UIDS};
use crate::filter::{Filter, Key, Test};
use crate::query::{Query, Sort};
use std::collections::BTreeSet;

/// A search in segments.
#[derive(Debug, Clone)]
pub struct Question {
    /// What was asked.
    pub query: Query,
    /// The access rules that let the viewer pass.
    pub allowed: BTreeSet<i32>,
    pub(super) filter: Condition,
    pub(super) first: Option<Condition>,
    pub(super) sort: Vec<SortKeys>,
}

/// A [`Filter`] of numbers.
#[derive(Debug, Clone, PartialEq)]
pub enum Condition {
    /// Every one of these; true when empty.
    And(Vec<Condition>),
    /// At least one of these; false when empty.
    Or(Vec<Condition>),
    /// The contrary.
    Not(Box<Condition>),
    /// Any leaf under these keys passes the test.
    Any(Keys, Test),
    /// The version is one of these, which are in order.
    Numbers(Vec<u64>),
}

/// The numbers of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keys {
    /// Every key there is.
    All,
    /// These.
    These(Vec<i32>),
}

/// The keys of a [`Sort`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SortKeys {
    /// Those of the field and of what is below it.
    pub keys: Vec<i32>,
    /// Largest first.
    pub descending: bool,
}

/// What a store knows that a question is made with.
pub trait Resolve {
    /// The numbers of the keys that one picks.
    fn keys(&self, key: &Key) -> Keys;
    /// The versions that a condition holds for by what is kept beside segments, in order; `None` where nothing is.
    fn beside(&self, key: &Key, test: &Test) -> Option<Vec<u64>>;
}

impl Question {
    /// The question that a query is, for a viewer whom these rules let pass.
    pub fn new(query: Query, allowed: BTreeSet<i32>, store: &impl Resolve) -> Question {
        let sort_keys = |sort: &Sort| SortKeys {
            keys: match store.keys(&Key::Path(sort.field.clone())) {
                Keys::These(keys) => keys,
                Keys::All => Vec::new(),
            },
            descending: sort.descending,
        };
        Question {
            filter: Condition::of(&query.filter, store),
            first: query.first.as_ref().map(|first| Condition::of(first, store)),
            sort: query.sort.iter().map(sort_keys).collect(),
            allowed,
            query,
        }
    }

    /// The keys of the columns that it speaks of, in order; `None` where these are all.
    pub fn keys(&self) -> Option<Vec<i32>> {
        let mut keys: BTreeSet<i32> = [NUMBERS, UIDS, DAYS, ACCESS].into();
        if !self.sort.is_empty() {
            keys.insert(BY_UID);
        }
        keys.extend(self.sort.iter().flat_map(|sort| &sort.keys));
        let conditions = [&self.filter].into_iter().chain(&self.first);
        conditions.map(|condition| condition.add_keys(&mut keys)).collect::<Option<()>>()?;
        Some(keys.into_iter().collect())
    }
}

impl Condition {
    fn of(filter: &Filter, store: &impl Resolve) -> Condition {
        let all = |filters: &[Filter]| filters.iter().map(|filter| Condition::of(filter, store)).collect();
        match filter {
            Filter::And(filters) => Condition::And(all(filters)),
            Filter::Or(filters) => Condition::Or(all(filters)),
            Filter::Not(filter) => Condition::Not(Box::new(Condition::of(filter, store))),
            Filter::Any(key, test) => {
                let inside = Condition::Any(store.keys(key), test.clone());
                match store.beside(key, test) {
                    None => inside,
                    Some(numbers) => Condition::Or(vec![inside, Condition::Numbers(numbers)]),
                }
            }
        }
    }

    /// Adds the keys that it speaks of; `None` where these are all.
    fn add_keys(&self, keys: &mut BTreeSet<i32>) -> Option<()> {
        match self {
            Condition::And(conditions) | Condition::Or(conditions) => {
                conditions.iter().try_for_each(|condition| condition.add_keys(keys).ok_or(())).ok()
            }
            Condition::Not(condition) => condition.add_keys(keys),
            Condition::Any(Keys::All, _) => None,
            Condition::Any(Keys::These(own), _) => {
                keys.extend(own);
                Some(())
            }
            Condition::Numbers(_) => Some(()),
        }
    }
}
