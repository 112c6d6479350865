//! Requests that cost the client little, for it shares the cores with what is measured: bytes made beforehand, over a
//! connection that stays.

use crate::report::Times;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};
use tests::program::Server;

/// A connection.
pub(crate) struct Client {
    stream: BufReader<TcpStream>,
    body: Vec<u8>,
}

impl Client {
    pub(crate) fn of(server: &Server) -> Client {
        let stream = server.connect();
        stream.set_nodelay(true).expect("no delay");
        Client { stream: BufReader::with_capacity(1 << 16, stream), body: Vec::new() }
    }

    /// Sends a request; answers the status and the body.
    pub(crate) fn ask(&mut self, request: &[u8]) -> (u16, &[u8]) {
        self.stream.get_mut().write_all(request).expect("a request");
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("an answer");
        let status = line.split(' ').nth(1).and_then(|text| text.parse().ok()).expect("a status");
        let (mut length, mut chunked) = (0, false);
        loop {
            line.clear();
            self.stream.read_line(&mut line).expect("a head");
            let line = line.trim_end().to_ascii_lowercase();
            match line.split_once(": ") {
                Some(("content-length", text)) => length = text.parse().expect("a length"),
                Some(("transfer-encoding", _)) => chunked = true,
                Some(_) => {}
                None => break,
            }
        }
        self.body.clear();
        if chunked {
            self.chunks();
        } else {
            self.body.resize(length, 0);
            self.stream.read_exact(&mut self.body).expect("a body");
        }
        (status, &self.body)
    }

    /// Sends a request that must go well.
    pub(crate) fn good(&mut self, request: &[u8]) {
        let (status, body) = self.ask(request);
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(body));
    }

    fn chunks(&mut self) {
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line).expect("a chunk");
            let length = usize::from_str_radix(line.trim_end(), 16).expect("its length");
            let from = self.body.len();
            // And the end of its line.
            self.body.resize(from + length + 2, 0);
            self.stream.read_exact(&mut self.body[from..]).expect("a chunk");
            self.body.truncate(from + length);
            if length == 0 {
                return;
            }
        }
    }
}

pub(crate) fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").into_bytes()
}

/// A request with a body, and with a bearer token where one is given.
pub(crate) fn post(path: &str, body: &Value, token: Option<&str>) -> Vec<u8> {
    let token = token.map_or_else(String::new, |token| format!("Authorization: Bearer {token}\r\n"));
    let body = body.to_string();
    format!("POST {path} HTTP/1.1\r\nHost: localhost\r\n{token}Content-Length: {}\r\n\r\n{body}", body.len())
        .into_bytes()
}

/// Requests of several clients at once for a while: how many were answered a second, and how long each took. All must go
/// well.
pub(crate) fn load(server: &Server, clients: usize, time: Duration, requests: &[Vec<u8>]) -> (f64, Times) {
    let begun = Instant::now();
    let of_one = |own: usize| {
        let (mut client, mut times) = (Client::of(server), Vec::new());
        // Each begins elsewhere in the list.
        for request in requests.iter().cycle().skip(own * requests.len() / clients) {
            if begun.elapsed() >= time {
                break;
            }
            let begun = Instant::now();
            client.good(request);
            times.push(begun.elapsed());
        }
        times
    };
    let times: Vec<Duration> = thread::scope(|scope| {
        let running: Vec<_> = (0..clients).map(|own| scope.spawn(move || of_one(own))).collect();
        running.into_iter().flat_map(|client| client.join().expect("a client")).collect()
    });
    (times.len() as f64 / begun.elapsed().as_secs_f64(), Times::of(times))
}
