//! Events by the `notify` library, for systems that have no inotify.
//!
//! Where the system watches whole trees (macOS, Windows) one watch is enough. On Linux the library would watch the folders
//! of a tree one after the other, and miss what happens in a new one before it comes to it; so each is watched by itself
//! there, before it is listed.

use super::source::{Happened, Place, Told};
use notify::event::{AccessKind, AccessMode, CreateKind, ModifyKind, RemoveKind, RenameMode};
use notify::{Error, ErrorKind, Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use rustix::io::Errno;
use shared::folder::Folder;
use std::collections::HashMap;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};

/// Whether folders are watched one by one, and whether it is told when a file that was written is closed.
const ONE_BY_ONE: bool = cfg!(target_os = "linux");
const TELLS_OF_CLOSING: bool = cfg!(target_os = "linux");

/// Watches of ours. They end when this is dropped.
#[derive(Debug)]
pub(super) struct Watches(Mutex<Own>);

#[derive(Debug)]
struct Own {
    watcher: RecommendedWatcher,
    numbers: HashMap<PathBuf, i32>,
    paths: HashMap<i32, PathBuf>,
    last: i32,
}

impl Watches {
    /// Begins to hear of what happens below `root`: `told` gets each event, on a thread that the library does not wait for.
    pub(super) fn start(root: &Path, mut told: impl FnMut(Told<'_>) + Send + 'static) -> io::Result<Watches> {
        let (sender, events) = mpsc::channel::<notify::Result<Event>>();
        let mut watcher = notify::recommended_watcher(sender).map_err(system_error)?;
        if !ONE_BY_ONE {
            watcher.watch(root, RecursiveMode::Recursive).map_err(system_error)?;
        }
        let root = root.to_owned();
        // It ends with the watcher, which has the other end.
        std::thread::Builder::new().name("events".to_owned()).spawn(move || {
            for event in events {
                match event {
                    Ok(event) => tell(&root, &event, &mut told),
                    Err(error) => told(Told::Lost(&format!("events may have been lost: {error}"))),
                }
            }
        })?;
        let (numbers, paths) = Default::default();
        Ok(Watches(Mutex::new(Own { watcher, numbers, paths, last: 0 })))
    }

    fn lock(&self) -> MutexGuard<'_, Own> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Watches a folder, and comes back with the number of the watch.
    pub(super) fn add(&self, path: &Path) -> io::Result<i32> {
        let mut own = self.lock();
        if ONE_BY_ONE {
            own.watcher.watch(path, RecursiveMode::NonRecursive).map_err(system_error)?;
        }
        if let Some(number) = own.numbers.get(path) {
            return Ok(*number);
        }
        own.last = own.last.wrapping_add(1);
        let number = own.last;
        own.numbers.insert(path.to_owned(), number);
        own.paths.insert(number, path.to_owned());
        Ok(number)
    }

    /// Ends a watch. Where it has ended already, as the folder is gone, nothing is to be done.
    pub(super) fn remove(&self, number: i32) {
        let mut own = self.lock();
        if let Some(path) = own.paths.remove(&number) {
            own.numbers.remove(&path);
            if ONE_BY_ONE {
                let _ = own.watcher.unwatch(&path);
            }
        }
    }
}

fn system_error(error: Error) -> io::Error {
    match error.kind {
        ErrorKind::MaxFilesWatch => Errno::NOSPC.into(),
        ErrorKind::PathNotFound | ErrorKind::WatchNotFound => io::ErrorKind::NotFound.into(),
        ErrorKind::Io(error) => error,
        _ => io::Error::other(error),
    }
}

/// Tells what an event says of names below the storage path.
fn tell(root: &Path, event: &Event, told: &mut impl FnMut(Told<'_>)) {
    if event.need_rescan() {
        return told(Told::Lost("the system lost events"));
    }
    for path in &event.paths {
        let Ok(below) = path.strip_prefix(root) else { continue };
        if below.as_os_str().is_empty() {
            if matches!(event.kind, EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_))) {
                told(Told::Lost("the storage path was removed or moved"));
            }
            continue;
        }
        let Some((folder, name)) = place_of(below) else { continue };
        for happened in happened(event.kind) {
            told(Told::Name { place: Place::Folder(folder.clone()), name, happened: *happened });
        }
    }
}

/// The folder and the name in it that a path below the storage path is of; `None` where that is not UTF-8.
fn place_of(below: &Path) -> Option<(Folder, &str)> {
    let names = below.components().map(|component| match component {
        Component::Normal(name) => name.to_str(),
        _ => None,
    });
    let names: Vec<&str> = names.collect::<Option<_>>()?;
    let (name, folder) = names.split_last()?;
    Some((folder.join("/").parse().ok()?, name))
}

fn happened(kind: EventKind) -> &'static [Happened] {
    match kind {
        EventKind::Create(CreateKind::Folder) | EventKind::Remove(RemoveKind::Folder) => &[Happened::Folder],
        EventKind::Create(CreateKind::File) if TELLS_OF_CLOSING => &[Happened::Writing],
        EventKind::Create(CreateKind::File) | EventKind::Remove(RemoveKind::File) => &[Happened::File],
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => &[Happened::File],
        // Both names were told of before.
        EventKind::Access(_) | EventKind::Other | EventKind::Modify(ModifyKind::Name(RenameMode::Both)) => &[],
        EventKind::Modify(ModifyKind::Metadata(_)) => &[Happened::Writing],
        EventKind::Modify(ModifyKind::Data(_) | ModifyKind::Any | ModifyKind::Other) => match TELLS_OF_CLOSING {
            true => &[Happened::Writing],
            false => &[Happened::File],
        },
        // What came or went may be a folder, and what is there by now may be something else.
        EventKind::Any | EventKind::Create(_) | EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_)) => {
            &[Happened::Folder, Happened::File]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_below_the_storage_path_are_names_in_folders() {
        let place = |path: &'static str| place_of(Path::new(path)).map(|(folder, name)| (folder.to_string(), name));
        assert_eq!(place("eb/pb/f.yaml"), Some(("eb/pb".to_owned(), "f.yaml")));
        assert_eq!(place("eb"), Some((".".to_owned(), "eb")));
        assert_eq!(place("../eb"), None);
    }
}
