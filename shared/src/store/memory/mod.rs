//! The index in the memory of one process.
//!
//! Products stand in a persistent ordered map, newest first: a search takes a snapshot of it, which costs nothing, and
//! then neither waits for writers nor holds them up.

mod flows;

use super::{
    Annotations, Change, Hit, Hits, Item, Kind, Known, Lookup, Outcome, Reindex, Result, Store, StoreError, Summary,
};
use crate::access::{Access, Viewer};
use crate::clock;
use crate::column::{KeyCount, Keys};
use crate::dlm;
use crate::flow::{Flow, FlowId};
use crate::folder::Folder;
use crate::product::Product;
use crate::query::{Place, Query};
use crate::row::{self, Leaf};
use crate::status::{Dlm, Failing, Indexing, Sdp};
use crate::volume::{Digest, Found, Stamp};
use async_trait::async_trait;
use chrono::{DateTime, NaiveDate, Utc};
use flows::Flows;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;
use tokio::sync::Notify;
use uuid::Uuid;

/// The default order: newest first, then by uid.
type Rank = (Reverse<NaiveDate>, Uuid);

#[derive(Debug)]
struct Entry {
    hit: Hit,
    leaves: Box<[Leaf<Arc<str>>]>,
}

/// A metadata file that is known of.
#[derive(Debug, Default)]
struct KnownFile {
    stamp: Option<Stamp>,
    /// The bytes that the product below was made from.
    digest: Option<Digest>,
    uid: Option<Uuid>,
    failing: Option<Failing>,
}

/// What is counted for the products of one access rule.
#[derive(Debug, Default)]
struct Counts {
    products: u64,
    on_volume: u64,
    keys: HashMap<Arc<str>, KeyCount>,
}

#[derive(Debug, Default)]
struct Index {
    products: imbl::OrdMap<Rank, Arc<Entry>>,
    dates: HashMap<Uuid, NaiveDate>,
    blocks: HashMap<String, BTreeSet<Uuid>>,
    files: BTreeMap<Folder, KnownFile>,
    failing: BTreeSet<Folder>,
    counts: BTreeMap<Access, Counts>,
    names: HashSet<Arc<str>>,
    flows: Flows,
    last_id: u64,
    updated: DateTime<Utc>,
    indexing: Indexing,
    sdp: Option<Sdp>,
    dlm: Option<Dlm>,
    indexer: bool,
    reindex_waits: bool,
}

/// A [`Store`] in memory. It keeps no annotations.
#[derive(Debug)]
pub struct MemoryStore {
    index: RwLock<Index>,
    reindex: Notify,
    /// How long a search may take.
    limit: Duration,
}

impl Default for MemoryStore {
    /// One whose searches take as long as they need.
    fn default() -> Self {
        MemoryStore::new(Duration::MAX)
    }
}

/// Tells a search that nobody waits for its answer any more, once this is dropped.
struct Waiting(Arc<AtomicBool>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl MemoryStore {
    /// One whose searches may take this long.
    pub fn new(limit: Duration) -> MemoryStore {
        let index = Index { updated: clock::now(), ..Index::default() };
        MemoryStore { index: RwLock::new(index), reindex: Notify::new(), limit }
    }

    // A panic while the lock was held would be a defect; the data behind it are still the best there are.
    fn read(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Index> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn search(&self, query: Query, viewer: &Viewer) -> Result<Hits> {
        let products = self.read().products.clone();
        let viewer = viewer.clone();
        let waiting = Waiting(Arc::default());
        let given_up = waiting.0.clone();
        let given_up = move || given_up.load(Ordering::Relaxed);
        let searching = tokio::task::spawn_blocking(move || execute(&products, &query, &viewer, &given_up));
        let answer = tokio::time::timeout(self.limit, searching).await;
        drop(waiting);
        let interrupted = || StoreError::Unavailable("the search was interrupted".to_owned());
        match answer {
            Ok(Ok(Some(hits))) => Ok(hits),
            Ok(_) => Err(interrupted()),
            Err(_) => Err(StoreError::TooLong(format!(
                "The search took longer than {} s, which is the most that one may take; ask for less, or raise \
                 DPD_SEARCH_TIMEOUT_SECONDS.",
                self.limit.as_secs_f64()
            ))),
        }
    }

    async fn product(&self, uid: Uuid, viewer: &Viewer) -> Result<Lookup> {
        Ok(match self.read().entry(uid) {
            None => Lookup::Unknown,
            Some(entry) if viewer.may_see(&entry.hit.product.access) => Lookup::Found(entry.hit.clone()),
            Some(_) => Lookup::Forbidden,
        })
    }

    async fn products_of(&self, execution_block: &str, viewer: &Viewer) -> Result<Vec<Hit>> {
        let index = self.read();
        let uids = index.blocks.get(execution_block).into_iter().flatten();
        let mut hits: Vec<Hit> = uids
            .filter_map(|uid| index.entry(*uid))
            .filter(|entry| viewer.may_see(&entry.hit.product.access))
            .map(|entry| entry.hit.clone())
            .collect();
        hits.sort_by_cached_key(Hit::nearness);
        Ok(hits)
    }

    async fn visible_below(&self, folder: &Folder, viewer: &Viewer) -> Result<Vec<Folder>> {
        let index = self.read();
        let visible = index.files_below(folder).filter(|(_, file)| {
            let entry = file.uid.and_then(|uid| index.entry(uid));
            entry.is_some_and(|entry| viewer.may_see(&entry.hit.product.access))
        });
        Ok(visible.map(|(folder, _)| folder.clone()).collect())
    }

    async fn keys(&self, viewer: &Viewer) -> Result<Keys> {
        let mut keys = Keys::new();
        for counts in self.read().visible(viewer) {
            for (key, count) in &counts.keys {
                let sum = keys.entry(key.as_ref().to_owned()).or_default();
                sum.values += count.values;
                sum.numbers += count.numbers;
            }
        }
        Ok(keys)
    }

    async fn summary(&self, viewer: &Viewer, failing: usize) -> Result<Summary> {
        let index = self.read();
        let seen = |file: &KnownFile| match file.uid.and_then(|uid| index.entry(uid)) {
            Some(entry) => viewer.may_see(&entry.hit.product.access),
            None => !file.failing.as_ref().is_some_and(Failing::is_guarded),
        };
        let failing_files = index.failing.iter().filter_map(|folder| index.files.get(folder));
        Ok(Summary {
            products: index.visible(viewer).map(|counts| counts.products).sum(),
            products_on_volume: index.visible(viewer).map(|counts| counts.on_volume).sum(),
            updated: index.updated,
            indexing: index.indexing.clone(),
            coordination: None,
            sdp: index.sdp.clone(),
            dlm: index.dlm.clone(),
            failing: index.failing.len() as u64,
            first_failing: failing_files
                .filter(|file| seen(file))
                .filter_map(|file| file.failing.clone())
                .take(failing)
                .collect(),
        })
    }

    async fn apply(&self, changes: &[Change]) -> Result<Vec<Outcome>> {
        let mut index = self.write();
        let now = clock::now();
        let outcomes: Vec<Outcome> = changes.iter().map(|change| index.change(change, now)).collect();
        if outcomes.iter().any(|outcome| *outcome != Outcome::Unchanged) {
            index.updated = now;
        }
        Ok(outcomes)
    }

    async fn ingest(&self, product: Product) -> Result<()> {
        let mut index = self.write();
        index.put(&Arc::new(product), None);
        index.updated = clock::now();
        Ok(())
    }

    async fn known(&self, scope: &Folder) -> Result<Known> {
        let index = self.read();
        let own = index.files.get_key_value(scope);
        let all = own.into_iter().chain(index.files_below(scope));
        Ok(all.map(|(folder, file)| (folder.clone(), file.stamp)).collect())
    }

    async fn unmeasured(&self) -> Result<Vec<Folder>> {
        // Every one was ordered to be measured when it was found, in this process.
        Ok(Vec::new())
    }

    async fn flows(&self) -> Result<BTreeMap<FlowId, Flow>> {
        Ok(self.read().flows.all.clone())
    }

    async fn publish_sdp(&self, sdp: Option<Sdp>) -> Result<()> {
        self.write().sdp = sdp;
        Ok(())
    }

    async fn publish_dlm(&self, dlm: Option<Dlm>) -> Result<()> {
        self.write().dlm = dlm;
        Ok(())
    }

    async fn publish(&self, indexing: Indexing) -> Result<()> {
        let mut index = self.write();
        index.indexer = true;
        index.reindex_waits &= !indexing.in_progress;
        index.indexing = indexing;
        Ok(())
    }

    async fn request_reindex(&self) -> Result<Reindex> {
        let mut index = self.write();
        if !index.indexer {
            return Ok(Reindex::NoIndexer);
        }
        if index.reindex_waits || index.indexing.in_progress {
            return Ok(Reindex::InProgress);
        }
        index.reindex_waits = true;
        self.reindex.notify_one();
        Ok(Reindex::Accepted)
    }

    async fn reindex_requested(&self) {
        while !self.read().reindex_waits {
            self.reindex.notified().await;
        }
    }

    fn kind(&self) -> Kind {
        Kind::Memory
    }

    fn annotations(&self) -> Option<&dyn Annotations> {
        None
    }
}

/// Executes a search on a snapshot; `None` where it was given up.
fn execute(
    products: &imbl::OrdMap<Rank, Arc<Entry>>,
    query: &Query,
    viewer: &Viewer,
    given_up: &impl Fn() -> bool,
) -> Option<Hits> {
    let mut matches: Vec<&Entry> = Vec::new();
    for entry in products.values().filter(|entry| viewer.may_see(&entry.hit.product.access)) {
        if query.filter.matches_unless(&entry.leaves, given_up)? {
            matches.push(entry);
        }
    }
    if !query.sort.is_empty() {
        order(&mut matches, query, given_up)?;
    }
    if let Some(first) = &query.first {
        let mut parts = (Vec::new(), Vec::new());
        for entry in matches {
            let part = if first.matches_unless(&entry.leaves, given_up)? { &mut parts.0 } else { &mut parts.1 };
            part.push(entry);
        }
        matches = parts.0;
        matches.extend(parts.1);
    }
    let total = matches.len();
    let begin = query.after.as_ref().map_or(0, |after| {
        matches
            .partition_point(|entry| query.compare(&query.place_of(&entry.hit.product, &entry.leaves), after).is_le())
    });
    let page = matches.iter().skip(begin.saturating_add(query.offset)).take(query.limit);
    Some(Hits { total, hits: page.map(|entry| entry.hit.clone()).collect() })
}

fn order(matches: &mut [&Entry], query: &Query, given_up: &impl Fn() -> bool) -> Option<()> {
    let mut places: HashMap<u64, Place> = HashMap::with_capacity(matches.len());
    for entry in matches.iter() {
        if given_up() {
            return None;
        }
        places.insert(entry.hit.id, query.place_of(&entry.hit.product, &entry.leaves));
    }
    matches.sort_by(|a, b| query.compare(&places[&a.hit.id], &places[&b.hit.id]));
    Some(())
}

impl Index {
    fn entry(&self, uid: Uuid) -> Option<&Arc<Entry>> {
        self.products.get(&(Reverse(*self.dates.get(&uid)?), uid))
    }

    /// The metadata files known of in folders below this one.
    fn files_below(&self, folder: &Folder) -> impl Iterator<Item = (&Folder, &KnownFile)> {
        let below = folder.prefix_below();
        let range = self.files.range::<str, _>((Bound::Included(below.as_str()), Bound::Unbounded));
        range.take_while(move |(other, _)| other.as_str().starts_with(&below)).filter(|(other, _)| !other.is_root())
    }

    fn visible(&self, viewer: &Viewer) -> impl Iterator<Item = &Counts> {
        self.counts.iter().filter(|(access, _)| viewer.may_see(access)).map(|(_, counts)| counts)
    }

    fn change(&mut self, change: &Change, now: DateTime<Utc>) -> Outcome {
        match change {
            Change::Found(found) => self.found(found),
            Change::Gone(folder) => self.gone(folder),
            Change::Failing { folder, path, error, stamp } => {
                let file = self.files.entry(folder.clone()).or_default();
                let since = file.failing.take().map_or(now, |before| before.since);
                file.stamp = *stamp;
                file.failing = Some(Failing { path: path.clone(), error: error.clone(), since });
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

    fn found(&mut self, found: &Found) -> Outcome {
        let Some(folder) = found.product.folder.clone() else { return Outcome::Unchanged };
        let uid = found.product.uid;
        self.failing.remove(&folder);
        let file = KnownFile { stamp: Some(found.stamp), digest: Some(found.digest), uid: Some(uid), failing: None };
        let before = self.files.insert(folder, file).unwrap_or_default();
        if before.uid == Some(uid) && before.digest == Some(found.digest) {
            return Outcome::Unchanged;
        }
        let size = before.uid.and_then(|old| self.entry(old)).and_then(|entry| entry.hit.size);
        if let Some(old) = before.uid.filter(|old| *old != uid) {
            self.remove(old);
        }
        self.put(&found.product, size);
        if before.uid.is_some() { Outcome::Updated } else { Outcome::Added }
    }

    fn gone(&mut self, folder: &Folder) -> Outcome {
        self.failing.remove(folder);
        let Some(uid) = self.files.remove(folder).and_then(|file| file.uid) else { return Outcome::Unchanged };
        self.remove(uid);
        Outcome::Removed
    }

    fn measured(&mut self, folder: &Folder, bytes: Option<u64>) -> Outcome {
        let entry = self.files.get(folder).and_then(|file| file.uid).and_then(|uid| self.entry(uid));
        match entry.map(|entry| entry.hit.clone()) {
            Some(hit) if hit.size != bytes => {
                self.put_in(hit.product, bytes);
                Outcome::Updated
            }
            _ => Outcome::Unchanged,
        }
    }

    fn item(&mut self, item: &Item) -> Outcome {
        let before = self.entry(item.uid).map(|entry| entry.hit.clone());
        let foreign = before.as_ref().is_some_and(|hit| hit.product.store_name != dlm::STORE);
        let Ok(product) = item.product.as_ref().map_err(drop).and_then(|own| if foreign { Err(()) } else { Ok(own) })
        else {
            return self.item_gone(item.uid);
        };
        if before.as_ref().is_some_and(|hit| hit.product == *product && hit.size == item.size) {
            return Outcome::Unchanged;
        }
        self.put(product, item.size);
        if before.is_some() { Outcome::Updated } else { Outcome::Added }
    }

    fn item_gone(&mut self, uid: Uuid) -> Outcome {
        if self.entry(uid).is_none_or(|entry| entry.hit.product.store_name != dlm::STORE) {
            return Outcome::Unchanged;
        }
        self.remove(uid);
        Outcome::Removed
    }

    /// Puts a product in, in place of the one of its uid, and nothing else.
    fn put_in(&mut self, product: Arc<Product>, size: Option<u64>) {
        let id = match self.entry(product.uid) {
            Some(entry) => entry.hit.id,
            None => {
                self.last_id += 1;
                self.last_id
            }
        };
        self.take_out(product.uid);
        let leaves = row::leaves(&product, size)
            .into_iter()
            .map(|leaf| Leaf { key: self.name(&leaf.key), value: leaf.value })
            .collect();
        self.count(&product, |total| *total += 1);
        self.flows.put_product(&product);
        self.dates.insert(product.uid, product.date_created);
        self.blocks.entry(product.execution_block.clone()).or_default().insert(product.uid);
        let rank = (Reverse(product.date_created), product.uid);
        let hit = Hit { id, product, size };
        self.products.insert(rank, Arc::new(Entry { hit, leaves }));
    }

    /// Takes a product out, and nothing else.
    fn take_out(&mut self, uid: Uuid) {
        let Some(date) = self.dates.remove(&uid) else { return };
        let Some(entry) = self.products.remove(&(Reverse(date), uid)) else { return };
        let product = &entry.hit.product;
        self.flows.remove_product(product);
        if let Some(uids) = self.blocks.get_mut(&product.execution_block) {
            uids.remove(&uid);
            if uids.is_empty() {
                self.blocks.remove(&product.execution_block);
            }
        }
        self.count(product, |total| *total -= 1);
    }

    /// Counts a product in or out.
    fn count(&mut self, product: &Product, step: impl Fn(&mut u64)) {
        let keys: Vec<(Arc<str>, bool)> =
            row::keys(product).into_iter().map(|(key, number)| (self.name(&key), number)).collect();
        let counts = self.counts.entry(product.access.clone()).or_default();
        step(&mut counts.products);
        if product.folder.is_some() {
            step(&mut counts.on_volume);
        }
        for (key, number) in keys {
            let count = counts.keys.entry(key.clone()).or_default();
            step(&mut count.values);
            if number {
                step(&mut count.numbers);
            }
            if count.values == 0 {
                counts.keys.remove(&key);
            }
        }
        if counts.products == 0 {
            self.counts.remove(&product.access);
        }
    }

    /// One allocation for each key, however many products have it.
    fn name(&mut self, key: &str) -> Arc<str> {
        if let Some(name) = self.names.get(key) {
            return name.clone();
        }
        let name: Arc<str> = key.into();
        self.names.insert(name.clone());
        name
    }
}
