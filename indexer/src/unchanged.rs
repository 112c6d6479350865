//! What walks remember of folders, so that the next one need not look at what did not change. A hint and no truth: at an
//! interval everything is walked whatever is remembered.
//!
//! Two things are remembered. Of a folder itself: its times, whether a metadata file is in it, and the names of the
//! folders in it. As long as its times stay, no name came to it or went, and it needs no listing. And of a folder with all
//! below it, where the file system tells ([`Tree`]): what it told, and what the store was left to know of it. As long as both stay,
//! nothing in it needs a look: neither did a file change, nor did the store lose one.
//!
//! Times are believed when they are older than a minute where they are remembered: a clock of another machine may be wrong
//! by as much, and a second change may have had the same time as the first.
//!
//! All of it is 16 bytes a folder and the names, each within a bound; what is beyond is not remembered.

use crate::hashed::{hashed, short_key_of};
use crate::reconcile::Sums;
use shared::clock;
use shared::folder::Folder;
use shared::volume::{Listing, Own, Tree};
use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How many folders are remembered.
const FOLDERS: usize = 5_000_000;
/// How many bytes of names are remembered.
const NAMES: usize = 96 << 20;

/// How far a walk may go in leaving things out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Walk {
    /// Everything is listed.
    Whole,
    /// What did not change is left out.
    Changes,
}

/// What is to be done about a folder that was listed before and did not change since.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unchanged {
    /// Whether a metadata file is in it.
    pub(crate) metadata: bool,
    /// The names of the folders in it, joined by `/`.
    pub(crate) folders: String,
}

#[derive(Debug, Default)]
struct State {
    listed: Table<Listed>,
    names: Vec<u8>,
    /// How many bytes of these were there when they were packed last.
    packed: usize,
    /// Hashes of what was told of folders and all below them.
    trees: Table<u64>,
    /// The folders above those of which something must be looked at in any case; `None`: all folders.
    restless: Option<HashSet<u64>>,
    walk: Option<Walk>,
    /// What the store knew when the walk began, and what it was to know when the one before had ended.
    known: Sums,
    left: Sums,
    /// Counts the walks, so that a straggler of an earlier one is known by its number.
    number: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Memory {
    state: Mutex<State>,
    /// How old a time must be to be believed, in seconds.
    doubt: i64,
}

/// A folder's own times, hashed, and where the names in it are.
#[derive(Debug, Clone, Copy)]
struct Listed {
    own: u32,
    names: u32,
}

/// Places of names that are none: nothing is in the folder, or a metadata file alone.
const EMPTY: u32 = u32::MAX;
const METADATA: u32 = u32::MAX - 1;

impl Memory {
    /// Remembers nothing yet. Times are believed that are older than `doubt`.
    pub(crate) fn new(doubt: Duration) -> Memory {
        Memory { state: Mutex::default(), doubt: i64::try_from(doubt.as_secs()).unwrap_or(i64::MAX) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a walk of everything, which gets a number. `restless` are folders in which a file must be looked at in any
    /// case; `None` where they are too many. `known` is what the store knows.
    pub(crate) fn begin(&self, walk: Walk, restless: Option<&[Folder]>, known: Sums) -> u64 {
        let mut state = self.lock();
        state.walk = Some(walk);
        state.known = known;
        state.restless = restless.map(|folders| folders.iter().flat_map(with_all_above).collect());
        state.number += 1;
        state.listed.begin();
        state.trees.begin();
        state.number
    }

    /// Ends a walk of everything. One that did not see all that it should have seen vouches for nothing but what it listed.
    /// `left` is what the store is to know after it.
    pub(crate) fn end(&self, complete: bool, left: Sums) {
        let mut state = std::mem::take(&mut *self.lock());
        // Putting millions in order takes a while, and arrivals do not wait for it: what they note meanwhile is forgotten.
        self.lock().number = state.number;
        state.end(complete);
        state.left = left;
        *self.lock() = state;
    }

    /// Whether the walk that is under way leaves out what did not change.
    pub(crate) fn leaves_out(&self) -> bool {
        self.lock().walk == Some(Walk::Changes)
    }

    /// Something in a folder was not seen: what is above it cannot be left out next time.
    pub(crate) fn is_restless(&self, folder: &Folder) {
        if let Some(restless) = &mut self.lock().restless {
            restless.extend(with_all_above(folder));
        }
    }

    /// Notes what is told of a folder and all below it. True when that is as it was before, and so is what the store knows of
    /// it, so that nothing in it needs a look.
    pub(crate) fn sees_tree(&self, walk: u64, folder: &Folder, tree: &Tree) -> bool {
        let key = short_key_of(folder);
        let mut state = self.lock();
        let told = hashed(tree);
        let may = state.walk == Some(Walk::Changes)
            && state.restless.as_ref().is_some_and(|restless| !restless.contains(&key))
            && state.known.of(key) == state.left.of(key);
        let before = state.trees.find(key);
        if state.number == walk && state.walk.is_some() {
            match self.is_believed(tree.changed, clock::now().timestamp()) {
                true => state.trees.note(key, told),
                false => state.trees.forget(key),
            }
        }
        may && before == Some(told)
    }

    /// Whether a time in seconds is one from which on a change would have another.
    fn is_believed(&self, changed: i64, now: i64) -> bool {
        changed < now.saturating_sub(self.doubt)
    }

    /// What is in a folder, where it is as it was when it was listed.
    pub(crate) fn unchanged(&self, folder: &Folder, own: &Own) -> Option<Unchanged> {
        let key = short_key_of(folder);
        let mut state = self.lock();
        let listed = state.listed.find(key)?;
        if listed.own != own_hash(own) {
            return None;
        }
        // Seen.
        state.listed.note(key, listed);
        Some(state.names_at(listed.names))
    }

    /// Notes what is in a folder. `own` is from before it was listed.
    pub(crate) fn listed(&self, folder: &Folder, own: &Own, listing: &Listing) {
        let now = clock::now().timestamp();
        let latest = own.modified.max(own.changed).div_euclid(1_000_000_000);
        let key = short_key_of(folder);
        let mut state = self.lock();
        if !self.is_believed(latest, now) {
            return state.listed.forget(key);
        }
        let before = state.listed.find(key);
        if let Some(before) = before.filter(|before| before.own == own_hash(own) && state.holds(before.names, listing))
        {
            return state.listed.note(key, before);
        }
        match state.keep_names(listing) {
            Some(names) => state.listed.note(key, Listed { own: own_hash(own), names }),
            None => state.listed.forget(key),
        }
    }
}

fn with_all_above(folder: &Folder) -> impl Iterator<Item = u64> {
    folder.up().chain([""]).map(short_key_of)
}

/// 32 bits of a folder's times: of four billion changes, one is not seen until everything is walked.
fn own_hash(own: &Own) -> u32 {
    (hashed(own) >> 32) as u32
}

/// What is in a folder: a byte that tells whether a metadata file is, and the names, each ended by a `/`, the last by two.
fn kept(listing: &Listing) -> Vec<u8> {
    let mut kept = vec![u8::from(listing.metadata.is_some())];
    for name in &listing.folders {
        kept.extend_from_slice(name.as_bytes());
        kept.push(b'/');
    }
    kept.push(b'/');
    kept
}

impl State {
    fn end(&mut self, complete: bool) {
        let saw_all = complete && self.walk == Some(Walk::Whole);
        let fewer = self.listed.end(saw_all);
        self.trees.end(saw_all);
        match self.restless.take() {
            Some(restless) if complete => restless.iter().for_each(|key| self.trees.forget(*key)),
            _ => self.trees = Table::default(),
        }
        self.walk = None;
        if fewer || self.names.len() > self.packed {
            self.pack();
        }
    }

    /// Keeps what is in a folder. `None` where there is no room.
    fn keep_names(&mut self, listing: &Listing) -> Option<u32> {
        if listing.folders.is_empty() {
            return Some(if listing.metadata.is_some() { METADATA } else { EMPTY });
        }
        let kept = kept(listing);
        let at = u32::try_from(self.names.len()).ok()?;
        if self.names.len() + kept.len() > NAMES {
            return None;
        }
        self.names.extend_from_slice(&kept);
        Some(at)
    }

    /// Whether a listing is what is kept at a place.
    fn holds(&self, at: u32, listing: &Listing) -> bool {
        match at {
            EMPTY | METADATA => listing.folders.is_empty() && listing.metadata.is_some() == (at == METADATA),
            at => self.kept_at(at) == kept(listing),
        }
    }

    fn names_at(&self, at: u32) -> Unchanged {
        let kept = match at {
            EMPTY | METADATA => return Unchanged { metadata: at == METADATA, folders: String::new() },
            at => self.kept_at(at),
        };
        let names = String::from_utf8_lossy(&kept[1..kept.len() - 2]).into_owned();
        Unchanged { metadata: kept[0] != 0, folders: names }
    }

    /// All bytes of the names that begin at a place.
    fn kept_at(&self, at: u32) -> &[u8] {
        let kept = &self.names[at as usize..];
        let end = kept.windows(2).position(|pair| pair == b"//").map_or(kept.len(), |end| end + 2);
        &kept[..end]
    }

    /// Throws away the names that nobody refers to any more.
    fn pack(&mut self) {
        let mut packed = Vec::new();
        let mut entries = std::mem::take(&mut self.listed);
        for (_, listed) in entries.sorted.iter_mut().filter(|(_, listed)| listed.names < METADATA) {
            let kept = self.kept_at(listed.names);
            listed.names = u32::try_from(packed.len()).unwrap_or(EMPTY);
            packed.extend_from_slice(kept);
        }
        packed.shrink_to_fit();
        self.packed = packed.len();
        self.names = packed;
        self.listed = entries;
    }
}

/// Values under keys: those of earlier walks in order, those that are new as they came.
#[derive(Debug)]
struct Table<V> {
    sorted: Vec<(u64, V)>,
    /// What became of these since the walk began.
    marks: Vec<Mark>,
    fresh: Vec<(u64, V)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    Unseen,
    Seen,
    Forgotten,
}

impl<V> Default for Table<V> {
    fn default() -> Self {
        Table { sorted: Vec::new(), marks: Vec::new(), fresh: Vec::new() }
    }
}

impl<V: Copy> Table<V> {
    fn place(&self, key: u64) -> Option<usize> {
        self.sorted.binary_search_by_key(&key, |(key, _)| *key).ok()
    }

    /// What earlier walks noted, and nobody forgot since.
    fn find(&self, key: u64) -> Option<V> {
        self.place(key).filter(|at| self.marks[*at] != Mark::Forgotten).map(|at| self.sorted[at].1)
    }

    fn note(&mut self, key: u64, value: V) {
        match self.place(key) {
            Some(at) => {
                self.sorted[at].1 = value;
                self.marks[at] = Mark::Seen;
            }
            None if self.sorted.len() + self.fresh.len() < FOLDERS => self.fresh.push((key, value)),
            None => {}
        }
    }

    fn forget(&mut self, key: u64) {
        if let Some(at) = self.place(key) {
            self.marks[at] = Mark::Forgotten;
        }
    }

    fn begin(&mut self) {
        self.marks.iter_mut().filter(|mark| **mark == Mark::Seen).for_each(|mark| *mark = Mark::Unseen);
    }

    /// Ends a walk, and forgets what it did not see where it was to see all. True when it forgot something.
    fn end(&mut self, saw_all: bool) -> bool {
        let before = self.sorted.len();
        let mut marks = self.marks.iter();
        self.sorted.retain(|_| match marks.next() {
            Some(Mark::Seen) => true,
            Some(Mark::Unseen) => !saw_all,
            Some(Mark::Forgotten) | None => false,
        });
        let fewer = self.sorted.len() < before;
        match self.sorted.is_empty() {
            true => self.sorted = std::mem::take(&mut self.fresh),
            false => self.sorted.append(&mut self.fresh),
        }
        self.fresh = Vec::new();
        self.sorted.sort_unstable_by_key(|(key, _)| *key);
        self.sorted.dedup_by_key(|(key, _)| *key);
        self.sorted.shrink_to_fit();
        self.marks = vec![Mark::Unseen; self.sorted.len()];
        fewer
    }
}

#[cfg(test)]
#[path = "unchanged_tests.rs"]
mod tests;
