//! Folders that may not be listed or opened: they are counted, and the first of them named, until they read or are gone.
//! What is known in them stays in the index, so that nothing else would tell of them.

use crate::hashed::{Key, key_of};
use shared::folder::Folder;
use shared::status::{Unreadable, UnreadableFolder};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// How many are named at the most.
const NAMED: usize = 100;

#[derive(Debug, Default)]
struct State {
    /// All, and the walk in which each was met last.
    met: HashMap<Key, u64>,
    /// The first of them by name, and why.
    named: BTreeMap<Folder, String>,
    walk: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Shut {
    state: Mutex<State>,
    changed: Notify,
}

impl Shut {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a folder, and why it cannot be read. True where that is news.
    pub(crate) fn note(&self, folder: &Folder, why: String) -> bool {
        let mut state = self.lock();
        let walk = state.walk;
        let is_new = state.met.insert(key_of(folder), walk).is_none();
        state.named.insert(folder.clone(), why);
        if state.named.len() > NAMED {
            state.named.pop_last();
        }
        if is_new {
            self.changed.notify_one();
        }
        is_new
    }

    /// Notes that a folder was read, or is not there.
    pub(crate) fn forget(&self, folder: &Folder) {
        let mut state = self.lock();
        if !state.met.is_empty() && state.met.remove(&key_of(folder)).is_some() {
            state.named.remove(folder);
            self.changed.notify_one();
        }
    }

    /// Begins a walk of everything, which meets all that there are.
    pub(crate) fn begin_walk(&self) {
        self.lock().walk += 1;
    }

    /// Ends it. Where it saw all, what it did not meet is not there any more.
    pub(crate) fn end_walk(&self, saw_all: bool) {
        let mut state = self.lock();
        if saw_all {
            let State { met, named, walk } = &mut *state;
            met.retain(|_, met| met == walk);
            named.retain(|folder, _| met.contains_key(&key_of(folder)));
        }
    }

    /// Waits until there is something else to be told than when it was waited last.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// What `/status` is to tell.
    pub(crate) fn told(&self) -> Unreadable {
        let state = self.lock();
        let first = state
            .named
            .iter()
            .map(|(folder, why)| UnreadableFolder { path: folder.as_path().to_owned(), error: why.clone() });
        Unreadable { count: state.met.len() as u64, first: first.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(n: usize) -> Folder {
        format!("eb-{n:04}").parse().expect("a folder")
    }

    fn why() -> String {
        "Permission denied".to_owned()
    }

    #[test]
    fn all_are_counted_and_the_first_are_named() {
        let shut = Shut::default();
        for n in (0..500).rev() {
            assert!(shut.note(&folder(n), why()));
        }
        assert!(!shut.note(&folder(0), why()), "it is known");
        let told = shut.told();
        assert_eq!((told.count, told.first.len(), told.first[0].path.as_str()), (500, NAMED, "eb-0000"));
        shut.forget(&folder(0));
        assert_eq!((shut.told().count, shut.told().first[0].path.as_str()), (499, "eb-0001"));
    }

    #[test]
    fn what_a_walk_does_not_meet_is_gone() {
        let shut = Shut::default();
        (0..3).for_each(|n| _ = shut.note(&folder(n), why()));
        shut.begin_walk();
        assert!(!shut.note(&folder(1), why()));
        shut.end_walk(false);
        assert_eq!(shut.told().count, 3, "it did not see all");
        shut.begin_walk();
        shut.note(&folder(1), why());
        shut.end_walk(true);
        assert_eq!((shut.told().count, shut.told().first.len()), (1, 1));
    }
}
