//! What the store in memory holds, and what changes do to it.

use super::document::{Documents, Packed};
use super::flows::Flows;
use super::names::{KeyNames, Rules};
use super::products::{Graveyard, Products, Short, Slot, short};
use super::removed::Removed;
use super::segments::{self, Segments, Snapshot, Unsealed};
use crate::access::{Access, Viewer};
use crate::flow;
use crate::folder::Folder;
use crate::product::Product;
use crate::query::Query;
use crate::row::{self, Leaf};
use crate::segment::Question;
use crate::status::{Dlm, Failing, Indexing, Sdp, UnreadableFolder};
use crate::store::{Below, Change, Item, LOOKED_AT, Outcome};
use crate::volume::{Digest, Found, Stamp};
use crate::{clock, dlm};
use chrono::{DateTime, Utc};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// A metadata file that is known of.
#[derive(Debug, Default)]
pub(super) struct KnownFile {
    pub(super) stamp: Option<Stamp>,
    /// The product that it made, and the bytes that this was made from.
    made: Option<(Uuid, Digest)>,
    pub(super) failing: Option<Box<Failing>>,
}

impl KnownFile {
    pub(super) fn uid(&self) -> Option<Uuid> {
        self.made.map(|(uid, _)| uid)
    }
}

/// What is made of a product before it is put in.
#[derive(Debug)]
pub(super) struct Prepared {
    document: Packed,
    /// Its leaves but for its size.
    leaves: Box<[Leaf<i32>]>,
    facts: Facts,
    /// How often keys had gone, so that it is known whether the numbers here are still those of its keys.
    gone: u64,
}

/// What the index derives from a product, beside what searches read, and has to undo when it goes.
#[derive(Debug)]
struct Facts {
    block: Short,
    processing_block: Option<Short>,
    on_volume: bool,
    /// The keys of its row, and whether their values are numbers.
    keys: Vec<(i32, bool)>,
    /// All its keys, those of leaves as well.
    numbers: BTreeSet<i32>,
}

/// What products are packed and read with. It has locks of its own, so that this can be done while the index has none.
#[derive(Default)]
pub(super) struct Tools {
    pub(super) documents: Documents,
    pub(super) keys: KeyNames,
}

impl std::fmt::Debug for Tools {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tools").field("keys", &self.keys).finish_non_exhaustive()
    }
}

impl Tools {
    /// What has to be made of a product.
    pub(super) fn prepare(&self, product: &Product) -> Prepared {
        let gone = self.keys.gone();
        let leaves = segments::leaves(product, None, &self.keys);
        let facts = self.facts(product, &leaves);
        Prepared { document: self.documents.pack(product), leaves, facts, gone }
    }

    fn facts(&self, product: &Product, leaves: &[Leaf<i32>]) -> Facts {
        let mut keys = BTreeMap::new();
        row::each_key(product, &mut |key, number| {
            keys.insert(self.keys.number(key), number);
        });
        Facts {
            block: short(&product.execution_block),
            processing_block: flow::processing_block(product).map(short),
            on_volume: product.folder.is_some(),
            numbers: leaves.iter().map(|leaf| leaf.key).chain(keys.keys().copied()).chain([self.size()]).collect(),
            keys: keys.into_iter().collect(),
        }
    }

    /// The number of the key that sizes are under.
    fn size(&self) -> i32 {
        self.keys.number("size")
    }

    /// The product in a slot.
    pub(super) fn read(&self, slot: &Slot) -> Option<Product> {
        self.documents.unpack(&slot.document, slot.uid, slot.date_created)
    }
}

#[derive(Debug, Default)]
pub(super) struct Index {
    pub(super) tools: Arc<Tools>,
    pub(super) products: Products,
    pub(super) segments: Segments,
    pub(super) graveyard: Graveyard,
    pub(super) files: BTreeMap<Folder, Box<KnownFile>>,
    pub(super) failing: BTreeSet<Folder>,
    pub(super) rules: Rules,
    pub(super) removed: Removed,
    pub(super) flows: Flows,
    last_number: u64,
    made: DateTime<Utc>,
    pub(super) indexing: Indexing,
    pub(super) sdp: Option<Sdp>,
    pub(super) dlm: Option<Dlm>,
    pub(super) indexer: bool,
    pub(super) reindex_waits: bool,
}

impl Index {
    pub(super) fn new(tools: Arc<Tools>) -> Index {
        Index { tools, made: clock::now(), ..Index::default() }
    }

    /// The metadata files known of in folders below this one.
    pub(super) fn files_below(&self, folder: &Folder) -> impl Iterator<Item = (&Folder, &KnownFile)> {
        self.files_after(folder, None)
    }

    /// Those of them that come after a folder.
    pub(super) fn files_after(
        &self,
        folder: &Folder,
        after: Option<&Folder>,
    ) -> impl Iterator<Item = (&Folder, &KnownFile)> {
        let below = folder.prefix_below();
        let begin = after.map_or(Bound::Included(below.as_str()), |after| Bound::Excluded(after.as_str()));
        let range = self.files.range::<str, _>((begin, Bound::Unbounded));
        let range = range.take_while(move |(other, _)| other.as_str().starts_with(&below));
        range.filter(|(other, _)| !other.is_root()).map(|(folder, file)| (folder, file.as_ref()))
    }

    /// A product as it is.
    pub(super) fn product(&self, uid: Uuid) -> Option<Product> {
        self.products.of_uid(uid).and_then(|slot| self.tools.read(slot))
    }

    /// What guards a product; `None` where there is none.
    pub(super) fn guard_of(&self, uid: Uuid) -> Option<&Access> {
        self.rules.get(self.products.of_uid(uid)?.access)
    }

    /// Whether a viewer may see what a metadata file made; `None` where it made nothing.
    pub(super) fn is_visible(&self, file: &KnownFile, viewer: &Viewer) -> Option<bool> {
        let product = self.products.of_uid(file.uid()?)?;
        Some(self.rules.lets_pass(product.access, viewer))
    }

    /// The folders of products below one, as a viewer may see them.
    pub(super) fn below(&self, folder: &Folder, viewer: &Viewer, lately: Duration) -> Below {
        let mut below = Below::default();
        for (folder, file) in self.files_below(folder) {
            match self.is_visible(file, viewer) {
                Some(true) => below.visible.push(folder.clone()),
                Some(false) => below.hidden.push(folder.clone()),
                None => {}
            }
        }
        let removed = self.removed.below(folder, lately).filter(|(folder, _)| !self.has_product(folder));
        let removed = removed.filter(|(_, access)| !self.rules.lets_pass(*access, viewer));
        below.hidden.extend(removed.map(|(folder, _)| folder.clone()));
        below.hidden.sort();
        below.hidden.dedup();
        below
    }

    /// When a search by a viewer could last begin to answer differently.
    pub(super) fn updated(&self, viewer: &Viewer) -> DateTime<Utc> {
        self.rules.visible(viewer).filter_map(|counts| counts.updated).max().unwrap_or(self.made)
    }

    /// The failing files of which a viewer may be told, by path.
    pub(super) fn failing_for(&self, viewer: &Viewer) -> impl Iterator<Item = &Failing> {
        let unknown = viewer.is_told_of_unknown();
        let files = self.failing.iter().filter_map(|folder| self.files.get(folder));
        files.filter_map(move |file| {
            let failing = file.failing.as_deref()?;
            let of_unknown = || unknown && (viewer.is_unrestricted() || !failing.is_guarded());
            self.is_visible(file, viewer).unwrap_or_else(of_unknown).then_some(failing)
        })
    }

    /// Whether there is a product in a folder.
    pub(super) fn has_product(&self, folder: &Folder) -> bool {
        self.files.get(folder).is_some_and(|file| file.uid().is_some())
    }

    /// Remembers that the product of a folder is about to be removed, where not everybody may see it.
    fn remember(&mut self, folder: &Folder, uid: Uuid) {
        let access = self.products.of_uid(uid).map(|slot| slot.access);
        if let Some(access) = access.filter(|access| !self.rules.lets_pass(*access, &Viewer::anonymous())) {
            self.removed.remember(folder, access);
        }
    }

    /// Whether a viewer may be told of a folder that cannot be read.
    pub(super) fn may_tell_of(&self, path: &str, viewer: &Viewer) -> bool {
        let Ok(folder) = path.parse::<Folder>() else { return false };
        let own = self.files.get(&folder).map(|file| &**file);
        let below = self.files_below(&folder).map(|(_, file)| file).take(LOOKED_AT);
        let seen: Vec<bool> = own.into_iter().chain(below).filter_map(|file| self.is_visible(file, viewer)).collect();
        let mut above = folder.up().chain([""]).filter_map(|above| self.files.get(above));
        let inside = above.any(|file| self.is_visible(file, viewer) == Some(false));
        UnreadableFolder::may_be_told(seen.contains(&true), seen.contains(&false), inside)
    }

    /// All that a search needs, as it is now.
    pub(super) fn snapshot(&self, query: Query, viewer: &Viewer) -> Snapshot {
        Snapshot {
            question: Question::new(query, self.rules.allowed(viewer), &self.tools.keys),
            segments: self.segments.clone(),
            _holding: self.graveyard.hold(),
        }
    }

    /// Applies a change. `prepared` is what was made before of the product that was found.
    pub(super) fn change(&mut self, change: &Change, prepared: Option<Prepared>, now: DateTime<Utc>) -> Outcome {
        match change {
            Change::Found(found) => self.found(found, prepared),
            Change::Gone(folder) => self.gone(folder),
            Change::Withdrawn { folder, stamp } => self.withdrawn(folder, *stamp),
            Change::Failing { folder, path, error, stamp } => {
                let file = self.files.entry(folder.clone()).or_default();
                let since = file.failing.take().map_or(now, |before| before.since);
                file.stamp = *stamp;
                file.failing = Some(Box::new(Failing { path: path.clone(), error: error.clone(), since }));
                self.failing.insert(folder.clone());
                Outcome::Unchanged
            }
            Change::Measured { folder, bytes } => self.measured(folder, *bytes),
            Change::Flow(flow) => self.put_flow(flow),
            Change::FlowGone(id) => self.remove_flow(id),
            Change::Item(item) => self.item(item),
            Change::ItemGone(uid) => self.item_gone(*uid),
        }
    }

    fn found(&mut self, found: &Found, prepared: Option<Prepared>) -> Outcome {
        let Some(folder) = found.product.folder.clone() else { return Outcome::Unchanged };
        let uid = found.product.uid;
        self.failing.remove(&folder);
        let file = self.files.entry(folder.clone()).or_default();
        let before = std::mem::take(&mut **file);
        **file = KnownFile { stamp: Some(found.stamp), made: Some((uid, found.digest)), failing: None };
        if before.made == file.made {
            return Outcome::Unchanged;
        }
        let size = before.uid().and_then(|old| self.products.of_uid(old)).and_then(Slot::size);
        if let Some(old) = before.uid().filter(|old| *old != uid) {
            self.remember(&folder, old);
            self.remove(old);
        }
        self.put(&found.product, prepared, size);
        if before.made.is_some() { Outcome::Updated } else { Outcome::Added }
    }

    fn gone(&mut self, folder: &Folder) -> Outcome {
        self.failing.remove(folder);
        let Some(uid) = self.files.remove(folder).and_then(|file| file.uid()) else { return Outcome::Unchanged };
        self.remember(folder, uid);
        self.remove(uid);
        Outcome::Removed
    }

    fn withdrawn(&mut self, folder: &Folder, stamp: Stamp) -> Outcome {
        match self.files.get(folder) {
            Some(file) if file.stamp == Some(stamp) => self.gone(folder),
            _ => Outcome::Unchanged,
        }
    }

    fn measured(&mut self, folder: &Folder, bytes: Option<u64>) -> Outcome {
        let slot = self.files.get(folder).and_then(|file| file.uid()).and_then(|uid| self.products.find(uid));
        match slot {
            Some(slot) if self.products.get(slot).is_some_and(|product| product.size() != bytes) => {
                self.resize(slot, bytes);
                Outcome::Updated
            }
            _ => Outcome::Unchanged,
        }
    }

    fn item(&mut self, item: &Item) -> Outcome {
        let size = self.products.of_uid(item.uid).and_then(Slot::size);
        let before = self.product(item.uid);
        let foreign = before.as_ref().is_some_and(|before| before.store_name != dlm::STORE);
        let Ok(product) = item.product.as_ref().map_err(drop).and_then(|own| if foreign { Err(()) } else { Ok(own) })
        else {
            return self.item_gone(item.uid);
        };
        if before.as_ref().is_some_and(|before| *before == **product && size == item.size) {
            return Outcome::Unchanged;
        }
        self.put(product, None, item.size);
        if before.is_some() { Outcome::Updated } else { Outcome::Added }
    }

    fn item_gone(&mut self, uid: Uuid) -> Outcome {
        if self.product(uid).is_none_or(|product| product.store_name != dlm::STORE) {
            return Outcome::Unchanged;
        }
        self.remove(uid);
        Outcome::Removed
    }

    /// Puts a product in, in place of the one of its uid, and nothing else.
    pub(super) fn put_in(&mut self, product: &Product, prepared: Option<Prepared>, size: Option<u64>) {
        let prepared = prepared.filter(|prepared| prepared.gone == self.tools.keys.gone());
        let Prepared { document, leaves, facts, .. } = prepared.unwrap_or_else(|| self.tools.prepare(product));
        // Before what was there is counted out, so that keys which both have stay.
        self.tools.keys.count_in(&facts.numbers);
        let slot = match self.products.find(product.uid) {
            Some(slot) => {
                self.undo(slot);
                slot
            }
            None => self.products.add(product.uid, product.date_created, document.clone()),
        };
        self.products.by_block.insert(facts.block, slot);
        if let Some(block) = facts.processing_block {
            self.flows.products.insert(block, slot);
        }
        let access = self.rules.number(&product.access);
        if let Some(counts) = self.rules.counts(access) {
            counts.count(facts.on_volume, &facts.keys, |total| *total += 1);
        }
        if let Some(kept) = self.products.get_mut(slot) {
            kept.document = document;
            kept.date_created = product.date_created;
            kept.access = access;
            kept.set_size(size);
        }
        self.show_anew(slot, self.with_size(leaves, size));
    }

    /// Takes a product out, and nothing else.
    pub(super) fn take_out(&mut self, uid: Uuid) {
        let Some(slot) = self.products.find(uid) else { return };
        self.undo(slot);
        self.products.take(slot);
    }

    /// Undoes what was derived from what is in a slot: counts, names, and that searches find it.
    fn undo(&mut self, slot: u32) {
        let Some(kept) = self.products.get(slot) else { return };
        let access = kept.access;
        self.segments.supersede(kept.number);
        self.graveyard.bury(|| kept.clone());
        let Some(product) = self.tools.read(kept) else { return };
        let facts = self.tools.facts(&product, &segments::leaves(&product, None, &self.tools.keys));
        self.products.by_block.remove(facts.block, slot);
        if let Some(block) = facts.processing_block {
            self.flows.products.remove(block, slot);
        }
        if let Some(counts) = self.rules.counts(access) {
            counts.count(facts.on_volume, &facts.keys, |total| *total -= 1);
        }
        self.tools.keys.count_out(&facts.numbers);
    }

    /// Notes another size of a product. Nothing that is counted changes.
    fn resize(&mut self, slot: u32, size: Option<u64>) {
        let Some(kept) = self.products.get(slot) else { return };
        let own = |product: Product| segments::leaves(&product, None, &self.tools.keys);
        let leaves = match self.segments.supersede(kept.number) {
            // Most are measured soon after they were found.
            Some(unsealed) => self.with_size(unsealed.leaves.clone(), size),
            None => self.with_size(self.tools.read(kept).map(own).unwrap_or_default(), size),
        };
        self.graveyard.bury(|| kept.clone());
        if let Some(kept) = self.products.get_mut(slot) {
            kept.set_size(size);
            if let Some(counts) = self.rules.counts(kept.access) {
                counts.updated = Some(clock::now());
            }
        }
        self.show_anew(slot, leaves);
    }

    /// The leaves of a product of this size.
    fn with_size(&self, leaves: Box<[Leaf<i32>]>, size: Option<u64>) -> Box<[Leaf<i32>]> {
        let key = self.tools.size();
        let own = size.map(|size| Leaf { key, value: size.into() });
        leaves.into_iter().filter(|leaf| leaf.key != key).chain(own).collect()
    }

    /// Gives what is in a slot a new number, under which searches find it by these leaves.
    fn show_anew(&mut self, slot: u32, leaves: Box<[Leaf<i32>]>) {
        let Some(kept) = self.products.get_mut(slot) else { return };
        self.last_number += 1;
        kept.number = self.last_number;
        let Slot { uid, date_created, access, .. } = *kept;
        self.segments.tail.insert(self.last_number, Arc::new(Unsealed { slot, uid, date_created, access, leaves }));
    }
}
