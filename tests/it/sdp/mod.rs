//! The SDP configuration database, followed by both programs: a real etcd, its faults, and what comes of it in rows.

mod faults;
mod follow;

use serde_json::{Value, json};
use std::collections::BTreeMap;
use tests::etcd::Etcd;
use tests::postgres::{Database, Postgres};
use tests::program::{Daemons, Server, serve};
use tests::volume::Volume;

/// The processing block that flows of the tests are of.
const BLOCK: &str = "pb-test-20250102-00001";

/// Programs that follow an etcd, on a volume where no file event reaches them.
struct Site {
    etcd: Etcd,
    volume: Volume,
    programs: Programs,
    /// Who answers.
    api: Server,
}

enum Programs {
    Standalone,
    Daemons { daemons: Daemons, database: Database, indexer: Server },
}

impl Site {
    /// `dpd serve`.
    fn standalone() -> Site {
        Site::standalone_with(Etcd::start(), Volume::new())
    }

    fn standalone_with(etcd: Etcd, volume: Volume) -> Site {
        let mut command = serve(volume.path());
        for (name, value) in settings(&etcd) {
            command.env(name, value);
        }
        let api = Server::with(command, true);
        Site { etcd, volume, programs: Programs::Standalone, api }.connected()
    }

    /// `dpd-indexer` and `dpd-api`.
    fn daemons() -> Site {
        Site::daemons_with(Etcd::start(), Volume::new())
    }

    fn daemons_with(etcd: Etcd, volume: Volume) -> Site {
        let database = Postgres::shared().database();
        let daemons = settings(&etcd)
            .into_iter()
            .fold(Daemons::of(volume.path(), &database.url()), |daemons, (name, value)| daemons.with(name, value));
        let (indexer, api) = daemons.pair();
        Site { etcd, volume, programs: Programs::Daemons { daemons, database, indexer }, api }.connected()
    }

    /// One of each.
    fn each() -> [Site; 2] {
        [Site::standalone(), Site::daemons()]
    }

    /// Does the same with each, at the same time.
    fn at_once(work: impl Fn(Site) + Sync) {
        std::thread::scope(|scope| {
            for site in Site::each() {
                scope.spawn(|| work(site));
            }
        });
    }

    fn connected(self) -> Site {
        self.wait_for_sdp("the watch", |sdp| sdp["connected"] == true && sdp["watcher_connected"] == true);
        self
    }

    /// Waits until `sdp_config_db` of `/status` is as wanted, and gives it.
    fn wait_for_sdp(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        self.api.wait_for_status(what, |status| wanted(&status["sdp_config_db"]))["sdp_config_db"].clone()
    }

    fn flow(&self, name: &str, folder: &str) {
        self.etcd.put(tests::etcd::key(BLOCK, name), tests::etcd::value(folder));
    }

    fn state(&self, name: &str, status: &str) {
        self.etcd.put(format!("{}/state", tests::etcd::key(BLOCK, name)), tests::etcd::state(status));
    }

    fn rows(&self) -> Vec<Value> {
        self.api.search(&[])
    }

    /// Waits until the rows are as wanted, and gives them.
    fn wait_for_rows(&self, what: &str, wanted: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        tests::wait_for(what, || Some(self.rows()).filter(|rows| wanted(rows)))
    }

    /// The flows that rows show, and their status.
    fn shown(&self) -> BTreeMap<String, Option<String>> {
        let flows = self.rows().into_iter().flat_map(|row| {
            let flows: Vec<Value> =
                row["sdp_flows"].as_str().map_or(Vec::new(), |text| serde_json::from_str(text).expect("flows as JSON"));
            flows
        });
        let text = |value: &Value| value.as_str().map(str::to_owned);
        flows.map(|flow| (text(&flow["sdp_flow"]).expect("a name"), text(&flow["sdp_flow_status"]))).collect()
    }

    /// Waits until rows show what etcd has, exactly.
    fn wait_until_equal(&self) {
        let expected = self.etcd.flows();
        let begun = std::time::Instant::now();
        while self.shown() != expected {
            let sdp = || self.api.status()["sdp_config_db"].clone();
            assert!(begun.elapsed() < tests::PATIENCE, "{:#?} and not {expected:#?}: {:#}", self.shown(), sdp());
        }
    }
}

fn settings(etcd: &Etcd) -> Vec<(&'static str, String)> {
    vec![
        ("SDP_CONFIG_HOST", "127.0.0.1".to_owned()),
        ("SDP_CONFIG_PORT", etcd.port().to_string()),
        ("SKA_DATAPRODUCT_API_SDP_WATCHER_RECONNECT_DELAY_SECONDS", "1".to_owned()),
        ("DPD_WATCH", "poll".to_owned()),
        ("DPD_RECONCILE_SECONDS", "3600".to_owned()),
    ]
}

/// Rows of the store that placeholders are of.
fn placeholders(rows: &[Value]) -> Vec<&Value> {
    rows.iter().filter(|row| row["metadata_store_name"] == "SDP").collect()
}
