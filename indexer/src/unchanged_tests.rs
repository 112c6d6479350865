//! What walks leave out, and what they must not.

use super::*;
use crate::reconcile::Known;
use shared::volume::Stamp;

fn folder(text: &str) -> Folder {
    text.parse().expect("a folder")
}

fn listing(folders: &[&str], metadata: bool) -> Listing {
    let folders = folders.iter().map(|name| (*name).to_owned()).collect();
    Listing { folders, metadata: metadata.then(Default::default), ..Listing::default() }
}

/// A folder that was changed an hour ago, and `n` seconds.
fn own(n: i64) -> Own {
    let then = (clock::now().timestamp() / 3600 - 1) * 3_600_000_000_000 - n * 1_000_000_000;
    Own { device: 1, inode: 2, modified: then, changed: then }
}

fn memory() -> Memory {
    Memory::new(Duration::from_secs(60))
}

fn tree(seconds_ago: i64, told: u8) -> Tree {
    Tree { changed: clock::now().timestamp() - seconds_ago, told: vec![told] }
}

#[test]
fn a_folder_is_as_it_was_while_its_times_are() {
    let memory = memory();
    let then = own(0);
    memory.begin(Walk::Whole, Some(&[]), Sums::default());
    memory.listed(&folder("a"), &then, &listing(&["x", "y"], true));
    memory.listed(&folder("b"), &then, &listing(&[], true));
    memory.listed(&folder("c"), &then, &listing(&[], false));
    memory.end(true, Sums::default());
    let remembered = |name| memory.unchanged(&folder(name), &then);
    assert_eq!(remembered("a"), Some(Unchanged { metadata: true, folders: "x/y".to_owned() }));
    assert_eq!(remembered("b"), Some(Unchanged { metadata: true, folders: String::new() }));
    assert_eq!(remembered("c"), Some(Unchanged { metadata: false, folders: String::new() }));
    assert_eq!(remembered("d"), None);
    assert_eq!(memory.unchanged(&folder("a"), &own(1)), None);
}

#[test]
fn times_of_a_minute_ago_or_to_come_are_not_believed() {
    let now = 1_000_000;
    assert!(memory().is_believed(now - 61, now));
    for changed in [now - 60, now - 1, now, now + 1, now + 100_000] {
        assert!(!memory().is_believed(changed, now), "{changed}");
    }
    let memory = memory();
    let then = own(0);
    memory.begin(Walk::Whole, Some(&[]), Sums::default());
    // The latest of its times counts.
    for (name, seconds) in [("fresh", -10), ("ahead", 3600)] {
        let time = (clock::now().timestamp() + seconds) * 1_000_000_000;
        for own in [Own { changed: time, ..then }, Own { modified: time, ..then }] {
            memory.listed(&folder(name), &own, &listing(&[], true));
            memory.end(true, Sums::default());
            assert_eq!(memory.unchanged(&folder(name), &own), None, "{name}");
        }
    }
    for (name, seconds_ago) in [("fresh", 10), ("ahead", -3600)] {
        let told = tree(seconds_ago, 1);
        for _ in 0..3 {
            let number = memory.begin(Walk::Changes, Some(&[]), Sums::default());
            assert!(!memory.sees_tree(number, &folder(name), &told), "{name}");
            memory.end(true, Sums::default());
        }
    }
}

#[test]
fn a_tree_is_left_out_where_a_walk_saw_all_of_it() {
    let (memory, old) = (memory(), tree(3600, 1));
    let walk = |walk, restless: Option<&[Folder]>, complete, lost: Option<&str>, told: &Tree| {
        let number = memory.begin(walk, restless, Sums::default());
        let left_out = ["", "a", "a/b", "c"].map(|name| memory.sees_tree(number, &folder(name), told));
        lost.into_iter().for_each(|name| memory.is_restless(&folder(name)));
        memory.end(complete, Sums::default());
        left_out
    };
    let none: Option<&[Folder]> = Some(&[]);
    assert_eq!(walk(Walk::Changes, none, true, None, &old), [false; 4], "nothing is remembered yet");
    assert_eq!(walk(Walk::Whole, none, true, None, &old), [false; 4], "a whole walk leaves nothing out");
    assert_eq!(walk(Walk::Changes, none, true, None, &old), [true; 4]);
    // What could not be seen, and what must be looked at in any case, is not passed by.
    assert_eq!(walk(Walk::Changes, none, true, Some("a"), &old), [true; 4]);
    assert_eq!(walk(Walk::Changes, none, true, None, &old), [false, false, true, true]);
    assert_eq!(walk(Walk::Changes, none, true, None, &old), [true; 4]);
    assert_eq!(walk(Walk::Changes, Some(&[folder("a/b")]), true, None, &old), [false, false, false, true]);
    assert_eq!(walk(Walk::Changes, None, true, None, &old), [false; 4], "everything may be restless");
    assert_eq!(walk(Walk::Whole, none, false, None, &old), [false; 4]);
    assert_eq!(walk(Walk::Changes, none, true, None, &old), [false; 4], "the walk before was cut off");
    assert_eq!(walk(Walk::Changes, none, true, None, &tree(3600, 2)), [false; 4], "something else is told");
}

#[test]
fn a_straggler_of_an_earlier_walk_vouches_for_nothing() {
    let (memory, old) = (memory(), tree(3600, 1));
    let early = memory.begin(Walk::Whole, Some(&[]), Sums::default());
    memory.end(false, Sums::default());
    let number = memory.begin(Walk::Whole, Some(&[]), Sums::default());
    memory.sees_tree(early, &folder("a"), &old);
    memory.end(true, Sums::default());
    let later = memory.begin(Walk::Changes, Some(&[]), Sums::default());
    assert!(number < later && !memory.sees_tree(later, &folder("a"), &old));
}

#[test]
fn a_whole_walk_forgets_what_it_does_not_see_and_keeps_names_once() {
    let memory = memory();
    let then = own(0);
    let mut bytes = Vec::new();
    for round in 0..3 {
        memory.begin(Walk::Whole, Some(&[]), Sums::default());
        memory.listed(&folder("stays"), &then, &listing(&["one", "two"], false));
        if round == 0 {
            memory.listed(&folder("goes"), &then, &listing(&["three"], false));
        }
        memory.end(true, Sums::default());
        bytes.push(memory.lock().names.len());
    }
    assert!(memory.unchanged(&folder("stays"), &then).is_some());
    assert!(memory.unchanged(&folder("goes"), &then).is_none());
    assert!(bytes[0] > bytes[2] && bytes[1] >= bytes[2], "{bytes:?}");
    // One that leaves out forgets nothing that it does not see.
    memory.begin(Walk::Changes, Some(&[]), Sums::default());
    memory.end(true, Sums::default());
    assert!(memory.unchanged(&folder("stays"), &then).is_some());
    // A change is another listing.
    let later = own(5);
    memory.begin(Walk::Changes, Some(&[]), Sums::default());
    memory.listed(&folder("stays"), &later, &listing(&["one"], true));
    memory.end(true, Sums::default());
    assert!(memory.unchanged(&folder("stays"), &then).is_none());
    let remembered = memory.unchanged(&folder("stays"), &later).expect("it");
    assert_eq!((remembered.metadata, remembered.folders.as_str()), (true, "one"));
}

#[test]
fn a_tree_of_which_the_store_lost_something_is_not_left_out() {
    let (memory, old) = (memory(), tree(3600, 1));
    let sums = |names: &[&str]| {
        let mut known = Known::default();
        names.iter().for_each(|name| known.push(&folder(name), Some(Stamp::default())));
        known.sums()
    };
    let walk = |walk, known: &[&str], left: &[&str]| {
        let number = memory.begin(walk, Some(&[]), sums(known));
        let left_out = ["", "a", "a/b", "c"].map(|name| memory.sees_tree(number, &folder(name), &old));
        memory.end(true, sums(left));
        left_out
    };
    let (all, fewer) = (["a/b", "a/x", "c"], ["a/x", "c"]);
    assert_eq!(walk(Walk::Whole, &[], &all), [false; 4]);
    assert_eq!(walk(Walk::Changes, &all, &all), [true; 4], "what the first walk found is known now");
    assert_eq!(walk(Walk::Changes, &fewer, &all), [false, false, false, true], "a/b was lost, and c was not");
    assert_eq!(walk(Walk::Changes, &all, &all), [true; 4]);
}
