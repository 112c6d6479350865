//! Downloads in parts: the parts of one archive, whoever sends them, or the whole of another.

use crate::daemons::Site;
use serde_json::json;
use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use tests::program::{Answer, Server, serve};
use tests::volume::Volume;

const BLOCK: &str = "eb-a-20240101-1";
const PATH: &str = "/download?execution_block=eb-a-20240101-1";

/// A product with entries of many kinds.
fn product(volume: &Volume) {
    volume.product("eb", BLOCK, "");
    let content: Vec<u8> = (0..80_000u32).flat_map(u32::to_le_bytes).collect();
    for size in [0, 1, 511, 512, 513, 65_536, 200_000] {
        volume.write(&format!("eb/vis.ms/table.f{size}"), &content[..size]);
    }
    volume.write(&format!("eb/{}/{}", "folder".repeat(30), "name".repeat(50)), &content[..3000]);
    symlink("vis.ms/table.f1", volume.at("eb/link")).expect("a link");
}

fn part(server: &Server, range: &str, etag: &str) -> Answer {
    server.get_with(PATH, &[("Range", range), ("If-Range", etag)])
}

#[test]
fn every_part_is_that_part_of_the_whole() {
    let volume = Volume::new();
    product(&volume);
    let server = Server::start(volume.path());
    // In the second of the last change another change may follow, and no time of it is told for good.
    tests::wait_for("the next second", || {
        let head = server.head(PATH);
        (head.header("last-modified") != head.header("date")).then_some(())
    });
    let whole = server.get(PATH);
    let total = whole.body.len();
    assert_eq!((whole.status, whole.header("accept-ranges")), (200, "bytes"));
    assert_eq!(whole.header("content-length"), total.to_string());
    assert!(whole.header("etag").starts_with('"') && whole.header("last-modified").ends_with(" GMT"));
    let uid = server.search(&[])[0]["uid"].as_str().expect("a uid").to_owned();
    for path in [PATH.to_owned(), format!("/download/{uid}"), format!("/download?uid={uid}")] {
        let head = server.head(&path);
        assert_eq!((head.status, head.body.len()), (200, 0));
        for name in ["content-length", "etag", "last-modified", "accept-ranges", "content-type"] {
            assert_eq!(head.header(name), whole.header(name), "{name} of {path}");
        }
        assert_eq!(server.get(&path).body, whole.body);
    }
    assert_eq!(server.post("/download", &json!({"uid": uid})).body, whole.body);

    let mut edges: Vec<usize> = (0..total).step_by(512).flat_map(|at| [at, at + 1, at + 511]).collect();
    edges.truncate(60);
    edges.extend([total / 2, total - 1025, total - 1024, total - 1]);
    for first in edges {
        for length in [1, 513, 70_000] {
            let last = (first + length - 1).min(total - 1);
            let answer = part(&server, &format!("bytes={first}-{last}"), whole.header("etag"));
            assert_eq!(answer.status, 206, "{first}-{last}");
            assert!(answer.body == whole.body[first..=last], "{first}-{last}");
            assert_eq!(answer.header("content-range"), format!("bytes {first}-{last}/{total}"));
            assert_eq!(answer.header("etag"), whole.header("etag"));
        }
    }
    for (range, from) in [("bytes=7000-", 7000), ("bytes=-5000", total - 5000), ("bytes=0-", 0)] {
        let answer = server.get_with(PATH, &[("Range", range)]);
        assert!(answer.status == 206 && answer.body == whole.body[from..], "{range}");
    }
    for range in ["bytes=0-1,5-6", "lines=0-1", "bytes=6-5"] {
        let answer = server.get_with(PATH, &[("Range", range)]);
        assert!(answer.status == 200 && answer.body == whole.body, "{range}");
    }
    let answer = server.get_with(PATH, &[("Range", &format!("bytes={total}-"))]);
    assert_eq!((answer.status, answer.header("content-range")), (416, format!("bytes */{total}").as_str()));
    assert!(answer.json()["detail"].is_string());
    let answer = server.get_with(PATH, &[("If-None-Match", whole.header("etag"))]);
    assert_eq!((answer.status, answer.body.len(), answer.header("etag")), (304, 0, whole.header("etag")));
    let answer = server.get_with(PATH, &[("If-Match", "\"another\"")]);
    assert!(answer.status == 412 && answer.json()["detail"].is_string());
    for (path, status) in [("/download", 400), ("/download?uid=x", 400), ("/download/x", 400)] {
        assert_eq!(server.get(path).status, status, "{path}");
    }
    assert_eq!(server.get("/download/00000000-0000-0000-0000-000000000000").status, 404);
    let encoded = "/download?execution%5Fblock=eb%2Da-20240101%2D1&uid=";
    assert_eq!(server.get(encoded).header("etag"), whole.header("etag"));
    let status = server.wait_for_status("the end of all", |status| status["downloads"]["running"] == 0);
    assert_eq!(status["downloads"]["plans_kept"], 1);
    assert!(status["downloads"]["completed"].as_u64() > Some(200) && status["downloads"]["abandoned"] == 0, "{status}");
}

#[test]
fn every_process_sends_the_same_bytes() {
    let site = Site::new();
    product(&site.volume);
    let (_indexer, one) = site.daemons.pair();
    let other = site.daemons.api();
    let whole = one.get(PATH);
    assert_eq!((whole.status, one.search(&[])[0]["execution_block"].as_str()), (200, Some(BLOCK)));
    let half = whole.body.len() / 2;
    let same = |server: &Server| {
        let rest = part(server, &format!("bytes={half}-"), whole.header("etag"));
        assert!(rest.status == 206 && rest.body == whole.body[half..]);
    };
    same(&other);
    one.stop();
    same(&site.daemons.api());
    let mut standalone = serve(site.volume.path());
    standalone.env("STREAM_CHUNK_SIZE", "1000");
    same(&Server::with(standalone, true));
}

#[test]
fn a_resume_against_changed_files_gets_the_whole_new_archive() {
    let volume = Volume::new();
    product(&volume);
    let server = Server::start(volume.path());
    let at = |name: &str| volume.at("eb/vis.ms").join(name);
    let file = fs::File::options().write(true).open(at("table.f513")).expect("a file");
    let time = file.metadata().and_then(|metadata| metadata.modified()).expect("a time");
    fs::write(volume.at("new"), [1; 513]).expect("a file");
    let replace = || {
        let new = fs::File::options().write(true).open(volume.at("new")).expect("the file");
        new.set_modified(fs::metadata(at("table.f513")).and_then(|old| old.modified()).expect("a time"))
            .expect("a time");
        let folder = fs::File::open(at("")).expect("the folder");
        let before = folder.metadata().and_then(|metadata| metadata.modified()).expect("a time");
        fs::rename(volume.at("new"), at("table.f513")).expect("renamed");
        folder.set_modified(before).expect("a time");
    };
    let changes: [(&str, &dyn Fn()); 9] = [
        ("content", &|| fs::write(at("table.f513"), [7; 513]).expect("written")),
        ("a nanosecond", &|| {
            file.set_modified(time + std::time::Duration::from_nanos(1)).expect("a time");
        }),
        ("size", &|| fs::write(at("table.f1"), [7; 2]).expect("written")),
        ("another file of the same size and time", &replace),
        ("permissions", &|| fs::set_permissions(at("table.f1"), fs::Permissions::from_mode(0o600)).expect("a mode")),
        ("a new file", &|| fs::write(at("new"), "").expect("written")),
        ("a new name", &|| fs::rename(at("new"), at("newer")).expect("renamed")),
        ("one file less", &|| fs::remove_file(at("newer")).expect("removed")),
        ("another link", &|| {
            fs::remove_file(volume.at("eb/link")).expect("removed");
            symlink("vis.ms/table.f0", volume.at("eb/link")).expect("a link");
        }),
    ];
    for (what, change) in changes {
        let old = server.get(PATH).header("etag").to_owned();
        assert_eq!(part(&server, "bytes=1000-", &old).status, 206, "before: {what}");
        change();
        let answer = part(&server, "bytes=1000-", &old);
        assert_eq!(answer.status, 200, "{what}");
        assert_ne!(answer.header("etag"), old, "{what}");
        assert!(answer.body == server.get(PATH).body, "{what}");
        assert!(tar::Archive::new(answer.body.as_slice()).entries().expect("entries").all(|entry| entry.is_ok()));
    }
}

/// Reads an answer's head.
fn begin(server: &Server, path: &str) -> (std::net::TcpStream, u64) {
    let mut stream = server.connect();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").expect("a request");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("the head");
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).expect("text").to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("its length");
    (stream, length.parse().expect("a number"))
}

#[test]
fn whatever_happens_to_a_file_breaks_the_connection_off() {
    let volume = Volume::new();
    volume.product("eb", BLOCK, "");
    volume.write("eb/a-large", "");
    // More than all buffers on the way hold, so that the next file is not read before it is changed.
    let large = fs::File::options().write(true).open(volume.at("eb/a-large")).expect("the file");
    large.set_len(64 << 20).expect("its length");
    let server = Server::start(volume.path());
    let file = volume.at("eb/b");
    let changes: [(&str, &str, &dyn Fn()); 6] = [
        ("grows", "changed", &|| fs::write(&file, [1; 600]).expect("written")),
        ("shrinks", "changed", &|| fs::write(&file, [1; 400]).expect("written")),
        ("is written to", "changed", &|| fs::write(&file, [2; 500]).expect("written")),
        ("vanishes", "vanished", &|| fs::remove_file(&file).expect("removed")),
        ("becomes a link", "vanished", &|| {
            fs::remove_file(&file).expect("removed");
            symlink("a-large", &file).expect("a link");
        }),
        ("is in a folder that becomes a link", "vanished", &|| {
            fs::rename(volume.at("eb"), volume.at("moved")).expect("renamed");
            symlink("moved", volume.at("eb")).expect("a link");
        }),
    ];
    let mut broken = 0;
    for (what, why, change) in changes {
        let _ = fs::remove_file(&file);
        fs::write(&file, [1; 500]).expect("written");
        let before = server.status()["downloads"]["broken_off_by"][why].as_u64();
        let (mut stream, length) = begin(&server, PATH);
        change();
        let mut body = Vec::new();
        let _ = stream.read_to_end(&mut body);
        assert!((body.len() as u64) < length, "{what}: the answer looks whole");
        broken += 1;
        let status = server.wait_for_status(what, |status| status["downloads"]["broken_off"] == broken);
        assert_eq!(status["downloads"]["broken_off_by"][why].as_u64(), before.map(|n| n + 1), "{what}");
        server.wait_for_log("breaks off: eb/b: ", usize::try_from(broken).expect("few"));
        // What broke off is not tried again: who resumes gets a new archive.
        assert_eq!(status["downloads"]["plans_kept"], 0, "{what}");
    }
}

#[test]
fn a_file_that_is_written_to_while_it_is_read_breaks_off_at_its_end() {
    let volume = Volume::new();
    volume.product("eb", BLOCK, "");
    volume.write("eb/data", vec![1; 64 << 20]);
    let server = Server::start(volume.path());
    let uid = server.search(&[])[0]["uid"].as_str().expect("a uid").to_owned();
    for (n, path) in [PATH.to_owned(), format!("/products/{uid}/files/data")].iter().enumerate() {
        let (mut stream, length) = begin(&server, path);
        let mut body = vec![0; 1 << 20];
        stream.read_exact(&mut body).expect("a part");
        // In its beginning, which was sent, and with the same length.
        let file = fs::File::options().write(true).open(volume.at("eb/data")).expect("the file");
        std::os::unix::fs::FileExt::write_all_at(&file, b"2", 0).expect("written");
        let _ = stream.read_to_end(&mut body);
        assert!((body.len() as u64) < length, "{path}: the answer looks whole");
        let broken = |status: &serde_json::Value| status["downloads"]["broken_off_by"]["changed"] == n + 1;
        server.wait_for_status("the count", broken);
    }
}

#[test]
fn hostile_names_are_bytes_like_any_other() {
    let volume = Volume::new();
    volume.product("eb", BLOCK, "");
    let long = "l".repeat(255);
    let names: [&[u8]; 9] = [
        b"line\nbreak",
        b"-rf",
        b"--checkpoint-action=exec=sh",
        b"not utf-8 \xff\xfe",
        b"quote\"back\\slash",
        b" ",
        b"...",
        b"%2e%2e",
        long.as_bytes(),
    ];
    for folder in ["", "\n", &format!("{0}/{0}", "f".repeat(255))] {
        fs::create_dir_all(volume.at("eb").join(folder)).expect("a folder");
        for name in names {
            let path = volume.at("eb").join(folder).join(OsStr::from_bytes(name));
            fs::write(path, name).expect("a file");
        }
    }
    fs::create_dir(volume.at("eb").join(OsStr::from_bytes(b"\xc3"))).expect("a folder");
    fs::write(volume.at("eb").join(OsStr::from_bytes(b"\xc3/in it")), "in it").expect("a file");
    // Nobody knows who may see what is in there.
    fs::create_dir(volume.at("eb").join(OsStr::from_bytes(b"\xc4"))).expect("a folder");
    fs::write(volume.at("eb").join(OsStr::from_bytes(b"\xc4/ska-data-product.yaml")), "secret").expect("a file");
    let _socket = std::os::unix::net::UnixListener::bind(volume.at("eb/socket")).expect("a socket");
    assert!(Command::new("mkfifo").arg(volume.at("eb/fifo")).status().expect("mkfifo").success());
    symlink("../../etc", volume.at("eb/out")).expect("a link");
    let server = Server::start(volume.path());
    let whole = server.get(PATH);
    assert_eq!(whole.header("content-length"), whole.body.len().to_string());
    let unpacked = tempfile::tempdir().expect("a folder");
    unpack(&whole.body, unpacked.path());
    for left_out in ["socket", "fifo", "out"] {
        fs::remove_file(volume.at("eb").join(left_out)).expect("removed");
        server.wait_for_log(&format!("eb/{left_out} is "), 1);
    }
    fs::remove_dir_all(volume.at("eb").join(OsStr::from_bytes(b"\xc4"))).expect("removed");
    let diff = Command::new("diff").arg("-r").arg(volume.at("eb")).arg(unpacked.path().join("eb")).output();
    let diff = diff.expect("diff");
    assert!(diff.status.success(), "{}", String::from_utf8_lossy(&diff.stdout));
}

/// Has GNU tar unpack an archive.
fn unpack(archive: &[u8], to: &Path) {
    let mut tar = Command::new("tar");
    let mut tar = tar.args(["-xf", "-", "-C"]).arg(to).stdin(Stdio::piped()).spawn().expect("tar");
    tar.stdin.take().expect("its input").write_all(archive).expect("the archive");
    assert!(tar.wait().expect("tar").success());
}

#[test]
fn a_part_from_the_middle_of_terabytes_comes_at_once() {
    const LARGE: u64 = 5 << 40;
    let volume = Volume::new();
    volume.product("eb", BLOCK, "");
    for name in ["a", "b"] {
        volume.write(&format!("eb/{name}"), "");
        let file = fs::File::options().write(true).open(volume.at("eb").join(name)).expect("the file");
        file.set_len(LARGE + 1).expect("its length");
    }
    let server = Server::start(volume.path());
    let head = server.head(PATH);
    let (total, etag) = (head.header("content-length").parse::<u64>().expect("a number"), head.header("etag"));
    assert!(total > 2 * LARGE && total % 512 == 0);
    let get = |from: u64, bytes: u64| {
        let answer = part(&server, &format!("bytes={from}-{}", from + bytes - 1), etag);
        assert!(answer.status == 206 && answer.body.len() as u64 == bytes);
        answer.body
    };
    // A folder's header, a's, its content and the zeros after it, and then b's.
    let second = 512 + 512 + LARGE + 512;
    for (from, name) in [(512, "eb/a"), (second, "eb/b")] {
        let header = get(from, 512);
        let mut archive = tar::Archive::new(header.as_slice());
        let entry = archive.entries().expect("entries").next().expect("one").expect("a good one");
        assert_eq!((entry.path().expect("a name").to_str(), entry.size()), (Some(name), LARGE + 1));
    }
    assert!(get(LARGE / 2, 100_000).iter().all(|byte| *byte == 0));
    assert!(get(second - 100, 100).iter().all(|byte| *byte == 0));
    assert!(get(total - 1024, 1024).iter().all(|byte| *byte == 0));
}

#[test]
fn curl_wget_and_tar_work_as_they_are() {
    let site = Site::new();
    product(&site.volume);
    let (_indexer, api) = site.daemons.pair();
    let server = Server::start(site.volume.path());
    for server in [&api, &server] {
        let whole = server.get(PATH).body;
        let url = format!("{}{PATH}", server.url);
        let programs: [(&str, &[&str]); 2] =
            [("curl", &["-sSf", "-C", "-", "-o", "archive.tar"]), ("wget", &["-q", "-c", "-O", "archive.tar"])];
        for (program, arguments) in programs {
            for have in [0, 700, whole.len() / 2] {
                let folder = tempfile::tempdir().expect("a folder");
                fs::write(folder.path().join("archive.tar"), &whole[..have]).expect("a part");
                let mut command = Command::new(program);
                command.args(arguments).arg(&url).current_dir(folder.path());
                let output = command.output().unwrap_or_else(|error| panic!("{program}: {error}: run `make test`"));
                assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
                let got = fs::read(folder.path().join("archive.tar")).expect("the archive");
                assert!(got == whole, "{program} after {have}");
            }
        }
        let unpacked = tempfile::tempdir().expect("a folder");
        unpack(&whole, unpacked.path());
        let mut diff = Command::new("diff");
        diff.args(["-r", "--no-dereference"]).arg(site.volume.at("eb")).arg(unpacked.path().join("eb"));
        assert!(diff.status().expect("diff").success());
    }
}

#[test]
fn many_files_take_little_memory_and_a_planning_that_nobody_waits_for_ends() {
    const FILES: usize = 100_000;
    let volume = Volume::in_memory();
    volume.product("eb", BLOCK, "");
    for folder in 0..10 {
        let folder = volume.at(&format!("eb/vis.ms/{folder}"));
        fs::create_dir_all(&folder).expect("a folder");
        for n in 0..FILES / 10 {
            fs::write(folder.join(format!("table.f{n}")), "").expect("a file");
        }
    }
    let mut command = serve(volume.path());
    command.env("RUST_LOG", "api=debug");
    let server = Server::with(command, true);
    let before = server.memory("VmHWM");
    let times = |text: &str| server.log().matches(text).count();
    for attempt in 1..=20 {
        assert!(attempt < 20, "each was planned to its end");
        let mut stream = server.connect();
        write!(stream, "GET {PATH} HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("a request");
        tests::wait_for("the planning", || (times("planning a download") == attempt).then_some(()));
        drop(stream);
        let ended = || times("nobody waits for") + times("planned a download");
        tests::wait_for("its end", || (ended() == attempt).then_some(()));
        if times("nobody waits for") == 1 {
            break;
        }
        // It was too fast. What is kept must not be used the next time.
        fs::write(volume.at(&format!("eb/{attempt}")), "").expect("a file");
    }

    let head = server.head(PATH);
    let total: u64 = head.header("content-length").parse().expect("a number");
    assert!(total > FILES as u64 * 512);
    let whole = server.get(PATH);
    assert_eq!((whole.body.len() as u64, whole.header("etag")), (total, head.header("etag")));
    let middle = whole.body.len() / 2;
    let rest = part(&server, &format!("bytes={middle}-{}", middle + 99_999), head.header("etag"));
    assert!(rest.body == whole.body[middle..middle + 100_000]);
    let status = server.status();
    assert!(status["downloads"]["plan_bytes"].as_u64() < Some(FILES as u64 * 80), "{status}");
    let grown = server.memory("VmHWM") - before;
    assert!(grown < 60 << 20, "{} KiB", grown >> 10);
}

#[test]
fn a_kept_plan_shows_nothing_that_became_hidden() {
    let volume = Volume::new();
    volume.product("eb", BLOCK, "");
    volume.write("eb/sub/data", "for all as yet");
    let server = Server::start(volume.path());
    let shown = || String::from_utf8_lossy(&server.get(PATH).body).contains("for all");
    assert!(shown() && shown());
    assert_eq!(server.status()["downloads"]["plans_kept"], 1);
    // From the moment that the file is there, and not only when it is indexed.
    fs::write(volume.at("eb/sub/ska-data-product.yaml"), "context: {access_group: staff}").expect("a file");
    assert!(!shown());
}
