//! File systems that are mounted below the storage path. When one goes, what is left is the empty folder beneath it, as at
//! the storage path itself: what was known there is kept until it is back.
//!
//! A folder is a mount point where it is on another device than the folder that it is in. Numbers of devices mean something
//! only at the moment, so what is remembered from before is names.

use shared::folder::Folder;
use shared::volume::Own;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How many mount points are remembered.
const MANY: usize = 1000;

#[derive(Debug, Default)]
struct State {
    /// The storage path's device.
    root: Option<u64>,
    /// Mount points and their devices, where they were seen mounted.
    points: BTreeMap<Folder, Option<u64>>,
}

impl State {
    /// The device that the folder is on which a folder is in, for all that is known of mount points.
    fn around(&self, folder: &Folder) -> Option<u64> {
        let above = folder.up().skip(1).find_map(|above| self.points.get(above).copied().flatten());
        above.or(self.root)
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Mounts(Mutex<State>);

impl Mounts {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers mount points of before.
    pub(crate) fn remember(&self, folders: &[String]) {
        let mut state = self.lock();
        for folder in folders.iter().filter_map(|folder| folder.parse().ok()) {
            state.points.entry(folder).or_default();
        }
    }

    /// All that are known.
    pub(crate) fn known(&self) -> Vec<String> {
        self.lock().points.keys().map(|point| point.as_str().to_owned()).collect()
    }

    /// The mount points at and above a folder.
    pub(crate) fn at_and_above(&self, folder: &Folder) -> Vec<Folder> {
        let state = self.lock();
        let points = folder.up().filter_map(|above| state.points.get_key_value(above));
        points.map(|(point, _)| point.clone()).collect()
    }

    /// Notes what a folder is like. True where a file system was mounted on it and is not any more: if it is `empty`, all
    /// that is known in it is kept.
    pub(crate) fn is_unmounted(&self, folder: &Folder, own: &Own, empty: bool) -> bool {
        let mut state = self.lock();
        if folder.is_root() {
            state.root = Some(own.device);
            return false;
        }
        let Some(around) = state.around(folder) else { return false };
        let room = state.points.len() < MANY;
        match state.points.get_mut(folder) {
            Some(device) if own.device != around => *device = Some(own.device),
            Some(_) if empty => return true,
            // Somebody put something there since, so that it is a folder like any other.
            Some(_) => _ = state.points.remove(folder),
            None if own.device != around && room => {
                state.points.insert(folder.clone(), Some(own.device));
            }
            None => {}
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(text: &str) -> Folder {
        text.parse().expect("a folder")
    }

    fn on(device: u64) -> Own {
        Own { device, inode: 0, modified: 0, changed: 0 }
    }

    #[test]
    fn what_was_mounted_and_is_empty_is_unmounted() {
        let mounts = Mounts::default();
        let see = |name: &str, device, empty| mounts.is_unmounted(&folder(name), &on(device), empty);
        for (name, device) in
            [("", 1), ("a", 1), ("a/m", 2), ("a/m/x", 2), ("a/m/x/n", 3), ("a/m/x/n/y", 3), ("a/b", 1)]
        {
            assert!(!see(name, device, true), "{name}");
        }
        assert_eq!(mounts.known(), ["a/m", "a/m/x/n"]);
        // An empty file system, and an empty folder where none was.
        assert!(!see("a/m", 4, true) && !see("a/b", 1, true));
        assert!(!see("a/m/x/n", 5, true));
        // The inner one goes, and then the outer one.
        assert!(see("a/m/x/n", 4, true));
        assert!(see("a/m", 1, true));
        assert_eq!(mounts.at_and_above(&folder("a/m/x/n/y")), [folder("a/m/x/n"), folder("a/m")]);
        // Back on another device; and gone, but in use.
        assert!(!see("a/m", 7, false));
        assert!(!see("a/m", 1, false));
        assert!(!see("a/m", 1, true));
        assert_eq!(mounts.known(), ["a/m/x/n"]);
    }

    #[test]
    fn mount_points_of_before_are_known_by_name() {
        let mounts = Mounts::default();
        mounts.remember(&["m".to_owned()]);
        assert!(!mounts.is_unmounted(&folder("m"), &on(1), true), "the storage path was not seen yet");
        assert!(!mounts.is_unmounted(&Folder::root(), &on(1), false));
        assert!(mounts.is_unmounted(&folder("m"), &on(1), true));
        assert!(!mounts.is_unmounted(&folder("m"), &on(2), true));
    }
}
