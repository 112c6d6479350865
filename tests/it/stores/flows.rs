//! What flows and data items come to in a store: the same in each.

use super::*;
use proptest::prelude::*;
use proptest::strategy::Just;
use shared::dlm::DataItem;
use shared::flow::{Flow, FlowId};
use shared::store::{Item, Lookup};
use std::collections::BTreeMap;
use tokio::runtime::Runtime;
use uuid::Uuid;

on_each_store! {
    a_flow_and_its_product_give_way_to_each_other
    flows_find_products_by_folder_and_else_by_processing_block
    a_status_shows_in_rows
    flows_without_a_product_are_shown_to_those_who_may_see_them
    items_are_products_of_their_own_store
}

fn flow(name: &str, folders: &[&str], status: Option<&str>) -> Flow {
    Flow {
        id: FlowId::stored(format!("pb-a-20250102-0:data-product:{name}")),
        folders: folders.iter().map(|folder| at(folder)).collect(),
        status: status.map(str::to_owned),
        execution_block: Some("eb-a-20250101-1".to_owned()),
    }
}

fn at(folder: &str) -> Folder {
    folder.parse().expect("a folder")
}

fn product(folder: &str, block: &str) -> Change {
    let metadata = json!({"execution_block": "eb-a-20250101-1", "config": {"processing_block": block}});
    Change::Found(found(&at(folder), &metadata, 1))
}

fn gone(folder: &str) -> Change {
    Change::Gone(at(folder))
}

async fn apply(store: &dyn Store, changes: &[Change]) -> Vec<Outcome> {
    store.apply(changes).await.expect("applied")
}

/// A caller who is in no group, and is shown flows that have no product.
fn seer() -> Viewer {
    Viewer::anonymous().shown_flows(true)
}

/// All rows by what they are of, without their numbers.
async fn rows(store: &dyn Store) -> BTreeMap<String, Value> {
    let query = grid::parse(&json!({"pageSize": 1000})).expect("a query").0;
    let hits = store.search(query, &seer()).await.expect("hits");
    assert_eq!(hits.total, hits.hits.len());
    let row = |hit: &Hit| {
        let mut row = row(hit.id, &hit.product, hit.size);
        row.remove("id");
        (format!("{} {}", row["dataproduct_file"], row["uid"]), Value::Object(row))
    };
    hits.hits.iter().map(row).collect()
}

async fn only(store: &dyn Store) -> Value {
    let rows = rows(store).await;
    assert_eq!(rows.len(), 1, "{rows:?}");
    rows.into_values().next().expect("a row")
}

async fn a_flow_and_its_product_give_way_to_each_other(store: &dyn Store) {
    let x = flow("x", &["product/eb/pb", "eb/pb"], None);
    assert_eq!(apply(store, &[Change::Flow(x.clone())]).await, [Outcome::Added]);
    assert_eq!(apply(store, &[Change::Flow(x.clone())]).await, [Outcome::Unchanged]);
    let row = only(store).await;
    assert_eq!(row["metadata_store_name"], json!("SDP"));
    assert_eq!(row["sdp_flow_placeholder"], json!(true));
    assert_eq!(row["dataproduct_file"], json!("None"));
    assert_eq!(row["execution_block"], json!("eb-a-20250101-1"));
    assert_eq!(row["date_created"], json!("2025-01-02"));

    apply(store, &[product("eb/pb", "pb-other-20250101-0")]).await;
    let row = only(store).await;
    assert_eq!(row["metadata_store_name"], json!("vol"));
    let flows = json!([{"sdp_flow": "pb-a-20250102-0:data-product:x", "sdp_flow_status": null}]);
    assert_eq!(row["sdp_flows"], json!(flows.to_string()));
    assert!(row.get("sdp_flow_status").is_none());

    apply(store, &[gone("eb/pb")]).await;
    assert_eq!(only(store).await["metadata_store_name"], json!("SDP"));
    assert_eq!(store.flows().await.expect("flows"), BTreeMap::from([(x.id.clone(), x.clone())]));
    assert_eq!(apply(store, &[Change::FlowGone(x.id.clone())]).await, [Outcome::Removed]);
    assert_eq!(apply(store, &[Change::FlowGone(x.id)]).await, [Outcome::Unchanged]);
    assert!(rows(store).await.is_empty());
}

async fn flows_find_products_by_folder_and_else_by_processing_block(store: &dyn Store) {
    let (own, other) = ("pb-a-20250102-0", "pb-b-20250102-0");
    let changes =
        [product("eb/pb", other), product("eb/pb/beam/scan", other), product("eb/pbx", own), product("elsewhere", own)];
    apply(store, &changes).await;
    let shown = |rows: &BTreeMap<String, Value>| -> Vec<String> {
        let with = rows.values().filter(|row| row.get("sdp_flows").is_some());
        with.map(|row| row["dataproduct_file"].as_str().unwrap_or_default().to_owned()).collect()
    };
    apply(store, &[Change::Flow(flow("x", &["eb/pb"], None))]).await;
    assert_eq!(shown(&rows(store).await), ["eb/pb", "eb/pb/beam/scan"]);
    apply(store, &[gone("eb/pb"), gone("eb/pb/beam/scan")]).await;
    assert_eq!(shown(&rows(store).await), ["eb/pbx", "elsewhere"]);
    apply(store, &[gone("eb/pbx"), gone("elsewhere")]).await;
    assert_eq!(only(store).await["metadata_store_name"], json!("SDP"));
    // Ingested metadata is a product as well.
    let metadata = json!({"execution_block": "eb-b-20250101-1", "config": {"processing_block": own}});
    let ingested = shared::product::Product::from_metadata(metadata, "vol").expect("a product");
    store.ingest(ingested, &Viewer::unrestricted()).await.expect("ingested");
    assert!(only(store).await["sdp_flows"].is_string());
    apply(store, &changes[..1]).await;
    assert_eq!(shown(&rows(store).await), ["eb/pb"]);
}

async fn flows_without_a_product_are_shown_to_those_who_may_see_them(store: &dyn Store) {
    apply(store, &[product("eb/pb", "none")]).await;
    let x = flow("x", &["eb/x"], None);
    apply(store, &[Change::Flow(x.clone())]).await;
    let uid = x.placeholder().uid;
    // Member or not, of any group that metadata can name.
    let named = ["\\flows", "flows", "sdp-flow"].map(str::to_owned);
    for (viewer, sees) in [
        (Viewer::anonymous(), false),
        (Viewer::member_of(named.clone()), false),
        (seer(), true),
        (Viewer::member_of(named).shown_flows(true), true),
        (Viewer::unrestricted(), true),
    ] {
        let count = if sees { 2 } else { 1 };
        assert_eq!(store.search(everything(), &viewer).await.expect("hits").total, count, "{viewer:?}");
        assert_eq!(store.products_of("eb-a-20250101-1", &viewer).await.expect("products").len(), count, "{viewer:?}");
        assert_eq!(store.summary(&viewer, 0).await.expect("a summary").products, count as u64, "{viewer:?}");
        let keys = store.keys(&viewer).await.expect("keys");
        assert_eq!(keys.counts.contains_key("sdp_flow_placeholder"), sees, "{viewer:?}");
        let one = store.product(uid, &viewer).await.expect("an answer");
        assert_eq!((matches!(one, Lookup::Found(_)), matches!(one, Lookup::Forbidden)), (sees, !sees), "{viewer:?}");
    }
    // A product shows its flows to whoever sees it.
    apply(store, &[product("eb/x", "none")]).await;
    let hits = store.search(everything(), &Viewer::anonymous()).await.expect("hits");
    assert_eq!((hits.total, hits.hits.iter().filter(|hit| !hit.product.flows.is_empty()).count()), (2, 1));
}

async fn a_status_shows_in_rows(store: &dyn Store) {
    apply(store, &[product("eb/pb", "pb-a-20250102-0")]).await;
    let (x, y) = (flow("x", &["eb/pb"], Some("FLOWING")), flow("y", &[], Some("COMPLETED")));
    apply(store, &[Change::Flow(x.clone()), Change::Flow(y.clone())]).await;
    assert_eq!(only(store).await["sdp_flow_status"], json!("FLOWING"));
    let filter = json!({"filterModel": {"items": [
        {"field": "sdp_flow_status", "operator": "equals", "value": "flowing"},
        {"field": "sdp_flows", "operator": "contains", "value": "product:y"},
    ]}});
    let query = || grid::parse(&filter).expect("a query").0;
    assert_eq!(store.search(query(), &seer()).await.expect("hits").total, 1);
    let keys = store.keys(&seer()).await.expect("keys");
    assert_eq!((keys.counts["sdp_flows"].values, keys.counts["sdp_flow_status"].values), (1, 1));

    let x = Flow { status: Some("COMPLETED".to_owned()), ..x };
    assert_eq!(apply(store, &[Change::Flow(x.clone())]).await, [Outcome::Updated]);
    assert_eq!(only(store).await["sdp_flow_status"], json!("COMPLETED"));
    assert_eq!(store.search(query(), &seer()).await.expect("hits").total, 0);
    // The product is written anew, and keeps what it shows; the size as well.
    let again =
        json!({"execution_block": "eb-a-20250101-1", "config": {"processing_block": "pb-a-20250102-0", "version": 2}});
    apply(store, &[Change::Found(found(&at("eb/pb"), &again, 2))]).await;
    assert_eq!(only(store).await["sdp_flow_status"], json!("COMPLETED"));
    apply(store, &[Change::FlowGone(x.id), Change::FlowGone(y.id)]).await;
    let keys = store.keys(&seer()).await.expect("keys");
    assert!(!keys.counts.contains_key("sdp_flows") && !keys.counts.contains_key("sdp_flow_status"), "{keys:?}");
}

fn item(n: u128, metadata: &str) -> Change {
    let uid = Uuid::from_u128(n);
    let own = DataItem {
        uid,
        metadata: metadata.to_owned(),
        name: Some(format!("item-{n}")),
        state: Some("READY".to_owned()),
        uri: None,
        size: Some(7),
        ..DataItem::default()
    };
    let product = own.product().map(Arc::new).map_err(|error| error.to_string());
    Change::Item(Item { uid, version: format!("1:{n}"), product, size: own.bytes() })
}

async fn items_are_products_of_their_own_store(store: &dyn Store) {
    let good = r#"{"execution_block": "eb-a-20250101-1", "config": {"processing_block": "pb-a-20250102-0"}}"#;
    let hidden = r#"{"execution_block": "eb-a-20250101-1", "context": {"access_group": "g"}}"#;
    let changes = [item(1, good), item(2, hidden), item(3, "5"), Change::Flow(flow("x", &[], None))];
    let outcomes = apply(store, &changes).await;
    assert_eq!(outcomes, [Outcome::Added, Outcome::Added, Outcome::Unchanged, Outcome::Added]);
    assert_eq!(apply(store, &changes[..1]).await, [Outcome::Unchanged]);
    // Items are not what flows wait for.
    let rows = rows(store).await;
    let stores: Vec<&Value> = rows.values().map(|row| &row["metadata_store_name"]).collect();
    assert_eq!(stores, [&json!("DLM"), &json!("SDP")]);
    let row = &rows[&format!("\"None\" \"{}\"", Uuid::from_u128(1))];
    assert_eq!(row["dlm.item_name"], json!("item-1"));
    assert_eq!(row["size"], json!(7));
    let member = Viewer::member_of(["g".to_owned()]).shown_flows(true);
    assert_eq!(store.summary(&member, 0).await.expect("a summary").products, 3);
    // One becomes no product, one goes.
    let changes = [item(1, "[]"), Change::ItemGone(Uuid::from_u128(2))];
    assert_eq!(apply(store, &changes).await, [Outcome::Removed, Outcome::Removed]);
    assert_eq!(store.summary(&member, 0).await.expect("a summary").products, 1);
    // An item does not take the place of a product that has its uid.
    apply(store, &[product("eb/pb", "none")]).await;
    let own = store.products_of("eb-a-20250101-1", &seer()).await.expect("products");
    let uid = own.iter().find(|hit| hit.product.folder.is_some()).expect("the product").product.uid;
    assert_eq!(apply(store, &[item(uid.as_u128(), good)]).await, [Outcome::Unchanged]);
    assert_eq!(apply(store, &[Change::ItemGone(uid)]).await, [Outcome::Unchanged]);
}

/// Anything that may happen to a few folders and flows.
fn change() -> impl Strategy<Value = Change> {
    let folder = prop::sample::select(vec!["eb", "eb/pb", "eb/pb/beam", "eb/pb-x", "other"]);
    let block = prop::sample::select(vec!["pb-a-20250102-0", "pb-b-20250102-0", "none"]);
    let status = prop::option::of(prop::sample::select(vec!["FLOWING", "COMPLETED", "ODD\0"]));
    let name = prop::sample::select(vec!["x", "y", "z"]);
    let folders = prop::collection::btree_set(folder.clone(), 0..3);
    let own = (name.clone(), folders, status, prop::option::of(Just("eb-a-20250101-1")));
    prop_oneof![
        4 => (folder.clone(), block).prop_map(|(folder, block)| product(folder, block)),
        2 => folder.clone().prop_map(gone),
        1 => (folder, 0..5u64).prop_map(|(folder, bytes)| {
            Change::Measured { folder: at(folder), bytes: Some(bytes) }
        }),
        4 => own.prop_map(|(name, folders, status, block)| {
            let folders: Vec<&str> = folders.into_iter().collect();
            Change::Flow(Flow { execution_block: block.map(str::to_owned), ..flow(name, &folders, status) })
        }),
        2 => name.prop_map(|name| Change::FlowGone(flow(name, &[], None).id)),
        1 => (1..3u128, prop::sample::select(vec![
            r#"{"execution_block": "eb-a-20250101-1"}"#, r#"{"execution_block": "eb-b-20250101-1", "k": "\u0000"}"#, "5",
        ])).prop_map(|(n, metadata)| item(n, metadata)),
        1 => (1..3u128).prop_map(|n| Change::ItemGone(Uuid::from_u128(n))),
    ]
}

/// Whatever happens in whatever order, both stores tell the same of each change and show the same rows and keys.
#[test]
fn both_stores_show_the_same_after_any_changes() {
    let runtime = Runtime::new().expect("a runtime");
    let _entered = runtime.enter();
    let home = Home::new();
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(100)
    });
    let count = std::cell::Cell::new(0);
    let batches = prop::collection::vec(prop::collection::vec(change(), 1..6), 1..8);
    let compared = runner.run(&batches, |batches| {
        count.set(count.get() + 1);
        runtime.block_on(async {
            let database = home.indexer(&format!("flows{}", count.get())).await;
            let memory = in_segments();
            for batch in &batches {
                let outcomes = (apply(&memory, batch).await, apply(&database, batch).await);
                prop_assert_eq!(outcomes.0, outcomes.1, "{:?}", batch);
                prop_assert_eq!(rows(&memory).await, rows(&database).await, "after {:?}", batch);
            }
            let all = seer();
            prop_assert_eq!(memory.keys(&all).await.expect("keys"), database.keys(&all).await.expect("keys"));
            prop_assert_eq!(memory.flows().await.expect("flows"), database.flows().await.expect("flows"));
            Ok(())
        })
    });
    compared.expect("the same");
}
