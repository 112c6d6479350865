//! A permissions service to ask, which can also be made to fail.

use serde_json::json;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What stands at a token's end, after the last dot if there is one: the token of a member of the group `staff`, who is called `staff@example.org`.
pub const MEMBER: &str = "token-of-a-member";
/// The token of another member of it, who is called `colleague@example.org`.
pub const COLLEAGUE: &str = "token-of-a-colleague";
/// The token of a member of the group `guests`, who is called `guest@example.org`.
pub const OUTSIDER: &str = "token-of-an-outsider";

/// How the service answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// As it should; other tokens than those above get 401.
    Well,
    /// The same, after a while.
    Slowly(Duration),
    /// Not at all.
    Never,
    /// With half an answer, and then not at all.
    Half,
    /// As it should on a new connection, which it then breaks off when it is to be used again.
    EndsKept,
    /// By breaking the connection off.
    BreaksOff,
    /// With this status.
    Status(u16),
    /// With something that is no JSON.
    Garbage,
    /// With JSON that is not what it should be.
    OtherJson,
    /// With more than anybody wants to know.
    Endlessly,
}

/// The service, on a port of its own until dropped.
#[derive(Debug)]
pub struct Permissions {
    port: u16,
    own: Arc<Own>,
}

#[derive(Debug)]
struct Own {
    mode: Mutex<Mode>,
    asked: AtomicUsize,
    under_way: AtomicUsize,
    most: AtomicUsize,
}

/// Whatever a request and its answer go over.
pub trait Line: Read + Write + Send + 'static {}
impl<T: Read + Write + Send + 'static> Line for T {}

impl Permissions {
    /// One that answers well.
    pub fn start() -> Permissions {
        Permissions::over(|stream| Box::new(stream))
    }

    /// One that answers well over what `line` makes of a connection.
    ///
    /// # Panics
    /// When there is no port.
    pub fn over(line: impl Fn(TcpStream) -> Box<dyn Line> + Send + Sync + 'static) -> Permissions {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let mode = Mutex::new(Mode::Well);
        let [asked, under_way, most] = [(); 3].map(|()| AtomicUsize::new(0));
        let own = Arc::new(Own { mode, asked, under_way, most });
        let (serving, line) = (own.clone(), Arc::new(line));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // The end of the test ends those that wait.
                let (own, line) = (Arc::downgrade(&serving), line.clone());
                std::thread::spawn(move || own.upgrade().map(|own| own.answer(line(stream))));
            }
        });
        Permissions { port, own }
    }

    /// Its base URL.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Where it listens on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Has it answer so from now on.
    pub fn set(&self, mode: Mode) {
        *self.own.mode.lock().unwrap_or_else(PoisonError::into_inner) = mode;
    }

    /// How many questions were under way at once so far, at the most.
    pub fn most(&self) -> usize {
        self.own.most.load(Ordering::Relaxed)
    }

    /// How often it was asked so far.
    pub fn asked(&self) -> usize {
        self.own.asked.load(Ordering::Relaxed)
    }
}

/// A base URL at which nobody answers.
///
/// # Panics
/// When there is no port.
pub fn nowhere() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    format!("http://{}", listener.local_addr().expect("its address"))
}

/// A question that is not answered yet.
struct UnderWay<'a>(&'a AtomicUsize);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Own {
    fn answer(&self, line: Box<dyn Line>) -> Option<()> {
        let mut line = BufReader::new(line);
        let mut head = Vec::new();
        loop {
            let mut text = String::new();
            if line.read_line(&mut text).ok()? == 0 {
                return None;
            }
            let text = text.trim_end().to_owned();
            if text.is_empty() {
                break;
            }
            head.push(text);
        }
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.most.fetch_max(self.under_way.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
        let _under_way = UnderWay(&self.under_way);
        let path = head.first()?.split(' ').nth(1)?.to_owned();
        let token = head.iter().find_map(|line| {
            line.to_ascii_lowercase().starts_with("authorization: bearer ").then(|| line[22..].to_owned())
        });
        let mode = *self.mode.lock().unwrap_or_else(PoisonError::into_inner);
        let (status, body) = reply(&path, token.as_deref());
        let out = line.get_mut();
        match mode {
            Mode::Well => send(out, status, &body),
            Mode::Slowly(pause) => {
                std::thread::sleep(pause);
                send(out, status, &body)
            }
            Mode::Never => wait(),
            Mode::Half => {
                out.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{\"user_groups\": [\"staff\"").ok()?;
                out.flush().ok()?;
                wait()
            }
            Mode::EndsKept => {
                send_over(out, "keep-alive", status, &body)?;
                // What is not read of a connection that is closed resets it.
                out.read(&mut [0]).ok().map(drop)
            }
            Mode::BreaksOff => None,
            Mode::Status(status) => send(out, status, &body),
            Mode::Garbage => send(out, 200, "<html>welcome</html>"),
            Mode::OtherJson => send(out, 200, r#"{"user_groups": "staff", "user_profile": {"userPrincipalName": 5}}"#),
            Mode::Endlessly => {
                out.write_all(b"HTTP/1.1 200 OK\r\n\r\n{\"user_groups\": [\"staff\"").ok()?;
                while out.write_all(",\"another group\"".repeat(1000).as_bytes()).is_ok() {}
                None
            }
        }
    }
}

/// What the service says when it is well.
fn reply(path: &str, token: Option<&str>) -> (u16, String) {
    let (group, name) = match token.and_then(|token| token.rsplit('.').next()) {
        Some(MEMBER) => ("staff", "staff@example.org"),
        Some(COLLEAGUE) => ("staff", "colleague@example.org"),
        Some(OUTSIDER) => ("guests", "guest@example.org"),
        _ => return (401, json!({"detail": "who is this?"}).to_string()),
    };
    match path {
        "/v1/getusergroupids" => (200, json!({"user_groups": [group, "everybody"]}).to_string()),
        "/v2/user/profile" => (200, json!({"user_profile": {"userPrincipalName": name}}).to_string()),
        _ => (404, json!({"detail": "no such path"}).to_string()),
    }
}

fn send(out: &mut impl Write, status: u16, body: &str) -> Option<()> {
    send_over(out, "close", status, body)
}

fn send_over(out: &mut impl Write, connection: &str, status: u16, body: &str) -> Option<()> {
    let head = format!("HTTP/1.1 {status} So\r\ncontent-type: application/json\r\nconnection: {connection}\r\n");
    write!(out, "{head}content-length: {}\r\n\r\n{body}", body.len()).ok()?;
    out.flush().ok()
}

/// Longer than anybody waits.
fn wait() -> Option<()> {
    std::thread::sleep(crate::PATIENCE * 2);
    None
}
