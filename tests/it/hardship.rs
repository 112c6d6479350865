//! What is not as it should be: watches refused, mounts that vanish, folders that cannot be read, clients that dawdle.

use serde_json::json;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, SystemTime};
use tests::program::{Server, binary, read_all, serve, with_bare_environment};
use tests::volume::Volume;

/// Twenty products, where the kernel watches no more than so many folders; `None` where no such limit can be set.
fn with_few_watches(volume: &Volume, watches: usize, reconcile_seconds: &str) -> Option<Server> {
    for n in 0..20 {
        volume.product(&format!("eb-{n}"), &format!("eb-a-20240101-{n}"), "x: before");
        let folder = fs::File::open(volume.at(&format!("eb-{n}"))).expect("a folder");
        let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        folder.set_modified(long_ago).expect("a time");
    }
    // A user namespace of its own has a limit of its own.
    let limit = format!("echo {watches} > /proc/sys/user/max_inotify_watches");
    let script = format!("{limit} && exec \"$@\"");
    let mut command = with_bare_environment(Command::new("unshare"));
    command.args(["-Ur", "sh", "-c", &script, "sh"]).arg(binary("dpd")).arg("serve").arg(volume.path());
    command.args(["--listen", "127.0.0.1:0"]).env("DPD_RECONCILE_SECONDS", reconcile_seconds);
    let probe = Command::new("unshare").args(["-Ur", "sh", "-c", &limit]).output();
    if !probe.is_ok_and(|probe| probe.status.success()) {
        eprintln!("skipped: user namespaces cannot be made here, so no limit of watches can be set");
        return None;
    }
    let server = Server::with(command, true);
    assert_eq!(server.folders().len(), 20);
    Some(server)
}

#[test]
fn what_cannot_be_watched_is_polled() {
    let volume = Volume::new();
    let Some(server) = with_few_watches(&volume, 8, "1") else { return };
    let watch = server.status()["indexing"]["watch"].clone();
    let (watched, polled) = (watch["folders_watched"].as_u64(), watch["folders_polled"].as_u64());
    assert!(watched > Some(0) && polled > Some(0), "{watch}");
    assert_eq!(watched.zip(polled).map(|(watched, polled)| watched + polled), Some(21));
    for n in 0..20 {
        volume.product(&format!("eb-{n}"), &format!("eb-a-20240101-{n}"), "x: after");
    }
    volume.product("eb-new/deep/down", "eb-a-20240101-99", "x: after");
    fs::remove_dir_all(volume.at("eb-0")).expect("removed");
    tests::wait_for("all changes", || (server.search(&["x:after"]).len() == 20).then_some(()));
}

#[test]
fn what_is_new_is_watched_in_place_of_what_is_old() {
    let volume = Volume::new();
    let Some(server) = with_few_watches(&volume, 8, "3600") else { return };
    volume.product("eb-new/deep/down", "eb-a-20240101-99", "x: new");
    tests::wait_for("the new product", || (server.search(&["x:new"]).len() == 1).then_some(()));
    // Written in place, which only a watch on its own folder tells.
    volume.product("eb-new/deep/down", "eb-a-20240101-99", "x: again");
    tests::wait_for("its change", || (server.search(&["x:again"]).len() == 1).then_some(()));
    // And the storage path is still watched.
    volume.product("eb-newer", "eb-a-20240101-98", "x: newer");
    tests::wait_for("one more", || (server.search(&["x:newer"]).len() == 1).then_some(()));
}

#[test]
fn what_is_new_and_cannot_be_watched_is_looked_at_again() {
    let volume = Volume::new();
    // The storage path alone is.
    let Some(server) = with_few_watches(&volume, 1, "3600") else { return };
    volume.product("eb-new", "eb-a-20240101-98", "x: new");
    tests::wait_for("the new product", || (server.search(&["x:new"]).len() == 1).then_some(()));
    // No event tells of what comes now.
    volume.product("eb-new/deep", "eb-a-20240101-99", "x: new");
    tests::wait_for("the one in it", || (server.search(&["x:new"]).len() == 2).then_some(()));
}

#[test]
fn polling_finds_everything_too() {
    let volume = Volume::new();
    volume.product("eb-1", "eb-a-20240101-1", "x: before");
    volume.product("eb-2", "eb-a-20240101-2", "");
    let mut command = serve(volume.path());
    command.env("DPD_WATCH", "poll").env("DPD_RECONCILE_SECONDS", "1");
    let server = Server::with(command, true);
    assert_eq!(server.status()["indexing"]["watch"]["mode"], "poll");
    volume.product("eb-1", "eb-a-20240101-1", "x: after");
    fs::rename(volume.at("eb-2"), volume.at("eb-3")).expect("renamed");
    tests::wait_for("the change", || (server.search(&["x:after"]).len() == 1).then_some(()));
    server.wait_for_folders(&["eb-1", "eb-3"]);
}

#[test]
fn a_volume_that_vanishes_removes_nothing() {
    let parent = Volume::new();
    fs::create_dir(parent.at("mount")).expect("a folder");
    for n in 0..5 {
        parent.product(&format!("mount/eb-{n}"), &format!("eb-a-20240101-{n}"), "");
    }
    let server = Server::start(&parent.at("mount"));
    // As when a mount goes away: first nothing is there, then the empty folder below it.
    fs::rename(parent.at("mount"), parent.at("away")).expect("moved away");
    tests::wait_for("a word of it", || {
        let status = server.status()["pv_interface_status"].clone();
        (status["pv_available"] == false && status["pv_error"].is_string()).then_some(())
    });
    assert_eq!(server.folders().len(), 5);
    fs::create_dir(parent.at("mount")).expect("a folder");
    tests::wait_for("a word of it", || {
        let error = server.status()["pv_interface_status"]["pv_error"].clone();
        error.as_str().is_some_and(|error| error.contains("5 products")).then_some(())
    });
    assert_eq!(server.folders().len(), 5);
    // It comes back, with a change made meanwhile, and is watched again.
    fs::remove_dir(parent.at("mount")).expect("removed");
    fs::remove_dir_all(parent.at("away/eb-0")).expect("removed");
    fs::rename(parent.at("away"), parent.at("mount")).expect("moved back");
    server.wait_for_folders(&["eb-1", "eb-2", "eb-3", "eb-4"]);
    tests::wait_for("the volume", || (server.status()["pv_interface_status"]["pv_available"] == true).then_some(()));
    parent.product("mount/eb-9", "eb-a-20240101-9", "");
    tests::wait_for("a new product", || (server.folders().len() == 5).then_some(()));
}

/// Root reads what it may not, so the program runs as somebody else where the test is root.
fn start_unprivileged(volume: &Volume, reconcile_seconds: &str) -> Server {
    fs::set_permissions(volume.path(), fs::Permissions::from_mode(0o777)).expect("a mode");
    let mut command = serve(volume.path());
    if fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0) {
        let copy = volume.at("dpd");
        fs::copy(binary("dpd"), &copy).expect("a copy that others may run");
        command = with_bare_environment(Command::new(copy));
        std::os::unix::process::CommandExt::uid(&mut command, 65534);
        command.arg("serve").arg(volume.path()).args(["--listen", "127.0.0.1:0"]);
    }
    command.env("DPD_RECONCILE_SECONDS", reconcile_seconds);
    Server::with(command, true)
}

#[test]
fn a_folder_that_becomes_readable_is_read() {
    let volume = Volume::new();
    volume.product("shut/eb-1", "eb-a-20240101-1", "");
    fs::set_permissions(volume.at("shut"), fs::Permissions::from_mode(0o000)).expect("a mode");
    let server = start_unprivileged(&volume, "3600");
    assert_eq!(server.status()["indexing"]["watch"]["folders_polled"], 1);
    fs::set_permissions(volume.at("shut"), fs::Permissions::from_mode(0o755)).expect("a mode");
    server.wait_for_folders(&["shut/eb-1"]);
}

#[test]
fn products_in_a_folder_that_cannot_be_read_stay() {
    let volume = Volume::new();
    volume.product("shut/eb-1", "eb-a-20240101-1", "");
    volume.product("open/eb-2", "eb-a-20240101-2", "");
    let open =
        |path: &str, mode| fs::set_permissions(volume.at(path), fs::Permissions::from_mode(mode)).expect("a mode");
    let server = start_unprivileged(&volume, "1");
    server.wait_for_folders(&["open/eb-2", "shut/eb-1"]);
    open("shut", 0o000);
    fs::remove_dir_all(volume.at("open/eb-2")).expect("removed");
    server.wait_for_folders(&["shut/eb-1"]);
    // Long enough for a file that were looked at by name to be listed as failing.
    let walks = || server.log().matches("walked everything").count();
    let before = walks();
    tests::wait_for("walks that meet it", || (walks() >= before + 6).then_some(()));
    assert_eq!(server.folders(), ["shut/eb-1"]);
    assert_eq!(server.status()["indexing"]["failing"]["count"], 0);
    open("shut", 0o755);
    volume.product("shut/eb-1", "eb-a-20240101-1", "x: again");
    tests::wait_for("the change", || (server.search(&["x:again"]).len() == 1).then_some(()));
}

#[test]
fn slow_heads_and_bodies_are_not_waited_for() {
    let volume = Volume::new();
    let server = Server::start(volume.path());
    let mut slow_head = server.connect();
    slow_head.write_all(b"GET /status HTTP/1.1\r\nHost:").expect("a part");
    let mut slow_body = server.connect();
    slow_body
        .write_all(b"POST /dataproductsearch HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
        .expect("a part");
    let idle = server.connect();
    assert_eq!(read_all(&slow_head, tests::PATIENCE), "");
    let answer = read_all(&slow_body, tests::PATIENCE);
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("detail"), "{answer}");
    assert_eq!(read_all(&idle, tests::PATIENCE), "");
    assert_eq!(server.status()["api_running"], true);
}

#[test]
fn signals_end_it_within_a_second_whoever_is_connected() {
    let volume = Volume::new();
    for signal in [rustix::process::Signal::TERM, rustix::process::Signal::INT] {
        let mut server = Server::start(volume.path());
        let _idle = server.connect();
        let mut stuck = server.connect();
        stuck
            .write_all(b"POST /dataproductsearch HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
            .expect("a part");
        let begun = std::time::Instant::now();
        server.signal(signal);
        assert!(server.ended().success());
        // A second, and as much again for a busy machine; without an end of its own it would be a body's timeout of 10.
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    }
}

#[test]
fn events_that_were_lost_are_made_up_for() {
    let volume = Volume::new();
    volume.product("eb-1", "eb-a-20240101-2", "");
    let server = Server::start(volume.path());
    server.signal(rustix::process::Signal::STOP);
    // More than the kernel keeps for one reader: /proc/sys/fs/inotify/max_queued_events is 16384 or more.
    let limit: usize =
        fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").expect("it").trim().parse().expect("a number");
    if limit > 100_000 {
        eprintln!("skipped: {limit} events are kept here");
        return;
    }
    fs::create_dir(volume.at("noise")).expect("a folder");
    for n in 0..=limit {
        fs::write(volume.at(&format!("f{}", n % 500)), b"x").expect("a file");
    }
    volume.product("eb-late", "eb-a-20240101-1", "");
    fs::remove_dir_all(volume.at("eb-1")).expect("removed");
    volume.product("eb-1", "eb-a-20240101-3", "");
    server.signal(rustix::process::Signal::CONT);
    server.wait_for_folders(&["eb-1", "eb-late"]);
    tests::wait_for("a word of it", || server.log().contains("lost events").then_some(()));
    // Watches are on the folders that are there now, and not on those of before.
    volume.product("eb-1", "eb-a-20240101-3", "x: later");
    tests::wait_for("the change", || (server.search(&["x:later"]).len() == 1).then_some(()));
}

#[test]
fn hostile_metadata_costs_little_and_is_listed() {
    let volume = Volume::new();
    let mut bomb = String::from("execution_block: eb-bomb-20240101-1\na: &a [x, x, x, x, x, x, x, x, x]\n");
    for pair in ["ab", "bc", "cd", "de", "ef", "fg", "gh", "hi"] {
        let (of, name) = pair.split_at(1);
        bomb += &format!("{name}: &{name} [{}]\n", vec![format!("*{of}"); 9].join(", "));
    }
    volume.write("bomb/ska-data-product.yaml", bomb);
    volume.write("deep/ska-data-product.yaml", "[".repeat(1_000_000));
    volume.write("wide/ska-data-product.yaml", vec![b'x'; 16 * 1024 * 1024]);
    volume.write("binary/ska-data-product.yaml", (0..=255).collect::<Vec<u8>>());
    volume.write("empty/ska-data-product.yaml", "");
    for (n, block) in ["5", "[a]", "{a: b}", "~", ".nan"].iter().enumerate() {
        volume.product(&format!("block-{n}"), block, "");
    }
    volume.product("good", "eb-a-20240101-1", "x: .inf\ny: 0123456789012345678901234567890");
    let server = Server::start(volume.path());
    let failing = tests::wait_for("all of them", || {
        let failing = server.status()["indexing"]["failing"].clone();
        // `.nan` is the text ".nan", and so an execution block.
        (failing["count"] == 9).then_some(failing)
    });
    assert_eq!(failing["first"].as_array().map(Vec::len), Some(9));
    assert_eq!(server.folders(), ["block-4", "good"]);
    assert!(server.memory("VmHWM") < 400 << 20);
    assert_eq!(server.filter(&json!({}))["total"], 2);
}
