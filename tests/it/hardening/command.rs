//! What `dpd` is told by a server, and finds in a folder, that means no good: its terminal obeys nobody, and it writes nothing
//! but its own files. And what names do to a log.

use super::standalone;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output};
use tests::program::{binary, with_bare_environment};

const BLOCK: &str = "eb-a-20240101-1";

fn dpd(server: &str, arguments: &[&str]) -> Output {
    let mut command = with_bare_environment(Command::new("sh"));
    command.args(["-c", "umask 077 && exec \"$@\"", "sh"]).arg(binary("dpd")).args(arguments);
    command.env("DPD_SERVER", server).output().expect("its end")
}

/// A server that answers every request so.
fn answering(status: &'static str, body: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("its address"));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = BufReader::new(stream);
            let mut length = 0;
            loop {
                let mut line = String::new();
                if stream.read_line(&mut line).unwrap_or(0) <= 2 {
                    break;
                }
                let line = line.to_ascii_lowercase();
                length =
                    line.strip_prefix("content-length: ").map_or(length, |text| text.trim().parse().expect("a length"));
            }
            let _ = std::io::Read::read_exact(&mut stream, &mut vec![0; length]);
            let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
            let _ = stream.get_mut().write_all(format!("{head}{body}").as_bytes());
        }
    });
    url
}

/// Whether a terminal obeys nothing in this.
fn is_harmless(output: &[u8]) -> bool {
    let text = String::from_utf8_lossy(output);
    !text.chars().any(|c| {
        c != '\n'
            && (c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c) || ('\u{2066}'..='\u{2069}').contains(&c))
    })
}

#[test]
fn a_servers_words_are_no_commands() {
    let folder = tempfile::tempdir().expect("a folder");
    let to = folder.path().to_str().expect("text");
    let bad = "x\u{1b}]0;pwned\u{7}\u{1b}[2Jboo\u{202e}gnp\u{2066}\u{9b}31m\u{7f}\r\t\u{85}y";
    let detail = serde_json::json!({ "detail": bad }).to_string();
    let row = serde_json::json!([{"execution_block": bad, bad: bad, "uid": bad, "dataproduct_file": bad}]).to_string();
    let status = serde_json::json!({"api_version": bad, "metadata_store_status": {"error": bad},
        "indexing": {"failing": {"first": [{"path": bad, "error": bad}]}}})
    .to_string();
    for (status, body) in [
        ("200 OK", row),
        ("200 OK", status),
        ("200 OK", format!("no JSON {bad}")),
        ("403 Forbidden", detail.clone()),
        ("404 Not Found", detail.clone()),
        ("500 Internal Server Error", detail.clone()),
        ("422 Unprocessable", detail),
    ] {
        let url = answering(status, body.clone());
        for arguments in [
            &["status"][..],
            &["status", "--json"],
            &["search"],
            &["search", "--json"],
            &["metadata", BLOCK],
            &["metadata", BLOCK, "--json"],
            &["download", BLOCK, "--output", to, "--patience", "0"],
        ] {
            let output = dpd(&url, arguments);
            assert!(is_harmless(&output.stdout), "{arguments:?} {status} {body}: {output:?}");
            assert!(is_harmless(&output.stderr), "{arguments:?} {status} {body}: {output:?}");
            if output.status.success() && arguments.contains(&"--json") {
                let shown: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
                assert_eq!(shown, serde_json::from_str::<serde_json::Value>(&body).expect("JSON"), "{arguments:?}");
            }
        }
    }
}

#[test]
fn an_answer_that_is_too_much_is_not_read() {
    let url = answering("200 OK", format!("[{}0]", "0,".repeat(6_000_000)));
    let output = dpd(&url, &["search"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("more than can be read"), "{output:?}");
}

#[test]
fn parts_are_files_of_ones_own() {
    let running = standalone(
        |volume| {
            volume.product("eb", BLOCK, "");
            volume.write("eb/all", "x");
            fs::set_permissions(volume.at("eb/all"), fs::Permissions::from_mode(0o4777)).expect("a mode");
        },
        &[],
    );
    let victim = |folder: &Path| {
        let victim = folder.join("victim");
        fs::write(&victim, "precious").expect("a file");
        victim
    };
    type Put = fn(&Path, &Path);
    let puts: [(&str, Put); 4] = [
        ("a link", |victim, part| symlink(victim, part).expect("a link")),
        ("a link to nothing", |victim, part| symlink(victim.with_extension("new"), part).expect("a link")),
        ("a second name", |victim, part| fs::hard_link(victim, part).expect("a name")),
        ("a pipe", |_, part| mknodat(CWD, part, FileType::Fifo, Mode::from_raw_mode(0o600), 0).expect("a pipe")),
    ];
    for (what, put) in puts {
        for name in ["tar.part", "tar.part.json", "tar.part.new"] {
            let folder = tempfile::tempdir().expect("a folder");
            let victim = victim(folder.path());
            put(&victim, &folder.path().join(format!("{BLOCK}.{name}")));
            let to = folder.path().to_str().expect("text");
            let output = dpd(&running.api.url, &["download", BLOCK, "--output", to]);
            assert_eq!(output.status.code(), Some(1), "{what} as {name}: {output:?}");
            assert!(String::from_utf8_lossy(&output.stderr).contains("no plain file of yours"), "{what}: {output:?}");
            assert_eq!(fs::read(&victim).expect("it"), b"precious", "{what} as {name}");
            assert!(!victim.with_extension("new").exists(), "{what} as {name}");
        }
    }
    let folder = tempfile::tempdir().expect("a folder");
    let output = dpd(&running.api.url, &["download", BLOCK, "--output", folder.path().to_str().expect("text")]);
    assert!(output.status.success(), "{output:?}");
    for name in ["eb", "eb/all"] {
        let mode = fs::metadata(folder.path().join(name)).expect("it").mode() & 0o7777;
        assert_eq!(mode, 0o700, "{name}");
    }
}

#[test]
fn a_name_is_one_line_of_a_log() {
    let forged = "2026-01-01T00:00:00.000000Z  INFO all is well";
    let running = standalone(
        |volume| {
            volume.product("eb", BLOCK, "");
            let name = format!("dang\u{1b}[2J\u{202e}\u{9b}\n{forged}");
            symlink("/nowhere", volume.at(&format!("eb/{name}"))).expect("a link");
        },
        &[],
    );
    assert_eq!(running.api.get(&format!("/download?execution_block={BLOCK}")).status, 200);
    tests::wait_for("the log", || running.api.log().contains("dang").then_some(()));
    let log = running.api.log();
    assert!(is_harmless(log.as_bytes()), "{log:?}");
    assert!(!log.lines().any(|line| line.starts_with(forged)), "{log}");
    assert!(log.lines().any(|line| line.contains("dang") && line.contains(forged)), "{log}");
}
