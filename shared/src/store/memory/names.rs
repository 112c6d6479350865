//! The keys of leaves by number, and the access rules with what is counted for each.

use super::lock_read;
use crate::access::{Access, Viewer};
use crate::clock;
use crate::column::{ColumnKeys, KeyCount};
use crate::filter::{Key, KeySuffixes, Test};
use crate::segment::{self, Resolve};
use chrono::{DateTime, Utc};
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};

/// How many keys that went are kept in any case.
const FEW: usize = 1024;

/// The keys of products, numbered as they came. One that no product has any more goes, and its number is nobody else's.
#[derive(Debug, Default)]
pub(super) struct KeyNames(RwLock<Named>);

#[derive(Debug, Default)]
struct Named {
    numbers: HashMap<Arc<str>, i32>,
    names: HashMap<i32, Name>,
    next: i32,
    /// How often some went.
    gone: u64,
    /// Those that no product was counted with yet.
    uncounted: BTreeSet<i32>,
    /// What searches look keys up in, and the keys that are not in it yet. Some that are in it may have gone: nothing is found
    /// under their numbers.
    suffixes: KeySuffixes,
    new: Vec<(i32, Arc<str>)>,
}

#[derive(Debug)]
struct Name {
    key: Arc<str>,
    /// How many products have it, of those that are counted.
    products: usize,
}

impl Named {
    fn add(&mut self, key: &str) -> i32 {
        if let Some(number) = self.numbers.get(key) {
            return *number;
        }
        let (key, number): (Arc<str>, i32) = (key.into(), self.next);
        self.next = self.next.saturating_add(1);
        self.numbers.insert(key.clone(), number);
        self.names.insert(number, Name { key: key.clone(), products: 0 });
        self.uncounted.insert(number);
        self.new.push((number, key));
        number
    }

    fn remove(&mut self, number: i32) {
        if let Some(name) = self.names.remove(&number) {
            self.numbers.remove(&name.key);
        }
    }

    /// Whether most of what is kept to look keys up is of such as went.
    fn is_stale(&self) -> bool {
        self.suffixes.len() + self.new.len() > 2 * self.names.len() + FEW
    }

    /// Takes in what is not in the suffixes yet, and takes out what went, where that is most of it.
    fn index(&mut self) {
        let stale = self.is_stale();
        let new = std::mem::take(&mut self.new);
        if stale {
            self.suffixes = KeySuffixes::default();
            self.suffixes.extend(self.names.iter().map(|(number, name)| (*number, name.key.clone())));
        } else {
            self.suffixes.extend(new);
        }
    }
}

impl KeyNames {
    /// The number of a key.
    pub(super) fn number(&self, key: &str) -> i32 {
        if let Some(number) = lock_read(&self.0).numbers.get(key) {
            return *number;
        }
        // Somebody else may come first.
        self.write().add(key)
    }

    /// The name of a number's key.
    pub(super) fn name(&self, number: i32) -> Option<Arc<str>> {
        lock_read(&self.0).names.get(&number).map(|name| name.key.clone())
    }

    /// How often keys went: numbers that were asked for before the last time may be nobody's.
    pub(super) fn gone(&self) -> u64 {
        lock_read(&self.0).gone
    }

    /// Counts a product in that has these keys.
    pub(super) fn count_in(&self, numbers: &BTreeSet<i32>) {
        let mut named = self.write();
        for number in numbers {
            named.names.entry(*number).and_modify(|name| name.products += 1);
            named.uncounted.remove(number);
        }
    }

    /// Counts a product out that has these keys. Those that no other has go.
    pub(super) fn count_out(&self, numbers: &BTreeSet<i32>) {
        let mut named = self.write();
        let mut gone = Vec::new();
        for number in numbers {
            if let Some(name) = named.names.get_mut(number) {
                name.products = name.products.saturating_sub(1);
                gone.extend((name.products == 0).then_some(*number));
            }
        }
        if gone.is_empty() {
            return;
        }
        // Also those that were numbered for a product which was not put in.
        gone.extend(std::mem::take(&mut named.uncounted));
        gone.into_iter().for_each(|number| named.remove(number));
        named.gone += 1;
        if named.is_stale() {
            named.index();
        }
    }

    fn write(&self) -> RwLockWriteGuard<'_, Named> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Resolve for KeyNames {
    fn keys(&self, key: &Key) -> segment::Keys {
        match key {
            Key::Every => segment::Keys::All,
            key => {
                let named = lock_read(&self.0);
                if named.new.is_empty() {
                    return segment::Keys::These(named.suffixes.picked(key));
                }
                drop(named);
                let mut named = self.write();
                named.index();
                segment::Keys::These(named.suffixes.picked(key))
            }
        }
    }

    /// There are no annotations here, and nothing else beside products.
    fn beside(&self, _: &Key, _: &Test) -> Option<Vec<u64>> {
        None
    }
}

/// What is counted for the products of one access rule.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) products: u64,
    pub(super) on_volume: u64,
    keys: HashMap<i32, KeyCount>,
    /// When what is seen of them changed last.
    pub(super) updated: Option<DateTime<Utc>>,
}

impl Counts {
    /// Counts a product in or out, with the keys of its row and whether their values are numbers.
    pub(super) fn count(&mut self, on_volume: bool, keys: &[(i32, bool)], step: impl Fn(&mut u64)) {
        self.updated = Some(clock::now());
        step(&mut self.products);
        if on_volume {
            step(&mut self.on_volume);
        }
        for (key, number) in keys {
            let count = self.keys.entry(*key).or_default();
            step(&mut count.values);
            if *number {
                step(&mut count.numbers);
            }
            if count.values == 0 {
                self.keys.remove(key);
            }
        }
    }
}

/// The access rules that there were, numbered as they came. Segments speak of them by number, so that none goes.
#[derive(Debug, Default)]
pub(super) struct Rules {
    numbers: HashMap<Access, i32>,
    all: Vec<(Access, Counts)>,
}

impl Rules {
    /// The number of a rule.
    pub(super) fn number(&mut self, access: &Access) -> i32 {
        if let Some(number) = self.numbers.get(access) {
            return *number;
        }
        let number = i32::try_from(self.all.len()).unwrap_or(i32::MAX);
        self.all.push((access.clone(), Counts::default()));
        self.numbers.insert(access.clone(), number);
        number
    }

    /// What is counted for the products of a rule.
    pub(super) fn counts(&mut self, number: i32) -> Option<&mut Counts> {
        self.all.get_mut(usize::try_from(number).ok()?).map(|(_, counts)| counts)
    }

    /// The rule of a number.
    pub(super) fn get(&self, number: i32) -> Option<&Access> {
        self.all.get(usize::try_from(number).ok()?).map(|(access, _)| access)
    }

    /// Whether a rule lets a viewer pass.
    pub(super) fn lets_pass(&self, number: i32, viewer: &Viewer) -> bool {
        self.get(number).is_some_and(|access| viewer.may_see(access))
    }

    /// The rules that let a viewer pass.
    pub(super) fn allowed(&self, viewer: &Viewer) -> BTreeSet<i32> {
        (0..).zip(&self.all).filter(|(_, (access, _))| viewer.may_see(access)).map(|(number, _)| number).collect()
    }

    /// Whether a viewer may see all products.
    pub(super) fn shows_all(&self, viewer: &Viewer) -> bool {
        self.all.iter().all(|(access, counts)| counts.products == 0 || viewer.may_see(access))
    }

    /// What is counted for what a viewer may see.
    pub(super) fn visible(&self, viewer: &Viewer) -> impl Iterator<Item = &Counts> {
        self.all.iter().filter(|(access, _)| viewer.may_see(access)).map(|(_, counts)| counts)
    }

    /// The keys of rows that a viewer may see.
    pub(super) fn keys(&self, viewer: &Viewer, names: &KeyNames) -> ColumnKeys {
        let mut sums: HashMap<i32, KeyCount> = HashMap::new();
        for (key, count) in self.visible(viewer).flat_map(|counts| &counts.keys) {
            let sum = sums.entry(*key).or_default();
            sum.values += count.values;
            sum.numbers += count.numbers;
        }
        let named = sums.into_iter().filter_map(|(key, count)| Some((names.name(key)?.as_ref().to_owned(), count)));
        ColumnKeys::most_used(named.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_go_with_the_last_product_and_leave_nothing() {
        let names = KeyNames::default();
        let picked = |key: &str| match names.keys(&Key::Ending(key.to_owned())) {
            segment::Keys::These(numbers) => numbers,
            segment::Keys::All => panic!("not all are meant"),
        };
        let numbers = |keys: &[String]| keys.iter().map(|key| names.number(key)).collect::<BTreeSet<i32>>();
        let shared = numbers(&["a.shared".to_owned()]);
        names.count_in(&shared);
        let mut last = 0;
        for round in 0..20 {
            let own: Vec<String> = (0..500).map(|n| format!("own.k{round}_{n}")).collect();
            let both: BTreeSet<i32> = numbers(&own).union(&shared).copied().collect();
            // A number is nobody else's, also where a key comes again.
            assert!(both.iter().any(|number| *number > last));
            last = both.last().copied().expect("some");
            names.count_in(&both);
            if round % 2 == 0 {
                assert_eq!(picked(&format!("k{round}_7")).len(), 1);
                assert_eq!(picked("shared"), Vec::from_iter(shared.iter().copied()));
            }
            // Numbered for a product that is not put in.
            names.number("never.counted");
            let before = names.gone();
            names.count_out(&both);
            assert_ne!(names.gone(), before);
            assert_eq!(names.name(last), None);
        }
        let named = lock_read(&names.0);
        assert_eq!((named.names.len(), named.numbers.len(), named.uncounted.len()), (1, 1, 0));
        assert!(named.suffixes.len() + named.new.len() <= FEW + 2, "{}", named.suffixes.len());
        drop(named);
        assert_eq!(picked("shared").len(), 1);
        names.count_out(&shared);
        assert_eq!(names.name(*shared.first().expect("one")), None);
    }
}
