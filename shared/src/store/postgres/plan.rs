//! What changes come to, decided before anything is written: a pure comparison with what the database has.

use super::write::Author;
use crate::access::Access;
use crate::folder::Folder;
use crate::product::Product;
use crate::row::{self, Leaf};
use crate::store::{Change, Outcome};
use crate::volume::{Digest, Found, Stamp};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use uuid::Uuid;

/// The key of the one leaf that is not in metadata.
pub(super) const SIZE: &str = "size";

/// What the database has for a folder.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) id: i64,
    pub(super) uid: Uuid,
    pub(super) size: Option<i64>,
    pub(super) measured: bool,
    pub(super) stamp: Option<Stamp>,
    pub(super) digest: Option<Vec<u8>>,
    pub(super) generation: i32,
}

/// What is derived from a product and written beside it: made before the volume's row is locked, since it takes time.
#[derive(Debug)]
pub(super) struct Derived<'a> {
    pub(super) product: &'a Product,
    pub(super) metadata: String,
    /// All but the size.
    pub(super) leaves: Vec<Leaf>,
    /// The keys of its row, and whether their values are numbers.
    pub(super) keys: BTreeMap<String, bool>,
}

impl<'a> Derived<'a> {
    pub(super) fn from(product: &'a Product) -> Derived<'a> {
        Derived {
            product,
            metadata: Value::Object(product.metadata.clone()).to_string(),
            leaves: row::leaves(product, None),
            keys: row::keys(product),
        }
    }

    /// Every key that it needs a number for.
    pub(super) fn all_keys(&self) -> impl Iterator<Item = &str> {
        self.leaves.iter().map(|leaf| leaf.key.as_str()).chain(self.keys.keys().map(String::as_str))
    }
}

/// A change, and what is derived from the product that it brings.
pub(super) type Prepared<'a> = (&'a Change, Option<Derived<'a>>);

/// Derives what changes need.
pub(super) fn prepare(changes: &[Change]) -> Vec<Prepared<'_>> {
    let derived = |change| match change {
        &Change::Found(Found { ref product, .. }) => Some(Derived::from(product)),
        _ => None,
    };
    changes.iter().map(|change| (change, derived(change))).collect()
}

/// Splits changes where a folder comes again.
pub(super) fn rounds<'a, 'b>(changes: &'b [Prepared<'a>]) -> Vec<&'b [Prepared<'a>]> {
    let (mut rounds, mut begin, mut seen) = (Vec::new(), 0, HashSet::new());
    for (at, (change, _)) in changes.iter().enumerate() {
        if !seen.insert(change.folder()) {
            rounds.push(&changes[begin..at]);
            (begin, seen) = (at, HashSet::from([change.folder()]));
        }
    }
    rounds.push(&changes[begin..]);
    rounds
}

/// A product to be written.
#[derive(Debug)]
pub(super) struct Put<'a> {
    pub(super) derived: &'a Derived<'a>,
    pub(super) version: Option<(Stamp, Digest)>,
    /// Known of the folder from before.
    pub(super) size: Option<i64>,
    pub(super) measured: bool,
    /// The number of its access rule.
    pub(super) access: i32,
}

/// A file to be listed as failing.
#[derive(Debug)]
pub(super) struct Fails<'a> {
    pub(super) folder: &'a Folder,
    pub(super) path: &'a str,
    pub(super) error: &'a str,
    pub(super) stamp: Option<Stamp>,
}

/// What is to be written for changes of which no two are about one folder.
#[derive(Debug, Default)]
pub(super) struct Plan<'a> {
    /// What each change comes to.
    pub(super) outcomes: Vec<Outcome>,
    /// Folders whose files do not fail any more.
    pub(super) read: Vec<&'a str>,
    pub(super) failing: Vec<Fails<'a>>,
    /// Products whose file is another version of the same content.
    pub(super) stamps: Vec<(i64, Stamp)>,
    pub(super) removed: Vec<i64>,
    pub(super) puts: Vec<Put<'a>>,
    pub(super) sizes: Vec<(i64, Option<i64>)>,
}

impl<'a> Plan<'a> {
    /// The plan for changes, given what is stored for their folders and the numbers of their access rules.
    pub(super) fn of(
        changes: &'a [Prepared<'a>],
        stored: &HashMap<Folder, Stored>,
        rules: &BTreeMap<&Access, i32>,
        author: Author,
    ) -> Plan<'a> {
        let mut plan = Plan::default();
        for (change, derived) in changes {
            let before = change.folder().and_then(|folder| stored.get(folder));
            let outcome = match (change, derived) {
                (Change::Found(found), Some(derived)) => {
                    plan.find(found, derived, before, rules.get(&found.product.access), author)
                }
                (Change::Found(_), None) => Outcome::Unchanged,
                (Change::Gone(folder), _) => plan.lose(folder, before),
                (Change::Measured { bytes, .. }, _) => plan.measure(*bytes, before),
                (Change::Failing { folder, path, error, stamp }, _) => {
                    plan.failing.push(Fails { folder, path, error, stamp: *stamp });
                    Outcome::Unchanged
                }
            };
            plan.outcomes.push(outcome);
        }
        plan
    }

    fn find(
        &mut self,
        found: &'a Found,
        derived: &'a Derived<'a>,
        before: Option<&Stored>,
        access: Option<&i32>,
        author: Author,
    ) -> Outcome {
        let (Some(folder), Some(access)) = (&found.product.folder, access) else { return Outcome::Unchanged };
        self.read.push(folder.as_str());
        if let Some(before) = before {
            if author.defers && before.stamp.is_some_and(|stamp| stamp.changed > found.stamp.changed) {
                return Outcome::Unchanged;
            }
            let same = before.uid == found.product.uid
                && before.digest.as_deref() == Some(&found.digest[..])
                && before.generation == author.generation;
            if same {
                let stamp = Some(found.stamp).filter(|stamp| before.stamp != Some(*stamp));
                self.stamps.extend(stamp.map(|stamp| (before.id, stamp)));
                return Outcome::Unchanged;
            }
            if before.uid != found.product.uid {
                self.removed.push(before.id);
            }
        }
        self.puts.push(Put {
            derived,
            version: Some((found.stamp, found.digest)),
            size: before.and_then(|before| before.size),
            measured: before.is_some_and(|before| before.measured),
            access: *access,
        });
        if before.is_some() { Outcome::Updated } else { Outcome::Added }
    }

    fn lose(&mut self, folder: &'a Folder, before: Option<&Stored>) -> Outcome {
        self.read.push(folder.as_str());
        self.removed.extend(before.map(|before| before.id));
        if before.is_some() { Outcome::Removed } else { Outcome::Unchanged }
    }

    fn measure(&mut self, bytes: Option<u64>, before: Option<&Stored>) -> Outcome {
        let Some(before) = before else { return Outcome::Unchanged };
        let bytes = bytes.map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX));
        if before.size != bytes || !before.measured {
            self.sizes.push((before.id, bytes));
        }
        if before.size == bytes { Outcome::Unchanged } else { Outcome::Updated }
    }
}

/// Every key that changes need numbers for which bring these. The size is no part of metadata, and may come alone.
pub(super) fn keys<'a>(derived: impl IntoIterator<Item = &'a Derived<'a>>) -> BTreeSet<&'a str> {
    derived.into_iter().flat_map(Derived::all_keys).chain([SIZE]).collect()
}
