//! What a walk found against what is known, as values: nothing here reads a disk or a store.

use shared::folder::Folder;
use shared::store::Known;
use shared::volume::Stamp;
use std::collections::HashSet;

/// The comparison of a walk with what is known.
#[derive(Debug)]
pub(crate) struct Reconciliation {
    /// What was known and was not seen yet; `None` where the walk began without knowing.
    unseen: Option<Known>,
    /// What was seen, where the walk began without knowing.
    seen: HashSet<Folder>,
    unreadable: Vec<Folder>,
}

impl Reconciliation {
    /// For a walk that reads only what is not known.
    pub(crate) fn against(known: Known) -> Reconciliation {
        Reconciliation { unseen: Some(known), seen: HashSet::new(), unreadable: Vec::new() }
    }

    /// For a walk that reads everything, such as one of a folder that just appeared.
    pub(crate) fn of_everything() -> Reconciliation {
        Reconciliation { unseen: None, seen: HashSet::new(), unreadable: Vec::new() }
    }

    /// A metadata file was seen in this version. True when it must be read.
    pub(crate) fn see(&mut self, folder: &Folder, stamp: Stamp) -> bool {
        match &mut self.unseen {
            Some(unseen) => unseen.remove(folder).flatten() != Some(stamp),
            None => {
                self.seen.insert(folder.clone());
                true
            }
        }
    }

    /// A folder could not be listed: nothing is known of what is in it now.
    pub(crate) fn unreadable(&mut self, folder: Folder) {
        self.unreadable.push(folder);
    }

    /// Whether a walk that began without knowing needs [`gone`](Self::gone) to be told what is known.
    pub(crate) fn needs_known(&self) -> bool {
        self.unseen.is_none()
    }

    /// What was known and did not turn up where it could have. `known` is what a walk that
    /// [needs it](Self::needs_known) is compared with.
    pub(crate) fn gone(&mut self, known: Known) -> Vec<Folder> {
        let unseen = self.unseen.take().unwrap_or(known);
        let missed = |folder: &Folder| {
            !self.seen.contains(folder) && !self.unreadable.iter().any(|unreadable| unreadable.contains(folder))
        };
        unseen.into_keys().filter(missed).collect()
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

    fn known() -> Known {
        [
            ("same", Some(stamp(1))),
            ("changed", Some(stamp(1))),
            ("always", None),
            ("gone", Some(stamp(1))),
            ("shut/in", Some(stamp(1))),
        ]
        .map(|(name, stamp)| (folder(name), stamp))
        .into()
    }

    #[test]
    fn only_what_changed_is_read_and_only_what_could_be_seen_is_gone() {
        let mut walk = Reconciliation::against(known());
        assert!(!walk.see(&folder("same"), stamp(1)));
        assert!(walk.see(&folder("changed"), stamp(2)));
        assert!(walk.see(&folder("always"), stamp(1)));
        assert!(walk.see(&folder("new"), stamp(1)));
        walk.unreadable(folder("shut"));
        assert_eq!(walk.gone(Known::new()), [folder("gone")]);
    }

    #[test]
    fn a_walk_of_everything_reads_everything() {
        let mut walk = Reconciliation::of_everything();
        assert!(walk.see(&folder("same"), stamp(1)));
        walk.unreadable(folder("shut"));
        let mut gone = walk.gone(known());
        gone.sort();
        assert_eq!(gone, ["always", "changed", "gone"].map(folder));
    }

    #[test]
    fn an_unreadable_root_removes_nothing() {
        let mut walk = Reconciliation::against(known());
        walk.unreadable(Folder::root());
        assert!(walk.gone(Known::new()).is_empty());
    }
}
