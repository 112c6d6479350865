//! What else is believed for longer than it is so: heartbeats in the future, the volume that a name is, numbers of keys of a
//! transaction that came to nothing, and that a search is soon through.

use super::{rows, try_search};
use crate::daemons::{Site, wait_for_hits};
use serde_json::json;
use std::fs;
use std::time::{Duration, Instant};
use tests::postgres::Postgres;
use tests::proxy::Proxy;
use tests::volume::Volume;

#[test]
fn a_heartbeat_in_the_future_keeps_nobody_out_for_longer_than_a_term() {
    let site = Site::new().with("INDEXING_HEARTBEAT_STALE_SECONDS", "2");
    site.products(1);
    let (indexer, api) = site.daemons.pair();
    drop(indexer);
    site.database.execute("UPDATE dpd_indexing_state SET last_heartbeat = clock_timestamp() + interval '1 hour'");
    let alive = |status: &serde_json::Value| status["indexing"]["coordination_state"]["indexer_alive"].clone();
    assert_eq!(alive(&api.status()), false);
    let next = site.daemons.indexer();
    assert_eq!(next.wait_for_state("holding the lease")["epoch"], 2);
    assert_eq!(alive(&api.status()), true);
}

#[test]
fn an_api_that_knows_its_volume_by_name_follows_it_to_another_identity() {
    let site = Site::new().with("PVCNAME", "shared").with("INDEXING_HEARTBEAT_STALE_SECONDS", "2");
    site.products(2);
    let indexer = site.daemons.indexer();
    let api = site.daemons.with("PERSISTENT_STORAGE_PATH", "/nowhere/at/all").api();
    api.wait_for_index();
    wait_for_hits(&api, "x:before", 2);
    // While another one of that name is being indexed as well, it stays.
    let twin = Volume::new();
    twin.product("eb-9", "eb-a-20240101-9", "");
    let twins = site.daemons.with("PERSISTENT_STORAGE_PATH", twin.path()).indexer();
    twins.wait_for_state("holding the lease");
    assert_eq!(api.folders(), ["eb-0", "eb-1"]);
    drop(twins);
    drop(indexer);
    site.database.execute("UPDATE dpd_indexing_state SET holder = NULL");
    fs::remove_file(site.volume.at(".dpd-volume-id")).expect("removed");
    site.volume.product("eb-2", "eb-a-20240101-2", "x: new");
    let _indexer = site.daemons.indexer();
    api.wait_for_folders(&["eb-0", "eb-1", "eb-2"]);
}

#[test]
fn a_search_may_wait_for_its_turn_for_as_long_as_it_may_take() {
    let site = Site::new().with("DPD_POSTGRESQL_TIMEOUT_SECONDS", "30");
    site.products(300);
    let _indexer = site.daemons.indexer();
    let sealed = "SELECT count(*) > 0 FROM segment";
    tests::wait_for("a segment", || (site.database.value(sealed) == true).then_some(()));
    let api = site.daemons.api();
    tests::wait_for("the API", || (api.get("/readyz").status == 200).then_some(()));
    // Those who look through pages wait for them, and the others for their turn.
    let lock = site.database.lock("segment_page");
    std::thread::scope(|scope| {
        let searching: Vec<_> = (0..8).map(|_| scope.spawn(|| try_search(&api, "x:before"))).collect();
        let begun = Instant::now();
        // A session that stands idle within a transaction is ended after five seconds.
        tests::wait_for("longer than that", || (begun.elapsed() > Duration::from_secs(7)).then_some(()));
        drop(lock);
        for searching in searching {
            let answer = searching.join().expect("an answer");
            let text = String::from_utf8_lossy(&answer.body).into_owned();
            assert_eq!(rows(&answer).map(|rows| rows.len()), Some(300), "{}: {text:.300}", answer.status);
        }
    });
}

#[test]
fn numbers_of_a_transaction_that_came_to_nothing_are_forgotten() {
    let site = Site::new();
    let proxy = Proxy::to(Postgres::shared().port());
    let through = site.daemons.with("DATABASE_URL", site.database.url_through(proxy.port()));
    // An hour is long enough for a lease not to be among what breaks off.
    let indexer = through.with("INDEXING_HEARTBEAT_STALE_SECONDS", "3600").indexer();
    indexer.wait_for_state("holding the lease");
    indexer.wait_for_log("walked everything", 1);
    let api = through.api();
    for n in 0..5 {
        let cuts = proxy.cuts();
        proxy.cut_before_commit(1);
        site.volume.product(&format!("eb-{n}"), &format!("eb-a-20240101-{n}"), &format!("new_{n}: found"));
        tests::wait_for("a cut", || (proxy.cuts() > cuts).then_some(()));
        wait_for_hits(&api, &format!("new_{n}:found"), 1);
        let metadata = json!({"execution_block": format!("eb-b-20240101-{n}"), format!("own_{n}"): "found"});
        proxy.cut_before_commit(1);
        tests::wait_for("a write", || (api.post("/ingestnewmetadata", &metadata).status == 201).then_some(()));
        wait_for_hits(&api, &format!("own_{n}:found"), 1);
    }
}

#[test]
fn segments_of_another_format_are_thrown_away_whenever_they_come() {
    let site = Site::new();
    site.products(300);
    let (_indexer, api) = site.daemons.pair();
    let sealed = "SELECT count(*) > 0 FROM segment";
    wait_for_hits(&api, "x:before", 300);
    tests::wait_for("a segment", || (site.database.value(sealed) == true).then_some(()));
    // As an API of the release before leaves them.
    site.database
        .execute("UPDATE segment SET format = 1; UPDATE dpd_indexing_state SET revision = nextval('product_number')");
    let foreign = "SELECT count(*) FROM segment WHERE format = 1";
    tests::wait_for("their end", || (site.database.value(foreign) == 0).then_some(()));
    wait_for_hits(&api, "x:before", 300);
}

#[test]
fn what_an_indexer_wrote_late_is_read_again() {
    let site = Site::new().with("DPD_WATCH", "poll");
    let proxy = Proxy::to(Postgres::shared().port());
    let through = site.daemons.with("DATABASE_URL", site.database.url_through(proxy.port()));
    site.volume.product("eb", "eb-a-20240101-1", "x: first");
    let indexer = through.with("INDEXING_HEARTBEAT_STALE_SECONDS", "3600").indexer();
    let api = site.daemons.api();
    indexer.wait_for_log("walked everything", 1);
    wait_for_hits(&api, "x:first", 1);
    // What a walk read is written some seconds later, and meanwhile a caller announces what is there by then.
    site.volume.product("eb", "eb-a-20240101-1", "x: second");
    proxy.cut_before_commit(4);
    assert_eq!(api.get("/reindexdataproducts").status, 202);
    tests::wait_for("a cut", || (proxy.cuts() > 0).then_some(()));
    site.volume.product("eb", "eb-a-20240101-1", "x: third");
    let announced = json!({"execution_block": "eb-a-20240101-1", "relativePathName": "eb"});
    assert!([200, 201].contains(&api.post("/ingestnewdataproduct", &announced).status));
    indexer.wait_for_log("walked everything", 2);
    wait_for_hits(&api, "x:third", 1);
    assert!(api.search(&["x:second"]).is_empty());
}
