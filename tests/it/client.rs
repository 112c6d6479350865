//! `dpd search`, `status`, `metadata` and `download`, as people and scripts use them.

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use shared::folder::Folder;
use shared::uid::on_volume;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use tests::permissions::{OUTSIDER, Permissions};
use tests::program::{SAMPLE, Server, binary, serve, with_bare_environment};
use tests::volume::Volume;

const BLOCK: &str = "eb-a-20240101-1";

fn command(server: &str, arguments: &[&str]) -> Command {
    let mut command = with_bare_environment(Command::new(binary("dpd")));
    command.args(arguments).env("DPD_SERVER", server);
    command
}

fn dpd(server: &str, arguments: &[&str]) -> Output {
    command(server, arguments).output().expect("its end")
}

/// The exit code, and what was said: as an answer, and beside it.
fn said(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn download(server: &Server, product: &str, to: &Path) -> Output {
    dpd(&server.url, &["download", product, "--output", to.to_str().expect("text")])
}

#[test]
fn tables_are_for_people_and_json_for_programs() {
    let ask = |arguments: &[&str]| {
        let (code, out, error) = said(&dpd(&SAMPLE.url, arguments));
        assert_eq!(code, Some(0), "{arguments:?}: {error}");
        out
    };
    let json = |arguments: &[&str]| serde_json::from_str::<Value>(&ask(arguments)).expect("JSON");
    let table = ask(&["search", "processing_script:pointing-offset"]);
    let lines: Vec<_> = table.lines().collect();
    assert!(lines.len() == 2 && lines[0].starts_with("EXECUTION BLOCK") && lines[1].contains("2024-03-03"), "{table}");
    let rows = json(&["search", "--json", "processing_script:pointing-offset"]);
    assert_eq!(rows[0]["uid"], "326d83eb-aace-7423-5f94-179f2fdbbaa8");
    assert_eq!(json(&["search", "--json"]).as_array().map(Vec::len), Some(14));
    assert_eq!(json(&["search", "--json", "--limit", "3"]).as_array().map(Vec::len), Some(3));
    let days = ["search", "--json", "--since", "2024-03-03", "--until", "2024-03-03"];
    assert_eq!(json(&days).as_array().map(Vec::len), Some(1));

    let metadata = json(&["metadata", "--json", "eb-pointing-20240303-00219"]);
    assert_eq!(metadata["files"][0]["crc"], "12345e10");
    assert_eq!(json(&["metadata", "--json", "326d83eb-aace-7423-5f94-179f2fdbbaa8"]), metadata);
    let table = ask(&["metadata", "eb-pointing-20240303-00219"]);
    assert!(table.lines().any(|line| line.split_whitespace().eq(["files.0.crc", "12345e10"])), "{table}");

    assert_eq!(json(&["status", "--json"])["api_running"], true);
    let table = ask(&["status"]);
    assert!(table.contains("data products") && table.contains("eb-lowtest-20240117-00066/ska-data-product.yaml"));
}

#[test]
fn exit_codes_tell_scripts_what_is_wrong() {
    let folder = tempfile::tempdir().expect("a folder");
    let to = folder.path().to_str().expect("text");
    // A port that nobody listens at.
    let nobody = TcpListener::bind("127.0.0.1:0").and_then(|port| port.local_addr()).expect("a port");
    let nobody = format!("http://{nobody}");
    let restricted = "acf466aa-885a-954e-9c9f-15bed7c2f194";
    for (server, arguments, code, says) in [
        (&SAMPLE.url, &["search", "observer:nobody at all"][..], 3, "no data product"),
        (&SAMPLE.url, &["search", "novalue"], 2, "Invalid search key pair"),
        (&SAMPLE.url, &["search", "--since", "yesterday"], 2, "yesterday"),
        (&SAMPLE.url, &["metadata", "eb-none-20240101-1"], 3, "no such data product"),
        (&SAMPLE.url, &["metadata", restricted], 3, "no such data product"),
        (&SAMPLE.url, &["download", restricted, "-o", to], 3, "no such data product"),
        (&SAMPLE.url, &["download", "eb-none-20240101-1", "-o", to], 3, "no such data product"),
        (&SAMPLE.url, &["download", "../../etc", "-o", to], 3, "no such data product"),
        (&SAMPLE.url, &["download", "eb-a", "--output", "/proc/nowhere"], 1, "/proc/nowhere"),
        (&nobody, &["status"], 5, "DPD_SERVER"),
        (&nobody, &["download", "eb-a", "-o", to, "--patience", "0"], 5, "refused"),
        (&"nonsense".to_owned(), &["status"], 2, "DPD_SERVER"),
    ] {
        let (own, _, error) = said(&dpd(server, arguments));
        assert_eq!(own, Some(code), "{arguments:?}: {error}");
        assert!(error.starts_with("dpd: ") && error.contains(says), "{arguments:?}: {error}");
    }
    assert_eq!(said(&dpd(&nobody, &["status", "--server", &SAMPLE.url])).0, Some(0));
    // Whoever is known is told that it is not for him.
    let permissions = Permissions::start();
    let volume = Volume::new();
    volume.product("eb-staff", "eb-staff-20240101-1", "context: {access_group: staff}");
    let mut serving = serve(volume.path());
    serving.env("SKA_PERMISSIONS_API_HOST", permissions.url());
    let server = Server::with(serving, true);
    let staff: Folder = "eb-staff".parse().expect("a folder");
    let uid = on_volume("eb-staff-20240101-1", volume.path().to_str().expect("text"), &staff).to_string();
    for arguments in [&["metadata", &uid][..], &["download", &uid, "-o", to]] {
        let (own, _, error) =
            said(&command(&server.url, arguments).env("DPD_TOKEN", OUTSIDER).output().expect("its end"));
        assert!(own == Some(4) && error.contains("access group"), "{arguments:?}: {own:?} {error}");
    }
    // Nothing is left of what did not begin.
    assert_eq!(fs::read_dir(folder.path()).expect("the folder").count(), 0);
    let (_, help, _) = said(&dpd("", &["download", "--help"]));
    assert!(help.contains("Exit codes:") && help.contains("--keep-tar") && help.contains("DPD_SERVER"));
}

fn same(one: &Path, other: &Path) {
    let diff = Command::new("diff").args(["-r", "--no-dereference"]).arg(one).arg(other).output().expect("diff");
    assert!(diff.status.success(), "{}", String::from_utf8_lossy(&diff.stdout));
}

#[test]
fn what_is_downloaded_is_unpacked_and_compared() {
    let volume = Volume::new();
    let crc = "files:\n- {path: a.h5, crc: 352441c2}\n- {path: ./b, crc: '00000000'}\n- {path: c, crc: 5}\n\
        - {path: /mnt/eb/ska-sdp/pb/d/e, crc: 352441C2}";
    volume.product("eb/ska-sdp/pb", BLOCK, crc);
    for path in ["a.h5", "d/e", "b", "c", "-C", "not compared"] {
        volume.write(&format!("eb/ska-sdp/pb/{path}"), "abc");
    }
    let at = |path: &str| volume.at("eb/ska-sdp/pb").join(path);
    symlink("d/e", at("link")).expect("a link");
    fs::create_dir(at("empty")).expect("a folder");
    fs::set_permissions(at("d"), fs::Permissions::from_mode(0o555)).expect("a mode");
    fs::set_permissions(at("a.h5"), fs::Permissions::from_mode(0o640)).expect("a mode");
    volume.product("other", BLOCK, "");
    let server = Server::start(volume.path());
    let folder = tempfile::tempdir().expect("a folder");
    let to = folder.path().join("made/for it");
    let (code, out, error) = said(&download(&server, BLOCK, &to));
    assert_eq!(code, Some(0), "{error}");
    assert!(out.contains("sizes of 8 files, and the checksums of 2 of them"), "{out}");
    assert!(out.contains("b: its checksum '00000000' is no CRC-32") && out.contains("c: its checksum '5'"), "{out}");
    same(&volume.at("eb"), &to.join("eb"));
    let facts = |path: &Path| fs::metadata(path).map(|it| (it.mode(), it.mtime())).expect("its facts");
    for path in ["a.h5", "d", "d/e", "empty"] {
        assert_eq!(facts(&to.join("eb/ska-sdp/pb").join(path)), facts(&at(path)), "{path}");
    }
    let mut names: Vec<_> = fs::read_dir(&to).expect("it").map(|entry| entry.expect("it").file_name()).collect();
    names.sort();
    assert_eq!(names, ["eb", "other"]);

    // Again, over what is there, and by uid; the archive is kept.
    let uid = server.search(&["dataproduct_file:eb/ska-sdp/pb"])[0]["uid"].as_str().expect("a uid").to_owned();
    fs::set_permissions(at("d"), fs::Permissions::from_mode(0o755)).expect("a mode");
    let to = to.to_str().expect("text").to_owned();
    fs::set_permissions(Path::new(&to).join("eb/ska-sdp/pb/d"), fs::Permissions::from_mode(0o755)).expect("a mode");
    let (code, out, error) = said(&dpd(&server.url, &["download", &uid, "--output", &to, "--keep-tar"]));
    assert!(code == Some(0) && out.contains("sizes of 7 files"), "{out}{error}");
    assert!(
        fs::read(Path::new(&to).join(format!("{uid}.tar"))).expect("the archive")
            == server.get(&format!("/download/{uid}")).body
    );
    same(&volume.at("eb"), &Path::new(&to).join("eb"));

    fs::write(at("a.h5"), "abd").expect("a file");
    let (code, _, error) = said(&download(&server, &uid, folder.path()));
    assert_eq!(code, Some(6), "{error}");
    assert!(error.contains("a.h5 has the CRC-32 "), "{error}");
}

/// A download that runs.
struct Running(Child);

impl Running {
    fn begin(url: &str, to: &Path) -> Running {
        let mut command = command(url, &["download", BLOCK, "--output", to.to_str().expect("text")]);
        Running(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts"))
    }

    fn kill(mut self) {
        let pid = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw).expect("a process");
        kill_process(pid, Signal::KILL).expect("a signal");
        self.0.wait().expect("its end");
    }
}

#[test]
fn it_goes_on_whatever_is_killed() {
    let volume = Volume::new();
    volume.product("eb", BLOCK, "");
    let content: Vec<u8> = (0..75_000_000u32).flat_map(u32::to_le_bytes).collect();
    volume.write("eb/data", &content);
    let server = Server::start(volume.path());
    let (url, address) = (server.url.clone(), server.url.trim_start_matches("http://").to_owned());
    let again = || {
        let mut command = with_bare_environment(Command::new(binary("dpd")));
        command.arg("serve").arg(volume.path()).args(["--listen", &address]);
        Server::with(command, true)
    };
    let folder = tempfile::tempdir().expect("a folder");
    let part = folder.path().join(format!("{BLOCK}.tar.part"));
    let length = || fs::metadata(&part).map_or(0, |part| part.len());
    let more = |than: u64| tests::wait_for("more of it", || Some(length()).filter(|length| *length > than));

    // The server is killed in the middle of it, and comes back.
    let first = Running::begin(&url, folder.path());
    more(0);
    drop(server);
    let kept = length();
    assert!(kept < content.len() as u64, "it was too fast");
    let server = again();
    more(kept);
    // The client is killed, and given again.
    first.kill();
    let kept = length();
    assert!(kept < content.len() as u64, "it was too fast");
    let second = Running::begin(&url, folder.path());
    more(kept);
    server.signal(Signal::STOP);
    let (code, _, error) = said(&download(&SAMPLE, BLOCK, folder.path()));
    assert!(code == Some(1) && error.contains("by another dpd already"), "{error}");
    server.signal(Signal::CONT);
    let (code, out, error) = said(&second.0.wait_with_output().expect("its end"));
    assert_eq!(code, Some(0), "{error}");
    assert!(error.contains("going on at") && out.contains("sizes of 2 files"), "{error}{out}");
    assert!(fs::read(folder.path().join("eb/data")).expect("the file") == content);
    assert_eq!(fs::read_dir(folder.path()).expect("the folder").count(), 1);

    // What is there of an archive that is another meanwhile is no part of what comes.
    let third = Running::begin(&url, folder.path());
    more(0);
    third.kill();
    assert!(length() < content.len() as u64, "it was too fast");
    volume.write("eb/data", &content[4..1_000_000]);
    let (code, _, error) = said(&download(&server, BLOCK, folder.path()));
    assert_eq!(code, Some(0), "{error}");
    assert!(error.contains("beginning again"), "{error}");
    assert!(fs::read(folder.path().join("eb/data")).expect("the file") == content[4..1_000_000]);
}

/// An API that answers every request for an archive with this one, and knows nothing else. Answers its URL.
fn hostile(archive: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("its address"));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let mut lines = BufReader::new(stream.try_clone().expect("it twice")).lines().map_while(Result::ok);
            let wants = lines.next().is_some_and(|line| line.starts_with("GET /download"));
            let body = if wants { archive.as_slice() } else { b"{}" };
            let knows =
                lines.by_ref().take_while(|line| !line.is_empty()).any(|line| line == "authorization: Bearer geheim");
            let status = if !knows {
                401
            } else if wants {
                200
            } else {
                404
            };
            let head = format!(
                "HTTP/1.1 {status} x\r\nContent-Length: {}\r\nETag: \"x\"\r\nConnection: close\r\n\r\n",
                body.len()
            );
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
        }
    });
    url
}

/// A name, and what is under it: content, or what a link leads to.
type Entry<'a> = (&'a str, tar::EntryType, &'a str);

fn tar(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, kind, text) in entries {
        let mut header = tar::Header::new_gnu();
        let is_file = *kind == tar::EntryType::Regular;
        header.set_entry_type(*kind);
        header.set_mode(0o4755);
        header.set_size(if is_file { text.len() as u64 } else { 0 });
        // As bytes: the library would refuse to write them.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        if !is_file {
            header.as_old_mut().linkname[..text.len()].copy_from_slice(text.as_bytes());
        }
        header.set_cksum();
        archive.append(&header, if is_file { text.as_bytes() } else { &[] }).expect("an entry");
    }
    archive.into_inner().expect("the archive")
}

#[test]
fn no_archive_writes_outside_its_folder() {
    use tar::EntryType::{Char, Directory, Link, Regular, Symlink};
    let parent = tempfile::tempdir().expect("a folder");
    let outside = parent.path().join("outside");
    fs::create_dir(&outside).expect("a folder");
    let out = outside.to_str().expect("text");
    let absolute = format!("{out}/evil");
    let archives: [(&[Entry<'_>], i32); 9] = [
        (&[("../outside/evil", Regular, "x")], 6),
        (&[("a/../../outside/evil", Regular, "x")], 6),
        (&[(&absolute, Regular, "x")], 6),
        (&[("./evil", Regular, "x")], 6),
        (&[("a", Symlink, "../outside"), ("a/evil", Regular, "x")], 0),
        (&[("a", Symlink, out), ("a", Directory, ""), ("a/evil", Regular, "x")], 0),
        (&[("a", Symlink, "."), ("b", Symlink, "a/../outside"), ("c", Symlink, "../outside")], 0),
        (&[("hard", Link, "../outside/secret"), ("device", Char, ""), ("fine", Regular, "x")], 0),
        (&[("there/evil", Regular, "x")], 1),
    ];
    for (n, (entries, code)) in archives.into_iter().enumerate() {
        let to = parent.path().join(format!("to{n}"));
        fs::create_dir(&to).expect("a folder");
        symlink(&outside, to.join("there")).expect("a link");
        let mut command = command(&hostile(tar(entries)), &["download", BLOCK, "--output", to.to_str().expect("text")]);
        let (own, out, error) = said(&command.env("DPD_TOKEN", "geheim").output().expect("its end"));
        assert_eq!(own, Some(code), "{entries:?}: {out}{error}");
        assert_eq!(fs::read_dir(&outside).expect("it").count(), 0, "{entries:?}");
        for link in ["a", "b", "c", "hard", "device"] {
            let target = fs::canonicalize(to.join(link));
            assert!(target.is_err() || target.is_ok_and(|target| target.starts_with(&to)), "{link} of {entries:?}");
        }
        if let Ok(fine) = fs::metadata(to.join("fine")) {
            assert_eq!(fine.mode() & 0o7777, 0o755);
        }
    }
    let (code, _, error) = said(&dpd(&hostile(Vec::new()), &["download", BLOCK, "-o", out]));
    assert_eq!(code, Some(4), "{error}");
}
