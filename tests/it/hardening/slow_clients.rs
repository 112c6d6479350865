//! Clients that send their requests, and take their answers, as slowly as they like, or ask for much at once: nobody else waits
//! for them.

use super::connections::{UNFINISHED, request, sent};
use super::{Running, both};
use rustix::net::sockopt::set_socket_recv_buffer_size;
use serde_json::json;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

/// As many as there are places for requests.
const CLIENTS: usize = 256;

/// Asks as anybody would.
fn another_is_answered(running: &Running) {
    let answer = running.api.post("/dataproductsearch", &json!({}));
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
}

/// Whether nothing came on a connection yet, not even its end.
pub(super) fn is_unanswered(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).expect("a mode");
    let seen = stream.peek(&mut [0]);
    stream.set_nonblocking(false).expect("a mode");
    seen.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

/// A client that asks for a page, and can be sent little at once.
fn asks_for_much(running: &Running) -> TcpStream {
    let mut stream = running.api.connect();
    set_socket_recv_buffer_size(&stream, 4096).expect("a small buffer");
    stream.write_all(&request("/filterdataproducts", &json!({}))).expect("sent");
    stream
}

fn ingest_a_large_one(running: &Running) {
    let large = json!({"execution_block": "eb-large-20190101-1", "text": "x".repeat(4 << 20)});
    assert_eq!(running.api.post("/ingestnewmetadata", &large).status, 201);
    another_is_answered(running);
}

#[test]
fn requests_that_are_not_whole_hold_up_nobody() {
    for running in both(|volume| volume.product("eb", "eb-a-20240101-1", "n: 1"), &[]) {
        let held: Vec<TcpStream> = (0..CLIENTS).map(|_| sent(&running.api, UNFINISHED)).collect();
        for _ in 0..5 {
            another_is_answered(&running);
        }
        assert!(held.iter().all(is_unanswered));
    }
}

#[test]
fn answers_that_are_made_hold_up_nobody() {
    for running in both(|volume| volume.product("eb", "eb-a-20240101-1", "n: 1"), &[]) {
        ingest_a_large_one(&running);
        let held: Vec<TcpStream> = (0..CLIENTS).map(|_| asks_for_much(&running)).collect();
        // While all of them wait, or nearly all, on a machine that has nothing else to do.
        another_is_answered(&running);
        assert_eq!(running.api.get("/livez").status, 200);
        let left = held.iter().filter(|stream| is_unanswered(stream)).count();
        assert!(left > CLIENTS / 4, "{left} of {CLIENTS} are still to be answered");
        (0..5).for_each(|_| another_is_answered(&running));
    }
}

#[test]
fn answers_that_are_taken_slowly_hold_up_nobody() {
    for running in both(|volume| volume.product("eb", "eb-a-20240101-1", "n: 1"), &[]) {
        ingest_a_large_one(&running);
        let mut held = Vec::new();
        for n in 0..CLIENTS {
            let mut stream = asks_for_much(&running);
            // The answer has begun, and that is all that is taken of it.
            stream.read_exact(&mut [0]).expect("its first byte");
            held.push(stream);
            if n % 64 == 63 {
                another_is_answered(&running);
            }
        }
        // What all of them leave untaken is more than is kept: those make way that took nothing for longest.
        let memory = running.api.memory("VmRSS");
        assert!(memory < 512 << 20, "{memory}");
        let ended = held.iter().filter(|stream| {
            stream.set_nonblocking(true).expect("a mode");
            let mut read = vec![0; 1 << 20];
            let mut stream: &TcpStream = stream;
            loop {
                match stream.read(&mut read) {
                    Ok(0) => return true,
                    Ok(_) => {}
                    Err(error) => return error.kind() != ErrorKind::WouldBlock,
                }
            }
        });
        assert!(ended.count() > CLIENTS / 2);
    }
}
