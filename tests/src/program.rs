//! The programs as processes, and requests to them: `dpd serve`, and `dpd-indexer` and `dpd-api` on a database.

use rustix::process::Signal;
use serde_json::{Value, json};
use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

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

/// A running program, killed when dropped.
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

/// A server on the sample volume, for all tests that only ask. Nothing drops it: a shell ends it when the test process is
/// gone and with it the other end of the shell's input.
pub static SAMPLE: LazyLock<Server> = LazyLock::new(|| {
    let mut command = with_bare_environment(Command::new("sh"));
    command.args(["-c", KEEPER, "keeper"]).arg(binary("dpd"));
    // The uids in the golden answers are those of this storage path.
    command
        .args(["serve", "samples/volume", "--listen", "127.0.0.1:0"])
        .current_dir(crate::volume::sample().join("../.."));
    command.stdin(Stdio::piped());
    Server::with(command, true)
});

const KEEPER: &str = r#"
trap '' HUP INT TERM PIPE
"$@" </dev/null &
exec >&- 2>&-
read -r _
kill -KILL $!
"#;

/// The command without the environment's variables, which are not the test's.
pub fn with_bare_environment(mut command: Command) -> Command {
    command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin");
    command
}

/// The daemons of one volume in one database, as somebody configures them. Walks are an hour apart if nothing else is
/// said, so that what is found was told by events.
#[derive(Debug, Clone, Default)]
pub struct Daemons {
    variables: Vec<(String, OsString)>,
    /// Where they run; where the test does if nothing is said.
    folder: Option<Arc<Path>>,
}

impl Daemons {
    /// Those of a volume in the database of this URL.
    pub fn of(volume: &Path, database_url: &str) -> Daemons {
        Daemons::default()
            .with("PERSISTENT_STORAGE_PATH", volume)
            .with("DATABASE_URL", database_url)
            .with("DPD_INDEXER_LISTEN", "127.0.0.1:0")
            .with("DPD_API_LISTEN", "127.0.0.1:0")
            .with("DPD_RECONCILE_SECONDS", "3600")
            // No load balancer is to be told.
            .with("DPD_DRAIN_SECONDS", "0")
    }

    /// The same with another variable, or another value of one.
    #[must_use]
    pub fn with(&self, name: &str, value: impl AsRef<OsStr>) -> Daemons {
        let mut daemons = self.clone();
        daemons.variables.push((name.to_owned(), value.as_ref().to_owned()));
        daemons
    }

    /// The same in a folder, from which relative paths lead on.
    #[must_use]
    pub fn in_folder(mut self, folder: &Path) -> Daemons {
        self.folder = Some(folder.into());
        self
    }

    /// A command with these settings.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = with_bare_environment(Command::new(program));
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        command
    }

    /// A running `dpd-indexer`.
    pub fn indexer(&self) -> Server {
        Server::with(self.command(binary("dpd-indexer")), false)
    }

    /// A running `dpd-api`.
    pub fn api(&self) -> Server {
        Server::with(self.command(binary("dpd-api")), false)
    }

    /// One of each, once the walk that the indexer begins with has ended.
    pub fn pair(&self) -> (Server, Server) {
        let (indexer, api) = (self.indexer(), self.api());
        // The API may tell of an earlier indexer's walk before.
        crate::wait_for("the first walk", || indexer.log().contains("walked everything").then_some(()));
        let name = indexer.status()["name"].clone();
        api.wait_for_status("the end of the walk", |status| {
            let state = &status["indexing"]["coordination_state"];
            state["indexed_by"] == name && state["indexing_running"] == false
        });
        (indexer, api)
    }
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
            server.wait_for_index();
        }
        server
    }

    /// Waits until a walk has ended.
    pub fn wait_for_index(&self) {
        self.wait_for_status("a walk", |status| status["pv_interface_status"]["index_time_modified"].is_string());
    }

    /// Waits until `/status` is as wanted, and gives it.
    ///
    /// # Panics
    /// When it does not become so.
    pub fn wait_for_status(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let status = self.status();
            if wanted(&status) {
                return status;
            }
            assert!(begun.elapsed() < crate::PATIENCE, "waited in vain for {what}: {status:#}");
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }

    /// Waits until a `dpd-indexer` says that it is in this state, such as `holding the lease`.
    pub fn wait_for_state(&self, state: &str) -> Value {
        self.wait_for_status(state, |status| status["state"] == state)
    }

    /// What it wrote so far.
    ///
    /// # Panics
    /// Never, but for a defect in here.
    pub fn log(&self) -> String {
        self.log.lock().expect("the log").clone()
    }

    /// Waits until it has written this so many times. What it writes is read on a thread of its own, a moment later.
    ///
    /// # Panics
    /// When it does not, or has written it more often.
    pub fn wait_for_log(&self, text: &str, times: usize) {
        let count = || self.log().matches(text).count();
        crate::wait_for(&format!("{text:?} in the log"), || (count() >= times).then_some(()));
        assert_eq!(count(), times, "{text:?} in the log");
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

    /// `GET` with headers.
    ///
    /// # Panics
    /// When no answer comes.
    pub fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        let request = self.agent.get(format!("{}{path}", self.url));
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        answer(request.call().unwrap_or_else(|e| panic!("{path}: {e}")))
    }

    /// `HEAD`.
    ///
    /// # Panics
    /// When no answer comes.
    pub fn head(&self, path: &str) -> Answer {
        answer(self.agent.head(format!("{}{path}", self.url)).call().unwrap_or_else(|e| panic!("{path}: {e}")))
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

    /// Any request, with a bearer token or without.
    ///
    /// # Panics
    /// When no answer comes.
    pub fn ask(&self, method: &str, path: &str, token: Option<&str>, body: &[u8]) -> Answer {
        let bearer = token.map(|token| format!("Bearer {token}"));
        let headers: Vec<_> = bearer.iter().map(|bearer| ("authorization", bearer.as_str())).collect();
        self.ask_with(method, path, &headers, body)
    }

    /// Any request, with headers.
    ///
    /// # Panics
    /// When no answer comes.
    pub fn ask_with(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let request = ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.url));
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let answered = match method {
            "GET" | "HEAD" => self.agent.run(request.body(()).expect("a request")),
            _ => self.agent.run(request.body(body).expect("a request")),
        };
        answer(answered.unwrap_or_else(|error| panic!("{method} {path}: {error}")))
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
    pub fn signal(&self, signal: Signal) {
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

    /// Has it end in good order.
    ///
    /// # Panics
    /// When it does not.
    pub fn stop(mut self) {
        self.signal(Signal::TERM);
        let status = self.ended();
        assert!(status.success(), "{status}: {}", self.log());
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

    /// How much its threads have worked so far, in clock ticks (of 10 ms on most machines).
    ///
    /// # Panics
    /// When it is gone.
    pub fn cpu_ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).expect("its figures");
        // What stands behind the program's name, which may hold anything.
        let (_, figures) = stat.rsplit_once(')').expect("a name");
        figures.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("a number")).sum()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("{} wrote:\n{}", self.url, self.log.lock().map(|log| log.clone()).unwrap_or_default());
        }
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

pub(crate) fn answer(response: ureq::http::Response<ureq::Body>) -> Answer {
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

/// A connection from another address of this machine.
///
/// # Panics
/// When none can be made.
pub fn connect_from(address: [u8; 4], port: u16) -> TcpStream {
    use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    bind(&socket, &std::net::SocketAddr::from((address, 0))).expect("an address");
    connect(&socket, &std::net::SocketAddr::from(([127, 0, 0, 1], port))).expect("a connection");
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(crate::PATIENCE)).expect("a timeout");
    stream
}
