//! The watch: events become hints. [`source`] tells of them.
//!
//! Folders are watched one by one as walks list them, between opening a folder and reading what is in it, so that nothing
//! falls between the two. Where there are more folders than the kernel watches, those are watched that matter most (the
//! storage path, the upper levels, and what changed lately: [`places`]), and walks find out about the others. Events are
//! hints and no truth: whatever they say, a worker looks for itself.

#[cfg(target_os = "linux")]
mod inotify;
mod places;
mod portable;
mod source;

use crate::hashed::{Key, key_of};
use crate::measure::Measure;
use crate::queue::{Hint, Queue, Turn};
use crate::reconcile::Reconciliation;
use crate::run::{Kind, Run, Settle};
use places::{Places, worth};
use shared::clock;
use shared::config::WatchMode;
use shared::folder::Folder;
use shared::status::WatchedBy;
use shared::volume::{Own, Volume, is_gone};
use source::{Happened, Place, Told, Watches};
use std::collections::{BTreeSet, HashSet};
use std::io::ErrorKind;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tracing::{info, warn};

/// How long a file that is being written is left alone.
const WRITING: Duration = Duration::from_millis(100);
/// How soon a new folder that cannot be watched is looked at again at the earliest, and how old it is when that ends.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
const SETTLED: Duration = Duration::from_secs(600);
/// How many watches may be on their way out. The kernel tells when each has ended, and keeps only so many events.
const ENDING: usize = 4096;
/// How many folders that cannot be read are remembered by name.
const UNREADABLE: usize = 10_000;
/// How many folders are remembered in which the metadata file is a link.
const LINKED: usize = 1_000_000;

#[cfg(target_os = "linux")]
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
struct State {
    /// `None` where only walks find out.
    watches: Option<Arc<Watches>>,
    /// How often they were set anew: numbers of watches of before mean nothing now.
    generation: u64,
    places: Places,
    /// Folders that cannot be read or watched: other permissions may change that.
    refused: BTreeSet<Folder>,
    /// Folders in which the metadata file is a link: whatever changes in them may change where it leads.
    linked: HashSet<Key>,
    /// Folders that the walk found and that are not watched, and how many there were in the last whole one.
    unwatched: u64,
    unwatched_before: u64,
    /// The kernel takes no more, and that was told.
    full: bool,
    told: bool,
    /// Watches that were ended and of which the kernel did not tell yet.
    ending: usize,
    /// Events were lost, or watches are left over: which is on which folder is not known.
    uncertain: bool,
}

/// Watches folders, where it can.
pub(crate) struct Watch(Handler);

impl Watch {
    /// Sets up watching as configured; where that is impossible everything is polled.
    pub(crate) fn start(
        volume: &Arc<Volume>,
        mode: WatchMode,
        queue: &Arc<Queue>,
        measure: &Measure,
        settle: &Settle,
    ) -> Watch {
        let by_library = mode == WatchMode::Notify || cfg!(not(target_os = "linux"));
        let root = std::path::absolute(volume.path()).unwrap_or_else(|_| volume.path().to_owned());
        // The library tells of paths, and some systems of those without links.
        let root = if by_library { root.canonicalize().unwrap_or(root) } else { root };
        let events = match (mode, network_file_system(&root)) {
            (WatchMode::Poll, _) => false,
            (WatchMode::Auto, Some(kind)) => {
                info!("the volume is on {kind}, where events miss what other machines write: it is polled");
                false
            }
            (WatchMode::Auto | WatchMode::Events | WatchMode::Notify, _) => true,
        };
        let handler = Handler {
            by_library,
            root,
            volume: volume.clone(),
            state: Arc::default(),
            queue: queue.clone(),
            measure: measure.clone(),
            settle: settle.clone(),
        };
        if events {
            match handler.watches(0) {
                Ok(watches) => handler.lock().watches = Some(Arc::new(watches)),
                Err(error) => warn!(%error, "no events to be had, the volume is polled"),
            }
        }
        Watch(handler)
    }

    /// Watches a folder that is about to be listed. Where the kernel refuses, it counts as polled.
    pub(crate) fn add(&self, folder: &Folder, dir: BorrowedFd<'_>, own: &Own) {
        let worth = worth(folder, own.modified.div_euclid(1_000_000_000));
        let path = if folder.is_root() { self.0.root.clone() } else { self.0.root.join(folder.as_str()) };
        loop {
            let Some(watches) = self.0.lock().room_for(folder, worth) else { return };
            // Outside the lock: the thread that reads events must not wait for the kernel here. What it is told before the
            // folder is noted is passed over, and seen by the listing.
            let added = watches.add(dir, &path);
            let mut state = self.0.lock();
            if !state.watches.as_ref().is_some_and(|own| Arc::ptr_eq(own, &watches)) {
                continue;
            }
            match added {
                Ok(number) => {
                    let before = state.places.insert(number, folder, worth);
                    return before.into_iter().for_each(|before| state.end(before));
                }
                Err(error) if error.kind() == ErrorKind::StorageFull => {
                    if state.fills() {
                        continue;
                    }
                    state.unwatched += 1;
                }
                // What is gone already, an event of its parent tells.
                Err(error) if is_gone(&error) => {}
                Err(error) => {
                    state.refuse(folder);
                    warn!(%folder, %error, "cannot be watched and is polled");
                }
            }
            return;
        }
    }

    /// Whether a folder is watched, or need not be since walks alone find out.
    pub(crate) fn covers(&self, folder: &Folder) -> bool {
        let state = self.0.lock();
        state.watches.is_none() || state.places.contains(folder)
    }

    /// Whether a watch on this folder could be had, maybe in place of one that is worth less.
    pub(crate) fn could_cover(&self, folder: &Folder, own: &Own) -> bool {
        let state = self.0.lock();
        let worth = worth(folder, own.modified.div_euclid(1_000_000_000));
        state.watches.is_some() && (!state.full || state.places.makes_way_for(worth).is_some())
    }

    /// Whether changes are told of at all.
    pub(crate) fn is_told_of_changes(&self) -> bool {
        self.0.lock().watches.is_some()
    }

    /// Notes whether the metadata file in a folder is a link.
    pub(crate) fn links(&self, folder: &Folder, is_link: bool) {
        let mut state = self.0.lock();
        if is_link && state.linked.len() < LINKED {
            state.linked.insert(key_of(folder));
        } else if !is_link && !state.linked.is_empty() {
            state.linked.remove(&key_of(folder));
        }
    }

    /// Has a folder looked at again that is new, since an event led to it, and that cannot be watched: what is written in it
    /// next would show in the next walk of everything only. As long after this look as it is since it changed last.
    pub(crate) fn look_again(&self, folder: &Folder, own: &Own) {
        let now = clock::now().timestamp_nanos_opt().unwrap_or(i64::MAX);
        let age = Duration::from_nanos(u64::try_from(now.saturating_sub(own.modified)).unwrap_or_default());
        if age < SETTLED && !self.covers(folder) {
            let due = Instant::now() + age.max(LOOK_AGAIN);
            self.0.list(folder.clone(), due);
        }
    }

    /// Counts a folder that a walk passes without a watch on it.
    pub(crate) fn passes(&self, folder: &Folder) {
        let mut state = self.0.lock();
        state.unwatched += u64::from(!state.places.contains(folder));
    }

    /// Begins to count anew what is not watched, and to try whether it can be. Where events were lost, which watches are
    /// on which folders is not known any more, and all are set anew.
    pub(crate) fn begin_walk(&self) {
        let uncertain = {
            let mut state = self.0.lock();
            state.refused.clear();
            state.unwatched = 0;
            state.full = false;
            state.uncertain
        };
        if uncertain {
            self.set_anew();
        }
    }

    /// Ends a walk. One of everything saw all folders that are not watched.
    pub(crate) fn end_walk(&self, whole: bool) {
        let mut state = self.0.lock();
        if whole {
            state.unwatched_before = state.unwatched;
        }
    }

    /// Drops all watches: the storage path is another folder now.
    pub(crate) fn set_anew(&self) {
        let generation = match &*self.0.lock() {
            State { watches: Some(_), generation, .. } => generation + 1,
            _ => return,
        };
        match self.0.watches(generation) {
            Ok(new) => {
                let mut state = self.0.lock();
                state.generation = generation;
                state.places = Places::default();
                (state.uncertain, state.ending) = (false, 0);
                state.watches = Some(Arc::new(new));
            }
            Err(error) => warn!(%error, "the watches cannot be set anew"),
        }
    }

    /// Counts a folder that cannot be read as polled.
    pub(crate) fn refuse(&self, folder: &Folder) {
        self.0.lock().refuse(folder);
    }

    /// Forgets folders that are not there.
    pub(crate) fn forget(&self, folder: &Folder) {
        self.0.lock().forget(folder);
    }

    /// What `/status` calls it.
    pub(crate) fn mode(&self) -> WatchedBy {
        if self.0.lock().watches.is_some() { WatchedBy::Events } else { WatchedBy::Poll }
    }

    /// How many folders are watched, and how many are not and should be.
    pub(crate) fn coverage(&self) -> (u64, u64) {
        let state = self.0.lock();
        (state.places.len() as u64, state.unwatched.max(state.unwatched_before))
    }
}

#[cfg(target_os = "linux")]
fn network_file_system(root: &Path) -> Option<&'static str> {
    let magic = u64::try_from(rustix::fs::statfs(root).ok()?.f_type).ok()? & 0xffff_ffff;
    NETWORK.iter().find(|(number, _)| *number == magic).map(|(_, name)| *name)
}

/// Nobody looked yet how other systems tell.
#[cfg(not(target_os = "linux"))]
fn network_file_system(_: &Path) -> Option<&'static str> {
    None
}

impl State {
    /// What to watch a folder with, if at all. Another one may make way for it.
    fn room_for(&mut self, folder: &Folder, worth: i64) -> Option<Arc<Watches>> {
        let watches = self.watches.clone();
        if watches.is_some() && self.full && !self.places.contains(folder) {
            let least = self.places.makes_way_for(worth).filter(|_| self.ending < ENDING);
            let Some(least) = least else {
                self.unwatched += 1;
                return None;
            };
            self.end(least);
            self.unwatched += 1;
        } else if watches.is_none() {
            self.unwatched += 1;
        }
        watches
    }

    /// Notes that the kernel takes no more watches. True when that is news: another may make way then.
    fn fills(&mut self) -> bool {
        if std::mem::replace(&mut self.full, true) {
            return false;
        }
        if !std::mem::replace(&mut self.told, true) {
            warn!(
                watched = self.places.len(),
                "no more folders can be watched; those are that changed lately, and the rest is polled: \
                 fs.inotify.max_user_watches sets the limit"
            );
        }
        true
    }

    fn end(&mut self, number: i32) {
        self.places.remove(number);
        let will_be_told = self.watches.as_ref().is_some_and(|watches| watches.remove(number));
        self.ending += usize::from(will_be_told);
    }

    fn refuse(&mut self, folder: &Folder) {
        self.unwatched += 1;
        if self.refused.len() < UNREADABLE {
            self.refused.insert(folder.clone());
        }
    }

    fn forget(&mut self, folder: &Folder) {
        self.refused.remove(folder);
        let numbers = self.places.forget(folder);
        let room = ENDING.saturating_sub(self.ending).min(numbers.len());
        // Those that are too many end with all others.
        self.uncertain |= room < numbers.len();
        numbers.into_iter().take(room).for_each(|number| self.end(number));
    }
}

/// Turns events into hints, on the thread that reads them; it must not wait for anything.
#[derive(Clone)]
struct Handler {
    by_library: bool,
    root: PathBuf,
    volume: Arc<Volume>,
    state: Arc<Mutex<State>>,
    queue: Arc<Queue>,
    measure: Measure,
    settle: Settle,
}

impl Handler {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watches(&self, generation: u64) -> std::io::Result<Watches> {
        let handler = self.clone();
        Watches::start(self.by_library, &self.root, move |told| {
            let state = handler.lock();
            if state.generation == generation {
                handler.handle(state, told);
            }
        })
    }

    fn lost_events(&self, mut state: MutexGuard<'_, State>, why: &str) {
        warn!("{why}; everything is walked");
        state.uncertain = true;
        drop(state);
        self.queue.lost_hints();
    }

    fn handle(&self, mut state: MutexGuard<'_, State>, told: Told<'_>) {
        let (folder, name, happened) = match told {
            Told::Lost(why) => return self.lost_events(state, why),
            Told::Ended(number) => {
                state.ending = state.ending.saturating_sub(1);
                return state.places.remove(number);
            }
            Told::Itself(number) => return self.happened_to_itself(state, number),
            Told::Name { place: Place::Folder(folder), name, happened } => (folder, name, happened),
            Told::Name { place: Place::Watch(number), name, happened } => {
                // Of a watch that was ended, or is not noted yet.
                let Some(folder) = state.places.folder(number) else { return };
                if happened != Happened::Writing {
                    state.places.raise(number, worth(&folder, clock::now().timestamp()));
                }
                (folder, name, happened)
            }
        };
        // Other permissions on a folder that could not be read.
        let path = folder.join(name);
        let happened = if state.refused.contains(&path) { Happened::Folder } else { happened };
        let linked = state.linked.contains(&key_of(&folder));
        drop(state);
        if linked && name != self.volume.origin().metadata_file {
            let now = Instant::now();
            self.queue.push(folder.clone(), Hint::told(now), Turn::Due(now + WRITING));
        }
        self.hint(happened, folder, path, name);
    }

    /// A watched folder itself was removed or moved. Where what it is in is watched as well, that tells the same.
    fn happened_to_itself(&self, state: MutexGuard<'_, State>, number: i32) {
        let Some(folder) = state.places.folder(number) else { return };
        let parent = folder.parent();
        if parent.as_ref().is_some_and(|parent| state.places.contains(parent)) {
            return;
        }
        drop(state);
        match (folder.name(), parent) {
            (Some(name), Some(parent)) => self.hint(Happened::Folder, parent, folder.clone(), name),
            // The storage path itself: its watches tell nothing more.
            _ => self.lost_events(self.lock(), "the storage path was removed or moved"),
        }
    }

    fn hint(&self, happened: Happened, parent: Folder, path: Folder, name: &str) {
        let now = Instant::now();
        if name == self.volume.origin().metadata_file {
            let due = if happened == Happened::Writing { now + WRITING } else { now };
            self.queue.push(parent, Hint::told(now), Turn::Due(due));
        } else if happened == Happened::Folder && !self.volume.prunes(name) {
            // Whatever is watched under this name is another folder now, or none.
            self.lock().forget(&path);
            self.list(path, now);
        } else if happened != Happened::Writing {
            self.measure.file_changed_in(parent);
        }
    }

    /// Has a folder walked, with all that is below it.
    fn list(&self, folder: Folder, due: Instant) {
        let ticket = Run::begin(Kind::Subtree, folder.clone(), Reconciliation::of_everything(), &self.settle);
        self.queue.push(folder, Hint::list(vec![ticket]), Turn::Due(due));
    }
}
