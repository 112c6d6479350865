//! What the database has that is damaged or used up: it costs the product that it is about, and that only until it is well.

use crate::daemons::{Site, reindex, wait_for_hits};
use serde_json::json;
use tests::program::Server;

/// The document of a product becomes something that no document is.
fn damage(site: &Site, block: &str) {
    site.database.execute(&format!(
        "UPDATE document SET metadata = '[1]' WHERE product = \
         (SELECT id FROM data_product WHERE execution_block = '{block}')"
    ));
}

fn failing(server: &Server) -> serde_json::Value {
    server.status()["indexing"]["failing"]["count"].clone()
}

#[test]
fn a_damaged_row_costs_its_product_alone() {
    let site = Site::new();
    site.products(3);
    let (indexer, api) = site.daemons.pair();
    assert_eq!(api.search(&[]).len(), 3);
    damage(&site, "eb-a-20240101-1");
    // One that reads everything anew.
    let fresh = site.daemons.api();
    assert_eq!(fresh.search(&[]).len(), 2);
    assert_eq!(fresh.search(&["n:1"]).len(), 0);
    fresh.wait_for_log("a product is left out of searches: the database holds a broken row", 1);
    // One to which it is known finds it, and goes on.
    assert_eq!(api.search(&["n:2"]).len(), 1);
    assert_eq!(api.search(&[]).len(), 2);
    // Others come and go meanwhile, and it is well again once it is written.
    site.volume.product("eb-1", "eb-a-20240101-1", "x: after\nn: 1");
    site.volume.product("eb-3", "eb-a-20240101-3", "x: after\nn: 3");
    wait_for_hits(&api, "x:after", 2);
    wait_for_hits(&fresh, "x:after", 2);
    assert!(indexer.log().contains("its keys stay counted"), "{}", indexer.log());
    damage(&site, "eb-a-20240101-2");
    std::fs::remove_dir_all(site.volume.at("eb-2")).expect("a folder");
    site.volume.product("eb-4", "eb-a-20240101-4", "x: after\nn: 4");
    wait_for_hits(&api, "x:after", 3);
    api.wait_for_folders(&["eb-0", "eb-1", "eb-3", "eb-4"]);
    assert_eq!(site.database.value("SELECT sum(products)::bigint FROM access_rule"), 4);
}

#[test]
fn what_the_store_could_not_take_is_taken_once_it_can() {
    let site = Site::new().with("DPD_RECONCILE_SECONDS", "1");
    site.products(1);
    let (mut indexer, api) = site.daemons.pair();
    let database = &site.database;
    // No number is left for a key.
    let all_used = "SELECT setval('metadata_key_id_seq', 2147483647)";
    let free = "SELECT setval('metadata_key_id_seq', (SELECT max(id) FROM metadata_key))";
    database.value(all_used);
    site.volume.product("eb-1", "eb-a-20240101-1", "x: known\nn: 7");
    wait_for_hits(&api, "x:known", 1);
    site.volume.product("eb-2", "eb-a-20240101-2", "unheard: of");
    api.wait_for_status("a failing file", |status| status["indexing"]["failing"]["count"] == 1);
    // Neither does a restart lose it, nor what comes then.
    indexer.stop();
    indexer = site.daemons.indexer();
    site.volume.product("eb-3", "eb-a-20240101-3", "x: known\nn: 8");
    wait_for_hits(&api, "x:known", 2);
    assert_eq!(failing(&api), 1);
    database.value(free);
    wait_for_hits(&api, "unheard:of", 1);
    api.wait_for_status("no failing file", |status| status["indexing"]["failing"]["count"] == 0);
    drop(indexer);
}

#[test]
fn a_file_that_was_refused_is_read_again_when_that_is_asked_for() {
    let site = Site::new().with("DPD_RECONCILE_SECONDS", "1");
    let (indexer, api) = site.daemons.pair();
    // As one would be that is more than the tables of this release hold.
    site.database.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         IF NEW.execution_block LIKE '%bad%' THEN RAISE EXCEPTION 'too much' USING ERRCODE = '54000'; END IF; \
         RETURN NEW; END $$; \
         CREATE TRIGGER refuse BEFORE INSERT ON data_product FOR EACH ROW EXECUTE FUNCTION refuse()",
    );
    for (n, block) in ["eb-bad-20240101-0", "eb-bad-20240101-1"].into_iter().enumerate() {
        site.volume.product(&format!("eb-{n}"), block, "x: y");
    }
    api.wait_for_status("failing files", |status| status["indexing"]["failing"]["count"] == 2);
    site.database.execute("DROP TRIGGER refuse ON data_product");
    reindex(&api);
    wait_for_hits(&api, "x:y", 2);
    assert_eq!(failing(&api), json!(0));
    drop(indexer);
}

/// PostgreSQL loses a part of the document of the product that was written last, which is too large for its row.
fn lose_a_part_of_the_last(site: &Site) {
    let toast = site.database.value(
        "SELECT reltoastrelid::regclass::text FROM pg_class WHERE oid = 'document'::regclass AND reltoastrelid <> 0",
    );
    let toast = toast.as_str().expect("a table").to_owned();
    site.database.execute("CREATE EXTENSION IF NOT EXISTS pg_surgery");
    site.database.execute(&format!(
        "SELECT heap_force_kill('{toast}'::regclass, ARRAY(SELECT ctid FROM {toast} WHERE chunk_seq = 1 \
         AND chunk_id = (SELECT max(chunk_id) FROM {toast})))"
    ));
}

#[test]
fn a_row_that_postgresql_cannot_read_costs_its_product_alone() {
    let site = Site::new();
    site.products(3);
    let (indexer, api) = site.daemons.pair();
    // What cannot be compressed.
    let mut state = 1u64;
    let mut text = String::new();
    for _ in 0..2000 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        text.push_str(&format!("{state:016x}"));
    }
    site.volume.product("eb-large", "eb-a-20240101-9", &format!("x: large\ntext: {text}"));
    wait_for_hits(&api, "x:large", 1);
    lose_a_part_of_the_last(&site);
    let unread = "SELECT sum(length(metadata::text))::bigint FROM document";
    assert!(std::panic::catch_unwind(|| site.database.value(unread)).is_err());
    // Who reads all anew, and who knows it already, answer all but that.
    let fresh = site.daemons.api();
    for api in [&fresh, &api] {
        let rows = api.search(&[]);
        assert_eq!(rows.len(), 3, "{rows:?}");
        assert!(api.search(&["x:before"]).len() == 3 && api.search(&["n:2"]).len() == 1);
    }
    fresh.wait_for_log("a product cannot be read", 1);
    // Others come and are put into a segment, which leaves it out.
    for n in 10..300 {
        site.volume.product(&format!("eb-{n}"), &format!("eb-b-20240101-{n}"), "x: after");
    }
    wait_for_hits(&fresh, "x:after", 290);
    let sealed = "SELECT count(*) > 0 FROM segment";
    tests::wait_for("a segment", || (site.database.value(sealed) == true).then_some(()));
    wait_for_hits(&fresh, "x:after", 290);
    // Once its file is another, it is there again, and counted once.
    site.volume.product("eb-large", "eb-a-20240101-9", "x: large again");
    wait_for_hits(&fresh, "x:large again", 1);
    assert_eq!(site.database.value("SELECT sum(products)::bigint FROM access_rule"), 294);
    assert_eq!(failing(&fresh), json!(0), "{}", indexer.log());
}
