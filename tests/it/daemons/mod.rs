//! `dpd-indexer` and `dpd-api` as processes on one database, while nothing fails: what is on the volume shows in the API.
//! [`annotations`] are about what people add to it, [`probes`] about what load balancers are told, [`restarts`] about what
//! is known from before, [`status`] about how both programs say that they are, [`setup`] about databases that are not ready,
//! [`standby`] about one that has a standby, [`volumes`] about which volume it is.

mod annotations;
mod ownership;
mod probes;
mod restarts;
pub(crate) mod setup;
mod standby;
mod status;
mod volumes;

use serde_json::{Value, json};
use std::fs;
use tests::postgres::{Database, Postgres};
use tests::program::{Daemons, Server};
use tests::volume::{METADATA, Volume};

/// A volume, and daemons for it on a database that is ready.
pub(crate) struct Site {
    pub(crate) volume: Volume,
    pub(crate) daemons: Daemons,
    pub(crate) database: Database,
}

impl Site {
    pub(crate) fn new() -> Site {
        Site::on(Postgres::shared().database())
    }

    /// One on a database that is given.
    pub(crate) fn on(database: Database) -> Site {
        let volume = Volume::new();
        let daemons = Daemons::of(volume.path(), &database.url());
        Site { volume, daemons, database }
    }

    /// The same with a variable.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Site {
        self.daemons = self.daemons.with(name, value);
        self
    }

    /// Products in folders `eb-N`, all alike.
    pub(crate) fn products(&self, count: usize) {
        for n in 0..count {
            self.volume.product(&format!("eb-{n}"), &format!("eb-a-20240101-{n}"), &format!("x: before\nn: {n}"));
        }
    }
}

/// Has everything walked, and waits for the end of it.
pub(crate) fn reindex(api: &Server) -> Value {
    let completed = |status: &Value| status["indexing"]["coordination_state"]["completed_at"].clone();
    let before = completed(&api.status());
    assert_eq!(api.get("/reindexdataproducts").status, 202);
    api.wait_for_status("the reindex", |status| {
        completed(status) != before && status["indexing"]["in_progress"] == false
    })
}

/// Waits until so many products have this value.
pub(crate) fn wait_for_hits(api: &Server, pair: &str, count: usize) {
    tests::wait_for(&format!("{count} of {pair}"), || (api.search(&[pair]).len() == count).then_some(()));
}

#[test]
fn what_happens_on_the_volume_shows_in_the_api() {
    let site = Site::new();
    let (indexer, api) = site.daemons.pair();
    let volume = &site.volume;
    volume.product("eb-1/pb-1", "eb-a-20240101-1", "x: one");
    volume.product("eb-2", "eb-b-20240102-1", "context: {access_group: staff}");
    volume.product("eb-3", "eb-c-20240103-1", "");
    api.wait_for_folders(&["eb-1/pb-1", "eb-3"]);
    let updated = |api: &Server| api.status()["metadata_store_status"]["last_metadata_update_time"].clone();
    let before = updated(&api);
    volume.product("eb-1/pb-1", "eb-a-20240101-1", "x: two");
    wait_for_hits(&api, "x:two", 1);
    assert!(api.search(&["x:one"]).is_empty());
    assert_ne!(updated(&api), before);

    let uid = api.search(&["x:two"])[0]["uid"].clone();
    fs::rename(volume.at("eb-1"), volume.at("eb-4")).expect("moved");
    api.wait_for_folders(&["eb-3", "eb-4/pb-1"]);
    assert_ne!(api.search(&["x:two"])[0]["uid"], uid);
    assert_eq!(api.post("/dataproductmetadata", &json!({"execution_block": "eb-a-20240101-1"})).json()["x"], "two");
    let archive = api.post("/download", &json!({"execution_block": "eb-a-20240101-1"}));
    assert_eq!((archive.status, archive.header("content-type")), (200, "application/x-tar"));
    assert!(String::from_utf8_lossy(&archive.body).contains("x: two"));

    volume.product("eb-4/pb-1", "eb-a-20240101-1", "x: [never closed");
    let failing = api.wait_for_status("the failing file", |status| status["indexing"]["failing"]["count"] == 1);
    assert_eq!(failing["indexing"]["failing"]["first"][0]["path"], format!("eb-4/pb-1/{METADATA}"));
    assert_eq!(api.search(&["x:two"]).len(), 1);
    fs::remove_dir_all(volume.at("eb-3")).expect("removed");
    fs::remove_dir_all(volume.at("eb-4")).expect("removed");
    api.wait_for_folders(&[]);
    assert_eq!(api.status()["indexing"]["failing"]["count"], 0);
    // All of it was told by events.
    assert_eq!(indexer.log().matches("walked everything").count(), 1);

    // Who only answers needs nobody who writes.
    volume.product("eb-5", "eb-d-20240101-1", "");
    api.wait_for_folders(&["eb-5"]);
    indexer.stop();
    assert_eq!(api.folders(), ["eb-5"]);
}

#[test]
fn what_callers_bring_outlives_reindexes_and_restarts() {
    // Only what is announced is found between walks.
    let site = Site::new().with("DPD_WATCH", "poll");
    let (indexer, api) = site.daemons.pair();
    site.volume.product("eb-a-20240101-1/sub", "eb-a-20240101-1", "x: file");
    let announced = json!({"execution_block": "eb-a-20240101-1", "relativePathName": "eb-a-20240101-1/sub"});
    let answer = api.post("/ingestnewdataproduct", &announced);
    assert_eq!(answer.status, 201);
    let uid = answer.json()["uid"].clone();
    let metadata = |observer: &str| json!({"execution_block": "eb-test-20240806-99999", "observer": observer});
    let answer = api.post("/ingestnewmetadata", &metadata("first"));
    assert_eq!((answer.status, &answer.json()["uid"]), (201, &json!("1f8250d0-0e2f-2269-1d9a-ad465ae15d5c")));
    let expect = |api: &Server, observer: &str| {
        assert_eq!(api.folders(), ["None", "eb-a-20240101-1/sub"]);
        assert_eq!(api.search(&["x:file"])[0]["uid"], uid);
        assert_eq!(api.search(&[&format!("observer:{observer}")]).len(), 1);
        let status = api.status();
        assert_eq!(status["metadata_store_status"]["number_of_dataproducts"], 2);
        assert_eq!(status["pv_interface_status"]["number_of_data_products_on_pv"], 1);
    };
    expect(&api, "first");
    assert_eq!(api.post("/ingestnewmetadata", &metadata("second")).status, 201);
    expect(&api, "second");
    let walked = reindex(&api);
    expect(&api, "second");
    // Announced or walked, it is the same product: there was nothing to do.
    assert_eq!(walked["indexing"]["progress"]["files_skipped"], 1);

    indexer.stop();
    api.stop();
    let (_indexer, api) = site.daemons.pair();
    expect(&api, "second");
    reindex(&api);
    expect(&api, "second");
    fs::remove_dir_all(site.volume.at("eb-a-20240101-1")).expect("removed");
    reindex(&api);
    assert_eq!(api.folders(), ["None"]);
    assert_eq!(site.database.value("SELECT count(*) FROM data_product"), 1);
}

#[test]
fn sizes_are_measured_and_follow_the_files() {
    let site = Site::new();
    site.volume.product("eb", "eb-a-20240101-1", "");
    site.volume.write("eb/vis.ms/table.f0", [0; 1000]);
    let (_indexer, api) = site.daemons.pair();
    let own = fs::metadata(site.volume.at("eb").join(METADATA)).expect("the file").len();
    let wait = |bytes| {
        tests::wait_for("the size", || (api.search(&[&format!("size:{bytes}")]).len() == 1).then_some(()));
        assert_eq!(api.search(&[])[0]["size"], bytes);
    };
    wait(own + 1000);
    site.volume.write("eb/more.h5", [0; 500]);
    wait(own + 1500);
}
