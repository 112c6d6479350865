//! Keys that somebody brings in numbers: they cost others little, and go when he takes them back.

use super::{Running, both, daemons};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicUsize, Ordering};
use tests::volume::METADATA;

/// Metadata with so many keys of its own, some of which stand below a list.
fn poison(block: usize, keys: usize) -> Value {
    let own = |kind: &str, n: usize| (format!("{kind}{block}_{n:05}"), json!(n));
    let listed: Vec<Value> = (0..keys / 2).map(|n| Value::Object([own("listed", n)].into_iter().collect())).collect();
    let mut metadata: serde_json::Map<String, Value> = (0..keys / 2).map(|n| own("beside", n)).collect();
    metadata.insert("execution_block".to_owned(), block_of(block).into());
    metadata.insert("files".to_owned(), listed.into());
    metadata.into()
}

fn block_of(block: usize) -> String {
    format!("eb-poison-2019010{block}-1")
}

/// Products with a list whose key is counted for the product alone, and not for what is in the list.
fn with_lists(volume: &tests::volume::Volume) {
    for n in 0..300 {
        let folder = format!("p{n}");
        let files = format!("files:\n- crc: crc{n}x\n- crc: more{n}x\n");
        volume.write(&format!("{folder}/{METADATA}"), format!("execution_block: eb-plain-20240101-{n}\n{files}"));
    }
}

fn ask(running: &Running, pairs: &[String]) -> u16 {
    running.api.post("/dataproductsearch", &json!({ "key_value_pairs": pairs })).status
}

#[test]
fn what_is_brought_again_takes_no_numbers() {
    let running = daemons(|_| (), &[]);
    let database = running.database();
    let metadata = poison(1, 20);
    assert_eq!(running.api.post("/ingestnewmetadata", &metadata).status, 201);
    let last = "SELECT last_value FROM metadata_key_id_seq";
    let before = database.value(last);
    for _ in 0..20 {
        assert_eq!(running.api.post("/ingestnewmetadata", &metadata).status, 201);
    }
    assert_eq!(database.value(last), before);
}

#[test]
fn more_keys_than_a_product_may_have_are_refused() {
    for running in both(|_| (), &[]) {
        let answer = running.api.post("/ingestnewmetadata", &poison(1, 5002));
        assert_eq!(answer.status, 422, "{}", answer.json());
        assert!(answer.json()["detail"].to_string().contains("more than 5000 distinct keys"), "{}", answer.json());
        assert_eq!(running.api.post("/ingestnewmetadata", &poison(1, 4900)).status, 201);
    }
}

#[test]
fn there_are_columns_of_the_keys_that_most_products_have() {
    for running in both(with_lists, &[]) {
        let before = running.api.get_json("/muidatagridconfig");
        assert_eq!(before["columns_left_out"], Value::Null);
        assert_eq!(running.api.post("/ingestnewmetadata", &poison(1, 4900)).status, 201);
        let config = running.api.get_json("/muidatagridconfig");
        let columns = config["columns"].as_array().expect("columns");
        assert!(columns.len() < 2020, "{}", columns.len());
        assert!(columns.iter().any(|column| column["field"] == "files"));
        // 2450 of its own and `files`, of which there are columns of 2000.
        assert_eq!(config["columns_left_out"], 451);
        // Any of them can be searched by.
        assert_eq!(running.api.search(&["beside1_02449:2449"]).len(), 1);
        assert_eq!(running.api.search(&["listed1_02449:2449"]).len(), 1);
    }
}

#[test]
fn keys_go_with_the_last_product_that_has_them() {
    let running = daemons(with_lists, &[]);
    let database = running.database();
    // So that some of what is looked at is in a segment.
    tests::wait_for("a segment", || (database.value("SELECT count(*) > 0 FROM segment") == true).then_some(()));
    let count = "SELECT count(*) FROM metadata_key";
    let before = database.value(count);
    for block in 1..=4 {
        assert_eq!(running.api.post("/ingestnewmetadata", &poison(block, 4900)).status, 201);
    }
    assert_eq!(running.api.search(&["listed4_00001:1"]).len(), 1);
    for block in 1..=4 {
        let alone = json!({"execution_block": block_of(block)});
        assert_eq!(running.api.post("/ingestnewmetadata", &alone).status, 201);
    }
    tests::wait_for("the keys to go", || (database.value(count) == before).then_some(()));
    // What others have is found, before and after it is written again, and so is what takes a key that was gone.
    let found = |pair: &str| running.api.search(&[pair]).len();
    assert_eq!((found("files.crc:crc7x"), found("crc:more299x"), found("listed4_00001:1")), (1, 1, 0));
    let taken = "files:\n- crc: other\n- listed4_00001: taken";
    running.volume.write(&format!("p7/{METADATA}"), format!("execution_block: eb-plain-20240101-7\n{taken}\n"));
    tests::wait_for("what was written", || (found("crc:other") == 1).then_some(()));
    assert_eq!((found("files.crc:crc7x"), found("files.listed4_00001:taken")), (0, 1));
    assert_eq!(running.api.post("/ingestnewmetadata", &poison(1, 40)).status, 201);
    assert_eq!((found("listed1_00001:1"), found("beside1_00001:1"), found("crc:crc8x")), (1, 1, 1));
}

#[test]
fn searches_leave_others_their_connections() {
    let running = daemons(with_lists, &[("DPD_POSTGRESQL_TIMEOUT_SECONDS", "60")]);
    let database = running.database();
    let uid = running.api.search(&["execution_block:eb-plain-20240101-1"])[0]["uid"].clone();
    // Searches that take as long as anybody wants: nobody gets at what they ask about.
    let lock = database.lock("annotation");
    let answered = AtomicUsize::new(0);
    let words: Vec<String> = (0..500).map(|n| format!("annotation:word{n}")).collect();
    std::thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| {
                ask(&running, &words);
                answered.fetch_add(1, Ordering::Relaxed);
            });
        }
        tests::wait_for("searches that wait", || {
            let waiting = "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%FROM annotation%'";
            (database.value(waiting) == true).then_some(())
        });
        for _ in 0..3 {
            assert_eq!(running.api.get("/readyz").status, 200);
            assert_eq!(running.api.status()["api_running"], true);
            assert_eq!(running.api.post("/dataproductmetadata", &json!({ "uid": uid })).status, 200);
            assert_eq!(running.api.get("/muidatagridconfig").status, 200);
            assert_eq!(running.api.search(&[]).len(), 300);
        }
        assert_eq!(answered.load(Ordering::Relaxed), 0);
        drop(lock);
    });
}
