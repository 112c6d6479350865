//! The keys of leaves by number, and the access rules with what is counted for each.

use super::lock_read;
use crate::access::{Access, Viewer};
use crate::column::{KeyCount, Keys};
use crate::filter::{Key, Test};
use crate::segment::{self, Resolve};
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

/// The keys of all leaves that there were, numbered as they came.
#[derive(Debug, Default)]
pub(super) struct KeyNames(RwLock<Named>);

#[derive(Debug, Default)]
struct Named {
    numbers: HashMap<Arc<str>, i32>,
    names: Vec<Arc<str>>,
}

impl KeyNames {
    /// The number of a key.
    pub(super) fn number(&self, key: &str) -> i32 {
        if let Some(number) = lock_read(&self.0).numbers.get(key) {
            return *number;
        }
        let mut named = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let Named { numbers, names } = &mut *named;
        // Somebody else may have come first.
        *numbers.entry(key.into()).or_insert_with_key(|name| {
            names.push(name.clone());
            i32::try_from(names.len() - 1).unwrap_or(i32::MAX)
        })
    }

    /// The name of a number's key.
    pub(super) fn name(&self, number: i32) -> Option<Arc<str>> {
        usize::try_from(number).ok().and_then(|number| lock_read(&self.0).names.get(number).cloned())
    }
}

impl Resolve for KeyNames {
    fn keys(&self, key: &Key) -> segment::Keys {
        match key {
            Key::Every => segment::Keys::All,
            key => {
                let named = lock_read(&self.0);
                let picked = (0..).zip(&named.names).filter(|(_, name)| key.picks(name));
                segment::Keys::These(picked.map(|(number, _)| number).collect())
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
}

impl Counts {
    /// Counts a product in or out, with the keys of its row and whether their values are numbers.
    pub(super) fn count(&mut self, on_volume: bool, keys: &[(i32, bool)], step: impl Fn(&mut u64)) {
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

    /// Whether a rule lets a viewer pass.
    pub(super) fn lets_pass(&self, number: i32, viewer: &Viewer) -> bool {
        let rule = usize::try_from(number).ok().and_then(|number| self.all.get(number));
        rule.is_some_and(|(access, _)| viewer.may_see(access))
    }

    /// The rules that let a viewer pass.
    pub(super) fn allowed(&self, viewer: &Viewer) -> BTreeSet<i32> {
        (0..).zip(&self.all).filter(|(_, (access, _))| viewer.may_see(access)).map(|(number, _)| number).collect()
    }

    /// What is counted for what a viewer may see.
    pub(super) fn visible(&self, viewer: &Viewer) -> impl Iterator<Item = &Counts> {
        self.all.iter().filter(|(access, _)| viewer.may_see(access)).map(|(_, counts)| counts)
    }

    /// The keys of rows that a viewer may see.
    pub(super) fn keys(&self, viewer: &Viewer, names: &KeyNames) -> Keys {
        let mut sums: HashMap<i32, KeyCount> = HashMap::new();
        for (key, count) in self.visible(viewer).flat_map(|counts| &counts.keys) {
            let sum = sums.entry(*key).or_default();
            sum.values += count.values;
            sum.numbers += count.numbers;
        }
        sums.into_iter().filter_map(|(key, count)| Some((names.name(key)?.as_ref().to_owned(), count))).collect()
    }
}
