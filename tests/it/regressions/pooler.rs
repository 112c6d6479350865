//! A pooler between the programs and PostgreSQL.

use super::settings::{refused, run};
use crate::daemons::{Site, wait_for_hits};
use serde_json::json;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use tests::pgbouncer::PgBouncer;
use tests::postgres::Postgres;
use tests::program::{Daemons, binary};
use tests::volume::Volume;

/// What docs/database.md says that an indexer and an API need, with the least number of connections that can be set.
const CONNECTIONS: u32 = 3;
const SUM: u32 = (CONNECTIONS + 1) + CONNECTIONS;

#[test]
fn all_works_by_sessions_of_the_number_that_is_documented() {
    let site = Site::new();
    let products = 60;
    site.products(products);
    let pooler = PgBouncer::start(Postgres::shared(), "session", SUM);
    let daemons = Daemons::of(site.volume.path(), &site.database.url_through(pooler.port()))
        .with("DPD_POSTGRESQL_CONNECTIONS", CONNECTIONS.to_string());
    let (indexer, api) = daemons.pair();
    let uid = api.search(&[])[0]["uid"].as_str().expect("a uid").to_owned();
    let bad = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for n in 0..8 {
            let (api, uid, bad) = (&api, &uid, &bad);
            scope.spawn(move || {
                for m in 0..10 {
                    let search = api.post("/dataproductsearch", &json!({"start_date": "1900-01-01"}));
                    let note = json!({"data_product_uid": uid, "annotation_text": format!("{n} {m}")});
                    let note = api.post("/annotation", &note);
                    bad.fetch_add(usize::from(search.status != 200 || note.status >= 300), Ordering::Relaxed);
                }
            });
        }
        for n in 0..20 {
            site.volume.product(&format!("late-{n}"), &format!("eb-z-20240101-{n}"), "x: late");
        }
    });
    assert_eq!(bad.into_inner(), 0, "{}", api.log());
    assert_eq!(api.get(&format!("/annotations/{uid}")).json().as_array().map(Vec::len), Some(80));
    wait_for_hits(&api, "x:late", 20);
    // What is told by notifications is heard.
    assert_eq!(api.get("/reindexdataproducts").status, 202);
    tests::wait_for("the reindex", || (indexer.log().matches("walked everything").count() > 1).then_some(()));
    for log in [indexer.log(), api.log()] {
        assert!(!log.contains("no connection to the database"), "{log}");
    }
    indexer.stop();
    // Another one takes the place of the first.
    let other = daemons.indexer();
    other.wait_for_state("holding the lease");
}

#[test]
fn sessions_that_are_shared_between_transactions_end_the_start() {
    let (volume, database) = (Volume::new(), Postgres::shared().database());
    for (mode, sessions) in [("transaction", 1), ("transaction", 20), ("statement", 20)] {
        let pooler = PgBouncer::start(Postgres::shared(), mode, sessions);
        let daemons = Daemons::of(volume.path(), &database.url_through(pooler.port()));
        for (program, arguments) in [("dpd-indexer", &["migrate"][..]), ("dpd-indexer", &[]), ("dpd-api", &[])] {
            let said = refused(&daemons, program, arguments);
            assert!(said.contains("pool_mode = session"), "{mode} {program}: {said}");
            assert!(said.contains(&format!("127.0.0.1:{}", pooler.port())), "{said}");
        }
        assert_eq!(database.value("SELECT count(*) FROM dpd_indexing_state"), 0, "{mode}");
    }
}

#[test]
fn shared_sessions_are_noticed_while_others_use_them() {
    let (volume, database) = (Volume::new(), Postgres::shared().database());
    let pooler = PgBouncer::start(Postgres::shared(), "transaction", 10);
    let url = database.url_through(pooler.port());
    let daemons = Daemons::of(volume.path(), &url);
    std::thread::scope(|scope| {
        let programs: Vec<_> =
            (0..6).map(|_| scope.spawn(|| run(&daemons, "dpd-indexer", &["migrate"]).status.code())).collect();
        for program in programs {
            assert_eq!(program.join().expect("its end"), Some(2));
        }
    });
}

#[test]
fn a_pooler_that_comes_later_is_noticed_then() {
    let (volume, database) = (Volume::new(), Postgres::shared().database());
    // The port is free for a moment.
    let pooler = PgBouncer::start(Postgres::shared(), "transaction", 5);
    let port = pooler.port();
    drop(pooler);
    let daemons = Daemons::of(volume.path(), &database.url_through(port));
    let mut api =
        daemons.command(binary("dpd-api")).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().expect("a start");
    let _pooler = PgBouncer::start_on(port, Postgres::shared(), "transaction", 5);
    let status = tests::wait_for("the end", || api.try_wait().expect("its state"));
    assert_eq!(status.code(), Some(2));
}
