//! Hashes that stand for names, so that millions of folders can be told apart in little memory. They are made with keys of
//! this process, so that nobody can choose names that have the same.

use std::borrow::Borrow;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::LazyLock;

static STATES: LazyLock<[RandomState; 2]> = LazyLock::new(|| [RandomState::new(), RandomState::new()]);

/// A folder's name in 128 bits: no two have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key(u64, u64);

/// The key of a folder, or of its text.
pub(crate) fn key_of<F: Borrow<str> + ?Sized>(folder: &F) -> Key {
    let [one, other] = &*STATES;
    Key(one.hash_one(folder.borrow()), other.hash_one(folder.borrow()))
}

/// Half of a key, where a mistake in a million years does no harm.
pub(crate) fn short_key_of<F: Borrow<str> + ?Sized>(folder: &F) -> u64 {
    hashed(folder.borrow())
}

/// 64 bits of anything.
pub(crate) fn hashed(value: &(impl Hash + ?Sized)) -> u64 {
    STATES[0].hash_one(value)
}
