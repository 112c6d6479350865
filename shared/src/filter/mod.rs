//! What a search asks: one data type, whoever sent it and whichever store executes it.
//!
//! [`grid`] reads a filter from the dashboard's grid, [`pairs`] from the `key:value` pairs of a search;
//! [`Filter::matches`] says what it means. A store that executes filters in another way must give the same answers.
//!
//! The meaning, in one place: a [`Key`] picks some of a product's [`leaves`](crate::row::leaves), and a [`Test`] holds
//! when it holds for **any** of them. The negative operators (`doesNotContain`, `!=`, `not` …) are the negation of
//! the positive, so that they hold where a key has no value. Texts compare without regard to case and to how characters are
//! composed, numbers exactly, and a text that reads as a number is also that number: see [`Text`].

pub mod grid;
pub mod pairs;
mod suffixes;
mod text;

pub use suffixes::KeySuffixes;
pub use text::{Text, fold, folded_text};

use crate::date;
use crate::number::Number;
use crate::row::Leaf;
use chrono::NaiveDate;
use serde_json::Value;
use std::collections::BTreeSet;

/// A search's condition.
#[derive(Debug, Clone, PartialEq)]
pub enum Filter {
    /// Every one of these; true when empty.
    And(Vec<Filter>),
    /// At least one of these; false when empty.
    Or(Vec<Filter>),
    /// The contrary.
    Not(Box<Filter>),
    /// Any leaf that the key picks passes the test.
    Any(Key, Test),
}

/// Which leaves are tested.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// Those of this dotted path, and those below it.
    Path(String),
    /// Those whose path is this, ends in it, or has it on the way: `processing_block` is also
    /// `config.processing_block`.
    Ending(String),
    /// All of them.
    Every,
}

/// What is asked of a leaf.
#[derive(Debug, Clone, PartialEq)]
pub enum Test {
    /// It has a value at all.
    Present,
    /// Its text contains this.
    Contains(Text),
    /// Its text begins with this.
    StartsWith(Text),
    /// Its text ends in this.
    EndsWith(Text),
    /// Its text is this.
    Equals(Text),
    /// It is one of these, each as in `Equals`.
    AnyOf(Vec<Text>),
    /// It is a number that stands so to this one.
    Number(Comparison, Number),
    /// It is a date that stands so to this one.
    Date(Comparison, NaiveDate),
}

/// How two values compare: the leaf on the left, the filter's value on the right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Comparison {
    Equal,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

impl Comparison {
    pub(crate) fn holds<T: PartialOrd>(self, left: &T, right: &T) -> bool {
        match self {
            Comparison::Equal => left == right,
            Comparison::Greater => left > right,
            Comparison::GreaterOrEqual => left >= right,
            Comparison::Less => left < right,
            Comparison::LessOrEqual => left <= right,
        }
    }
}

impl Key {
    /// Whether this key picks the leaves of `path`.
    pub fn picks(&self, path: &str) -> bool {
        match self {
            Key::Every => true,
            Key::Path(key) => path.strip_prefix(key.as_str()).is_some_and(ends_name),
            Key::Ending(key) => {
                let names = path.match_indices('.').map(|(at, _)| &path[at + 1..]);
                std::iter::once(path).chain(names).any(|rest| rest.strip_prefix(key.as_str()).is_some_and(ends_name))
            }
        }
    }
}

/// Whether what follows in a path begins a new name or nothing at all.
fn ends_name(rest: &str) -> bool {
    rest.is_empty() || rest.starts_with('.')
}

impl Test {
    /// Whether a leaf's value passes.
    pub fn holds(&self, leaf: &Value) -> bool {
        match self {
            Test::Present => true,
            Test::Contains(text) => text.is_number(leaf) || folded_text(leaf).contains(text.folded()),
            Test::StartsWith(text) => text.is_number(leaf) || folded_text(leaf).starts_with(text.folded()),
            Test::EndsWith(text) => text.is_number(leaf) || folded_text(leaf).ends_with(text.folded()),
            Test::Equals(text) => is(text, leaf),
            Test::AnyOf(texts) => texts.iter().any(|text| is(text, leaf)),
            Test::Number(comparison, number) => Number::of(leaf).is_some_and(|leaf| comparison.holds(&leaf, number)),
            Test::Date(comparison, day) => {
                leaf.as_str().and_then(date::parse).is_some_and(|leaf| comparison.holds(&leaf, day))
            }
        }
    }
}

/// Whether a leaf is a text, or the number that it reads as.
fn is(text: &Text, leaf: &Value) -> bool {
    text.is_number(leaf) || folded_text(leaf) == text.folded()
}

impl Filter {
    /// The filter that everything passes.
    pub fn everything() -> Filter {
        Filter::And(Vec::new())
    }

    /// Whether a product with these leaves passes.
    pub fn matches<K: AsRef<str>>(&self, leaves: &[Leaf<K>]) -> bool {
        self.matches_unless(leaves, &|| false).unwrap_or_default()
    }

    /// As [`matches`](Self::matches), but `None` as soon as `given_up` says so. It is asked often enough that little time
    /// passes in between, however large the product is.
    pub fn matches_unless<K: AsRef<str>>(&self, leaves: &[Leaf<K>], given_up: &impl Fn() -> bool) -> Option<bool> {
        // The first of several that decides, or else what holds when none does.
        let first = |filters: &[Filter], decides: bool| {
            for filter in filters {
                if filter.matches_unless(leaves, given_up)? == decides {
                    return Some(decides);
                }
            }
            Some(!decides)
        };
        match self {
            Filter::And(all) => first(all, false),
            Filter::Or(any) => first(any, true),
            Filter::Not(filter) => Some(!filter.matches_unless(leaves, given_up)?),
            Filter::Any(key, test) => {
                for some in leaves.chunks(BETWEEN) {
                    if given_up() {
                        return None;
                    }
                    if some.iter().any(|leaf| key.picks(leaf.key.as_ref()) && test.holds(&leaf.value)) {
                        return Some(true);
                    }
                }
                Some(false)
            }
        }
    }

    /// How many conditions it has. One on every key counts as more than any.
    pub(crate) fn conditions(&self) -> usize {
        match self {
            Filter::And(filters) | Filter::Or(filters) => {
                filters.iter().map(Filter::conditions).fold(0, usize::saturating_add)
            }
            Filter::Not(filter) => filter.conditions(),
            Filter::Any(Key::Every, _) => usize::MAX,
            Filter::Any(..) => 1,
        }
    }

    /// Adds the keys that it speaks of, but for the one that picks all.
    pub(crate) fn add_keys(&self, keys: &mut BTreeSet<Key>) {
        match self {
            Filter::And(filters) | Filter::Or(filters) => filters.iter().for_each(|filter| filter.add_keys(keys)),
            Filter::Not(filter) => filter.add_keys(keys),
            Filter::Any(Key::Every, _) => {}
            Filter::Any(key, _) => drop(keys.insert(key.clone())),
        }
    }

    pub(crate) fn not(self) -> Filter {
        Filter::Not(Box::new(self))
    }
}

/// How many leaves are tested before it is asked again whether anybody still waits for the answer.
const BETWEEN: usize = 256;

/// The most conditions of one search, and the most values of one condition: each costs time for every product.
pub(crate) const MAX_CONDITIONS: usize = 500;

/// Refuses what is more than a person or a dashboard would ask.
pub(crate) fn bounded(what: &str, count: usize, most: usize) -> Result<(), BadSearch> {
    if count > most {
        Err(BadSearch::new(format!("{what}: {count} are too many; {most} is the most.")))
    } else {
        Ok(())
    }
}

/// Why a search cannot be understood; for the client to read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadSearch(pub String);

impl BadSearch {
    pub(crate) fn new(message: impl Into<String>) -> BadSearch {
        BadSearch(message.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn leaf(key: &str, value: Value) -> Leaf {
        Leaf { key: key.to_owned(), value }
    }

    #[test]
    fn keys_pick_by_whole_names() {
        let path = Key::Path("config.image".into());
        assert!(path.picks("config.image") && path.picks("config.image.tag"));
        assert!(!path.picks("config.images") && !path.picks("x.config.image"));
        let ending = Key::Ending("image".into());
        assert!(ending.picks("image") && ending.picks("config.image") && ending.picks("config.image.tag"));
        assert!(!ending.picks("config.images") && !ending.picks("config.myimage"));
        assert!(Key::Ending("crc".into()).picks("files.crc"));
        assert!(Key::Every.picks("anything"));
    }

    #[test]
    fn text_ignores_case_and_has_no_wildcards() {
        assert!(Test::Contains(Text::new("VIS")).holds(&json!("my-vis-Receive")));
        assert!(!Test::Contains(Text::new("%")).holds(&json!("abc")));
        assert!(!Test::Contains(Text::new("a_c")).holds(&json!("abc")));
        assert!(Test::Contains(Text::new("ÄÖ")).holds(&json!("xäöy")));
        assert!(Test::StartsWith(Text::new("TR")).holds(&json!(true)));
        assert!(Test::EndsWith(Text::new("0")).holds(&json!(10)));
        assert!(Test::Contains(Text::new("ΣΙΓΜΑΣ")).holds(&json!("ΣΙΓΜΑΣΚΟΠΙΟ")));
    }

    #[test]
    fn equality_is_of_numbers_where_both_are() {
        assert!(Test::Equals(Text::new("4.0")).holds(&json!(4)));
        assert!(!Test::Equals(Text::new("4.0")).holds(&json!("4")));
        assert!(Test::Equals(Text::new("ABC")).holds(&json!("abc")));
        assert!(Test::Equals(Text::new("false")).holds(&json!(false)));
        assert!(!Test::Equals(Text::new("inf")).holds(&json!(1e300)));
    }

    #[test]
    fn every_test_of_a_text_holds_for_an_equal_number() {
        let tests = |text: &str| {
            let text = Text::new(text);
            [
                Test::Contains(text.clone()),
                Test::StartsWith(text.clone()),
                Test::EndsWith(text.clone()),
                Test::Equals(text.clone()),
                Test::AnyOf(vec![Text::new("other"), text]),
            ]
        };
        for test in tests("2.5e-07") {
            assert!(test.holds(&json!(2.5e-7)), "{test:?}");
            assert!(!test.holds(&json!("2.5e-7")) && !test.holds(&json!(2.6e-7)), "{test:?}");
        }
        assert!(tests("+5")[0].holds(&json!(5)) && tests("5")[0].holds(&json!(15)));
    }

    #[test]
    fn a_test_holds_for_any_leaf_and_its_negation_for_none() {
        let leaves = [leaf("files.crc", json!("aa")), leaf("files.crc", json!("bb"))];
        let has = |text: &str| Filter::Any(Key::Path("files.crc".into()), Test::Equals(Text::new(text)));
        assert!(has("aa").matches(&leaves) && has("BB").matches(&leaves));
        assert!(!has("aa").not().matches(&leaves) && has("cc").not().matches(&leaves));
        let absent = Filter::Any(Key::Path("other".into()), Test::Present);
        assert!(!absent.matches(&leaves) && absent.not().matches(&leaves));
        assert!(Filter::everything().matches(&leaves) && !Filter::Or(vec![]).matches(&leaves));
    }

    #[test]
    fn dates_and_numbers_compare_by_kind() {
        let day = date::parse("2023-10-31").expect("a date");
        assert!(Test::Date(Comparison::GreaterOrEqual, day).holds(&json!("2023-10-31T10:00:00Z")));
        assert!(!Test::Date(Comparison::Greater, day).holds(&json!("2023-10-31")));
        assert!(!Test::Date(Comparison::Less, day).holds(&json!("no date")));
        let below = |number: &str| Test::Number(Comparison::Less, Number::read(number).expect("a number"));
        assert!(below("1.5").holds(&json!(1)));
        assert!(!below("1.5").holds(&json!("1")) && !below("1.5").holds(&json!("-.inf")));
        assert!(below("9007199254740993").holds(&json!(9_007_199_254_740_992_i64)));
    }
}
