//! The watch: events of the kernel (inotify) become hints.
//!
//! Each folder is watched by itself, before it is listed, so that nothing is missed between the two, and so that folders
//! that are not walked into cost no watch. Events are hints and no truth: whatever they say, a worker looks for itself.

use crate::measure::Measure;
use crate::queue::{Hint, Queue, Turn};
use crate::reconcile::Reconciliation;
use crate::run::{Kind, Run, Settle};
use notify::event::{AccessKind, AccessMode, CreateKind, Event, EventKind, ModifyKind, RemoveKind, RenameMode};
use notify::{Config, ErrorKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use shared::config::WatchMode;
use shared::folder::Folder;
use shared::status::WatchedBy;
use shared::volume::Volume;
use std::collections::BTreeSet;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tracing::{info, warn};

/// How long a file that is being written is left alone.
const WRITING: Duration = Duration::from_millis(100);

/// Magic numbers of file systems on which other machines write unseen (statfs(2), and Linux's `magic.h`).
const NETWORK: [(u64, &str); 8] = [
    (0x6969, "NFS"),
    (0x00c3_6400, "CephFS"),
    (0xff53_4d42, "SMB"),
    (0xfe53_4d42, "SMB"),
    (0x517b, "SMB"),
    (0x0102_1997, "9P"),
    (0x6573_5546, "FUSE"),
    (0x0bd0_0bd0, "Lustre"),
];

#[derive(Debug, Default)]
struct Folders {
    watched: BTreeSet<Folder>,
    refused: BTreeSet<Folder>,
    /// The kernel takes no more; not tried again until the next walk of everything.
    full: bool,
    /// Events were lost.
    uncertain: bool,
}

/// Watches folders, where it can.
pub(crate) struct Watch {
    /// `None` where only walks find out.
    watcher: Option<Mutex<RecommendedWatcher>>,
    handler: Handler,
}

impl Watch {
    /// Sets up watching as configured; where that is impossible everything is polled.
    pub(crate) fn start(
        volume: &Arc<Volume>,
        mode: WatchMode,
        queue: &Arc<Queue>,
        measure: &Measure,
        settle: &Settle,
    ) -> Watch {
        let root = std::path::absolute(volume.path()).unwrap_or_else(|_| volume.path().to_owned());
        let events = match (mode, network_file_system(&root)) {
            (WatchMode::Poll, _) => false,
            (WatchMode::Auto, Some(kind)) => {
                info!("the volume is on {kind}, where events miss what other machines write: it is polled");
                false
            }
            (WatchMode::Auto | WatchMode::Events, _) => true,
        };
        let handler = Handler {
            root,
            volume: volume.clone(),
            folders: Arc::default(),
            queue: queue.clone(),
            measure: measure.clone(),
            settle: settle.clone(),
        };
        let watcher = events.then(|| watcher(&handler)).and_then(|watcher| {
            watcher
                .inspect_err(|error| warn!("no events to be had, the volume is polled: {error}"))
                .ok()
                .map(Mutex::new)
        });
        Watch { watcher, handler }
    }

    fn folders(&self) -> MutexGuard<'_, Folders> {
        lock(&self.handler.folders)
    }

    /// Watches a folder. Where the kernel refuses, the folder counts as polled and is tried again at the next walk.
    pub(crate) fn add(&self, folder: &Folder) {
        let mut folders = self.folders();
        if folders.watched.contains(folder) {
            return;
        }
        let Some(watcher) = self.watcher.as_ref().filter(|_| !folders.full) else {
            folders.refused.insert(folder.clone());
            return;
        };
        // Before it is so: an event that says otherwise must find it here.
        folders.watched.insert(folder.clone());
        // The event thread takes this lock as well, and must not wait for the kernel here.
        drop(folders);
        let root = &self.handler.root;
        let path = if folder.is_root() { root.clone() } else { root.join(folder.as_str()) };
        let Err(error) = lock(watcher).watch(&path, RecursiveMode::NonRecursive) else { return };
        let mut folders = self.folders();
        folders.watched.remove(folder);
        // What is gone already, an event of its parent tells.
        if is_gone(&error) {
            return;
        }
        folders.refused.insert(folder.clone());
        if !matches!(error.kind, ErrorKind::MaxFilesWatch) {
            warn!(%folder, "cannot be watched and is polled: {error}");
        } else if !std::mem::replace(&mut folders.full, true) {
            warn!("no more folders can be watched, the rest is polled: fs.inotify.max_user_watches sets the limit");
        }
    }

    /// Begins to count anew what is not watched, and to try whether it can be. Where events were lost, which watches are
    /// on which folders is not known any more, and all are set anew.
    pub(crate) fn begin_walk(&self) {
        // Held until the new watcher is in place, so that no worker sets a watch with the old one and counts it.
        let own = self.watcher.as_ref().map(lock);
        let mut folders = self.folders();
        folders.refused.clear();
        folders.full = false;
        let Some(mut own) = own.filter(|_| std::mem::take(&mut folders.uncertain)) else { return };
        folders.watched.clear();
        drop(folders);
        match watcher(&self.handler) {
            Ok(new) => *own = new,
            Err(error) => warn!("the watches cannot be set anew: {error}"),
        }
    }

    /// Counts a folder that cannot be read as polled.
    pub(crate) fn refuse(&self, folder: &Folder) {
        self.folders().refused.insert(folder.clone());
    }

    /// Forgets folders that are not there.
    pub(crate) fn forget(&self, folder: &Folder) {
        self.folders().forget(folder);
    }

    /// What `/status` calls it.
    pub(crate) fn mode(&self) -> WatchedBy {
        if self.watcher.is_some() { WatchedBy::Events } else { WatchedBy::Poll }
    }

    /// How many folders are watched, and how many are not and should be.
    pub(crate) fn coverage(&self) -> (u64, u64) {
        let folders = self.folders();
        (folders.watched.len() as u64, folders.refused.len() as u64)
    }
}

fn watcher(handler: &Handler) -> notify::Result<RecommendedWatcher> {
    let handler = handler.clone();
    let config = Config::default().with_follow_symlinks(false);
    RecommendedWatcher::new(move |event| handler.handle(event), config)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_gone(error: &notify::Error) -> bool {
    match &error.kind {
        ErrorKind::PathNotFound => true,
        ErrorKind::Io(error) => shared::volume::is_gone(error),
        _ => false,
    }
}

fn network_file_system(root: &Path) -> Option<&'static str> {
    let magic = u64::try_from(rustix::fs::statfs(root).ok()?.f_type).ok()? & 0xffff_ffff;
    NETWORK.iter().find(|(number, _)| *number == magic).map(|(_, name)| *name)
}

impl Folders {
    fn forget(&mut self, folder: &Folder) {
        for set in [&mut self.watched, &mut self.refused] {
            set.remove(folder);
            let below = folder.prefix_below();
            let range = set.range::<str, _>((Bound::Included(below.as_str()), Bound::Unbounded));
            let gone: Vec<Folder> = range.take_while(|other| folder.contains(other)).cloned().collect();
            for folder in &gone {
                set.remove(folder);
            }
        }
    }
}

/// Turns events into hints, on the thread that reads them; it must not wait for anything.
#[derive(Clone)]
struct Handler {
    root: PathBuf,
    volume: Arc<Volume>,
    folders: Arc<Mutex<Folders>>,
    queue: Arc<Queue>,
    measure: Measure,
    settle: Settle,
}

/// What an event says of the name that it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Happened {
    /// It is there, or is not any more; a folder, or possibly one.
    Folder,
    /// The file of this name was finished, replaced or removed.
    File,
    /// The file of this name is being written, or its attributes changed.
    Writing,
}

fn happened(kind: EventKind) -> Option<&'static [Happened]> {
    use Happened::{File, Folder, Writing};
    match kind {
        // Both ends of a rename are told one by one as well.
        EventKind::Modify(ModifyKind::Name(RenameMode::Both)) => None,
        EventKind::Modify(ModifyKind::Name(_)) | EventKind::Remove(RemoveKind::Other | RemoveKind::Any) => {
            Some(&[Folder, File])
        }
        EventKind::Create(CreateKind::Folder) | EventKind::Remove(RemoveKind::Folder) => Some(&[Folder]),
        EventKind::Access(AccessKind::Close(AccessMode::Write)) | EventKind::Remove(RemoveKind::File) => Some(&[File]),
        EventKind::Create(_) | EventKind::Modify(_) => Some(&[Writing]),
        // Opening and reading, our own among it.
        EventKind::Access(_) | EventKind::Any | EventKind::Other => None,
    }
}

impl Handler {
    fn handle(&self, event: notify::Result<Event>) {
        match event {
            Ok(event) if event.need_rescan() => self.lost_events("the kernel lost events"),
            Ok(event) => {
                for (what, path) in happened(event.kind)
                    .into_iter()
                    .flatten()
                    .flat_map(|what| event.paths.iter().map(move |path| (*what, path)))
                {
                    self.hint(what, path);
                }
            }
            Err(error) => self.lost_events(&format!("events may have been lost: {error}")),
        }
    }

    fn lost_events(&self, why: &str) {
        warn!("{why}; everything is walked");
        lock(&self.folders).uncertain = true;
        self.queue.lost_hints();
    }

    fn hint(&self, what: Happened, path: &Path) {
        let Some(path) = path.strip_prefix(&self.root).ok().and_then(Path::to_str) else { return };
        let Ok(path) = path.parse::<Folder>() else { return };
        let (Some(name), Some(parent)) = (path.name(), path.parent()) else {
            // The storage path itself went, or moved: its watches tell nothing more.
            if what == Happened::Folder {
                lock(&self.folders).forget(&path);
                self.queue.lost_hints();
            }
            return;
        };
        if self.volume.prunes_any(&parent) {
            return;
        }
        // Other permissions on a folder that could not be read.
        let what = if lock(&self.folders).refused.contains(&path) { Happened::Folder } else { what };
        let now = Instant::now();
        if name == self.volume.origin().metadata_file {
            let due = if what == Happened::Writing { now + WRITING } else { now };
            self.queue.push(parent, Hint::read(), Turn::Due(due));
        } else if what == Happened::Folder && !self.volume.prunes(name) {
            // Whatever is watched under this name is another folder now, or none.
            lock(&self.folders).forget(&path);
            let ticket = Run::begin(Kind::Subtree, path.clone(), Reconciliation::of_everything(), &self.settle);
            self.queue.push(path, Hint::list(vec![ticket]), Turn::Due(now));
        } else if what != Happened::Writing {
            self.measure.file_changed_in(parent);
        }
    }
}
