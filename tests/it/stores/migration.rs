//! Databases that earlier versions left: they are brought forward with all that is in them, and then answer as a store
//! does that was given the same anew.
//!
//! `old/` has what such versions wrote, as they wrote it: the schema and the rows of the first one, and the rows of the one
//! that had flows and data items.

use super::*;
use shared::dlm::DataItem;
use shared::flow::{Flow, FlowId};
use shared::product::Product;
use shared::store::Item;
use uuid::Uuid;

/// What the first version was given.
fn first() -> Vec<Change> {
    let mut changes: Vec<Change> = (0..12)
        .map(|n| {
            let metadata = json!({
                "execution_block": format!("eb-m-2024010{}-{n}", 1 + n % 5),
                "config": {"processing_block": format!("pb-m-20240101-{}", n % 3), "script": "vis-receive"},
                "obscore": {"t_min": 60_310.5 + f64::from(n), "target_name": format!("Zürich {n}"), "em_min": null},
                "files": [{"path": "a.ms", "crc": format!("c{n}")}, {"path": "b.ms", "size": n}],
            });
            write(&format!("eb-{n}/pb"), &metadata)
        })
        .collect();
    changes.push(write("secret", &guarded("eb-m-20240103-99", "staff", "odd\u{0}key", "a\u{0}b\\")));
    changes.push(write("secret/two", &guarded("eb-m-20240103-98", json!(["staff", "x"]), "n", 1e300)));
    changes.extend([measured("eb-1/pb", 4711), measured("eb-2/pb", None), measured("secret", 1)]);
    changes.extend([failing("eb-3/pb", "it does not read"), failing("broken", "never read")]);
    changes.push(gone("eb-11/pb"));
    changes
}

/// What the first version was brought by a request.
fn ingested() -> Product {
    let metadata = json!({"execution_block": "eb-m-20240105-50", "config": {"processing_block": "pb-i-20240105-0"}});
    Product::from_metadata(metadata, "vol").expect("a product")
}

/// What the version with more sources was given as well.
fn sources() -> Vec<Change> {
    let flow = |block: &str, name: &str, folder: &str, status: Option<&str>| {
        Change::Flow(Flow {
            id: FlowId::stored(format!("{block}:data-product:{name}")),
            folders: vec![at(folder)],
            status: status.map(str::to_owned),
            execution_block: Some("eb-m-20240105-77".to_owned()),
        })
    };
    let item = |n: u128, metadata: &Value| {
        let own = DataItem {
            uid: Uuid::from_u128(n),
            metadata: metadata.to_string(),
            name: Some(format!("item {n}")),
            state: Some("READY".to_owned()),
            uri: None,
            size: Some(12),
            ..DataItem::default()
        };
        let product = own.product().map(Arc::new).map_err(|error| error.to_string());
        Change::Item(Item { uid: own.uid, version: format!("1:{n}"), product, size: own.bytes() })
    };
    vec![
        flow("pb-m-20240101-0", "by-folder", "eb-0/pb", Some("COMPLETED")),
        flow("pb-m-20240101-1", "by-block", "nowhere", None),
        flow("pb-q-20240101-7", "unmatched", "nowhere/else", Some("FLOWING")),
        item(1, &json!({"execution_block": "eb-m-20240106-1", "k": [1, "two"]})),
        item(2, &guarded("eb-m-20240106-2", "staff", "k", "secret")),
        item(3, &json!({"no": "block"})),
    ]
}

/// A database as an earlier version left it, and a store on it once it was brought forward.
async fn brought_forward(version: usize) -> (Home, PostgresStore) {
    let server_side = Postgres::shared().empty_database();
    let pool = sqlx::PgPool::connect(&server_side.url()).await.expect("a connection");
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../migrations");
    let mut migrator = sqlx::migrate::Migrator::new(folder).await.expect("migrations");
    let all: Vec<_> = migrator.iter().take(version).cloned().collect();
    migrator = sqlx::migrate::Migrator::with_migrations(all);
    migrator.dangerous_set_table_name("dpd_migrations");
    migrator.run(&pool).await.expect("migrated");
    pool.close().await;
    server_side.execute([include_str!("old/0001.sql"), include_str!("old/0002.sql")][version - 1]);
    let home = Home::of(server_side);
    let migrated = shared::store::postgres::schema::migrate(&home.database, "dpd_indexing_state").await;
    assert_eq!(migrated, Ok(true));
    let store = home.indexer("old").await;
    (home, store)
}

/// Compares what an old database comes to with what a new store in memory does.
async fn is_as_if_made_anew(version: usize, changes: &[Change]) {
    let memory = in_segments();
    apply(&memory, first()).await;
    memory.ingest(ingested(), &Viewer::unrestricted()).await.expect("ingested");
    apply(&memory, changes).await;
    let (home, store) = brought_forward(version).await;
    // What whoever takes over asks, which has placeholders written as they are now.
    let flows = store.flows().await.expect("flows");
    assert_eq!(flows, memory.flows().await.expect("flows"));
    let products = home.server_side.value("SELECT count(*) FROM data_product");
    assert_eq!(home.server_side.value("SELECT count(DISTINCT number) FROM data_product"), products);
    assert_eq!(store.seal(1).await, Ok(usize::try_from(products.as_u64().expect("a number")).expect("few")));
    super::sealing::is_covered(&home.server_side);
    for viewer in [Viewer::anonymous(), staff(), member("x"), Viewer::anonymous().shown_flows(true)] {
        let show = async |store: &dyn Store, query: Query| {
            store.search(query, &viewer).await.expect("an answer").hits.iter().map(shown).collect::<Vec<_>>()
        };
        for query in [
            everything(),
            item("execution_block", "contains", "m-20240103"),
            item("config.processing_block", "equals", "pb-m-20240101-1"),
            item("obscore.t_min", ">", 60_315),
            item("files.crc", "isAnyOf", json!(["C4", "c5"])),
            item("odd\u{0}key", "isNotEmpty", ""),
            item("size", ">=", 0),
            item("sdp_flow_status", "isNotEmpty", ""),
            query(&json!({"sortModel": [{"field": "obscore.target_name", "sort": "desc"}], "pageSize": 5})),
        ] {
            assert_eq!(show(&memory, query.clone()).await, show(&store, query.clone()).await, "{query:?}");
        }
        assert_eq!(memory.keys(&viewer).await, store.keys(&viewer).await);
        let counts = |summary: shared::store::Summary| (summary.products, summary.products_on_volume, summary.failing);
        assert_eq!(memory.summary(&viewer, 9).await.map(counts), store.summary(&viewer, 9).await.map(counts));
    }
    assert_eq!(memory.known(&Folder::root()).await, store.known(&Folder::root()).await);
    assert_eq!(memory.flows().await, store.flows().await);
    assert_eq!(find(&store, item("annotation", "contains", "straße"), &staff()).await, ["eb-1/pb"]);
    // And it goes on from there.
    let more = [gone("eb-0/pb"), write("eb-1/pb", &metadata("eb-m-20240102-1", "k", 2)), measured("eb-4/pb", 3)];
    assert_eq!(apply(&memory, &more).await, apply(&store, &more).await);
    let all = async |store: &dyn Store| {
        store.search(everything(), &staff()).await.expect("an answer").hits.iter().map(shown).collect::<Vec<_>>()
    };
    assert_eq!(all(&memory).await, all(&store).await);
    super::sealing::is_covered(&home.server_side);
}

#[tokio::test]
async fn the_first_schema_is_brought_forward() {
    is_as_if_made_anew(1, &[]).await;
}

#[tokio::test]
async fn the_schema_with_sources_is_brought_forward() {
    is_as_if_made_anew(2, &sources()).await;
}
