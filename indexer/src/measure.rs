//! The size of products on disk, found out in the background by one thread, after the products themselves are in the
//! index: a product may hold a million files, and nobody should wait for their sizes to find it.

use crate::write::Item;
use rustix::fs::{AtFlags, Dir, FileType, statat};
use rustix::io::Errno;
use shared::folder::Folder;
use shared::store::{Change, Store};
use shared::volume::{Volume, is_gone};
use std::collections::btree_map::OccupiedEntry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc};

/// How long a product is left alone after something in it changed, so that one being written is not measured for each
/// of its files.
const QUIET: Duration = Duration::from_secs(1);
/// For how long it is not asked again what was removed lately: less than that, so that who went is known by then.
const FRESH: Duration = Duration::from_millis(500);

#[derive(Debug)]
enum Order {
    Product(Folder),
    Changed(Folder),
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

    /// Orders the measurement of a product in whose folder something became another product's, or its own.
    pub(crate) fn changed(&self, folder: Folder) {
        self.backlog.given.fetch_add(1, Relaxed);
        let _ = self.orders.send(Order::Changed(folder));
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
    removed: Removed,
}

/// The folders of restricted products that were removed lately. Nothing of what is in them is counted meanwhile: a metadata
/// file may be away for a moment only, and the size of the product around it would tell how much is in there.
struct Removed {
    store: Arc<dyn Store>,
    runtime: Handle,
    lately: Duration,
    folders: HashSet<PathBuf>,
    asked: Option<Instant>,
}

impl Removed {
    fn folders(&mut self) -> &HashSet<PathBuf> {
        if self.asked.is_none_or(|asked| asked.elapsed() > FRESH) {
            // A store that cannot be asked takes no sizes either.
            if let Ok(folders) = self.runtime.block_on(self.store.removed(self.lately)) {
                self.folders = folders.iter().map(|folder| PathBuf::from(folder.as_path())).collect();
            }
            self.asked = Some(Instant::now());
        }
        &self.folders
    }
}

/// The two ends. At most `most` orders wait; 0 means that all do, for a store that does not know what was not measured.
/// Restricted products that were removed no longer ago than `lately` count as if they were there. To be called on a runtime.
pub(crate) fn measure(
    volume: &Arc<Volume>,
    store: &Arc<dyn Store>,
    changes: &mpsc::Sender<Item>,
    most: usize,
    lately: Duration,
) -> (Measure, Measurer) {
    let (sender, orders) = channel();
    let backlog = Arc::new(Backlog { most, ..Backlog::default() });
    let measure = Measure { orders: sender, backlog: backlog.clone() };
    let (store, folders) = (store.clone(), HashSet::new());
    let removed = Removed { store, runtime: Handle::current(), lately, folders, asked: None };
    (measure, Measurer { orders, backlog, volume: volume.clone(), changes: changes.clone(), removed })
}

/// What is to be measured, and when.
#[derive(Default)]
struct Due {
    order: BTreeMap<(Instant, u64), Folder>,
    waiting: HashMap<Folder, (Instant, u64)>,
    count: u64,
}

impl Due {
    /// Adds a folder. Where it waits already, it is measured once, at the earlier time.
    fn add(&mut self, folder: Folder, at: Instant) {
        if let Some(place) = self.waiting.get(&folder).copied() {
            if place.0 <= at {
                return;
            }
            self.order.remove(&place);
        }
        self.count += 1;
        self.waiting.insert(folder.clone(), (at, self.count));
        self.order.insert((at, self.count), folder);
    }

    /// When the first is to be measured.
    fn first(&self) -> Option<Instant> {
        self.order.first_key_value().map(|((at, _), _)| *at)
    }

    /// The first, where it is time for it.
    fn take(&mut self) -> Option<Folder> {
        let first = self.order.first_entry().filter(|first| first.key().0 <= Instant::now());
        let folder = first.map(OccupiedEntry::remove)?;
        self.waiting.remove(&folder);
        Some(folder)
    }
}

impl Measurer {
    /// Measures what is ordered, until nobody can order or take the results any more.
    pub(crate) fn run(mut self) {
        let mut due = Due::default();
        loop {
            let pause = due.first().map_or(QUIET, |at| at.saturating_duration_since(Instant::now()));
            let order = self.orders.recv_timeout(pause);
            if order.is_ok() {
                self.backlog.given.fetch_sub(1, Relaxed);
            }
            let (folders, at) = match order {
                Ok(Order::Product(folder)) => (vec![folder], Instant::now()),
                Ok(Order::Changed(folder)) => (vec![folder], Instant::now() + QUIET),
                Ok(Order::FileChangedIn(folder)) => (self.products_around(folder), Instant::now() + QUIET),
                Err(RecvTimeoutError::Timeout) => (Vec::new(), Instant::now()),
                Err(RecvTimeoutError::Disconnected) => return,
            };
            for folder in folders {
                due.add(folder, at);
            }
            let first = due.take();
            self.backlog.taken.store(due.waiting.len(), Relaxed);
            self.backlog.offer_room();
            let Some(folder) = first else { continue };
            let bytes = match size(&self.volume, &folder, self.removed.folders()) {
                Ok(size) => {
                    if size.for_a_while {
                        due.add(folder.clone(), Instant::now() + self.removed.lately);
                    }
                    Some(size.bytes)
                }
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

/// What the folder of a product comes to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Size {
    bytes: u64,
    /// Whether something in it counts as another product's for a while alone.
    for_a_while: bool,
}

/// The bytes of all regular files at and below a folder, but for what is another product's: a folder with a metadata file of
/// its own, with all below it, and one in which there was one lately (`removed`). Links are not followed.
fn size(volume: &Volume, folder: &Folder, removed: &HashSet<PathBuf>) -> io::Result<Size> {
    let root = volume.open()?;
    let mut size = Size::default();
    let top = PathBuf::from(folder.as_path());
    let mut open = vec![(top.clone(), volume.prunes_any(folder))];
    while let Some((path, pruned)) = open.pop() {
        if path != top && removed.contains(&path) {
            size.for_a_while = true;
            continue;
        }
        let mut dir = match root.open_listable(&path).and_then(|dir| Ok(Dir::new(dir)?)) {
            // Removed since the folder that it is in was read, as files of products in the making are.
            Err(error) if is_gone(&error) && path != top => continue,
            dir => dir?,
        };
        let (mut bytes, mut folders, mut is_others) = (0, Vec::new(), false);
        while let Some(entry) = dir.read() {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let own = OsStr::from_bytes(name.to_bytes());
            if path != top && !pruned && own == volume.origin().metadata_file.as_str() {
                is_others = true;
                break;
            }
            let (kind, length) = match entry.file_type() {
                kind @ (FileType::RegularFile | FileType::Unknown) => {
                    match statat(dir.fd()?, name, AtFlags::SYMLINK_NOFOLLOW) {
                        Ok(stat) => (FileType::from_raw_mode(stat.st_mode), u64::try_from(stat.st_size).unwrap_or(0)),
                        Err(Errno::NOENT) => (kind, 0),
                        Err(error) => return Err(error.into()),
                    }
                }
                kind => (kind, 0),
            };
            if kind == FileType::Directory {
                let pruned = pruned || own.to_str().is_some_and(|name| volume.prunes(name));
                let path = if folder.is_root() && path == top { own.into() } else { path.join(own) };
                folders.push((path, pruned));
            } else if kind == FileType::RegularFile {
                bytes += length;
            }
        }
        if !is_others {
            size.bytes += bytes;
            open.append(&mut folders);
        }
    }
    Ok(size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::config::{Settings, Variables};
    use std::fs;

    #[test]
    fn every_byte_is_counted_once() {
        let dir = tempfile::tempdir().expect("a folder");
        let settings = Settings::read(&Variables::default(), dir.path().to_str().map(str::to_owned)).expect("settings");
        let volume = Volume::new(&settings.volume);
        let products = ["", "a", "a/b/c", "a/b/c/d", "x/y"];
        let metadata = products.map(|product| format!("{product}/ska-data-product.yaml"));
        // What lies in a folder that is not walked into is no product's, whatever it is called.
        let others =
            ["f", "a/b/f", "a/b/c/f", "a/v.ms/f", "a/v.ms/ska-data-product.yaml", "a/b/c/d/e/f", "x/f", "x/y/f"];
        for (n, path) in metadata.iter().map(String::as_str).chain(others).enumerate() {
            let path = dir.path().join(path.trim_start_matches('/'));
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            fs::write(path, vec![b'x'; 1 << n]).expect("a file");
        }
        let measured = |folder: &str, removed: &[&str]| {
            let removed = removed.iter().map(PathBuf::from).collect();
            size(&volume, &folder.parse().expect("a folder"), &removed).expect("a size")
        };
        let bits = |of: &[u32]| Size { bytes: of.iter().map(|n| 1 << n).sum(), for_a_while: false };
        let each = [&[0, 5, 11][..], &[1, 6, 8, 9], &[2, 7], &[3, 10], &[4, 12]];
        for (product, each) in products.into_iter().zip(each) {
            assert_eq!(measured(product, &[]), bits(each), "{product:?}");
        }
        fs::remove_file(dir.path().join("a/b/c/ska-data-product.yaml")).expect("removed");
        assert_eq!(measured("a", &[]), bits(&[1, 6, 7, 8, 9]));
        let own = Size { for_a_while: true, ..bits(&[1, 6, 8, 9]) };
        assert_eq!(measured("a", &["a/b/c", "a", "x"]), own);
    }
}
