//! Downloads, as bytes and as connections.

use serde_json::json;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::Duration;
use tests::program::{Server, serve};
use tests::volume::Volume;

/// A file with no bytes on disk, and as large as is wished.
fn sparse(volume: &Volume, path: &str, bytes: u64) -> fs::File {
    volume.write(path, "");
    let file = fs::OpenOptions::new().write(true).open(volume.at(path)).expect("the file");
    file.set_len(bytes).expect("its length");
    file
}

/// Begins a download and reads the answer's head; answers also how many bytes it promises.
fn begin(server: &Server, execution_block: &str) -> (TcpStream, u64) {
    let mut stream = server.connect();
    let body = json!({"execution_block": execution_block}).to_string();
    let head = format!(
        "POST /download HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).expect("a request");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("the head");
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).expect("text").to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 200"), "{head}");
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("its length");
    (stream, length.parse().expect("a number"))
}

/// Whether a process has a file open.
fn has_open(server: &Server, path: &Path) -> bool {
    let open = fs::read_dir(format!("/proc/{}/fd", server.pid())).expect("its files");
    open.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok()).any(|target| target == path)
}

#[test]
fn an_archive_unpacks_to_the_same_bytes() {
    let volume = Volume::new();
    let folder = "eb-a-20240101-1/ska-sdp/pb-1";
    volume.product(folder, "eb-a-20240101-1", "");
    let content: Vec<u8> = (0..200_000u32).flat_map(u32::to_le_bytes).collect();
    for size in [0, 1, 511, 512, 513, 65_535, 65_536, 65_537, 800_000] {
        volume.write(&format!("{folder}/vis.ms/table.f{size}"), &content[..size]);
    }
    let long = format!("{folder}/{}/{}/file", "long".repeat(40), "name".repeat(50));
    volume.write(&long, "long");
    volume.write(&format!("{folder}/-C"), "an option of tar");
    volume.write(&format!("{folder}/--checkpoint-action=exec=sh"), "another");
    volume.write(&format!("{folder}/umläut é\n"), "odd");
    volume.write("eb-b-20240101-1/other", "not to be delivered");
    fs::create_dir(volume.at(folder).join("empty")).expect("a folder");
    fs::set_permissions(volume.at(folder).join("-C"), fs::Permissions::from_mode(0o640)).expect("a mode");
    symlink("vis.ms/table.f1", volume.at(folder).join("inside")).expect("a link");
    symlink("/etc/passwd", volume.at(folder).join("outside")).expect("a link");
    symlink("nowhere", volume.at(folder).join("dangling")).expect("a link");
    let server = Server::start(volume.path());
    let answer = server.post("/download", &json!({"execution_block": "eb-a-20240101-1"}));
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/x-tar"));
    assert_eq!(answer.header("content-disposition"), "attachment; filename=\"eb-a-20240101-1.tar\"");
    assert_eq!(answer.body.len() % 512, 0);

    let unpacked = tempfile::tempdir().expect("a folder");
    let mut tar = std::process::Command::new("tar");
    tar.args(["-xf", "-", "-C"]).arg(unpacked.path()).stdin(std::process::Stdio::piped());
    let mut tar = tar.spawn().expect("tar");
    tar.stdin.take().expect("its input").write_all(&answer.body).expect("the archive");
    assert!(tar.wait().expect("tar").success());
    for name in ["outside", "dangling"] {
        fs::remove_file(volume.at(folder).join(name)).expect("removed");
    }
    let same = std::process::Command::new("diff")
        .args(["-r", "--no-dereference"])
        .arg(volume.at("eb-a-20240101-1"))
        .arg(unpacked.path().join("eb-a-20240101-1"))
        .status();
    assert!(same.expect("diff").success());
    assert_eq!(fs::read_dir(unpacked.path()).expect("the folder").count(), 1);
    let option = unpacked.path().join(folder).join("-C");
    let (theirs, ours) = (fs::metadata(option).expect("it"), fs::metadata(volume.at(folder).join("-C")).expect("it"));
    assert_eq!((theirs.mode() & 0o777, theirs.mtime()), (0o640, ours.mtime()));
}

#[test]
fn an_execution_block_brings_all_its_products_once() {
    let volume = Volume::new();
    for folder in ["eb", "eb/ska-sdp/pb", "elsewhere"] {
        volume.product(folder, "eb-a-20240101-1", "");
    }
    volume.product("eb-b", "eb-b-20240101-1", "");
    let server = Server::start(volume.path());
    let names = |body| {
        let answer = server.post("/download", &body);
        let mut archive = tar::Archive::new(answer.body.as_slice());
        let entries = archive.entries().expect("entries");
        entries.map(|entry| entry.expect("an entry").path().expect("a name").display().to_string()).collect::<Vec<_>>()
    };
    let all = names(json!({"execution_block": "eb-a-20240101-1"}));
    let file = tests::volume::METADATA;
    assert_eq!(
        all,
        [
            "eb",
            &format!("eb/{file}"),
            "eb/ska-sdp",
            "eb/ska-sdp/pb",
            &format!("eb/ska-sdp/pb/{file}"),
            "elsewhere",
            &format!("elsewhere/{file}")
        ]
    );
    let uid = server.search(&["dataproduct_file:elsewhere"])[0]["uid"].clone();
    assert_eq!(
        names(json!({"uid": uid, "execution_block": "eb-b-20240101-1"})),
        ["elsewhere".to_owned(), format!("elsewhere/{file}")]
    );
    // A product that went a moment ago, as far as the index knows, is not there to download.
    fs::remove_dir_all(volume.at("elsewhere")).expect("removed");
    assert_eq!(server.post("/download", &json!({"uid": uid})).status, 404);
}

#[test]
fn a_file_that_shrinks_breaks_the_connection_off() {
    let volume = Volume::new();
    volume.product("eb", "eb-a-20240101-1", "");
    let file = sparse(&volume, "eb/large", 1 << 30);
    let server = Server::start(volume.path());
    let (mut stream, length) = begin(&server, "eb-a-20240101-1");
    tests::wait_for("the file to be read", || has_open(&server, &volume.at("eb/large")).then_some(()));
    file.set_len(1 << 20).expect("shrunk");
    let mut rest = Vec::new();
    // However the connection ends, what was promised does not come.
    let _ = stream.read_to_end(&mut rest);
    assert!((rest.len() as u64) < length, "the answer looks whole");
    tests::wait_for("a word in the log", || server.log().contains("breaks off").then_some(()));
    assert!(server.log().contains("eb/large"));
    assert_eq!(server.status()["downloads"]["broken_off_by"]["changed"], 1);
}

#[test]
fn a_client_that_goes_away_ends_the_reading() {
    let volume = Volume::new();
    volume.product("eb", "eb-a-20240101-1", "");
    let _file = sparse(&volume, "eb/large", 1 << 34);
    let server = Server::start(volume.path());
    let (mut stream, _) = begin(&server, "eb-a-20240101-1");
    let mut part = vec![0; 1 << 20];
    stream.read_exact(&mut part).expect("a part");
    assert!(has_open(&server, &volume.at("eb/large")));
    drop(stream);
    tests::wait_for("the file to be closed", || (!has_open(&server, &volume.at("eb/large"))).then_some(()));
    server.wait_for_status("the count", |status| status["downloads"]["abandoned"] == 1);
}

#[test]
fn slow_clients_hold_nothing_up_and_memory_is_flat() {
    let volume = Volume::new();
    volume.product("eb", "eb-a-20240101-1", "");
    let _file = sparse(&volume, "eb/large", 2 << 30);
    let server = Server::start(volume.path());
    let before = server.memory("VmRSS");
    // More than there are threads for work that waits.
    let stuck: Vec<_> = (0..600).map(|_| begin(&server, "eb-a-20240101-1")).collect();
    assert_eq!(server.folders(), ["eb"]);
    let (mut stream, length) = begin(&server, "eb-a-20240101-1");
    let (mut read, mut part) = (0, vec![0; 1 << 20]);
    while let Ok(n @ 1..) = stream.read(&mut part) {
        read += n as u64;
    }
    assert!(read == length && read > 2 << 30);
    drop(stuck);
    let grown = server.memory("VmHWM").saturating_sub(before);
    // About a chunk for each, and what the allocator keeps of them for each thread.
    assert!(grown < 1000 << 20, "{grown} bytes for 601 downloads of 2 GiB each");
}

#[test]
fn the_size_of_chunks_changes_no_byte() {
    let volume = Volume::new();
    volume.product("eb", "eb-a-20240101-1", "");
    volume.write("eb/data", (0..100_000u32).flat_map(u32::to_le_bytes).collect::<Vec<u8>>());
    let archive = |chunk: &str| {
        let mut command = serve(volume.path());
        command.env("STREAM_CHUNK_SIZE", chunk);
        let server = Server::with(command, true);
        let answer = server.post("/download", &json!({"execution_block": "eb-a-20240101-1"}));
        assert_eq!(answer.status, 200);
        answer.body
    };
    let whole = archive("16777216");
    assert!(["512", "513", "65536"].iter().all(|chunk| archive(chunk) == whole));
}

#[test]
fn ending_waits_for_downloads_but_not_for_long() {
    let volume = Volume::new();
    volume.product("eb", "eb-a-20240101-1", "");
    volume.write("eb/data", vec![7; 64 << 20]);
    let mut server = Server::start(volume.path());
    let (mut stream, length) = begin(&server, "eb-a-20240101-1");
    server.signal(rustix::process::Signal::TERM);
    tests::wait_for("the end to begin", || server.log().contains("waiting up to").then_some(()));
    // The download that was running ends well.
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).expect("the rest");
    assert!(rest.len() as u64 == length && rest.len() > 64 << 20);
    assert!(server.ended().success());

    // One that nobody reads is waited for in vain.
    let mut server = Server::start(volume.path());
    let stream = begin(&server, "eb-a-20240101-1");
    let begun = std::time::Instant::now();
    server.signal(rustix::process::Signal::INT);
    assert!(server.ended().success());
    assert!(begun.elapsed() > Duration::from_secs(5), "it did not wait");
    drop(stream);
}
