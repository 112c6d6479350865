//! Which volume it is: several in one database, one that is not mounted, one that cannot be written to, and one that is
//! suddenly another.

use super::{Site, reindex, wait_for_hits};
use serde_json::{Value, json};
use shared::identity::VolumePrefix;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use tests::postgres::Postgres;
use tests::program::{Daemons, Server, binary};
use tests::volume::Volume;

fn pv_error(status: &Value) -> &str {
    status["pv_interface_status"]["pv_error"].as_str().unwrap_or_default()
}

/// Waits until an API tells of trouble with the volume.
fn wait_for_trouble(api: &Server, says: &str) {
    let status = api.wait_for_status(says, |status| pv_error(status).contains(says));
    assert_eq!(status["pv_interface_status"]["pv_available"], false);
    assert_eq!(status["indexing"]["progress"]["indexing_step"], "error");
    assert_eq!(status["indexing"]["in_progress"], false);
}

/// Waits until it tells that all is well again.
fn wait_for_peace(api: &Server) {
    api.wait_for_status("no trouble any more", |status| {
        pv_error(status).is_empty()
            && status["pv_interface_status"]["pv_available"] == true
            && status["indexing"]["progress"]["indexing_step"] == "completed"
    });
}

#[test]
fn two_volumes_in_a_database_do_not_see_each_other() {
    let database = Postgres::shared().database();
    let (one, other) = (Volume::new(), Volume::new());
    let [of_one, of_other] = [&one, &other].map(|volume| {
        volume.product("eb", "eb-a-20240101-1", "x: same");
        Daemons::of(volume.path(), &database.url())
    });
    one.product("only-one", "eb-b-20240101-1", "one: 1");
    let (one_indexer, one_api) = of_one.pair();
    let (other_indexer, other_api) = of_other.pair();
    assert_eq!(one_api.folders(), ["eb", "only-one"]);
    assert_eq!(other_api.folders(), ["eb"]);
    let uid = one_api.search(&["x:same"])[0]["uid"].clone();
    assert_ne!(uid, other_api.search(&["x:same"])[0]["uid"]);
    assert_eq!(other_api.post("/dataproductmetadata", &json!({"uid": uid})).status, 404);
    assert!(!other_api.get_json("/muidatagridconfig").to_string().contains("\"one\""));
    let annotation = json!({"data_product_uid": uid, "annotation_text": "of one"});
    assert_eq!(
        (one_api.post("/annotation", &annotation).status, other_api.post("/annotation", &annotation).status),
        (201, 404)
    );
    let metadata = json!({"execution_block": "eb-c-20240101-1"});
    assert_eq!(other_api.post("/ingestnewmetadata", &metadata).status, 201);
    assert_eq!((one_api.search(&[]).len(), other_api.search(&[]).len()), (2, 2));
    // What happens to one volume, or to its indexer, leaves the other alone.
    fs::remove_dir_all(one.at("eb")).expect("removed");
    one_api.wait_for_folders(&["only-one"]);
    one_indexer.stop();
    assert_eq!(other_api.folders(), ["None", "eb"]);
    assert_eq!(other_api.status()["indexing"]["coordination_state"]["indexer_alive"], true);
    reindex(&other_api);
    other_indexer.wait_for_log("walked everything", 2);
    assert_eq!(one_api.status()["metadata_store_status"]["number_of_dataproducts"], 1);
}

#[test]
fn an_api_without_the_volume_does_all_but_hand_out_files() {
    let site = Site::new().with("PVCNAME", "shared");
    site.products(2);
    let _indexer = site.daemons.indexer();
    let away = site.daemons.with("PERSISTENT_STORAGE_PATH", "/nowhere/at/all");
    let api = away.api();
    api.wait_for_index();
    assert_eq!(api.get("/readyz").status, 200);
    assert_eq!(api.folders(), ["eb-0", "eb-1"]);
    let uid = api.search(&[])[0]["uid"].clone();
    assert_eq!(api.post("/dataproductmetadata", &json!({"uid": uid})).status, 200);
    assert_eq!(api.post("/annotation", &json!({"data_product_uid": uid, "annotation_text": "x"})).status, 201);
    let answer = api.post("/download", &json!({"uid": uid}));
    assert_eq!(answer.status, 404);
    assert!(answer.json()["detail"].as_str().is_some_and(|detail| detail.contains("not mounted")));
    let answer = api.post("/ingestnewdataproduct", &json!({"execution_block": "eb-a-20240101-1"}));
    assert_eq!(answer.status, 503);
    assert!(answer.json()["detail"].as_str().is_some_and(|detail| detail.contains("volume")));

    // The name alone says which volume is meant, so it must be right, and the only one.
    let stranger = away.with("PVCNAME", "other").api();
    let detail = |api: &Server| api.get("/readyz").json()["detail"].as_str().unwrap_or_default().to_owned();
    assert!(detail(&stranger).contains("no volume called other"), "{}", detail(&stranger));
    let twin = Volume::new();
    twin.product("eb-9", "eb-a-20240101-9", "");
    let twins_indexer = site.daemons.with("PERSISTENT_STORAGE_PATH", twin.path()).indexer();
    twins_indexer.wait_for_state("holding the lease");
    let unsure = away.api();
    assert!(detail(&unsure).contains("several volumes"), "{}", detail(&unsure));
    twins_indexer.stop();
    tests::wait_for("the one that is being indexed", || (unsure.get("/readyz").status == 200).then_some(()));
    assert_eq!(unsure.folders(), ["eb-0", "eb-1"]);
}

/// A command that starts `dpd-indexer` where the storage path is mounted read-only, on top of itself and for it alone.
fn mounted_read_only(daemons: &Daemons, volume: &Path) -> Command {
    let script = "mount --bind \"$1\" \"$1\" && mount -o remount,ro,bind \"$1\" && shift && exec \"$@\"";
    let mut command = daemons.command("unshare");
    command.args(["-Urm", "sh", "-c", script, "sh"]).arg(volume);
    command
}

/// One that starts it as somebody who may not write there. Root may always, so that it is nobody then.
fn without_permission(daemons: &Daemons, volume: &Path, programs: &Path) -> Command {
    fs::set_permissions(volume, fs::Permissions::from_mode(0o555)).expect("a mode");
    let copy = programs.join("dpd-indexer");
    fs::copy(binary("dpd-indexer"), &copy).expect("a copy that others may run");
    fs::set_permissions(programs, fs::Permissions::from_mode(0o755)).expect("a mode");
    let mut command = daemons.command(copy);
    if rustix::process::geteuid().is_root() {
        command.uid(65534);
    }
    command
}

#[test]
fn a_volume_that_cannot_be_written_to_is_known_by_its_name() {
    let programs = tempfile::tempdir().expect("a folder");
    for mounted in [false, true] {
        let site = Site::new().with("PVCNAME", "archive");
        site.products(2);
        let command = if mounted {
            let mut command = mounted_read_only(&site.daemons, site.volume.path());
            let possible = mounted_read_only(&site.daemons, site.volume.path()).arg("true").status();
            if !possible.is_ok_and(|status| status.success()) {
                eprintln!("not tested on a read-only mount, since none can be made here; without permission it was");
                continue;
            }
            command.arg(binary("dpd-indexer"));
            command
        } else {
            without_permission(&site.daemons, site.volume.path(), programs.path())
        };
        let indexer = Server::with(command, false);
        let api = site.daemons.api();
        api.wait_for_index();
        assert_eq!(api.folders(), ["eb-0", "eb-1"]);
        let prefix = VolumePrefix::of_name("archive").to_string();
        assert_eq!(api.status()["indexing"]["coordination_state"]["volume_prefix"], prefix);
        indexer.wait_for_log("WARN the volume cannot be given an identity", 1);
        indexer.wait_for_log("its name archive has to do", 1);
        // Whoever may write there still does, and it shows.
        fs::set_permissions(site.volume.path(), fs::Permissions::from_mode(0o755)).expect("a mode");
        site.volume.product("eb-2", "eb-a-20240101-2", "");
        api.wait_for_folders(&["eb-0", "eb-1", "eb-2"]);
        assert!(!site.volume.at(".dpd-volume-id").exists());
    }
}

#[test]
fn a_volume_whose_identity_is_not_what_it_was_removes_nothing() {
    let site = Site::new().with("DPD_RECONCILE_SECONDS", "1");
    site.products(4);
    let (_indexer, api) = site.daemons.pair();
    let file = site.volume.at(".dpd-volume-id");
    let id = fs::read_to_string(&file).expect("an identity");
    let all = ["eb-0", "eb-1", "eb-2", "eb-3"];

    fs::remove_file(&file).expect("removed");
    wait_for_trouble(&api, "holds no .dpd-volume-id any more");
    assert!(pv_error(&api.status()).contains(id.trim()), "what to put there");
    fs::remove_dir_all(site.volume.at("eb-0")).expect("removed");
    // Events are believed no more than walks: what comes is taken, what goes stays.
    site.volume.product("eb-1", "eb-a-20240101-1", "x: meanwhile");
    wait_for_hits(&api, "x:meanwhile", 1);
    assert_eq!(api.folders(), all);
    fs::write(&file, &id).expect("put back");
    api.wait_for_folders(&all[1..]);
    wait_for_peace(&api);

    let other = "6a11ddaa-6b45-4759-87e7-a5abd5105b0e";
    fs::write(&file, other).expect("replaced");
    wait_for_trouble(&api, &format!("holds volume {other}"));
    fs::remove_dir_all(site.volume.at("eb-1")).expect("removed");
    fs::write(&file, "garbage").expect("replaced");
    wait_for_trouble(&api, "holds no .dpd-volume-id");
    assert_eq!(api.folders(), all[1..]);
    fs::write(&file, &id).expect("put back");
    api.wait_for_folders(&all[2..]);
    wait_for_peace(&api);
}

/// Daemons for a storage path that can be taken away: a folder in a volume.
fn mounted(parent: &Volume, url: &str) -> Daemons {
    for n in 0..3 {
        parent.product(&format!("mount/eb-{n}"), &format!("eb-a-20240101-{n}"), "");
    }
    Daemons::of(&parent.at("mount"), url).with("PVCNAME", "shared").with("DPD_RECONCILE_SECONDS", "1")
}

#[test]
fn a_mount_that_goes_under_a_running_indexer_removes_nothing() {
    let (parent, database) = (Volume::new(), Postgres::shared().database());
    let (_indexer, api) = mounted(&parent, &database.url()).pair();
    fs::rename(parent.at("mount"), parent.at("away")).expect("moved away");
    wait_for_trouble(&api, "cannot be read");
    fs::create_dir(parent.at("mount")).expect("a folder");
    wait_for_trouble(&api, "holds no .dpd-volume-id");
    assert_eq!(api.folders().len(), 3);
    assert!(!parent.at("mount/.dpd-volume-id").exists());
    fs::remove_dir(parent.at("mount")).expect("removed");
    fs::remove_dir_all(parent.at("away/eb-0")).expect("removed");
    fs::rename(parent.at("away"), parent.at("mount")).expect("moved back");
    api.wait_for_folders(&["eb-1", "eb-2"]);
    wait_for_peace(&api);
    parent.product("mount/eb-9", "eb-a-20240101-9", "");
    api.wait_for_folders(&["eb-1", "eb-2", "eb-9"]);
}

#[test]
fn an_indexer_that_starts_where_nothing_is_mounted_waits() {
    let (parent, database) = (Volume::new(), Postgres::shared().database());
    let daemons = mounted(&parent, &database.url());
    let (indexer, api) = daemons.pair();
    let ids = |api: &Server| api.search(&[]).iter().map(|row| row["id"].clone()).collect::<Vec<_>>();
    let before = ids(&api);
    indexer.stop();
    fs::rename(parent.at("mount"), parent.at("away")).expect("moved away");
    let indexer = daemons.indexer();
    let waits = |says: &str| {
        indexer.wait_for_status(says, |status| {
            status["state"] == "waiting" && status["waits_for"].as_str().is_some_and(|waits| waits.contains(says))
        })
    };
    waits("cannot be read");
    fs::create_dir(parent.at("mount")).expect("a folder");
    waits("a volume called shared with 3 products was indexed before: is it mounted?");
    assert_eq!(indexer.get("/readyz").status, 503);
    assert!(!parent.at("mount/.dpd-volume-id").exists());
    assert_eq!(ids(&api), before);
    fs::remove_dir(parent.at("mount")).expect("removed");
    fs::rename(parent.at("away"), parent.at("mount")).expect("moved back");
    indexer.wait_for_state("holding the lease");
    parent.product("mount/eb-9", "eb-a-19990101-9", "");
    api.wait_for_folders(&["eb-0", "eb-1", "eb-2", "eb-9"]);
    assert_eq!(ids(&api)[..3], before);
    assert_eq!(database.value("SELECT count(*) FROM dpd_indexing_state"), 1);
}

#[test]
fn a_volume_that_is_renamed_is_read_anew() {
    let site = Site::new();
    site.products(3);
    let before = site.daemons.with("PVCNAME", "before");
    let (indexer, api) = before.pair();
    let uid = api.search(&["n:1"])[0]["uid"].clone();
    assert_eq!(api.post("/annotation", &json!({"data_product_uid": uid, "annotation_text": "x"})).status, 201);
    assert_eq!(api.search(&["metadata_store_name:before"]).len(), 3);
    indexer.stop();
    api.stop();
    let (indexer, api) = site.daemons.with("PVCNAME", "after").pair();
    let status = api.wait_for_status("the walk", |status| status["indexing"]["progress"]["files_updated"] == 3);
    assert_eq!(status["available_data_stores"], json!(["after"]));
    assert_eq!(status["indexing"]["coordination_state"]["epoch"], 2);
    wait_for_hits(&api, "metadata_store_name:after", 3);
    assert!(api.search(&[]).iter().all(|row| row["metadata_store_name"] == "after"));
    // Neither the name nor the walk changes who they are.
    assert_eq!(api.search(&["n:1"])[0]["uid"], uid);
    assert_eq!(api.get(&format!("/annotations/{}", uid.as_str().expect("a uid"))).status, 200);
    // And once is enough.
    indexer.stop();
    let (_indexer, api) = site.daemons.with("PVCNAME", "after").pair();
    api.wait_for_status("the next walk", |status| {
        status["indexing"]["coordination_state"]["epoch"] == 3 && status["indexing"]["progress"]["files_skipped"] == 3
    });
}
