//! What changes come to, decided before anything is written: a pure comparison with what the database has.

use super::write::Author;
use crate::access::Access;
use crate::dlm;
use crate::flow::{Flow, FlowId};
use crate::folder::Folder;
use crate::product::Product;
use crate::row;
use crate::store::{Change, Item, Outcome};
use crate::volume::{Digest, Found, Stamp};
use serde_json::Value;
use sha2::Digest as _;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use uuid::Uuid;

/// The one fixed field that is nothing to search by.
const ID: &str = "id";

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

/// What the database has under the uid of a data item.
#[derive(Debug)]
pub(super) struct StoredItem {
    pub(super) id: i64,
    pub(super) store_name: String,
    pub(super) digest: Option<Vec<u8>>,
    pub(super) generation: i32,
}

/// What the database has of all that changes are about.
#[derive(Debug, Default)]
pub(super) struct Before {
    pub(super) folders: HashMap<Folder, Stored>,
    pub(super) flows: BTreeMap<FlowId, Flow>,
    pub(super) items: HashMap<Uuid, StoredItem>,
}

/// What is derived from a product and written beside it: made before the volume's row is locked, since it takes time.
#[derive(Debug, Clone)]
pub(super) struct Derived<'a> {
    pub(super) product: &'a Product,
    pub(super) metadata: String,
    /// The keys of its row, and whether their values are numbers.
    pub(super) keys: BTreeMap<String, bool>,
    /// The keys under which searches find it, the fixed ones left out.
    pub(super) leaf_keys: BTreeSet<String>,
}

impl<'a> Derived<'a> {
    pub(super) fn from(product: &'a Product) -> Derived<'a> {
        Derived {
            product,
            metadata: Value::Object(product.metadata.clone()).to_string(),
            keys: row::keys(product),
            leaf_keys: row::leaf_keys(product),
        }
    }

    /// Every key that it needs a number for.
    pub(super) fn all_keys(&self) -> impl Iterator<Item = &str> {
        self.leaf_keys.iter().chain(self.keys.keys()).map(String::as_str)
    }
}

/// A change, and what is derived from the product that it brings.
pub(super) type Prepared<'a> = (&'a Change, Option<Derived<'a>>);

/// Derives what changes need.
pub(super) fn prepare(changes: &[Change]) -> Vec<Prepared<'_>> {
    let derived = |change| match change {
        &Change::Found(Found { ref product, .. }) | &Change::Item(Item { product: Ok(ref product), .. }) => {
            Some(Derived::from(product))
        }
        _ => None,
    };
    changes.iter().map(|change| (change, derived(change))).collect()
}

/// Splits changes where a subject comes again.
pub(super) fn rounds<'a, 'b>(changes: &'b [Prepared<'a>]) -> Vec<&'b [Prepared<'a>]> {
    let (mut rounds, mut begin, mut seen) = (Vec::new(), 0, HashSet::new());
    for (at, (change, _)) in changes.iter().enumerate() {
        if !seen.insert(change.subject()) {
            rounds.push(&changes[begin..at]);
            (begin, seen) = (at, HashSet::from([change.subject()]));
        }
    }
    rounds.push(&changes[begin..]);
    rounds
}

/// A product to be written.
#[derive(Debug)]
pub(super) struct Put<'a> {
    pub(super) derived: &'a Derived<'a>,
    /// The version of its file, where it has one.
    pub(super) stamp: Option<Stamp>,
    /// The SHA-256 of what it was read from.
    pub(super) digest: Option<Digest>,
    /// Known of the folder from before, or told.
    pub(super) size: Option<i64>,
    pub(super) measured: bool,
    /// The number of its access rule.
    pub(super) access: i32,
}

impl<'a> Put<'a> {
    /// A product behind which there is no file.
    pub(super) fn of_no_file(derived: &'a Derived<'a>, size: Option<i64>, access: i32) -> Put<'a> {
        Put { derived, stamp: None, digest: None, size, measured: true, access }
    }
}

/// A version of a data item to be noted as read.
#[derive(Debug)]
pub(super) struct ReadItem<'a> {
    pub(super) uid: Uuid,
    pub(super) version: &'a str,
    pub(super) error: Option<&'a str>,
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
    /// Products whose file is another version of the same content: what is beside it need not be the same.
    pub(super) stamps: Vec<(i64, Stamp)>,
    pub(super) removed: Vec<i64>,
    /// The folders of products that were not there before, or are not any more.
    pub(super) came_or_went: Vec<&'a Folder>,
    pub(super) puts: Vec<Put<'a>>,
    pub(super) sizes: Vec<(i64, Option<i64>)>,
    /// Products that were measured and found as large as it was known.
    pub(super) measured: Vec<i64>,
    pub(super) flows: Vec<&'a Flow>,
    pub(super) flows_gone: Vec<&'a FlowId>,
    pub(super) items: Vec<ReadItem<'a>>,
    pub(super) items_gone: Vec<Uuid>,
}

impl<'a> Plan<'a> {
    /// The plan for changes, given what is stored and the numbers of their access rules.
    pub(super) fn of(
        changes: &'a [Prepared<'a>],
        stored: &Before,
        rules: &BTreeMap<&Access, i32>,
        author: Author,
    ) -> Plan<'a> {
        let mut plan = Plan::default();
        for (change, derived) in changes {
            let before = change.folder().and_then(|folder| stored.folders.get(folder));
            let outcome = match (change, derived) {
                (Change::Found(found), Some(derived)) => {
                    plan.find(found, derived, before, rules.get(&found.product.access), author)
                }
                (Change::Found(_), None) => Outcome::Unchanged,
                (Change::Gone(folder), _) => plan.lose(folder, before),
                (Change::Withdrawn { folder, stamp }, _) => match before {
                    Some(known) if known.stamp == Some(*stamp) => plan.lose(folder, before),
                    _ => Outcome::Unchanged,
                },
                (Change::Measured { bytes, .. }, _) => plan.measure(*bytes, before),
                (Change::Failing { folder, path, error, stamp }, _) => {
                    plan.failing.push(Fails { folder, path, error, stamp: *stamp });
                    Outcome::Unchanged
                }
                (Change::Flow(flow), _) => plan.flow(flow, stored.flows.get(&flow.id)),
                (Change::FlowGone(id), _) => plan.lose_flow(id, stored.flows.get(id)),
                (Change::Item(item), derived) => {
                    let access = derived.as_ref().and_then(|derived| rules.get(&derived.product.access));
                    let own = derived.as_ref().zip(access);
                    plan.item(item, own, stored.items.get(&item.uid), author)
                }
                (Change::ItemGone(uid), _) => plan.lose_item(*uid, stored.items.get(uid)),
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
            stamp: Some(found.stamp),
            digest: Some(found.digest),
            size: before.and_then(|before| before.size),
            // The size of before is shown until it is known whether it still is.
            measured: false,
            access: *access,
        });
        self.came_or_went.extend(before.is_none().then_some(folder));
        if before.is_some() { Outcome::Updated } else { Outcome::Added }
    }

    fn lose(&mut self, folder: &'a Folder, before: Option<&Stored>) -> Outcome {
        self.read.push(folder.as_str());
        self.removed.extend(before.map(|before| before.id));
        self.came_or_went.extend(before.is_some().then_some(folder));
        if before.is_some() { Outcome::Removed } else { Outcome::Unchanged }
    }

    fn flow(&mut self, flow: &'a Flow, before: Option<&Flow>) -> Outcome {
        if before == Some(flow) {
            return Outcome::Unchanged;
        }
        self.flows.push(flow);
        if before.is_some() { Outcome::Updated } else { Outcome::Added }
    }

    fn lose_flow(&mut self, id: &'a FlowId, before: Option<&Flow>) -> Outcome {
        if before.is_none() {
            return Outcome::Unchanged;
        }
        self.flows_gone.push(id);
        Outcome::Removed
    }

    fn item(
        &mut self,
        item: &'a Item,
        own: Option<(&'a Derived<'a>, &i32)>,
        before: Option<&StoredItem>,
        author: Author,
    ) -> Outcome {
        let foreign = before.is_some_and(|before| before.store_name != dlm::STORE);
        let error = match &item.product {
            Err(error) => Some(error.as_str()),
            Ok(_) if foreign => Some("another product has this uid"),
            Ok(_) => None,
        };
        self.items.push(ReadItem { uid: item.uid, version: &item.version, error });
        let Some((derived, access)) = own.filter(|_| error.is_none()) else {
            return self.remove_item(before);
        };
        let size = item.size.map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX));
        let digest: Digest = sha2::Sha256::digest(format!("{size:?} {}", derived.metadata)).into();
        let same = |before: &StoredItem| {
            before.digest.as_deref() == Some(&digest[..]) && before.generation == author.generation
        };
        if before.is_some_and(same) {
            return Outcome::Unchanged;
        }
        self.puts.push(Put { digest: Some(digest), ..Put::of_no_file(derived, size, *access) });
        if before.is_some() { Outcome::Updated } else { Outcome::Added }
    }

    fn lose_item(&mut self, uid: Uuid, before: Option<&StoredItem>) -> Outcome {
        self.items_gone.push(uid);
        self.remove_item(before)
    }

    fn remove_item(&mut self, before: Option<&StoredItem>) -> Outcome {
        let own = before.filter(|before| before.store_name == dlm::STORE);
        self.removed.extend(own.map(|before| before.id));
        if own.is_some() { Outcome::Removed } else { Outcome::Unchanged }
    }

    fn measure(&mut self, bytes: Option<u64>, before: Option<&Stored>) -> Outcome {
        let Some(before) = before else { return Outcome::Unchanged };
        let bytes = bytes.map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX));
        if before.size != bytes {
            self.sizes.push((before.id, bytes));
            return Outcome::Updated;
        }
        if !before.measured {
            self.measured.push(before.id);
        }
        Outcome::Unchanged
    }
}

/// Every key that changes need numbers for which bring these: also those of no metadata, by which all products are found.
pub(super) fn keys<'a>(derived: impl IntoIterator<Item = &'a Derived<'a>>) -> BTreeSet<&'a str> {
    derived.into_iter().flat_map(Derived::all_keys).chain(row::FIXED).filter(|key| *key != ID).collect()
}
