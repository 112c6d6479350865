//! Ways out of the storage path: none is one, also where names change between the look and the opening.

use super::both;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde_json::json;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use tests::volume::{METADATA, Volume};

const SECRET: &str = "what-is-outside";
const BLOCK: &str = "eb-a-20240101-1";
/// How often the swapped names are asked for.
const ROUNDS: usize = 50;

/// Exchanges the two names of each pair again and again until told to stop.
fn swap(pairs: &[(PathBuf, PathBuf)], stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        for (one, other) in pairs {
            renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).expect("exchanged");
        }
    }
}

/// Tells it when dropped, also where the test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn names_that_change_in_between_lead_nowhere() {
    let outside = Volume::new();
    outside.write("folder/file", SECRET);
    outside.write("folder/deep/file", SECRET);
    outside.product("folder/deep", BLOCK, &format!("x: {SECRET}"));
    outside.product("meta", BLOCK, &format!("x: {SECRET}"));
    let fill = |volume: &Volume| {
        volume.product("eb", BLOCK, "x: inside");
        for name in ["file", "folder/file", "folder/deep/file"] {
            volume.write(&format!("eb/{name}"), "inside");
        }
        volume.product("eb/folder/deep", BLOCK, "x: inside");
        volume.product("other", BLOCK, "x: inside");
        fs::create_dir(volume.at("swap")).expect("a folder");
        symlink(outside.at("folder/file"), volume.at("swap/file")).expect("a link");
        symlink(outside.at("folder"), volume.at("swap/folder")).expect("a link");
        symlink(outside.at("meta").join(METADATA), volume.at("swap/meta")).expect("a link");
        symlink(outside.at("meta"), volume.at("swap/other")).expect("a link");
    };
    // Walks all the time meet what changes.
    for running in both(fill, &[("DPD_RECONCILE_SECONDS", "1")]) {
        let stop = AtomicBool::new(false);
        let at = |path: &str| running.volume.at(path);
        let pairs = [
            (at("eb/file"), at("swap/file")),
            (at("eb/folder"), at("swap/folder")),
            (at("eb").join(METADATA), at("swap/meta")),
            (at("other"), at("swap/other")),
        ];
        std::thread::scope(|scope| {
            scope.spawn(|| swap(&pairs, &stop));
            let _end = Stop(&stop);
            for round in 0..ROUNDS {
                let mut answers = vec![running.api.post("/dataproductmetadata", &json!({"execution_block": BLOCK}))];
                for folder in ["eb", "other", "eb/folder/deep", "swap/other", "swap/folder/deep"] {
                    let body = json!({"execution_block": BLOCK, "relativePathName": folder});
                    answers.push(running.api.post("/ingestnewdataproduct", &body));
                }
                answers.push(running.api.post("/dataproductsearch", &json!({"key_value_pairs": ["x:outside"]})));
                for answer in &answers {
                    let text = String::from_utf8_lossy(&answer.body);
                    assert!(!text.contains(SECRET), "round {round}: {text}");
                }
                // It may break off, for files go while they are read.
                let body = json!({"execution_block": BLOCK}).to_string();
                let sent =
                    ureq::post(format!("{}/download", running.api.url)).config().http_status_as_error(false).build();
                let mut archive = Vec::new();
                if let Ok(answer) = sent.send(body) {
                    let _ = std::io::Read::read_to_end(&mut answer.into_body().into_reader(), &mut archive);
                }
                assert!(!String::from_utf8_lossy(&archive).contains(SECRET), "round {round}");
            }
        });
        assert!(!running.api.log().contains(SECRET));
    }
}

#[test]
fn names_from_outside_lead_nowhere() {
    let outside = Volume::new();
    outside.product("", "eb-out-20240101-1", &format!("x: {SECRET}"));
    let ups = "../".repeat(20);
    let real = outside.path().to_str().expect("a path").to_owned();
    let up_to_it = format!("{ups}{}", real.trim_start_matches('/'));
    let metadata = format!(
        "x: 1\nfiles: [{{path: {real}/{METADATA}}}]\ndataproduct_file: {real}\nmetadata_file: {real}/{METADATA}"
    );
    for running in both(|volume| volume.product("eb", BLOCK, &metadata), &[]) {
        let api = &running.api;
        for name in [
            real.clone(),
            up_to_it.clone(),
            format!("eb/{up_to_it}"),
            format!("./{real}"),
            format!("eb/..//{real}"),
            "..".to_owned(),
            "eb/..".to_owned(),
            "\0".to_owned(),
            format!("eb\0{real}"),
            "/".to_owned(),
            "~".to_owned(),
            format!("file://{real}"),
            "%2e%2e/%2e%2e".to_owned(),
            "..\\..".to_owned(),
            "x/".repeat(3000),
        ] {
            for body in [
                json!({"execution_block": name}),
                json!({"execution_block": "eb-out-20240101-1", "relativePathName": name}),
            ] {
                let answer = api.post("/ingestnewdataproduct", &body);
                let text = String::from_utf8_lossy(&answer.body);
                assert!([400, 404, 422].contains(&answer.status), "{name:.50}: {} {text}", answer.status);
                assert!(!text.contains(SECRET));
            }
            assert_eq!(api.post("/download", &json!({"execution_block": name})).status, 404, "{name:.50}");
        }
        // The metadata say much; what is read is the product's folder.
        let archive = api.post("/download", &json!({"execution_block": BLOCK}));
        assert_eq!(archive.status, 200);
        assert!(!String::from_utf8_lossy(&archive.body).contains(SECRET));
        let encoded = up_to_it.replace('/', "%2F").replace('.', "%2E");
        for path in [
            format!("/docs/{up_to_it}/{METADATA}"),
            format!("/docs/{encoded}%2F{METADATA}"),
            format!("//{real}/{METADATA}"),
            format!("/annotations/{encoded}"),
            format!("/{encoded}"),
            "/docs/..%2f..%2fstatus".to_owned(),
        ] {
            let answer = tests::program::read_all(
                &{
                    use std::io::Write;
                    let mut stream = api.connect();
                    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                        .expect("sent");
                    stream
                },
                tests::PATIENCE,
            );
            let nothing = ["HTTP/1.1 4", "HTTP/1.1 202", "HTTP/1.1 204"];
            assert!(nothing.iter().any(|status| answer.starts_with(status)), "{path}: {answer}");
            assert!(!answer.contains(SECRET), "{path}: {answer}");
        }
    }
}
