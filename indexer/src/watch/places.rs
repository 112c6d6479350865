//! Which folders are watched, and which of them makes way for another where the kernel takes no more. Pure: the kernel's
//! numbers of watches come in, and those that are to be removed go out.

use shared::folder::Folder;
use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;

/// By how many seconds of age a level below the storage path is worth less: a month. What changed lately changes again
/// soon, and new products come at the upper levels.
const LEVEL: i64 = 30 * 86_400;

/// What a watch on a folder is worth, which was changed last at `modified`, in seconds since 1970.
pub(super) fn worth(folder: &Folder, modified: i64) -> i64 {
    match i64::try_from(folder.depth()) {
        Ok(0) => i64::MAX,
        Ok(depth) => modified.saturating_sub(depth.saturating_mul(LEVEL)),
        Err(_) => i64::MIN,
    }
}

/// The name of a watched folder; it is held once.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Name(Arc<str>);

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

#[derive(Debug)]
struct Place {
    name: Name,
    worth: i64,
}

/// The folders that are watched, under the kernel's numbers of the watches.
#[derive(Debug, Default)]
pub(super) struct Places {
    places: HashMap<i32, Place>,
    numbers: BTreeMap<Name, i32>,
    by_worth: BTreeSet<(i64, i32)>,
}

impl Places {
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    pub(super) fn contains(&self, folder: &Folder) -> bool {
        self.numbers.contains_key(folder.as_str())
    }

    /// The folder of a watch.
    pub(super) fn folder(&self, number: i32) -> Option<Folder> {
        self.places.get(&number)?.name.0.parse().ok()
    }

    /// Notes that a folder is watched. Comes back with the watch that was on another folder of the same name.
    pub(super) fn insert(&mut self, number: i32, folder: &Folder, worth: i64) -> Option<i32> {
        // The same folder under another name: it was moved.
        self.remove(number);
        let before = self.numbers.get(folder.as_str()).copied();
        before.into_iter().for_each(|before| self.remove(before));
        let name = Name(folder.as_str().into());
        self.numbers.insert(name.clone(), number);
        self.by_worth.insert((worth, number));
        self.places.insert(number, Place { name, worth });
        before
    }

    /// Forgets a watch.
    pub(super) fn remove(&mut self, number: i32) {
        if let Some(place) = self.places.remove(&number) {
            self.numbers.remove(&place.name);
            self.by_worth.remove(&(place.worth, number));
        }
    }

    /// Forgets a folder and all below it, and comes back with their watches.
    pub(super) fn forget(&mut self, folder: &Folder) -> Vec<i32> {
        let below = folder.prefix_below();
        let range = self.numbers.range::<str, _>((Bound::Included(below.as_str()), Bound::Unbounded));
        let below = range.take_while(|(name, _)| name.0.starts_with(below.as_str())).map(|(_, number)| *number);
        let own = self.numbers.get(folder.as_str()).filter(|_| !folder.is_root()).copied();
        let numbers: Vec<i32> = own.into_iter().chain(below).collect();
        numbers.iter().for_each(|number| self.remove(*number));
        numbers
    }

    /// A watched folder is worth more from now on, where it is.
    pub(super) fn raise(&mut self, number: i32, worth: i64) {
        if let Some(place) = self.places.get_mut(&number).filter(|place| place.worth < worth) {
            self.by_worth.remove(&(place.worth, number));
            place.worth = worth;
            self.by_worth.insert((worth, number));
        }
    }

    /// The watch that is worth the least, where that is less than `worth`.
    pub(super) fn makes_way_for(&self, worth: i64) -> Option<i32> {
        self.by_worth.first().filter(|(least, _)| *least < worth).map(|(_, number)| *number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(text: &str) -> Folder {
        text.parse().expect("a folder")
    }

    fn names(places: &Places) -> Vec<&str> {
        places.numbers.keys().map(|name| &*name.0).collect()
    }

    #[test]
    fn what_is_below_a_folder_goes_with_it_and_nothing_else() {
        let mut places = Places::default();
        for (number, name) in ["", "a", "a-b", "a/b", "a/b/c", "b"].into_iter().enumerate() {
            assert_eq!(places.insert(number as i32, &folder(name), 0), None);
        }
        assert_eq!(places.forget(&folder("a")), [1, 3, 4]);
        assert_eq!(names(&places), ["", "a-b", "b"]);
        assert_eq!(places.forget(&Folder::root()).len(), 3);
        assert_eq!((places.len(), places.by_worth.len()), (0, 0));
    }

    #[test]
    fn a_moved_folder_and_one_in_place_of_another() {
        let mut places = Places::default();
        places.insert(1, &folder("a"), 5);
        places.insert(2, &folder("b"), 6);
        assert_eq!(places.insert(1, &folder("c"), 7), None);
        assert_eq!(names(&places), ["b", "c"]);
        assert_eq!(places.insert(3, &folder("c"), 8), Some(1));
        assert_eq!((places.folder(1), places.folder(3)), (None, Some(folder("c"))));
        assert_eq!((places.len(), places.by_worth.len()), (2, 2));
    }

    #[test]
    fn what_matters_least_makes_way() {
        let day = 86_400;
        let now = 20_000 * day;
        let mut places = Places::default();
        let mut insert = |number, name: &str, modified| {
            let worth = worth(&folder(name), modified);
            places.insert(number, &folder(name), worth);
        };
        insert(1, "", 0);
        insert(2, "old", now - 1000 * day);
        insert(3, "old/sdp/pb", now - 1000 * day);
        insert(4, "new/sdp/pb", now - day);
        // An old folder further up is worth more than one below, and a new one more than an old one.
        assert_eq!(places.makes_way_for(worth(&folder("old/sdp"), now - 1000 * day)), Some(3));
        places.remove(3);
        assert_eq!(places.makes_way_for(worth(&folder("x/sdp/pb"), now)), Some(2));
        assert_eq!(places.makes_way_for(worth(&folder("old/sdp"), now - 1000 * day)), None);
        places.raise(2, worth(&folder("old"), now));
        assert_eq!(places.makes_way_for(worth(&folder("x/sdp/pb"), now)), Some(4));
        // The storage path never does.
        places.remove(2);
        places.remove(4);
        assert_eq!(places.makes_way_for(i64::MAX), None);
    }
}
