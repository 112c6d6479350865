//! What happens to flows when etcd fails: afterwards the index has what etcd has.

use super::*;
use std::thread;
use std::time::{Duration, Instant};

/// How long etcd stands still in the tests of that.
const STANDSTILL: Duration = Duration::from_secs(30);

fn three(site: &Site) {
    for name in ["a", "b", "c"] {
        site.flow(name, &format!("eb/{name}"));
        site.state(name, "FLOWING");
    }
    site.wait_until_equal();
}

/// Makes, changes and deletes flows.
fn meddle(etcd: &Etcd) {
    etcd.put(tests::etcd::key(BLOCK, "d"), tests::etcd::value("eb/d"));
    etcd.put(format!("{}/state", tests::etcd::key(BLOCK, "a")), tests::etcd::state("COMPLETED"));
    etcd.delete(&format!("{}/state", tests::etcd::key(BLOCK, "c")), false);
    etcd.delete(&tests::etcd::key(BLOCK, "b"), true);
}

#[test]
fn killed_and_restarted() {
    for mut site in Site::each() {
        three(&site);
        site.etcd.kill();
        let sdp = site.wait_for_sdp("the loss", |sdp| sdp["connected"] == false && sdp["watcher_connected"] == false);
        assert!(sdp["disconnected_since"].is_string() && sdp["error"].is_string(), "{sdp}");
        assert!(!sdp["error"].to_string().contains("127.0.0.1"), "{sdp}");
        // What is known stays, and nothing else is held up.
        assert_eq!(site.shown().len(), 3);
        site.volume.product("eb-1", "eb-test-20250101-1", "");
        site.api.get("/reindexdataproducts");
        site.wait_for_rows("a product meanwhile", |rows| rows.len() == 4);
        site.etcd.restart();
        meddle(&site.etcd);
        let sdp = site.wait_for_sdp("the watch", |sdp| sdp["watcher_connected"] == true);
        assert_eq!((&sdp["disconnected_since"], &sdp["error"]), (&Value::Null, &Value::Null));
        site.wait_until_equal();
        site.state("d", "FLOWING");
        site.wait_until_equal();
    }
}

/// A server that stands still keeps its connections: nothing but silence tells.
#[test]
fn stopped_for_a_while() {
    Site::at_once(|site| {
        three(&site);
        let begun = Instant::now();
        site.etcd.pause();
        site.wait_for_sdp("the silence", |sdp| sdp["connected"] == false && sdp["watcher_connected"] == false);
        let noticed = begun.elapsed();
        assert!(noticed < Duration::from_secs(5), "it took {noticed:?}");
        assert_eq!(site.shown().len(), 3);
        thread::sleep(STANDSTILL.saturating_sub(begun.elapsed()));
        site.etcd.resume();
        meddle(&site.etcd);
        site.wait_until_equal();
        site.wait_for_sdp("the watch", |sdp| sdp["watcher_connected"] == true);
    });
}

/// While the programs are cut off, history goes on and is compacted.
#[test]
fn compacted_meanwhile() {
    for site in Site::each() {
        let etcd = site.etcd;
        let proxy = tests::proxy::Proxy::to_anything(etcd.port());
        let mut settings = settings(&etcd);
        settings.retain(|(name, _)| *name != "SDP_CONFIG_PORT");
        settings.push(("SDP_CONFIG_PORT", proxy.port().to_string()));
        // The same programs again, behind the proxy.
        let site = match site.programs {
            Programs::Standalone => {
                let mut command = serve(site.volume.path());
                command.envs(settings);
                let api = Server::with(command, true);
                Site { etcd, volume: site.volume, programs: Programs::Standalone, api }
            }
            Programs::Daemons { daemons, database, indexer } => {
                indexer.stop();
                let daemons = settings.into_iter().fold(daemons, |daemons, (name, value)| daemons.with(name, value));
                let (indexer, api) = daemons.pair();
                Site { etcd, volume: site.volume, programs: Programs::Daemons { daemons, database, indexer }, api }
            }
        };
        let site = site.connected();
        three(&site);
        proxy.refuse(true);
        site.wait_for_sdp("the cut", |sdp| sdp["connected"] == false);
        meddle(&site.etcd);
        for n in 0..200 {
            site.flow("churn", &format!("eb/churn-{n}"));
        }
        site.etcd.delete(&tests::etcd::key(BLOCK, "churn"), false);
        site.etcd.compact();
        proxy.refuse(false);
        site.wait_until_equal();
        site.state("d", "FAILED");
        site.wait_until_equal();
    }
}

#[test]
fn another_database_at_the_same_address() {
    for mut site in Site::each() {
        three(&site);
        site.etcd.restart_empty();
        site.flow("new", "eb/new");
        site.wait_until_equal();
        assert_eq!(site.shown().len(), 1);
    }
}

#[test]
fn ten_thousand_flows_at_start() {
    let fill = || {
        let etcd = Etcd::start();
        etcd.put_all((0..10_000).flat_map(|n| {
            let key = tests::etcd::key(&format!("pb-test-20250102-{:05}", n % 100), &format!("f{n}"));
            let status = ["FLOWING", "COMPLETED"][n % 2];
            [(format!("{key}/state"), tests::etcd::state(status)), (key, tests::etcd::value(&format!("eb/{n}")))]
        }));
        etcd
    };
    for site in [Site::standalone_with(fill(), Volume::new()), Site::daemons_with(fill(), Volume::new())] {
        site.wait_for_sdp("all flows", |sdp| sdp["flows"] == 10_000);
        site.wait_until_equal();
    }
}

/// A thousand changes a second, over a few flows with products and many without.
#[test]
fn a_storm_of_changes() {
    const SECONDS: usize = 10;
    Site::at_once(|site| {
        for n in 0..20 {
            site.volume.product(&format!("eb/{n}"), "eb-test-20250101-00001", "");
        }
        site.api.get("/reindexdataproducts");
        site.etcd.put_all(
            (0..200).map(|n| (tests::etcd::key(BLOCK, &n.to_string()), tests::etcd::value(&format!("eb/{n}")))),
        );
        site.wait_until_equal();
        let begun = Instant::now();
        for tenth in 0..SECONDS * 10 {
            site.etcd.put_all((0..100).map(|n| {
                let flow = (tenth * 37 + n) % 200;
                (
                    format!("{}/state", tests::etcd::key(BLOCK, &flow.to_string())),
                    tests::etcd::state(&format!("S{tenth}")),
                )
            }));
            let due = Duration::from_millis(100) * u32::try_from(tenth + 1).expect("few");
            thread::sleep(due.saturating_sub(begun.elapsed()));
        }
        site.wait_until_equal();
    });
}

/// Whoever takes over follows from what the database has.
#[test]
fn what_changed_between_two_indexers() {
    let site = Site::daemons();
    three(&site);
    let Programs::Daemons { daemons, database, indexer } = site.programs else { unreachable!("daemons") };
    indexer.stop();
    let sdp = site.api.wait_for_status("nobody follows", |status| status["sdp_config_db"]["connected"] == false);
    assert!(sdp["sdp_config_db"]["error"].as_str().is_some_and(|why| why.contains("no indexer")), "{sdp:#}");
    meddle(&site.etcd);
    let indexer = daemons.indexer();
    let site = Site { programs: Programs::Daemons { daemons, database, indexer }, ..site };
    site.wait_until_equal();
}
