//! How both programs say that they are.

use super::Site;
use serde_json::{Value, json};
use std::fs;
use tests::program::Server;

/// What the database says is as it is whoever is asked; what a process says of itself is not.
fn shared_part(status: &Value) -> Value {
    let mut status = status.clone();
    status["startup_time"] = Value::Null;
    status["indexing"]["coordination_state"]["last_heartbeat"] = Value::Null;
    status
}

fn time(value: &Value) -> &str {
    let text = value.as_str().expect("a time");
    assert!(text.ends_with("+00:00") && text.len() == "2026-05-21T08:48:00.626127+00:00".len(), "{text}");
    text
}

#[test]
fn every_api_tells_the_same_of_the_index() {
    let site = Site::new().with("PVCNAME", "shared").with("SKA_DATAPRODUCT_API_VERSION", "0.19.1");
    site.products(3);
    site.volume.product("broken", "[", "");
    let (indexer, api) = site.daemons.pair();
    let other = site.daemons.api();
    api.wait_for_status("the broken file", |status| status["indexing"]["failing"]["count"] == 1);
    let unmeasured = "SELECT count(*) FROM data_product WHERE NOT measured";
    tests::wait_for("all sizes", || (site.database.value(unmeasured) == 0).then_some(()));
    let status = api.status();
    assert_eq!(shared_part(&status), shared_part(&other.status()));

    assert_eq!(status["api_running"], true);
    assert_eq!(status["api_version"], "0.19.1");
    assert_eq!(status["available_data_stores"], json!(["shared"]));
    let store = &status["metadata_store_status"];
    assert_eq!(store["store_type"], "Stateless PostgreSQL metadata store");
    assert_eq!(store["db_status"], json!({"configured": true, "running": true}));
    assert_eq!(store["number_of_dataproducts"], 3);
    assert!(store.get("running").is_none() && store.get("error").is_none());
    assert_eq!(status["search_store_status"], json!({"metadata_search_store_in_use": "PostgreSQL Search Store"}));
    let volume = &status["pv_interface_status"];
    assert_eq!((&volume["metadata_store_name"], &volume["pv_available"]), (&json!("shared"), &json!(true)));
    assert_eq!(volume["number_of_data_products_on_pv"], 3);
    assert_eq!(volume["last_index_run"]["timed_out"], false);
    assert_eq!(volume["last_index_run"]["files_ingested"], 3);

    let state = &status["indexing"]["coordination_state"];
    let id = fs::read_to_string(site.volume.at(".dpd-volume-id")).expect("an identity");
    let digits: String = id.chars().filter(char::is_ascii_hexdigit).take(12).collect();
    let own = indexer.status();
    assert_eq!(state["volume_prefix"], format!("dpd_{digits}"));
    assert_eq!((&own["volume_prefix"], &own["name"]), (&state["volume_prefix"], &state["indexed_by"]));
    assert_eq!(state["indexing_running"], false);
    assert_eq!(state["files_indexed"], 4);
    assert_eq!(
        (&state["epoch"], &state["indexer_alive"], &state["reindex_waits"]),
        (&json!(1), &json!(true), &json!(false))
    );
    let times = ["started_at", "completed_at", "last_heartbeat"].map(|name| time(&state[name]));
    assert!(times[0] < times[1], "{times:?}");
    assert_eq!(status["indexing"]["watch"]["folders_watched"], 5);
    let before = times[2].to_owned();
    // Five times a term, which is 15 seconds.
    api.wait_for_status("a heartbeat", |status| {
        time(&status["indexing"]["coordination_state"]["last_heartbeat"]) > before.as_str()
    });

    indexer.stop();
    let status = other.status();
    assert_eq!(status["indexing"]["coordination_state"]["indexer_alive"], false);
    assert_eq!(status["metadata_store_status"]["number_of_dataproducts"], 3);
    // A number and a host say who: the next is another.
    let next = site.daemons.indexer();
    let status =
        api.wait_for_status("the next holder", |status| status["indexing"]["coordination_state"]["epoch"] == 2);
    assert_eq!(status["indexing"]["coordination_state"]["indexed_by"], next.status()["name"]);
}

fn answers(server: &Server, path: &str) -> (u16, Value) {
    let answer = server.get(path);
    (answer.status, answer.json())
}

#[test]
fn both_programs_say_whether_they_live_and_are_ready() {
    let site = Site::new();
    let (indexer, api) = site.daemons.pair();
    let standby = site.daemons.indexer();
    standby.wait_for_state("standing by");
    for server in [&indexer, &api, &standby] {
        for path in ["/livez", "/readyz"] {
            assert_eq!(answers(server, path), (200, json!({"status": "ok"})));
        }
    }
    let status = indexer.status();
    assert_eq!(status["program"], "dpd-indexer");
    assert_eq!((&status["state"], &status["epoch"]), (&json!("holding the lease"), &json!(1)));
    assert_eq!(status["waits_for"], Value::Null);
    assert_eq!(status["storage_path"], json!(site.volume.path()));
    assert_eq!(standby.status()["epoch"], Value::Null);
    assert_eq!(answers(&indexer, "/dataproductsearch").0, 404);
    assert_eq!(indexer.post("/status", &json!({})).status, 405);
}
