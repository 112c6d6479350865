//! What is guarded stays so while its metadata file is away, in sizes, behind links, and in `/status`.

use crate::access::{Guarded, daemons, standalone};
use serde_json::json;
use std::fs;
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
    let mut folders: Vec<String> =
        rows.as_array().expect("rows").iter().filter_map(|row| Some(row["dataproduct_file"].as_str()?.into())).collect();
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
        assert_eq!((answer.status, body.contains("hush"), body.contains("open.dat")), (200, false, true), "{when}: {body}");
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
    for site in [standalone(nested, &[("DPD_RECONCILE_SECONDS", "1")]), daemons(nested, &[("DPD_RECONCILE_SECONDS", "1")])] {
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
