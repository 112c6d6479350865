//! What load balancers are told: that an API is ready, stays so while its database is away, and leaves before it ends.

use super::Site;
use rustix::process::Signal;
use serde_json::json;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::{Duration, Instant};
use tests::postgres::Postgres;
use tests::program::Server;

#[test]
fn an_api_that_reached_its_database_once_stays_ready() {
    let server = Postgres::start();
    let site = Site::on(server.database());
    site.products(1);
    let (_indexer, api) = site.daemons.pair();
    assert_eq!(api.get("/readyz").status, 200);
    server.kill();
    tests::wait_for("a refusal", || (api.post("/dataproductsearch", &json!({})).status == 503).then_some(()));
    assert_eq!((api.get("/readyz").status, api.get("/livez").status, api.get("/status").status), (200, 200, 200));
    // One that starts now has nothing to answer with yet.
    let late = site.daemons.api();
    let answer = late.get("/readyz");
    assert_eq!(answer.status, 503);
    assert!(!answer.header("retry-after").is_empty());
    server.restart();
    tests::wait_for("the late one", || (late.get("/readyz").status == 200).then_some(()));
}

/// The status and head of an answer on a connection of its own; nothing where there is no connection or no answer.
fn ask(address: &str, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(tests::PATIENCE)).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").ok()?;
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).expect("a head").to_ascii_lowercase();
    Some((head.split(' ').nth(1)?.parse().ok()?, head))
}

#[test]
fn an_api_that_is_to_stop_answers_until_all_know_of_it() {
    let drain = Duration::from_secs(3);
    let site = Site::new().with("DPD_DRAIN_SECONDS", "3");
    site.products(1);
    let (_indexer, mut api) = site.daemons.pair();
    let address = api.url.trim_start_matches("http://").to_owned();
    let is_closed = |head: &str| head.contains("\r\nconnection: close\r\n");
    let (status, head) = ask(&address, "/readyz").expect("an answer");
    assert!(status == 200 && !is_closed(&head), "{head}");
    // A client that keeps its connection is told on it.
    let mut kept = TcpStream::connect(&address).expect("a connection");
    kept.set_read_timeout(Some(tests::PATIENCE)).expect("set");
    let begun = Instant::now();
    api.signal(Signal::TERM);
    api.wait_for_log("still answering", 1);
    let (status, head) = ask(&address, "/readyz").expect("an answer");
    assert!(status == 503 && is_closed(&head), "{head}");
    write!(kept, "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("sent");
    let mut answer = String::new();
    kept.read_to_string(&mut answer).expect("the answer, and then the end");
    assert!(answer.starts_with("HTTP/1.1 200") && is_closed(&answer.to_ascii_lowercase()), "{answer}");
    let mut answered = 0;
    let refused = loop {
        // When it began to connect: how long that took is the machine's.
        let before = Instant::now();
        match ask(&address, "/status") {
            Some((status, head)) => assert!(status == 200 && is_closed(&head), "{head}"),
            None => break before,
        }
        answered += 1;
    };
    // One that comes in the last moment may be too late where the processors have much to do.
    let least = drain - Duration::from_secs(1);
    assert!(refused.duration_since(begun) >= least, "{:?}", refused.duration_since(begun));
    assert!(answered > 0);
    assert!(api.ended().success());
}

/// Those that a load balancer sends clients to. It asks now and then who is ready.
type Endpoints = Mutex<Vec<String>>;

#[test]
fn a_rolling_restart_refuses_nobody() {
    let site = Site::new().with("DPD_DRAIN_SECONDS", "3");
    site.products(3);
    let (_indexer, first) = site.daemons.pair();
    let address = |api: &Server| api.url.trim_start_matches("http://").to_owned();
    let mut apis = [first, site.daemons.api()];
    let all: Endpoints = Mutex::new(apis.iter().map(address).collect());
    let (ready, done, answered) = (Endpoints::default(), AtomicBool::new(false), AtomicUsize::new(0));
    let is_ready = |address: &String| ask(address, "/readyz").is_some_and(|(status, _)| status == 200);
    let look = || {
        let known = all.lock().expect("them").clone();
        *ready.lock().expect("them") = known.into_iter().filter(is_ready).collect();
    };
    let count = || ready.lock().expect("them").len();
    look();
    assert_eq!(count(), 2);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Relaxed) {
                look();
                std::thread::sleep(Duration::from_millis(500));
            }
        });
        for client in 0..4 {
            let (ready, done, answered) = (&ready, &done, &answered);
            scope.spawn(move || {
                for n in client.. {
                    let at = ready.lock().expect("them").clone();
                    let at = &at[n % at.len()];
                    let (status, head) = ask(at, "/status").unwrap_or_else(|| panic!("{at} refuses"));
                    assert_eq!(status, 200, "{head}");
                    answered.fetch_add(1, Relaxed);
                    if done.load(Relaxed) {
                        return;
                    }
                }
            });
        }
        for api in &mut apis {
            let (old, new) = (address(api), site.daemons.api());
            all.lock().expect("them").push(address(&new));
            tests::wait_for("the new one", || (count() == 3).then_some(()));
            api.signal(Signal::TERM);
            assert!(api.ended().success());
            all.lock().expect("them").retain(|address| *address != old);
            *api = new;
            tests::wait_for("the others", || (count() == 2).then_some(()));
        }
        done.store(true, Relaxed);
    });
    println!("{} requests were answered in a rolling restart, and none refused", answered.load(Relaxed));
}
