//! What a walk found against what is known, as values: nothing here reads a disk or a store.
//!
//! A million files are known of, so they are held as hashes: 24 bytes a file, whatever it is called. Two files that have
//! the same 128 bits do not occur. Names are asked for again where some did not turn up, which is seldom.

use crate::hashed::{Key, hashed, key_of, short_key_of};
use shared::folder::Folder;
use shared::volume::Stamp;
use std::collections::HashSet;

/// More folders than these are not remembered one by one as to be looked into in any case.
const MANY: usize = 10_000;

/// The metadata files known of, good and failing, in the order of their keys.
#[derive(Debug, Default)]
pub(crate) struct Known {
    files: Vec<File>,
    /// The folders of those that are to be read in any case.
    restless: Vec<Folder>,
    /// There are more of them.
    all_restless: bool,
    sums: Sums,
}

#[derive(Debug, Clone, Copy)]
struct File {
    key: Key,
    /// The hash of its version; `ANY` where it is to be read in any case.
    version: u64,
}

const ANY: u64 = 0;

impl File {
    fn hash(self) -> u64 {
        hashed(&(self.key, self.version))
    }
}

fn version_of(stamp: Stamp) -> u64 {
    let Stamp { size, inode, modified, changed } = stamp;
    hashed(&(size, inode, modified, changed)).max(1)
}

impl Known {
    /// Adds a file. Of several of one folder the last counts.
    pub(crate) fn push(&mut self, folder: &Folder, stamp: Option<Stamp>) {
        let file = File { key: key_of(folder), version: stamp.map_or(ANY, version_of) };
        self.sums.add(folder, file.hash());
        self.files.push(file);
        if stamp.is_none() && self.restless.len() < MANY {
            self.restless.push(folder.clone());
        } else if stamp.is_none() {
            self.all_restless = true;
        }
    }

    /// Ends adding, which must be done before anything is compared with this.
    pub(crate) fn sorted(mut self) -> Known {
        // Those added last come first, and stay.
        self.files.reverse();
        self.files.sort_by_key(|file| file.key);
        self.files.dedup_by_key(|file| file.key);
        self.files.shrink_to_fit();
        self
    }

    /// How many files there are.
    pub(crate) fn len(&self) -> usize {
        self.files.len()
    }

    /// The folders whose files are to be read in any case; `None` where they are too many to be told one by one.
    pub(crate) fn restless(&self) -> Option<&[Folder]> {
        (!self.all_restless).then_some(&self.restless)
    }

    /// What is known below folders, and in which versions, as sums.
    pub(crate) fn sums(&self) -> Sums {
        self.sums.clone()
    }
}

/// What is known at and below folders, as a sum for each that hangs on no order. It is there to be compared with what was
/// known before; folders share places by their hashes, so that a difference may be another folder's.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sums(Vec<u64>);

/// How many places there are.
const SUMS: usize = 1 << 16;

impl Sums {
    fn add(&mut self, folder: &Folder, file: u64) {
        self.0.resize(SUMS, 0);
        for above in folder.up().chain([""]) {
            let sum = &mut self.0[place_of(short_key_of(above))];
            *sum = sum.wrapping_add(file);
        }
    }

    /// The sum of a folder that has this [short key](short_key_of).
    pub(crate) fn of(&self, key: u64) -> u64 {
        self.0.get(place_of(key)).copied().unwrap_or_default()
    }
}

fn place_of(key: u64) -> usize {
    (key % SUMS as u64) as usize
}

/// The comparison of a walk with what is known.
#[derive(Debug)]
pub(crate) struct Reconciliation {
    compared: Compared,
    /// Folders of which, and of all that is below them, nothing is known now, or nothing new. There may be many.
    passed_over: HashSet<Key>,
}

#[derive(Debug)]
enum Compared {
    /// With what was known when the walk began; and which of it was seen.
    With { known: Known, seen: Vec<bool>, unseen: usize },
    /// With what is known when the walk has ended: what was seen.
    Later(HashSet<Key>),
}

impl Reconciliation {
    /// For a walk that reads only what is not known.
    pub(crate) fn against(known: Known) -> Reconciliation {
        let (seen, unseen) = (vec![false; known.len()], known.len());
        Reconciliation { compared: Compared::With { known, seen, unseen }, passed_over: HashSet::new() }
    }

    /// For a walk that reads everything, such as one of a folder that just appeared.
    pub(crate) fn of_everything() -> Reconciliation {
        Reconciliation { compared: Compared::Later(HashSet::new()), passed_over: HashSet::new() }
    }

    /// A metadata file was seen in this version. True when it must be read.
    pub(crate) fn see(&mut self, folder: &Folder, stamp: Stamp) -> bool {
        let key = key_of(folder);
        match &mut self.compared {
            Compared::With { known, seen, unseen } => {
                let new = File { key, version: version_of(stamp) };
                let Ok(at) = known.files.binary_search_by_key(&key, |file| file.key) else {
                    known.sums.add(folder, new.hash());
                    return true;
                };
                let before = known.files[at];
                if !std::mem::replace(&mut seen[at], true) {
                    *unseen -= 1;
                    known.sums.add(folder, new.hash().wrapping_sub(before.hash()));
                }
                before.version != new.version
            }
            Compared::Later(seen) => {
                seen.insert(key);
                true
            }
        }
    }

    /// A folder could not be listed, or was left out as nothing in it changed: what is known in it stays.
    pub(crate) fn pass_over(&mut self, folder: &Folder) {
        self.passed_over.insert(key_of(folder));
    }

    /// What the store is to know once all that differs is written.
    pub(crate) fn left(&self) -> Sums {
        match &self.compared {
            Compared::With { known, .. } => known.sums.clone(),
            Compared::Later(_) => Sums::default(),
        }
    }

    /// Whether something may be gone, so that it is worth asking what is known.
    pub(crate) fn misses_some(&self) -> bool {
        let nothing_was_seen = self.passed_over.contains(&key_of(&Folder::root()));
        !nothing_was_seen && !matches!(self.compared, Compared::With { unseen: 0, .. })
    }

    /// Whether a folder in which a metadata file is known did not turn up where it could have.
    pub(crate) fn misses(&self, folder: &Folder) -> bool {
        let key = key_of(folder);
        let unseen = match &self.compared {
            // What became known since the walk began is not missed.
            Compared::With { known, seen, .. } => {
                known.files.binary_search_by_key(&key, |file| file.key).is_ok_and(|at| !seen[at])
            }
            Compared::Later(seen) => !seen.contains(&key),
        };
        unseen && !folder.up().chain([""]).any(|above| self.passed_over.contains(&key_of(above)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(text: &str) -> Folder {
        text.parse().expect("a folder")
    }

    fn stamp(n: i64) -> Stamp {
        Stamp { modified: n, ..Stamp::default() }
    }

    const NAMES: [&str; 5] = ["same", "changed", "always", "gone", "shut/in"];

    fn known() -> Known {
        let mut known = Known::default();
        // Known by an older version as well.
        known.push(&folder("same"), Some(stamp(9)));
        for name in NAMES {
            known.push(&folder(name), (name != "always").then_some(stamp(1)));
        }
        known.sorted()
    }

    fn missed(walk: &Reconciliation) -> Vec<&str> {
        NAMES.into_iter().filter(|name| walk.misses(&folder(name))).collect()
    }

    #[test]
    fn only_what_changed_is_read_and_only_what_could_be_seen_is_gone() {
        assert_eq!((known().len(), known().restless()), (5, Some([folder("always")].as_slice())));
        let mut walk = Reconciliation::against(known());
        assert!(!walk.see(&folder("same"), stamp(1)));
        assert!(!walk.see(&folder("same"), stamp(1)));
        assert!(walk.see(&folder("changed"), stamp(2)));
        assert!(walk.see(&folder("always"), stamp(1)));
        assert!(walk.see(&folder("new"), stamp(1)));
        walk.pass_over(&folder("shut"));
        assert!(walk.misses_some());
        assert_eq!(missed(&walk), ["gone"]);
        // It became known while the walk went on, from an event.
        assert!(!walk.misses(&folder("newer")));
        for name in NAMES {
            walk.see(&folder(name), stamp(1));
        }
        assert!(!walk.misses_some());
    }

    #[test]
    fn a_walk_of_everything_reads_everything() {
        let mut walk = Reconciliation::of_everything();
        assert!(walk.see(&folder("same"), stamp(1)));
        walk.pass_over(&folder("shut"));
        assert!(walk.misses_some());
        assert_eq!(missed(&walk), ["changed", "always", "gone"]);
    }

    #[test]
    fn an_unreadable_root_removes_nothing() {
        let mut walk = Reconciliation::against(known());
        walk.pass_over(&Folder::root());
        assert!(!walk.misses_some());
        assert_eq!(missed(&walk), [""; 0]);
    }
}
