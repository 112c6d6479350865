//! Products arrive, change, move and go under a running server.

use serde_json::{Value, json};
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tests::program::{Server, serve};
use tests::volume::{METADATA, Volume};

/// Makes tests of functions, by each of those who may tell of changes.
macro_rules! by_all {
    ($($name:ident,)*) => {
        mod by_inotify {
            $(#[test] fn $name() { super::$name("events"); })*
        }
        mod by_notify {
            $(#[test] fn $name() { super::$name("notify"); })*
        }
    };
}

by_all! {
    a_product_is_found_when_it_is_written_changed_and_removed,
    a_file_replaced_by_rename_is_found,
    a_file_that_is_written_slowly_is_right_in_the_end,
    a_broken_file_keeps_the_last_good_version_and_is_listed_until_it_reads,
    trees_move_in_around_and_away,
    only_folders_are_watched_and_only_those_that_are_there,
    a_link_left_behind_is_not_followed,
    folders_made_and_filled_in_an_instant_lose_nothing,
    measurement_sets_are_not_walked_into,
    sizes_follow_the_files,
    an_unchanged_volume_is_walked_without_opening_a_file,
    many_writers_and_readers_at_once,
    each_arrival_is_found,
}

/// A server that would not find a thing by itself: walks are an hour apart.
fn watching(volume: &Volume, by: &str) -> Server {
    let mut command = serve(volume.path());
    command.env("DPD_WATCH", by).env("DPD_RECONCILE_SECONDS", "3600");
    Server::with(command, true)
}

fn walks(server: &Server) -> usize {
    server.log().matches("walked everything").count()
}

fn a_product_is_found_when_it_is_written_changed_and_removed(by: &str) {
    let volume = Volume::new();
    let server = watching(&volume, by);
    volume.product("eb-1", "eb-a-20240101-1", "x: one");
    server.wait_for_folders(&["eb-1"]);
    let updated = server.status()["metadata_store_status"]["last_metadata_update_time"].clone();
    volume.product("eb-1", "eb-a-20240101-1", "x: two");
    tests::wait_for("the change", || (server.search(&["x:two"]).len() == 1).then_some(()));
    assert_ne!(server.status()["metadata_store_status"]["last_metadata_update_time"], updated);
    // Of the same length, so that only content and time differ.
    volume.product("eb-1", "eb-a-20240101-1", "x: six");
    tests::wait_for("the change", || (server.search(&["x:six"]).len() == 1).then_some(()));
    fs::remove_file(volume.at("eb-1").join(METADATA)).expect("gone");
    server.wait_for_folders(&[]);
    assert_eq!(walks(&server), 1);
}

fn a_file_replaced_by_rename_is_found(by: &str) {
    let volume = Volume::new();
    volume.product("eb-1", "eb-a-20240101-1", "x: one");
    let server = watching(&volume, by);
    volume.write("eb-1/.tmp", "execution_block: eb-a-20240101-1\nx: two\n");
    fs::rename(volume.at("eb-1/.tmp"), volume.at("eb-1").join(METADATA)).expect("renamed");
    tests::wait_for("the change", || (server.search(&["x:two"]).len() == 1).then_some(()));
    // And another execution block in the same file is another product in its place.
    volume.product("eb-1", "eb-b-20240101-1", "x: two");
    tests::wait_for("the change", || {
        let rows = server.search(&[]);
        (rows.len() == 1 && rows[0]["execution_block"] == "eb-b-20240101-1").then_some(())
    });
}

fn a_file_that_is_written_slowly_is_right_in_the_end(by: &str) {
    use std::io::Write;
    let volume = Volume::new();
    volume.product("eb-1", "eb-a-20240101-1", "x: before");
    let server = watching(&volume, by);
    let mut file = fs::File::create(volume.at("eb-1").join(METADATA)).expect("the file");
    for part in ["execution_block: eb-a-20240101-1\n", "x: [after", ", [nested", "]]\n"] {
        file.write_all(part.as_bytes()).expect("a part");
        file.sync_all().expect("written");
        // The writer's own pace, which the reader must bear; nothing is waited for.
        std::thread::park_timeout(Duration::from_millis(60));
        // The last good version stays meanwhile, or what is there reads already.
        assert_eq!(server.folders(), ["eb-1"]);
    }
    // Still open: the last write counts, not the close.
    tests::wait_for("the whole file", || (server.search(&["x:nested"]).len() == 1).then_some(()));
    drop(file);
    assert_eq!(server.status()["indexing"]["failing"]["count"], 0);
}

fn a_broken_file_keeps_the_last_good_version_and_is_listed_until_it_reads(by: &str) {
    let volume = Volume::new();
    volume.product("eb-1", "eb-a-20240101-1", "x: good");
    let server = watching(&volume, by);
    volume.product("eb-1", "eb-a-20240101-1", "x: [never closed");
    let failing = tests::wait_for("the failing file", || {
        let failing = server.status()["indexing"]["failing"].clone();
        (failing["count"] == 1).then_some(failing)
    });
    assert_eq!(failing["first"][0]["path"], format!("eb-1/{METADATA}"));
    assert!(failing["first"][0]["error"].as_str().expect("an error").contains("line"));
    assert_eq!(server.search(&["x:good"]).len(), 1);
    volume.product("eb-1", "eb-a-20240101-1", "x: better");
    tests::wait_for("the file to read", || (server.search(&["x:better"]).len() == 1).then_some(()));
    assert_eq!(server.status()["indexing"]["failing"]["count"], 0);
}

fn trees_move_in_around_and_away(by: &str) {
    let volume = Volume::new();
    let elsewhere = Volume::new();
    let server = watching(&volume, by);
    for pb in ["pb-1", "pb-2/beam-1/scan-1", "pb-2/beam-1/scan-2"] {
        elsewhere.product(&format!("eb/ska-sdp/{pb}"), "eb-a-20240101-1", "");
    }
    fs::rename(elsewhere.at("eb"), volume.at("eb")).expect("moved in");
    server.wait_for_folders(&["eb/ska-sdp/pb-1", "eb/ska-sdp/pb-2/beam-1/scan-1", "eb/ska-sdp/pb-2/beam-1/scan-2"]);
    let uid = server.search(&["dataproduct_file:pb-1"])[0]["uid"].clone();
    fs::rename(volume.at("eb/ska-sdp"), volume.at("eb/moved")).expect("moved");
    server.wait_for_folders(&["eb/moved/pb-1", "eb/moved/pb-2/beam-1/scan-1", "eb/moved/pb-2/beam-1/scan-2"]);
    assert_ne!(server.search(&["dataproduct_file:pb-1"])[0]["uid"], uid);
    // What happens in a moved folder is still noticed, under its new name.
    volume.product("eb/moved/pb-2/beam-1/scan-3", "eb-a-20240101-1", "");
    tests::wait_for("scan 3", || (server.folders().len() == 4).then_some(()));
    volume.product("eb/moved/pb-1", "eb-a-20240101-1", "x: changed");
    tests::wait_for("the change", || (server.search(&["x:changed"]).len() == 1).then_some(()));
    fs::rename(volume.at("eb/moved/pb-2"), elsewhere.at("pb-2")).expect("moved away");
    server.wait_for_folders(&["eb/moved/pb-1"]);
    fs::remove_dir_all(volume.at("eb")).expect("removed");
    server.wait_for_folders(&[]);
    assert_eq!(walks(&server), 1);
}

/// How many folders and files a process has the kernel watch.
fn kernel_watches(server: &Server) -> usize {
    let infos = fs::read_dir(format!("/proc/{}/fdinfo", server.pid())).expect("its files");
    let texts = infos.filter_map(|info| fs::read_to_string(info.ok()?.path()).ok());
    texts.map(|text| text.lines().filter(|line| line.starts_with("inotify")).count()).sum()
}

fn only_folders_are_watched_and_only_those_that_are_there(by: &str) {
    let volume = Volume::new();
    volume.product("eb", "eb-a-20240101-1", "");
    let server = watching(&volume, by);
    assert_eq!(kernel_watches(&server), 2);
    for n in 0..50 {
        volume.write("eb/part.tmp", "x");
        fs::rename(volume.at("eb/part.tmp"), volume.at(&format!("eb/part-{n}"))).expect("renamed");
    }
    volume.product("eb/inner", "eb-a-20240101-1", "");
    tests::wait_for("the inner product", || (server.folders().len() == 2).then_some(()));
    tests::wait_for("three watches", || (kernel_watches(&server) == 3).then_some(()));
    fs::remove_dir_all(volume.at("eb/inner")).expect("removed");
    tests::wait_for("two watches", || (kernel_watches(&server) == 2).then_some(()));
}

fn a_link_left_behind_is_not_followed(by: &str) {
    let volume = Volume::new();
    volume.product("eb", "eb-a-20240101-1", "");
    fs::create_dir(volume.at("archive")).expect("a folder");
    let server = watching(&volume, by);
    fs::rename(volume.at("eb"), volume.at("archive/eb")).expect("moved");
    std::os::unix::fs::symlink("archive/eb", volume.at("eb")).expect("a link");
    server.wait_for_folders(&["archive/eb"]);
    assert_eq!(server.get("/reindexdataproducts").status, 202);
    tests::wait_for("the reindex", || (walks(&server) == 2).then_some(()));
    assert_eq!(server.folders(), ["archive/eb"]);
}

fn folders_made_and_filled_in_an_instant_lose_nothing(by: &str) {
    let volume = Volume::new();
    let server = watching(&volume, by);
    for n in 0..200 {
        volume.product(&format!("eb-{n}/ska-sdp/pb-{n}/scan"), &format!("eb-a-20240101-{n}"), "");
    }
    tests::wait_for("all of them", || (server.folders().len() == 200).then_some(()));
    assert_eq!(walks(&server), 1);
}

fn measurement_sets_are_not_walked_into(by: &str) {
    let volume = Volume::new();
    volume.product("eb/vis.ms/inner", "eb-a-20240101-1", "");
    volume.product("eb/cube.zarr", "eb-a-20240101-1", "");
    volume.product("eb", "eb-a-20240101-1", "");
    let server = watching(&volume, by);
    assert_eq!(server.folders(), ["eb"]);
    assert_eq!(server.status()["indexing"]["watch"]["folders_watched"], 2);
    volume.product("eb/late.ms/inner", "eb-a-20240101-1", "");
    volume.product("eb/sub", "eb-a-20240101-1", "");
    server.wait_for_folders(&["eb", "eb/sub"]);
}

fn sizes_follow_the_files(by: &str) {
    let volume = Volume::new();
    volume.product("eb", "eb-a-20240101-1", "");
    volume.write("eb/vis.ms/table.f0", [0; 1000]);
    let server = watching(&volume, by);
    let own = fs::metadata(volume.at("eb").join(METADATA)).expect("the file").len();
    let size = |server: &Server| server.search(&[])[0]["size"].as_u64();
    tests::wait_for("the size", || (size(&server) == Some(own + 1000)).then_some(()));
    volume.write("eb/more.h5", [0; 500]);
    tests::wait_for("the new size", || (size(&server) == Some(own + 1500)).then_some(()));
    fs::remove_file(volume.at("eb/more.h5")).expect("removed");
    tests::wait_for("the old size", || (size(&server) == Some(own + 1000)).then_some(()));
}

fn an_unchanged_volume_is_walked_without_opening_a_file(by: &str) {
    let volume = Volume::new();
    for n in 0..50 {
        volume.product(&format!("eb-{n}"), &format!("eb-a-20240101-{n}"), "");
    }
    let server = watching(&volume, by);
    let files: Vec<_> = (0..50).map(|n| volume.at(&format!("eb-{n}")).join(METADATA)).collect();
    let opened = tests::opens::Opens::of(&files);
    assert_eq!(server.get("/reindexdataproducts").status, 202);
    tests::wait_for("the reindex", || {
        let progress = server.status()["indexing"]["progress"].clone();
        (progress["indexing_step"] == "completed" && progress["files_skipped"] == 50).then_some(())
    });
    assert_eq!(opened.count(), 0);
    // The same watch does see a file that is opened.
    fs::read(&files[0]).expect("the file");
    tests::wait_for("the opening", || (opened.count() == 1).then_some(()));
}

fn many_writers_and_readers_at_once(by: &str) {
    let volume = Volume::new();
    let server = watching(&volume, by);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        let rows = server.search(&["kind:load"]);
                        let mut folders: Vec<&Value> = rows.iter().map(|row| &row["dataproduct_file"]).collect();
                        let all = folders.len();
                        folders.sort_by_key(ToString::to_string);
                        folders.dedup();
                        assert_eq!(folders.len(), all, "a product twice");
                        let page = server.filter(&json!({"pageSize": 10, "page": 1}));
                        assert!(page["data"].as_array().is_some_and(|rows| rows.len() <= 10));
                    }
                })
            })
            .collect();
        let writers: Vec<_> = (0..8)
            .map(|writer| {
                let volume = &volume;
                scope.spawn(move || {
                    for n in 0..25 {
                        let folder = format!("eb-{writer}-{n}/ska-sdp/pb");
                        volume.product(&folder, &format!("eb-w{writer}-20240101-{n}"), "kind: load");
                    }
                })
            })
            .collect();
        writers.into_iter().for_each(|writer| writer.join().expect("a writer"));
        tests::wait_for("all products", || (server.search(&["kind:load"]).len() == 200).then_some(()));
        done.store(true, Ordering::Relaxed);
        readers.into_iter().for_each(|reader| reader.join().expect("a reader"));
    });
    assert_eq!(server.status()["metadata_store_status"]["number_of_dataproducts"], 200);
}

/// Also measures it, for who wants to know: `cargo test -p tests --test it -- each_arrival_is_found --nocapture`.
fn each_arrival_is_found(by: &str) {
    let volume = Volume::new();
    let server = watching(&volume, by);
    let mut times: Vec<Duration> = (0..100)
        .map(|n| {
            let begun = Instant::now();
            volume.product(&format!("eb-{n}/pb"), &format!("eb-a-20240101-{n}"), &format!("x: n{n}."));
            tests::wait_for("the arrival", || (server.search(&[&format!("x:n{n}.")]).len() == 1).then_some(()));
            begun.elapsed()
        })
        .collect();
    times.sort();
    eprintln!("arrival to searchable by {by}: {:?}, median {:?}, at most {:?}", times[0], times[50], times[99]);
    assert_eq!(walks(&server), 1);
}
