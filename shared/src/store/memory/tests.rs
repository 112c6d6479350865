//! What answers do not show: that segments are made and made anew, and that searches keep what they found.

use super::*;
use crate::filter::grid;
use crate::segment::Tiers;
use crate::store::Item;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const FEW: Waiting = Waiting { leave: 0, seal: 1 };

/// A store that makes a segment of each product, and one of each `merge`.
fn store(merge: usize) -> MemoryStore {
    let tiers = Tiers { few: merge, many: merge, ..Tiers::default() };
    MemoryStore::sealing(Duration::MAX, Sealing { searched: FEW, unsearched: FEW, tiers })
}

fn product(n: usize, notes: &str) -> Product {
    let metadata = json!({"execution_block": format!("eb-a-20240101-{n:05}"), "notes": notes});
    Product::from_metadata(metadata, "volume").expect("a product")
}

async fn put(store: &MemoryStore, n: usize, notes: &str) {
    store.ingest(product(n, notes), &Viewer::unrestricted()).await.expect("ingested");
}

/// A product that can be taken away again.
fn item(n: usize) -> Change {
    let mut product = product(n, "item");
    product.store_name = crate::dlm::STORE.to_owned();
    Change::Item(Item { uid: product.uid, version: String::new(), product: Ok(Arc::new(product)), size: None })
}

async fn take_away(store: &MemoryStore, n: usize) {
    store.apply(&[Change::ItemGone(product(n, "").uid)]).await.expect("applied");
}

/// Makes all segments that it is time for.
fn seal(store: &MemoryStore) {
    store.shared.seal(true);
}

fn snapshot(store: &MemoryStore, body: &Value) -> Snapshot {
    let query = grid::parse(body).expect("a query").0;
    store.read().snapshot(query, &Viewer::anonymous())
}

fn notes(hits: &[Hit]) -> Vec<&str> {
    hits.iter().filter_map(|hit| hit.product.metadata["notes"].as_str()).collect()
}

/// How often each number is in segments or waits for one, without those that are superseded.
fn covered(store: &MemoryStore) -> BTreeMap<u64, usize> {
    let mut times = BTreeMap::new();
    for number in store.read().segments.numbers() {
        *times.entry(number).or_default() += 1;
    }
    times
}

fn numbers(store: &MemoryStore, products: usize) -> BTreeMap<u64, usize> {
    let index = store.read();
    (0..products).filter_map(|n| index.products.of_uid(product(n, "").uid)).map(|kept| (kept.number, 1)).collect()
}

#[tokio::test]
async fn a_search_answers_what_was_there_when_it_began() {
    let store = store(3);
    store.apply(&[item(0), item(1), item(2)]).await.expect("applied");
    put(&store, 3, "old").await;
    let before = snapshot(&store, &json!({"sortModel": [{"field": "execution_block", "sort": "asc"}]}));
    // What takes the place of the second product in memory is another.
    take_away(&store, 1).await;
    put(&store, 4, "other").await;
    for n in 0..20 {
        put(&store, 3, &format!("new {n}")).await;
        seal(&store);
    }
    let hits = store.shared.execute(&before, &|| false).expect("an answer");
    assert_eq!((hits.total, notes(&hits.hits)), (4, vec!["item", "item", "item", "old"]));
    let now = snapshot(&store, &json!({"sortModel": [{"field": "execution_block", "sort": "asc"}]}));
    let hits = store.shared.execute(&now, &|| false).expect("an answer");
    assert_eq!((hits.total, notes(&hits.hits)), (4, vec!["item", "item", "new 19", "other"]));
    drop((before, now));
    put(&store, 3, "newest").await;
    assert_eq!(store.read().graveyard.len(), 0, "nobody searches any more");
}

#[tokio::test]
async fn segments_hold_each_product_once_however_often_it_changed() {
    let store = store(4);
    for round in 0..30 {
        for n in 0..=round {
            put(&store, n * 7 % 31, &round.to_string()).await;
        }
        seal(&store);
        assert_eq!(covered(&store), numbers(&store, 31));
    }
    let segments = store.read().segments.clone();
    assert!(segments.tail.products.is_empty(), "all are in segments");
    assert!(segments.rows() <= 31 * 2, "{} rows of 31 products", segments.rows());
    assert!(segments.count() <= 4, "{} segments", segments.count());
}

#[tokio::test]
async fn what_is_superseded_while_segments_are_made_is_so_in_them() {
    let store = Arc::new(store(2));
    for n in 0..50 {
        put(&store, n, "first").await;
    }
    let other = store.clone();
    let sealing = std::thread::spawn(move || (0..50).for_each(|_| seal(&other)));
    for n in (0..500).map(|n| n * 13 % 50) {
        put(&store, n, "second").await;
    }
    sealing.join().expect("no panic");
    seal(&store);
    assert_eq!(covered(&store), numbers(&store, 50));
    let all = snapshot(&store, &json!({"pageSize": 100}));
    let hits = store.shared.execute(&all, &|| false).expect("an answer");
    assert_eq!(notes(&hits.hits), ["second"; 50]);
}

#[tokio::test]
async fn a_search_that_nobody_waits_for_ends() {
    let store = store(3);
    put(&store, 1, "x").await;
    let filter = json!({"filterModel": {"items": [{"field": "notes", "operator": "contains", "value": "x"}]}});
    let snapshot = snapshot(&store, &filter);
    assert!(store.shared.execute(&snapshot, &|| true).is_err());
    assert_eq!(store.shared.execute(&snapshot, &|| false).expect("an answer").total, 1);
}

#[tokio::test]
async fn large_products_do_not_wait_for_many() {
    let store = MemoryStore::default();
    let waiting = || store.read().segments.tail.products.len();
    for n in 0..5 {
        assert_eq!(waiting(), n, "few are not worth a segment");
        let values: Vec<usize> = (0..MOST_LEAVES / 5).collect();
        let metadata = json!({"execution_block": format!("eb-a-20240101-{n}"), "values": values});
        store
            .ingest(Product::from_metadata(metadata, "volume").expect("a product"), &Viewer::unrestricted())
            .await
            .expect("ingested");
    }
    seal(&store);
    assert_eq!(waiting(), 0);
    let all = snapshot(&store, &json!({}));
    assert_eq!(store.shared.execute(&all, &|| false).expect("an answer").total, 5);
}
