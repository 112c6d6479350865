//! Keys by their numbers, found by what a search calls them.

use super::{Key, ends_name};
use std::cmp::Ordering;
use std::sync::Arc;

/// Finds the keys that a [`Key`] picks without going through all of them: however many keys strangers bring, a search costs a
/// binary search for each of its conditions, and what it finds.
///
/// It is a suffix array of whole names: the places in all keys at which a name begins, in the order of what follows them.
/// Those that a key picks stand together there.
#[derive(Debug, Clone, Default)]
pub struct KeySuffixes {
    keys: Vec<(i32, Arc<str>)>,
    /// A key's index in `keys`, and where in it a name begins.
    suffixes: Vec<(u32, u32)>,
}

impl KeySuffixes {
    /// Takes in further keys and their numbers.
    pub fn extend(&mut self, keys: impl IntoIterator<Item = (i32, Arc<str>)>) {
        let mut new = Vec::new();
        for (number, key) in keys {
            let index = u32::try_from(self.keys.len()).unwrap_or(u32::MAX);
            let names = key.match_indices('.').map(|(at, _)| at + 1);
            let begins = std::iter::once(0).chain(names).filter_map(|at| u32::try_from(at).ok());
            new.extend(begins.map(|at| (index, at)));
            self.keys.push((number, key));
        }
        let Self { keys, suffixes } = self;
        let order = |a: &(u32, u32), b: &(u32, u32)| compare(suffix(keys, *a), suffix(keys, *b));
        new.sort_by(order);
        // From the last to the first, each behind what is before it: what was there is moved, and hardly compared.
        let (mut old, mut end) = (suffixes.len(), suffixes.len() + new.len());
        suffixes.resize(end, (0, 0));
        for own in new.into_iter().rev() {
            let place = suffixes[..old].partition_point(|before| order(before, &own).is_le());
            end -= old - place;
            suffixes.copy_within(place..old, end);
            end -= 1;
            suffixes[end] = own;
            old = place;
        }
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The numbers of the keys that one picks, in order.
    pub fn picked(&self, key: &Key) -> Vec<i32> {
        let (wanted, at_begin) = match key {
            Key::Path(wanted) => (wanted.as_str(), true),
            Key::Ending(wanted) => (wanted.as_str(), false),
            Key::Every => ("", false),
        };
        let number = |(index, _): &(u32, u32)| self.keys.get(*index as usize).map(|(number, _)| *number);
        let mut numbers: Vec<i32> = if *key == Key::Every {
            self.keys.iter().map(|(number, _)| *number).collect()
        } else {
            let begin = self.suffixes.partition_point(|own| compare(suffix(&self.keys, *own), wanted).is_lt());
            let picked = |own: &&(u32, u32)| suffix(&self.keys, **own).strip_prefix(wanted).is_some_and(ends_name);
            let of_key = |own: &&(u32, u32)| !at_begin || own.1 == 0;
            self.suffixes[begin..].iter().take_while(picked).filter(of_key).filter_map(number).collect()
        };
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    }
}

fn suffix(keys: &[(i32, Arc<str>)], (index, at): (u32, u32)) -> &str {
    keys.get(index as usize).and_then(|(_, key)| key.get(at as usize..)).unwrap_or_default()
}

/// The order of both with a dot behind them, so that all that have one as their first names stand together.
fn compare(a: &str, b: &str) -> Ordering {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let common = a.len().min(b.len());
    let rest = |text: &[u8]| text.get(common).copied();
    let after = || match (rest(a), rest(b)) {
        (None, None) => Ordering::Equal,
        (None, Some(byte)) => b'.'.cmp(&byte).then(Ordering::Less),
        (Some(byte), None) => byte.cmp(&b'.').then(Ordering::Greater),
        (Some(a), Some(b)) => a.cmp(&b),
    };
    a[..common].cmp(&b[..common]).then_with(after)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Keys of few letters, so that many share names; some with names that are empty or go on as others do.
    fn key() -> impl Strategy<Value = String> {
        prop::collection::vec("[ab!/é]{0,2}", 1..5).prop_map(|names| names.join("."))
    }

    proptest! {
        #[test]
        fn those_are_picked_that_a_search_through_all_finds(
            keys in prop::collection::vec(key(), 0..40), wanted in key(), split in 0usize..40,
        ) {
            let numbered: Vec<(i32, Arc<str>)> = (0..).zip(keys.iter().map(|key| key.as_str().into())).collect();
            let (first, second) = numbered.split_at(split.min(numbered.len()));
            let mut suffixes = KeySuffixes::default();
            suffixes.extend(first.to_vec());
            suffixes.extend(second.to_vec());
            for key in [Key::Path(wanted.clone()), Key::Ending(wanted), Key::Every] {
                let through_all: Vec<i32> =
                    numbered.iter().filter(|(_, name)| key.picks(name)).map(|(number, _)| *number).collect();
                prop_assert_eq!(suffixes.picked(&key), through_all, "{:?}", key);
            }
        }
    }
}
