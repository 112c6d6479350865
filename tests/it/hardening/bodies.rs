//! Bodies that are large, that come to much more than they are, and that do not end: they take little memory, and nobody waits
//! while they are read.

use super::connections::sent;
use super::slow_clients::is_unanswered;
use super::{Running, both};
use serde_json::json;
use std::io::Write;
use std::net::TcpStream;

const MIB: u64 = 1 << 20;
const BLOCK: &str = r#"{"execution_block":"eb-a-20240101-1","a":["#;

/// A body of about 16 MiB of such values.
fn many(value: &str) -> Vec<u8> {
    let mut body = BLOCK.as_bytes().to_vec();
    while body.len() < (16 << 20) - value.len() - 8 {
        body.extend_from_slice(value.as_bytes());
        body.push(b',');
    }
    body.extend_from_slice(b"0]}");
    body
}

/// By how much the memory of a program grows at the most while something is done.
fn meanwhile(running: &Running, doing: impl FnOnce()) -> u64 {
    std::fs::write(format!("/proc/{}/clear_refs", running.api.pid()), "5").expect("its peak is counted anew");
    let before = running.api.memory("VmHWM");
    doing();
    running.api.memory("VmHWM").saturating_sub(before)
}

#[test]
fn values_are_counted_while_they_are_read() {
    let body = many(r#"{"a":0}"#);
    for running in both(|_| (), &[]) {
        let grown = meanwhile(&running, || {
            let answer = running.api.post_bytes("/ingestnewmetadata", &body);
            assert_eq!(answer.status, 422);
            assert!(answer.json()["detail"].as_str().is_some_and(|detail| detail.contains("500000 values")));
        });
        assert!(grown < 200 * MIB, "{} MiB", grown / MIB);
        // Many at once wait for each other.
        let grown = meanwhile(&running, || {
            std::thread::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(|| {
                        let status = running.api.post_bytes("/ingestnewmetadata", &body).status;
                        assert!([422, 503].contains(&status), "{status}");
                    });
                }
            });
        });
        assert!(grown < 500 * MIB, "{} MiB", grown / MIB);
        assert_eq!(running.api.search(&[]).len(), 0);
    }
}

#[test]
fn that_it_lives_is_answered_while_bodies_are_read() {
    // As many values as there may be, which are read to their end.
    let body = many(&format!("\"{}\"", "x".repeat(32)));
    let head = format!("POST /ingestnewmetadata HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", body.len());
    for running in both(|_| (), &[]) {
        let before = running.api.cpu_ticks();
        let held: Vec<TcpStream> = (0..3)
            .map(|_| {
                let mut stream = sent(&running.api, head.as_bytes());
                stream.write_all(&body).expect("sent");
                stream
            })
            .collect();
        // They are being read, and by more of its threads than one.
        tests::wait_for("work", || (running.api.cpu_ticks() > before + 50).then_some(()));
        for path in ["/livez", "/docs", "/livez"] {
            assert_eq!(running.api.get(path).status, 200, "{path}");
        }
        assert!(held.iter().all(is_unanswered));
    }
}

#[test]
fn bodies_that_do_not_end_take_little() {
    let body = vec![b' '; (16 << 20) - 1];
    for running in both(|_| (), &[]) {
        let mut held: Vec<TcpStream> = Vec::new();
        let grown = meanwhile(&running, || {
            for _ in 0..256 {
                let mut stream = running.api.connect();
                let head = "POST /ingestnewmetadata HTTP/1.1\r\nHost: localhost\r\nContent-Length: 16777216\r\n\r\n";
                stream.write_all(head.as_bytes()).expect("sent");
                // One that is told to go away need not take it.
                let _ = stream.write_all(&body);
                held.push(stream);
            }
            // Those that have made way were told, and the others are waited for; neither is in anybody's way.
            assert_eq!(running.api.get("/livez").status, 200);
            assert!(held.iter().filter(|stream| is_unanswered(stream)).count() >= 3);
            let whole = json!({"execution_block": "eb-a-20240101-1", "text": "x".repeat(15 << 20)});
            let answer = running.api.post("/ingestnewmetadata", &whole);
            assert_eq!(answer.status, 201, "{}", String::from_utf8_lossy(&answer.body));
        });
        assert!(grown < 300 * MIB, "{} MiB", grown / MIB);
    }
}
