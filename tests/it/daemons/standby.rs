//! APIs that read in a hot standby: what they answer is what it has replayed, nobody misses what he wrote, and what is wrong
//! with the standby nobody hears of.

use super::{Site, wait_for_hits};
use serde_json::json;
use std::sync::atomic::{AtomicBool, Ordering};
use tests::postgres::{Postgres, Standby};
use tests::program::{Answer, Server};

/// A volume whose index has a standby, and an API that reads there.
fn site() -> (Postgres, Standby, Site) {
    let server = Postgres::start();
    let site = Site::on(server.database());
    let standby = server.standby();
    let url = site.database.url_through(standby.port());
    (server, standby, site.with("DPD_READ_DATABASE_URL", &url))
}

fn search(api: &Server) -> Answer {
    api.post("/dataproductsearch", &json!({}))
}

fn as_of(answer: &Answer) -> chrono::DateTime<chrono::FixedOffset> {
    let text = answer.header("x-index-as-of");
    chrono::DateTime::parse_from_rfc3339(text).unwrap_or_else(|error| panic!("{error}: {text:?}"))
}

fn count(answer: &Answer) -> usize {
    answer.json().as_array().expect("rows").len()
}

/// Stops or resumes replaying.
fn pause(standby: &Standby, on: bool) {
    let (ask, state) = if on { ("pg_wal_replay_pause", "paused") } else { ("pg_wal_replay_resume", "not paused") };
    standby.value(&format!("SELECT {ask}()::text"));
    tests::wait_for(state, || (standby.value("SELECT pg_get_wal_replay_pause_state()") == state).then_some(()));
}

#[test]
fn what_a_standby_has_replayed_is_found_and_what_one_wrote_oneself() {
    let (server, standby, site) = site();
    site.products(2);
    let (_indexer, api) = site.daemons.pair();
    wait_for_hits(&api, "x:before", 2);
    // What is missing there would be read in the primary.
    server.wait_for(&standby);
    let reads = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'dpd-api%reading'";
    assert_ne!(standby.value(reads), 0);
    assert_eq!(site.database.value(reads), 0);

    pause(&standby, true);
    let before = as_of(&search(&api));
    site.volume.product("eb-new", "eb-a-20240102-1", "x: before");
    let rows = "SELECT count(*) FROM data_product";
    tests::wait_for("the primary", || (site.database.value(rows) == 3).then_some(()));
    let answer = search(&api);
    assert_eq!(count(&answer), 2);
    let written = site.database.value("SELECT written_at FROM data_product WHERE folder = 'eb-new'");
    let written = chrono::DateTime::parse_from_rfc3339(written.as_str().expect("a time")).expect("a time");
    assert!(before <= as_of(&answer) && as_of(&answer) < written, "{before} {answer:?} {written}");
    // How indexing stands is as the primary has it.
    let status = api.status();
    assert_eq!(status["metadata_store_status"]["number_of_dataproducts"], 3);
    assert_eq!(status["indexing"]["coordination_state"]["indexer_alive"], true);

    // Whoever writes finds what he wrote, and all that was written before.
    let metadata = json!({"execution_block": "eb-own-20240103-1", "x": "own"});
    assert_eq!(api.post("/ingestnewmetadata", &metadata).status, 201);
    let answer = search(&api);
    assert_eq!(count(&answer), 4);
    assert!(as_of(&answer) > before);
    let uid = answer.json()[0]["uid"].clone();
    let note = json!({"data_product_uid": uid, "annotation_text": "seen", "user_principal_name": "me"});
    assert_eq!(api.post("/annotation", &note).status, 201);
    let list = format!("/annotations/{}", uid.as_str().expect("a uid"));
    assert_eq!(api.get(&list).json()[0]["annotation_text"], "seen");
    // Another API did not write, and reads what was replayed.
    let other = site.daemons.api();
    assert_eq!(count(&search(&other)), 2);

    pause(&standby, false);
    for api in [&api, &other] {
        tests::wait_for("all of it", || (count(&search(api)) == 4).then_some(()));
        assert_eq!(api.get(&list).json()[0]["annotation_text"], "seen");
    }
    tests::wait_for("a later moment", || (as_of(&search(&other)) > before).then_some(()));
    assert!(!api.log().contains("did not answer"), "{}", api.log());
}

#[test]
fn what_a_standby_cancels_nobody_hears_of() {
    let (server, standby, site) = site();
    site.products(50);
    let (_indexer, api) = site.daemons.pair();
    wait_for_hits(&api, "x:before", 50);
    server.wait_for(&standby);
    let done = AtomicBool::new(false);
    let cancelled = "SELECT sum(confl_lock + confl_snapshot)::bigint FROM pg_stat_database_conflicts";
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let answer = search(&api);
                    assert_eq!((answer.status, count(&answer)), (200, 50));
                }
            });
        }
        // What takes a table for itself, as a migration does, is in the way of whoever reads it.
        let lock = "ALTER TABLE document SET (fillfactor = 90); ALTER TABLE data_product SET (fillfactor = 90)";
        let conflicts = tests::wait_for("a conflict", || {
            site.database.execute(lock);
            standby.value(cancelled).as_u64().filter(|conflicts| *conflicts > 0)
        });
        done.store(true, Ordering::Relaxed);
        assert!(conflicts > 0);
    });
}

#[test]
fn either_server_may_go() {
    let (server, standby, site) = site();
    site.products(2);
    let (_indexer, _) = site.daemons.pair();
    let api = site.daemons.with("DPD_METRICS_LISTEN", "127.0.0.1:0").api();
    let metrics = tests::metrics::address(&api);
    tests::wait_for("what is there", || (search(&api).status == 200).then_some(()));
    wait_for_hits(&api, "x:before", 2);
    tests::metrics::wait_for_value(&metrics, "dpd_standby_up", &[], |up| up == Some(1.0));
    tests::metrics::wait_for_value(&metrics, "dpd_standby_as_of_timestamp_seconds", &[], |as_of| as_of > Some(1e9));
    assert_eq!(api.get("/readyz").status, 200);
    server.wait_for(&standby);
    // Without the primary what is read is read, and what would be written is told to wait.
    server.kill();
    assert_eq!((count(&search(&api)), api.get("/readyz").status), (2, 200));
    let write = |block: &str| api.post("/ingestnewmetadata", &json!({"execution_block": block})).status;
    assert_eq!(write("eb-a-20240105-1"), 503);
    // It takes the primary's place, and nothing is left where it was.
    server.fail_over_to(standby);
    tests::wait_for("a write", || (write("eb-a-20240105-2") == 201).then_some(()));
    tests::wait_for("what was written", || (count(&search(&api)) == 3).then_some(()));
    tests::wait_for("the reason", || api.log().contains("the primary is asked").then_some(()));
    tests::metrics::wait_for_value(&metrics, "dpd_standby_up", &[], |up| up == Some(0.0));
}

#[test]
fn one_that_is_promoted_where_it_is_goes_on_answering() {
    let (server, standby, site) = site();
    site.products(2);
    let (_indexer, api) = site.daemons.pair();
    wait_for_hits(&api, "x:before", 2);
    let before = as_of(&search(&api));
    server.wait_for(&standby);
    server.kill();
    assert_eq!(standby.value("SELECT pg_promote()"), true);
    let answer = search(&api);
    assert_eq!((answer.status, count(&answer)), (200, 2));
    tests::wait_for("its own time", || (as_of(&search(&api)) > before).then_some(()));
}
