//! What is guarded stays so while its metadata file is away, in sizes, behind links, and in `/status`.

use crate::access::{Guarded, daemons, standalone};
use crate::daemons::Site;
use crate::hardening::both;
use rustix::process::{Signal, geteuid};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{chown, lchown, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use tests::permissions::MEMBER;
use tests::program::Server;
use tests::volume::{METADATA, Volume};

const INNER: &str = "eb-outer/a/inner";
const RESTRICTED: &str = "context: {access_group: staff}\nx: hushvalue";

/// A restricted product in a public one.
fn nested(volume: &Volume) {
    volume.product("eb-outer", "eb-outer-20240101-1", "");
    volume.write("eb-outer/open.dat", "everybody's");
    inner(volume);
}

fn inner(volume: &Volume) {
    volume.write(&format!("{INNER}/deep/hush.dat"), "hushcontent");
    volume.product(INNER, "eb-inner-20240101-1", RESTRICTED);
}

/// The folders that a member sees.
fn seen(api: &Server) -> Vec<String> {
    let rows = api.ask("POST", "/dataproductsearch", Some(MEMBER), b"{}").json();
    let mut folders: Vec<String> = rows
        .as_array()
        .expect("rows")
        .iter()
        .filter_map(|row| Some(row["dataproduct_file"].as_str()?.into()))
        .collect();
    folders.sort();
    folders
}

fn wait_until_seen(api: &Server, expected: &[&str]) {
    tests::wait_for(&format!("{expected:?}"), || (seen(api) == expected).then_some(()));
}

/// What a stranger gets of the public product, by any way that there is.
fn is_hidden(api: &Server, when: &str) {
    let uid = api.search(&["execution_block:eb-outer"])[0]["uid"].as_str().expect("a uid").to_owned();
    let archives = [
        api.get(&format!("/download/{uid}")),
        api.post("/download", &json!({"execution_block": "eb-outer-20240101-1"})),
        api.get(&format!("/products/{uid}/files")),
    ];
    for answer in archives {
        let body = String::from_utf8_lossy(&answer.body);
        assert_eq!(
            (answer.status, body.contains("hush"), body.contains("open.dat")),
            (200, false, true),
            "{when}: {body}"
        );
    }
    for path in ["deep/hush.dat", METADATA] {
        let answer = api.get(&format!("/products/{uid}/files/a/inner/{path}"));
        assert_eq!(answer.status, 404, "{when}: {path}");
    }
}

fn stays_hidden(site: &Guarded) {
    let (api, volume) = (&site.api, &site.volume);
    wait_until_seen(api, &["eb-outer", INNER]);
    is_hidden(api, "at first");
    let (done, polled) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                is_hidden(api, "at any time");
                polled.store(true, Ordering::Relaxed);
            }
        });
        // As an editor does, and as who copies a folder anew does.
        for round in 0..10 {
            match round % 2 {
                0 => fs::remove_file(volume.at(INNER).join(METADATA)).expect("removed"),
                _ => fs::remove_dir_all(volume.at(INNER)).expect("removed"),
            }
            volume.write(&format!("{INNER}/deep/hush.dat"), "hushcontent");
            wait_until_seen(api, &["eb-outer"]);
            is_hidden(api, &format!("in hole {round}"));
            inner(volume);
            wait_until_seen(api, &["eb-outer", INNER]);
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(polled.into_inner());
    let archive = json!({"execution_block": "eb-outer-20240101-1"}).to_string();
    let own = api.ask("POST", "/download", Some(MEMBER), archive.as_bytes());
    assert!(String::from_utf8_lossy(&own.body).contains("hushcontent"), "members have it");
}

#[test]
fn what_is_restricted_stays_hidden_while_its_metadata_file_is_replaced() {
    stays_hidden(&standalone(nested, &[]));
    stays_hidden(&daemons(nested, &[]));
}

#[test]
fn every_api_remembers_what_was_removed_while_no_indexer_ran() {
    let mut site = daemons(nested, &[]);
    wait_until_seen(&site.api, &["eb-outer", INNER]);
    let daemons = site._site.as_ref().expect("a site").daemons.clone();
    site._indexer.take().expect("an indexer").stop();
    fs::rename(site.volume.at("eb-outer/a"), site.volume.at("eb-outer/b")).expect("moved");
    is_hidden(&site.api, "moved, and nobody noticed");
    let moved = "eb-outer/b/inner";
    let indexer = daemons.indexer();
    wait_until_seen(&site.api, &["eb-outer", moved]);
    // Under its old name, and under the new one without its metadata file.
    site.volume.write(&format!("{INNER}/deep/hush.dat"), "hushcontent");
    fs::remove_file(site.volume.at(moved).join(METADATA)).expect("removed");
    wait_until_seen(&site.api, &["eb-outer"]);
    indexer.stop();
    for api in [&site.api, &daemons.api()] {
        is_hidden(api, "of late");
    }
}

#[test]
fn it_is_remembered_for_as_long_as_is_configured() {
    for site in
        [standalone(nested, &[("DPD_RECONCILE_SECONDS", "1")]), daemons(nested, &[("DPD_RECONCILE_SECONDS", "1")])]
    {
        wait_until_seen(&site.api, &["eb-outer", INNER]);
        let uid = site.api.search(&["execution_block:eb-outer"])[0]["uid"].as_str().expect("a uid").to_owned();
        let path = format!("/products/{uid}/files/a/inner/deep/hush.dat");
        assert_eq!(site.api.get(&path).status, 404);
        fs::remove_file(site.volume.at(INNER).join(METADATA)).expect("removed");
        tests::wait_for("the file to be the outer product's", || (site.api.get(&path).status == 200).then_some(()));
        let archive = site.api.get(&format!("/download/{uid}"));
        assert!(String::from_utf8_lossy(&archive.body).contains("hushcontent"));
    }
}

/// The size of the product of an execution block, as somebody sees it.
fn size(api: &Server, block: &str, token: Option<&str>) -> Option<u64> {
    let body = json!({"key_value_pairs": [format!("execution_block:{block}")]}).to_string();
    api.ask("POST", "/dataproductsearch", token, body.as_bytes()).json()[0]["size"].as_u64()
}

fn wait_for_size(api: &Server, block: &str, bytes: u64) {
    tests::wait_for(&format!("{bytes} bytes of {block}"), || {
        (size(api, block, Some(MEMBER)) == Some(bytes)).then_some(())
    });
}

/// The bytes of all files in a folder of a volume.
fn on_disk(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    entries.map(|path| if path.is_dir() { on_disk(&path) } else { path.metadata().expect("a file").len() }).sum()
}

fn counts_nothing_of_others(site: &Guarded) {
    let (api, volume) = (&site.api, &site.volume);
    let own = |folder: &str| fs::metadata(volume.at(folder).join(METADATA)).expect("a file").len();
    wait_for_size(api, "eb-outer", own("eb-outer") + 1000);
    assert_eq!(size(api, "eb-outer", None), Some(own("eb-outer") + 1000));
    wait_for_size(api, "eb-inner", own("eb-outer/inner") + 777_777);
    wait_for_size(api, "eb-deep", own("eb-outer/inner/x/deep") + 50);
    let is_whole = || {
        let rows = api.ask("POST", "/dataproductsearch", Some(MEMBER), b"{}").json();
        let sizes = rows.as_array().expect("rows").iter().map(|row| row["size"].as_u64().unwrap_or_default());
        (sizes.sum::<u64>() == on_disk(&volume.at("eb-outer"))).then_some(())
    };
    tests::wait_for("all bytes", is_whole);
    // One that comes, and one that goes.
    volume.write("eb-outer/later/data", [0; 300]);
    wait_for_size(api, "eb-outer", own("eb-outer") + 1300);
    volume.product("eb-outer/later", "eb-later-20240101-1", "");
    wait_for_size(api, "eb-outer", own("eb-outer") + 1000);
    tests::wait_for("all bytes", is_whole);
    fs::remove_file(volume.at("eb-outer/later").join(METADATA)).expect("removed");
    wait_for_size(api, "eb-outer", own("eb-outer") + 1300);
    tests::wait_for("all bytes", is_whole);
    // What is restricted shows in no size of others while it may come back.
    fs::remove_file(volume.at("eb-outer/inner").join(METADATA)).expect("removed");
    wait_until_seen(api, &["eb-outer", "eb-outer/inner/x/deep"]);
    volume.write("eb-outer/more", [0; 5]);
    wait_for_size(api, "eb-outer", own("eb-outer") + 1305);
}

fn of_sizes(volume: &Volume) {
    volume.product("eb-outer", "eb-outer-20240101-1", "");
    volume.write("eb-outer/vis.ms/table.f0", [0; 1000]);
    volume.product("eb-outer/inner", "eb-inner-20240101-1", RESTRICTED);
    volume.write("eb-outer/inner/data/f", vec![0; 777_777]);
    volume.product("eb-outer/inner/x/deep", "eb-deep-20240101-1", "");
    volume.write("eb-outer/inner/x/deep/f", [0; 50]);
}

#[test]
fn a_size_counts_nothing_of_other_products() {
    counts_nothing_of_others(&standalone(of_sizes, &[]));
    counts_nothing_of_others(&daemons(of_sizes, &[]));
}

#[test]
fn what_is_left_of_a_restricted_product_is_counted_later() {
    for site in
        [standalone(of_sizes, &[("DPD_RECONCILE_SECONDS", "1")]), daemons(of_sizes, &[("DPD_RECONCILE_SECONDS", "1")])]
    {
        fs::remove_file(site.volume.at("eb-outer/inner").join(METADATA)).expect("removed");
        let own = fs::metadata(site.volume.at("eb-outer").join(METADATA)).expect("a file").len();
        wait_for_size(&site.api, "eb-outer", own + 1000 + 777_777);
    }
}

#[test]
fn sizes_are_right_after_an_indexer_was_killed() {
    let mut site = Site::new();
    site.volume = Volume::in_memory();
    let daemons = site.daemons.with("PERSISTENT_STORAGE_PATH", site.volume.path());
    // Measuring it takes a while.
    for n in 0..20_000 {
        site.volume.write(&format!("eb-a/part-{}/f{n}", n % 20), [0; 10]);
    }
    site.volume.product("eb-a", "eb-a-20240101-1", "version: 0");
    let (mut indexer, api) = daemons.pair();
    let expected = || on_disk(&site.volume.at("eb-a"));
    wait_for_size(&api, "eb-a", expected());
    for round in 1..=3 {
        // Nothing tells of what lies deeper.
        site.volume.write(&format!("eb-a/part-0/more-{round}"), vec![0; 1000 * round]);
        wait_for_size(&api, "eb-a", expected());
        fs::write(site.volume.at("eb-a/part-0/f0"), vec![0; 100 + round]).expect("a file");
        site.volume.product("eb-a", "eb-a-20240101-1", &format!("version: {round}"));
        tests::wait_for("the version", || (api.search(&[&format!("version:{round}")]).len() == 1).then_some(()));
        indexer.signal(Signal::KILL);
        indexer.ended();
        indexer = daemons.indexer();
        wait_for_size(&api, "eb-a", expected());
    }
}

#[test]
fn a_link_shows_nobody_elses_file() {
    if !geteuid().is_root() {
        return eprintln!("only root may give files to others");
    }
    let link = |volume: &Volume, to: &str, folder: &str, owner: u32| {
        fs::create_dir_all(volume.at(folder)).expect("a folder");
        symlink(to, volume.at(folder).join(METADATA)).expect("a link");
        lchown(volume.at(folder).join(METADATA), Some(owner), None).expect("an owner");
    };
    let fill = |volume: &Volume| {
        for (path, more) in [("private/job.yaml", "password: hushword"), ("private/bad.yaml", "x: !hushtag [hushword")]
        {
            volume.write(path, format!("execution_block: eb-priv-20240101-1\n{more}\n"));
            chown(volume.at(path), Some(1000), None).expect("an owner");
        }
        link(volume, "../private/job.yaml", "eb-theirs", 2000);
        link(volume, "../private/bad.yaml", "eb-bad", 2000);
        link(volume, "../private/job.yaml", "eb-own", 1000);
        volume.write("eb-below/meta/job.yaml", "execution_block: eb-below-20240101-1\n");
        link(volume, "meta/job.yaml", "eb-below", 2000);
        volume.product("eb-turned", "eb-turned-20240101-1", "x: before");
    };
    for running in both(fill, &[]) {
        let (api, volume) = (&running.api, &running.volume);
        api.wait_for_folders(&["eb-below", "eb-own", "eb-turned"]);
        running.writer().wait_for_log("a link that leads out of its product", 2);
        let told = api.status()["indexing"]["failing"].to_string();
        assert!(
            told.contains("eb-bad") && told.contains("leads out of its product") && !told.contains("hush"),
            "{told}"
        );
        let announced = json!({"execution_block": "eb-priv-20240101-1", "relativePathName": "eb-theirs"});
        let answer = api.post("/ingestnewdataproduct", &announced);
        let detail = String::from_utf8_lossy(&answer.body).into_owned();
        assert!(
            answer.status == 422 && detail.contains("leads out of its product") && !detail.contains("hush"),
            "{detail}"
        );
        // The last good version stays.
        fs::remove_file(volume.at("eb-turned").join(METADATA)).expect("removed");
        api.wait_for_folders(&["eb-below", "eb-own"]);
        volume.product("eb-turned", "eb-turned-20240101-1", "x: before");
        api.wait_for_folders(&["eb-below", "eb-own", "eb-turned"]);
        symlink("../private/job.yaml", volume.at("eb-turned/new")).expect("a link");
        lchown(volume.at("eb-turned/new"), Some(2000), None).expect("an owner");
        fs::rename(volume.at("eb-turned/new"), volume.at("eb-turned").join(METADATA)).expect("renamed");
        running.writer().wait_for_log("a link that leads out of its product", 3);
        assert_eq!(api.search(&["x:before"]).len(), 1);
        assert!(!String::from_utf8_lossy(&running.writer().log().into_bytes()).contains("hush"));
    }
}

/// What somebody is told of how indexing stands, less what hangs on the moment alone.
fn told(api: &Server, token: Option<&str>) -> Value {
    let mut status = api.ask("GET", "/status", token, b"").json();
    if let Some(state) = status["indexing"]["coordination_state"].as_object_mut() {
        state.remove("last_heartbeat");
    }
    status["downloads"].take();
    status
}

fn counts_what_may_be_seen(site: &Guarded) {
    let (api, volume) = (&site.api, &site.volume);
    tests::wait_for("all sizes", || {
        let rows = api.ask("POST", "/dataproductsearch", Some(MEMBER), b"{}").json();
        let rows = rows.as_array().expect("rows").clone();
        (rows.len() == 11 && rows.iter().all(|row| row["size"].is_u64())).then_some(())
    });
    let before = told(api, None);
    let indexing = &before["indexing"];
    assert_eq!(
        indexing["progress"],
        json!({"files_processed": 7, "total_files": 7, "files_added": 7, "files_updated": 0, "files_skipped": 0,
               "indexing_step": "completed"})
    );
    let nothing = json!({"mode": "events", "folders_watched": null, "folders_polled": null, "reconcile_seconds": indexing["watch"]["reconcile_seconds"]});
    assert_eq!(indexing["watch"], nothing);
    assert_eq!(before["metadata_store_status"]["number_of_dataproducts"], 7);
    let last_run = &before["pv_interface_status"]["last_index_run"];
    assert_eq!(*last_run, json!({"timed_out": false, "work_units": 7, "files_ingested": 7}));
    if indexing["coordination_state"].is_object() {
        assert_eq!(indexing["coordination_state"]["files_indexed"], 7);
    }
    let all = told(api, Some(MEMBER));
    assert_eq!(
        (&all["indexing"]["progress"]["total_files"], &all["indexing"]["watch"]["folders_watched"]),
        (&json!(11), &json!(12))
    );

    // Nothing of what he may not see moves anything.
    let hush = |n: u32, more: &str| volume.product(&format!("eb-hush-{n}"), &format!("eb-hush-20240101-{n}"), more);
    hush(1, &format!("{RESTRICTED}\nversion: 2"));
    hush(7, RESTRICTED);
    hush(8, "context: {access_group: staff}\nx: [");
    hush(2, "context: {access_group: staff}\nx: [");
    fs::remove_dir_all(volume.at("eb-hush-3")).expect("removed");
    let failing = |token| api.ask("GET", "/status", token, b"").json()["indexing"]["failing"]["count"].clone();
    let found = |pair: &str| {
        let body = json!({"key_value_pairs": [pair]}).to_string();
        api.ask("POST", "/dataproductsearch", Some(MEMBER), body.as_bytes()).json().as_array().expect("rows").len()
    };
    tests::wait_for("what changed", || {
        (failing(Some(MEMBER)) == 1 && found("version:2") == 1 && found("execution_block:eb-hush") == 4).then_some(())
    });
    if site._indexer.is_some() {
        let rows = api.ask("POST", "/dataproductsearch", Some(MEMBER), br#"{"key_value_pairs": ["version:2"]}"#).json();
        let note = json!({"data_product_uid": rows[0]["uid"], "annotation_text": "hushed"}).to_string();
        assert_eq!(api.ask("POST", "/annotation", Some(MEMBER), note.as_bytes()).status, 201);
    }
    site.writer().wait_for_log("this metadata file does not read", 2);
    assert_eq!(told(api, None), before);
    let time = |status: &Value| status["metadata_store_status"]["last_metadata_update_time"].clone();
    assert!(time(&told(api, Some(MEMBER))) != time(&all), "members' time moved");
    volume.product("eb-open-1", "eb-open-20240101-1", "version: 3");
    tests::wait_for("what all may see", || (api.search(&["version:3"]).len() == 1).then_some(()));
    assert!(time(&told(api, None)).as_str() > time(&before).as_str());
}

fn some_restricted(volume: &Volume) {
    for n in 0..7 {
        volume.product(&format!("eb-open-{n}"), &format!("eb-open-20240101-{n}"), "");
    }
    for n in 0..4 {
        volume.product(&format!("eb-hush-{n}"), &format!("eb-hush-20240101-{n}"), RESTRICTED);
    }
}

#[test]
fn status_counts_what_the_caller_may_see() {
    counts_what_may_be_seen(&standalone(some_restricted, &[]));
    counts_what_may_be_seen(&daemons(some_restricted, &[]));
}

#[test]
fn a_file_that_never_read_is_named_in_the_log_alone() {
    let escaped = "execution_block: eb-a-20240101-1\ncontext: {\"access\\u005Fgroup\": gsecret}\nhush: [\n";
    let half = "execution_block: eb-a-20240101-1\nhush: [\n";
    let fill = |volume: &Volume| {
        volume.write(&format!("eb-escaped/{METADATA}"), escaped);
        volume.write(&format!("eb-half/{METADATA}"), half);
        volume.product("eb-open", "eb-open-20240101-1", "");
    };
    for site in [standalone(fill, &[]), daemons(fill, &[])] {
        site.writer().wait_for_log("WARN this metadata file does not read", 2);
        let lines = |name: &str| site.writer().log().lines().filter(|line| line.contains(name)).count();
        assert_eq!(["eb-escaped", "eb-half"].map(lines), [1, 1]);
        for token in [None, Some(MEMBER)] {
            let status = site.api.ask("GET", "/status", token, b"").json();
            assert_eq!(status["indexing"]["failing"], json!({"count": 0, "first": []}), "{token:?}");
        }
        // An earlier version says who may know of it.
        site.volume.product("eb-open", "eb-open-20240101-1", "x: [");
        let status = site.api.wait_for_status("it", |status| status["indexing"]["failing"]["count"] == 1);
        assert_eq!(status["indexing"]["failing"]["first"][0]["path"], format!("eb-open/{METADATA}"));
    }
    // Where nobody can be in a group, all are told but what may name one.
    for running in both(fill, &[]) {
        let status = running.api.wait_for_status("it", |status| status["indexing"]["failing"]["count"] == 1);
        assert_eq!(status["indexing"]["failing"]["first"][0]["path"], format!("eb-half/{METADATA}"));
    }
}
