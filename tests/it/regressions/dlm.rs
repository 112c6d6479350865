//! Data items of the Data Lifecycle Manager as they are in the field.

use crate::daemons::{Site, wait_for_hits};
use serde_json::{Value, json};
use tests::dlm::{add, create};
use tests::program::Server;

fn site() -> Site {
    let site = Site::new().with("SKA_DATAPRODUCT_DLM_INTERFACE_ENABLED", "true").with("DPD_DLM_LOOK_SECONDS", "1");
    create(&site.database);
    site
}

/// Waits until what `/status` says of the table is as wanted, and gives it.
fn wait_for(api: &Server, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let own = |status: &Value| status["metadata_store_status"]["dlm_interface_status"].clone();
    own(&api.wait_for_status(what, |status| wanted(&own(status))))
}

#[test]
fn items_that_name_no_execution_block_are_no_fault() {
    let site = site();
    site.database.execute(
        "INSERT INTO dlm.data_item (uid, item_name, metadata) SELECT uid, n::text, \
         jsonb_build_object('uid', uid, 'item_name', n::text) \
         FROM (SELECT gen_random_uuid() AS uid, n FROM generate_series(1, 2000) n) i",
    );
    add(&site.database, "null", Some(&Value::Null));
    add(&site.database, "product", Some(&json!({"execution_block": "eb-d-20240101-1", "x": "here"})));
    add(&site.database, "odd", Some(&json!({"execution_block": null})));
    let (indexer, api) = site.daemons.pair();
    wait_for_hits(&api, "x:here", 1);
    let dlm = wait_for(&api, "the counts", |dlm| dlm["number_of_items"] == 2003 && dlm["items_passed_over"] == 1);
    assert_eq!(dlm["number_of_dataproducts"], 1);
    let odd = site.database.value("SELECT uid FROM dlm.data_item WHERE item_name = 'odd'");
    let first = dlm["first_item_passed_over"].as_str().expect("a reason");
    assert!(first.starts_with(odd.as_str().expect("a uid")), "{first}");
    let noted = || site.database.value("SELECT count(*) FROM dlm_item");
    assert_eq!(noted(), json!(2));
    // One that becomes such an item leaves.
    site.database
        .execute("UPDATE dlm.data_item SET metadata = metadata - 'execution_block' WHERE item_name = 'product'");
    wait_for_hits(&api, "x:here", 0);
    wait_for(&api, "the counts", |dlm| dlm["number_of_dataproducts"] == 0);
    assert_eq!(noted(), json!(1));
    assert_eq!(indexer.log().matches("passed over").count(), 1, "{}", indexer.log());
}

#[test]
fn copies_of_an_item_are_told_apart() {
    let site = site();
    let (oid, storage) = ("4e1c2bd6-1f58-4e5e-8d3e-a2a8f2d64d34", "7b9e8a67-9f3b-4f5c-9a5a-0f5d5a6b7c8d");
    for name in ["one", "two"] {
        add(&site.database, name, Some(&json!({"execution_block": "eb-d-20240101-1", "x": "copy"})));
    }
    site.database.execute(&format!("UPDATE dlm.data_item SET oid = '{oid}', item_version = 3"));
    site.database.execute(&format!("UPDATE dlm.data_item SET storage_id = '{storage}' WHERE item_name = 'two'"));
    let (_indexer, api) = site.daemons.pair();
    wait_for_hits(&api, &format!("dlm.oid:{oid}"), 2);
    let row = &api.search(&[&format!("dlm.storage_id:{storage}")])[0];
    assert_eq!(
        (&row["dlm.item_name"], &row["dlm.oid"], &row["dlm.item_version"]),
        (&json!("two"), &json!(oid), &json!(3))
    );
    let metadata = api.post("/dataproductmetadata", &json!({"uid": row["uid"]})).json();
    assert_eq!(metadata["dlm"]["storage_id"], storage);
    // What is not there does not show, and holds nothing up.
    site.database.execute("ALTER TABLE dlm.data_item DROP COLUMN storage_id, DROP COLUMN item_version");
    wait_for_hits(&api, &format!("dlm.storage_id:{storage}"), 0);
    wait_for_hits(&api, "x:copy", 2);
    wait_for(&api, "no error", |dlm| dlm["dlm_tables_error"].is_null() && dlm["dlm_tables_accessible"] == true);
}

#[test]
fn what_the_manager_knows_wins_under_both_spellings() {
    let site = site();
    let own = json!({"execution_block": "eb-d-20240101-7", "dlm": {"item_name": "mine", "x": 1}, "dlm.uri": "z"});
    add(&site.database, "i", Some(&own));
    let (_indexer, api) = site.daemons.pair();
    wait_for_hits(&api, "execution_block:eb-d-20240101-7", 1);
    let row = &api.search(&["execution_block:eb-d-20240101-7"])[0];
    assert_eq!((&row["dlm.item_name"], &row["dlm.uri"], &row["dlm.x"]), (&json!("i"), &json!("store/i"), &json!(1)));
    wait_for_hits(&api, "dlm.uri:z", 0);
    wait_for_hits(&api, "dlm.item_name:mine", 0);
}

#[test]
fn an_item_out_of_range_holds_up_no_other() {
    let site = site();
    site.database.execute("ALTER TABLE dlm.data_item ALTER COLUMN item_size TYPE numeric");
    for n in 0..20 {
        add(&site.database, &format!("item-{n}"), Some(&json!({"execution_block": "eb-d-20240101-1", "x": "good"})));
    }
    let set = |name: &str, what: &str| {
        site.database.execute(&format!("UPDATE dlm.data_item SET {what} WHERE item_name = '{name}'"));
    };
    set("item-0", "item_size = 1e300");
    set("item-1", "item_size = 'NaN'");
    // More text than PostgreSQL can write out.
    set("item-3", "metadata = metadata || jsonb_build_object('n', repeat(E'\\x01', 190000000))");
    // No faults: a number that no double holds keeps its text.
    set("item-2", "metadata = jsonb_set(metadata, '{n}', '1e400')");
    set("item-4", "uid_creation = 'infinity', uid_expiration = '-infinity', item_size = -1, item_version = NULL");
    let (indexer, api) = site.daemons.pair();
    wait_for_hits(&api, "x:good", 17);
    let dlm = wait_for(&api, "the count", |dlm| dlm["items_passed_over"] == 3);
    assert_eq!((&dlm["number_of_dataproducts"], &dlm["dlm_tables_error"]), (&json!(17), &Value::Null));
    for n in [0, 1, 3] {
        let uid = site.database.value(&format!("SELECT uid FROM dlm.data_item WHERE item_name = 'item-{n}'"));
        let uid = uid.as_str().expect("a uid");
        indexer.wait_for_log(uid, 1);
    }
    assert_eq!(api.search(&["dlm.item_name:item-4"])[0].get("size"), None);
}

#[test]
fn products_are_counted_while_the_table_cannot_be_read() {
    let site = site();
    for name in ["one", "two"] {
        add(&site.database, name, Some(&json!({"execution_block": "eb-d-20240101-1", "x": "good"})));
    }
    let (indexer, api) = site.daemons.pair();
    wait_for_hits(&api, "x:good", 2);
    wait_for(&api, "the counts", |dlm| dlm["number_of_dataproducts"] == 2);
    indexer.stop();
    site.database.execute("ALTER TABLE dlm.data_item RENAME TO elsewhere");
    let _indexer = site.daemons.indexer();
    let gone = |dlm: &Value| dlm["dlm_tables_error"].as_str().is_some_and(|why| why.contains("cannot be read"));
    let dlm = wait_for(&api, "the error", gone);
    assert_eq!((&dlm["number_of_dataproducts"], &dlm["number_of_items"]), (&json!(2), &json!(2)));
    assert_eq!(api.search(&["x:good"]).len(), 2);
}
