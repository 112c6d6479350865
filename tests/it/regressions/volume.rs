//! Volumes as they are met: folders that may not be read, files that do not, links, mounts, and identities that come late.

use crate::daemons::{Site, reindex};
use rustix::process::geteuid;
use serde_json::{Value, json};
use shared::identity::VolumePrefix;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use tempfile::TempDir;
use tests::program::{Server, binary, serve, with_bare_environment};
use tests::volume::{METADATA, Volume};

/// Somebody whom permissions hold back, as they do not hold back root.
const NOBODY: u32 = 65534;

/// Programs that others than root may run as well.
struct Programs(TempDir);

impl Programs {
    fn new() -> Programs {
        let folder = TempDir::new().expect("a folder");
        for name in ["dpd", "dpd-indexer"] {
            fs::copy(binary(name), folder.path().join(name)).expect("a copy");
        }
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("a mode");
        Programs(folder)
    }

    /// What to start instead of a program, and who is to run it: nobody, if we are root.
    fn as_nobody(&self, command: &mut Command) {
        if geteuid().is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

fn set_mode(volume: &Volume, folder: &str, mode: u32) {
    fs::set_permissions(volume.at(folder), fs::Permissions::from_mode(mode)).expect("a mode");
}

fn unreadable(server: &Server) -> Value {
    server.status()["indexing"]["unreadable"].clone()
}

fn paths(told: &Value) -> Vec<&str> {
    told["first"].as_array().expect("folders").iter().filter_map(|folder| folder["path"].as_str()).collect()
}

#[test]
fn folders_that_may_not_be_read_are_told_and_lose_nothing() {
    let (site, programs) = (Site::new().with("DPD_RECONCILE_SECONDS", "1"), Programs::new());
    set_mode(&site.volume, "", 0o755);
    site.products(5);
    site.volume.product("secret/pb", "eb-s-20240101-1", "context: {access_group: staff}");
    site.volume.product("deep/er/pb", "eb-d-20240101-1", "");
    let (indexer, api) = site.daemons.pair();
    let all = ["deep/er/pb", "eb-0", "eb-1", "eb-2", "eb-3", "eb-4"];
    assert_eq!((api.folders(), unreadable(&api)["count"].clone()), (all.map(str::to_owned).into(), json!(0)));
    indexer.stop();
    // Neither listed nor opened, listed and not opened, opened and not listed.
    let modes = [("deep/er", 0o000), ("eb-1", 0o000), ("eb-2", 0o644), ("eb-3", 0o311), ("secret", 0o700)];
    modes.iter().for_each(|(folder, mode)| set_mode(&site.volume, folder, *mode));
    if !geteuid().is_root() {
        set_mode(&site.volume, "secret", 0o000);
    }
    let mut command = site.daemons.command(programs.at("dpd-indexer"));
    programs.as_nobody(&mut command);
    let indexer = Server::with(command, false);
    let status = api.wait_for_status("what cannot be read", |status| {
        status["indexing"]["unreadable"]["count"] == 3 && status["indexing"]["failing"]["count"] == 1
    });
    let told = &status["indexing"]["unreadable"];
    assert_eq!(paths(told), ["deep/er", "eb-1", "eb-3"], "{told}");
    assert!(told["first"][0]["error"].as_str().is_some_and(|error| error.contains("Permission denied")), "{told}");
    assert_eq!(status["indexing"]["failing"]["first"][0]["path"], format!("eb-2/{METADATA}"));
    tests::wait_for("three walks", || (indexer.log().matches("walked everything").count() >= 3).then_some(()));
    assert_eq!(api.folders(), all);
    // Told once, whatever was walked since.
    assert_eq!(indexer.log().matches("cannot be listed; what is known in it stays").count(), 4, "{}", indexer.log());
    modes.iter().for_each(|(folder, _)| set_mode(&site.volume, folder, 0o755));
    api.wait_for_status("all to be read", |status| {
        status["indexing"]["unreadable"] == json!({"count": 0, "first": []})
            && status["indexing"]["failing"]["count"] == 0
    });
    fs::remove_dir_all(site.volume.at("eb-1")).expect("removed");
    api.wait_for_folders(&["deep/er/pb", "eb-0", "eb-2", "eb-3", "eb-4"]);
    set_mode(&site.volume, "deep/er", 0o000);
    set_mode(&site.volume, "deep", 0o755);
    api.wait_for_status("one of them", |status| status["indexing"]["unreadable"]["count"] == 1);
    fs::remove_dir_all(site.volume.at("deep/er"))
        .or_else(|_| {
            set_mode(&site.volume, "deep/er", 0o755);
            fs::remove_dir_all(site.volume.at("deep/er"))
        })
        .expect("removed");
    api.wait_for_status("none of them", |status| status["indexing"]["unreadable"]["count"] == 0);
}

#[test]
fn a_server_without_a_database_tells_of_unreadable_folders_too() {
    let (volume, programs) = (Volume::new(), Programs::new());
    set_mode(&volume, "", 0o755);
    for n in 0..30 {
        volume.product(&format!("shut-{n:02}"), "eb-a-20240101-1", "");
        set_mode(&volume, &format!("shut-{n:02}"), 0o000);
    }
    volume.product("open", "eb-a-20240101-1", "");
    let mut command = with_bare_environment(Command::new(programs.at("dpd")));
    command.args(serve(volume.path()).get_args());
    programs.as_nobody(&mut command);
    let server = Server::with(command, true);
    let told = server.wait_for_status("what cannot be read", |status| status["indexing"]["unreadable"]["count"] == 30);
    let told = &told["indexing"]["unreadable"];
    assert_eq!((paths(told).len(), paths(told)[0]), (20, "shut-00"));
    server.wait_for_log("cannot be listed", 30);
    assert_eq!(server.folders(), ["open"]);
    // What becomes readable is told by an event.
    set_mode(&volume, "shut-07", 0o755);
    server.wait_for_folders(&["open", "shut-07"]);
    server.wait_for_status("one less", |status| status["indexing"]["unreadable"]["count"] == 29);
    (0..30).for_each(|n| set_mode(&volume, &format!("shut-{n:02}"), 0o755));
    server.wait_for_status("all to be read", |status| status["indexing"]["unreadable"]["count"] == 0);
}

#[test]
fn every_file_that_does_not_read_is_named_once() {
    let site = Site::new();
    for n in 0..30 {
        site.volume.product(&format!("broken-{n:02}"), "[", "");
    }
    site.volume.product("secret", "[", "context: {access_group: staff}");
    site.volume.product("two\nWARN lines", "[", "");
    let (indexer, api) = site.daemons.pair();
    api.wait_for_status("the broken ones", |status| status["indexing"]["failing"]["count"] == 31);
    indexer.wait_for_log("WARN this metadata file does not read: ", 32);
    let log = indexer.log();
    let lines = |name: &str| log.lines().filter(|line| line.contains("does not read") && line.contains(name)).count();
    for n in 0..30 {
        assert_eq!(lines(&format!("broken-{n:02}/{METADATA}")), 1, "{n}");
    }
    // In the log alone.
    assert_eq!(lines(&format!("secret/{METADATA}")), 1);
    assert!(!api.status()["indexing"]["failing"].to_string().contains("secret"));
    assert_eq!(lines("two\\nWARN lines"), 1, "{log}");
    reindex(&api);
    assert_eq!(indexer.log().matches("does not read").count(), 32);
    // Another version is another fault, also where it is the same.
    site.volume.product("broken-07", "[", "and: more");
    indexer.wait_for_log("does not read", 33);
}

#[test]
fn a_link_of_a_links_chain_is_looked_behind() {
    for by in ["events", "notify"] {
        let volume = Volume::new();
        for version in ["one", "two"] {
            volume.write(&format!("eb/{version}.yaml"), format!("execution_block: eb-a-20240101-1\nx: {version}\n"));
            volume.write(
                &format!("eb/run-{version}/m.yaml"),
                format!("execution_block: eb-b-20240101-1\nx: {version}\n"),
            );
        }
        fs::create_dir(volume.at("eb/sub")).expect("a folder");
        let link = |to: &str, at: &str| {
            symlink(to, volume.at("eb/.new")).expect("a link");
            fs::rename(volume.at("eb/.new"), volume.at(at)).expect("renamed");
        };
        link("current", &format!("eb/{METADATA}"));
        let mut command = serve(volume.path());
        command.env("DPD_WATCH", by).env("DPD_RECONCILE_SECONDS", "3600");
        let server = Server::with(command, true);
        assert_eq!(server.folders(), [""; 0], "{by}: it leads nowhere yet");
        let expect = |what: &str, pair: &str| {
            tests::wait_for(&format!("{what} by {by}"), || (server.search(&[pair]).len() == 1).then_some(()));
        };
        link("one.yaml", "eb/current");
        expect("a link that was missing", "x:one");
        link("two.yaml", "eb/current");
        expect("a link that was replaced", "x:two");
        volume.write("eb/two.yaml", "execution_block: eb-a-20240101-1\nx: three\n");
        expect("a file at the end of links", "x:three");
        link("run/m.yaml", "eb/current");
        link("run-one", "eb/run");
        expect("a link to a folder", "x:one");
        link("run-two", "eb/run");
        expect("a link to another folder", "x:two");
        fs::remove_file(volume.at("eb/run")).expect("removed");
        server.wait_for_folders(&[]);
        assert_eq!(server.log().matches("walked everything").count(), 1, "{by}");
    }
}

#[test]
fn what_a_missing_mount_held_is_kept() {
    let mut can = Command::new("unshare");
    can.args(["-Urm", "mount", "-t", "tmpfs", "none", "/mnt"]);
    if !can.status().is_ok_and(|status| status.success()) {
        eprintln!("not tested what becomes of a missing mount, since none can be made here");
        return;
    }
    let site = Site::new().with("DPD_RECONCILE_SECONDS", "1");
    site.volume.product("eb-0", "eb-a-20240101-0", "");
    fs::create_dir_all(site.volume.at("far/disk")).expect("a mount point");
    // A mount namespace that stays as long as its shell does.
    let mut shell = with_bare_environment(Command::new("unshare"));
    shell.args(["-Urm", "cat"]).stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut shell = shell.spawn().expect("a namespace");
    let pid = shell.id().to_string();
    let inside = ["--preserve-credentials", "-U", "-m", "-t", &pid, "--"];
    let own_user = || fs::read_link("/proc/self/ns/user").expect("a namespace");
    tests::wait_for("the namespace", || {
        (fs::read_link(format!("/proc/{pid}/ns/user")).ok()? != own_user()).then_some(())
    });
    let run = |script: &str| {
        let mut command = with_bare_environment(Command::new("nsenter"));
        command.args(inside).args(["sh", "-ec", script, "sh"]).arg(site.volume.at("far/disk"));
        assert!(command.status().expect("nsenter").success(), "{script}");
    };
    let disk = TempDir::new().expect("a folder");
    fs::create_dir_all(disk.path().join("eb-1/pb")).expect("a folder");
    let fill = format!("cp -r {}/. \"$1\"", disk.path().display());
    let mount = format!("mount -t tmpfs none \"$1\" && {fill}");
    for folder in ["eb-1/pb", "eb-1", ""] {
        let text = format!("execution_block: eb-m-20240101-{}\n", folder.len());
        fs::write(disk.path().join(folder).join(METADATA), text).expect("a file");
    }
    run(&mount);
    let indexer = || {
        let mut command = site.daemons.command("nsenter");
        command.args(inside).arg(binary("dpd-indexer"));
        Server::with(command, false)
    };
    let (first, api) = (indexer(), site.daemons.api());
    first.wait_for_log("holding the lease", 1);
    let all = ["eb-0", "far/disk", "far/disk/eb-1", "far/disk/eb-1/pb"];
    api.wait_for_folders(&all);
    let is_missing = |indexer: &Server| {
        let status = api.wait_for_status("the missing mount", |status| status["indexing"]["unreadable"]["count"] == 1);
        assert_eq!(paths(&status["indexing"]["unreadable"]), ["far/disk"]);
        let walks = indexer.log().matches("walked everything").count();
        tests::wait_for("two more walks", || {
            (indexer.log().matches("walked everything").count() >= walks + 2).then_some(())
        });
        assert_eq!(api.folders(), all);
    };
    let is_back = || {
        api.wait_for_status("the mount", |status| status["indexing"]["unreadable"]["count"] == 0);
        assert_eq!(api.folders(), all);
    };
    tests::wait_for("a walk that saw it", || (first.log().matches("walked everything").count() >= 2).then_some(()));
    run("umount -l \"$1\"");
    is_missing(&first);
    // Who starts while it is missing knows as well.
    drop(first);
    let second = indexer();
    second.wait_for_state("holding the lease");
    is_missing(&second);
    run(&mount);
    is_back();
    // An empty file system is empty.
    run("rm -r \"$1\"/*");
    api.wait_for_folders(&["eb-0"]);
    run(&fill);
    api.wait_for_folders(&all);
    // And so is a folder that was given up as a mount point.
    run("umount -l \"$1\"");
    is_missing(&second);
    site.volume.product("far/disk/eb-9", "eb-a-20240101-9", "");
    api.wait_for_folders(&["eb-0", "far/disk/eb-9"]);
    drop(shell.stdin.take());
    shell.wait().expect("its end");
}

#[test]
fn a_volume_that_gets_an_identity_keeps_its_rows_and_annotations() {
    let (site, programs) = (Site::new().with("PVCNAME", "archive"), Programs::new());
    site.products(3);
    set_mode(&site.volume, "", 0o555);
    let indexer = || {
        let mut command = site.daemons.command(programs.at("dpd-indexer"));
        programs.as_nobody(&mut command);
        Server::with(command, false)
    };
    let (first, api) = (indexer(), site.daemons.api());
    api.wait_for_index();
    let rows = |api: &Server| {
        let rows = api.search(&[]);
        let mut rows: Vec<_> = rows.iter().map(|row| (row["uid"].clone(), row["dataproduct_file"].clone())).collect();
        rows.sort_by_key(|(_, folder)| folder.to_string());
        rows
    };
    let before = rows(&api);
    assert_eq!(before.len(), 3);
    let ids = "SELECT id FROM data_product ORDER BY id";
    let before_ids = site.database.rows(ids);
    let uid = before[0].0.as_str().expect("a uid").to_owned();
    assert_eq!(api.post("/annotation", &json!({"data_product_uid": uid, "annotation_text": "kept"})).status, 201);
    let prefix = VolumePrefix::of_name("archive").to_string();
    first.wait_for_status("its name", |status| status["volume_prefix"] == *prefix);

    // It comes while the indexer runs.
    set_mode(&site.volume, "", 0o755);
    let id = "6a11ddaa-6b45-4759-87e7-a5abd5105b0e";
    site.volume.write(".dpd-volume-id", id);
    let noted = "SELECT count(*) FROM dpd_indexing_state WHERE volume_id IS NOT NULL";
    tests::wait_for("the identity to be noted", || (site.database.value(noted) == 1).then_some(()));
    let is_as_before = |api: &Server| {
        api.wait_for_index();
        assert_eq!((rows(api), site.database.rows(ids)), (before.clone(), before_ids.clone()));
        let annotations = api.get_json(&format!("/annotations/{uid}"));
        assert_eq!(annotations[0]["annotation_text"], "kept");
        assert_eq!(site.database.value("SELECT count(*) FROM dpd_indexing_state"), 1);
        assert_eq!(api.status()["indexing"]["coordination_state"]["volume_prefix"], prefix);
    };
    is_as_before(&api);
    // Both are started anew, and find it.
    drop(first);
    let second = indexer();
    second.wait_for_status("its name", |status| status["volume_prefix"] == *prefix);
    second.wait_for_state("holding the lease");
    is_as_before(&site.daemons.api());

    // Another volume of the name is another, with an identity or without.
    let other = Volume::new();
    other.product("eb-9", "eb-z-20240101-9", "");
    let others = site.daemons.with("PERSISTENT_STORAGE_PATH", other.path());
    let third = others.indexer();
    let status = third.wait_for_state("holding the lease");
    assert_ne!(status["volume_prefix"], prefix);
    drop(third);
    fs::remove_file(other.at(".dpd-volume-id")).expect("removed");
    set_mode(&other, "", 0o555);
    let mut command = others.command(programs.at("dpd-indexer"));
    programs.as_nobody(&mut command);
    let fourth = Server::with(command, false);
    fourth.wait_for_status("why it waits", |status| {
        status["waits_for"].as_str().is_some_and(|waits| waits.contains(id) && waits.contains("PVCNAME"))
    });
    assert_eq!(rows(&api), before);
}

#[test]
fn another_volume_of_a_name_does_not_take_over_what_was_known_by_it() {
    let (site, programs) = (Site::new().with("PVCNAME", "archive"), Programs::new());
    site.products(3);
    set_mode(&site.volume, "", 0o555);
    let mut command = site.daemons.command(programs.at("dpd-indexer"));
    programs.as_nobody(&mut command);
    let first = Server::with(command, false);
    first.wait_for_log("walked everything", 1);
    let other = Volume::new();
    other.product("eb-other", "eb-z-20240101-9", "");
    let others = site.daemons.with("PERSISTENT_STORAGE_PATH", other.path());
    let (indexer, api) = others.pair();
    assert_ne!(indexer.status()["volume_prefix"], first.status()["volume_prefix"]);
    assert_eq!(api.folders(), ["eb-other"]);
    assert_eq!(site.database.value("SELECT count(*) FROM data_product"), 4);
    assert_eq!(site.database.value("SELECT count(*) FROM dpd_indexing_state WHERE volume_id IS NOT NULL"), 0);
}

#[test]
fn measurement_sets_in_capitals_are_not_walked_into() {
    let volume = Volume::new();
    for folder in ["eb", "eb/vis.MS/inner", "eb/vis.ms/inner"] {
        volume.product(folder, "eb-a-20240101-1", "");
    }
    assert_eq!(Server::start(volume.path()).folders(), ["eb"]);
}
