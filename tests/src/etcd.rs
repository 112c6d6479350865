//! The SDP configuration database for the tests: a real etcd of one's own, which can be killed, stopped and started again.
//!
//! It ends when its test process does, however that ends: a shell keeps it, and kills it when the pipe that brings its
//! orders is closed.

use etcd_client::{
    Certificate, Client, CompactionOptions, ConnectOptions, DeleteOptions, GetOptions, TlsOptions, Txn, TxnOp,
};
use rustix::process::{Pid, Signal};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// Keeps a server: `PROGRAM [ARGUMENT…]`. Its orders are `start` and `kill`, each answered by a line.
const KEEPER: &str = r#"
trap '' HUP INT TERM PIPE
server=
end() { [ -z "$server" ] || { kill -KILL "$server"; wait "$server"; server=; }; }
while read -r order; do
  case $order in
    start) "$@" >>log 2>&1 </dev/null & server=$!; echo "$server" ;;
    kill) end; echo killed ;;
  esac
done
end
"#;

/// How many operations a transaction may have.
const OPERATIONS: usize = 100;
/// How long a request may take before it is tried again.
const REQUEST: Duration = Duration::from_secs(5);

/// A server, ended and removed when dropped.
#[derive(Debug)]
pub struct Etcd {
    runtime: Runtime,
    port: u16,
    /// Whether it talks to those alone who know its certificate, and the password once that is asked for.
    secured: bool,
    password: Option<String>,
    server: Option<Pid>,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    shell: Child,
    folder: TempDir,
}

impl Etcd {
    /// One with nothing in it.
    pub fn start() -> Etcd {
        Etcd::with(false)
    }

    /// One that is talked to by TLS, with the certificate that [`Etcd::certificate`] names, and asks for this password of
    /// the user `root`.
    ///
    /// # Panics
    /// When it does not start.
    pub fn secured(password: &str) -> Etcd {
        let mut etcd = Etcd::with(true);
        etcd.ask(async |client| {
            let mut auth = client.auth_client();
            auth.user_add("root", password, None).await?;
            auth.user_grant_role("root", "root").await?;
            auth.auth_enable().await
        })
        .expect("a password");
        etcd.password = Some(password.to_owned());
        etcd
    }

    /// The file with the certificate of one that is secured.
    pub fn certificate(&self) -> PathBuf {
        self.folder.path().join("certificate.pem")
    }

    fn with(secured: bool) -> Etcd {
        let memory = Path::new("/dev/shm");
        let place = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let folder = TempDir::new_in(place).expect("a folder");
        // Held together, so that they are two.
        let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
        let [port, peer] = listeners.map(|listener| listener.local_addr().expect("its address").port());
        let clients = format!("{}://127.0.0.1:{port}", protocol(secured));
        let peers = format!("http://127.0.0.1:{peer}");
        let mut shell = Command::new("sh");
        shell.args(["-c", KEEPER, "etcd"]).arg(program()).current_dir(folder.path());
        for (name, value) in [
            ("data-dir", "data"),
            ("listen-client-urls", &clients),
            ("advertise-client-urls", &clients),
            ("listen-peer-urls", &peers),
            ("initial-advertise-peer-urls", &peers),
            ("initial-cluster", &format!("default={peers}")),
            ("max-request-bytes", "16000000"),
        ] {
            shell.arg(format!("--{name}={value}"));
        }
        if secured {
            let own = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
            std::fs::write(folder.path().join("certificate.pem"), own.cert.pem()).expect("written");
            std::fs::write(folder.path().join("key.pem"), own.signing_key.serialize_pem()).expect("written");
            shell.args(["--cert-file=certificate.pem", "--key-file=key.pem"]);
        }
        shell.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut shell = shell.spawn().expect("a shell");
        let runtime = Runtime::new().expect("a runtime");
        let answers = BufReader::new(shell.stdout.take().expect("stdout"));
        let orders = shell.stdin.take();
        let mut etcd = Etcd { runtime, port, secured, password: None, server: None, orders, answers, shell, folder };
        etcd.restart();
        etcd
    }

    /// Where it listens on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    fn order(&mut self, order: &str) -> String {
        writeln!(self.orders.as_ref().expect("stdin"), "{order}").expect("the keeper takes orders");
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("the keeper's answer");
        answer.trim().to_owned()
    }

    /// Ends it as a crash does.
    ///
    /// # Panics
    /// When its keeper is gone.
    pub fn kill(&mut self) {
        self.server = None;
        assert_eq!(self.order("kill"), "killed", "etcd's keeper is gone");
    }

    /// Starts it on the same port and data, and waits until it answers. Kills it first if it runs.
    pub fn restart(&mut self) {
        self.kill();
        self.server = self.order("start").parse().ok().and_then(Pid::from_raw);
        self.wait_for_answer();
    }

    /// The same without the data: another database at the same address.
    ///
    /// # Panics
    /// When the data cannot be removed.
    pub fn restart_empty(&mut self) {
        self.kill();
        std::fs::remove_dir_all(self.folder.path().join("data")).expect("removed");
        self.restart();
    }

    fn wait_for_answer(&self) {
        crate::wait_for("etcd to answer", || self.ask(async |mut client| client.get("/", None).await));
    }

    /// Makes it stand still: connections stay, and nothing is answered.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on after [`Etcd::pause`].
    pub fn resume(&self) {
        self.signal(Signal::CONT);
        self.wait_for_answer();
    }

    fn signal(&self, signal: Signal) {
        rustix::process::kill_process(self.server.expect("a running server"), signal).expect("a signal");
    }

    /// The answer to a request; nothing where none comes in time.
    fn ask<T>(&self, request: impl AsyncFnOnce(Client) -> Result<T, etcd_client::Error>) -> Option<T> {
        self.runtime.block_on(async {
            let asked = async {
                let mut options = ConnectOptions::new();
                if self.secured {
                    let pem = std::fs::read(self.certificate()).expect("the certificate");
                    options = options.with_tls(TlsOptions::new().ca_certificate(Certificate::from_pem(pem)));
                }
                if let Some(password) = &self.password {
                    options = options.with_user("root", password);
                }
                let endpoint = format!("{}://127.0.0.1:{}", protocol(self.secured), self.port);
                request(Client::connect([endpoint], Some(options)).await?).await
            };
            tokio::time::timeout(REQUEST, asked).await.ok()?.ok()
        })
    }

    /// Writes a value.
    ///
    /// # Panics
    /// When it is not taken.
    pub fn put(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        self.put_all([(key, value)]);
    }

    /// Writes many values, in transactions as large as may be. They must be of different keys.
    ///
    /// # Panics
    /// When they are not taken.
    pub fn put_all(&self, values: impl IntoIterator<Item = (impl AsRef<[u8]>, impl AsRef<[u8]>)>) {
        let operations = values.into_iter().map(|(key, value)| TxnOp::put(key.as_ref(), value.as_ref(), None));
        let operations: Vec<TxnOp> = operations.collect();
        self.ask(async |mut client| {
            for part in operations.chunks(OPERATIONS) {
                client.txn(Txn::new().and_then(part)).await?;
            }
            Ok(())
        })
        .expect("written");
    }

    /// Removes a key, or all that begin with it.
    ///
    /// # Panics
    /// When that is not done.
    pub fn delete(&self, key: &str, all: bool) {
        let options = all.then(|| DeleteOptions::new().with_prefix());
        self.ask(async |mut client| client.delete(key, options).await).expect("removed");
    }

    /// Forgets all history.
    ///
    /// # Panics
    /// When that is not done.
    pub fn compact(&self) {
        self.ask(async |mut client| {
            let now = client.get("/", None).await?.header().map_or(0, etcd_client::ResponseHeader::revision);
            client.compact(now, Some(CompactionOptions::new().with_physical())).await
        })
        .expect("compacted");
    }

    /// The flows of data products in it and their status, as everybody can read them.
    ///
    /// # Panics
    /// When they cannot be read.
    pub fn flows(&self) -> BTreeMap<String, Option<String>> {
        let all = self.ask(async |mut client| client.get("/flow/", Some(GetOptions::new().with_prefix())).await);
        let all: BTreeMap<String, Value> = all
            .expect("read")
            .kvs()
            .iter()
            .map(|kv| {
                let value = serde_json::from_slice(kv.value()).unwrap_or_default();
                (String::from_utf8_lossy(kv.key()).trim_start_matches("/flow/").to_owned(), value)
            })
            .collect();
        let is_flow = |name: &&String| name.contains(":data-product:") && !name.contains('/');
        let status = |name: &String| all.get(&format!("{name}/state"))?["status"].as_str().map(str::to_owned);
        all.keys().filter(is_flow).map(|name| (name.clone(), status(name))).collect()
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.orders = None;
        let _ = self.shell.wait();
    }
}

fn protocol(secured: bool) -> &'static str {
    if secured { "https" } else { "http" }
}

/// The key of a flow of data products.
pub fn key(block: &str, name: &str) -> String {
    format!("/flow/{block}:data-product:{name}")
}

/// The value of a flow that writes to a folder, as it is written by who mounts the volume elsewhere.
pub fn value(folder: &str) -> String {
    let dir =
        json!({"k8s_pvc_name": "shared", "pvc_mount_path": "/mnt/data", "pvc_subpath": format!("product/{folder}")});
    let sink = json!({"kind": "data-product", "data_dir": dir, "paths": ["output.ms"]});
    json!({"sink": sink, "sources": [], "data_model": "Visibility", "expiry_time": -1}).to_string()
}

/// The value of a flow's state.
pub fn state(status: &str) -> String {
    json!({"status": status, "last_updated": "2026-01-01T00:00:00Z"}).to_string()
}

/// Where the program is, from where `tests/prepare` looks for it.
fn program() -> PathBuf {
    let unpacked = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/etcd/usr/bin/etcd");
    let runs = |program: &PathBuf| Command::new(program).arg("--version").output().is_ok();
    ["etcd".into(), unpacked].into_iter().find(runs).expect("etcd is not installed: run `make test`")
}
