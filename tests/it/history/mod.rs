//! Databases that become an earlier state of themselves, or are made anew, under running programs: [`promotion`] is about a
//! standby that lost the last commits, [`restore`] about a copy that is put back, [`anew`] about a schema that is dropped.
//! Whatever was remembered of what is no more, soon all is found as it is on disk, and nobody ever sees what he may not.
//!
//! [`beside`] is about what else is believed for longer than it is so.

mod anew;
mod beside;
mod promotion;
mod restore;

use crate::daemons::Site;
use crate::stores::sealing::is_covered;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering};
use tests::etcd::Etcd;
use tests::postgres::Postgres;
use tests::program::{Answer, Server};

/// The processing block of the flows.
const BLOCK: &str = "pb-test-20250102-00001";

/// Programs that follow a volume and an etcd, on a server of their own.
struct World {
    server: Postgres,
    site: Site,
    etcd: Etcd,
    indexer: Server,
    apis: Vec<Server>,
    /// How many products were written.
    products: usize,
    flows: usize,
}

impl World {
    /// One with some products, most of them in a segment, that all APIs have searched for.
    fn new() -> World {
        let (server, etcd) = (Postgres::start(), Etcd::start());
        let site = Site::on(server.database())
            .with("DPD_RECONCILE_SECONDS", "5")
            .with("INDEXING_HEARTBEAT_STALE_SECONDS", "4")
            .with("SDP_CONFIG_HOST", "127.0.0.1")
            .with("SDP_CONFIG_PORT", &etcd.port().to_string());
        let (indexer, api) = site.daemons.pair();
        let apis = vec![api, site.daemons.api()];
        let mut world = World { server, site, etcd, indexer, apis, products: 0, flows: 0 };
        world.arrive(300, "first");
        world.flow(3);
        world.wait_until_right();
        let sealed = "SELECT count(*) > 0 FROM segment";
        tests::wait_for("a segment", || (world.site.database.value(sealed) == true).then_some(()));
        world.wait_until_right();
        world
    }

    /// Lets products come, each with a key of its own and every third one for a group alone.
    fn arrive(&mut self, count: usize, kind: &str) {
        for n in self.products..self.products + count {
            let access = if n % 3 == 0 { "context: {access_group: secret}" } else { "" };
            let block = format!("eb-h-20240101-{n}");
            self.site.volume.product(&folder(n), &block, &format!("{access}\n{kind}_{n}: lost{n}\nkind: {kind}"));
        }
        self.products += count;
    }

    fn flow(&mut self, count: usize) {
        for n in self.flows..self.flows + count {
            self.etcd.put(tests::etcd::key(BLOCK, &format!("flow-{n}")), tests::etcd::value("nowhere"));
        }
        self.flows += count;
    }

    /// What an API answers wrongly at the moment, if anything.
    fn wrong(&self, api: &Server) -> Option<String> {
        let open = (0..self.products).filter(|n| n % 3 != 0);
        let total = open.clone().count() + self.flows;
        let Some(rows) = rows(&try_search(api, "")) else { return Some("no answer".to_owned()) };
        if rows.len() != total {
            return Some(format!("{} products and not {total}", rows.len()));
        }
        for n in open.step_by(7) {
            let key = self.key(n);
            let found = rows_of(api, &format!("{key}:lost{n}"))?;
            if found != [folder(n)] {
                return Some(format!("{found:?} under {key} and not {}", folder(n)));
            }
        }
        let status = api.status();
        if status["indexing"]["failing"]["count"] != 0 {
            return Some(format!("failing: {}", status["indexing"]["failing"]));
        }
        let flows = self.site.database.value("SELECT count(*) FROM flow");
        (flows != self.flows).then(|| format!("{flows} flows and not {}", self.flows))
    }

    /// The key that a product has alone.
    fn key(&self, n: usize) -> String {
        let text = std::fs::read_to_string(self.site.volume.at(&folder(n)).join(tests::volume::METADATA));
        let text = text.expect("the metadata");
        let line = text.lines().find(|line| line.ends_with(&format!("lost{n}"))).expect("its key");
        line.split(':').next().expect("a key").to_owned()
    }

    /// Waits until every API finds everything where it belongs, as a fresh one does.
    fn wait_until_right(&self) {
        let fresh = self.site.daemons.api();
        for api in self.apis.iter().chain([&fresh]) {
            let mut last = None;
            let right = || {
                last = self.wrong(api);
                last.is_none().then_some(())
            };
            let waited = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| tests::wait_for("all", right)));
            assert!(waited.is_ok(), "{}\n{}", last.unwrap_or_default(), self.indexer.log());
        }
        is_covered(&self.site.database);
        let drift = self
            .site
            .database
            .rows("SELECT k.path FROM metadata_key k JOIN key_count c ON c.key = k.id WHERE c.products < 0");
        assert!(drift.is_empty(), "{drift:?}");
    }

    /// Does something while all APIs are asked by a caller of no group, again and again, and holds that none is ever shown a
    /// product of a group.
    fn while_nobody_sees_too_much<T>(&self, work: impl FnOnce() -> T) -> T {
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let watching: Vec<_> = self
                .apis
                .iter()
                .map(|api| {
                    let done = &done;
                    scope.spawn(move || {
                        while !done.load(Ordering::Relaxed) {
                            // Few enough for one piece, which comes whole or as an error.
                            let page = api.post("/filterdataproducts", &json!({"page": 0, "pageSize": 200}));
                            let text = String::from_utf8_lossy(&page.body).into_owned();
                            assert!(!text.contains("secret"), "anybody sees {text}");
                        }
                    })
                })
                .collect();
            let worked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
            done.store(true, Ordering::Relaxed);
            watching.into_iter().for_each(|watching| watching.join().expect("nobody sees too much"));
            worked.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

fn folder(n: usize) -> String {
    format!("eb-{n}")
}

fn try_search(api: &Server, pair: &str) -> Answer {
    let pairs: &[&str] = if pair.is_empty() { &[] } else { &[pair] };
    api.post("/dataproductsearch", &json!({"start_date": "1900-01-01", "key_value_pairs": pairs}))
}

fn rows(answer: &Answer) -> Option<Vec<Value>> {
    (answer.status == 200).then(|| answer.json().as_array().cloned().unwrap_or_default())
}

fn rows_of(api: &Server, pair: &str) -> Option<Vec<String>> {
    let rows = rows(&try_search(api, pair)).unwrap_or_default();
    Some(rows.iter().map(|row| row["dataproduct_file"].as_str().unwrap_or_default().to_owned()).collect())
}
