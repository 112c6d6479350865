//! Restricted products that were removed lately: a metadata file may be away for a moment only.

use crate::folder::Folder;
use crate::store::REMEMBERED;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::{Duration, Instant};

/// How often it is looked which of them need not be remembered any more.
const SWEEP: Duration = Duration::from_secs(3600);

/// The folders of such products, and the rules that guarded them, each with when it was removed last.
#[derive(Debug, Default)]
pub(super) struct Removed {
    products: BTreeMap<Folder, BTreeMap<i32, Instant>>,
    swept: Option<Instant>,
}

impl Removed {
    /// Remembers a product.
    pub(super) fn remember(&mut self, folder: &Folder, access: i32) {
        let now = Instant::now();
        if self.swept.is_none_or(|swept| now.duration_since(swept) > SWEEP) {
            self.swept = Some(now);
            self.products.retain(|_, rules| {
                rules.retain(|_, removed| removed.elapsed() < REMEMBERED);
                !rules.is_empty()
            });
        }
        self.products.entry(folder.clone()).or_default().insert(access, now);
    }

    /// The folders in which such products were no longer ago than `lately`.
    pub(super) fn all(&self, lately: Duration) -> impl Iterator<Item = &Folder> {
        let lately = lately.min(REMEMBERED);
        let young = move |rules: &BTreeMap<i32, Instant>| rules.values().any(|removed| removed.elapsed() < lately);
        self.products.iter().filter(move |(_, rules)| young(rules)).map(|(folder, _)| folder)
    }

    /// The folders below one in which such products were no longer ago than `lately`, and the rules that guarded them.
    pub(super) fn below(&self, folder: &Folder, lately: Duration) -> impl Iterator<Item = (&Folder, i32)> {
        let below = folder.prefix_below();
        let range = self.products.range::<str, _>((Bound::Included(below.as_str()), Bound::Unbounded));
        let range = range.take_while(move |(other, _)| other.as_str().starts_with(&below));
        let range = range.filter(|(other, _)| !other.is_root());
        let lately = lately.min(REMEMBERED);
        range.flat_map(move |(folder, rules)| {
            let young = rules.iter().filter(move |(_, removed)| removed.elapsed() < lately);
            young.map(move |(access, _)| (folder, *access))
        })
    }
}
