//! Which faults were told of in the log, so that each is told once and not at every walk.

use crate::hashed::{Key, hashed, key_of};
use shared::folder::Folder;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

/// How many are remembered. What is beyond is told again.
const MANY: usize = 1_000_000;

/// Folders, and hashes of what was told of them last.
#[derive(Debug, Default)]
pub(crate) struct Told(Mutex<HashMap<Key, u64>>);

impl Told {
    /// Whether this was not what was told of a folder last; from now on it is.
    pub(crate) fn is_news(&self, folder: &Folder, what: &(impl Hash + ?Sized)) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (key, what) = (key_of(folder), hashed(what));
        if told.len() >= MANY && !told.contains_key(&key) {
            return true;
        }
        told.insert(key, what) != Some(what)
    }

    /// Forgets what was told of a folder: were it to come again, it would be news.
    pub(crate) fn forget(&self, folder: &Folder) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&key_of(folder));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_told_once() {
        let (told, folder) = (Told::default(), "eb".parse().expect("a folder"));
        assert!(told.is_news(&folder, "line 1"));
        assert!(!told.is_news(&folder, "line 1"));
        assert!(told.is_news(&folder, "line 2"));
        assert!(told.is_news(&"other".parse().expect("a folder"), "line 2"));
        told.forget(&folder);
        assert!(told.is_news(&folder, "line 2"));
    }
}
