//! What is dumped while all runs, and restored into another database, is the index that it was.

use crate::daemons::Site;
use serde_json::json;
use std::process::Command;
use tests::postgres::{Postgres, program};

fn done(mut command: Command) {
    let output = command.output().expect("its end");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn an_index_is_restored_into_another_database_with_what_cannot_be_made_again() {
    let site = Site::new().with("SKA_DATAPRODUCT_API_POSTGRESQL_SCHEMA", "own");
    site.products(300);
    let (indexer, api) = site.daemons.pair();
    let uid = api.search(&["n:7"])[0]["uid"].as_str().expect("a uid").to_owned();
    let annotation = |text: &str| json!({"data_product_uid": uid, "annotation_text": text});
    assert_eq!(api.post("/annotation", &annotation("kept")).status, 201);
    let brought = json!({"execution_block": "eb-test-20240806-99999", "context": {"observer": "REST"}});
    assert_eq!(api.post("/ingestnewmetadata", &brought).status, 201);

    let folder = tempfile::tempdir().expect("a folder");
    let dump = folder.path().join("own.dump");
    let mut dumping = program("pg_dump");
    dumping.args(["--format=custom", "--schema=own", "--file"]).arg(&dump).arg(site.database.url());
    done(dumping);
    // What came after it is found by the walk.
    site.volume.product("later", "eb-m-20240901-1", "x: later");
    api.stop();
    indexer.stop();

    let other = Postgres::shared().empty_database();
    let mut restoring = program("pg_restore");
    restoring.args(["--no-owner", "--dbname", &other.url()]).arg(&dump);
    done(restoring);
    let daemons = site.daemons.with("DATABASE_URL", other.url());
    assert_eq!(super::ended(&daemons, &["migrate", "--check"]).0, 0);
    // Before any indexer is there.
    let api = daemons.api();
    tests::wait_for("an API", || (api.get("/readyz").status == 200).then_some(()));
    assert_eq!((api.folders().len(), api.search(&["observer:REST"]).len()), (301, 1));
    let indexer = daemons.indexer();
    tests::wait_for("what came later", || (api.search(&["x:later"]).len() == 1).then_some(()));
    indexer.wait_for_log("found=301 added=1 updated=0", 1);
    let texts = || {
        let all = api.get_json(&format!("/annotations/{uid}"));
        let text = |own: &serde_json::Value| own["annotation_text"].as_str().expect("a text").to_owned();
        all.as_array().expect("a list").iter().map(text).collect::<Vec<_>>()
    };
    assert_eq!(texts(), ["kept"]);
    assert_eq!(api.post("/annotation", &annotation("next")).status, 201);
    assert_eq!(texts(), ["kept", "next"]);
    assert_eq!(other.value("SELECT count(DISTINCT id) FROM own.annotation"), 2);
    let found = api.filter(&json!({"filterModel": {"items": [
        {"field": "annotation", "operator": "contains", "value": "KEPT"}
    ]}}));
    assert_eq!(found["total"], 1);
}
