//! Segments beside what is written meanwhile: whatever happens, each product is found in one of them or in the tail, and
//! nothing is left behind.

use super::generators::{FOLDERS, Step, change, metadata as any_metadata, step};
use super::*;
use proptest::prelude::*;
use proptest::test_runner::{TestError, TestRunner};
use shared::product::Product;
use shared::store::StoreError;
use std::cell::Cell;

/// Holds that a search would find the current version of each product, and no other.
pub(crate) fn is_covered(database: &tests::postgres::Database) {
    for (what, sql) in [
        (
            "products in no segment or in several",
            "SELECT p.number FROM data_product p JOIN dpd_indexing_state s USING (volume_prefix) \
             WHERE (p.number > s.sealed)::integer + (SELECT count(*) FROM segment g \
             WHERE g.volume_prefix = p.volume_prefix AND p.number BETWEEN g.first AND g.last) <> 1",
        ),
        (
            "products that are superseded",
            "SELECT number FROM data_product JOIN superseded USING (volume_prefix, number)",
        ),
        (
            "segments that hold what is neither there nor superseded",
            "SELECT id, products, there, dead FROM (SELECT g.*, (SELECT count(*) FROM data_product p \
             WHERE p.volume_prefix = g.volume_prefix AND p.number BETWEEN g.first AND g.last) AS there, \
             (SELECT count(*) FROM superseded u WHERE u.volume_prefix = g.volume_prefix \
             AND u.number BETWEEN g.first AND g.last) AS dead FROM segment g) t WHERE products <> there + dead",
        ),
        (
            "segments that overlap, or reach into the tail",
            "SELECT g.id FROM segment g JOIN dpd_indexing_state s USING (volume_prefix) WHERE g.last > s.sealed \
             OR EXISTS (SELECT FROM segment o WHERE o.volume_prefix = g.volume_prefix AND o.id <> g.id \
             AND o.first <= g.last AND g.first <= o.last)",
        ),
        ("segments without pages", "SELECT id FROM segment WHERE id NOT IN (SELECT segment FROM segment_page)"),
        (
            "what is superseded and in no segment nor the tail",
            "SELECT u.number FROM superseded u JOIN dpd_indexing_state s USING (volume_prefix) \
             WHERE u.number <= s.sealed AND NOT EXISTS (SELECT FROM segment g \
             WHERE g.volume_prefix = u.volume_prefix AND u.number BETWEEN g.first AND g.last)",
        ),
    ] {
        let rows = database.rows(sql);
        assert!(rows.is_empty(), "{what}: {rows:?}");
    }
}

fn count(home: &Home, table: &str) -> u64 {
    home.server_side.value(&format!("SELECT count(*) FROM {table}")).as_u64().expect("a number")
}

fn revision(home: &Home) -> i64 {
    home.server_side.value("SELECT revision FROM dpd_indexing_state").as_i64().expect("a number")
}

/// Small products in folders of these numbers.
fn some(numbers: std::ops::Range<usize>, k: &str) -> Vec<Change> {
    numbers.map(|n| write(&format!("p/{n}"), &metadata(&format!("eb-s-20240101-{n}"), "k", k))).collect()
}

async fn merge_all(store: &PostgresStore) {
    while store.merge().await.expect("merged") {}
}

/// Waits until something is so, and lets others on the same thread go on meanwhile.
async fn until(what: &str, is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, waiting).await.is_ok(), "waited in vain for {what}");
}

/// Waits until so many segments were made and wait for the lock on their pages.
async fn until_made(home: &Home, segments: u64) {
    let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'segment_page'::regclass";
    until("a segment to be made", || home.server_side.value(waiting) == segments).await;
}

#[tokio::test]
async fn each_change_of_what_is_seen_is_another_version() {
    let home = Home::new();
    let store = home.indexer("volume").await;
    let numbers = || home.server_side.rows("SELECT folder, number FROM data_product ORDER BY folder");
    let superseded = || home.server_side.rows("SELECT number FROM superseded ORDER BY number");
    apply(&store, some(0..2, "a")).await;
    let (mut before, mut known) = (numbers(), revision(&home));
    assert_eq!(superseded(), [] as [Value; 0]);
    // What a search sees as it was.
    let again = Change::Found(found(&at("p/0"), &metadata("eb-s-20240101-0", "k", "a"), 7));
    apply(&store, [again, measured("p/0", None), failing("p/1", "no"), gone("p/2")]).await;
    assert_eq!((numbers(), revision(&home)), (before.clone(), known));
    assert_eq!(home.server_side.value("SELECT measured FROM data_product WHERE folder = 'p/0'"), true);
    for (noted, change) in (1..).zip([
        measured("p/0", 5),
        write("p/0", &metadata("eb-s-20240101-0", "k", "b")),
        // Another uid.
        write("p/0", &metadata("eb-s-20240101-9", "k", "b")),
    ]) {
        apply(&store, [change]).await;
        let now = numbers();
        assert!(now[0]["number"].as_i64() > before[1]["number"].as_i64().max(before[0]["number"].as_i64()));
        assert_eq!(now[1], before[1]);
        assert!(superseded().contains(&json!({"number": before[0]["number"]})));
        assert_eq!(superseded().len(), noted);
        assert!(revision(&home) > known);
        (before, known) = (now, revision(&home));
    }
    apply(&store, [gone("p/1")]).await;
    assert!(superseded().contains(&json!({"number": before[1]["number"]})) && revision(&home) > known);
    is_covered(&home.server_side);
}

#[tokio::test]
async fn what_is_superseded_shrinks_to_nothing() {
    let home = Home::new();
    let store = home.indexer("volume").await;
    assert_eq!((store.seal(1).await, store.merge().await), (Ok(0), Ok(false)));
    apply(&store, some(0..300, "a")).await;
    assert_eq!((store.seal(301).await, count(&home, "segment")), (Ok(0), 0));
    assert_eq!((store.seal(300).await, count(&home, "segment")), (Ok(300), 1));
    let known = revision(&home);
    assert_eq!((store.seal(1).await, store.merge().await, revision(&home)), (Ok(0), Ok(false), known));
    // A part of it is another now: too little to make it again, and then enough.
    apply(&store, some(0..75, "b")).await;
    assert_eq!((store.merge().await, count(&home, "superseded")), (Ok(false), 75));
    apply(&store, some(75..76, "b")).await;
    assert_eq!((store.merge().await, count(&home, "superseded")), (Ok(true), 0));
    assert_eq!(home.server_side.value("SELECT sum(products) FROM segment"), 224);
    is_covered(&home.server_side);
    apply(&store, (0..300).map(|n| gone(&format!("p/{n}"))).collect::<Vec<_>>()).await;
    is_covered(&home.server_side);
    merge_all(&store).await;
    assert_eq!((count(&home, "segment"), count(&home, "segment_page")), (0, 0));
    // What was never sealed is noted until something after it is.
    apply(&store, some(0..1, "c")).await;
    assert_eq!((store.seal(1).await, count(&home, "superseded")), (Ok(1), 0));
    is_covered(&home.server_side);
}

#[tokio::test]
async fn small_segments_become_one() {
    let home = Home::new();
    let store = home.indexer("volume").await;
    for n in 0..8 {
        assert_eq!(store.merge().await, Ok(false));
        apply(&store, some(10 * n..10 * n + 10, "a")).await;
        assert_eq!(store.seal(1).await, Ok(10));
        is_covered(&home.server_side);
    }
    apply(&store, some(15..17, "b")).await;
    assert_eq!((store.merge().await, store.merge().await), (Ok(true), Ok(false)));
    assert_eq!((count(&home, "segment"), count(&home, "superseded")), (1, 0));
    assert_eq!(home.server_side.value("SELECT products FROM segment"), 78);
    is_covered(&home.server_side);
}

#[tokio::test]
async fn what_is_written_while_a_segment_is_made_is_neither_lost_nor_held_up() {
    let home = Home::new();
    let store = home.indexer("volume").await;
    apply(&store, some(0..40, "a")).await;
    for merging in [false, true] {
        let lock = home.server_side.lock("segment_page");
        let made = async { if merging { store.merge().await } else { store.seal(1).await.map(|sealed| sealed > 0) } };
        let meanwhile = async {
            until_made(&home, 1).await;
            apply(&store, some(0..5, "b")).await;
            apply(&store, some(50..60, if merging { "b" } else { "a" })).await;
            apply(&store, [gone("p/7"), measured("p/8", 8)]).await;
            drop(lock);
        };
        let (made, ()) = tokio::join!(made, meanwhile);
        assert_eq!(made, Ok(true));
        is_covered(&home.server_side);
        assert!(count(&home, "superseded") > 0, "what ceased to be meanwhile is noted");
        // Enough for it to be made again.
        apply(&store, some(10..25, "c")).await;
    }
    store.seal(1).await.expect("sealed");
    merge_all(&store).await;
    is_covered(&home.server_side);
}

#[tokio::test]
async fn a_segment_that_is_not_finished_leaves_nothing() {
    let home = Home::new();
    let store = Arc::new(home.indexer("volume").await);
    apply(store.as_ref(), some(0..40, "a")).await;
    let lock = home.server_side.lock("segment_page");
    let sealing = tokio::spawn({
        let store = store.clone();
        async move { store.seal(1).await }
    });
    until_made(&home, 1).await;
    sealing.abort();
    assert!(sealing.await.is_err());
    drop(lock);
    assert_eq!((count(&home, "segment"), count(&home, "segment_page")), (0, 0));
    assert_eq!(store.seal(1).await, Ok(40));
    is_covered(&home.server_side);
}

#[tokio::test]
async fn who_lost_the_lease_puts_nothing_in_place() {
    let home = Home::new();
    let store = home.indexer("volume").await;
    apply(&store, some(0..40, "a")).await;
    assert_eq!(store.seal(1).await, Ok(40));
    apply(&store, some(0..20, "b")).await;
    let lock = home.server_side.lock("segment_page");
    let takeover = async {
        until_made(&home, 1).await;
        home.server_side.execute("UPDATE dpd_indexing_state SET epoch = epoch + 1, holder = NULL");
        drop(lock);
    };
    let (merged, ()) = tokio::join!(store.merge(), takeover);
    assert_eq!(merged, Err(StoreError::Superseded));
    assert_eq!((count(&home, "segment"), count(&home, "superseded")), (1, 20));
    assert_eq!(store.seal(1).await, Err(StoreError::Superseded));
    is_covered(&home.server_side);
    let next = home.indexer("volume").await;
    assert_eq!((next.merge().await, next.seal(1).await), (Ok(true), Ok(20)));
    is_covered(&home.server_side);
}

#[tokio::test]
async fn of_two_who_seal_the_same_one_does() {
    let home = Home::new();
    let (indexer, api) = (home.indexer("volume").await, home.api("volume"));
    apply(&indexer, some(0..40, "a")).await;
    let lock = home.server_side.lock("segment_page");
    let both = async {
        until_made(&home, 2).await;
        drop(lock);
    };
    let (one, other, ()) = tokio::join!(indexer.seal(1), api.seal(1), both);
    let mut sealed = [one.expect("sealed"), other.expect("sealed")];
    sealed.sort_unstable();
    assert_eq!((sealed, count(&home, "segment")), ([0, 40], 1));
    is_covered(&home.server_side);
}

#[tokio::test]
async fn keys_that_nobody_numbered_are_numbered() {
    let home = Home::new();
    let store = home.indexer("volume").await;
    apply(&store, some(0..3, "a")).await;
    home.server_side.execute("DELETE FROM key_count; DELETE FROM metadata_key WHERE path IN ('k', 'execution_block')");
    assert_eq!(home.api("volume").seal(1).await, Ok(3));
    assert_eq!(home.server_side.value("SELECT count(*) FROM metadata_key WHERE path IN ('k', 'execution_block')"), 2);
    is_covered(&home.server_side);
}

#[tokio::test]
async fn the_tail_does_not_grow_beyond_what_can_be_searched() {
    let home = Home::new();
    for store in [home.indexer("one").await, home.api("one")] {
        for n in 0..16 {
            apply(&store, some(n * 500..n * 500 + 500, &format!("{}", count(&home, "superseded")))).await;
            let tail = "SELECT count(*) FROM data_product, dpd_indexing_state WHERE number > sealed";
            let tail = home.server_side.value(tail).as_u64().expect("a number");
            assert!(tail <= 8192, "{tail} in the tail");
        }
        is_covered(&home.server_side);
    }
    assert!(count(&home, "segment") > 0);
}

/// Lets a store tend its segments until something is so.
async fn tend_until(store: &PostgresStore, what: &str, is_so: impl Fn() -> bool) {
    tokio::select! {
        () = store.tend() => unreachable!("it goes on for ever"),
        () = until(what, is_so) => {}
    }
}

#[tokio::test]
async fn segments_of_another_format_are_made_again() {
    let home = Home::new();
    let store = home.indexer("volume").await;
    apply(&store, some(0..300, "a")).await;
    store.seal(1).await.expect("sealed");
    apply(&store, some(0..3, "b")).await;
    home.server_side.execute("UPDATE segment SET format = -1");
    let again = "SELECT count(*) FROM segment WHERE format <> -1 AND products = 300";
    tend_until(&store, "another segment", || home.server_side.value(again) == 1).await;
    assert_eq!((count(&home, "segment"), count(&home, "superseded")), (1, 0));
    is_covered(&home.server_side);
}

#[tokio::test]
async fn who_searched_before_segments_were_thrown_away_finds_all() {
    let home = Home::new();
    let (store, api) = (home.indexer("volume").await, home.api("volume"));
    apply(&store, some(0..300, "a")).await;
    store.seal(1).await.expect("sealed");
    assert_eq!(find(&api, everything(), &staff()).await.len(), 300);
    home.server_side.execute("DELETE FROM segment");
    home.server_side.execute("UPDATE dpd_indexing_state SET sealed = 0, revision = nextval('product_number')");
    assert_eq!(find(&api, everything(), &staff()).await.len(), 300);
}

#[tokio::test]
async fn a_damaged_segment_that_becomes_part_of_another_is_whole_again() {
    let home = Home::new();
    let (store, api) = (home.indexer("volume").await, home.api("volume"));
    for n in 0..8 {
        apply(&store, some(10 * n..10 * n + 10, "a")).await;
        assert_eq!(store.seal(1).await, Ok(10));
    }
    home.server_side.execute("UPDATE segment_page SET bytes = '' WHERE segment = (SELECT min(id) FROM segment)");
    assert!(matches!(api.search(everything(), &staff()).await, Err(StoreError::Unavailable(_))));
    apply(&store, some(0..3, "b")).await;
    assert_eq!((store.merge().await, count(&home, "segment"), count(&home, "superseded")), (Ok(true), 1, 0));
    assert_eq!(find(&api, item("k", "equals", "a"), &staff()).await.len(), 77);
    assert_eq!(find(&api, item("k", "equals", "b"), &staff()).await.len(), 3);
    is_covered(&home.server_side);
}

#[tokio::test]
async fn the_tail_is_sealed_where_it_is_long_enough() {
    let home = Home::new();
    let store = home.indexer("volume").await;
    apply(&store, some(0..256, "a")).await;
    tend_until(&store, "a segment", || count(&home, "segment") == 1).await;
    is_covered(&home.server_side);
}

#[derive(Debug, Clone)]
enum Deed {
    Write(Step),
    Seal,
    Merge,
}

#[test]
fn any_steps_leave_each_version_in_one_place() {
    let deed = prop_oneof![5 => step().prop_map(Deed::Write), 2 => Just(Deed::Seal), 1 => Just(Deed::Merge)];
    let at_first = prop::collection::vec(any_metadata(), FOLDERS.len());
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let home = runtime.block_on(async { Home::new() });
    let volumes = Cell::new(0);
    let config =
        ProptestConfig { cases: 40, failure_persistence: None, max_shrink_iters: 100, ..ProptestConfig::default() };
    let result = TestRunner::new(config).run(&(at_first, prop::collection::vec(deed, 1..40)), |(at_first, deeds)| {
        volumes.set(volumes.get() + 1);
        runtime.block_on(async {
            let store = home.indexer(&format!("volume{}", volumes.get())).await;
            let first = at_first.into_iter().enumerate().map(|(n, metadata)| Deed::Write(Step::Write(n, metadata)));
            for (version, deed) in (1..).zip(first.chain(deeds)) {
                match deed {
                    Deed::Seal => drop(store.seal(1).await.expect("sealed")),
                    Deed::Merge => drop(store.merge().await.expect("merged")),
                    Deed::Write(step) => match change(step, version) {
                        Ok(change) => drop(apply(&store, [change]).await),
                        Err(metadata) => {
                            let product = Product::from_metadata(metadata, "vol").expect("a product");
                            store.ingest(product, &Viewer::unrestricted()).await.expect("ingested");
                        }
                    },
                }
            }
            is_covered(&home.server_side);
        });
        Ok(())
    });
    match result {
        Ok(()) => {}
        Err(TestError::Fail(reason, case)) => panic!("{reason}\nof {case:?}"),
        Err(error) => panic!("{error}"),
    }
}
