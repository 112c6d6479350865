//! The index in the memory of one process.
//!
//! A million products are to fit into little memory and to be searched in little time. So each is kept once, compressed
//! ([`document`]), with what is asked of it most beside that ([`products`]); and what searches read are segments
//! ([`segments`]), the same that the store in PostgreSQL has. The newest products are in none yet: these are made while
//! the store is written to, in the background. A search takes a snapshot of both, which costs nothing, and then neither
//! waits for writers nor holds them up.

mod document;
mod flows;
mod index;
mod names;
mod products;
mod removed;
mod segments;
#[cfg(test)]
mod tests;

pub use segments::{Sealing, Waiting};

use super::{
    Annotations, Below, Change, Hit, Hits, Kind, Lookup, Outcome, Reindex, Result, SessionKey, Store, StoreError,
    Summary,
};
use crate::access::{Ingested, Viewer};
use crate::clock;
use crate::column::ColumnKeys;
use crate::flow::{Flow, FlowId};
use crate::folder::Folder;
use crate::product::Product;
use crate::query::Query;
use crate::segment::Failed;
use crate::status::{Dlm, Indexing, Sdp};
use crate::volume::Stamp;
use async_trait::async_trait;
use index::{Index, Prepared, Tools};
use products::Slot;
use segments::{MOST_LEAVES, Sealer, Snapshot};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError};
use std::time::Duration;
use tokio::sync::Notify;
use uuid::Uuid;

/// From how many waiting products on writers wait for segments to be made, in what would be enough for one.
const BEHIND: usize = 4;

/// How many files that are known of are told before others have their turn.
const AT_ONCE: usize = 1024;

/// A [`Store`] in memory. It keeps no annotations.
#[derive(Debug)]
pub struct MemoryStore {
    shared: Arc<Shared>,
    reindex: Notify,
    session_key: OnceLock<SessionKey>,
    /// How long a search may take.
    limit: Duration,
}

/// What work in the background has as well.
#[derive(Debug)]
struct Shared {
    index: RwLock<Index>,
    tools: Arc<Tools>,
    sealing: Sealing,
    /// Held by the one who makes segments.
    sealer: Mutex<()>,
    /// Whether there was a search since segments were made last.
    searched: AtomicBool,
}

impl Default for MemoryStore {
    /// One whose searches take as long as they need.
    fn default() -> Self {
        MemoryStore::new(Duration::MAX)
    }
}

/// Tells a search that nobody waits for its answer any more, once this is dropped.
struct Asking(Arc<AtomicBool>);

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

// A panic while a lock was held would be a defect; the data behind it are still the best there are.
fn lock_read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn lock_write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

impl MemoryStore {
    /// One whose searches may take this long.
    pub fn new(limit: Duration) -> MemoryStore {
        MemoryStore::sealing(limit, Sealing::default())
    }

    /// One that makes segments at other sizes than usual.
    pub fn sealing(limit: Duration, sealing: Sealing) -> MemoryStore {
        let tools = Arc::<Tools>::default();
        let shared = Shared {
            index: RwLock::new(Index::new(tools.clone())),
            tools,
            sealing,
            sealer: Mutex::default(),
            searched: AtomicBool::default(),
        };
        MemoryStore { shared: Arc::new(shared), reindex: Notify::new(), session_key: OnceLock::new(), limit }
    }

    fn read(&self) -> RwLockReadGuard<'_, Index> {
        lock_read(&self.shared.index)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Index> {
        lock_write(&self.shared.index)
    }

    /// Sees to it that segments are made, in the background while there is not too much to be put in them.
    async fn seal(&self) {
        let Shared { sealing, searched, tools, .. } = &*self.shared;
        let (due, behind) = {
            let tail = &self.read().segments.tail;
            let Waiting { leave, seal } = sealing.unsearched;
            let behind = tail.products.len() > leave + BEHIND * seal || tail.leaves > BEHIND * MOST_LEAVES;
            (sealing.now(searched.load(Ordering::Relaxed)).due(tail).is_some(), behind)
        };
        if !due && !tools.documents.can_learn() {
            return;
        }
        let shared = self.shared.clone();
        let sealing = tokio::task::spawn_blocking(move || shared.seal(behind));
        if behind {
            // It ends in any case, and says nothing.
            let _ = sealing.await;
        }
    }
}

impl Shared {
    /// Makes segments until there are enough of them, unless somebody else does, who is waited for if so told.
    fn seal(&self, wait: bool) {
        let _only = match self.sealer.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) if wait => self.sealer.lock().unwrap_or_else(PoisonError::into_inner),
            Err(TryLockError::WouldBlock) => return,
        };
        if self.tools.documents.can_learn() {
            self.tools.documents.learn();
        }
        let sealer = Sealer { index: &self.index, sealing: &self.sealing };
        while sealer.step(self.searched.swap(false, Ordering::Relaxed)) {}
    }

    /// The products of versions that a search found, as they were when it began.
    fn hits(&self, found: &[(u64, u32)]) -> Option<Vec<Hit>> {
        let kept: Vec<Slot> = {
            let index = lock_read(&self.index);
            let version = |(number, slot): &(u64, u32)| {
                index.products.version(*slot, *number).or_else(|| index.graveyard.version(*number)).cloned()
            };
            found.iter().map(version).collect::<Option<_>>()?
        };
        kept.iter().map(|slot| self.hit(slot)).collect()
    }

    fn hit(&self, slot: &Slot) -> Option<Hit> {
        Some(Hit { id: slot.id, product: Arc::new(self.tools.read(slot)?), size: slot.size() })
    }

    /// Executes a search on a snapshot.
    fn execute(&self, snapshot: &Snapshot, given_up: &impl Fn() -> bool) -> Result<Hits> {
        let (total, found) = snapshot.search(given_up).map_err(|failed| match failed {
            Failed::GivenUp => interrupted(),
            Failed::Damaged => broken(),
        })?;
        Ok(Hits { total, hits: self.hits(&found).ok_or_else(broken)? })
    }
}

fn interrupted() -> StoreError {
    StoreError::NotReady("the search was interrupted".to_owned())
}

/// What is in memory does not read. Nothing is known to lead there.
fn broken() -> StoreError {
    StoreError::NotReady("the index in memory is damaged".to_owned())
}

#[async_trait]
impl Store for MemoryStore {
    async fn search(&self, query: Query, viewer: &Viewer) -> Result<Hits> {
        self.shared.searched.store(true, Ordering::Relaxed);
        let shared = self.shared.clone();
        let viewer = viewer.clone();
        let asking = Asking(Arc::default());
        let given_up = asking.0.clone();
        let given_up = move || given_up.load(Ordering::Relaxed);
        let searching = tokio::task::spawn_blocking(move || {
            let snapshot = lock_read(&shared.index).snapshot(query, &viewer);
            shared.execute(&snapshot, &given_up)
        });
        let answer = tokio::time::timeout(self.limit, searching).await;
        drop(asking);
        match answer {
            Ok(answer) => answer.map_err(|_| interrupted())?,
            Err(_) => Err(StoreError::TooLong(format!(
                "The search took longer than {} s, which is the most that one may take; ask for less, or raise \
                 DPD_SEARCH_TIMEOUT_SECONDS.",
                self.limit.as_secs_f64()
            ))),
        }
    }

    async fn product(&self, uid: Uuid, viewer: &Viewer) -> Result<Lookup> {
        let kept = {
            let index = self.read();
            match index.products.of_uid(uid) {
                None => return Ok(Lookup::Unknown),
                Some(slot) if !index.rules.lets_pass(slot.access, viewer) => return Ok(Lookup::Forbidden),
                Some(slot) => slot.clone(),
            }
        };
        self.shared.hit(&kept).map(Lookup::Found).ok_or_else(broken)
    }

    async fn products_of(&self, execution_block: &str, viewer: &Viewer) -> Result<Vec<Hit>> {
        let kept: Vec<Slot> = {
            let index = self.read();
            let slots = index.products.by_block.slots(execution_block).filter_map(|slot| index.products.get(slot));
            slots.filter(|slot| index.rules.lets_pass(slot.access, viewer)).cloned().collect()
        };
        let mut hits: Vec<Hit> =
            kept.iter().map(|slot| self.shared.hit(slot)).collect::<Option<_>>().ok_or_else(broken)?;
        hits.sort_by_cached_key(Hit::nearness);
        Ok(hits)
    }

    async fn below(&self, folder: &Folder, viewer: &Viewer, lately: Duration) -> Result<Below> {
        Ok(self.read().below(folder, viewer, lately))
    }

    async fn removed(&self, lately: Duration) -> Result<Vec<Folder>> {
        let index = self.read();
        Ok(index.removed.all(lately).filter(|folder| !index.has_product(folder)).cloned().collect())
    }

    async fn products_at(&self, folders: &[Folder]) -> Result<Vec<Folder>> {
        let index = self.read();
        Ok(folders.iter().filter(|folder| index.has_product(folder)).cloned().collect())
    }

    async fn may_know(&self, folder: &Folder, viewer: &Viewer) -> Result<Option<bool>> {
        let index = self.read();
        let visible = |folder: &str| index.files.get(folder).and_then(|file| index.is_visible(file, viewer));
        let is_hidden = folder.up().chain([""]).any(|at| visible(at) == Some(false));
        Ok(if is_hidden { Some(false) } else { visible(folder.as_str()) })
    }

    async fn keys(&self, viewer: &Viewer) -> Result<ColumnKeys> {
        Ok(self.read().rules.keys(viewer, &self.shared.tools.keys))
    }

    async fn summary(&self, viewer: &Viewer, failing: usize) -> Result<Summary> {
        let index = self.read();
        let mut indexing = index.indexing.clone();
        indexing.unreadable.first.retain(|unreadable| index.may_tell_of(&unreadable.path, viewer));
        indexing.unreadable.first.truncate(failing);
        Ok(Summary {
            sees_all: index.rules.shows_all(viewer),
            products: index.rules.visible(viewer).map(|counts| counts.products).sum(),
            products_on_volume: index.rules.visible(viewer).map(|counts| counts.on_volume).sum(),
            updated: index.updated(viewer),
            indexing,
            coordination: None,
            sdp: index.sdp.clone(),
            dlm: index.dlm.clone(),
            failing: index.failing_for(viewer).count() as u64,
            first_failing: index.failing_for(viewer).take(failing).cloned().collect(),
        })
    }

    async fn apply(&self, changes: &[Change]) -> Result<Vec<Outcome>> {
        let prepare = |change: &Change| match change {
            Change::Found(found) => Some(self.shared.tools.prepare(&found.product)),
            _ => None,
        };
        let prepared: Vec<Option<Prepared>> = changes.iter().map(prepare).collect();
        let outcomes: Vec<Outcome> = {
            let mut index = self.write();
            let now = clock::now();
            let applied = changes.iter().zip(prepared).map(|(change, prepared)| index.change(change, prepared, now));
            applied.collect()
        };
        self.seal().await;
        Ok(outcomes)
    }

    async fn ingest(&self, product: Product, viewer: &Viewer) -> Result<Ingested> {
        let prepared = self.shared.tools.prepare(&product);
        let ingested = {
            let mut index = self.write();
            let ingested = viewer.brings(index.guard_of(product.uid), &product.access);
            if ingested == Ingested::Taken {
                index.put(&product, Some(prepared), None);
            }
            ingested
        };
        self.seal().await;
        Ok(ingested)
    }

    async fn failing(&self) -> Result<Vec<Folder>> {
        Ok(self.read().failing.iter().cloned().collect())
    }

    async fn each_known(&self, scope: &Folder, tell: &mut (dyn FnMut(Folder, Option<Stamp>) + Send)) -> Result<()> {
        let own = self.read().files.get(scope).map(|file| file.stamp);
        own.into_iter().for_each(|stamp| tell(scope.clone(), stamp));
        let mut after: Option<Folder> = None;
        loop {
            let some: Vec<(Folder, Option<Stamp>)> = {
                let index = self.read();
                let files = index.files_after(scope, after.as_ref()).take(AT_ONCE);
                files.map(|(folder, file)| (folder.clone(), file.stamp)).collect()
            };
            let Some((last, _)) = some.last() else { return Ok(()) };
            after = Some(last.clone());
            some.into_iter().for_each(|(folder, stamp)| tell(folder, stamp));
            // There may be a million of them, and what else the task does goes on meanwhile.
            tokio::task::yield_now().await;
        }
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

    async fn session_key(&self, made: SessionKey) -> Result<SessionKey> {
        Ok(*self.session_key.get_or_init(|| made))
    }

    fn kind(&self) -> Kind {
        Kind::Memory
    }

    fn annotations(&self) -> Option<&dyn Annotations> {
        None
    }
}
