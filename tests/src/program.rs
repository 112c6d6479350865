//! `dpd serve` as a process, and requests to it.

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A program that was built beside the running test.
///
/// # Panics
/// When it is not there.
pub fn binary(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("the test's own path");
    let profile = own.ancestors().nth(2).expect("target/PROFILE/deps/TEST");
    let binary = profile.join(name);
    assert!(binary.exists(), "{} is not built: run `make test`", binary.display());
    binary
}

/// A running `dpd serve`, killed when dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    /// Where it answers: `http://127.0.0.1:PORT`.
    pub url: String,
    log: Arc<Mutex<String>>,
    agent: ureq::Agent,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in {}", String::from_utf8_lossy(&self.body)))
    }

    /// A header, or nothing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(own, _)| own == name).map_or("", |(_, value)| value)
    }
}

/// `dpd serve` on a volume, yet to be started. The environment is empty but for `PATH`.
pub fn serve(volume: &Path) -> Command {
    let mut command = Command::new(binary("dpd"));
    command.arg("serve").arg(volume).args(["--listen", "127.0.0.1:0"]);
    with_bare_environment(command)
}

/// The command without the environment's variables, which are not the test's.
pub fn with_bare_environment(mut command: Command) -> Command {
    command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin");
    command
}

impl Server {
    /// Starts it and waits until it answers and its first walk has ended.
    pub fn start(volume: &Path) -> Server {
        Server::with(serve(volume), true)
    }

    /// Starts a command; waits for the first walk's end if `indexed`.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn with(mut command: Command, indexed: bool) -> Server {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
        let log = Arc::new(Mutex::new(String::new()));
        collect(child.stderr.take().expect("stderr"), log.clone());
        let mut out = BufReader::new(child.stdout.take().expect("stdout"));
        let mut line = String::new();
        while !line.starts_with("listening on ") {
            line.clear();
            let read = out.read_line(&mut line).expect("its output");
            assert!(read > 0, "it ended: {}", log.lock().expect("the log"));
        }
        let url = line.trim().trim_start_matches("listening on ").to_owned();
        collect(out, log.clone());
        let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(crate::PATIENCE));
        let server = Server { child, url, log, agent: config.build().into() };
        if indexed {
            crate::wait_for("the first walk", || {
                server.status()["pv_interface_status"]["index_time_modified"].as_str().map(drop)
            });
        }
        server
    }

    /// What it wrote so far.
    ///
    /// # Panics
    /// Never, but for a defect in here.
    pub fn log(&self) -> String {
        self.log.lock().expect("the log").clone()
    }

    /// Its process number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `GET`.
    ///
    /// # Panics
    /// When no answer comes.
    pub fn get(&self, path: &str) -> Answer {
        answer(self.agent.get(format!("{}{path}", self.url)).call().unwrap_or_else(|e| panic!("{path}: {e}")))
    }

    /// `POST` of bytes, without a content type.
    ///
    /// # Panics
    /// When no answer comes.
    pub fn post_bytes(&self, path: &str, body: &[u8]) -> Answer {
        answer(self.agent.post(format!("{}{path}", self.url)).send(body).unwrap_or_else(|e| panic!("{path}: {e}")))
    }

    /// `POST` of JSON.
    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.post_bytes(path, body.to_string().as_bytes())
    }

    /// The JSON of a `GET` that goes well.
    ///
    /// # Panics
    /// When it does not.
    pub fn get_json(&self, path: &str) -> Value {
        let answer = self.get(path);
        assert_eq!(answer.status, 200, "{path}: {}", String::from_utf8_lossy(&answer.body));
        answer.json()
    }

    /// `/status`.
    pub fn status(&self) -> Value {
        self.get_json("/status")
    }

    /// The rows of a search by pairs, over all dates.
    ///
    /// # Panics
    /// When it does not go well.
    pub fn search(&self, pairs: &[&str]) -> Vec<Value> {
        let body = json!({"start_date": "1900-01-01", "key_value_pairs": pairs});
        let answer = self.post("/dataproductsearch", &body);
        assert_eq!(answer.status, 200, "{pairs:?}: {}", String::from_utf8_lossy(&answer.body));
        answer.json().as_array().expect("rows").clone()
    }

    /// The answer to a filter.
    ///
    /// # Panics
    /// When it does not go well.
    pub fn filter(&self, body: &Value) -> Value {
        let answer = self.post("/filterdataproducts", body);
        assert_eq!(answer.status, 200, "{body}: {}", String::from_utf8_lossy(&answer.body));
        answer.json()
    }

    /// The folders of all products, sorted.
    pub fn folders(&self) -> Vec<String> {
        let mut folders: Vec<String> =
            self.search(&[]).iter().filter_map(|row| row["dataproduct_file"].as_str().map(str::to_owned)).collect();
        folders.sort();
        folders
    }

    /// Waits until the products' folders are these.
    ///
    /// # Panics
    /// When they do not become so.
    pub fn wait_for_folders(&self, expected: &[&str]) {
        crate::wait_for(&format!("{expected:?}"), || (self.folders() == expected).then_some(()));
    }

    /// A connection, for what no well-behaved client does.
    ///
    /// # Panics
    /// When none can be made.
    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.url.trim_start_matches("http://")).expect("a connection");
        stream.set_read_timeout(Some(crate::PATIENCE)).expect("a timeout");
        stream
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// When it cannot be sent.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = i32::try_from(self.pid()).ok().and_then(rustix::process::Pid::from_raw).expect("a process");
        rustix::process::kill_process(pid, signal).expect("a signal");
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it does not end.
    pub fn ended(&mut self) -> ExitStatus {
        crate::wait_for("the end", || self.child.try_wait().expect("its state"))
    }

    /// A figure of `/proc/PID/status` in bytes, such as `VmHWM`.
    ///
    /// # Panics
    /// When there is none.
    pub fn memory(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("its figures");
        let line = status.lines().find(|line| line.starts_with(name)).expect("the figure");
        line.split_whitespace().nth(1).and_then(|kb| kb.parse::<u64>().ok()).expect("a number") * 1024
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn collect(mut from: impl Read + Send + 'static, to: Arc<Mutex<String>>) {
    std::thread::spawn(move || {
        let mut part = [0; 4096];
        while let Ok(read @ 1..) = from.read(&mut part) {
            if let Ok(mut log) = to.lock() {
                log.push_str(&String::from_utf8_lossy(&part[..read]));
            }
        }
    });
}

fn answer(response: ureq::http::Response<ureq::Body>) -> Answer {
    let (parts, mut body) = response.into_parts();
    let headers = parts
        .headers
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect();
    let body = body.with_config().limit(u64::MAX).read_to_vec().expect("the whole body");
    Answer { status: parts.status.as_u16(), headers, body }
}

/// Everything that comes on a connection until its end, or until nothing does for a while.
pub fn read_all(mut stream: &TcpStream, patience: Duration) -> String {
    let _ = stream.set_read_timeout(Some(patience));
    let mut all = Vec::new();
    let mut part = [0; 4096];
    while let Ok(read @ 1..) = stream.read(&mut part) {
        all.extend_from_slice(&part[..read]);
    }
    String::from_utf8_lossy(&all).into_owned()
}
