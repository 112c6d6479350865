//! The size of products on disk, found out in the background by one thread, after the products themselves are in the
//! index: a product may hold a million files, and nobody should wait for their sizes to find it.

use crate::write::Item;
use shared::folder::Folder;
use shared::store::Change;
use shared::volume::{Root, Volume, is_gone};
use std::collections::btree_map::OccupiedEntry;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc};

/// How long a product is left alone after something in it changed, so that one being written is not measured for each
/// of its files.
const QUIET: Duration = Duration::from_secs(1);

#[derive(Debug)]
enum Order {
    Product(Folder),
    FileChangedIn(Folder),
}

/// Orders measurements.
#[derive(Debug, Clone)]
pub(crate) struct Measure {
    orders: Sender<Order>,
    backlog: Arc<Backlog>,
}

/// What waits to be measured.
#[derive(Debug, Default)]
struct Backlog {
    /// How many orders may wait; all where it is 0.
    most: usize,
    /// Those that were given and not taken yet.
    given: AtomicUsize,
    /// Those that were taken and are not dealt with.
    taken: AtomicUsize,
    /// Orders were not taken, or some are left from another process.
    more: AtomicBool,
    room: Notify,
}

impl Measure {
    /// Orders the measurement of a product. Where too many wait, the store knows of it: see [`room`](Measure::room).
    pub(crate) fn product(&self, folder: Folder) {
        if self.backlog.most > 0 && self.backlog.waiting() >= self.backlog.most {
            return self.more();
        }
        self.backlog.given.fetch_add(1, Relaxed);
        let _ = self.orders.send(Order::Product(folder));
    }

    /// Orders the measurement of the products that a folder is part of.
    pub(crate) fn file_changed_in(&self, folder: Folder) {
        self.backlog.given.fetch_add(1, Relaxed);
        let _ = self.orders.send(Order::FileChangedIn(folder));
    }

    /// Says that the store knows of products to be measured.
    pub(crate) fn more(&self) {
        self.backlog.more.store(true, Relaxed);
        self.backlog.offer_room();
    }

    /// Waits until little waits to be measured, and the store knows of more.
    pub(crate) async fn room(&self) {
        self.backlog.room.notified().await;
    }
}

impl Backlog {
    fn waiting(&self) -> usize {
        self.given.load(Relaxed) + self.taken.load(Relaxed)
    }

    fn offer_room(&self) {
        if self.waiting() <= self.most / 2 && self.more.swap(false, Relaxed) {
            self.room.notify_one();
        }
    }
}

/// What measures: to be [`run`](Measurer::run) on a thread of its own.
pub(crate) struct Measurer {
    orders: Receiver<Order>,
    backlog: Arc<Backlog>,
    volume: Arc<Volume>,
    changes: mpsc::Sender<Item>,
}

/// The two ends. At most `most` orders wait; 0 means that all do, for a store that does not know what was not measured.
pub(crate) fn measure(volume: &Arc<Volume>, changes: &mpsc::Sender<Item>, most: usize) -> (Measure, Measurer) {
    let (sender, orders) = channel();
    let backlog = Arc::new(Backlog { most, ..Backlog::default() });
    let measure = Measure { orders: sender, backlog: backlog.clone() };
    (measure, Measurer { orders, backlog, volume: volume.clone(), changes: changes.clone() })
}

impl Measurer {
    /// Measures what is ordered, until nobody can order or take the results any more.
    pub(crate) fn run(self) {
        let mut due: BTreeMap<(Instant, u64), Folder> = BTreeMap::new();
        let mut waiting: HashMap<Folder, (Instant, u64)> = HashMap::new();
        let mut count = 0;
        loop {
            let pause =
                due.first_key_value().map_or(QUIET, |((at, _), _)| at.saturating_duration_since(Instant::now()));
            let order = self.orders.recv_timeout(pause);
            if order.is_ok() {
                self.backlog.given.fetch_sub(1, Relaxed);
            }
            let (folders, at) = match order {
                Ok(Order::Product(folder)) => (vec![folder], Instant::now()),
                Ok(Order::FileChangedIn(folder)) => (self.products_around(folder), Instant::now() + QUIET),
                Err(RecvTimeoutError::Timeout) => (Vec::new(), Instant::now()),
                Err(RecvTimeoutError::Disconnected) => return,
            };
            for folder in folders {
                if !waiting.contains_key(&folder) {
                    count += 1;
                    waiting.insert(folder.clone(), (at, count));
                    due.insert((at, count), folder);
                }
            }
            let first = due.first_entry().filter(|first| first.key().0 <= Instant::now());
            let first = first.map(OccupiedEntry::remove);
            self.backlog.taken.store(due.len(), Relaxed);
            self.backlog.offer_room();
            let Some(folder) = first else { continue };
            waiting.remove(&folder);
            let bytes = match self.volume.open().and_then(|root| size(&root, &folder)) {
                Ok(bytes) => Some(bytes),
                // Either the product leaves the index, or the volume went and comes back.
                Err(error) if is_gone(&error) => continue,
                Err(_) => None,
            };
            if self.changes.blocking_send(Item::of(Change::Measured { folder, bytes })).is_err() {
                return;
            }
        }
    }

    /// The folder and those above it that hold a metadata file.
    fn products_around(&self, folder: Folder) -> Vec<Folder> {
        let Ok(root) = self.volume.open() else { return Vec::new() };
        std::iter::successors(Some(folder), Folder::parent).filter(|folder| root.stamp(folder).is_some()).collect()
    }
}

/// The bytes of all regular files at and below a folder. Links are not followed.
fn size(root: &Root<'_>, folder: &Folder) -> io::Result<u64> {
    let mut bytes = 0;
    let mut open = vec![root.open_folder(folder)?];
    while let Some(dir) = open.pop() {
        for entry in dir.entries()? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                open.push(entry.open_dir()?);
            } else if kind.is_file() {
                bytes += match entry.metadata() {
                    Ok(metadata) => metadata.len(),
                    // Removed since the folder was read, as files of products in the making are.
                    Err(error) if is_gone(&error) => 0,
                    Err(error) => return Err(error),
                };
            }
        }
    }
    Ok(bytes)
}
