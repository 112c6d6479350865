//! Data items of the Data Lifecycle Manager, among the products of a volume.

use crate::daemons::Site;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use tests::dlm::{add, create};
use tests::postgres::{Database, Postgres};
use tests::program::{Daemons, Server};

const EB: &str = "eb-dlm-20250203-00001";

fn site() -> Site {
    let site = Site::new().with("SKA_DATAPRODUCT_DLM_INTERFACE_ENABLED", "true").with("DPD_DLM_LOOK_SECONDS", "1");
    site.volume.product("eb-1", "eb-volume-20250101-00001", "config: {processing_block: pb-a-20250101-0}\nx: both");
    site
}

fn metadata(more: &Value) -> Value {
    let mut metadata = json!({"execution_block": EB, "config": {"processing_block": "pb-a-20250101-0"}, "x": "both"});
    metadata.as_object_mut().expect("a map").extend(more.as_object().cloned().unwrap_or_default());
    metadata
}

/// Waits until what `/status` says of the table is as wanted, and gives it.
fn wait_for(api: &Server, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let own = |status: &Value| status["metadata_store_status"]["dlm_interface_status"].clone();
    own(&api.wait_for_status(what, |status| wanted(&own(status))))
}

fn wait_for_rows(api: &Server, pair: &str, count: usize) -> Vec<Value> {
    tests::wait_for(&format!("{count} of {pair}"), || Some(api.search(&[pair])).filter(|rows| rows.len() == count))
}

#[test]
fn items_stand_among_the_products() {
    let site = site();
    create(&site.database);
    let uid = add(&site.database, "first", Some(&metadata(&json!({"notes": "it's"}))));
    add(&site.database, "other", Some(&metadata(&json!({"execution_block": "eb-dlm-20240203-00001"}))));
    add(&site.database, "hidden", Some(&metadata(&json!({"context": {"access_group": "staff"}}))));
    add(&site.database, "plain", None);
    let (_indexer, api) = site.daemons.pair();
    let rows = wait_for_rows(&api, "x:both", 3);
    // One order: newest first, whichever store.
    let stores: Vec<&Value> = rows.iter().map(|row| &row["metadata_store_name"]).collect();
    let volume = rows[1]["metadata_store_name"].clone();
    assert_eq!(stores, [&json!("DLM"), &volume, &json!("DLM")]);
    let row = &rows[0];
    assert_eq!((&row["uid"], &row["execution_block"]), (&json!(uid), &json!(EB)));
    assert_eq!((&row["dataproduct_file"], &row["metadata_file"]), (&json!("None"), &json!("None")));
    assert_eq!((&row["date_created"], &row["size"]), (&json!("2025-02-03"), &json!(2048)));
    assert_eq!(row["dlm.item_state"], "READY");
    assert_eq!((&row["dlm.item_name"], &row["dlm.uri"]), (&json!("first"), &json!("store/first")));
    let ids: BTreeSet<String> = rows.iter().map(|row| row["id"].to_string()).collect();
    assert_eq!(ids.len(), 3);

    // Filter, order, total and pages go over all of them.
    let page = |page: usize| {
        let sort = json!([{"field": "config.processing_block", "sort": "asc"}]);
        api.filter(&json!({"page": page, "pageSize": 1, "sortModel": sort}))
    };
    let pages: Vec<Value> = (0..3).map(page).collect();
    assert!(pages.iter().all(|page| page["total"] == 3), "{pages:?}");
    let seen: BTreeSet<String> = pages.iter().map(|page| page["data"][0]["uid"].to_string()).collect();
    assert_eq!(seen.len(), 3);
    let item = json!({"field": "metadata_store_name", "operator": "equals", "value": "DLM"});
    assert_eq!(api.filter(&json!({"filterModel": {"items": [item]}}))["total"], 2);
    let item = json!({"field": "dlm.item_state", "operator": "equals", "value": "ready"});
    assert_eq!(api.filter(&json!({"filterModel": {"items": [item]}}))["total"], 2);
    let fields = api.get_json("/muidatagridconfig")["columns"].to_string();
    assert!(fields.contains("\"dlm.item_state\""), "{fields}");

    // By uid, whatever store a caller names; access groups hold; there is nothing to download.
    let body = json!({"uid": uid, "data_store": "volume", "metadata_store_name": "elsewhere"});
    assert_eq!(api.post("/dataproductmetadata", &body).json()["notes"], "it's");
    let hidden = site.database.value("SELECT uid FROM dlm.data_item WHERE item_name = 'hidden'");
    assert_eq!(api.post("/dataproductmetadata", &json!({"uid": hidden})).status, 404);
    assert_eq!(api.post("/download", &json!({"uid": uid})).status, 404);

    let status = api.status();
    assert_eq!(status["available_data_stores"][0], "DLM");
    assert_eq!(status["metadata_store_status"]["dlm_interface_enabled"], true);
    let dlm = wait_for(&api, "the counts", |dlm| dlm["number_of_dataproducts"] == 3);
    assert_eq!((&dlm["number_of_items"], &dlm["dlm_tables_error"]), (&json!(4), &Value::Null));
    assert_eq!((&dlm["dlm_tables_accessible"], &dlm["dlm_data_item_accessible"]), (&json!(true), &json!(true)));
}

#[test]
fn changes_show() {
    let site = site();
    create(&site.database);
    let (_indexer, api) = site.daemons.pair();
    for n in 0..6 {
        add(&site.database, &format!("item-{n}"), Some(&metadata(&json!({"n": n}))));
    }
    wait_for_rows(&api, "x:both", 7);
    let update = |n: usize, set: &str| {
        site.database.execute(&format!("UPDATE dlm.data_item SET {set} WHERE item_name = 'item-{n}'"));
    };
    update(0, "deleted = true");
    update(1, "item_state = 'DELETED'");
    update(2, "metadata = NULL");
    update(3, "metadata = metadata || '{\"x\": \"changed\"}'");
    update(4, "item_state = 'EXPIRED', item_size = NULL");
    site.database.execute("DELETE FROM dlm.data_item WHERE item_name = 'item-5'");
    wait_for_rows(&api, "x:changed", 1);
    let rows = wait_for_rows(&api, "x:both", 2);
    let expired = rows.iter().find(|row| row["metadata_store_name"] == "DLM").expect("an item");
    assert_eq!((&expired["dlm.item_state"], expired.get("size")), (&json!("EXPIRED"), None));
    update(0, "deleted = false");
    wait_for_rows(&api, "n:0", 1);
    site.database.execute("TRUNCATE dlm.data_item");
    wait_for_rows(&api, "dlm.item_state:", 0);
    assert_eq!(api.search(&[]).len(), 1);
}

#[test]
fn odd_metadata_is_counted_and_passed_over() {
    let site = site();
    create(&site.database);
    let odd = [json!("text"), json!([1, 2]), json!(5), json!({"execution_block": 5}), json!({"execution_block": null})];
    for (n, metadata) in odd.iter().enumerate() {
        add(&site.database, &format!("odd-{n}"), Some(metadata));
    }
    // A number that no double holds, which keeps its text; nesting beyond any sense, and text that PostgreSQL has trouble
    // with.
    site.database.execute("INSERT INTO dlm.data_item (item_name, metadata) VALUES ('large', '{\"execution_block\": \"eb\", \"n\": 1e400}')");
    let deep = format!("{}1{}", "[".repeat(500), "]".repeat(500));
    site.database.execute(&format!(
        "INSERT INTO dlm.data_item (item_name, metadata) VALUES ('deep', '{{\"execution_block\": \"eb\", \"d\": {deep}}}')"
    ));
    add(&site.database, "good", Some(&metadata(&json!({"odd": "\u{1F52D} %_\\", "duplicate": {"a": [null, {}]}}))));
    let (indexer, api) = site.daemons.pair();
    wait_for_rows(&api, "x:both", 2);
    let dlm = wait_for(&api, "the count", |dlm| dlm["items_passed_over"] == 6);
    let large = wait_for_rows(&api, "dlm.item_name:large", 1);
    assert_eq!(large[0]["n"], format!("1{}", "0".repeat(400)));
    assert!(dlm["first_item_passed_over"].is_string() && dlm["dlm_tables_accessible"] == true, "{dlm}");
    // Not told again with every look.
    site.database.execute("UPDATE dlm.data_item SET item_name = 'better' WHERE item_name = 'good'");
    wait_for_rows(&api, "dlm.item_name:better", 1);
    indexer.wait_for_log("a data item of the Data Lifecycle Manager is passed over", 6);
}

/// Waits until an indexer's log says so, for the time of this number at least, and an API that the table cannot be read; not
/// in whose words.
fn wait_for_trouble(indexer: &Server, api: &Server, why: &str, times: usize) -> Value {
    let said = || {
        let log = indexer.log();
        log.lines().filter(|line| line.contains("cannot be read: ") && line.contains(why)).count() >= times
    };
    tests::wait_for(why, || said().then_some(()));
    let untold = "it cannot be read; the indexer's log says why";
    wait_for(api, why, |dlm| dlm["dlm_tables_error"] == untold && dlm["dlm_tables_accessible"] == false)
}

#[test]
fn a_missing_table_comes() {
    let site = site();
    let (indexer, api) = site.daemons.pair();
    let dlm = wait_for_trouble(&indexer, &api, "no table dlm.data_item", 1);
    assert_eq!((&dlm["dlm_tables_accessible"], &dlm["number_of_items"]), (&json!(false), &json!(0)));
    assert_eq!(api.search(&[]).len(), 1);
    create(&site.database);
    add(&site.database, "first", Some(&metadata(&json!({}))));
    wait_for_rows(&api, "x:both", 2);
    // A column goes: what was read stays, and everything else works.
    site.database.execute("ALTER TABLE dlm.data_item DROP COLUMN uri");
    wait_for_trouble(&indexer, &api, "uri", 1);
    site.volume.product("eb-2", "eb-volume-20250101-00002", "x: both");
    wait_for_rows(&api, "x:both", 3);
    // It comes back with another type, and others that nobody knows are there as well.
    site.database.execute("ALTER TABLE dlm.data_item ADD COLUMN uri text, ADD COLUMN novel integer");
    add(&site.database, "second", Some(&metadata(&json!({}))));
    wait_for_rows(&api, "x:both", 4);
    wait_for(&api, "no error", |dlm| dlm["dlm_tables_error"].is_null() && dlm["dlm_tables_accessible"] == true);
}

/// Daemons with a role that owns our schema and nothing of the manager's.
fn as_other_role(site: &Site, role: &str) -> Daemons {
    let name = site.database.name();
    site.database.execute(&format!("CREATE ROLE {role} LOGIN; GRANT CREATE ON DATABASE {name} TO {role}"));
    let url = site.database.url().replace("postgres@", &format!("{role}@"));
    site.daemons.with("DATABASE_URL", url).with("SKA_DATAPRODUCT_API_POSTGRESQL_SCHEMA", "ours")
}

#[test]
fn rights_come_and_go() {
    let site = site();
    create(&site.database);
    add(&site.database, "first", Some(&metadata(&json!({}))));
    let role = format!("role_{}", site.database.name());
    let (indexer, api) = as_other_role(&site, &role).pair();
    wait_for_trouble(&indexer, &api, "permission denied", 1);
    assert_eq!(api.search(&[]).len(), 1);
    let grant = |what: &str| site.database.execute(&format!("GRANT {what} TO {role}"));
    grant("USAGE ON SCHEMA dlm");
    // Columns alone will do.
    grant("SELECT (uid, item_name, item_state, uri, item_size, deleted, metadata) ON dlm.data_item");
    wait_for_rows(&api, "x:both", 2);
    site.database.execute(&format!("REVOKE ALL ON dlm.data_item FROM {role}"));
    site.database.execute(&format!("REVOKE SELECT (uid, metadata) ON dlm.data_item FROM {role}"));
    wait_for_trouble(&indexer, &api, "permission denied", 2);
    assert_eq!(api.search(&["x:both"]).len(), 2);
    grant("SELECT ON dlm.data_item");
    site.database.execute("UPDATE dlm.data_item SET metadata = metadata || '{\"x\": \"seen\"}'");
    wait_for_rows(&api, "x:seen", 1);
    drop(api);
    site.database.execute(&format!("DROP OWNED BY {role} CASCADE"));
}

#[test]
fn a_lock_on_the_table_holds_up_nothing_else() {
    let site = Site::on(Postgres::shared().database())
        .with("SKA_DATAPRODUCT_DLM_INTERFACE_ENABLED", "true")
        .with("DPD_DLM_LOOK_SECONDS", "1");
    create(&site.database);
    add(&site.database, "first", Some(&metadata(&json!({}))));
    let (indexer, api) = site.daemons.pair();
    wait_for_rows(&api, "x:both", 1);
    let lock = site.database.lock("dlm.data_item");
    // Something that makes the next look compare.
    site.database.execute("GRANT USAGE ON SCHEMA dlm TO PUBLIC");
    wait_for_trouble(&indexer, &api, "lock", 1);
    site.volume.product("eb-2", "eb-volume-20250101-00002", "x: both");
    wait_for_rows(&api, "x:both", 2);
    assert_eq!(api.filter(&json!({}))["total"], 2);
    drop(lock);
    wait_for(&api, "no error", |dlm| dlm["dlm_tables_error"].is_null() && dlm["dlm_tables_accessible"] == true);
}

/// How often the table and its indexes were read.
fn reads(database: &Database) -> Value {
    database.value("SELECT seq_scan + idx_scan FROM pg_stat_user_tables WHERE schemaname = 'dlm'")
}

#[test]
fn no_request_reads_the_table() {
    let site = site();
    create(&site.database);
    let uid = add(&site.database, "first", Some(&metadata(&json!({}))));
    let (indexer, api) = site.daemons.pair();
    wait_for_rows(&api, "x:both", 2);
    indexer.stop();
    let settled = || {
        let before = reads(&site.database);
        // What an ended session read is counted a moment later.
        std::thread::park_timeout(std::time::Duration::from_millis(1200));
        (reads(&site.database) == before).then_some(before)
    };
    let before = tests::wait_for("its reads to be counted", settled);
    for body in [json!({}), json!({"sortModel": [{"field": "x", "sort": "asc"}]})] {
        api.filter(&body);
    }
    api.post("/dataproductmetadata", &json!({"uid": uid}));
    api.post("/dataproductmetadata", &json!({"execution_block": EB}));
    api.search(&["x:both"]);
    api.get_json("/muidatagridconfig");
    let dlm = api.status()["metadata_store_status"]["dlm_interface_status"].clone();
    assert_eq!((&dlm["number_of_items"], &dlm["dlm_tables_accessible"]), (&json!(1), &json!(false)));
    assert!(dlm["dlm_tables_error"].as_str().is_some_and(|why| why.contains("no indexer")), "{dlm}");
    assert_eq!(tests::wait_for("its reads to be counted", settled), before);
}

#[test]
fn once_it_is_not_followed_items_leave() {
    let site = site();
    create(&site.database);
    add(&site.database, "first", Some(&metadata(&json!({}))));
    let (indexer, api) = site.daemons.pair();
    wait_for_rows(&api, "x:both", 2);
    indexer.stop();
    let (_indexer, api) = site.daemons.with("SKA_DATAPRODUCT_DLM_INTERFACE_ENABLED", "false").pair();
    wait_for_rows(&api, "x:both", 1);
    let status = api.status();
    assert_eq!(status["metadata_store_status"]["dlm_interface_enabled"], false);
    assert_eq!(status["metadata_store_status"]["dlm_interface_status"]["dlm_tables_error"], Value::Null);
    assert!(!status["available_data_stores"].as_array().expect("stores").contains(&json!("DLM")));
}
