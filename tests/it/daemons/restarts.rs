//! What is known from before: an unchanged volume costs nothing, a changed one shows its changes, and walks that were
//! asked for or cut short are made up for.

use super::{Site, reindex, wait_for_hits};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tests::opens::Opens;
use tests::program::Server;
use tests::volume::METADATA;

/// All rows of what searches read, each with its version, and how many were ever written.
fn written(site: &Site) -> (Vec<Value>, Vec<Value>) {
    let rows = ["data_product", "document", "segment", "superseded", "failing_file"].map(|table| {
        site.database.rows(&format!("SELECT '{table}' AS of, t.ctid, t.xmin::text, to_jsonb(t) AS row FROM {table} t"))
    });
    // What a process wrote is counted when its connections end.
    let connections = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'dpd-indexer%' \
                       AND datname = current_database()";
    tests::wait_for("the end of its connections", || (site.database.value(connections) == 0).then_some(()));
    let counts = "SELECT relname, n_tup_ins, n_tup_upd, n_tup_del FROM pg_stat_user_tables \
                  WHERE relname IN ('data_product', 'document', 'segment', 'superseded', 'failing_file') ORDER BY relname";
    (rows.concat(), site.database.rows(counts))
}

#[test]
fn an_unchanged_volume_is_taken_up_without_opening_or_writing_a_thing() {
    let site = Site::new();
    site.products(50);
    let (indexer, api) = site.daemons.pair();
    let unmeasured = "SELECT count(*) FROM data_product WHERE NOT measured";
    tests::wait_for("all sizes", || (site.database.value(unmeasured) == 0).then_some(()));
    indexer.stop();
    let before = written(&site);
    tests::wait_for("the count of what was written", || {
        let rows = &written(&site).1;
        (rows.len() == 5 && rows[0]["n_tup_ins"] == 50).then_some(())
    });

    let files: Vec<PathBuf> = (0..50).map(|n| site.volume.at(&format!("eb-{n}")).join(METADATA)).collect();
    let opened = Opens::of(&files);
    let started = api.status()["indexing"]["coordination_state"]["completed_at"].clone();
    let indexer = site.daemons.indexer();
    let status = api.wait_for_status("the walk", |status| {
        let state = &status["indexing"]["coordination_state"];
        state["completed_at"] != started && state["indexing_running"] == false
    });
    assert_eq!(status["indexing"]["progress"]["files_skipped"], 50);
    assert_eq!(status["indexing"]["progress"]["files_processed"], 0);
    reindex(&api);
    indexer.stop();
    assert_eq!(opened.count(), 0);
    let after = written(&site);
    assert_eq!(before.0, after.0);
    tests::wait_for("the same counts", || (written(&site).1 == after.1).then_some(()));
    assert_eq!(after.1[0]["n_tup_ins"], 50, "{:?}", after.1);
    // The same watch does see a file that is opened.
    fs::read(&files[0]).expect("the file");
    tests::wait_for("the opening", || (opened.count() == 1).then_some(()));
}

#[test]
fn what_happened_while_nobody_ran_is_found() {
    let site = Site::new();
    site.products(6);
    let (indexer, api) = site.daemons.pair();
    let uid = |pair: &str| api.search(&[pair])[0]["uid"].clone();
    let (kept, moved) = (uid("n:0"), uid("n:3"));
    indexer.stop();
    // The same length and the same second: content and time in nanoseconds tell.
    site.volume.product("eb-1", "eb-a-20240101-1", "x: behind\nn: 1");
    fs::remove_dir_all(site.volume.at("eb-2")).expect("removed");
    fs::create_dir(site.volume.at("below")).expect("a folder");
    fs::rename(site.volume.at("eb-3"), site.volume.at("below/eb-3")).expect("moved");
    site.volume.product("eb-9/deep/down", "eb-a-20240101-9", "x: new");
    // Two that change places are each at the other's path.
    fs::rename(site.volume.at("eb-4"), site.volume.at("swap")).expect("moved");
    fs::rename(site.volume.at("eb-5"), site.volume.at("eb-4")).expect("moved");
    fs::rename(site.volume.at("swap"), site.volume.at("eb-5")).expect("moved");
    let _indexer = site.daemons.indexer();
    api.wait_for_folders(&["below/eb-3", "eb-0", "eb-1", "eb-4", "eb-5", "eb-9/deep/down"]);
    wait_for_hits(&api, "x:behind", 1);
    wait_for_hits(&api, "x:new", 1);
    assert_eq!(api.search(&["n:4"])[0]["dataproduct_file"], "eb-5");
    assert_eq!(api.search(&["n:5"])[0]["dataproduct_file"], "eb-4");
    assert_eq!(uid("n:0"), kept);
    assert_ne!(uid("n:3"), moved);
    assert_eq!(api.status()["metadata_store_status"]["number_of_dataproducts"], 6);
}

fn refused_as_double(api: &Server) {
    let answer = api.get("/reindexdataproducts");
    assert_eq!(answer.status, 409);
    assert_eq!(answer.json()["detail"], "A metadata re-index is already in progress.");
}

#[test]
fn a_reindex_asked_of_any_api_reaches_the_holder() {
    let site = Site::new().with("DPD_WATCH", "poll");
    site.products(3);
    let (indexer, one) = site.daemons.pair();
    let (standby, other) = (site.daemons.indexer(), site.daemons.api());
    standby.wait_for_state("standing by");
    for (api, n) in [(&one, 10), (&other, 11)] {
        site.volume.product(&format!("eb-{n}"), &format!("eb-a-20240101-{n}"), "");
        let status = reindex(api);
        assert_eq!(status["indexing"]["progress"]["files_added"], 1);
        assert_eq!(status["metadata_store_status"]["number_of_dataproducts"], n - 6);
    }
    indexer.wait_for_log("reason=Asked", 2);
    assert!(!standby.log().contains("walked everything"));

    // The writer is held up in the database, so that the walk does not end.
    site.volume.product("eb-12", "eb-a-20240101-12", "");
    site.database.execute("BEGIN; LOCK TABLE data_product IN SHARE MODE");
    assert_eq!(other.post_bytes("/reindexdataproducts", b"").status, 202);
    let status = one.wait_for_status("the walk", |status| status["indexing"]["in_progress"] == true);
    assert_eq!(status["indexing"]["coordination_state"]["reindex_waits"], false);
    for api in [&one, &other] {
        refused_as_double(api);
    }
    site.database.execute("COMMIT");
    one.wait_for_status("its end", |status| status["indexing"]["in_progress"] == false);
    assert_eq!(other.search(&[]).len(), 6);
}

#[test]
fn a_reindex_asked_of_nobody_waits_for_the_next_indexer() {
    let site = Site::new();
    site.products(2);
    let (indexer, api) = site.daemons.pair();
    let other = site.daemons.api();
    indexer.stop();
    let status = api.status();
    assert_eq!(status["indexing"]["coordination_state"]["indexer_alive"], false);
    assert_eq!(api.get("/reindexdataproducts").status, 202);
    for api in [&api, &other] {
        refused_as_double(api);
        assert_eq!(api.status()["indexing"]["coordination_state"]["reindex_waits"], true);
    }
    let indexer = site.daemons.indexer();
    api.wait_for_status("the reindex", |status| {
        let state = &status["indexing"]["coordination_state"];
        state["reindex_waits"] == false && state["epoch"] == 2 && state["indexing_running"] == false
    });
    assert_eq!(site.database.value("SELECT count(*) FROM reindex_request"), 0);
    // The walk that the indexer began with was the one; it makes no second.
    indexer.wait_for_log("walked everything", 1);
    reindex(&other);
    indexer.wait_for_log("walked everything", 2);
}

#[test]
fn a_walk_that_runs_out_of_time_is_made_up_for_by_later_ones() {
    let site = Site::new().with("INDEXING_BATCH_SIZE", "1").with("INDEXING_TIMEOUT_SECONDS", "1");
    let site = site.with("DPD_WATCH", "poll").with("DPD_RECONCILE_SECONDS", "1");
    site.products(150);
    // What it finds is not taken for as long as a walk may last.
    site.database.execute("BEGIN; LOCK TABLE data_product IN SHARE MODE");
    let (indexer, api) = (site.daemons.indexer(), site.daemons.api());
    let begun = Instant::now();
    indexer.wait_for_state("holding the lease");
    tests::wait_for("the end of its time", || (begun.elapsed() > Duration::from_secs(2)).then_some(()));
    site.volume.product("eb-150", "eb-a-20240101-150", "");
    fs::remove_dir_all(site.volume.at("eb-0")).expect("removed");
    site.database.execute("COMMIT");
    let timed_out = |status: &Value| status["indexing"]["progress"]["indexing_step"] == "timeout_partial_completion";
    let status = api.wait_for_status("a walk that runs out of time", timed_out);
    assert_eq!(status["pv_interface_status"]["last_index_run"]["timed_out"], true);
    assert_eq!(status["pv_interface_status"]["indexing_timeout_seconds"], 1);
    assert!(status["pv_interface_status"]["last_index_duration"].as_str() >= Some("0:00:01"));
    // What it found comes nevertheless, and what it did not find, or what went, with the walks that follow.
    let expected: BTreeSet<String> = (1..=150).map(|n| format!("eb-{n}")).collect();
    tests::wait_for("all products", || (api.folders().into_iter().eq(expected.iter().cloned())).then_some(()));
    let status = api.wait_for_status("a walk to its end", |status| !timed_out(status));
    assert_eq!(status["indexing"]["progress"]["indexing_step"], "completed");
    assert_eq!(status["pv_interface_status"]["last_index_run"]["timed_out"], false);
}
