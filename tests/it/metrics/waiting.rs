//! A scrape waits for nothing, whatever is down.

use super::{api, daemons};
use std::sync::mpsc::{TryRecvError, channel};
use tests::metrics::{scrape, wait_for_value};
use tests::postgres::Postgres;
use tests::volume::sample;

#[test]
fn a_database_that_hangs_or_is_gone_holds_up_no_scrape() {
    let server = Postgres::start();
    let database = server.empty_database();
    let daemons = daemons(&sample(), &database.url()).with("INDEXING_HEARTBEAT_STALE_SECONDS", "3");
    let (indexer, _api) = daemons.pair();
    let (api, url) = api(&daemons);
    let indexer_url = format!("{}/metrics", indexer.url);
    wait_for_value(&url, "dpd_products", &[("store", "volume")], |products| products > Some(0.0));
    assert_eq!(scrape(&url).value("dpd_db_up", &[]), Some(1.0));
    let age = |url: &str| scrape(url).value("dpd_summary_age_seconds", &[]);

    server.pause();
    let (done, answered) = channel();
    std::thread::scope(|scope| {
        scope.spawn(|| done.send(api.post_bytes("/dataproductsearch", b"{}").status).expect("a listener"));
        // As long as nobody could answer that, whoever scrapes is answered.
        let before = age(&url).expect("an age");
        for _ in 0..20 {
            assert!(age(&url) >= Some(before) && scrape(&indexer_url).series() > 0);
        }
        assert_eq!(answered.try_recv(), Err(TryRecvError::Empty));
        wait_for_value(&url, "dpd_db_up", &[], |up| up == Some(0.0));
        wait_for_value(&indexer_url, "dpd_db_up", &[], |up| up == Some(0.0));
        wait_for_value(&indexer_url, "dpd_index_lease_held", &[], |held| held == Some(0.0));
        assert_eq!(answered.recv(), Ok(503));
    });
    assert!(scrape(&url).value("dpd_products", &[("store", "volume")]) > Some(0.0));

    server.resume();
    wait_for_value(&url, "dpd_db_up", &[], |up| up == Some(1.0));
    wait_for_value(&indexer_url, "dpd_index_lease_held", &[], |held| held == Some(1.0));
    // It is asked for again, every five seconds.
    wait_for_value(&url, "dpd_summary_age_seconds", &[], |age| age < Some(2.0));

    server.kill();
    wait_for_value(&url, "dpd_db_up", &[], |up| up == Some(0.0));
    assert!(scrape(&url).value("dpd_db_failed_total", &[("why", "unavailable")]) > Some(0.0));
    wait_for_value(&indexer_url, "dpd_db_up", &[], |up| up == Some(0.0));
    server.restart();
    wait_for_value(&url, "dpd_db_up", &[], |up| up == Some(1.0));
    wait_for_value(&indexer_url, "dpd_indexer_state", &[("state", "holding")], |holds| holds == Some(1.0));
}
