//! Downloads of one time, and of files that cannot be read.

use serde_json::{Value, json};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};
use tests::program::{Answer, Server, binary, serve, with_bare_environment};
use tests::volume::Volume;

const BLOCK: &str = "eb-t-20240101-1";
const ARCHIVE: &str = "/download?execution_block=eb-t-20240101-1";

fn volume() -> Volume {
    let volume = Volume::new();
    volume.product("eb", BLOCK, "");
    volume.write("eb/data", "data");
    volume
}

fn uid(server: &Server) -> String {
    server.search(&["dataproduct_file:eb"])[0]["uid"].as_str().expect("a uid").to_owned()
}

fn names(archive: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(archive);
    let entries = archive.entries().expect("entries");
    entries.map(|entry| entry.expect("an entry").path().expect("a name").display().to_string()).collect()
}

fn set_modified(path: &Path, time: SystemTime) {
    File::options().write(true).open(path).and_then(|file| file.set_modified(time)).expect("a time");
}

/// Other bytes in the same place, with the time of before.
fn rewrite_in_place(path: &Path, content: &[u8]) {
    let before = fs::metadata(path).and_then(|metadata| metadata.modified()).expect("a time");
    File::options().write(true).open(path).and_then(|file| file.write_all_at(content, 0)).expect("written");
    set_modified(path, before);
}

/// `dpd serve` as somebody whom permissions bind: as nobody, where the tests run as root.
fn bound(volume: &Volume, programs: &Path) -> Server {
    let copy = programs.join("dpd");
    fs::copy(binary("dpd"), &copy).expect("a copy that others may run");
    for folder in [programs, volume.path()] {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).expect("a mode");
    }
    let mut command = with_bare_environment(Command::new(copy));
    command.arg("serve").arg(volume.path()).args(["--listen", "127.0.0.1:0"]).current_dir(volume.path());
    if rustix::process::geteuid().is_root() {
        command.uid(65534).gid(65534);
    }
    Server::with(command, true)
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a mode");
}

#[test]
fn whatever_is_done_to_a_file_makes_it_another_version() {
    let volume = volume();
    volume.write("eb/other", "DATA");
    let server = Server::start(volume.path());
    let file = volume.at("eb/data");
    let one = format!("/products/{}/files/data", uid(&server));
    let changes: [(&str, &dyn Fn()); 4] = [
        ("written in place, the time put back", &|| rewrite_in_place(&file, b"AAAA")),
        ("copied over, with the time of before", &|| {
            set_modified(&volume.at("eb/other"), fs::metadata(&file).and_then(|it| it.modified()).expect("a time"));
            let copied = Command::new("cp").arg("-p").arg(volume.at("eb/other")).arg(&file).status();
            assert!(copied.expect("cp").success());
        }),
        ("written by another of its names", &|| {
            // Of the round before.
            let _ = fs::remove_file(volume.at("elsewhere"));
            fs::hard_link(&file, volume.at("elsewhere")).expect("a link");
            rewrite_in_place(&volume.at("elsewhere"), b"BBBB");
        }),
        ("given other permissions and its own again", &|| {
            let mode = fs::metadata(&file).expect("it").mode();
            set_mode(&file, 0o600);
            set_mode(&file, mode);
        }),
    ];
    for (what, change) in changes {
        for path in [&one, ARCHIVE] {
            let old = server.get(path);
            let etag = old.header("etag");
            let part = |etag: &str| server.get_with(path, &[("Range", "bytes=2-"), ("If-Range", etag)]);
            let before = part(etag);
            assert!(before.status == 206 && before.body == old.body[2..], "before: {what}: {path}");
            change();
            let after = part(etag);
            assert_eq!(after.status, 200, "{what}: {path}");
            assert!(after.header("etag") != etag && after.body == server.get(path).body, "{what}: {path}");
            assert_eq!(server.get_with(path, &[("If-None-Match", etag)]).status, 200, "{what}: {path}");
        }
        let _ = fs::remove_file(volume.at("elsewhere"));
    }
}

#[test]
fn what_is_written_during_a_download_breaks_it_off_whatever_the_time_says() {
    let volume = volume();
    volume.write("eb/large", "");
    let file = volume.at("eb/large");
    File::options().write(true).open(&file).and_then(|file| file.set_len(64 << 20)).expect("its length");
    let server = Server::start(volume.path());
    let paths = [ARCHIVE.to_owned(), format!("/products/{}/files/large", uid(&server))];
    for (before, path) in paths.into_iter().enumerate() {
        let mut stream = server.connect();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").expect("a request");
        let mut answer = vec![0; 100];
        stream.read_exact(&mut answer).expect("a beginning");
        rewrite_in_place(&file, b"new");
        let _ = stream.read_to_end(&mut answer);
        let end = answer.windows(4).position(|part| part == b"\r\n\r\n").expect("a head");
        let head = String::from_utf8_lossy(&answer[..end]).to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
        let whole = end + 4 + length.parse::<usize>().expect("a number");
        assert!(answer.len() < whole, "{path} looks whole");
        let count = |status: &Value| status["downloads"]["broken_off_by"]["changed"] == before + 1;
        server.wait_for_status("the count", count);
    }
}

#[test]
fn what_is_replaced_is_modified_even_by_something_older() {
    let volume = volume();
    let server = Server::start(volume.path());
    let one = format!("/products/{}/files/data", uid(&server));
    for (n, path) in [one.as_str(), ARCHIVE].into_iter().enumerate() {
        let old = server.get(path);
        let said = old.header("last-modified");
        let [modified, answered] =
            [said, old.header("date")].map(|said| httpdate::parse_http_date(said).expect("a time"));
        assert!(modified <= answered, "{path}: {said}");
        volume.write("new", format!("OLD{n}"));
        set_modified(&volume.at("new"), SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000));
        fs::rename(volume.at("new"), volume.at("eb/data")).expect("renamed");
        // At once, and so most often in the second of the answer before.
        let whole = server.get(path);
        let with = |name, more: &[(&str, &str)]| server.get_with(path, &[&[(name, said)], more].concat());
        let answer = with("If-Modified-Since", &[]);
        assert!(answer.status == 200 && answer.body == whole.body, "{path}");
        assert_eq!(with("If-Unmodified-Since", &[("Range", "bytes=1-")]).status, 412, "{path}");
        assert_eq!(with("If-Range", &[("Range", "bytes=1-")]).status, 200, "{path}");
    }
}

#[test]
fn a_link_that_cannot_be_followed_hides_no_product() {
    let volume = volume();
    volume.write("private/f", "x");
    symlink("../private/f", volume.at("eb/link-private")).expect("a link");
    symlink("l".repeat(300), volume.at("eb/link-long-name")).expect("a link");
    symlink("p/".repeat(2000), volume.at("eb/link-long-path")).expect("a link");
    symlink("data/x", volume.at("eb/link-through-a-file")).expect("a link");
    symlink("link-loop", volume.at("eb/link-loop")).expect("a link");
    set_mode(&volume.at("private"), 0o000);
    let programs = tempfile::tempdir().expect("a folder");
    let server = bound(&volume, programs.path());
    let answer = server.get(ARCHIVE);
    assert_eq!((answer.status, server.head(ARCHIVE).status), (200, 200));
    assert_eq!(names(&answer.body), ["eb", "eb/data", "eb/ska-data-product.yaml"]);
    assert_eq!(server.get_json(&format!("/products/{}/files", uid(&server)))["total"], 2);
    for link in ["private", "long-name", "long-path", "through-a-file", "loop"] {
        let line = format!("eb/link-{link} is a link");
        tests::wait_for(&line, || server.log().contains(&line).then_some(()));
    }
    set_mode(&volume.at("private"), 0o755);
}

#[test]
fn what_may_not_be_read_is_said_before_the_first_byte() {
    let volume = volume();
    volume.write("eb/b", "b");
    volume.write("eb/closed/file", "c");
    volume.write("eb/names-only/file", "d");
    let programs = tempfile::tempdir().expect("a folder");
    let server = bound(&volume, programs.path());
    let (uid, detail) = (uid(&server), |answer: &Answer| answer.json()["detail"].as_str().unwrap_or("").to_owned());
    let closed = [("b", 0o000, 0o644), ("closed", 0o000, 0o755), ("names-only", 0o444, 0o755)];
    for (count, (name, mode, _)) in closed.into_iter().enumerate().rev() {
        set_mode(&volume.at("eb").join(name), mode);
        let count = closed.len() - count;
        for path in [ARCHIVE.to_owned(), format!("/download/{uid}")] {
            let answer = server.get(&path);
            let detail = detail(&answer);
            assert_eq!(answer.status, 409, "{path}: {name}: {detail}");
            assert!(
                detail.contains(&format!("read {count} file")) && detail.ends_with(&format!("eb/{name}")),
                "{detail}"
            );
            assert_eq!(server.head(&path).status, 409, "{path}: {name}");
        }
    }
    let list = server.get_json(&format!("/products/{uid}/files"));
    let listed: Vec<_> =
        list["data"].as_array().expect("rows").iter().map(|row| (&row["path"], &row["readable"])).collect();
    let (yes, no) = (json!(true), json!(false));
    let paths = ["b", "closed/", "data", "names-only/", tests::volume::METADATA].map(Value::from);
    assert_eq!(listed, paths.iter().zip([&no, &no, &yes, &no, &yes]).collect::<Vec<_>>());
    assert_eq!((&list["unreadable"], &list["archive"]), (&json!(3), &Value::Null));

    let one = format!("/products/{uid}/files/b");
    let answer = server.get(&one);
    assert!(answer.status == 409 && detail(&answer).ends_with("eb/b"), "{}", detail(&answer));
    assert_eq!((server.head(&one).status, server.get(&format!("/products/{uid}/files/data")).status), (409, 200));
    let output = tempfile::tempdir().expect("a folder");
    let mut dpd = with_bare_environment(Command::new(binary("dpd")));
    dpd.args(["download", BLOCK, "--server", &server.url, "--output"]).arg(output.path());
    let said = dpd.output().expect("dpd");
    let error = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.status.code() == Some(1) && error.contains("3 files or folders"), "{error}");

    // It is had as soon as it may be.
    for (name, _, mode) in closed {
        set_mode(&volume.at("eb").join(name), mode);
    }
    assert_eq!(server.get(ARCHIVE).status, 200);
    let list = server.get_json(&format!("/products/{uid}/files"));
    assert_eq!((&list["total"], &list["unreadable"]), (&json!(5), &json!(0)));
}

/// Makes folders in each other, deeper than one call can name, with a file and a link in the last. Answers its path.
fn deep(top: PathBuf, name: &str, folders: usize) -> PathBuf {
    let script = "cd \"$1\" && i=0; while [ $i -lt $3 ]; do mkdir \"$2\" && cd -P \"./$2\" || exit 1; i=$((i+1)); done; \
                  printf deep > file && ln -s file link";
    let mut making = Command::new("bash");
    making.args(["-c", script, "bash"]).args([top.as_os_str(), OsStr::new(name)]).arg(folders.to_string());
    assert!(making.status().expect("bash").success());
    (0..folders).fold(PathBuf::new(), |path, _| path.join(name))
}

#[test]
fn paths_too_long_for_one_call_are_archived_and_unpacked() {
    let volume = volume();
    let path = deep(volume.at("eb"), &"d".repeat(240), 40).join("file");
    let path = path.to_str().expect("text");
    assert!(path.len() > 2 * 4096);
    let server = Server::start(volume.path());
    let (answer, uid) = (server.get(ARCHIVE), uid(&server));
    assert_eq!(answer.status, 200);
    let names = names(&answer.body);
    assert!(names.contains(&format!("eb/{path}")) && names.iter().any(|name| name.ends_with("/link")));
    // Other readers than ours take the names.
    let mut tar = Command::new("tar");
    tar.args(["-tf", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut tar = tar.spawn().expect("tar");
    let mut input = tar.stdin.take().expect("its input");
    let body = answer.body.clone();
    let writer = std::thread::spawn(move || input.write_all(&body));
    let listed = tar.wait_with_output().expect("its output");
    writer.join().expect("a thread").expect("the archive");
    assert!(String::from_utf8_lossy(&listed.stdout).lines().any(|line| line == format!("eb/{path}")));
    // A plan that is kept is looked at, and a part of it read.
    let part = server.get_with(ARCHIVE, &[("Range", "bytes=600-"), ("If-Range", answer.header("etag"))]);
    assert!(part.status == 206 && part.body == answer.body[600..]);
    let list = server.get_json(&format!("/products/{uid}/files"));
    let row = list["data"].as_array().expect("rows").iter().find(|row| row["path"] == path).expect("the file");
    assert_eq!(server.get(row["url"].as_str().expect("a URL")).body, b"deep");

    let output = tempfile::tempdir().expect("a folder");
    let mut dpd = with_bare_environment(Command::new(binary("dpd")));
    dpd.args(["download", &uid, "--server", &server.url, "--output"]).arg(output.path());
    let said = dpd.output().expect("dpd");
    let text = [said.stdout, said.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(said.status.success() && text.contains("3 files"), "{text}");
    let found = Command::new("find").arg(output.path()).args(["-name", "link", "-type", "l"]).output().expect("find");
    assert!(!found.stdout.is_empty(), "{text}");
}

const READ_TIMES: &str = "import sys, tarfile\n\
    for entry in tarfile.open(fileobj=sys.stdin.buffer, mode='r|'): print(entry.name, int(entry.mtime))";

#[test]
fn times_of_all_centuries_arrive() {
    // What is in memory keeps times that disks do not.
    let volume = Volume::in_memory();
    volume.product("eb", BLOCK, "");
    let times = [("a", -86_400, 0), ("b", -1, 500_000_000), ("c", 0, 0), ("d", 1 << 33, 0), ("e", 16_725_225_600, 0)];
    let mut kept = Vec::new();
    for (name, seconds, rest) in times {
        volume.write(&format!("eb/{name}"), "x");
        let file = File::open(volume.at("eb").join(name)).expect("a file");
        let time = rustix::fs::Timespec { tv_sec: seconds, tv_nsec: rest };
        rustix::fs::futimens(&file, &rustix::fs::Timestamps { last_access: time, last_modification: time })
            .expect("it");
        kept.push((name, file.metadata().expect("it").mtime()));
    }
    assert_eq!((kept[0].1, kept[1].1), (-86_400, -1));
    let mut command = serve(volume.path());
    command.env("TZ", "UTC");
    let server = Server::with(command, true);
    let list = server.get_json(&format!("/products/{}/files", uid(&server)));
    let listed = ["1969-12-31T00:00:00.000000+00:00", "1969-12-31T23:59:59.500000+00:00"];
    assert_eq!([0, 1].map(|n| list["data"][n]["mtime"].as_str().expect("a time").to_owned()), listed);

    let archive = server.get(ARCHIVE).body;
    // Not in the volume, where it would be more products.
    let elsewhere = Volume::in_memory();
    let unpacked = tempfile::tempdir_in(elsewhere.path()).expect("a folder");
    let file = unpacked.path().join("archive.tar");
    fs::write(&file, &archive).expect("the archive");
    let mut readers = vec![("tar", vec!["-xf", "archive.tar"]), ("python3", vec!["-c", READ_TIMES])];
    if Command::new("bsdtar").arg("--version").output().is_ok() {
        readers.push(("bsdtar", vec!["-xf", "archive.tar"]));
    }
    for (program, arguments) in readers {
        let _ = fs::remove_dir_all(unpacked.path().join("eb"));
        let mut command = Command::new(program);
        command.args(arguments).current_dir(unpacked.path()).stdin(File::open(&file).expect("the archive"));
        let said = command.output().expect("a reader");
        assert!(said.status.success(), "{program}: {}", String::from_utf8_lossy(&said.stderr));
        for (name, time) in &kept {
            if program == "python3" {
                let text = String::from_utf8_lossy(&said.stdout).into_owned();
                assert!(text.lines().any(|line| line == format!("eb/{name} {time}")), "{name}: {text}");
            } else {
                let read = fs::metadata(unpacked.path().join("eb").join(name)).expect("a file").mtime();
                assert_eq!(read, *time, "{program}: {name}");
            }
        }
    }
    let mut dpd = with_bare_environment(Command::new(binary("dpd")));
    let output = unpacked.path().join("dpd");
    dpd.args(["download", BLOCK, "--server", &server.url, "--output"]).arg(&output);
    assert!(dpd.status().expect("dpd").success());
    for (name, time) in kept {
        assert_eq!(fs::metadata(output.join("eb").join(name)).expect("a file").mtime(), time, "dpd: {name}");
    }
}
