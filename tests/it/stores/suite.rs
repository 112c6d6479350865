//! The contract by example: what changes come to, and what is answered of them to whom.

use super::Outcome::{Added, Removed, Unchanged, Updated};
use super::*;
use shared::clock;
use shared::product::Product;
use shared::row::FIXED;
use shared::status::{Failing, Indexing, Progress, Step, Watch, WatchedBy};
use shared::store::{Lookup, Reindex, Summary};
use shared::uid;
use shared::volume::Stamp;
use std::collections::BTreeMap;
use std::time::Duration;

on_each_store! {
    changes_come_to_what_they_change
    changes_of_one_folder_keep_their_order
    a_folder_has_one_product
    sizes_belong_to_folders
    files_fail_until_they_read
    failing_files_are_listed_by_path
    restricted_products_are_remembered
    what_is_known_is_at_and_below
    products_of_a_block_come_nearest_first
    ingested_products_stay
    what_was_found_is_withdrawn_in_that_version_alone
    a_folder_may_be_known_to_those_who_see_what_is_there
    numbers_stay_while_products_do
    restricted_products_are_in_no_answer
    the_summary_says_how_it_stands
    a_reindex_waits_until_one_begins
}

async fn changes_come_to_what_they_change(store: &dyn Store) {
    let one = metadata("eb-1", "k", "one");
    assert_eq!(apply(store, []).await, []);
    assert_eq!(apply(store, [write("a", &one), write("b", &one), gone("c")]).await, [Added, Added, Unchanged]);
    assert_eq!(apply(store, [write("a", &one), measured("c", 5), failing("c", "no")]).await, [Unchanged; 3]);
    let other = metadata("eb-1", "k", "other");
    assert_eq!(apply(store, [write("a", &other), gone("b")]).await, [Updated, Removed]);
    assert_eq!(apply(store, [write("a", &one), gone("b"), write("b", &one)]).await, [Updated, Unchanged, Added]);
    assert_eq!(apply(store, [gone("a"), write("a", &one)]).await, [Removed, Added]);
    assert_eq!(find(store, item("k", "equals", "one"), &staff()).await.len(), 2);
    assert_eq!(find(store, item("k", "equals", "other"), &staff()).await.len(), 0);
}

async fn changes_of_one_folder_keep_their_order(store: &dyn Store) {
    let (one, two) = (metadata("eb-1", "k", 1), metadata("eb-1", "k", 2));
    let batch = [
        write("a", &one),
        measured("a", 1),
        write("a", &two),
        write("b", &one),
        gone("a"),
        gone("a"),
        measured("a", 2),
        write("a", &two),
        failing("a", "no"),
        measured("a", 3),
        write("a", &two),
        gone("b"),
    ];
    let outcomes = apply(store, batch).await;
    let (first, second) = outcomes.split_at(6);
    assert_eq!(first, [Added, Updated, Updated, Added, Removed, Unchanged]);
    assert_eq!(second, [Unchanged, Added, Unchanged, Updated, Unchanged, Removed]);
    let hits = store.search(everything(), &staff()).await.expect("an answer");
    assert_eq!(
        hits.hits.iter().map(|hit| (&hit.product.metadata["k"], hit.size)).collect::<Vec<_>>(),
        [(&json!(2), Some(3))]
    );
    assert_eq!(store.summary(&staff(), 9).await.expect("a summary").failing, 0);
}

async fn a_folder_has_one_product(store: &dyn Store) {
    apply(store, [write("a", &guarded("eb-1", "staff", "old", 1)), measured("a", 7)]).await;
    let before = store.search(everything(), &staff()).await.expect("an answer").hits;
    assert_eq!(apply(store, [write("a", &metadata("eb-2", "new", 1))]).await, [Updated]);
    let after = store.search(everything(), &Viewer::anonymous()).await.expect("an answer").hits;
    assert_eq!(after.iter().map(|hit| hit.size).collect::<Vec<_>>(), [Some(7)], "the folder is as large as it was");
    let (old, new) = (before[0].product.uid, after[0].product.uid);
    assert!(old != new);
    assert!(matches!(store.product(old, &staff()).await.expect("an answer"), Lookup::Unknown));
    assert!(store.products_of("eb-1", &staff()).await.expect("an answer").is_empty());
    assert_eq!(store.keys(&staff()).await.expect("keys").counts.into_keys().collect::<Vec<_>>(), ["new"]);
    let summary = store.summary(&staff(), 9).await.expect("a summary");
    assert_eq!((summary.products, summary.products_on_volume), (1, 1));
    assert_eq!(find(store, item("old", "isNotEmpty", ""), &staff()).await.len(), 0);
}

async fn sizes_belong_to_folders(store: &dyn Store) {
    let size = async || store.search(everything(), &staff()).await.expect("an answer").hits[0].size;
    apply(store, [write("a", &metadata("eb-1", "size", "shadowed"))]).await;
    assert_eq!(size().await, None);
    assert_eq!(apply(store, [measured("a", None), measured("b", 4)]).await, [Unchanged, Unchanged]);
    assert_eq!(apply(store, [measured("a", 4)]).await, [Updated]);
    assert_eq!(apply(store, [measured("a", 4)]).await, [Unchanged]);
    assert_eq!(apply(store, [write("a", &metadata("eb-1", "k", 1))]).await, [Updated]);
    assert_eq!(size().await, Some(4));
    assert_eq!(find(store, item("size", "=", 4), &staff()).await, ["a"]);
    assert_eq!(apply(store, [measured("a", 1 << 60)]).await, [Updated]);
    assert_eq!(find(store, item("size", "equals", "1152921504606846976"), &staff()).await, ["a"]);
    assert_eq!(apply(store, [measured("a", None)]).await, [Updated]);
    assert_eq!(size().await, None);
    assert_eq!(find(store, item("size", "isNotEmpty", ""), &staff()).await.len(), 0);
    apply(store, [measured("a", 4), gone("a"), write("a", &metadata("eb-1", "k", 1))]).await;
    assert_eq!(size().await, None);
}

async fn files_fail_until_they_read(store: &dyn Store) {
    let summary = async || store.summary(&Viewer::unrestricted(), 9).await.expect("a summary");
    let known = async || store.known(&Folder::root()).await.expect("what is known");
    let good = metadata("eb-1", "k", 1);
    let stamp = Stamp { size: 3, inode: u64::MAX, modified: -1, changed: i64::MAX };
    let versioned = |error: &str| {
        let Change::Failing { folder, path, error, .. } = failing("a", error) else { unreachable!() };
        Change::Failing { folder, path, error, stamp: Some(stamp) }
    };
    assert_eq!(apply(store, [versioned("first\0 'no'")]).await, [Unchanged]);
    assert_eq!(known().await, [(at("a"), Some(stamp))].into());
    let since = summary().await.first_failing[0].since;
    assert_eq!(apply(store, [failing("a", "still")]).await, [Unchanged]);
    assert_eq!(known().await, [(at("a"), None)].into());
    let first = summary().await.first_failing;
    assert_eq!((first.len(), first[0].error.as_str(), first[0].path.as_str()), (1, "still", "a/m.yaml"));
    assert_eq!(first[0].since, since, "it goes on failing");
    assert_eq!(summary().await.products, 0);

    assert_eq!(apply(store, [write("a", &good)]).await, [Added]);
    assert_eq!(summary().await.failing, 0);
    assert_eq!(apply(store, [versioned("again")]).await, [Unchanged]);
    assert_eq!(known().await, [(at("a"), Some(stamp))].into());
    assert_eq!((summary().await.failing, summary().await.products), (1, 1), "the last good version stays");
    assert!(summary().await.first_failing[0].since >= since);
    assert_eq!(apply(store, [write("a", &good)]).await, [Unchanged], "it is what it was");
    assert_eq!(summary().await.failing, 0);
    assert_eq!(known().await, [(at("a"), Some(found(&at("a"), &good, 1).stamp))].into());

    assert_eq!(
        apply(store, [failing("b", "no"), failing("a", "no"), gone("a"), gone("b")]).await,
        [Unchanged, Unchanged, Removed, Unchanged]
    );
    assert_eq!((summary().await.failing, known().await.len()), (0, 0));
}

async fn failing_files_are_listed_by_path(store: &dyn Store) {
    let secret = guarded("eb-1", "staff", "k", 1);
    apply(store, ["b", "a/b", "", "ä", "a-b", "B"].map(|folder| failing(folder, "no"))).await;
    apply(store, [write("a", &secret), write("c", &metadata("eb-1", "k", 1)), failing("a", "no"), failing("c", "no")])
        .await;
    let listed = async |viewer: &Viewer, most: usize| {
        let summary = store.summary(viewer, most).await.expect("a summary");
        assert!(summary.first_failing.len() as u64 == summary.failing.min(most as u64), "{viewer:?}");
        summary
            .first_failing
            .into_iter()
            .map(|failing| failing.path.trim_end_matches("m.yaml").to_owned())
            .collect::<Vec<_>>()
    };
    let unrestricted = Viewer::unrestricted();
    assert_eq!(listed(&unrestricted, 9).await, ["", "B/", "a/", "a-b/", "a/b/", "b/", "c/", "ä/"]);
    assert_eq!(listed(&unrestricted, 3).await, ["", "B/", "a/"]);
    assert_eq!(listed(&unrestricted, 0).await, [""; 0]);
    // Of those that never read nobody knows who may know of them, where anybody can be in a group.
    assert_eq!(listed(&staff(), 9).await, ["a/", "c/"]);
    assert_eq!(listed(&Viewer::anonymous(), 9).await, ["c/"]);
    apply(store, [failing("b", &Failing::error(&"no", true))]).await;
    assert_eq!(listed(&Viewer::everybody(), 9).await, ["", "B/", "a-b/", "a/b/", "c/", "ä/"]);
    assert_eq!(listed(&unrestricted, 9).await.len(), 8);
}

async fn what_is_known_is_at_and_below(store: &dyn Store) {
    let good = metadata("eb-1", "k", 1);
    let places = ["", "a", "a/b", "a/b/c", "a-b", "a0", "ab", "A", "a/%", "\u{10ffff}\u{10ffff}", "\u{10ffff}/x"];
    apply(store, places.map(|place| write(place, &good))).await;
    apply(store, [failing("a/x", "no"), failing("x", "no"), failing("a/b", "no")]).await;
    let known = async |scope: &str| {
        let known = store.known(&at(scope)).await.expect("what is known");
        assert!(known.iter().all(|(folder, stamp)| stamp.is_some() != ["a/x", "x", "a/b"].contains(&folder.as_str())));
        let mut known: Vec<String> = known.into_keys().map(|folder| folder.as_str().to_owned()).collect();
        known.sort();
        known
    };
    assert_eq!(known("a").await, ["a", "a/%", "a/b", "a/b/c", "a/x"]);
    assert_eq!(known("a/b").await, ["a/b", "a/b/c"]);
    assert_eq!(known("x").await, ["x"]);
    assert_eq!(known("nowhere").await, [""; 0]);
    let mut all: Vec<&str> = places.into_iter().chain(["a/x", "x"]).collect();
    all.sort();
    assert_eq!(known("").await, all);

    let visible = async |folder: &str| -> Vec<String> {
        let folders = visible_below(store, &at(folder), &Viewer::anonymous()).await;
        folders.iter().map(|folder| folder.as_str().to_owned()).collect()
    };
    assert_eq!(visible("a").await, ["a/%", "a/b", "a/b/c"]);
    assert_eq!(visible("a/b/c").await, [""; 0]);
    all.retain(|folder| !["", "x", "a/x"].contains(folder));
    assert_eq!(visible("").await, all);
}

async fn products_of_a_block_come_nearest_first(store: &dyn Store) {
    let long = "eb-".to_owned() + &"ö".repeat(200);
    for block in ["eb-1", &long] {
        let own = metadata(block, "k", 1);
        let deep = ["b/c/d", "a/z", "b/a", "z", "a"].map(|folder| write(&format!("{}/{folder}", block.len()), &own));
        apply(store, deep).await;
        store
            .ingest(Product::from_metadata(own, "vol").expect("a product"), &Viewer::unrestricted())
            .await
            .expect("ingested");
    }
    apply(store, [write("q", &metadata("eb-10", "k", 1)), write("r", &metadata(&(long.clone() + "x"), "k", 1))]).await;
    for block in ["eb-1", &long] {
        let hits = store.products_of(block, &staff()).await.expect("products");
        let n = block.len();
        let expected = ["a", "z", "a/z", "b/a", "b/c/d"].map(|folder| format!("{n}/{folder}"));
        assert_eq!(folders(&hits), [expected.as_slice(), &["None".to_owned()]].concat());
    }
    assert!(store.products_of("EB-1", &staff()).await.expect("products").is_empty());
    assert!(store.products_of("", &staff()).await.expect("products").is_empty());
}

async fn ingested_products_stay(store: &dyn Store) {
    let ingest = async |metadata: Value| {
        store
            .ingest(Product::from_metadata(metadata, "vol").expect("a product"), &Viewer::unrestricted())
            .await
            .expect("ingested");
    };
    let count = async || {
        let summary = store.summary(&Viewer::anonymous(), 9).await.expect("a summary");
        (summary.products, summary.products_on_volume)
    };
    ingest(metadata("eb-1", "k", "first")).await;
    apply(store, [write("", &metadata("eb-1", "k", "on disk")), write("a", &metadata("eb-1", "k", "on disk"))]).await;
    assert_eq!(count().await, (3, 2));
    ingest(metadata("eb-1", "k", "second")).await;
    ingest(metadata("eb-1", "k", "second")).await;
    assert_eq!(count().await, (3, 2));
    assert_eq!(find(store, item("k", "equals", "second"), &staff()).await, ["None"]);
    assert_eq!(find(store, item("k", "equals", "first"), &staff()).await.len(), 0);
    assert_eq!(store.known(&Folder::root()).await.expect("what is known").len(), 2);
    apply(store, [gone(""), gone("a"), gone("None")]).await;
    assert_eq!(count().await, (1, 0));
    let uid = uid::ingested("eb-1");
    let Lookup::Found(hit) = store.product(uid, &staff()).await.expect("an answer") else { panic!("it is gone") };
    assert_eq!((hit.product.metadata_path().as_str(), hit.size), ("None", None));
    assert!(visible_below(store, &Folder::root(), &staff()).await.is_empty());
    ingest(guarded("eb-1", "staff", "secret", 1)).await;
    assert_eq!(count().await, (0, 0));
    assert!(matches!(store.product(uid, &Viewer::anonymous()).await.expect("an answer"), Lookup::Forbidden));
    assert!(store.keys(&Viewer::anonymous()).await.expect("keys").counts.is_empty());
    assert!(store.unmeasured().await.expect("folders").is_empty());
}

async fn what_was_found_is_withdrawn_in_that_version_alone(store: &dyn Store) {
    let stamp = async || store.known(&Folder::root()).await.expect("what is known")[&at("a")].expect("a version");
    let withdraw = |stamp| Change::Withdrawn { folder: at("a"), stamp };
    let version = |n, inode| {
        let found = found(&at("a"), &metadata("eb-1", "k", n), 1);
        let stamp = Stamp { inode, ..found.stamp };
        Change::Found(shared::volume::Found { stamp, ..found })
    };
    apply(store, [version(1, 1)]).await;
    let first = stamp().await;
    apply(store, [version(2, 2)]).await;
    let second = stamp().await;
    assert_ne!(first, second);
    assert_eq!(apply(store, [withdraw(first)]).await, [Unchanged]);
    assert_eq!(find(store, item("k", "=", 2), &staff()).await, ["a"]);
    apply(store, [failing("b", "no")]).await;
    assert_eq!(apply(store, [withdraw(second), withdraw(second)]).await, [Removed, Unchanged]);
    assert_eq!(find(store, everything(), &staff()).await, [""; 0]);
    assert_eq!(apply(store, [Change::Withdrawn { folder: at("b"), stamp: second }]).await, [Unchanged]);
    assert_eq!(store.failing().await.expect("folders"), [at("b")]);
}

async fn a_folder_may_be_known_to_those_who_see_what_is_there(store: &dyn Store) {
    let (open, own) = (metadata("eb-1", "k", 1), guarded("eb-1", "staff", "k", 1));
    let changes = [
        write("open", &open),
        write("open/inner", &own),
        write("own", &own),
        write("own/inner", &open),
        failing("faulty", "no"),
        write("own/broken", &own),
        failing("own/broken", "no"),
    ];
    apply(store, changes).await;
    for (folder, stranger, of_staff) in [
        ("open", Some(true), Some(true)),
        ("open/none", None, None),
        ("open/inner", Some(false), Some(true)),
        ("open/inner/none/deep", Some(false), None),
        ("open/inner-2", None, None),
        ("own", Some(false), Some(true)),
        ("own/none", Some(false), None),
        ("own/inner", Some(false), Some(true)),
        ("own/broken", Some(false), Some(true)),
        ("faulty", None, None),
        ("", None, None),
    ] {
        for (viewer, expected) in [(Viewer::anonymous(), stranger), (staff(), of_staff)] {
            let known = store.may_know(&at(folder), &viewer).await.expect("an answer");
            assert_eq!(known, expected, "{folder} {viewer:?}");
        }
    }
    apply(store, [write("", &own)]).await;
    assert_eq!(store.may_know(&at("open"), &Viewer::anonymous()).await.expect("an answer"), Some(false));
}

async fn numbers_stay_while_products_do(store: &dyn Store) {
    let ids = async || {
        let hits = store.search(everything(), &staff()).await.expect("an answer").hits;
        hits.iter().map(|hit| (hit.product.dataproduct_file().to_owned(), hit.id)).collect::<BTreeMap<_, _>>()
    };
    let ingested = |value: u32| Product::from_metadata(metadata("eb-1", "k", value), "vol").expect("a product");
    apply(store, ["a", "b", "c"].map(|folder| write(folder, &metadata("eb-1", "k", 1)))).await;
    store.ingest(ingested(1), &Viewer::unrestricted()).await.expect("ingested");
    let before = ids().await;
    assert_eq!(before.values().collect::<std::collections::BTreeSet<_>>().len(), 4);
    apply(store, [write("a", &guarded("eb-1", "staff", "other", 2)), measured("b", 3), failing("c", "no"), gone("d")])
        .await;
    store.ingest(ingested(2), &Viewer::unrestricted()).await.expect("ingested");
    assert_eq!(ids().await, before);
    let hits = store.products_of("eb-1", &staff()).await.expect("products");
    for hit in hits {
        assert_eq!(hit.id, before[hit.product.dataproduct_file()]);
        let Lookup::Found(same) = store.product(hit.product.uid, &staff()).await.expect("an answer") else {
            panic!("it is gone")
        };
        assert_eq!((same.id, shown(&same)), (hit.id, shown(&hit)));
    }
    apply(store, [gone("a"), write("a", &metadata("eb-1", "k", 1))]).await;
    let again = ids().await["a"];
    assert!(!before.values().any(|id| *id == again), "a number is not given again");
}

async fn restricted_products_are_in_no_answer(store: &dyn Store) {
    let groups =
        [("staff", json!("staff")), ("some", json!(["x", "staff"])), ("nobody", json!([])), ("odd", json!({}))];
    apply(store, [write("p", &metadata("eb-1", "shared", 1)), write("p/public", &metadata("eb-1", "shared", "text"))])
        .await;
    for (name, group) in groups {
        let secret = guarded("eb-1", group, &format!("of_{name}"), "secret");
        apply(store, [write(&format!("p/{name}"), &secret), failing(&format!("p/{name}"), "no")]).await;
    }
    apply(store, [write("p/later", &metadata("eb-1", "of_later", "secret"))]).await;
    apply(store, [write("p/later", &guarded("eb-1", ["y"], "of_later", "secret"))]).await;
    let both = Viewer::member_of(["x".to_owned(), "y".to_owned(), "STAFF".to_owned(), String::new()]);
    for (viewer, seen) in [
        (Viewer::anonymous(), &[][..]),
        (member("y"), &["later"]),
        (member("x"), &["some"]),
        (staff(), &["some", "staff"]),
        (both, &["later", "some"]),
    ] {
        let below: Vec<String> = seen.iter().map(|name| format!("p/{name}")).collect();
        let sorted = |mut found: Vec<String>| {
            found.sort();
            found
        };
        let secret = query(&json!({"filterModel": {"quickFilterValues": ["secret"]}}));
        assert_eq!(sorted(find(store, secret, &viewer).await), below);
        assert_eq!(sorted(find(store, item("shared", "isEmpty", ""), &viewer).await), below);
        let all = sorted(["p".to_owned(), "p/public".to_owned()].into_iter().chain(below).collect());
        assert_eq!(sorted(find(store, everything(), &viewer).await), all);
        assert_eq!(sorted(folders(&store.products_of("eb-1", &viewer).await.expect("products"))), all);
        let visible = visible_below(store, &at("p"), &viewer).await;
        assert_eq!(visible.iter().map(Folder::as_str).collect::<Vec<_>>(), all[1..]);
        let keys = store.keys(&viewer).await.expect("keys");
        let mut names: Vec<String> = seen.iter().map(|name| format!("of_{name}")).collect();
        names.extend(seen.iter().take(1).map(|_| "context.access_group".to_owned()));
        names.push("shared".to_owned());
        assert_eq!(keys.counts.keys().cloned().collect::<Vec<_>>(), sorted(names));
        assert_eq!((keys.counts["shared"].values, keys.counts["shared"].numbers), (2, 1));
        let Summary { products, products_on_volume, first_failing, .. } =
            store.summary(&viewer, 9).await.expect("a summary");
        assert_eq!((products, products_on_volume), (all.len() as u64, all.len() as u64));
        let failing: Vec<&str> = first_failing.iter().map(|failing| failing.path.as_str()).collect();
        let expected = seen.iter().filter(|name| **name != "later").map(|name| format!("p/{name}/m.yaml"));
        assert_eq!(failing, expected.collect::<Vec<_>>());
        for folder in ["p/nobody", "p/staff", "p/some", "p/later", "p/public", "nowhere"] {
            let uid = uid::on_volume("eb-1", "/v", &at(folder));
            let expected = match store.product(uid, &viewer).await.expect("an answer") {
                Lookup::Found(hit) => hit.product.dataproduct_file() == folder && all.contains(&folder.to_owned()),
                Lookup::Forbidden => folder != "nowhere" && !all.contains(&folder.to_owned()),
                Lookup::Unknown => folder == "nowhere",
            };
            assert!(expected, "{folder} for {viewer:?}");
        }
    }
}

async fn restricted_products_are_remembered(store: &dyn Store) {
    let (public, secret) = (metadata("eb-1", "k", 1), guarded("eb-1", "staff", "k", 1));
    let long = Duration::from_secs(3600);
    let hidden = async |viewer: &Viewer, lately: Duration| {
        let below = store.below(&at("p"), viewer, lately).await.expect("folders");
        below.hidden.iter().map(|folder| folder.as_str().to_owned()).collect::<Vec<_>>()
    };
    let all = ["p/moved", "p/nobody", "p/opened", "p/s", "p/s/t"];
    apply(store, all.map(|folder| write(folder, &secret))).await;
    apply(store, [write("p/nobody", &guarded("eb-1", json!([]), "k", 1)), write("p/open", &public)]).await;
    assert_eq!(hidden(&Viewer::anonymous(), Duration::ZERO).await, all);
    apply(store, ["p/moved", "p/nobody", "p/open", "p/opened", "p/s", "p/s/t"].map(gone)).await;
    // Moved, opened, back, and another product in its place.
    apply(store, [write("p/to", &secret), write("p/opened", &public), write("p/s", &secret)]).await;
    apply(store, [write("p/s/t", &guarded("eb-2", "other", "k", 1))]).await;
    assert_eq!(hidden(&Viewer::anonymous(), long).await, ["p/moved", "p/nobody", "p/s", "p/s/t", "p/to"]);
    assert_eq!(hidden(&Viewer::anonymous(), Duration::ZERO).await, ["p/s", "p/s/t", "p/to"]);
    assert_eq!(hidden(&staff(), long).await, ["p/nobody", "p/s/t"]);
    assert_eq!(hidden(&Viewer::unrestricted(), long).await, [""; 0]);
    apply(store, [gone("p/s/t"), write("q/s", &secret), gone("q/s")]).await;
    assert_eq!(hidden(&staff(), long).await, ["p/nobody", "p/s/t"]);
}

async fn the_summary_says_how_it_stands(store: &dyn Store) {
    let updated = async || store.summary(&staff(), 0).await.expect("a summary").updated;
    let good = metadata("eb-1", "k", 1);
    apply(store, [write("a", &good)]).await;
    let before = updated().await;
    apply(store, [write("a", &good), failing("a", "no"), write("a", &good), gone("b"), measured("b", 1)]).await;
    assert_eq!(updated().await, before, "nothing changed that a search tells of");
    for changes in [[measured("a", 1)], [gone("a")], [write("a", &good)], [write("a", &metadata("eb-1", "k", 2))]] {
        let before = updated().await;
        apply(store, changes).await;
        assert!(updated().await > before);
    }
    // What is not to be seen moves nothing.
    apply(store, [write("g", &guarded("eb-1", "guests", "k", 1))]).await;
    let before = updated().await;
    let hidden = guarded("eb-1", "guests", "k", 2);
    for changes in [[measured("g", 1)], [write("g", &hidden)], [gone("g")], [write("g", &hidden)]] {
        apply(store, changes).await;
        let summary = store.summary(&staff(), 0).await.expect("a summary");
        assert_eq!((summary.updated, summary.products), (before, 1));
    }
    assert!(store.summary(&member("guests"), 0).await.expect("a summary").updated > before);
    assert_eq!(store.summary(&staff(), 0).await.map(|summary| summary.sees_all), Ok(false));
    apply(store, [write("g", &metadata("eb-1", "k", 1))]).await;
    assert!(updated().await > before, "it may be seen now");
    assert_eq!(store.summary(&staff(), 0).await.map(|summary| summary.sees_all), Ok(true));
    let before = updated().await;
    store
        .ingest(Product::from_metadata(good, "vol").expect("a product"), &Viewer::unrestricted())
        .await
        .expect("ingested");
    assert!(updated().await > before);

    let mut indexing = store.summary(&staff(), 0).await.expect("a summary").indexing;
    assert_eq!(indexing, Indexing::default());
    indexing.in_progress = true;
    indexing.progress = Progress {
        files_processed: 1,
        total_files: 2,
        files_added: 3,
        files_updated: 4,
        files_skipped: u64::MAX,
        indexing_step: Step::ScanningAndIngesting { found: 5, ingested: 6 },
    };
    indexing.last_duration = Some(Duration::from_nanos(1_234_567_890_123));
    indexing.ended = Some(clock::now());
    indexing.volume_error = Some("it's \\gone\"".to_owned());
    indexing.watch = Some(Watch { mode: WatchedBy::Poll, folders_watched: 7, folders_polled: 8, reconcile_seconds: 9 });
    let before = updated().await;
    for in_progress in [true, false] {
        indexing.in_progress = in_progress;
        store.publish(indexing.clone()).await.expect("published");
        assert_eq!(store.summary(&staff(), 0).await.expect("a summary").indexing, indexing);
    }
    assert_eq!(updated().await, before);
    let keys = store.keys(&staff()).await.expect("keys");
    assert!(FIXED.iter().all(|fixed| !keys.counts.contains_key(*fixed)));
}

async fn a_reindex_waits_until_one_begins(store: &dyn Store) {
    let indexing = |in_progress| Indexing { in_progress, ..Indexing::default() };
    let request = async || store.request_reindex().await.expect("an answer");
    let waits = async |patience: Duration| tokio::time::timeout(patience, store.reindex_requested()).await.is_ok();
    store.publish(indexing(false)).await.expect("published");
    assert_eq!(request().await, Reindex::Accepted);
    assert_eq!(request().await, Reindex::InProgress);
    for _ in 0..2 {
        assert!(waits(PATIENCE).await, "it stays asked for");
    }
    store.publish(indexing(false)).await.expect("published");
    assert!(waits(PATIENCE).await, "none has begun");
    store.publish(indexing(true)).await.expect("published");
    assert_eq!(request().await, Reindex::InProgress);
    store.publish(indexing(false)).await.expect("published");
    // One that is asked for while somebody listens.
    let (heard, accepted) = tokio::join!(waits(PATIENCE), request());
    assert!(heard && accepted == Reindex::Accepted);
    store.publish(indexing(true)).await.expect("published");
    store.publish(indexing(false)).await.expect("published");
    assert_eq!(request().await, Reindex::Accepted, "the one before has ended");
}
