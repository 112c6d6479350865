//! Clients that open connections and leave them, that stop reading, that ask for more than there is, and that speak no HTTP.

use super::{both, daemons};
use serde_json::{Value, json};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};
use tests::program::{Server, binary, read_all, with_bare_environment};
use tests::volume::Volume;

const BLOCK: &str = "eb-a-20240101-1";
/// A request whose body does not come.
pub(super) const UNFINISHED: &[u8] =
    b"POST /dataproductsearch HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{";

/// A product of a file without bytes on disk, as large as is wished.
fn large(volume: &Volume, bytes: u64) {
    volume.product("eb", BLOCK, "");
    volume.write("eb/large", "");
    fs::OpenOptions::new().write(true).open(volume.at("eb/large")).expect("it").set_len(bytes).expect("its length");
}

pub(super) fn request(path: &str, body: &Value) -> Vec<u8> {
    let body = body.to_string();
    format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into()
}

pub(super) fn sent(server: &Server, bytes: &[u8]) -> TcpStream {
    let mut stream = server.connect();
    stream.write_all(bytes).expect("sent");
    stream
}

/// The first line of an answer.
fn first_line(mut stream: &TcpStream) -> String {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("a line");
        line.push(byte[0]);
    }
    String::from_utf8_lossy(&line).trim_end().to_owned()
}

fn download(server: &Server) -> TcpStream {
    let stream = sent(server, &request("/download", &json!({"execution_block": BLOCK})));
    assert_eq!(first_line(&stream), "HTTP/1.1 200 OK");
    stream
}

fn has_open(server: &Server, volume: &Volume) -> bool {
    let open = fs::read_dir(format!("/proc/{}/fd", server.pid())).expect("its files");
    let large = volume.at("eb/large");
    open.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok()).any(|target| target == large)
}

/// Opens connections on which nothing comes, or half a head, and asks for something anew again and again.
fn idle_connections_make_way(server: &Server, count: usize, begun: &[u8]) {
    let mut idle = Vec::new();
    let running = download(server);
    for n in 0..count {
        idle.push(sent(server, begun));
        if n % 250 == 249 {
            let asked = Instant::now();
            let answer = sent(server, b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
            assert_eq!(first_line(&answer), "HTTP/1.1 200 OK", "with {n} others");
            // What idles is given 15 s; it must not be what let this one in.
            assert!(asked.elapsed() < Duration::from_secs(10), "{:?} with {n} others", asked.elapsed());
        }
    }
    // Who is at work is not sent away.
    let (mut read, mut stream, mut part) = (0, &running, vec![0; 1 << 20]);
    while let Ok(n @ 1..) = stream.read(&mut part) {
        read += n as u64;
    }
    assert!(read > 64 << 20, "{read} bytes");
}

#[test]
fn idle_connections_do_not_starve_a_new_one() {
    rustix::process::setrlimit(rustix::process::Resource::Nofile, {
        let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        limit.current = limit.maximum;
        limit
    })
    .expect("as many files as may be");
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    let count = usize::try_from(files.saturating_sub(1000).min(10_000)).unwrap_or(10_000);
    for running in both(|volume| large(volume, 64 << 20), &[]) {
        idle_connections_make_way(&running.api, count, b"");
        idle_connections_make_way(&running.api, count / 4, b"GET /status HTTP/1.1\r\nHost:");
        idle_connections_make_way(&running.api, count / 2, UNFINISHED);
    }
}

#[test]
fn few_files_are_enough() {
    let volume = Volume::new();
    large(&volume, 64 << 20);
    let mut command = with_bare_environment(Command::new("sh"));
    command.args(["-c", "ulimit -n 128 && exec \"$@\"", "sh"]).arg(binary("dpd")).arg("serve").arg(volume.path());
    command.args(["--listen", "127.0.0.1:0"]);
    let server = Server::with(command, true);
    idle_connections_make_way(&server, 1000, b"");
    idle_connections_make_way(&server, 1000, UNFINISHED);
    assert_eq!(server.folders(), ["eb"]);
}

#[test]
fn who_stops_reading_is_cut_off_and_who_reads_slowly_is_not() {
    for running in both(|volume| large(volume, 1 << 30), &[("DPD_STALL_SECONDS", "1")]) {
        let stalled = download(&running.api);
        assert!(has_open(&running.api, &running.volume));
        tests::wait_for("the end of the stalled download", || (!has_open(&running.api, &running.volume)).then_some(()));
        drop(stalled);
        // Longer than the kernel's buffers last, and far slower than they are filled.
        let mut slow = download(&running.api);
        let mut part = vec![0; 200_000];
        for _ in 0..40 {
            slow.read_exact(&mut part).expect("what is sent slowly");
            std::thread::park_timeout(Duration::from_millis(100));
        }
        assert!(has_open(&running.api, &running.volume));
    }
}

#[test]
fn more_requests_than_there_may_be_are_told_to_come_again() {
    let variables = [("DPD_MAX_REQUESTS", "4"), ("DPD_MAX_DOWNLOADS", "1"), ("DPD_POSTGRESQL_TIMEOUT_SECONDS", "3600")];
    let running = daemons(|volume| large(volume, 1 << 30), &variables);
    let (api, database) = (&running.api, &running.site.as_ref().expect("a site").database);
    let uid = api.search(&[])[0]["uid"].as_str().expect("a uid").to_owned();
    // Work that does not end. One address has three quarters of the places.
    database.execute("BEGIN; LOCK TABLE annotation IN ACCESS EXCLUSIVE MODE");
    let wanted = format!("GET /annotations/{uid} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let held: Vec<TcpStream> = (0..3).map(|_| sent(api, wanted.as_bytes())).collect();
    tests::wait_for("the work", || {
        database.execute("SELECT pg_stat_clear_snapshot()");
        let waiting =
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        (database.value(waiting).as_u64() >= Some(3)).then_some(())
    });
    let refused = api.get("/en/humanreadable");
    assert_eq!(refused.status, 503);
    assert_eq!(refused.header("retry-after"), "5");
    assert!(refused.json()["detail"].as_str().expect("a detail").contains("requests at once"), "{}", refused.json());
    // How it stands is told however busy it is.
    for path in ["/status", "/livez", "/readyz"] {
        assert_eq!(api.get(path).status, 200, "{path}");
    }
    let wanted = b"GET /en/humanreadable HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let port = api.url.rsplit(':').next().and_then(|port| port.parse::<u16>().ok()).expect("a port");
    let other = tests::program::connect_from([127, 0, 0, 2], port);
    (&other).write_all(wanted).expect("sent");
    assert_eq!(first_line(&other), "HTTP/1.1 200 OK");
    database.execute("ROLLBACK");
    held.iter().for_each(|stream| assert_eq!(first_line(stream), "HTTP/1.1 204 No Content"));
    tests::wait_for("a place", || (api.get("/en/humanreadable").status == 200).then_some(()));
    // Downloads have places of their own.
    let running_download = download(api);
    let second = api.post("/download", &json!({"execution_block": BLOCK}));
    assert_eq!((second.status, second.header("retry-after")), (503, "5"));
    drop(running_download);
    tests::wait_for("a place", || {
        let mut stream = sent(api, &request("/download", &json!({"execution_block": BLOCK})));
        let line = first_line(&stream);
        let _ = stream.read(&mut [0]);
        (line == "HTTP/1.1 200 OK").then_some(())
    });
}

#[test]
fn an_answer_that_is_made_takes_nobodys_place() {
    for running in both(|_| (), &[("DPD_MAX_REQUESTS", "1")]) {
        let metadata = json!({"execution_block": BLOCK, "text": "x".repeat(15 << 20)});
        assert_eq!(running.api.post("/ingestnewmetadata", &metadata).status, 201);
        let wanted = request("/dataproductmetadata", &json!({"execution_block": BLOCK}));
        let unread = sent(&running.api, &wanted);
        assert_eq!(first_line(&unread), "HTTP/1.1 200 OK");
        assert_eq!(running.api.get("/en/humanreadable").status, 200);
        // And it is all there, however late it is taken.
        assert!(read_all(&unread, tests::PATIENCE).len() > 15 << 20);
    }
}

#[test]
fn what_is_no_request_is_refused_in_words() {
    for running in both(|_| (), &[]) {
        let long = |length: usize| "x".repeat(length);
        for (bytes, status) in [
            ("NONSENSE\r\n\r\n".to_owned(), 400),
            ("GET / HTTP/3.0\r\n\r\n".to_owned(), 400),
            ("GET /status HTTP/1.1\r\nHost: localhost\r\nno colon\r\n\r\n".to_owned(), 400),
            ("GET /status HTTP/1.1\r\nHost: localhost\r\na: \0\r\n\r\n".to_owned(), 400),
            (
                "POST /status HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n".to_owned(),
                400,
            ),
            ("POST /status HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n".to_owned(), 400),
            (format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", long(100_000)), 414),
            (format!("GET / HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "a: b\r\n".repeat(1001)), 431),
            (format!("GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\na: {}\r\n\r\n", long(20_000)), 431),
            (format!("GET / HTTP/1.1\r\nHost: localhost\r\na: {}\r\n\r\n", long(200_000)), 431),
        ] {
            let mut stream = running.api.connect();
            // It may answer and close before it has read all.
            let _ = stream.write_all(bytes.as_bytes());
            let answer = read_all(&stream, tests::PATIENCE);
            let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{bytes:.50}: {answer}"));
            assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{bytes:.50}: {head}");
            let detail: Value =
                serde_json::from_str(body).unwrap_or_else(|error| panic!("{bytes:.50}: {error}: {answer}"));
            assert!(detail["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{bytes:.50}: {body}");
            let head = head.to_ascii_lowercase();
            assert!(head.contains(&format!("content-length: {}", body.len())) && head.contains("application/json"));
            assert!(head.contains("x-content-type-options: nosniff") && !head.contains("\r\nserver:"), "{head}");
        }
        assert_eq!(running.api.status()["api_running"], true);
    }
}

#[test]
fn headers_tell_browsers_what_they_may_do_and_nobody_what_answers() {
    for running in both(|volume| volume.product("eb", BLOCK, ""), &[]) {
        let api = &running.api;
        for answer in [
            api.get("/status"),
            api.get("/docs"),
            api.get("/nothing"),
            api.post("/download", &json!({"execution_block": BLOCK})),
            api.post("/dataproductsearch", &json!([])),
        ] {
            assert_eq!(answer.header("x-content-type-options"), "nosniff");
            assert!(!answer.headers.iter().any(|(name, _)| ["server", "x-powered-by", "via"].contains(&name.as_str())));
            assert_ne!(answer.header("access-control-allow-origin"), "*");
        }
        for (origin, allowed) in [("http://localhost:8100", true), ("http://evil.example.org", false), ("null", false)]
        {
            let answer = ureq::get(format!("{}/status", api.url)).header("origin", origin).call().expect("an answer");
            let header = |name: &str| answer.headers().get(name).map(|value| value.to_str().expect("text").to_owned());
            let origin = allowed.then(|| origin.to_owned());
            assert_eq!(header("access-control-allow-origin"), origin);
        }
    }
}
