//! A PostgreSQL that dies, hangs, or breaks connections: callers are told at once, and all comes back by itself.

use super::{Undisturbed, count, fill, one_writer_at_a_time, wait_for_all};
use crate::daemons::{Site, wait_for_hits};
use serde_json::json;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tests::postgres::Postgres;
use tests::program::{Answer, Daemons, Server};
use tests::proxy::Proxy;

/// How long an answer may take that must come soon: a bound for what is stuck, since tests run beside each other.
const SOON: Duration = Duration::from_secs(5);

/// Ends those who go on until they are told, also when the test fails.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn try_search(api: &Server) -> Answer {
    api.post("/dataproductsearch", &json!({"start_date": "1900-01-01", "key_value_pairs": ["n:1"]}))
}

/// Holds that an answer says that the database is away, in a way that clients can work with.
fn says_why(answer: &Answer) {
    assert_eq!(answer.status, 503);
    assert!(answer.header("retry-after").parse::<u32>().is_ok());
    let answer = answer.json();
    // What takes too long is told in words of ours.
    let is_told = |detail: &str| detail == "the database cannot be used" || detail.contains("longer than it may take");
    assert!(answer["detail"].as_str().is_some_and(is_told), "{answer}");
}

/// Holds that `/status` comes soon and says that the database is away.
fn status_says_why(api: &Server) {
    let begun = Instant::now();
    let status = api.status();
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    let store = &status["metadata_store_status"];
    assert_eq!(
        (&store["running"], &store["db_status"]),
        (&json!(false), &json!({"configured": true, "running": false}))
    );
    assert_eq!(store["error"], "the database cannot be used");
    assert_eq!((&status["api_running"], &status["pv_interface_status"]["pv_available"]), (&json!(true), &json!(false)));
    assert_eq!(api.get("/livez").status, 200);
}

/// Waits until searches are answered, and then all of them are.
fn wait_for_searches(api: &Server) {
    tests::wait_for("an answer", || (try_search(api).status == 200).then_some(()));
    // Connections of before may be left, and each is found out when it is used.
    tests::wait_for("answers", || (0..20).all(|_| try_search(api).status == 200).then_some(()));
}

#[test]
fn a_postgresql_that_is_killed_and_comes_back_is_taken_up_where_it_was() {
    let server = Postgres::start();
    let products = 700;
    let site = Site::on(server.database()).with("INDEXING_BATCH_SIZE", "20");
    fill(&site.volume, products);
    let (indexer, api) = (site.daemons.indexer(), site.daemons.api());
    tests::wait_for("some products", || (count(&site.database) >= 100).then_some(()));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let end = End(&done);
        let searching: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut refused = 0;
                    while !done.load(Ordering::Relaxed) {
                        let answer = try_search(&api);
                        if answer.status != 200 {
                            says_why(&answer);
                            refused += 1;
                        }
                    }
                    refused
                })
            })
            .collect();
        server.kill();
        tests::wait_for("a refusal", || (try_search(&api).status == 503).then_some(()));
        status_says_why(&api);
        indexer.wait_for_state("waiting");
        assert_eq!((indexer.get("/livez").status, indexer.get("/readyz").status), (200, 503));
        // Nobody is there to write it down, but it is noticed.
        site.volume.product("late", "eb-z-20240101-1", "x: late");
        let removed = fs::read_dir(site.volume.at("eb-5")).expect("a folder").count();
        fs::remove_dir_all(site.volume.at("eb-5")).expect("removed");
        server.restart();
        wait_for_searches(&api);
        wait_for_hits(&api, "x:late", 1);
        drop(end);
        let refused: Vec<i32> = searching.into_iter().map(|searching| searching.join().expect("searches")).collect();
        assert!(refused.iter().all(|refused| *refused > 0), "{refused:?}");
        Undisturbed::begin(&site.volume).is_what_becomes_of(&site.database, products + 1 - removed);
    });
    indexer.wait_for_state("holding the lease");
    // It kept its lease: nobody else was there to take it.
    assert_eq!(site.database.value("SELECT epoch FROM dpd_indexing_state"), 1);
    site.volume.product("later", "eb-z-20240101-2", "x: later");
    wait_for_hits(&api, "x:later", 1);
}

#[test]
fn a_postgresql_that_hangs_holds_up_nobody_for_long() {
    let site = Site::new();
    site.products(3);
    let proxy = Proxy::to(Postgres::shared().port());
    let url = site.database.url_through(proxy.port());
    let (indexer, api) = Daemons::of(site.volume.path(), &url).with("DPD_POSTGRESQL_TIMEOUT_SECONDS", "2").pair();
    wait_for_searches(&api);
    proxy.hang(true);
    let searches: Vec<(u16, Duration)> = std::thread::scope(|scope| {
        let searching: Vec<_> = (0..50)
            .map(|_| {
                scope.spawn(|| {
                    let begun = Instant::now();
                    let answer = try_search(&api);
                    says_why(&answer);
                    (answer.status, begun.elapsed())
                })
            })
            .collect();
        // Also while all connections are waited for.
        for _ in 0..3 {
            status_says_why(&api);
        }
        searching.into_iter().map(|searching| searching.join().expect("an answer")).collect()
    });
    let longest = searches.iter().map(|(_, time)| *time).max();
    assert!(longest < Some(Duration::from_secs(20)), "{longest:?}");
    status_says_why(&api);
    // The indexer's own answers hang on nothing, and it goes on noticing.
    let begun = Instant::now();
    assert_eq!(indexer.get("/livez").status, 200);
    assert!(begun.elapsed() < SOON);
    site.volume.product("late", "eb-z-20240101-1", "x: late");
    proxy.hang(false);
    wait_for_searches(&api);
    wait_for_hits(&api, "x:late", 1);
    indexer.wait_for_state("holding the lease");
}

#[test]
fn connections_that_break_around_commits_lose_and_double_nothing() {
    let products = 400;
    let site = Site::new();
    fill(&site.volume, products);
    let proxy = Proxy::to(Postgres::shared().port());
    let url = site.database.url_through(proxy.port());
    // An hour is long enough for a lease not to be in it.
    let daemons = Daemons::of(site.volume.path(), &url).with("INDEXING_BATCH_SIZE", "20");
    let indexer = daemons.with("INDEXING_HEARTBEAT_STALE_SECONDS", "3600").indexer();
    let cut = |commit: &dyn Fn(), n: usize| {
        let before = proxy.cuts();
        commit();
        tests::wait_for("the cuts", || (proxy.cuts() >= before + n).then_some(()));
    };
    let cut_both = || {
        cut(&|| proxy.cut_at_commit(2), 2);
        cut(&|| proxy.cut_before_commit(2), 2);
    };
    indexer.wait_for_state("holding the lease");
    cut_both();
    wait_for_all(&site.database, products);
    // The same with products that are another, that move and that go, so that there is something to count out as well.
    let mut there = products;
    for n in 0..97 {
        let folder = format!("eb-{n}");
        match n % 3 {
            0 => fs::rename(site.volume.at(&folder), site.volume.at(&format!("moved-{n}"))).expect("moved"),
            1 => site.volume.product(&format!("{folder}/pb-{n}"), "eb-g-20240101-1", "n: [1, 2]\nother: x"),
            _ => {
                there -= fs::read_dir(site.volume.at(&folder)).expect("a folder").count();
                fs::remove_dir_all(site.volume.at(&folder)).expect("removed");
            }
        }
        if n == 20 {
            cut_both();
        }
    }
    tests::wait_for("all changes", || {
        let moved = "SELECT count(*) FROM data_product WHERE folder LIKE 'moved-%'";
        let left = site.database.value(moved).as_u64() > Some(100) && count(&site.database) == there as u64;
        left.then_some(())
    });
    Undisturbed::begin(&site.volume).is_what_becomes_of(&site.database, there);
    one_writer_at_a_time(&site.database);
    assert_eq!(indexer.wait_for_state("holding the lease")["epoch"], 1);
    assert!(proxy.cuts() >= 8);
}
